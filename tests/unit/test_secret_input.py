"""What a caller types into a sensitive input: it reaches one system of record, and is written down nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.core.flow.secret import HIDDEN
from app.core.record import pack
from app.core.wills import END_WITHIN
from tests.unit.centre import Sim
from tests.unit.test_center_machine import AGENTS, EXAMPLES, FLOW_FILE, QUEUES, STEPS, CentreMachine
from tests.unit.test_replay import again, under
from tests.unit.test_steps import COLLECT, LOOKUP, MENU, QUEUE, flow, playing, ring_in

PIN = "7351"
FIRST: dict[str, Any] = {**COLLECT, "into": "pin", "length": "4", "sensitive": "true", "exits": {**COLLECT["exits"], "match": "check"}}
CHECK: dict[str, Any] = {
    "do": "action",
    "into": "contact",
    "action": "find",
    "with": {"pin": "{{ vars.pin }}", "phone": "{{ call.ani }}"},
    "exits": {"done": "known", "failed": "failed"},
}
KNOWN = {"do": "say", "prompt": "long", "exits": {"done": "again"}}
ASKING = {"first": FIRST, "check": CHECK, "known": KNOWN, "again": {**CHECK, "exits": {"done": "end", "failed": "failed"}}}


def asking(**more: Any) -> tuple[Sim, str]:
    sim = flow({**ASKING, "first": {**FIRST, **more}})
    return sim, ring_in(sim)


def nowhere(sim: Sim, secret: str = PIN) -> None:
    """Neither the journal nor a live row has it, nor any digit that was pressed."""
    kept = json.dumps([sim.rows, sim.live, sim.agents, [pack(thing) for thing in sim.out]])
    assert secret not in kept
    assert "DigitPressed" not in kept
    assert secret not in repr(sim.out)


def test_it_goes_to_the_action_and_is_written_down_nowhere() -> None:
    sim, call = asking()
    sim.press(call, PIN)
    order = sim.last(do.StartAction, call)
    assert order.sent == {"pin": PIN, "phone": "+4930123456"}
    assert (order.params, order.hidden) == ({"pin": HIDDEN, "phone": "+4930123456"}, ("pin",))
    sim.answer_action(call, {"name": "Anna"})
    sim.wait(1.0)
    nowhere(sim)
    sim.prompt_ends(call)
    assert sim.last(do.StartAction, call).sent["pin"] == PIN, "it is there to the end of the call"
    sim.hangs_up(call)
    nowhere(sim)
    assert again(sim, call).identical
    assert under(sim, call, sim.book.flows["1"]).verdict == "same way"


@pytest.mark.parametrize(
    ("more", "keys", "step"),
    [
        ({}, "73*1", "first"),
        ({"min_length": "3"}, "735#", "check"),
        ({"min_length": "3"}, "73#", "first"),
        ({"pattern": "[1-6]+"}, PIN, "first"),
        ({"pattern": "[1-7]+"}, PIN, "check"),
        ({"terminator": "#"}, "##7351", "check"),
    ],
)
def test_an_entry_counts_as_any_other_would(more: dict[str, Any], keys: str, step: str) -> None:
    sim, call = asking(**more)
    open_sim = flow({**ASKING, "first": {**FIRST, **more, "sensitive": "false"}})
    open_call = ring_in(open_sim)
    for each, its in ((sim, call), (open_sim, open_call)):
        each.press(its, keys)
        assert each.at_step(its) == step
    heard = [play.media for play in sim.all(do.Play, call)]
    assert heard == [play.media for play in open_sim.all(do.Play, open_call)]


def test_a_pause_ends_it_and_silence_is_no_input() -> None:
    sim, call = asking(min_length="3")
    sim.press(call, "735")
    sim.wait(4.5)
    assert sim.at_step(call) == "check"
    assert sim.last(do.StartAction, call).sent["pin"] == "735"
    sim, call = asking()
    for _ in range(2):
        sim.prompt_ends(call)
        sim.wait(7.0)
    assert sim.at_step(call) == "nothing"


# ---- typed ahead ----------------------------------------------------------------------------------------------------------

SAY: dict[str, Any] = {"do": "say", "prompt": "long", "exits": {"done": "ask"}}
END = {"do": "hangup"}
PIN_LAST = {
    "ask": {**FIRST, "exits": {"match": "check", "no_match": "sorry", "no_input": "sorry"}},
    "check": CHECK,
    "sorry": KNOWN,
    "again": END,
}


def known(sim: Sim, call: str) -> str:
    """Every key of a call that the journal has; one of which nothing is known as a dot."""
    rows = [record for _, whose, records in sim.rows if whose == call for record in records]
    return "".join(
        values["digit"] if name == "DigitPressed" else "•" for _, name, values, _ in rows if name in ("DigitPressed", "SecretKey")
    )


def test_what_was_typed_ahead_does_not_count_and_is_written_down_nowhere() -> None:
    sim = flow({"first": SAY, **PIN_LAST})
    call = ring_in(sim)
    sim.press(call, "73")
    sim.prompt_ends(call)
    sim.press(call, PIN)
    assert sim.last(do.StartAction, call).sent["pin"] == PIN
    assert known(sim, call) == "••••••"
    sim.hangs_up(call)
    nowhere(sim)
    assert again(sim, call).identical


@pytest.mark.parametrize(
    ("between", "typed", "left"),
    [
        ({"ask": PIN_LAST["ask"]}, "7351#", "•••••"),
        ({"ask": {**LOOKUP, "exits": dict.fromkeys(LOOKUP["exits"], "pin")}}, "7351", "••••"),
        ({"ask": {**MENU, "choices": {"1": "pin"}, "exits": {"no_match": "end", "no_input": "end"}}}, "17351", "1••••"),
        ({"ask": {**COLLECT, "exits": dict.fromkeys(COLLECT["exits"], "pin")}}, "1237351", "123••••"),
        ({"ask": {**COLLECT, "min_length": "1", "exits": dict.fromkeys(COLLECT["exits"], "pin")}}, "1#7351", "1#••••"),
        ({"ask": {**MENU, "choices": {"1": "end"}, "exits": {"no_match": "end", "no_input": "end"}}}, "17351", "17351"),
        ({"ask": {"do": "bot", "bot": "x", "exits": dict.fromkeys(("done", "failed", "hung"), "pin")}}, "7351", "7351"),
    ],
)
def test_keys_typed_ahead_are_known_as_far_as_the_inputs_before_a_sensitive_one_take_them(between: Any, typed: str, left: str) -> None:
    sim = flow({"first": SAY, **PIN_LAST, **between, "pin": PIN_LAST["ask"], "end": END})
    call = ring_in(sim)
    sim.press(call, typed)
    assert known(sim, call) == left
    sim.prompt_ends(call)
    sim.crash()
    sim.hangs_up(call)
    assert again(sim, call).identical


def test_an_input_takes_no_key_of_which_nothing_is_known() -> None:
    """The keys could have been for the sensitive input; the way led to another one, which is asked for properly."""
    way = {"do": "wait_for", "variable": "ivr.x", "max_wait": "5", "exits": {"set": "ask", "too_long": "menu"}}
    sim = flow({"first": {**SAY, "exits": {"done": "way"}}, "way": way, **PIN_LAST, "menu": {**MENU, "choices": {"1": "one", "2": "two"}}})
    call = ring_in(sim)
    sim.press(call, "22")
    sim.prompt_ends(call)
    sim.wait(5.5)
    assert (sim.at_step(call), known(sim, call)) == ("menu", "••")
    assert playing(sim, call) == "Three digits.", "the prompt is heard"
    sim.crash()
    sim.press(call, "1")
    assert (sim.at_step(call), known(sim, call)) == ("one", "••1")
    sim.hangs_up(call)
    assert again(sim, call).identical


def test_keys_over_a_prompt_that_must_be_heard_are_known_as_far_as_the_input_goes() -> None:
    sim = flow({"first": {**COLLECT, "barge_in": "false", "exits": dict.fromkeys(COLLECT["exits"], "ask")}, **PIN_LAST})
    call = ring_in(sim)
    sim.press(call, "1237351")
    assert known(sim, call) == "123••••"
    sim.prompt_ends(call)
    assert sim.at_step(call) == "ask"
    assert sim.center.calls[call].vars["vars.code"] == "123"
    sim.hangs_up(call)


@pytest.mark.parametrize(("more", "left"), [({}, "••••••"), ({"min_length": "3"}, "••••••")])
def test_keys_that_come_after_a_sensitive_input_that_gave_up_are_as_secret(more: dict[str, Any], left: str) -> None:
    sim = flow(
        {
            "first": {**FIRST, **more, "tries": "1", "length": "6", "exits": dict.fromkeys(FIRST["exits"], "sorry")},
            "sorry": KNOWN,
            "again": END,
        }
    )
    call = ring_in(sim)
    sim.press(call, PIN)
    sim.wait(4.5)
    assert sim.at_step(call) == "sorry"
    sim.press(call, "62")
    assert known(sim, call) == left
    sim.hangs_up(call)
    nowhere(sim)


def test_keys_that_come_after_a_mistake_of_ours_in_a_sensitive_input_are_as_secret() -> None:
    sim, call = asking()
    sim.press(call, PIN[:2])
    sim.happen(ev.StepFailed(call, "a mistake of ours"))
    assert sim.at_step(call) == "trouble"
    sim.press(call, PIN[2:])
    assert known(sim, call) == "••••"
    sim.hangs_up(call)
    nowhere(sim)


def test_the_key_that_reaches_a_person_does_so_before_a_sensitive_input_too() -> None:
    sim = flow({"first": SAY, **PIN_LAST, "person": END}, reach_a_person={"key": "0", "step": "person"})
    call = ring_in(sim)
    sim.press(call, "0")
    assert (sim.at_step(call), known(sim, call)) == ("person", "0")
    sim = flow({"first": SAY, **PIN_LAST, "person": END}, reach_a_person={"key": "0", "step": "person"})
    call = ring_in(sim)
    sim.press(call, "70")
    assert (sim.at_step(call), known(sim, call)) == ("first", "••"), "in the middle of an entry it is a digit"
    sim.hangs_up(call)


def test_a_key_of_which_nothing_is_known_barges_in_as_any_other() -> None:
    sim = flow({"first": {**SAY, "barge_in": "true"}, **PIN_LAST})
    call = ring_in(sim)
    sim.press(call, "7")
    assert (sim.at_step(call), known(sim, call)) == ("ask", "•")
    assert playing(sim, call) == "Three digits."
    sim.press(call, PIN)
    assert sim.last(do.StartAction, call).sent["pin"] == PIN
    sim.answer_action(call, {"name": "Anna"})
    sim.hangs_up(call)
    nowhere(sim)
    assert under(sim, call, sim.book.flows["1"]).verdict == "same way"


@pytest.mark.parametrize("typed", [0, 1, 3])
def test_a_crash_in_the_step_asks_again(typed: int) -> None:
    sim, call = asking()
    if not typed:
        sim.prompt_ends(call)
    sim.press(call, PIN[:typed])
    asked = len(sim.all(do.Play, call))
    sim.crash()
    assert len(sim.all(do.Play, call)) == asked + (typed > 0), "who had not begun is not asked again"
    assert sim.at_step(call) == "first"
    sim.press(call, PIN)
    assert sim.last(do.StartAction, call).sent["pin"] == PIN
    sim.hangs_up(call)
    nowhere(sim)


@pytest.mark.parametrize("answered", [False, True])
def test_after_a_crash_it_is_gone_and_who_needs_it_fails(answered: bool) -> None:
    sim, call = asking()
    sim.press(call, PIN)
    asked = len(sim.all(do.StartAction, call))
    if answered:
        sim.answer_action(call, {"name": "Anna"})
        sim.crash()
        sim.crash()
        assert sim.at_step(call) == "known"
        sim.wait(5.0)
        sim.prompt_ends(call)
        assert sim.last(facts.Noticed, call).detail == "vars.pin is sensitive, and was forgotten when another process took over"
    else:
        sim.crash()
    assert sim.at_step(call) == "failed"
    assert len(sim.all(do.StartAction, call)) == asked, "it is not asked with something else"
    sim.hangs_up(call)
    nowhere(sim)


def test_what_is_made_of_it_is_as_sensitive() -> None:
    copy = {"do": "set", "values": {"code": "x{{ vars.pin }}", "plain": "y"}, "exits": {"done": "check"}}
    first = {**FIRST, "exits": {**FIRST["exits"], "match": "copy"}}
    sim = flow(
        {**ASKING, "first": first, "copy": copy, "check": {**CHECK, "with": {"code": "{{ vars.code }}", "plain": "{{ vars.plain }}"}}}
    )
    call = ring_in(sim)
    sim.press(call, PIN)
    order = sim.last(do.StartAction, call)
    assert (order.sent, order.hidden) == ({"code": f"x{PIN}", "plain": "y"}, ("code",))
    assert sim.center.calls[call].vars["vars.code"] == HIDDEN
    sim.hangs_up(call)
    nowhere(sim)


def test_questions_that_leave_together_fail_one_by_one() -> None:
    ask = {"one": {"action": "find", "with": {"pin": "{{ vars.pin }}"}}, "two": {"action": "find", "with": {"phone": "{{ call.ani }}"}}}
    gather = {"do": "gather", "ask": ask, "exits": {"done": "all", "some": "some", "failed": "none"}}
    sim = flow({"first": {**FIRST, "exits": {**FIRST["exits"], "match": "both"}}, "both": gather})
    call = ring_in(sim)
    sim.press(call, PIN)
    two = sim.last(do.StartAction, call)
    sim.crash()
    assert [order.request for order in sim.all(do.StartAction, call)[2:]] == [two.request]
    sim.happen(ev.ActionSucceeded(call, two.request, {"count": 1}))
    assert sim.at_step(call) == "some"
    sim.hangs_up(call)


def test_an_agent_is_not_shown_it() -> None:
    sim = flow({"first": {**FIRST, "exits": {**FIRST["exits"], "match": "line"}}, "line": {**QUEUE, "attach": {"pin": "{{ vars.pin }}"}}})
    sim.agent_is_ready("ann", desk=True)
    call = ring_in(sim)
    sim.press(call, PIN)
    assert PIN not in json.dumps(sim.last(do.Pop, call).card)
    sim.hangs_up(call)
    nowhere(sim)


# ---- recordings -----------------------------------------------------------------------------------------------------------

SPEAK: dict[str, Any] = {"do": "record", "into": "name", "exits": dict.fromkeys(("recorded", "nothing", "failed"), "end")}
MESSAGE: dict[str, Any] = {
    "do": "voicemail",
    "to": "night@example.com",
    "subject": "s",
    "body": "b",
    "prompt": "ask",
    "exits": dict.fromkeys(("left", "nothing", "failed"), "end"),
}


def recorded(step: dict[str, Any]) -> tuple[Sim, str, str]:
    """A caller who is being recorded, with a way to a sensitive input: the call and the recording."""
    steps = {"first": step, **PIN_LAST, "end": END}
    sim = flow(steps, entries={"pin": "ask"}, on_error="ask", prompts={"sorry": "Sorry."})
    call = ring_in(sim)
    if step is MESSAGE:
        sim.prompt_ends(call)
    return sim, call, sim.last(do.StartRecord, call).recording


def test_keys_that_come_after_somebody_sent_the_caller_out_of_a_sensitive_input_are_as_secret() -> None:
    sim = flow(ASKING, entries={"information": "known"})
    call = ring_in(sim)
    sim.press(call, PIN[:2])
    sim.happen(ev.CallSteered(call, "information", "desk"))
    assert sim.at_step(call) == "known"
    sim.press(call, PIN[2:])
    assert known(sim, call) == "••••"
    sim.hangs_up(call)
    nowhere(sim)


@pytest.mark.parametrize("how", ["steered", "failed", "crashed"])
def test_who_is_sent_from_a_recording_to_a_sensitive_input_is_recorded_no_longer(how: str) -> None:
    sim, call, recording = recorded(SPEAK)
    if how == "crashed":
        sim.crash()
    sim.happen(ev.CallSteered(call, "pin", "desk") if how == "steered" else ev.StepFailed(call, "a mistake of ours"))
    assert sim.at_step(call) == "ask"
    orders = [type(thing) for thing in sim.out if isinstance(thing, do.StopRecord | do.DropRecording)]
    assert orders == [do.StopRecord, do.DropRecording]
    sim.happen(ev.RecordingEnded(call, recording, "", 3))
    sim.press(call, PIN)
    assert sim.last(do.StartAction, call).sent["pin"] == PIN
    sim.hangs_up(call)
    assert call not in sim.center.calls
    assert len(sim.all(do.DropRecording)) == 1
    nowhere(sim)


def test_a_message_that_is_broken_off_so_is_sent_as_far_as_it_went() -> None:
    sim, call, recording = recorded(MESSAGE)
    sim.happen(ev.CallSteered(call, "pin", "desk"))
    assert (sim.last(do.StopRecord, call).recording, sim.all(do.DropRecording)) == (recording, [])
    sim.happen(ev.RecordingEnded(call, recording, "", 3))
    sim.press(call, PIN)
    sim.hangs_up(call)
    sim.wait(END_WITHIN + 0.1)
    sim.happen(ev.RecordingKept(call, sim.last(do.KeepRecording, call).request, 3.0))
    mail = sim.last(do.SendMail, call)
    assert mail.attachment == recording
    sim.happen(ev.MailSent(call, mail.request))
    assert [order.recording for order in sim.all(do.DropRecording)] == [recording]
    nowhere(sim)


class SecretMachine(CentreMachine):
    """The random life of a centre whose callers type what nobody may know."""

    def __init__(self) -> None:
        super().__init__()
        steps = {**FLOW_FILE["steps"], "ask": {**FLOW_FILE["steps"]["ask"], "sensitive": "true", "min_length": "2"}}
        program = Program.model_validate({**FLOW_FILE, "start": "ask", "steps": steps})
        self.sim = Sim(Book({"1": compile_program(program, QUEUES)}, QUEUES, AGENTS, max_calls=6))


def test_a_crash_at_any_moment_leaves_a_sensitive_input_as_sound_as_any() -> None:
    run_state_machine_as_test(
        SecretMachine,
        settings=settings(max_examples=EXAMPLES // 2, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)),
    )
