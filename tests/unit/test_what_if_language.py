"""Calls under another version where the flow uses the whole language: what is on record serves, and what is not leaves the way open."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core.defined import plain_program
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.program import Program
from app.core.flow.what_if import WhatIf
from tests.unit.centre import Sim
from tests.unit.test_language import ANNA, CONFIRM, GATHER, WAIT, with_person
from tests.unit.test_replay import under
from tests.unit.test_steps import COLLECT, LOOKUP, MENU, QUEUE, flow, ring_in

Change = Callable[[dict[str, Any]], Any]
FIND: dict[str, Any] = {"action": "find", "with": {"phone": "{{ call.ani }}"}}
EARLY = {"on": "arrival", **FIND, "into": "early"}
SAY = {"do": "say", "prompt": "long", "exits": {"done": "end"}}


def version(sim: Sim, change: Change = lambda flow: None) -> Compiled:
    """The test's flow with a change."""
    plain = plain_program(sim.book.flows["1"].program)
    change(plain)
    return compile_program(Program.model_validate(plain), sim.book.queues)


def judged(sim: Sim, call: str, change: Change = lambda flow: None) -> WhatIf:
    return under(sim, call, version(sim, change))


def exits(step: str, **ways: str) -> Change:
    return lambda flow: flow["steps"][step]["exits"].update(ways)


def is_same(sim: Sim, call: str) -> None:
    result = judged(sim, call)
    assert result.verdict == "same way", result
    assert result.way == result.other_way


# ---- automations ------------------------------------------------------------------------------------------------------------


def automated(step: dict[str, Any], **more: Any) -> tuple[Sim, str]:
    """A call whose automation was asked as it arrived, and answered a second later."""
    sim = flow({"first": step}, automations=[EARLY], **more)
    call = ring_in(sim)
    sim.wait(1.0)
    sim.happen(ev.ActionSucceeded(call, sim.last(do.StartAction, call).request, ANNA))
    return sim, call


def other_question(flow: dict[str, Any]) -> None:
    flow["automations"][0]["parameters"] = {"phone": "somebody else"}


def test_an_automation_is_served_and_one_that_was_not_asked_leaves_open_who_waits_for_it() -> None:
    sim, call = automated({**WAIT, "variable": "early.answered", "mask": None})
    assert sim.at_step(call) == "written"
    sim.hangs_up(call)
    is_same(sim, call)
    result = judged(sim, call, other_question)
    assert (result.verdict, result.step) == ("undetermined", "first")
    assert result.undetermined == "what an automation would have brought as 'early' is not on record"


def test_an_automation_that_was_not_asked_is_nothing_to_steps_that_do_not_use_it() -> None:
    sim, call = automated(SAY)
    sim.wait(3.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    is_same(sim, call)
    assert judged(sim, call, other_question).verdict == "same way"


@pytest.mark.parametrize("before", [False, True])
def test_what_is_done_as_a_call_is_queued_and_connected_is_served_with_the_agent(before: bool) -> None:
    sim = flow(
        {"first": QUEUE, "talked": {"do": "switch", "cases": {"known": "yes"}, "exits": {"otherwise": "no", "failed": "no"}}},
        automations=[{"on": "connected", "action": "find", "with": {"agent": "{{ call.agent }}"}, "into": "with"}],
        conditions={"known": "with.found"},
    )
    sim.agent_is_ready("ann")
    call = ring_in(sim)
    leg = sim.answers(call)
    if before:
        sim.answer_action(call, ANNA)
    sim.wait(30.0)
    sim.happen(ev.LegEnded(call, leg))
    assert sim.at_step(call) == ("yes" if before else "no")
    sim.hangs_up(call)
    is_same(sim, call)


# ---- several questions, and what others write -------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [0, 1, 2])
def test_questions_that_are_open_together_are_served_each_by_its_own(answered: int) -> None:
    sim = flow({"first": GATHER})
    call = ring_in(sim)
    sim.wait(0.5)
    for order in reversed(sim.all(do.StartAction, call)):
        good = order.params["phone"] == "2" if answered == 1 else answered == 2
        sim.happen(ev.ActionSucceeded(call, order.request, ANNA) if good else ev.ActionFailed(call, order.request, "status"))
    sim.wait(2.0)
    sim.prompt_ends(call)
    assert sim.at_step(call) == ("none_at_all", "one_of_two", "both")[answered]
    sim.hangs_up(call)
    is_same(sim, call)


def test_a_question_that_had_no_answer_by_the_end_is_not_given_one() -> None:
    sim = flow({"first": GATHER})
    call = ring_in(sim)
    first = sim.all(do.StartAction, call)[0]
    sim.happen(ev.ActionSucceeded(call, first.request, ANNA))
    sim.wait(1.0)
    sim.hangs_up(call)
    is_same(sim, call)


def written(wait: float = 5.0) -> tuple[Sim, str]:
    sim = flow({"first": {**WAIT, "mask": None, "max_wait": "20"}})
    call = ring_in(sim)
    sim.wait(wait)
    sim.happen(ev.SessionWritten(call, {"ivr.colour": "red"}, expected=0))
    sim.hangs_up(call)
    return sim, call


def shorter(flow: dict[str, Any]) -> None:
    flow["steps"]["first"]["max_wait"] = 3.0


def other_variable(flow: dict[str, Any]) -> None:
    flow["steps"]["first"]["variable"] = "ivr.size"


def undeclared(flow: dict[str, Any]) -> None:
    flow["session"] = {"size": "string"}


def test_what_another_system_wrote_comes_when_it_came() -> None:
    sim, call = written()
    is_same(sim, call)
    result = judged(sim, call, shorter)
    assert result.other_way[0] == ("first", "too_long")
    assert "written after the call was over" in judged(sim, call, other_variable).undetermined
    assert "declares no ivr.colour" in judged(sim, call, undeclared).undetermined


# ---- keys -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", ["1", "2", "72"])
def test_confirm_is_served_by_its_keys(keys: str) -> None:
    sim = flow({"first": CONFIRM})
    call = ring_in(sim)
    for key in keys:
        sim.wait(2.0)
        sim.press(call, key)
    sim.hangs_up(call)
    is_same(sim, call)
    if keys == "1":
        swapped = judged(sim, call, lambda flow: flow["steps"]["first"].update(yes="2", no="1"))
        assert swapped.other_way[0] == ("first", "no")


def test_a_choice_that_is_not_open_to_the_caller_does_not_take_the_key() -> None:
    menu = {**MENU, "choices": {"1": {"to": "one", "when": "open"}, "2": "two"}, "exits": {**MENU["exits"], "failed": "nothing"}}
    sim = flow({"first": menu}, conditions={"open": "call.number_known"})
    call = ring_in(sim)
    sim.wait(2.0)
    sim.press(call, "1")
    sim.hangs_up(call)
    is_same(sim, call)
    result = judged(sim, call, lambda flow: flow["conditions"].update(open="!call.number_known"))
    assert (result.verdict, result.step) == ("undetermined", "first")


@pytest.mark.parametrize("step", [SAY, WAIT, GATHER, LOOKUP, MENU])
def test_the_key_that_reaches_a_person_does_so_at_the_same_place(step: dict[str, Any]) -> None:
    sim = with_person({"first": step})
    call = ring_in(sim)
    sim.wait(1.0)
    sim.press(call, "0")
    assert sim.at_step(call) == "person"
    sim.hangs_up(call)
    is_same(sim, call)


def test_a_caller_who_asked_for_a_person_in_a_step_that_ends_sooner_is_not_guessed_at() -> None:
    sim = with_person({"first": {**WAIT, "mask": None}})
    call = ring_in(sim)
    sim.wait(5.0)
    sim.press(call, "0")
    sim.hangs_up(call)
    is_same(sim, call)
    result = judged(sim, call, shorter)
    assert result.undetermined == "the caller asked for a person after 5.0 s then, in 'first', which ends sooner here"
    without = judged(sim, call, lambda flow: flow.update(reach_a_person=None))
    assert without.verdict == "undetermined"


# ---- calls that were sent to an entry ---------------------------------------------------------------------------------------


def steered(step: dict[str, Any]) -> tuple[Sim, str]:
    sim = flow({"first": step, "second": {**SAY, "prompt": "ask"}}, entries={"there": "second"})
    sim.happen(ev.AgentPhoneChanged("ann", True))
    sim.happen(ev.AgentSignedIn("ann"))
    call = ring_in(sim)
    sim.wait(5.0)
    sim.happen(ev.CallSteered(call, "there"))
    assert sim.at_step(call) == "second"
    sim.wait(2.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    return sim, call


@pytest.mark.parametrize("step", [SAY, WAIT, QUEUE, MENU])
def test_a_call_is_sent_to_the_entry_from_the_same_place(step: dict[str, Any]) -> None:
    sim, call = steered(step)
    is_same(sim, call)
    result = judged(sim, call, lambda flow: flow["entries"].update(there="trouble"))
    assert [step for step, _ in result.other_way][:2] == ["first", "trouble"]
    gone = judged(sim, call, lambda flow: flow.update(entries={}))
    assert (gone.verdict, gone.step) == ("undetermined", "first")
    assert "there" in gone.undetermined


def test_a_call_that_does_not_come_where_it_was_sent_away_is_not_guessed_at() -> None:
    sim, call = steered({**WAIT, "mask": None})
    ended = judged(sim, call, shorter)
    assert ended.undetermined == "the caller was sent elsewhere after 5.0 s then, in 'first', which ends sooner here"
    elsewhere = judged(sim, call, lambda flow: flow["steps"].update(zero=flow["steps"]["first"]) or flow.update(start="zero"))
    assert "was sent to 'there' after 5.0 s then, from 'first'" in elsewhere.undetermined


# ---- language, hours, subflows ----------------------------------------------------------------------------------------------


def test_hours_are_those_of_the_recorded_call() -> None:
    table = {"since": 0, "until": 2e9, "open": [[1_000_000.0, 1_000_003.0]], "holidays": []}
    calendar = {"zone": "Europe/Berlin", "open": {"mon": "09:00-10:00"}}
    hours = {"do": "hours", "calendar": "shop", "exits": {"open": "open", "closed": "closed", "holiday": "closed"}}
    sim = flow({"first": {**SAY, "exits": {"done": "hours"}}, "hours": hours}, calendars={"shop": calendar}, tables={"shop": table})
    call = ring_in(sim)
    sim.wait(2.0)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "open"
    sim.hangs_up(call)
    is_same(sim, call)
    closed = judged(sim, call, lambda flow: flow["tables"]["shop"].update(open=[[1_000_000.0, 1_000_001.0]]))
    assert closed.other_way[1] == ("hours", "closed")


def test_language_and_steps_of_a_subflow_are_as_any_others() -> None:
    steps = {
        "first": {"do": "subflow", "run": "ask", "exits": {"begin": "first.which"}},
        "first.which": {**MENU, "exits": {"no_match": "end", "no_input": "end"}, "choices": {"1": "first.speak"}},
        "first.speak": {"do": "language", "to": "de", "exits": {"done": "say", "unknown": "end"}},
        "say": SAY,
    }
    words = {name: {"en": "One.", "de": "Eins."} for name in ("ask", "wrong", "silent", "long", "sorry")}
    sim = flow(steps, languages=["en", "de"], prompts=words)
    call = ring_in(sim)
    sim.wait(1.0)
    sim.press(call, "1")
    sim.wait(2.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    assert sim.steps(call) == ["first", "first.which", "first.speak", "say", "end"]
    is_same(sim, call)
    other = judged(sim, call, exits("first.speak", done="trouble"))
    assert [step for step, _ in other.other_way][3] == "trouble"


def test_a_key_that_leads_away_from_an_entry_does_so_again_and_is_a_mistake_where_it_does_not() -> None:
    sim = flow({"first": {**COLLECT, "choices": {"*": "other"}}})
    call = ring_in(sim)
    sim.wait(2.0)
    sim.press(call, "1*")
    assert sim.at_step(call) == "other"
    sim.hangs_up(call)
    is_same(sim, call)
    without = judged(sim, call, lambda flow: flow["steps"]["first"].update(choices={}))
    assert (without.verdict, without.step) == ("undetermined", "first")
