"""Each kind of step by example, on virtual time."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import AgentDef, QueueDef
from app.core.book import Book
from app.core.driving import REASK
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.core.flow.script import QUIET, longest
from app.pbx.reconcile import Found, Snapshot, reconcile
from tests.unit.centre import Sim

OUTPUTS = {"find": {"count": "int", "found": "bool", "name": "string", "email": "string", "skills": "map", "premium": "bool"}}
QUEUES = {"line": QueueDef("line", music="slow", ring=5, wrap_up=10, max_wait=60)}
AGENTS = {"ann": AgentDef("ann", "Ann", "ann", {"x": 5}, ("line",))}
COLLECT: dict[str, Any] = {
    "do": "collect",
    "into": "code",
    "prompt": "ask",
    "retry_no_match": "wrong",
    "retry_no_input": "silent",
    "length": "3",
    "first_key": "6",
    "between_keys": "4",
    "total": "10",
    "tries": "2",
    "exits": {"match": "matched", "no_match": "not_matched", "no_input": "nothing"},
}
MENU: dict[str, Any] = {
    "do": "menu",
    "prompt": "ask",
    "choices": {"1": "one", "#": "hash"},
    "retry_no_match": "wrong",
    "retry_no_input": "silent",
    "tries": "2",
    "exits": {"no_match": "not_matched", "no_input": "nothing"},
}
LOOKUP: dict[str, Any] = {
    "do": "lookup",
    "into": "contact",
    "action": "find",
    "with": {"phone": "{{ call.ani }}"},
    "ring": "0.6",
    "mask": "long",
    "exits": {"found": "found", "none": "none", "many": "many", "failed": "failed"},
}
QUEUE: dict[str, Any] = {
    "do": "queue",
    "queue": "line",
    "exits": {"talked": "talked", "no_agents": "nobody", "too_long": "long_wait", "failed": "failed"},
}
MAIL: dict[str, Any] = {
    "do": "email",
    "to": "{{ contact.email }}",
    "subject": "Hello {{ contact.name }}",
    "body": "Bye",
    "exits": {"sent": "sent", "failed": "failed"},
}
PROMPTS: dict[str, Any] = {
    "ask": "Three digits.",
    "wrong": "Wrong.",
    "silent": "Nothing heard.",
    "long": ["One.", "Two."],
}


def flow(steps: dict[str, Any], start: str = "first", **more: Any) -> Sim:
    """A centre with one flow. Every exit that has no step of its own leads to a hang-up under the exit's name."""
    groups = [step.get(group, {}) for step in steps.values() for group in ("exits", "choices", "cases")]
    targets = {target if isinstance(target, str) else target["to"] for group in groups for target in group.values()}
    ends = {name: {"do": "hangup"} for name in targets - set(steps)}
    looks_up = any(step["do"] == "lookup" for step in steps.values())
    content = {
        "flow": "test",
        "start": start,
        "on_error": "trouble",
        "prompts": {**PROMPTS, **({"named": "Hi {{ contact.name }}."} if looks_up else {}), "sorry": "Sorry.", **more.pop("prompts", {})},
        "steps": {**steps, **ends, "trouble": {"do": "say", "prompt": "sorry", "exits": {"done": "away"}}, "away": {"do": "release"}},
        "outputs": OUTPUTS,
        **more,
    }
    return Sim(Book({"1": compile_program(Program.model_validate(content), QUEUES)}, QUEUES, AGENTS))


def ring_in(sim: Sim, ani: str = "+4930123456", **more: Any) -> str:
    return sim.dial(ani, "1", **more)


def playing(sim: Sim, call: str) -> str:
    return str(sim.last(do.Play, call).media[0]).removeprefix("text:")


# ---- say ------------------------------------------------------------------------------------------------------------------


def test_say_answers_plays_and_goes_on_at_the_end() -> None:
    sim = flow({"first": {"do": "say", "prompt": "long", "exits": {"done": "end"}}})
    call = ring_in(sim)
    assert [type(thing) for thing in sim.out if isinstance(thing, do.Command)] == [do.Answer, do.Play]
    assert sim.last(do.Play, call).media == ("text:One.", "text:Two.")
    sim.press(call, "1")
    assert sim.at_step(call) == "first", "no barge-in unless the step allows it"
    sim.prompt_ends(call)
    assert sim.at_step(call) == "end"


def test_a_call_that_is_up_already_is_not_answered_again() -> None:
    sim = flow({"first": {"do": "say", "prompt": "ask", "exits": {"done": "end"}}})
    ring_in(sim, up=True)
    assert sim.all(do.Answer) == []


def test_a_key_barges_in_where_it_may_and_is_kept_for_the_next_step() -> None:
    sim = flow({"first": {"do": "say", "prompt": "long", "barge_in": "true", "exits": {"done": "menu"}}, "menu": MENU})
    call = ring_in(sim)
    sim.press(call, "1")
    assert sim.last(do.StopPlay, call).playback == sim.last(do.Play, call).playback
    assert sim.steps(call) == ["first", "menu", "one"], "the menu took the key without a word"


def test_said_once_is_not_said_again() -> None:
    step = {"do": "say", "prompt": "ask", "once": "true"}
    sim = flow({"first": {**step, "exits": {"done": "second"}}, "second": {**step, "exits": {"done": "end"}}})
    call = ring_in(sim)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "end"
    assert len(sim.all(do.Play)) == 1


def test_playback_that_never_ends_is_stopped_and_given_up() -> None:
    sim = flow({"first": {"do": "say", "prompt": "ask", "exits": {"done": "end"}}})
    call = ring_in(sim)
    play = sim.last(do.Play, call)
    sim.wait(longest(play.media) - 0.1)
    assert sim.at_step(call) == "first"
    sim.wait(0.2)
    assert sim.at_step(call) == "end"
    assert sim.last(do.StopPlay, call).playback == play.playback


def test_the_end_of_another_playback_is_not_this_ones() -> None:
    sim = flow({"first": {"do": "say", "prompt": "ask", "exits": {"done": "end"}}})
    call = ring_in(sim)
    sim.happen(ev.PlaybackEnded(call, f"{call}-pb99"))
    assert sim.at_step(call) == "first"


def test_a_prompt_whose_value_is_missing_takes_the_error_exit() -> None:
    sim = flow({"first": {"do": "say", "prompt": "named", "exits": {"done": "second"}}, "second": {**LOOKUP}})
    call = ring_in(sim)
    assert sim.at_step(call) == "trouble"
    assert playing(sim, call) == "Sorry."


# ---- collect --------------------------------------------------------------------------------------------------------------


def test_collect_takes_exactly_the_length() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.prompt_ends(call)
    sim.press(call, "27")
    assert sim.at_step(call) == "first"
    sim.press(call, "5")
    assert sim.at_step(call) == "matched"
    assert sim.center.calls[call].vars["vars.code"] == "275"


@pytest.mark.parametrize(
    ("keys", "timeout"),
    [("", 6.0), ("1", 4.0)],
    ids=["first key, from the end of the prompt", "between keys, from each key"],
)
def test_named_timeouts_of_collect(keys: str, timeout: float) -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.wait(4)
    sim.prompt_ends(call)
    sim.press(call, keys)
    sim.wait(timeout - 0.1)
    assert len(sim.all(do.Play, call)) == 1
    sim.wait(0.2)
    assert playing(sim, call) == ("Wrong." if keys else "Nothing heard.")


def test_total_timeout_of_collect_runs_from_the_end_of_the_prompt() -> None:
    sim = flow({"first": {**COLLECT, "length": "9"}})
    call = ring_in(sim)
    sim.prompt_ends(call)
    for _ in range(3):
        sim.wait(3)
        sim.press(call, "1")
    sim.wait(0.9)
    assert len(sim.all(do.Play, call)) == 1
    sim.wait(0.2)
    assert playing(sim, call) == "Wrong."


@pytest.mark.parametrize(("second_try", "exit_"), [("1#", "not_matched"), ("", "nothing")])
def test_the_last_failed_try_names_the_exit(second_try: str, exit_: str) -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.press(call, "1#")
    assert playing(sim, call) == "Wrong."
    sim.prompt_ends(call)
    sim.press(call, second_try)
    sim.wait(6.1)
    assert sim.at_step(call) == exit_


def test_the_first_key_barges_in_on_the_prompt() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.press(call, "1")
    assert len(sim.all(do.StopPlay, call)) == 1
    sim.press(call, "23")
    assert sim.at_step(call) == "matched"


def test_keys_typed_before_the_step_count_and_no_prompt_is_played() -> None:
    sim = flow({"first": {"do": "say", "prompt": "long", "exits": {"done": "second"}}, "second": COLLECT})
    call = ring_in(sim)
    sim.press(call, "123")
    sim.prompt_ends(call)
    assert sim.at_step(call) == "matched"
    assert len(sim.all(do.Play, call)) == 1


@pytest.mark.parametrize("ahead", [False, True], ids=["typed live", "typed ahead"])
def test_the_terminator_after_a_full_entry_is_swallowed(ahead: bool) -> None:
    say = {"do": "say", "prompt": "long"}
    steps = {
        "zero": {**say, "exits": {"done": "first"}},
        "first": {**COLLECT, "exits": {**COLLECT["exits"], "match": "menu"}},
        "menu": MENU,
    }
    sim = flow(steps, "zero" if ahead else "first")
    call = ring_in(sim)
    sim.press(call, "123#")
    if ahead:
        sim.prompt_ends(call)
    assert sim.at_step(call) == "menu"
    sim.press(call, "1")
    assert sim.at_step(call) == "one"


def test_a_terminator_long_after_a_full_entry_is_a_key_again() -> None:
    sim = flow({"first": {**COLLECT, "exits": {**COLLECT["exits"], "match": "menu"}}, "menu": MENU})
    call = ring_in(sim)
    sim.press(call, "123")
    sim.wait(3.1)
    sim.press(call, "#")
    assert sim.at_step(call) == "hash"


def test_an_early_terminator_is_no_match_and_one_before_any_key_is_nothing() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.prompt_ends(call)
    sim.press(call, "#")
    assert len(sim.all(do.Play, call)) == 1
    sim.press(call, "12#")
    assert playing(sim, call) == "Wrong."


def test_a_star_among_the_digits_is_no_match() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.press(call, "1*2")
    assert playing(sim, call) == "Wrong."


@pytest.mark.parametrize("key", ["A", "D", "x", "", "12", "²"])
def test_what_is_no_key_of_a_telephone_does_nothing_at_all(key: str) -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.happen(ev.DigitPressed(call, key))
    assert sim.all(do.StopPlay) == []
    sim.press(call, "123")
    assert sim.center.calls[call].vars["vars.code"] == "123"


def test_without_a_terminator_a_hash_is_a_wrong_key() -> None:
    sim = flow({"first": {**COLLECT, "terminator": ""}})
    call = ring_in(sim)
    sim.press(call, "1#2")
    assert playing(sim, call) == "Wrong."


# ---- menu -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "step"), [("1", "one"), ("#", "hash")])
def test_menu_goes_where_the_key_says(key: str, step: str) -> None:
    sim = flow({"first": MENU})
    call = ring_in(sim)
    sim.press(call, key)
    assert sim.at_step(call) == step


def test_menu_asks_again_and_then_leaves_by_the_last_reason() -> None:
    sim = flow({"first": MENU})
    call = ring_in(sim)
    sim.prompt_ends(call)
    sim.wait(6.1)
    assert playing(sim, call) == "Nothing heard."
    sim.press(call, "7")
    assert sim.at_step(call) == "not_matched"


# ---- lookup and action ------------------------------------------------------------------------------------------------------


def found(sim: Sim, call: str, **values: Any) -> None:
    sim.answer_action(call, {"count": 1, "found": True, "name": "Anna", "email": "anna@example.com", **values})


def test_an_answer_while_it_rings_leaves_the_call_unanswered() -> None:
    sim = flow({"first": LOOKUP})
    call = ring_in(sim)
    found(sim, call)
    assert sim.at_step(call) == "found"
    assert sim.all(do.Answer) == []


def test_the_mask_ends_at_a_phrase() -> None:
    sim = flow({"first": LOOKUP})
    call = ring_in(sim)
    sim.wait(0.6)
    assert playing(sim, call) == "One."
    found(sim, call)
    assert sim.at_step(call) == "first", "the phrase is finished first"
    sim.prompt_ends(call)
    assert sim.at_step(call) == "found"
    assert "Two." not in sim.heard(call)


def test_after_the_mask_there_is_music_until_the_answer() -> None:
    sim = flow({"first": LOOKUP})
    call = ring_in(sim)
    sim.wait(0.6)
    sim.prompt_ends(call)
    sim.prompt_ends(call)
    sim.wait(0.6)
    assert sim.all(do.StartMusic, call)
    assert sim.all(do.StopMusic, call) == []
    found(sim, call)
    assert sim.all(do.StopMusic, call)


@pytest.mark.parametrize(("count", "step"), [(0, "none"), (1, "found"), (2, "many"), (None, "failed"), ("many", "failed")])
def test_lookup_leaves_by_what_it_found(count: Any, step: str) -> None:
    sim = flow({"first": LOOKUP})
    call = ring_in(sim)
    sim.answer_action(call, {"count": count, "name": "Anna"})
    assert sim.at_step(call) == step
    assert sim.center.calls[call].vars["contact.found"] is (count == 1)
    assert ("contact.name" in sim.center.calls[call].vars) is (count == 1)


def test_of_two_records_nothing_is_mixed() -> None:
    sim = flow({"first": {**LOOKUP, "exits": {**LOOKUP["exits"], "found": "second"}}, "second": LOOKUP})
    call = ring_in(sim)
    found(sim, call)
    found(sim, call, name="Ben", email=None)
    assert sim.center.calls[call].vars["contact.name"] == "Ben"
    assert "contact.email" not in sim.center.calls[call].vars


def test_a_late_answer_is_never_applied_to_a_later_step() -> None:
    sim = flow(
        {
            "first": {**LOOKUP, "mask": None, "ring": "0", "exits": {**LOOKUP["exits"], "failed": "second"}},
            "second": {**LOOKUP, "ring": "0"},
        }
    )
    call = ring_in(sim)
    first = sim.last(do.StartAction, call).request
    sim.wait(2.6)
    assert sim.at_step(call) == "second"
    sim.happen(ev.ActionSucceeded(call, first, {"count": 1, "name": "Late"}))
    assert sim.at_step(call) == "second"
    assert "contact.name" not in sim.center.calls[call].vars


@pytest.mark.parametrize(("ani", "step"), [("anonymous", "none"), ("+4930123456", "first")])
def test_unless_spares_the_question(ani: str, step: str) -> None:
    sim = flow({"first": {**LOOKUP, "unless": "unknown"}}, conditions={"unknown": "!call.number_known"})
    call = ring_in(sim, ani)
    assert sim.at_step(call) == step


def test_a_condition_that_cannot_be_told_takes_failed_in_unless_too() -> None:
    sim = flow({"first": {**LOOKUP, "unless": "premium"}}, conditions={"premium": "contact.premium"})
    call = ring_in(sim)
    assert sim.at_step(call) == "failed"


def test_action_keeps_its_answer_or_leaves_by_failed() -> None:
    step = {"do": "action", "into": "contact", "action": "find", "with": {}, "exits": {"done": "done", "failed": "failed"}}
    sim = flow({"first": step})
    call = ring_in(sim)
    sim.answer_action(call, {"name": "Anna"})
    assert sim.center.calls[call].vars["contact.name"] == "Anna"
    call = ring_in(sim)
    sim.fail_action(call)
    assert sim.at_step(call) == "failed"


# ---- switch, set ---------------------------------------------------------------------------------------------------------------


def test_switch_takes_the_first_that_holds_and_an_error_is_never_false() -> None:
    step = {"do": "switch", "cases": {"premium": "gold", "known": "silver"}, "exits": {"otherwise": "other", "failed": "failed"}}
    conditions = {"premium": "contact.premium", "known": "call.number_known"}
    sim = flow({"look": {**LOOKUP, "exits": dict.fromkeys(LOOKUP["exits"], "first")}, "first": step}, "look", conditions=conditions)
    call = ring_in(sim)
    found(sim, call, premium=True)
    assert sim.at_step(call) == "gold"
    call = ring_in(sim)
    found(sim, call, premium=False)
    assert sim.at_step(call) == "silver"
    call = ring_in(sim, "anonymous")
    found(sim, call, premium=False)
    assert sim.at_step(call) == "other"
    call = ring_in(sim)
    found(sim, call)
    assert sim.at_step(call) == "failed"
    assert sim.last(facts.Noticed, call).what == "condition failed"


def test_what_other_systems_wrote_can_be_asked_and_said_and_nothing_else_can_be_written() -> None:
    steps = {
        "first": {"do": "say", "prompt": "ask", "exits": {"done": "check"}},
        "check": {"do": "switch", "cases": {"red": "set"}, "exits": {"otherwise": "other", "failed": "failed"}},
        "set": {"do": "set", "values": {"colour": "{{ ivr.colour }}!"}, "exits": {"done": "end"}},
    }
    sim = flow(steps, conditions={"red": "ivr.colour == 'red'"})
    call = ring_in(sim)
    sim.happen(ev.SessionWritten(call, {"ivr.colour": "red", "call.ani": "forged", "contact.found": True}))
    sim.prompt_ends(call)
    assert sim.at_step(call) == "end"
    assert sim.center.calls[call].vars["vars.colour"] == "red!"
    assert sim.center.calls[call].vars["call.ani"] == "+4930123456"
    assert "contact.found" not in sim.center.calls[call].vars


# ---- queue --------------------------------------------------------------------------------------------------------------------


def test_queue_waits_with_its_own_music_and_tells_how_it_ended() -> None:
    sim = flow({"first": QUEUE})
    sim.agent_is_ready("ann")
    sim.happen(ev.AgentBecameNotReady("ann"))
    call = ring_in(sim)
    assert sim.last(do.StartMusic, call).music == "slow"
    sim.wait(60.1)
    assert sim.at_step(call) == "long_wait"
    assert sim.all(do.StopMusic, call), "no music under what comes next"


def test_queue_without_anybody_signed_in_says_so_at_once() -> None:
    sim = flow({"first": QUEUE})
    call = ring_in(sim)
    assert sim.at_step(call) == "nobody"
    assert sim.all(do.StartMusic) == []


def test_callers_are_told_when_the_last_able_agent_goes_even_after_his_work() -> None:
    sim = flow({"first": QUEUE})
    sim.agent_is_ready("ann")
    served, waits = ring_in(sim), ring_in(sim)
    leg = sim.answers(served)
    sim.happen(ev.AgentSignedOut("ann"))
    assert sim.at_step(waits) == "first"
    sim.wait(1)
    sim.happen(ev.LegEnded(served, leg))
    sim.wait(10.1)
    assert sim.center.acd.state("ann")["presence"] == "signed_out"
    assert sim.at_step(waits) == "nobody"


def test_keys_pressed_while_waiting_and_talking_are_not_typed_ahead() -> None:
    sim = flow({"first": {**QUEUE, "exits": {**QUEUE["exits"], "talked": "menu"}}, "menu": MENU})
    sim.agent_is_ready("ann")
    call = ring_in(sim)
    sim.press(call, "1")
    leg = sim.answers(call)
    sim.press(call, "1")
    sim.wait(1)
    sim.happen(ev.LegEnded(call, leg))
    assert sim.at_step(call) == "menu"


@pytest.mark.parametrize("skills", [{"x": 99}, {"x": "many"}, {f"s{n}": 1 for n in range(6)}, {"x": None}])
def test_skills_that_nobody_can_have_take_the_failure_exit(skills: dict[str, Any]) -> None:
    steps = {"first": {**LOOKUP, "exits": dict.fromkeys(LOOKUP["exits"], "line")}, "line": {**QUEUE, "skills_from": "contact.skills"}}
    sim = flow(steps)
    sim.agent_is_ready("ann")
    call = ring_in(sim)
    found(sim, call, skills=skills)
    assert sim.at_step(call) == "failed"


def test_a_returning_caller_gets_his_queue_his_time_and_his_place_back() -> None:
    sim = flow({"first": {"do": "say", "prompt": "ask", "exits": {"done": "back"}}, "back": QUEUE}, returns="back")
    sim.agent_is_ready("ann")
    sim.happen(ev.AgentBecameNotReady("ann"))
    call = ring_in(sim, up=True, returning={"queue": "line", "first_enqueue": sim.now - 100, "priority": "front"})
    queued = sim.last(facts.Queued, call)
    assert (queued.queue, queued.first, queued.credit) == ("line", sim.now - 100, 3600.0)
    assert sim.heard(call) == ""
    other = ring_in(sim, up=True, returning={"queue": "no such queue"})
    assert sim.at_step(other) == "first"


# ---- email ----------------------------------------------------------------------------------------------------------------------


def mail() -> tuple[Sim, str]:
    sim = flow({"look": {**LOOKUP, "exits": dict.fromkeys(LOOKUP["exits"], "first")}, "first": MAIL}, "look")
    return sim, ring_in(sim)


def test_mail_is_sent_once_a_server_has_taken_it() -> None:
    sim, call = mail()
    found(sim, call)
    order = sim.last(do.SendMail, call)
    assert (order.to, order.subject, order.body) == ("anna@example.com", "Hello Anna", "Bye")
    sim.wait(0.6)
    assert sim.all(do.StartMusic, call)
    sim.happen(ev.MailSent(call, order.request))
    assert sim.at_step(call) == "sent"


@pytest.mark.parametrize("why", ["no address", "no name for the subject", "refused", "silence"])
def test_mail_that_is_not_sent_leaves_by_failed(why: str) -> None:
    sim, call = mail()
    found(sim, call, email="" if why == "no address" else "anna@example.com", name=None if why == "no name for the subject" else "Anna")
    if why == "refused":
        sim.happen(ev.MailFailed(call, sim.last(do.SendMail, call).request, "refused"))
    elif why == "silence":
        sim.wait(8.6)
    assert sim.at_step(call) == "failed"


def test_a_mail_that_was_taken_is_not_sent_again_after_a_crash() -> None:
    steps = {"look": {**LOOKUP, "exits": dict.fromkeys(LOOKUP["exits"], "first")}, "first": {**MAIL, "mask": "ask"}}
    sim = flow(steps, "look")
    call = ring_in(sim)
    found(sim, call)
    sim.happen(ev.MailSent(call, sim.last(do.SendMail, call).request))
    assert sim.at_step(call) == "first", "the phrase is still being spoken"
    sim.crash()
    assert len(sim.all(do.SendMail, call)) == 1
    sim.wait(3)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "sent"


# ---- the end, and errors ----------------------------------------------------------------------------------------------------------


def test_release_and_hangup_end_the_flow() -> None:
    sim = flow({"first": {"do": "release", "context": "callwright-elsewhere"}})
    call = ring_in(sim)
    assert sim.last(do.Release, call).context == "callwright-elsewhere"
    sim.hangs_up(call)
    assert sim.ending(call) == "released"
    sim = flow({"first": {"do": "hangup"}})
    call = ring_in(sim)
    sim.hangs_up(call)
    assert sim.ending(call) == "self_service"


def test_at_most_two_hundred_steps_a_call_and_still_an_apology() -> None:
    step = {"do": "set", "values": {"x": "y"}}
    sim = flow({"first": {**step, "exits": {"done": "second"}}, "second": {**step, "exits": {"done": "first"}}})
    call = ring_in(sim)
    assert len([s for s in sim.steps(call) if s != "trouble"]) == 200
    assert sim.at_step(call) == "trouble"
    sim.prompt_ends(call)
    assert sim.all(do.Release, call)


def test_a_queue_step_that_leads_back_to_itself_ends_too() -> None:
    sim = flow({"first": {**QUEUE, "exits": dict.fromkeys(QUEUE["exits"], "first")}})
    call = ring_in(sim)
    assert sim.at_step(call) == "trouble"


def test_an_error_in_the_error_exit_releases_the_caller_for_good() -> None:
    say = {"do": "say", "prompt": "named"}
    sim = flow(
        {"first": {**say, "exits": {"done": "second"}}, "second": LOOKUP, "worse": {**say, "exits": {"done": "end"}}}, on_error="worse"
    )
    call = ring_in(sim)
    assert sim.steps(call) == ["first", "worse"]
    assert [release.variables for release in sim.all(do.Release, call)] == [do.FOR_GOOD]
    sim.hangs_up(call)
    assert sim.ending(call) == "released"


def test_an_exception_in_a_step_goes_to_that_calls_error_exit_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    sim = flow({"first": {"do": "say", "prompt": "ask", "exits": {"done": "boom"}}, "boom": MENU})
    other, call = ring_in(sim), ring_in(sim)

    def broken(*_: Any) -> Any:
        raise RuntimeError("a mistake of ours")
        yield

    monkeypatch.setitem(__import__("app.core.flow.steps", fromlist=["STEPS"]).STEPS, "menu", broken)
    sim.prompt_ends(call)
    assert sim.at_step(call) == "trouble"
    assert sim.at_step(other) == "first"
    assert "a mistake of ours" in sim.last(facts.Noticed, call).detail


# ---- crashes inside a step ---------------------------------------------------------------------------------------------------------


def test_a_barged_in_prompt_is_not_played_again_after_a_crash() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.press(call, "1")
    sim.crash()
    plays = len(sim.all(do.Play, call))
    sim.prompt_ends(call)
    assert len(sim.all(do.Play, call)) == plays
    sim.press(call, "23")
    assert sim.at_step(call) == "matched"


def test_a_prompt_whose_stop_died_with_the_process_is_stopped_when_it_is_found_playing() -> None:
    sim = flow({"first": COLLECT})
    call = ring_in(sim)
    sim.press(call, "1")
    sim.crash()
    playback = sim.last(do.Play, call).playback
    sim.happen(ev.CallFound(call, True, playbacks=(playback,)))
    assert [stop.playback for stop in sim.all(do.StopPlay, call)] == [playback, playback]


@pytest.mark.parametrize(("alive", "heard"), [(0.0, False), (0.9, False), (1.1, True)])
@pytest.mark.parametrize("away", [0.1, 30.0])
def test_a_prompt_that_never_went_out_is_played_however_long_nobody_was_there(alive: float, heard: bool, away: float) -> None:
    """What was ordered in the last moment of a process, and is not found, was not heard; later it was, to its end by now."""
    sim = flow({"first": COLLECT}, prompts={"ask": "sound:long"})
    call = ring_in(sim)
    sim.wait(alive)
    sim.crash(away)
    for event in reconcile(sim.center.live_calls(), Snapshot(channels={f"channel-{call}": Found("Up", True)})):
        sim.happen(event)
    first, *again = sim.all(do.Play, call)
    assert again == ([] if heard else [first])
    sim.wait(1.0)
    assert sim.all(do.StopPlay, call) == [], "there is time to hear it"
    sim.prompt_ends(call)
    sim.wait(4.9)
    sim.press(call, "123")
    assert sim.at_step(call) == "matched"


def test_two_crashes_in_one_lookup_leave_time_for_an_answer_each() -> None:
    sim = flow({"first": {**LOOKUP, "mask": None}})
    call = ring_in(sim)
    for _ in range(2):
        sim.wait(2.4)
        sim.crash()
    sim.wait(2.4)
    assert len(sim.all(do.StartAction, call)) == 3
    found(sim, call)
    assert sim.at_step(call) == "found"


ASKING: dict[str, dict[str, Any]] = {
    "lookup": {**LOOKUP, "mask": None, "ring": "0"},
    "lookup while it rings": {**LOOKUP, "mask": None},
    "mail": {**MAIL, "to": "ann@example.com", "subject": "Hello", "budget": "2.5"},
}


@pytest.mark.parametrize("asked", ASKING)
@pytest.mark.parametrize("alive", [0.0, 0.3, 0.55, 0.9, 2.4])
@pytest.mark.parametrize("away", [0.05, 0.9, 4.0])
def test_caller_hears_music_soon_after_a_take_over_while_the_request_is_asked_again(asked: str, alive: float, away: float) -> None:
    sim = flow({"first": ASKING[asked]})
    call = ring_in(sim)
    sim.wait(alive)
    sim.now += away
    sim.crash()
    sim.happen(ev.CallFound(call, bool(sim.all(do.Answer, call))))
    began = sim.now
    assert longest_silence(sim, call, "first") <= QUIET + 0.1
    assert sim.at_step(call) == "failed"
    assert sim.now - began >= REASK, "time for an answer"


def longest_silence(sim: Sim, call: str, step: str) -> float:
    """Seconds, from now until the call leaves the step; a phone that still rings is no silence."""
    longest_so_far = silent = 0.0
    while sim.at_step(call) == step:
        sim.wait(0.05)
        music = [thing for thing in sim.out if isinstance(thing, do.StartMusic | do.StopMusic)]
        sounds = (music and isinstance(music[-1], do.StartMusic)) or not sim.all(do.Answer, call)
        silent = 0.0 if sounds else silent + 0.05
        longest_so_far = max(longest_so_far, silent)
    return longest_so_far
