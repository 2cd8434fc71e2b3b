"""A caller books a callback, hangs up, and is called back over a trunk once an agent is there, on real calls."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.drawn import one_of
from tests.e2e.carrier import allow, far_phone, set_up
from tests.e2e.house import LiveHouse
from tests.e2e.variant import project, restarted
from tests.phones import free_port, until

pytestmark = pytest.mark.pbx
NUMBER = "+4930555000555"
AGENT_TONE, CUSTOMER_TONE = 1300.0, 1700.0
FLOW = """
flow: again
dnis: ["1120"]
start: offer
on_error: away
prompts:
  offer: ["Press 1, and we call you back at", "characters:{{ call.ani }}"]
  booked: [We call you back.]
  no: [We cannot call you back.]
steps:
  offer:
    do: callback
    prompt: offer
    queue: general
    skills: {lang.en: 1}
    retry_after: 2
    attempts: 2
    ring: 15
    exits: {booked: booked, declined: bye, failed: no, no_input: bye}
  booked: {do: say, prompt: booked, exits: {done: bye}}
  no: {do: say, prompt: no, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""
LATER = """
flow: later
dnis: ["1121"]
start: when
on_error: away
calendars: {always: {zone: UTC, open: {mon-sun: "00:00-24:00"}}}
prompts:
  when: [When shall we call you back.]
  now: [Press 1 to be called back now.]
  later: ["Press 1 to be called back at", "time:{{ call.callback }}"]
  sorry: [Goodbye.]
steps:
  when:
    do: collect
    into: time
    prompt: when
    retry_no_match: when
    retry_no_input: when
    length: 4
    exits: {match: offer, no_match: bye, no_input: bye}
  offer:
    do: callback
    prompt: now
    prompt_later: later
    hours: always
    wish: "{{ vars.time }}"
    queue: general
    skills: {lang.en: 1}
    exits: {booked: bye, declined: bye, failed: bye, no_input: bye}
  bye: {do: say, prompt: sorry, exits: {done: end}}
  end: {do: hangup}
  away: {do: release}
"""


@pytest.fixture(scope="module")
def carrier(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The installation with a trunk of its own, and the port where its carrier is."""
    port = free_port()
    set_up(running_house, port)
    folder: Path = project(tmp_path_factory.mktemp("callbacks"), again=FLOW, later=LATER)
    allow(folder)
    with restarted(running_house, CALLWRIGHT_PROJECT=str(folder)):
        yield port


def booked(house: LiveHouse) -> str:
    """A call whose caller has booked, and has gone."""
    with house.visit(NUMBER, "1120") as visit:
        house.reaches(visit, "offer")
        visit.phone.rtp.press("1")
        visit.phone.wait_for("released", 20)
    until(lambda: house.call(visit.call)["state"] == "booked", 10, "the booking")
    assert not house.ari("channels"), "nothing is held for it in the PBX"
    return visit.call


def facts(house: LiveHouse, call: str, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in house.timeline(call) if entry["type"] == kind]


def is_over(house: LiveHouse, call: str) -> str:
    until(lambda: facts(house, call, "CallbackEnded"), 20, lambda: f"its end: {house.timeline(call)[-5:]}")
    until(lambda: (house.ended(call) or {}).get("outcome") in ("called_back", "not_reached"), 5, "its row in the history")
    row = house.ended(call)
    assert row is not None
    return str(row["outcome"])


def test_a_caller_is_called_back_and_talks_to_an_agent(carrier: int, house: LiveHouse) -> None:
    call = booked(house)
    with far_phone(carrier, ring=1.0, tone=CUSTOMER_TONE) as far, house.agent_phone("103", ring=0.2, talk=None) as agent:
        agent.wait_for("answered", 15)
        far.wait_for("invite", 10)
        far.wait_for("answered", 10)
        until(lambda: agent.rtp.hears(CUSTOMER_TONE) and far.rtp.hears(AGENT_TONE), 10, "both to hear one another")
        assert house.call(call)["state"] == "talking"
        far.hang_up()
        agent.wait_for("released", 10)
        assert is_over(house, call) == "called_back"


@pytest.mark.faults
def test_a_busy_customer_is_tried_again_later_and_then_no_more(carrier: int, house: LiveHouse) -> None:
    call = booked(house)
    with far_phone(carrier, refuse=486) as far, house.agent_phone("103", ring=0.2, talk=None):
        assert is_over(house, call) == "not_reached"
        assert len(far.sipp.logged("invite")) == 2
    assert [(fact["outcome"], fact["left"]) for fact in facts(house, call, "CallbackTried")] == [("busy", 1), ("busy", 0)]
    first, second = (fact["at"] for fact in facts(house, call, "RingOutside"))
    assert second - first >= 2.0


@pytest.mark.faults
def test_a_caller_is_called_back_at_the_time_that_was_typed_and_the_next_process_keeps_it(carrier: int, house: LiveHouse) -> None:
    wished = datetime.fromtimestamp(time.time() + 85, UTC).replace(second=0, microsecond=0)
    with house.visit(NUMBER, "1121") as visit:
        house.reaches(visit, "when")
        visit.phone.rtp.press(f"{wished:%H%M}1")
        visit.phone.wait_for("released", 30)
    until(lambda: house.call(visit.call)["state"] == "booked", 10, "the booking")
    assert [fact["begins"] for fact in facts(house, visit.call, "CallbackBooked")] == [f"{wished:%Y-%m-%d %H:%M}"]
    with far_phone(carrier, ring=1.0, tone=CUSTOMER_TONE) as far, house.agent_phone("103", ring=0.2, talk=None) as agent:
        house.kill()
        house.start()
        far.wait_for("answered", 110)
        until(lambda: agent.rtp.hears(CUSTOMER_TONE) and far.rtp.hears(AGENT_TONE), 10, "both to hear one another")
        far.hang_up()
        assert is_over(house, visit.call) == "called_back"
    (rung,) = facts(house, visit.call, "RingAgent")
    arrived = facts(house, visit.call, "CallArrived")[0]["at"]
    assert 0 <= rung["at"] - wished.timestamp() < 5, f"the call came at {arrived}"


@pytest.mark.parametrize("when", one_of(["booked", "ringing", "talking"]))
def test_a_callback_survives_the_end_of_the_process(carrier: int, house: LiveHouse, when: str) -> None:
    call = booked(house)
    if when == "booked":
        house.kill()
        house.start()
        assert house.call(call)["state"] == "booked"
    with far_phone(carrier, ring=None, tone=CUSTOMER_TONE) as far, house.agent_phone("103", ring=0.2, talk=None) as agent:
        far.wait_for("invite", 15)
        until(agent.rtp.hears_anything, 5, "the agent to hear that it rings")
        if when == "ringing":
            house.kill()
        far.answer()
        until(lambda: agent.rtp.hears(CUSTOMER_TONE) and far.rtp.hears(AGENT_TONE), 15, "both to hear one another")
        if when == "talking":
            until(lambda: house.call(call)["state"] == "talking", 5, "the conversation")
            house.kill()
        if when != "booked":
            house.start()
        until(lambda: house.call(call)["state"] == "talking", 10, "the conversation to be known")
        assert agent.rtp.hears(CUSTOMER_TONE)
        agent.hang_up()
        far.wait_for("released", 10)
        assert is_over(house, call) == "called_back"
        assert len(far.sipp.logged("invite")) == 1, "the number was dialled once"
