"""Callers and agents who do the unexpected at the worst moment, on a real Asterisk.

The queues of this file ring for two seconds, and races are as many as `CALLWRIGHT_TEST_RACES` says (each with its own, seeded offset).
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from tests.drawn import one_of
from tests.e2e.house import LATE, LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import register, until

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(300)]

AGENT, CALLER = 1300.0, 1900.0
RING = 2
RACES = int(os.environ.get("CALLWRIGHT_TEST_RACES", "8"))
TALKED = 0.3
"""Seconds after which a conversation is one."""


@pytest.fixture(scope="module", autouse=True)
def short_rings(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    folder = project(tmp_path_factory.mktemp("people"), ring=RING)
    with restarted(running_house, CALLWRIGHT_PROJECT=str(folder)):
        yield


def entries(house: LiveHouse, visit: Visit, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in house.timeline(visit.call) if entry["type"] == kind]


def at_once(*doings: tuple[float, Callable[[], None]]) -> None:
    """Do things at their moments, in seconds from now."""
    began = time.perf_counter()
    for moment, do in sorted(doings, key=lambda each: each[0]):
        while time.perf_counter() - began < moment:
            pass
        do()


def silent_seconds(visit: Visit, since: float, until_: float) -> float:
    """The longest silence that the caller heard between two monotonic times."""
    heard = visit.phone.rtp.audio(since, until_)
    frames = heard[: len(heard) // 160 * 160].reshape(-1, 160)
    loud = np.sqrt(np.mean(frames**2, axis=1)) > 30
    longest = run = 0
    for each in loud:
        run = 0 if each else run + 1
        longest = max(longest, run)
    return longest * 0.02


def done(house: LiveHouse, agent: str, visit: Visit) -> None:
    """The agent has written up the call and is free again."""
    until(lambda: house.agent(agent)["work"] == "wrap_up", 5, "wrap-up")
    house.tell(agent, "wrap-up-done", call=visit.call, disposition="done", remarks="")
    until(lambda: house.agent(agent)["work"] == "", 5, "the agent to be free")


def talked(house: LiveHouse, visit: Visit) -> None:
    """Wait until what the two have is a conversation."""
    connected = entries(house, visit, "Connected")[-1]["at"]
    until(lambda: time.time() > connected + TALKED, 3, "a conversation")


def one_end(house: LiveHouse, visit: Visit) -> str:
    """How the call ended: once."""
    outcome = str(house.over(visit.call)["outcome"])
    assert len(entries(house, visit, "CallEnded")) == 1
    return outcome


# ---- C1 -----------------------------------------------------------------------------------------------------------------------


def test_caller_who_leaves_silences_the_phone_that_rings_within_half_a_second(house: LiveHouse) -> None:
    took = []
    with house.agent_phone("105", ring=None) as phone:
        for n in range(3):
            with house.visit(LATE) as visit:
                until(lambda: len(phone.sipp.logged("invite")) > n, 5, "the phone to ring")  # noqa: B023
                visit.phone.wait_for("answered")
                until(lambda: entries(house, visit, "LegRinging"), 5)
                began = time.monotonic()
                visit.phone.hang_up()
                until(lambda: len(phone.sipp.logged("cancelled")) > n, 5, "CANCEL")  # noqa: B023
                took.append(time.monotonic() - began)
                assert one_end(house, visit) == "abandoned"
                assert house.ended(visit.call)["queue"] == "billing"  # type: ignore[index]
                agent = house.agent("105")
                assert (agent["presence"], agent["work"]) == ("ready", "")
    print("MEASURED hang-up to CANCEL at the phone:", [f"{1000 * each:.0f} ms" for each in took])
    assert max(took) < 0.5


def test_caller_who_leaves_at_the_moment_of_the_offer_rings_nobody_for_long(house: LiveHouse) -> None:
    with house.agent_phone("105", ring=None) as phone:
        for moment in (0.0, 0.01, 0.03):
            with house.visit(LATE) as visit:
                visit.phone.wait_for("answered")
                at_once((moment, visit.phone.hang_up))
                assert one_end(house, visit) in ("abandoned", "hung_up")
                agent = house.agent("105")
                assert (agent["presence"], agent["work"]) == ("ready", "")
        until(lambda: len(phone.sipp.logged("cancelled")) == len(phone.sipp.logged("invite")), 3, "every INVITE to be cancelled")


# ---- C2 -----------------------------------------------------------------------------------------------------------------------


def test_both_hang_up_in_the_same_moment(house: LiveHouse) -> None:
    chance = random.Random(2)
    with house.agent_phone("105", ring=0.01) as phone:
        for n in range(RACES):
            offset = chance.uniform(-0.005, 0.005)
            with house.visit(LATE) as visit:
                house.becomes(visit, "talking")
                visit.phone.wait_for("answered")
                until(lambda: len(phone.sipp.logged("answered")) > n, 5, "the agent's ACK")  # noqa: B023
                talked(house, visit)
                at_once((0.01, visit.phone.hang_up), (0.01 + offset, phone.hang_up))
                assert one_end(house, visit) == "answered"
                assert len(entries(house, visit, "TalkEnded")) == 1, f"offset {1000 * offset:.1f} ms"
                done(house, "105", visit)
                assert len(entries(house, visit, "WrapUpEnded")) == 1
                assert house.agent("105")["presence"] == "ready"


# ---- C3 -----------------------------------------------------------------------------------------------------------------------


def test_agent_answers_as_the_caller_hangs_up(house: LiveHouse) -> None:
    chance = random.Random(3)
    won = {"abandoned": 0, "answered": 0}
    for _ in range(max(RACES // 2, 1)):
        offset = chance.uniform(-0.025, 0.01)  # the answer takes longer to become known than the hang-up
        with house.agent_phone("105", ring=None) as phone, house.visit(LATE) as visit:
            phone.wait_for("invite")
            visit.phone.wait_for("answered")
            until(lambda: entries(house, visit, "LegRinging"), 5)
            at_once((0.03, visit.phone.hang_up), (0.03 + offset, phone.answer))
            outcome = one_end(house, visit)
            won[outcome] += 1
            assert len(entries(house, visit, "Connected")) == (outcome == "answered")
            if outcome == "answered":
                done(house, "105", visit)
            agent = house.agent("105")
            assert (agent["presence"], agent["work"]) == ("ready", ""), "no penalty for a caller who was gone"
    print(f"MEASURED winners {won}")


def test_agent_answers_as_the_ring_time_is_over(house: LiveHouse) -> None:
    chance = random.Random(4)
    won = {"talking": 0, "waiting": 0}
    for _ in range(max(RACES // 5, 1)):
        offset = chance.uniform(-0.025, 0.045)
        with house.agent_phone("105", ring=None) as phone, house.visit(LATE) as visit:
            phone.wait_for("invite")
            began = entries_at(house, visit, "LegRinging")
            at_once((began + RING + offset - time.time(), phone.answer))
            until(lambda: house.call(visit.call)["state"] != "offered", 8, "the offer to be decided")
            state = str(house.call(visit.call)["state"])
            won[state] += 1
            assert len(entries(house, visit, "Connected")) == (state == "talking")
            if state == "talking":
                phone.wait_for("answered")
                talked(house, visit)
                assert visit.phone.rtp.hears(AGENT)
                phone.hang_up()
                assert one_end(house, visit) == "answered"
                done(house, "105", visit)
            else:
                assert [e["reason"] for e in entries(house, visit, "OfferEnded")] == ["no_answer"]
                assert house.agent("105")["presence"] == "not_ready"
                visit.phone.hang_up()
                assert one_end(house, visit) == "abandoned"
    print(f"MEASURED winners {won}")


def entries_at(house: LiveHouse, visit: Visit, kind: str) -> float:
    """When the first of that kind happened, epoch seconds."""
    return float(until(lambda: entries(house, visit, kind), 5, kind)[0]["at"])  # type: ignore[index]


# ---- C4 -----------------------------------------------------------------------------------------------------------------------

READY, NOT_READY = "ready", "not_ready"
TROUBLES: dict[str, tuple[dict[str, Any], str, str]] = {
    "busy 486": ({"refuse": 486}, "busy", NOT_READY),
    "declines 603": ({"refuse": 603}, "rejected", READY),
    "not found 404": ({"refuse": 404}, "no_answer", NOT_READY),
    "unavailable 503": ({"refuse": 503}, "no_answer", NOT_READY),
    "moved 302": ({"refuse": 302}, "no_answer", NOT_READY),
    "does not answer": ({"ring": None}, "no_answer", NOT_READY),
    "gone without a word": ({"ring": None}, "unreachable", NOT_READY),
}


@pytest.mark.parametrize("trouble", one_of(TROUBLES))
def test_next_agent_gets_the_call_and_the_caller_keeps_place_and_music(house: LiveHouse, trouble: str) -> None:
    how, reason, presence = TROUBLES[trouble]
    with ExitStack() as stack:
        first = stack.enter_context(house.agent_phone("105", **how))
        if trouble == "gone without a word":
            first.sipp.stop()
        second = stack.enter_context(house.agent_phone("106", ready=False, ring=0.3))
        visit = stack.enter_context(house.visit(LATE))
        until(lambda: entries(house, visit, "Offered"), 5, "the offer")
        assert entries(house, visit, "Offered")[0]["agent"] == "105"
        place = house.call(visit.call)["queued"]
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.hears_anything(0.2), 3, "music")
        music = time.monotonic()
        house.tell("106", "ready")
        house.becomes(visit, "talking", 12)
        until(lambda: visit.phone.rtp.hears(AGENT), 3, "the second agent")
        talks = time.monotonic()
        assert second.heard_of("answered")
        assert [entry["agent"] for entry in entries(house, visit, "Offered")] == ["105", "106"]
        ended = entries(house, visit, "OfferEnded")
        assert [(e["agent"], e["reason"]) for e in ended] == [("105", reason)]
        assert house.call(visit.call)["queued"] == place, "first enqueue time is kept"
        assert house.agent("105")["presence"] == presence
        silence = silent_seconds(visit, music, talks)
        talked(house, visit)
        second.hang_up()
        assert one_end(house, visit) == "answered"
        offers = entries(house, visit, "Offered")
        print(f"MEASURED the first offer took {ended[0]['at'] - offers[0]['at']:.3f} s")
        print(f"MEASURED next offer {1000 * (offers[1]['at'] - ended[0]['at']):.0f} ms after the failure; longest silence {silence:.2f} s")
        assert silence < 0.5


def test_phone_that_has_signed_off_is_not_rung(house: LiveHouse) -> None:
    with house.agent_phone("105", ring=0.1) as first, house.agent_phone("106", ready=False, ring=0.1):
        port = first.sipp.port
        first.sipp.stop()
        register(house.installation.ports.sip, "105", house.secret("105"), port, expires=0)
        until(lambda: house.agent("105")["phone"] == "unreachable", 5, "the phone to be known as gone")
        house.tell("106", "ready")
        with house.visit(LATE) as visit:
            house.becomes(visit, "talking")
            assert [entry["agent"] for entry in entries(house, visit, "Offered")] == ["106"]
            visit.phone.hang_up()
            assert one_end(house, visit) == "answered"


def test_agent_who_answers_and_hangs_up_in_the_same_breath_has_not_served_the_caller(house: LiveHouse) -> None:
    with house.agent_phone("105", ring=0.3, talk=0.001), house.agent_phone("106", ready=False, ring=0.3) as second:
        with house.visit(LATE) as visit:
            until(lambda: entries(house, visit, "Offered"), 5, "the offer")
            place = house.call(visit.call)["queued"]
            until(lambda: entries(house, visit, "OfferEnded"), 5, "the agent to be gone")
            assert house.agent("105")["presence"] == "not_ready"
            assert not entries(house, visit, "TalkEnded")
            until(lambda: visit.phone.rtp.hears_anything(0.2), 3, "music again")
            house.tell("106", "ready")
            until(lambda: second.heard_of("answered"), 10, "the next agent to get the call")
            until(lambda: visit.phone.rtp.hears(AGENT), 3, "the second agent")
            assert house.call(visit.call)["queued"] == place
            talked(house, visit)
            second.hang_up()
            assert one_end(house, visit) == "answered"
