"""The page of the flows in a real Chromium: the picture that the API draws, with the live calls of a house in memory on it."""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import Browser, Page, expect

from app.api.backend import Refused
from app.installation import DEMO
from app.proving import read_flows
from app.publish.drawing import svg
from tests.contract.api_house import TOKENS, House, served
from tests.e2e.browser import built_desk, chromium, watched

pytestmark = pytest.mark.asyncio(loop_scope="module")
SHOTS = os.environ.get("CALLWRIGHT_TEST_SHOTS")
FLOW = "order-status"
OLD, NEW, NEWER = ("a" * 64, "b" * 64, "c" * 64)
EVIL = '<img src=x onerror="window.pwned=1">'


class Shelf:
    """Flows with versions; the pictures are those of the demo's flows."""

    def __init__(self) -> None:
        self.contexts = {context.program.flow: context for context in read_flows(DEMO)}
        self.hashes = {FLOW: [OLD, NEW]}
        self.drawn: list[tuple[str, int | None]] = []

    def flows(self) -> list[dict[str, Any]]:
        return [
            {
                "name": name,
                "title": context.program.title,
                "numbers": list(context.program.dnis),
                "active": len(kept),
                "versions": len(kept),
            }
            for name, context in sorted(self.contexts.items())
            for kept in (self.hashes.get(name, ["d" * 64]),)
        ]

    def tag(self, flow: str) -> str:
        return "1"

    def versions(self, flow: str) -> list[dict[str, Any]]:
        kept = self.hashes.get(flow, ["d" * 64])
        about = {"flow": flow, "published_at": 1.0, "by": "files", "guard": {}, "figures": {"abandons": 0, "failures": 0, "defaults": 0}}
        return [
            {**about, "number": n, "hash": hash_, "state": "active" if n == len(kept) else "retired"}
            for n, hash_ in reversed(list(enumerate(kept, 1)))
        ]

    async def picture(self, flow: str, number: int | None) -> tuple[str, str]:
        if flow not in self.contexts:
            raise Refused("unknown-flow", f"there is no flow {flow}")
        self.drawn.append((flow, number))
        return svg(self.contexts[flow]), self.hashes[flow][(number or 0) - 1]


class Hall(House):
    """A house with flows, whose calls stand at steps."""

    def __init__(self) -> None:
        super().__init__()
        self.flows = Shelf()
        self.variables: dict[str, Any] = {}

    def at(self, call: str, step: str, version: str = NEW, state: str = "flow", seconds: float = 0, **more: Any) -> None:
        entered = time.time() - seconds
        self.arrive(call, flow=FLOW, version=version, step=step, state=state, entered=entered, **more)

    def session(self, call: str) -> dict[str, Any] | None:
        found = self._calls.get(call)
        return found and {"call": call, "version": 0, "step": found["step"], "variables": self.variables}


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The pages as they are now."""
    return built_desk(tmp_path_factory.mktemp("desk"))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def page(browser: Browser) -> AsyncIterator[Page]:
    async with watched(browser, 1366, 768) as page:
        yield page


@pytest.fixture
def hall() -> Hall:
    return Hall()


@pytest_asyncio.fixture(loop_scope="module")
async def base(hall: Hall, dist: Path) -> AsyncIterator[str]:
    async with served(hall, dist=dist) as url:
        yield url


async def enter(page: Page, base: str, who: str = "supervisor") -> None:
    await page.goto(f"{base}/flows/")
    await page.get_by_label("Token").fill(TOKENS[who])
    await page.get_by_role("button", name="Look").click()


def box(page: Page, step: str) -> Any:
    return page.locator(f'[data-step="{step}"]')


async def shot(page: Page, name: str) -> None:
    """A picture, where somebody wants to look at them."""
    if SHOTS:
        await page.screenshot(path=Path(SHOTS) / f"flows-{name}.png")


async def test_live_calls_stand_on_the_boxes_of_their_steps_and_move(page: Page, base: str, hall: Hall) -> None:
    for n in range(12):
        hall.at(f"w{n}", "billing", state="waiting", seconds=65 + n)
    hall.at("asked", "ask_reference", seconds=4)
    hall.at("over", "ask_reference", state="wrap_up")
    await enter(page, base)
    await expect(box(page, "billing").locator(".badge")).to_have_text("12")
    await expect(box(page, "ask_reference").locator(".badge")).to_have_text("1")
    await expect(page.locator(".badge")).to_have_count(2)
    await expect(page.get_by_role("status")).to_have_text("13 live calls")
    await expect(page.get_by_role("list", name="Steps with calls").get_by_role("listitem")).to_contain_text(["billing", "ask_reference"])
    await shot(page, "1-live")
    hall.end("asked")
    hall.at("w0", "unknown")
    await expect(box(page, "billing").locator(".badge")).to_have_text("11")
    await expect(box(page, "unknown").locator(".badge")).to_have_text("1")
    await expect(box(page, "ask_reference").locator(".badge")).to_have_count(0)
    await expect(page.get_by_role("button", name="billing: 11 live calls")).to_be_visible()


async def test_a_step_lists_its_calls_and_a_call_shows_its_variables_and_what_happened(page: Page, base: str, hall: Hall) -> None:
    hall.variables = {"call": {"ani": "+4915112345678", "dnis": "1000"}, "ivr": {}, "vars": {"reference": "2722541", "note": EVIL}}
    hall.at("one", "ask_reference", seconds=75)
    hall.at("two", "ask_reference", seconds=5, ani="")
    await enter(page, base)
    await box(page, "ask_reference").click()
    rows = page.get_by_role("list", name="Calls at ask_reference").get_by_role("listitem")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("+49…678")
    await expect(rows.first).to_contain_text("in the flow")
    await expect(rows.first).to_contain_text("01:1")
    await expect(rows.last).to_contain_text("withheld")
    await shot(page, "2-step")
    await rows.first.get_by_role("button").click()
    variables = page.get_by_role("region", name="Variables")
    await expect(variables).to_contain_text("2722541")
    await expect(variables).to_contain_text(EVIL)
    assert "4915112345678" not in await page.inner_text("body")
    assert await page.evaluate("window.pwned") is None
    await shot(page, "3-call")
    hall.variables["vars"]["reference"] = "4424777"
    await expect(variables).to_contain_text("4424777")
    await page.get_by_role("button", name="Timeline").click()
    await expect(page.get_by_role("list", name="Timeline").get_by_role("listitem")).to_contain_text(["CallArrived", "Answer"])
    await shot(page, "4-timeline")
    hall.end("one")
    await expect(page.get_by_text("ended", exact=True)).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(rows).to_have_count(1)
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("list", name="Steps with calls")).to_be_visible()


async def test_calls_of_other_versions_are_beside_the_picture_and_on_their_own(page: Page, base: str, hall: Hall) -> None:
    hall.at("old", "billing", OLD, state="waiting")
    hall.at("new", "greet")
    await enter(page, base)
    await expect(box(page, "greet").locator(".badge")).to_have_text("1")
    await expect(box(page, "billing").locator(".badge")).to_have_count(0)
    beside = page.get_by_role("list", name="Other versions with calls")
    await expect(beside).to_contain_text("version 1, retired")
    await shot(page, "5-versions")
    await beside.get_by_role("button").click()
    await expect(box(page, "billing").locator(".badge")).to_have_text("1")
    await expect(beside).to_contain_text("version 2, active")
    assert hall.flows.drawn == [(FLOW, 2), (FLOW, 1)]
    await page.get_by_role("combobox", name="Version").select_option("")
    await expect(box(page, "greet").locator(".badge")).to_have_text("1")
    hall.flows.hashes[FLOW].append(NEWER)
    await expect(page.get_by_role("heading", name="Version 3: no live calls")).to_be_visible()
    await expect(beside.get_by_role("listitem")).to_have_count(2)


async def test_everything_in_the_picture_is_on_the_page_legible_and_apart(page: Page, base: str, hall: Hall) -> None:
    steps = list(hall.flows.contexts[FLOW].program.steps)
    for step in steps:
        for n in range(120 if step == "greet" else 1):
            hall.at(f"{step}-{n}", step)
    await enter(page, base)
    await expect(page.locator(".badge")).to_have_count(len(steps))
    await expect(box(page, "greet").locator(".badge")).to_have_text("120")
    crossed = await page.evaluate(
        """() => {
            const root = document.querySelector(".sheet").shadowRoot;
            const area = (e) => e.getBoundingClientRect();
            const apart = (a, b) => a.right <= b.left || b.right <= a.left || a.bottom <= b.top || b.bottom <= a.top;
            const words = [...root.querySelectorAll("text:not(.badge text)")];
            return [...root.querySelectorAll(".badge")].flatMap((badge) =>
                words.filter((word) => !apart(area(badge), area(word))).map((word) => word.textContent));
        }"""
    )
    assert crossed == []
    sizes = await page.evaluate(
        """() => [...document.querySelector(".sheet").shadowRoot.querySelectorAll("text.step")]
            .map((word) => word.getBoundingClientRect().height)"""
    )
    assert len(sizes) >= len(steps)
    assert min(sizes) > 11
    await shot(page, "6-all")
    await page.get_by_role("button", name="Fit width").click()
    sheet = page.locator(".sheet")
    assert await sheet.evaluate("e => e.scrollWidth <= e.clientWidth")
    await shot(page, "7-fit")
    await page.get_by_role("button", name="Larger").click()
    await page.get_by_role("list", name="Steps with calls").get_by_role("button").last.click()
    await expect(page.locator("g.chosen")).to_be_in_viewport()


async def test_the_page_is_for_staff_and_keeps_the_token_for_this_tab_alone(page: Page, base: str, hall: Hall) -> None:
    await page.goto(f"{base}/flows")
    assert page.url == f"{base}/flows/"
    await page.get_by_label("Token").fill("not-a-token-of-anybody")
    await page.get_by_role("button", name="Look").click()
    await expect(page.get_by_role("alert")).to_have_text("This token is not known here.")
    await enter(page, base, "anna")
    await expect(page.get_by_role("alert")).to_contain_text("for supervisors and administrators")
    await enter(page, base)
    await expect(box(page, "greet")).to_be_visible()
    await page.reload()
    await expect(box(page, "greet")).to_be_visible()
    other = await page.context.new_page()
    await other.goto(f"{base}/flows/")
    await expect(other.get_by_label("Token")).to_be_visible()
    await other.close()
    await page.get_by_role("button", name="Leave").click()
    await page.reload()
    await expect(page.get_by_label("Token")).to_be_visible()
    assert await page.evaluate("[sessionStorage.length, localStorage.length, document.cookie]") == [0, 0, ""]


async def test_a_centre_that_is_away_is_said_and_comes_back_by_itself(page: Page, base: str, hall: Hall) -> None:
    hall.at("one", "greet")
    await enter(page, base)
    await expect(box(page, "greet").locator(".badge")).to_have_text("1")
    await page.context.set_offline(True)
    await expect(page.get_by_role("alert")).to_contain_text("cannot be reached. What is shown is as of")
    hall.end("one")
    await page.context.set_offline(False)
    await expect(page.locator(".trouble")).to_be_hidden(timeout=8000)
    await expect(page.locator(".badge")).to_have_count(0)
