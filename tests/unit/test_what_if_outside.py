"""Calls under another version where the flow reaches beyond the conversation: transfers, callbacks, bots, recordings, sensitive inputs."""

from __future__ import annotations

from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core.flow.what_if import WhatIf
from tests.unit import test_bot_step as bots
from tests.unit import test_callbacks as callbacks
from tests.unit.centre import Sim
from tests.unit.test_outside_steps import OUT, RECORD, REVIEWED, SMS, TO_BOB, VOICEMAIL, ends, flow, recording, shelved
from tests.unit.test_secret_input import PIN, asking
from tests.unit.test_what_if_language import Change, exits, is_same, judged


def step(name: str = "first", **values: Any) -> Change:
    return lambda flow: flow["steps"][name].update(values)


def open_from(result: WhatIf, step: str) -> str:
    assert (result.verdict, result.step) == ("undetermined", step), result
    return result.undetermined


# ---- transfers --------------------------------------------------------------------------------------------------------------


def put_through(how: dict[str, Any], answered: float | None = 4.0, ended: float = 20.0, cause: int = 16) -> tuple[Sim, str]:
    sim = flow(how)
    sim.agent_is_ready("bob")
    call = sim.dial(dnis="1")
    leg = sim.last(do.RingAgent if "agent" in how else do.RingOutside, call).leg
    if answered is not None:
        sim.wait(answered)
        sim.happen(ev.LegAnswered(call, leg))
    sim.wait(ended)
    sim.happen(ev.LegEnded(call, leg, cause))
    sim.wait(2.0)
    if sim.at_step(call) != "bye":
        sim.prompt_ends(call)
    sim.hangs_up(call)
    return sim, call


@pytest.mark.parametrize("how", [OUT, TO_BOB])
def test_a_transfer_serves_the_same_number_or_agent_and_no_other(how: dict[str, Any]) -> None:
    sim, call = put_through(how)
    is_same(sim, call)
    elsewhere = judged(sim, call, exits("first", talked="busy"))
    assert elsewhere.other_way[:2] == [("first", "talked"), ("busy", "done")]
    assert elsewhere.end[0] == elsewhere.other_end[0] == "transferred"
    other = {"to": "+49301"} if "to" in how else {"agent": "ann"}
    why = open_from(judged(sim, call, step(**other)), "first")
    assert why == "nobody was put through there"


def test_a_shorter_time_to_ring_ends_a_transfer_and_a_longer_one_is_not_known() -> None:
    sim, call = put_through({**OUT, "ring": "15"}, answered=10.0)
    assert judged(sim, call, step(ring=5.0)).other_way[0] == ("first", "no_answer")
    assert judged(sim, call, step(ring=60.0)).verdict == "same way"
    sim, call = put_through({**OUT, "ring": "15"}, answered=None, ended=15.1, cause=19)
    is_same(sim, call)
    assert judged(sim, call, step(ring=5.0)).verdict == "same way"
    assert "did not ring for longer than 15 s" in open_from(judged(sim, call, step(ring=60.0)), "first")
    sim, call = put_through({**OUT, "ring": "15"}, answered=None, ended=2.0, cause=17)
    assert judged(sim, call, step(ring=60.0)).verdict == "same way", "a busy telephone does not ring"


def test_who_could_not_be_put_through_cannot_be_here_either() -> None:
    sim = flow(TO_BOB)
    call = sim.dial(dnis="1")
    sim.hangs_up(call)
    is_same(sim, call)


@pytest.mark.parametrize("talking", [False, True])
def test_a_caller_who_left_a_transfer_does_so_again(talking: bool) -> None:
    sim = flow(OUT)
    call = sim.dial(dnis="1")
    if talking:
        sim.happen(ev.LegAnswered(call, sim.last(do.RingOutside, call).leg))
    sim.wait(5.0)
    sim.press(call, "1")
    sim.hangs_up(call)
    is_same(sim, call)
    assert judged(sim, call).other_end[0] == ("transferred" if talking else "hung_up")


def test_a_text_message_serves_the_same_number() -> None:
    sim = flow(SMS)
    call = sim.dial(dnis="1", name="Ada")
    sim.wait(1.0)
    sim.happen(ev.SmsSent(call, sim.last(do.SendSms, call).request))
    sim.hangs_up(call)
    is_same(sim, call)
    assert "text message" in open_from(judged(sim, call, step(to="+49301")), "first")


# ---- callbacks --------------------------------------------------------------------------------------------------------------


def offered(keys: str) -> tuple[Sim, str]:
    sim = callbacks.centre()
    call = sim.dial(ani=callbacks.NUMBER, dnis="1")
    for key in keys:
        sim.wait(1.0)
        sim.press(call, key)
    sim.wait(1.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    return sim, call


@pytest.mark.parametrize(("keys", "end"), [("1", "booked"), ("2", "self_service"), ("91", "booked")])
def test_a_callback_is_served_by_its_keys_and_booked_by_the_rules(keys: str, end: str) -> None:
    sim, call = offered(keys)
    is_same(sim, call)
    assert judged(sim, call).other_end[0] == end
    other = judged(sim, call, step("call", yes="2", no="1"))
    assert other.other_end[0] == ("self_service" if end == "booked" else "booked")
    assert judged(sim, call, step("call", number="+49900555")).other_way[0] == ("call", "failed"), "no number that may be dialled"
    assert "'callback other'" in open_from(judged(sim, call, under_another_name("call", "other")), "other")


def under_another_name(old: str, new: str) -> Change:
    def change(flow: dict[str, Any]) -> None:
        flow["steps"][new] = flow["steps"][old]
        flow["start"] = new if flow["start"] == old else flow["start"]

    return change


def test_who_is_called_back_by_an_agent_is_judged_by_the_first_call_alone() -> None:
    sim = callbacks.centre()
    call = callbacks.dialled(sim)
    sim.happen(ev.LegAnswered(call, callbacks.customer(sim, call)))
    sim.wait(5.0)
    sim.happen(ev.LegEnded(call, callbacks.customer(sim, call), 16))
    is_same(sim, call)


# ---- bots -------------------------------------------------------------------------------------------------------------------


def talked(how: str, **changed: Any) -> tuple[Sim, str]:
    sim = bots.centre(**changed)
    call = sim.dial(dnis="1")
    request = sim.last(do.StartBot, call).request
    sim.wait(0.5)
    if how == "not there":
        sim.happen(ev.BotEnded(call, request, "failed", "unreachable"))
    else:
        sim.happen(ev.BotBegan(call, request))
        sim.wait(3.0)
        sim.press(call, "5")
        sim.happen(ev.SessionWritten(call, {"ivr.colour": "red"}, by="bot helper"))
        sim.wait(70.0 if how == "hung" else 3.0)
    if how in ("agent", "done"):
        sim.happen(ev.BotEnded(call, request, how))
    if how != "hung up":
        sim.wait(1.0)
        sim.prompt_ends(call)
    if call in sim.center.calls:
        sim.hangs_up(call)
    return sim, call


@pytest.mark.parametrize("how", ["done", "agent", "not there", "hung", "hung up"])
def test_a_bot_that_is_told_the_same_does_the_same(how: str) -> None:
    sim, call = talked(how)
    is_same(sim, call)
    before = judged(
        sim,
        call,
        lambda flow: (flow["steps"].update(zero={"do": "say", "prompt": "hello", "exits": {"done": "first"}}), flow.update(start="zero")),
    )
    assert before.other_way[1:] == before.way
    if how != "not there":
        assert "told something else" in open_from(judged(sim, call, step(parameters={"number": "7"})), "first")
    assert "'other'" in open_from(judged(sim, call, step(bot="other")), "first")


def test_what_a_bot_writes_comes_with_its_talk() -> None:
    sim, call = talked("done")
    steps = {"do": "wait_for", "variable": "ivr.colour", "max_wait": 5.0, "exits": {"set": "first", "too_long": "first"}}
    result = judged(sim, call, lambda flow: (flow["steps"].update(zero=steps), flow.update(start="zero")))
    assert result.other_way[:2] == [("zero", "too_long"), ("first", "done")]


def test_a_bot_has_less_time_and_more_is_not_known() -> None:
    sim, call = talked("hung")
    assert "after 60 s then" in open_from(judged(sim, call, step(max_seconds=90.0)), "first")
    sim, call = talked("done")
    assert judged(sim, call, step(max_seconds=90.0)).verdict == "same way"
    assert judged(sim, call, step(max_seconds=5.0)).other_way[0] == ("first", "hung")


# ---- recordings and messages ------------------------------------------------------------------------------------------------


def left(how: dict[str, Any], voiced: float = 2.0, keys: str = "") -> tuple[Sim, str]:
    sim = flow(how)
    call, _ = recording(sim)
    sim.press(call, "12")
    sim.wait(6.0)
    ends(sim, call, voiced)
    for key in keys:
        sim.wait(1.0)
        sim.press(call, key)
        if key == "1":
            sim.prompt_ends(call)
        if key == "2":
            sim.wait(4.0)
            ends(sim, call)
    if how["do"] == "voicemail" and voiced > 1.0:
        sim.wait(1.0)
        sim.happen(ev.MailSent(call, sim.last(do.SendMail, call).request))
    sim.wait(1.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    return sim, call


@pytest.mark.parametrize(
    ("how", "voiced", "keys", "exit_"),
    [
        (RECORD, 2.0, "", "recorded"),
        (RECORD, 0.1, "", "nothing"),
        (VOICEMAIL, 2.0, "", "left"),
        (VOICEMAIL, 0.1, "", "nothing"),
        (REVIEWED, 2.0, "3", "left"),
        (REVIEWED, 2.0, "13", "left"),
        (REVIEWED, 2.0, "23", "left"),
    ],
)
def test_a_recording_serves_the_input_of_its_name_with_the_same_limits(how: dict[str, Any], voiced: float, keys: str, exit_: str) -> None:
    sim, call = left(how, voiced, keys)
    is_same(sim, call)
    result = judged(sim, call, exits("first", **{exit_: "broken"}))
    assert result.other_way[:2] == [("first", exit_), ("broken", "done")]
    assert "not with these limits" in open_from(judged(sim, call, step(silence=9)), "first")


def test_another_address_is_not_known_to_have_taken_the_message() -> None:
    sim, call = left(VOICEMAIL)
    assert "no mail went" in open_from(judged(sim, call, step(to="day@example.com")), "first")


def test_who_hung_up_while_being_recorded_does_so_again() -> None:
    sim = flow(VOICEMAIL)
    call, name = recording(sim)
    sim.wait(6.0)
    sim.hangs_up(call)
    sim.happen(ev.RecordingEnded(call, name, "", 6))
    shelved(sim, call, 5.0)
    sim.happen(ev.MailSent(call, sim.last(do.SendMail, call).request))
    is_same(sim, call)
    assert judged(sim, call).other_end[0] == "self_service"


# ---- sensitive inputs -------------------------------------------------------------------------------------------------------


def typed(*pins: str, **more: Any) -> tuple[Sim, str]:
    """A caller whose last PIN is right; the others are not, and are asked for once more."""
    sim, call = asking(**{"tries": "2", "exits": {"match": "check", "no_match": "sorry", "no_input": "sorry"}, **more})
    for pin in pins:
        sim.wait(1.0)
        sim.press(call, pin)
    sim.answer_action(call, {"name": "Anna"})
    sim.wait(1.0)
    sim.prompt_ends(call)
    sim.fail_action(call)
    sim.wait(1.0)
    sim.hangs_up(call)
    return sim, call


def test_an_entry_that_nobody_knows_serves_the_input_of_its_name() -> None:
    sim, call = typed("73*1", PIN)
    is_same(sim, call)
    result = judged(sim, call, exits("first", match="sorry"))
    assert (result.other_way[0], result.other_way[1][0]) == (("first", "match"), "sorry")
    assert judged(sim, call, step(tries=1)).other_way[0] == ("first", "no_match")
    code = step("first", into="code"), *(step(name, parameters={"pin": "{{ vars.code }}"}) for name in ("check", "again"))
    assert "'input code'" in open_from(judged(sim, call, lambda flow: [change(flow) for change in code]), "first")


@pytest.mark.parametrize("values", [{"length": 5}, {"pattern": "[1-6]+"}, {"terminator": "*"}, {"between_keys": 1.0}, {"sensitive": False}])
def test_another_entry_is_never_guessed_at(values: dict[str, Any]) -> None:
    sim, call = typed(PIN)
    assert "entries are other ones here" in open_from(judged(sim, call, step(**values)), "first")


def test_an_action_that_gets_it_is_served_only_after_the_same_entries() -> None:
    sim, call = typed(PIN)
    is_same(sim, call)
    again = {"do": "set", "values": {"pin": "9{{ vars.pin }}"}, "exits": {"done": "check"}}
    made = judged(sim, call, lambda flow: (flow["steps"].update(more=again), flow["steps"]["first"]["exits"].update(match="more")))
    assert "not asked with these parameters" in open_from(made, "check")
    twice = judged(
        sim,
        call,
        lambda flow: (
            flow["steps"].update(second={**flow["steps"]["first"], "into": "pin2"}),
            flow["steps"]["first"]["exits"].update(match="second"),
        ),
    )
    assert "'input pin2'" in open_from(twice, "second")
