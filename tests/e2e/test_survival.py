"""`kill -9` at each step of the flow, with a real call up: nobody is cut off, and the call goes on where it was.

What is marked `faults` is also among the drawn cases of `tests/faults`, in other words.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from tests.drawn import one_of
from tests.e2e.house import MAILED, PREMIUM, UNKNOWN, LiveHouse, Visit
from tests.phones import until

pytestmark = pytest.mark.pbx
REGAINED = float(os.environ.get("CALLWRIGHT_TEST_REGAINED", "8"))


def hears(visit: Visit, frequency: float, within: float = 5.0) -> None:
    until(lambda: visit.phone.rtp.hears(frequency), within, f"to hear {frequency} Hz")


def crash(house: LiveHouse) -> None:
    """The process dies and the next one is started."""
    house.kill()
    house.start()


@pytest.mark.faults
def test_kill_while_playing_goes_on_with_the_next_step(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.3, talk=1.0), house.visit(PREMIUM) as visit:
        house.reaches(visit, "greet")
        crash(house)
        visit.phone.wait_for("released", 40)
        assert house.over(visit.call)["outcome"] == "answered"
        assert house.steps(visit.call).count("greet") == 1


def test_kill_while_collecting_keeps_the_keys_and_the_tries(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.3, talk=1.0), house.visit(UNKNOWN) as visit:
        house.reaches(visit, "ask_reference")
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.hears_anything(), 5)
        visit.phone.rtp.press("272")
        until(lambda: keys(house, visit) == 3, 5, "three keys")
        crash(house)
        visit.phone.rtp.press("2541")
        house.reaches(visit, "premium_announcement")
        visit.phone.wait_for("released", 40)
        assert house.over(visit.call)["outcome"] == "answered"


def keys(house: LiveHouse, visit: Visit) -> int:
    return sum(entry["type"] == "DigitPressed" for entry in house.timeline(visit.call))


@pytest.mark.faults
def test_kill_during_a_lookup_asks_again(house: LiveHouse) -> None:
    house.crm_fault("slow", 1.5)
    try:
        with house.visit(UNKNOWN) as visit:
            house.reaches(visit, "recognise")
            crash(house)
            house.crm_fault("off")
            house.reaches(visit, "ask_reference", 10)
            visit.phone.hang_up()
            house.over(visit.call)
    finally:
        house.crm_fault("off")


def test_kill_while_waiting_keeps_the_order(house: LiveHouse) -> None:
    with house.agent_phone("101", ready=False, ring=0.2, talk=0.5) as phone:
        house.tell("101", "ready")
        house.tell("101", "not-ready", reason="break")
        with house.visit(PREMIUM) as first, house.visit(PREMIUM) as second:
            house.becomes(first, "waiting")
            house.becomes(second, "waiting")
            order = [row["call"] for row in queue(house, "premium")]
            hold = [row["since"] for row in queue(house, "premium")]
            crash(house)
            assert [row["call"] for row in queue(house, "premium")] == order
            assert [row["since"] for row in queue(house, "premium")] == hold
            until(lambda: first.phone.rtp.hears_anything(), 5, "music to go on")
            house.tell("101", "ready")
            house.becomes(first if order[0] == first.call else second, "talking")
            assert phone.heard_of("invite")
            for visit in (first, second):
                visit.phone.hang_up()
                house.over(visit.call)


def queue(house: LiveHouse, name: str) -> list[dict[str, object]]:
    return next(row["calls"] for row in house.api("/v1/queues")["queues"] if row["name"] == name)


def ringing(house: LiveHouse, visit: Visit, answer: Callable[[], None]) -> None:
    house.becomes(visit, "offered")
    until(lambda: any(e["type"] == "LegRinging" for e in house.timeline(visit.call)), 5, "the phone to ring")
    answer()


def test_kill_while_the_agent_rings_and_the_agent_answers_meanwhile(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=None, talk=None) as phone, house.visit(PREMIUM) as visit:
        house.becomes(visit, "offered")
        phone.wait_for("invite")
        house.kill()
        phone.answer()
        phone.wait_for("answered")
        hears(visit, 1300.0)
        until(lambda: phone.rtp.hears(1900.0), 5, "the agent to hear the caller while nobody is in control")
        house.start()
        house.becomes(visit, "talking", 5)
        hears(visit, 1300.0)
        visit.phone.hang_up()
        assert house.over(visit.call)["outcome"] == "answered"
        phone.wait_for("released")


def test_kill_while_the_agent_rings_goes_on_ringing(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=None) as phone, house.visit(PREMIUM) as visit:
        house.becomes(visit, "offered")
        phone.wait_for("invite")
        crash(house)
        phone.answer()
        house.becomes(visit, "talking", 5)
        visit.phone.hang_up()
        house.over(visit.call)


@pytest.mark.faults
def test_kill_while_talking_cuts_nobody_off(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.2) as phone, house.visit(PREMIUM) as visit:
        house.becomes(visit, "talking", 30)
        hears(visit, 1300.0)
        house.kill()
        began = time.monotonic()
        hears(visit, 1300.0)
        house.start()
        assert visit.phone.heard_of("released") == []
        assert house.call(visit.call)["state"] == "talking"
        assert time.monotonic() - began < 30
        phone.hang_up()
        visit.phone.wait_for("released", 10)
        assert house.over(visit.call)["outcome"] == "answered"


@pytest.mark.parametrize("who", one_of(["caller", "agent"]))
def test_kill_while_talking_and_somebody_hangs_up_meanwhile(house: LiveHouse, who: str) -> None:
    with house.agent_phone("101", ring=0.2) as phone, house.visit(PREMIUM) as visit:
        house.becomes(visit, "talking", 30)
        house.kill()
        (visit.phone if who == "caller" else phone).hang_up()
        (visit.phone if who == "caller" else phone).wait_for("hungup")
        house.start()
        assert house.over(visit.call)["outcome"] == "answered"
        until(lambda: house.agent("101")["work"] == "wrap_up", 5, "wrap-up")


@pytest.mark.faults
def test_kill_in_wrap_up_keeps_the_wrap_up(house: LiveHouse) -> None:
    with house.agent_phone("101", ring=0.2, talk=0.5), house.visit(PREMIUM) as visit:
        house.over(visit.call, 40)
        until(lambda: house.agent("101")["work"] == "wrap_up", 5, "wrap-up")
        crash(house)
        assert house.agent("101")["work"] == "wrap_up"
        house.tell("101", "wrap-up-done", call=visit.call, disposition="solved", remarks="after a crash")
        until(lambda: house.agent("101")["work"] == "", 5, "the wrap-up to end")


def test_caller_leaves_while_nobody_is_there(house: LiveHouse) -> None:
    with house.visit(MAILED) as visit:
        house.reaches(visit, "greet")
        visit.phone.wait_for("answered")
        house.kill()
        visit.phone.hang_up()
        visit.phone.wait_for("hungup")
        house.start()
        assert house.over(visit.call)["outcome"] == "hung_up"
