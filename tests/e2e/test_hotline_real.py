"""The order status hotline, phoned: every ordinary ending on a real Asterisk, and what the caller hears at each."""

from __future__ import annotations

import re
import urllib.request

import pytest

from tests.drawn import faults_only, one_of
from tests.e2e.hearing import has_heard
from tests.e2e.house import LATE, MAILED, NO_MAIL, NO_ORDER, PREMIUM, SHARED, UNKNOWN, LiveHouse, Visit
from tests.phones import until

pytestmark = pytest.mark.pbx
LIKE = 0.7
SAID_OR_WAITED = ("greet", "ask_reference", "premium_announcement", "waiting")
GERMAN = "+4930555000206"
"""Max Neumann, whose record says that he speaks German."""


def heard(house: LiveHouse, visit: Visit, text: str, within: float = 10.0, language: str = "en") -> None:
    """The caller has heard this text, by correlation with its recording."""
    sounds = house.installation.pbx(house.say.append).sounds_dir
    until(lambda: has_heard(visit.phone.rtp, text, sounds, language) > LIKE, within, f"to hear {text!r}")


def spoken(house: LiveHouse, call: str) -> list[str]:
    """Every text that was played, in order."""
    played = [item for entry in house.timeline(call) if entry["type"] == "Play" for item in entry["media"]]
    return [item.removeprefix("text:") for item in played]


def test_known_premium_caller_hears_the_name_and_talks_to_the_able_agent(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.3) as agent, house.visit(PREMIUM) as visit:
        heard(house, visit, "Welcome to the order status hotline. Hello Anna Schmidt.")
        heard(house, visit, "Thank you for calling. You will be connected to an agent who knows your case.")
        house.talks_for(visit, 0.3)
        until(lambda: visit.phone.rtp.hears(1300.0), 5, "the agent")
        until(lambda: agent.rtp.hears(1900.0), 5, "the caller")
        row = house.call(visit.call)
        assert (row["queue"], row["skills"]) == ("premium", {"lang.en": 5, "product.printers": 3})
        assert row["reference"] == "ASC2K41"
        agent.hang_up()
        visit.phone.wait_for("released")
        assert house.over(visit.call)["outcome"] == "answered"


def test_unknown_caller_enters_the_reference_by_keypad(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.2, talk=0.5), house.visit(UNKNOWN) as visit:
        heard(house, visit, "Please enter your seven character customer reference.")
        visit.phone.rtp.press("4424777#")
        house.becomes(visit, "talking")
        assert house.steps(visit.call)[:4] == ["recognise", "ask_reference", "look_up_reference", "late_by_reference"]
        assert house.over(visit.call)["outcome"] == "answered"


def test_a_stranger_chooses_the_language_before_giving_the_reference(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.2, talk=0.5), house.visit(UNKNOWN) as visit:
        heard(house, visit, "Für Deutsch drücken Sie die Sterntaste.", 20, "de")
        visit.phone.rtp.press("*")
        heard(house, visit, "Für Deutsch drücken Sie die Zwei.", 10, "de")
        visit.phone.rtp.press("2")
        heard(house, visit, "Bitte geben Sie Ihre siebenstellige Kundennummer ein.", 10, "de")
        visit.phone.rtp.press("4424777#")
        heard(house, visit, "Vielen Dank für Ihren Anruf. Wir verbinden Sie mit jemandem, der Ihren Fall kennt.", 15, "de")
        assert house.over(visit.call, 30)["outcome"] == "answered"
        asked = ["ask_reference", "which_language", "german", "ask_reference", "look_up_reference"]
        assert house.steps(visit.call)[1:6] == asked


def test_reference_that_nobody_has_goes_to_the_back_of_the_general_queue(house: LiveHouse) -> None:
    with house.agent_phone("103", ring=0.2, talk=0.5), house.visit(SHARED) as visit:
        house.reaches(visit, "ask_reference")
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.to, 5)
        visit.phone.rtp.press("1111111#")
        heard(house, visit, "We could not find this reference. You will be connected to the next free agent.")
        assert house.over(visit.call)["outcome"] == "answered"
        queued = next(entry for entry in house.timeline(visit.call) if entry["type"] == "Queued")
        assert (queued["queue"], queued["credit"]) == ("general", -3600.0)


def test_silence_is_told_from_a_wrong_entry(house: LiveHouse) -> None:
    with house.visit("anonymous") as visit:
        heard(house, visit, "Please enter your seven character customer reference.", 10)
        heard(house, visit, "We have not received anything. Please enter your seven character customer reference.", 40)
        visit.phone.rtp.press("12#")
        heard(house, visit, "This is not a complete reference. Please enter all seven characters of it.", 20)
        assert not [entry for entry in house.timeline(visit.call) if entry["type"] == "StartAction"], "an anonymous caller is not looked up"
        visit.phone.hang_up()
        assert house.over(visit.call)["outcome"] == "hung_up"


def test_not_premium_gets_one_mail_with_one_working_link(house: LiveHouse) -> None:
    before = len(house.mails())
    with house.visit(MAILED) as visit:
        heard(house, visit, "You can follow your order online at any time, on a page of its own.", 15)
        heard(house, visit, "We have sent you an e-mail with the link to this page. Thank you for calling. Goodbye.", 20)
        visit.phone.wait_for("released", 15)
        assert house.over(visit.call)["outcome"] == "self_service"
    mails = house.mails()
    assert len(mails) == before + 1
    assert mails[0]["to"] == "ben.carter@example.com"
    links = re.findall(r"http://\S+", mails[0]["body"])
    assert len(links) == 1
    with urllib.request.urlopen(links[0], timeout=5) as page:
        assert b"shipped" in page.read().lower()


def test_who_speaks_german_says_the_record_is_spoken_and_written_to_in_german(house: LiveHouse) -> None:
    before = len(house.mails())
    with house.visit(GERMAN) as visit:
        heard(house, visit, "Willkommen bei der Bestellauskunft. Guten Tag Max Neumann.", 15, "de")
        heard(house, visit, "Sie können Ihre Bestellung jederzeit im Internet verfolgen, auf einer eigenen Seite.", 20, "de")
        assert house.over(visit.call, 40)["outcome"] == "self_service"
        assert house.steps(visit.call)[:4] == ["recognise", "late_or_greet", "speak_before_greeting", "greet"]
    mails = house.mails()
    assert len(mails) == before + 1
    assert mails[0]["subject"] == "Ihre Bestellung 104590"


@pytest.mark.parametrize("number", one_of([NO_MAIL, NO_ORDER]))
def test_without_mail_or_order_an_agent_is_offered(house: LiveHouse, number: str) -> None:
    before = len(house.mails())
    with house.agent_phone("103", ring=0.2, talk=0.5), house.visit(number) as visit:
        heard(
            house,
            visit,
            "We cannot send you the status of an order by e-mail. To speak to an agent, press 1. To end the call, press 2.",
            20,
        )
        visit.phone.rtp.press("1")
        assert house.over(visit.call, 30)["outcome"] == "answered"
    assert len(house.mails()) == before
    assert not [text for text in spoken(house, visit.call) if "have sent you" in text]


def test_late_payer_reaches_billing_without_a_single_prompt(house: LiveHouse) -> None:
    with house.agent_phone("105", ring=0.2, talk=0.5), house.visit(LATE) as visit:
        house.becomes(visit, "talking")
        assert spoken(house, visit.call) == []
        assert house.over(visit.call)["outcome"] == "answered"
        assert house.ended(visit.call)["queue"] == "billing"  # type: ignore[index]


def test_nobody_signed_in_is_said_and_the_fallback_takes_the_caller(house: LiveHouse) -> None:
    with house.visit(LATE) as visit:
        heard(house, visit, "We are sorry. No agent can take your call at the moment. We are passing you on.")
        assert house.over(visit.call)["outcome"] == "released"
        until(lambda: visit.phone.rtp.hears_anything(), 10, "the fallback")
        assert visit.phone.heard_of("released") == []


@pytest.mark.parametrize("mode", ["slow", *faults_only("down", "html")])
def test_crm_in_trouble_costs_no_more_than_the_budget_and_is_not_silent(house: LiveHouse, mode: str) -> None:
    house.crm_fault(mode, 6.0 if mode == "slow" else 0.0)
    try:
        with house.agent_phone("103", ring=0.2, talk=0.5), house.visit(PREMIUM) as visit:
            assert house.over(visit.call, 40)["outcome"] == "answered"
            entries = house.timeline(visit.call)
            asked = next(entry["at"] for entry in entries if entry["type"] == "StartAction")
            left = next(entry for entry in entries if entry["type"] == "StepLeft" and entry["step"] == "recognise")
            assert left["exit"] == "failed"
            longest_phrase = 4.0
            assert left["at"] - asked < 2.5 + longest_phrase
    finally:
        house.crm_fault("off")


@pytest.mark.parametrize("step", ["ringing", "offered", "talking", *faults_only(*SAID_OR_WAITED)])
def test_caller_hangs_up_at_every_step(house: LiveHouse, step: str) -> None:
    known = step not in ("ask_reference",)
    ready = step not in ("waiting",)
    if step == "ringing":
        house.crm_fault("slow", 1.0)
    try:
        with house.agent_phone("101", ready=True, ring=None if step == "offered" else 0.2) as agent:
            if not ready:
                house.tell("101", "not-ready", reason="test")
            cancel = 0.3 if step == "ringing" else None
            with house.visit(PREMIUM if known else UNKNOWN, cancel_after=cancel) as visit:
                if step in ("waiting", "offered", "talking"):
                    house.becomes(visit, step)
                elif step != "ringing":
                    house.reaches(visit, step)
                    visit.phone.wait_for("answered")
                if step == "offered":
                    agent.wait_for("invite")
                if step != "ringing":
                    visit.phone.hang_up()
                    visit.phone.wait_for("hungup")
                row = house.over(visit.call)
                expected = {"waiting": "abandoned", "offered": "abandoned", "talking": "answered"}.get(step, "hung_up")
                assert row["outcome"] == expected
                if step == "offered":
                    agent.wait_for("cancelled", 2)
                    assert house.agent("101")["presence"] == "ready", "a caller who leaves is no fault of the agent's"
    finally:
        house.crm_fault("off")
