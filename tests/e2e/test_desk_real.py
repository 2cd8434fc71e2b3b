"""The desk on real calls: a person at a Chromium, a SIP phone beside it, real callers, and what happens when one of them dies."""

from __future__ import annotations

import os
import re
import secrets
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.e2e.browser import CHROMIUM, FLAGS, built_desk
from tests.e2e.house import PREMIUM, UNKNOWN, LiveHouse, Visit
from tests.phones import AgentPhone, until

pytestmark = pytest.mark.pbx
AGENT, CALLER = 1300.0, 1900.0
EVIL = "<img src=x onerror=window.pwned=1>"
SHOTS = os.environ.get("CALLWRIGHT_TEST_SHOTS")

WATCH = """
(() => {
    const now = () => (performance.timeOrigin + performance.now()) / 1000;
    const seen = (window.seen = []);
    let last = "";
    const look = () => {
        const panel = document.querySelector(".panel");
        const phase = panel ? panel.querySelector(".phase").className : "";
        if (phase === last) return;
        last = phase;
        if (panel === null) return;
        const entry = { phase, text: panel.innerText, inDocument: now(), painted: null };
        seen.push(entry);
        requestAnimationFrame(() => setTimeout(() => (entry.painted = now())));
    };
    new MutationObserver(look).observe(document, { subtree: true, childList: true, attributes: true });
})();
"""
"""Notes in the page when each state of a call stood in the document, with what could be read then, and when it had been painted."""


class Desk:
    """One agent's browser. Its page fails the test when a script of it breaks or something breaks the content security policy."""

    def __init__(self, playwright: Playwright, house: LiveHouse) -> None:
        self.house = house
        self._mark = f"--callwright-test={secrets.token_hex(8)}"
        self.wrong: list[str] = []
        self._browser: Browser = playwright.chromium.launch(executable_path=CHROMIUM, args=[*FLAGS, self._mark])
        self._context = self._browser.new_context(viewport={"width": 1280, "height": 800})
        self.page = self.tab()

    def tab(self) -> Page:
        """One more tab of the same browser."""
        page = self._context.new_page()
        page.set_default_timeout(10_000)
        page.add_init_script(WATCH)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("console", lambda message: self.wrong.append(message.text) if "Content Security Policy" in message.text else None)
        return page

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.house.installation.ports.api}/desk/"

    def sign_in(self, agent: str) -> None:
        """At the door, with the agent's PIN."""
        self.page.goto(self.address)
        self.shot("1-door")
        self.page.get_by_label("Agent").fill(agent)
        self.page.get_by_label("PIN").fill(self.house.installation.keep()["pins"][agent])
        self.page.get_by_role("button", name="Sign in").click()
        expect(self.page.get_by_text("Connected", exact=True)).to_be_visible()

    def ready(self) -> None:
        self.page.get_by_role("button", name="Ready", exact=True).click()
        self.shows("Ready for a call")

    def shows(self, heading: str, within: float = 15.0) -> None:
        expect(self.page.get_by_role("heading", name=heading, exact=True)).to_be_visible(timeout=within * 1000)

    def seen(self, phase: str) -> dict[str, Any]:
        """What was noted when the page came to a state of a call."""
        return next(dict(entry) for entry in self.page.evaluate("window.seen") if entry["phase"] == f"phase {phase}")

    def shot(self, name: str) -> None:
        """A picture, where somebody wants to look at them."""
        if SHOTS:
            Path(SHOTS).mkdir(exist_ok=True)
            self.page.screenshot(path=Path(SHOTS) / f"{name}.png")

    def kill(self) -> None:
        """The browser dies, as in a power cut."""
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if self._mark.encode() in (folder / "cmdline").read_bytes():
                    os.kill(int(folder.name), signal.SIGKILL)
            except OSError:
                continue
        until(lambda: not self._browser.is_connected() or self.page.is_closed() or self._died(), 10, "the browser to be gone")

    def _died(self) -> bool:
        try:
            self.page.evaluate("1")
        except Exception:
            return True
        return False

    def close(self) -> None:
        self._browser.close()
        assert self.wrong == []


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built_desk(tmp_path_factory.mktemp("desk"))


@pytest.fixture
def playwright(built: Path) -> Iterator[Playwright]:
    with sync_playwright() as running:
        yield running


@pytest.fixture
def desk(playwright: Playwright, house: LiveHouse) -> Iterator[Desk]:
    desk = Desk(playwright, house)
    yield desk
    desk.close()


@contextmanager
def phone_of(house: LiveHouse, agent: str, **how: Any) -> Iterator[AgentPhone]:
    """The agent's registered phone; who signs in, and where, is the test's business."""
    with AgentPhone(house.installation.ports.sip, agent, house.secret(agent), **how) as phone:
        until(lambda: house.agent(agent)["phone"] == "reachable", 10, f"phone {agent} to be reachable")
        try:
            yield phone
        finally:
            house.sign_out(agent)


def invited(phone: AgentPhone) -> float:
    """When the phone got its INVITE, epoch seconds: SIPp writes its log as it happens, and nothing since (the phone only rings)."""
    phone.wait_for("invite", 20)
    assert len(phone.sipp.log) == 1
    return (phone.sipp.folder / "log").stat().st_mtime


def hears(visit: Visit, frequency: float, within: float = 5.0) -> None:
    until(lambda: visit.phone.rtp.hears(frequency), within, f"to hear {frequency} Hz")


def places(house: LiveHouse, call: str, *types: str) -> list[int]:
    """Where in the call's timeline these first happen."""
    names = [entry["type"] for entry in house.timeline(call)]
    return [names.index(name) for name in types]


def test_agent_works_through_a_real_call_and_sees_the_record_before_the_phone_rings(house: LiveHouse, desk: Desk) -> None:
    page = desk.page
    with phone_of(house, "101", ring=None) as phone:
        desk.sign_in("101")
        desk.shows("Not ready")
        assert house.agent("101")["presence"] == "not_ready"
        desk.ready()
        desk.shot("2-ready")
        with house.visit(PREMIUM) as visit:
            at = invited(phone)
            offered = desk.seen("offered")
            for text in (
                "Anna Schmidt",
                "Gold",
                "+4930555000101",
                "Premium customers",
                "ASC2K41",
                "English 5",
                "Printers 3",
                "Premium Gold",
            ):
                assert text in offered["text"].replace("\n", " "), text
            margin = {"in the document": at - offered["inDocument"], "painted": at - offered["painted"]}
            print("INVITE came after the offer was, ms:", {name: round(seconds * 1000, 1) for name, seconds in margin.items()})
            assert margin["painted"] > 0
            popped, acknowledged, rung = places(house, visit.call, "Pop", "DeskAcknowledged", "RingAgent")
            assert popped < acknowledged < rung

            the_record_is_the_ivrs(house, desk, visit)
            desk.shows("Your phone is ringing")
            assert house.agent("101")["hand"]["ringing"] is True
            desk.shot("3-ringing")
            phone.answer()
            desk.shows("Talking")
            expect(page.get_by_role("timer")).to_have_text("00:02")
            desk.shot("4-talking")
            hears(visit, AGENT)
            expect(page.frame_locator("iframe").get_by_role("heading", name="Anna Schmidt")).to_be_visible()

            page.get_by_role("button", name="Hang up").click()
            phone.wait_for("released")
            desk.shows("Wrap-up")
            page.get_by_label("Follow up").check()
            page.get_by_label("Remarks").fill("Calls back on Monday. <b>Bold</b> wishes.")
            desk.shot("5-wrap-up")
            page.get_by_role("button", name="Done").click()
            desk.shows("Ready for a call")
            visit.phone.wait_for("released")
            row = house.over(visit.call)
            assert (row["outcome"], row["agent"]) == ("answered", "101")
        entries = house.timeline(visit.call)
        (done,) = [entry for entry in entries if entry["type"] == "WrapUpEnded"]
        assert (done["disposition"], done["remarks"]) == ("follow_up", "Calls back on Monday. <b>Bold</b> wishes.")
        entered = next(entry for entry in entries if entry["type"] == "StepEntered")
        assert (entered["kind"], entered["does"]) == ("fact", "lookup")
        assert house.call(visit.call)["state"] == "ended"
        page.get_by_role("button", name="Not ready").click()
        page.get_by_role("button", name="Sign out").click()
        desk.shows("Sign in to your desk")
        until(lambda: house.agent("101")["presence"] == "signed_out", 5)


def the_record_is_the_ivrs(house: LiveHouse, desk: Desk, visit: Visit) -> None:
    """In the frame is the CRM's own page, of the very record that the flow has found; no page but the desk's may frame it."""
    found = next(entry for entry in house.timeline(visit.call) if entry["type"] == "ActionSucceeded")["values"]
    frame = desk.page.frame_locator("iframe")
    expect(frame.get_by_role("heading", name="Anna Schmidt")).to_be_visible()
    assert frame.locator("main").get_attribute("data-contact") == found["id"] == house.call(visit.call)["contact"]
    answer = desk.page.request.get(desk.page.locator("iframe").get_attribute("src") or "")
    policy = re.search(r"frame-ancestors (.*)", answer.headers["content-security-policy"])
    port = house.installation.ports.api
    assert policy is not None
    assert policy[1] == f"http://127.0.0.1:{port} http://localhost:{port}"


def test_name_that_a_caller_claims_stays_text(house: LiveHouse, desk: Desk) -> None:
    with phone_of(house, "103", ring=None) as phone:
        desk.sign_in("103")
        desk.ready()
        with house.visit(UNKNOWN, name=EVIL) as visit:
            house.reaches(visit, "ask_reference")
            visit.phone.wait_for("answered")
            until(lambda: visit.phone.rtp.to, 5)
            visit.phone.rtp.press("1111111#")
            phone.wait_for("invite", 30)
            desk.shows("Unknown caller")
            expect(desk.page.get_by_text(EVIL)).to_be_visible()
            expect(desk.page.get_by_text("No customer record")).to_be_visible()
            assert desk.page.locator("img").count() == 0
            assert desk.page.evaluate("window.pwned") is None
            desk.shot("6-unknown")
            desk.page.get_by_role("button", name="Reject").click()
            phone.wait_for("cancelled")
            desk.shows("Ready for a call")
            visit.phone.hang_up()
            assert house.over(visit.call)["outcome"] == "abandoned"


def test_browser_that_dies_while_the_phone_rings_costs_the_offer_and_not_the_call(house: LiveHouse, desk: Desk) -> None:
    with phone_of(house, "101", ring=None) as phone, phone_of(house, "102", ring=0.2) as other:
        desk.sign_in("101")
        desk.ready()
        with house.visit(PREMIUM) as visit:
            desk.shows("Your phone is ringing", 20)
            began = time.monotonic()
            desk.kill()
            phone.wait_for("cancelled", 15)
            assert time.monotonic() - began > 9, "the desk has a grace time to come back in"
            house.becomes(visit, "waiting")
            (ended,) = [entry for entry in house.timeline(visit.call) if entry["type"] == "OfferEnded"]
            assert ended["reason"] == "desk_lost"
            agent = house.agent("101")
            assert (agent["presence"], agent["reason"], agent["hand"]) == ("not_ready", "desk_lost", None)
            until(lambda: visit.phone.rtp.hears_anything(), 5, "the caller to hear music")
            house.tell("102", "sign-in")
            house.tell("102", "ready")
            other.wait_for("answered", 10)
            hears(visit, AGENT)
            visit.phone.hang_up()
            assert house.over(visit.call)["agent"] == "102"


def test_call_goes_on_over_a_reload_a_second_tab_a_dead_browser_and_a_dead_application(
    house: LiveHouse, desk: Desk, playwright: Playwright
) -> None:
    with phone_of(house, "101", ring=0.2) as phone:
        desk.sign_in("101")
        desk.ready()
        with house.visit(PREMIUM) as visit:
            desk.shows("Talking", 20)
            expect(desk.page.get_by_role("timer")).to_have_text("00:03")
            desk.page.reload()
            in_hand(desk)
            assert timer(desk) >= 3

            second = desk.tab()
            second.goto(desk.address)
            expect(second.get_by_role("heading", name="Talking")).to_be_visible()
            second.close()
            in_hand(desk)

            house.kill()
            expect(desk.page.get_by_role("alert").filter(has_text="The connection is lost")).to_be_visible()
            expect(desk.page.get_by_role("button", name="Hang up")).to_be_disabled()
            desk.shot("7-lost")
            before = timer(desk)
            hears(visit, AGENT)
            house.start()
            expect(desk.page.get_by_text("The connection is lost")).to_have_count(0, timeout=15_000)
            in_hand(desk)
            assert timer(desk) >= before

            desk.kill()
            until(lambda: house.agent("101")["pending"] == "not_ready", 15, "the desk to be given up")
            assert house.call(visit.call)["state"] == "talking"
            assert phone.heard_of("released") == []
            hears(visit, AGENT)

            again = Desk(playwright, house)
            again.sign_in("101")
            in_hand(again)
            expect(again.page.get_by_text("Not ready after this call")).to_be_visible()
            again.page.get_by_role("button", name="Stay ready").click()
            expect(again.page.get_by_role("button", name="Not ready")).to_be_visible()
            again.page.get_by_role("button", name="Hang up").click()
            again.shows("Wrap-up")
            again.page.get_by_label("Solved").check()
            again.page.get_by_role("button", name="Done").click()
            again.shows("Ready for a call")
            assert house.over(visit.call)["outcome"] == "answered"
            again.close()


def in_hand(desk: Desk) -> None:
    """The page shows the call, whole."""
    desk.shows("Talking")
    desk.shows("Anna Schmidt")
    expect(desk.page.frame_locator("iframe").get_by_role("heading", name="Anna Schmidt")).to_be_visible()


def timer(desk: Desk) -> int:
    """Seconds of talk, as the page says."""
    minutes, seconds = desk.page.get_by_role("timer").inner_text().split(":")
    return int(minutes) * 60 + int(seconds)
