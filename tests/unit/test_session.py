"""What other systems may do to a live call: the rules by value, and on virtual time what the call makes of it."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.call import FLOW, QUEUED
from app.core.session import MAX_NAMES, MAX_TEXT, SessionRefused, flat
from tests.unit.centre import Sim
from tests.unit.test_steps import MENU, QUEUE, flow, ring_in

SWITCH = {"do": "switch", "cases": {"vip": "one"}, "exits": {"otherwise": "hash", "failed": "failed"}}


def test_flat_and_nested_are_the_same() -> None:
    assert flat({"ivr": {"email": "a@example.com", "premium": True}}) == flat({"ivr.email": "a@example.com", "ivr.premium": True})
    assert flat({"ivr.gone": None, "ivr.n": 1.5}) == {"ivr.gone": None, "ivr.n": 1.5}


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"call.ani": "+49"}, "only what begins with ivr."),
        ({"contact": {"premium": True}}, "only what begins with ivr."),
        ({"ivr": "all of it"}, "only what begins with ivr."),
        ({"ivr.": "x"}, "no name"),
        ({"ivr.FILE(/etc/passwd)": "x"}, "no name"),
        ({"ivr.SHELL(id)": "x"}, "no name"),
        ({"ivr.a,b": "x"}, "no name"),
        ({"ivr.a\nb": "x"}, "no name"),
        ({"ivr.a.b": "x"}, "no name"),
        ({"ivr." + "x" * 41: "x"}, "no name"),
        ({"ivr.list": [1]}, "neither a text"),
        ({"ivr.map": {"a": 1}}, "neither a text"),
        ({"ivr.long": "x" * (MAX_TEXT + 1)}, "longer than"),
        ({"ivr.nul": "a\x00b"}, "character that cannot be kept"),
        ({"ivr.big": 2**60}, "out of range"),
        ({"ivr.a": 1, "ivr": {"a": 2}}, "given twice"),
    ],
)
def test_what_cannot_be_written_is_refused_and_named(given: dict[str, Any], why: str) -> None:
    with pytest.raises(SessionRefused, match=why) as refused:
        flat(given)
    assert refused.value.kind == "invalid"
    assert len(refused.value.errors) == 1


def asking(**more: Any) -> tuple[Sim, str]:
    sim = flow({"first": MENU, "check": SWITCH, "line": QUEUE}, conditions={"vip": "'vip' in ivr && ivr.vip == true"}, **more)
    sim.agent_is_ready("ann")
    sim.happen(ev.AgentBecameNotReady("ann"))
    return sim, ring_in(sim)


def test_writes_merge_count_and_are_there_after_a_crash() -> None:
    sim, call = asking()
    sim.happen(ev.SessionWritten(call, {"ivr.email": "a@example.com", "ivr.vip": True}, "crm"))
    sim.happen(ev.SessionWritten(call, {"ivr.email": None, "ivr.n": 3}, "crm", expected=1))
    sim.crash()
    live = sim.center.calls[call]
    assert live.written == 2
    assert {name: value for name, value in live.vars.items() if name.startswith("ivr.")} == {"ivr.vip": True, "ivr.n": 3}


def test_a_stale_write_and_a_full_session_change_nothing() -> None:
    sim, call = asking()
    sim.happen(ev.SessionWritten(call, {f"ivr.v{n}": n for n in range(MAX_NAMES)}))
    for event, kind in (
        (ev.SessionWritten(call, {"ivr.v1": 0}, expected=0), "stale"),
        (ev.SessionWritten(call, {"ivr.one_more": 0}), "invalid"),
        (ev.SessionWritten("nobody", {"ivr.v1": 0}), "unknown-call"),
    ):
        with pytest.raises(SessionRefused) as refused:
            sim.happen(event)
        assert refused.value.kind == kind
    assert sim.center.calls[call].vars["ivr.v1"] == 1
    sim.happen(ev.SessionWritten(call, {"ivr.v1": None, "ivr.one_more": 0}))
    assert sim.center.calls[call].vars["ivr.one_more"] == 0


def test_only_what_the_flow_declares_can_be_written_and_only_in_its_type() -> None:
    sim, call = asking(session={"vip": "bool", "score": "double", "name": "string"})
    sim.happen(ev.SessionWritten(call, {"ivr.vip": True, "ivr.score": 3, "ivr.name": "x"}))
    for values, why in (({"ivr.vp": True}, "declares no ivr.vp"), ({"ivr.vip": 1}, "must be a bool"), ({"ivr.score": True}, "a double")):
        with pytest.raises(SessionRefused, match=why):
            sim.happen(ev.SessionWritten(call, values))


def test_a_call_is_steered_out_of_a_prompt_and_sees_what_was_written() -> None:
    sim, call = asking(entries={"decide": "check"})
    sim.press(call, "9")
    sim.happen(ev.SessionWritten(call, {"ivr.vip": True}))
    sim.happen(ev.CallSteered(call, "decide", "crm"))
    assert sim.at_step(call) == "one"
    assert sim.all(do.StopPlay, call)
    sim.crash()
    assert sim.at_step(call) == "one"


def test_a_waiting_call_is_steered_out_of_its_queue_and_the_agent_is_free() -> None:
    sim, call = asking(entries={"queue": "line", "away": "hash"})
    sim.happen(ev.CallSteered(call, "queue"))
    assert sim.center.calls[call].phase == QUEUED
    sim.happen(ev.AgentBecameReady("ann"))
    leg = sim.rings(call)
    sim.happen(ev.CallSteered(call, "away"))
    assert sim.center.calls[call].phase == FLOW
    assert sim.last(do.HangUpLeg, call).leg == leg
    assert sim.last(facts.OfferEnded, call).reason == "withdrawn"
    assert sim.at_step(call) == "hash"
    assert sim.center.acd.state("ann")["work"] == []


def test_an_entry_that_the_flow_does_not_have_and_a_conversation_are_refused() -> None:
    sim, call = asking(entries={"queue": "line"})
    with pytest.raises(SessionRefused, match=r"there is no entry 'queu'.*did you mean 'queue'") as refused:
        sim.happen(ev.CallSteered(call, "queu"))
    assert refused.value.kind == "unknown-entry"
    sim.happen(ev.CallSteered(call, "queue"))
    sim.happen(ev.AgentBecameReady("ann"))
    sim.happen(ev.LegAnswered(call, sim.rings(call)))
    with pytest.raises(SessionRefused) as talking:
        sim.happen(ev.CallSteered(call, "queue"))
    assert talking.value.kind == "not-steerable"


def test_a_call_in_wrap_up_has_ended_for_other_systems() -> None:
    sim, call = asking(entries={"queue": "line"})
    sim.happen(ev.CallSteered(call, "queue"))
    sim.happen(ev.AgentBecameReady("ann"))
    sim.happen(ev.LegAnswered(call, sim.rings(call)))
    sim.wait(5)
    sim.happen(ev.CallerLeft(call))
    assert sim.center.calls[call].wrapping
    for event in (ev.SessionWritten(call, {"ivr.v1": 0}), ev.CallSteered(call, "queue")):
        with pytest.raises(SessionRefused) as ended:
            sim.happen(event)
        assert ended.value.kind == "ended-call"
