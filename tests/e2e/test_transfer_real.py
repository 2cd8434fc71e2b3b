"""Callers are put through to a number outside, over a trunk that an operator has set up, or to an agent, and get a text, on real calls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from app.installation import fetch
from tests.drawn import one_of
from tests.e2e.carrier import allow, far_phone, set_up
from tests.e2e.house import LiveHouse
from tests.e2e.variant import project, restarted
from tests.phones import free_port, until

pytestmark = pytest.mark.pbx
AGENT_TONE, CALLER_TONE = 1300.0, 1900.0
FLOW = """
flow: outside
dnis: ["1110"]
start: out
on_error: away
prompts:
  back: [You are back.]
  busy: [The line is busy.]
  nobody: [Nobody answers.]
  no: [We cannot put you through.]
  sent: [A text message is on its way.]
steps:
  out: {do: transfer, to: "+49 30 5550777", ring: RING, exits: {talked: back, busy: busy, no_answer: nobody, failed: no}}
  back: {do: say, prompt: back, exits: {done: text}}
  text: {do: sms, to: "{{ call.ani }}", text: "Thank you, {{ call.ani }}", exits: {sent: sent, failed: bye}}
  sent: {do: say, prompt: sent, exits: {done: bye}}
  busy: {do: say, prompt: busy, exits: {done: bye}}
  nobody: {do: say, prompt: nobody, exits: {done: bye}}
  no: {do: say, prompt: no, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""
TO_AGENT = """
flow: direct
dnis: ["1112"]
start: out
on_error: away
prompts:
  busy: [Chen cannot be disturbed.]
steps:
  out: {do: transfer, agent: "103", ring: 2, exits: {talked: bye, busy: busy, no_answer: bye, failed: away}}
  busy: {do: say, prompt: busy, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""
WAITS = """
flow: waits
dnis: ["1113"]
start: line
on_error: away
steps:
  line: {do: queue, queue: general, exits: {talked: bye, no_agents: away, too_long: away, failed: away}}
  bye: {do: hangup}
  away: {do: release}
"""
ENVIRONMENT: dict[str, str] = {}


@pytest.fixture(scope="module")
def carrier(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The installation with a trunk of its own, and the port where its carrier is."""
    port = free_port()
    set_up(running_house, port)
    flows = {"outside": FLOW.replace("RING", "15"), "short": short(), "direct": TO_AGENT, "waits": WAITS}
    folder: Path = project(tmp_path_factory.mktemp("transfers"), **flows)
    allow(folder)
    ENVIRONMENT["CALLWRIGHT_PROJECT"] = str(folder)
    with restarted(running_house, **ENVIRONMENT):
        yield port


def short() -> str:
    """The same with a short time to ring."""
    return FLOW.replace("RING", "2").replace("flow: outside", "flow: short").replace("1110", "1111")


def exits(house: LiveHouse, call: str) -> dict[str, str]:
    return {entry["step"]: entry["exit"] for entry in house.timeline(call) if entry["type"] == "StepLeft"}


def texts(house: LiveHouse) -> list[dict[str, str]]:
    return list(fetch(f"http://127.0.0.1:{house.installation.ports.mail}/sms")["messages"])


def test_a_caller_talks_to_a_number_comes_back_and_gets_a_text_message(carrier: int, house: LiveHouse) -> None:
    before = len(texts(house))
    with far_phone(carrier, ring=1.0) as far, house.visit("+4930555000555", "1110") as visit:
        far.wait_for("invite", 10)
        until(visit.phone.rtp.hears_anything, 5, "music while it rings")
        far.wait_for("answered", 10)
        until(lambda: visit.phone.rtp.hears(AGENT_TONE), 5, "the far side")
        until(lambda: far.rtp.hears(CALLER_TONE), 5, "the caller")
        far.hang_up()
        visit.phone.wait_for("released", 20)
        assert house.over(visit.call)["outcome"] == "transferred"
    assert exits(house, visit.call) == {"out": "talked", "back": "done", "text": "sent", "sent": "done"}
    (text, *older) = texts(house)
    assert (len(older), text["to"], text["text"]) == (before, "+4930555000555", "Thank you, +4930555000555")


def test_busy_and_no_answer_are_told_apart(carrier: int, house: LiveHouse) -> None:
    with far_phone(carrier, refuse=486), house.visit("+4930555000555", "1110") as visit:
        visit.phone.wait_for("released", 20)
        assert exits(house, visit.call)["out"] == "busy"
    with far_phone(carrier, ring=None) as far, house.visit("+4930555000555", "1111") as visit:
        far.wait_for("cancelled", 15)
        visit.phone.wait_for("released", 20)
        assert exits(house, visit.call)["out"] == "no_answer"


def test_an_agent_to_whom_a_caller_is_put_through_gets_no_call_of_a_queue_meanwhile(carrier: int, house: LiveHouse) -> None:
    with house.agent_phone("103", ring=None) as agent, house.visit("+4930555000555", "1112") as first:
        agent.wait_for("invite", 10)
        assert house.agent("103")["work"] == "offered"
        with house.visit("+4930555000556", "1113") as second:
            house.becomes(second, "waiting")
            agent.answer()
            until(lambda: first.phone.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE), 10, "the two to talk")
            assert (house.agent("103")["work"], house.call(second.call)["state"]) == ("talking", "waiting")
            agent.hang_up()
            first.phone.wait_for("released", 10)
            until(lambda: len(agent.sipp.logged("invite")) == 2, 5, "the call that waits, once the agent is free")
            second.phone.hang_up()
            assert house.over(second.call)["outcome"] == "abandoned"
    assert exits(house, first.call)["out"] == "talked"


def test_an_agent_who_does_not_answer_a_transfer_is_not_ready_and_not_rung_again(carrier: int, house: LiveHouse) -> None:
    with house.agent_phone("103", ring=None) as agent:
        with house.visit("+4930555000555", "1112") as visit:
            agent.wait_for("cancelled", 15)
            visit.phone.wait_for("released", 10)
        assert exits(house, visit.call)["out"] == "no_answer"
        assert (house.agent("103")["presence"], house.agent("103")["reason"]) == ("not_ready", "no_answer")
        with house.visit("+4930555000555", "1112") as visit:
            visit.phone.wait_for("released", 10)
        assert exits(house, visit.call)["out"] == "busy"
        assert len(agent.sipp.logged("invite")) == 1


@pytest.mark.faults
def test_a_caller_who_hangs_up_stops_the_far_phone(carrier: int, house: LiveHouse) -> None:
    with far_phone(carrier, ring=None) as far, house.visit("+4930555000555", "1110") as visit:
        far.wait_for("invite", 10)
        visit.phone.hang_up()
        far.wait_for("cancelled", 5)
        assert house.over(visit.call)["outcome"] == "hung_up"
    with far_phone(carrier, ring=0.2) as far, house.visit("+4930555000555", "1110") as visit:
        until(lambda: visit.phone.rtp.hears(AGENT_TONE), 10, "the far side")
        visit.phone.hang_up()
        far.wait_for("released", 5)
        assert house.over(visit.call)["outcome"] == "transferred"


@pytest.mark.parametrize("when", one_of(["ringing", "talking"]))
def test_a_transfer_survives_the_end_of_the_process(carrier: int, house: LiveHouse, when: str) -> None:
    with far_phone(carrier, ring=0.2 if when == "talking" else None) as far, house.visit("+4930555000555", "1110") as visit:
        far.wait_for("invite", 10)
        if when == "talking":
            until(lambda: visit.phone.rtp.hears(AGENT_TONE), 10, "the far side")
        house.kill()
        if when == "ringing":
            far.answer()
        until(lambda: visit.phone.rtp.hears(AGENT_TONE) and far.rtp.hears(CALLER_TONE), 10, "a conversation while nobody is there")
        part = next(part for part in house.installation.parts() if part.name == "application")
        house.installation.start(replace(part, env=ENVIRONMENT), house.say.append)
        until(lambda: any(entry["type"] == "CallFound" for entry in house.timeline(visit.call)), 10, "the call to be found")
        until(lambda: visit.phone.rtp.hears(AGENT_TONE), 5, "the conversation to go on")
        far.hang_up()
        visit.phone.wait_for("released", 20)
        assert exits(house, visit.call)["out"] == "talked"
        assert len(far.sipp.logged("invite")) == 1, "the number was dialled once"
