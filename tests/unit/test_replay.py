"""Recorded calls run again: identical where nothing was touched, told where something was, and under other versions never guessed."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import typer

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.defined import Kept, Unknown, plain_program, read_program, read_staff
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.program import Program
from app.core.flow.replay import Replayed, replay_call
from app.core.flow.what_if import WhatIf, what_if
from app.core.recorded import Row
from app.core.replay_centre import replay_centre
from app.replay_cli import moment
from app.replaying import call_told, difference_told, told, what_if_told
from tests.unit import centre
from tests.unit.centre import ANNA, BEN, SIMS, Sim
from tests.unit.test_center_machine import small_book

book = functools.cache(centre.book)
ROOT = Path(__file__).parents[2]
ELSEWHERE = """
import json, sys
from app.core.defined import Kept
from app.core.flow.replay import replay_call
from app.core.replay_centre import replay_centre
rows, kept = json.load(open(sys.argv[1]))
print(replay_centre(rows, Kept(kept)).identical)
for call in dict.fromkeys(row[1] for row in rows if row[1]):
    print(replay_call(call, [row for row in rows if row[1] in ("", call)], Kept(kept)).identical)
"""
LINK = {"url": "https://example.com/o/1"}


def rows_of(sim: Sim, call: str) -> list[Row]:
    return [row for row in deepcopy(sim.rows) if row[1] in ("", call)]


def again(sim: Sim, call: str) -> Replayed:
    return replay_call(call, rows_of(sim, call), sim.what_ran())


def under(sim: Sim, call: str, other: Compiled) -> WhatIf:
    return what_if(again(sim, call), rows_of(sim, call), other, sim.what_ran())


def changed(change: Callable[[dict[str, Any]], Any]) -> Compiled:
    """The hotline's flow with a change."""
    plain = plain_program(book().flows["1000"].program)
    change(plain)
    return compile_program(Program.model_validate(plain), book().queues)


def premium_call(sim: Sim, wait: float = 20.0) -> str:
    """Greeted, queued for a while, talked to, and over."""
    sim.happen(ev.AgentPhoneChanged("101", True))
    sim.happen(ev.AgentSignedIn("101"))
    call = sim.dial()
    sim.wait(0.2)
    sim.answer_action(call, ANNA)
    for _ in range(2):
        sim.wait(3.0)
        sim.prompt_ends(call)
    sim.wait(wait)
    sim.happen(ev.AgentBecameReady("101"))
    sim.wait(2.0)
    leg = sim.answers(call)
    sim.wait(40.0)
    sim.happen(ev.LegEnded(call, leg))
    sim.hangs_up(call)
    sim.wait(60.0)
    return call


def mailed_call(sim: Sim) -> str:
    """Not premium: a mail with a link, and goodbye."""
    call = sim.dial()
    sim.answer_action(call, BEN)
    for _ in range(2):
        sim.wait(3.0)
        sim.prompt_ends(call)
    sim.answer_action(call, LINK)
    sim.wait(0.1)
    sim.happen(ev.MailSent(call, sim.last(do.SendMail, call).request))
    sim.wait(4.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    return call


def offered_call(sim: Sim, key: str) -> str:
    """Not premium and without a mail address: a choice by key, made after the prompt."""
    call = sim.dial()
    sim.answer_action(call, {**BEN, "email": ""})
    for _ in range(2):
        sim.wait(3.0)
        sim.prompt_ends(call)
    if key:
        sim.wait(1.5)
        sim.press(call, key)
        sim.wait(2.0)
        sim.prompt_ends(call)
        sim.hangs_up(call)
    return call


def reference_call(sim: Sim, reference: str = "2722541") -> str:
    """Unknown by number; the reference is typed while it is asked for, its terminator after it, and finds a premium customer."""
    call = sim.dial("anonymous")
    sim.wait(1.0)
    for key in f"{reference}#":
        sim.press(call, key)
        sim.wait(0.4)
    sim.answer_action(call, BEN)
    sim.wait(3.0)
    sim.prompt_ends(call)
    sim.answer_action(call, LINK)
    sim.happen(ev.MailSent(call, sim.last(do.SendMail, call).request))
    sim.wait(4.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    return call


# ---- the same again ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [premium_call, mailed_call, reference_call])
def test_a_call_comes_out_the_same_with_every_step_exit_command_and_deadline(way: Callable[[Sim], str]) -> None:
    sim = Sim(book())
    call = way(sim)
    result = again(sim, call)
    assert result.identical
    assert result.replayed == result.recorded
    assert [values["step"] for _, name, values, _ in result.replayed if name == "StepEntered"] == sim.steps(call)
    assert (result.flow, result.version) == ("order-status", book().flows["1000"].version)
    assert replay_centre(sim.rows, sim.what_ran()).identical


def test_a_call_with_crashes_in_it_comes_out_the_same() -> None:
    sim = Sim(book())
    call = sim.dial("anonymous")
    sim.press(call, "272")
    sim.crash()
    sim.wait(3.0)
    sim.happen(ev.CallFound(call, up=True))
    sim.press(call, "2541")
    sim.crash()
    sim.answer_action(call, BEN)
    sim.hangs_up(call)
    result = again(sim, call)
    assert result.identical
    assert sum(record[1] == "TakenOver" for record in result.replayed) == 2
    whole = replay_centre(sim.rows, sim.what_ran())
    assert whole.identical
    assert (whole.calls, whole.takeovers) == (1, 3)


def other_exit(records: list[Any]) -> None:
    next(r for r in records if r[1] == "StepLeft")[2]["exit"] = "none"


def no_command(records: list[Any]) -> None:
    records.remove(next(r for r in records if r[1] == "Play"))


def one_more(records: list[Any]) -> None:
    n = next(n for n, r in enumerate(records) if r[1] == "Play")
    records.insert(n, deepcopy(records[n]))


def other_words(records: list[Any]) -> None:
    next(r for r in records if r[1] == "Play")[2]["media"] = ["text:Hello Bert."]


def later(records: list[Any]) -> None:
    next(r for r in records if r[1] == "Queued")[3] += 1.0


@pytest.mark.parametrize("tamper", [other_exit, no_command, one_more, other_words, later])
def test_what_is_not_as_it_was_is_told_where_it_first_is(tamper: Callable[[list[Any]], None]) -> None:
    sim = Sim(book())
    call = premium_call(sim)
    name = "Queued" if tamper is later else "StepLeft" if tamper is other_exit else "Play"
    n = next(n for n, (_, whose, records) in enumerate(sim.rows) if whose == call and any(r[1] == name for r in records))
    untouched = deepcopy(sim.rows)
    tamper(sim.rows[n][2])
    for difference in (again(sim, call).difference, replay_centre(sim.rows, sim.what_ran()).difference):
        assert difference is not None
        assert difference.seq == sim.rows[n][0]
        assert name in difference_told(difference)
    sim.rows = untouched


def test_a_deadline_that_passed_before_it_was_due_is_a_difference() -> None:
    sim = Sim(book())
    call = offered_call(sim, "")
    sim.wait(7.0)
    n = next(n for n, row in enumerate(sim.rows) if row[2][0][1] == "TimerFired" and row[2][0][2]["owner"] == call)
    untouched = deepcopy(sim.rows)
    for record in sim.rows[n][2]:
        record[3] -= 0.5
    difference = again(sim, call).difference
    assert difference is not None
    assert "0.500 s earlier" in difference_told(difference)
    sim.rows = untouched


def test_what_the_acd_decided_is_decided_again_by_the_whole_centre_alone() -> None:
    """An offer to another agent than recorded is the ACD's affair: the call alone takes it as it is, the centre does not."""
    sim = Sim(book())
    call = premium_call(sim)
    text = json.dumps(sim.rows).replace('"agent": "101"', '"agent": "102"')
    alone = replay_call(call, [row for row in json.loads(text) if row[1] in ("", call)], Kept(sim.kept))
    assert alone.difference is None or "RingAgent" in difference_told(alone.difference)
    offered = next(row for row in deepcopy(sim.rows) if any(r[1] == "Offered" for r in row[2]))
    rows = [row if row[0] != offered[0] else offered for row in sim.rows]
    next(r for r in offered[2] if r[1] == "Offered")[2]["agent"] = "102"
    difference = replay_centre(rows, Kept(sim.kept)).difference
    assert difference is not None
    assert difference_told(difference) == "Offered 102 then, Offered 101 now"


def test_another_process_replays_it_though_its_hashes_are_others(tmp_path: Path) -> None:
    """Agents who decline, callers of two queues, crashes: the order of nothing hangs on the order of a set."""
    sim = Sim(small_book())
    for agent in ("ann", "bob", "cy", "dee"):
        sim.agent_is_ready(agent)
    calls = [sim.dial(dnis="1") for _ in range(5)]
    for n, call in enumerate(calls):
        sim.answer_action(call, {"count": n % 2, "premium": True, "name": "Anna", "skills": {"x": 1}})
        sim.wait(0.5)
    sim.wait(40.0)
    for _ in range(6):
        for live in list(sim.center.calls.values()):
            if live.offer and live.phase == "offered":
                sim.happen(ev.AgentRejected(live.offer.agent, live.id))
        sim.crash()
        sim.wait(11.0)
    for call in calls:
        sim.hangs_up(call)
    assert len(sim.all(facts.OfferEnded)) > 3
    file = tmp_path / "recorded.json"
    file.write_text(json.dumps([sim.rows, sim.kept]))
    environment = {**os.environ, "PYTHONHASHSEED": "1" if os.environ.get("PYTHONHASHSEED") != "1" else "2"}
    command = [sys.executable, "-c", ELSEWHERE, str(file)]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["True", *["True"] * 5]


# ---- what cannot be known ---------------------------------------------------------------------------------------------------


def test_what_is_missing_is_said() -> None:
    sim = Sim(book())
    call = mailed_call(sim)
    rows = rows_of(sim, call)
    version = book().flows["1000"].version
    without = {key: value for key, value in sim.kept.items() if key != version}
    assert replay_call(call, rows, Kept(without)).unknown == f"version {version} of flow 'order-status' was not kept"
    assert replay_call(call, rows, Kept({key: value for key, value in sim.kept.items() if value[0]})).unknown.startswith(
        "queues and agents"
    )
    own = next(n for n, row in enumerate(rows) if row[1] == call)
    assert replay_call(call, rows[own + 1 :], Kept(sim.kept)).unknown == "its beginning is not in the journal"
    rows[own][2][1][2].pop("staff")
    assert "before queues and agents were kept" in replay_call(call, rows, Kept(sim.kept)).unknown
    rows[own][2][0][1] = "CallFlewIn"
    assert "CallFlewIn" in replay_call(call, rows, Kept(sim.kept)).unknown


def test_the_centre_says_which_rows_are_not_there() -> None:
    sim = Sim(book())
    mailed_call(sim)
    n = len(sim.rows) // 2
    assert (
        f"rows {n + 1} to {n + 2} of the journal are not there" in replay_centre(sim.rows[:n] + sim.rows[n + 2 :], Kept(sim.kept)).unknown
    )
    assert "does not begin where a process began" in replay_centre(sim.rows[1:], Kept(sim.kept)).unknown


def test_what_was_run_comes_back_under_the_version_it_had() -> None:
    hotline = book().flows["1000"]
    kept = json.loads(json.dumps(plain_program(hotline.program)))
    assert read_program(kept, hotline.version).program == hotline.program
    assert read_program({**kept, "title": "as a newer model reads it"}, hotline.version).version == hotline.version
    sim = Sim(book())
    staff = read_staff(json.loads(json.dumps(sim.kept[sim.book.staff][1])))
    assert staff == (dict(sim.book.queues), dict(sim.book.agents), sim.book.transfers)
    with pytest.raises(Unknown, match="cannot be run any more"):
        Kept({"abc": ("order-status", {"flow": "order-status", "steps": {}})}).flow("order-status", "abc")


# ---- under another version --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [premium_call, mailed_call, reference_call, lambda sim: offered_call(sim, "2")])
def test_under_its_own_version_a_call_takes_the_same_way(way: Callable[[Sim], str]) -> None:
    sim = Sim(book())
    result = under(sim, way(sim), book().flows["1000"])
    assert result.verdict == "same way", result
    assert result.way == result.other_way


def test_other_words_alone_change_nothing() -> None:
    sim = Sim(book())
    call = premium_call(sim)
    result = under(
        sim,
        call,
        changed(lambda flow: flow["prompts"]["hello"]["by_language"].update(en=["Good morning to you, {{ contact.first_name }}."])),
    )
    assert result.verdict == "same way"


def test_another_way_to_the_same_end_is_told_apart() -> None:
    sim = Sim(book())
    call = premium_call(sim)
    result = under(sim, call, changed(lambda flow: flow["steps"]["late_or_greet"]["exits"].update(otherwise="premium_check")))
    assert (result.verdict, result.differs) == ("same end", 2)
    assert what_if_told(result)["differs_at"] == {"step": 3, "then": "greet by done", "now": "premium_check by case premium"}


def test_a_key_that_means_something_else_ends_elsewhere() -> None:
    sim = Sim(book())
    call = offered_call(sim, "2")
    result = under(sim, call, changed(lambda flow: flow["steps"]["offer_agent"]["choices"].update({"2": "nobody_free"})))
    assert result.verdict == "other end"
    assert (result.end[0], result.other_end[0]) == ("self_service", "released")
    assert result.differs is not None
    assert result.other_way[result.differs][0] == "nobody_free"


def longer(flow: dict[str, Any]) -> None:
    flow["steps"]["ask_reference"]["length"] = 9


def other_input(flow: dict[str, Any]) -> None:
    flow["steps"]["ask_reference"]["into"] = "order"
    flow["steps"]["look_up_reference"]["parameters"] = {"digits": "{{ vars.order }}"}
    flow["steps"]["general_queue"]["attach"] = {}


def other_parameters(flow: dict[str, Any]) -> None:
    flow["steps"]["look_up_reference"]["parameters"] = {"digits": "7{{ vars.reference }}"}


def other_address(flow: dict[str, Any]) -> None:
    flow["steps"]["mail"]["to"] = "office@example.com"


def other_queue(flow: dict[str, Any]) -> None:
    flow["steps"]["late_by_reference"]["exits"]["otherwise"] = "general_queue"


@pytest.mark.parametrize(
    ("change", "step", "why"),
    [
        (longer, "ask_reference", "the caller was not asked so often, or for so much, at 'input reference'"),
        (other_input, "ask_reference", "the caller was not asked for 'input order'"),
        (other_parameters, "look_up_reference", "action 'crm.contact_by_reference' was not asked with these parameters"),
        (other_address, "mail", "no mail went to this address"),
        (other_queue, "general_queue", "nobody waited in 'general' with these skills and this place"),
    ],
)
def test_where_nothing_recorded_fits_the_rest_is_undetermined(change: Callable[[dict[str, Any]], None], step: str, why: str) -> None:
    sim = Sim(book())
    result = under(sim, reference_call(sim), changed(change))
    assert (result.verdict, result.step, result.undetermined) == ("undetermined", step, why)
    assert result.other_end == ("", "", "")


def test_keys_serve_the_input_of_the_same_name_in_another_step() -> None:
    def renamed(flow: dict[str, Any]) -> None:
        steps = flow["steps"]
        steps["which_reference"] = steps.pop("ask_reference")
        for step in steps.values():
            step["exits"] = {name: "which_reference" if to == "ask_reference" else to for name, to in step["exits"].items()}

    sim = Sim(book())
    result = under(sim, reference_call(sim), changed(renamed))
    assert result.verdict == "same end"
    assert [step for step, _ in result.other_way][1] == "which_reference"


def test_fewer_tries_end_sooner_and_more_are_not_known() -> None:
    def tries(n: int) -> Callable[[dict[str, Any]], None]:
        return lambda flow: flow["steps"]["offer_agent"].update(tries=n)

    sim = Sim(book())
    call = offered_call(sim, "")
    for _ in range(3):
        sim.wait(7.0)
        sim.prompt_ends(call)
    sim.hangs_up(call)
    assert sim.ending(call) == "self_service"
    assert under(sim, call, changed(tries(2))).verdict == "same way"
    assert "not asked so often" in under(sim, call, changed(tries(4))).undetermined


def test_a_shorter_longest_wait_ends_a_wait_and_a_longer_one_is_not_known() -> None:
    def limit(seconds: float | None) -> Callable[[dict[str, Any]], None]:
        return lambda flow: flow["steps"]["premium_queue"].update(max_wait=seconds)

    sim = Sim(book())
    served = premium_call(sim, wait=30.0)
    assert under(sim, served, changed(limit(60.0))).verdict == "same way"
    short = under(sim, served, changed(limit(20.0)))
    assert short.verdict == "other end"
    assert ("premium_queue", "too_long") in short.other_way
    sim = Sim(book())
    sim.happen(ev.AgentPhoneChanged("101", True))
    sim.happen(ev.AgentSignedIn("101"))
    call = sim.dial()
    sim.answer_action(call, ANNA)
    for _ in range(2):
        sim.prompt_ends(call)
    sim.wait(601.0)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    assert under(sim, call, changed(limit(300.0))).verdict == "same way"
    assert "nobody waited in 'premium' for longer" in under(sim, call, changed(limit(900.0))).undetermined


def test_a_hang_up_serves_the_same_step_and_no_other() -> None:
    def no_greeting(flow: dict[str, Any]) -> None:
        flow["steps"]["late_or_greet"]["exits"]["otherwise"] = "offer_agent"
        flow["steps"]["offer_agent"].update(tries=1)

    sim = Sim(book())
    call = sim.dial()
    sim.answer_action(call, ANNA)
    sim.wait(1.0)
    sim.hangs_up(call)
    assert under(sim, call, changed(lambda flow: flow["prompts"]["hello"]["by_language"].update(en=["Hello."]))).undetermined != ""
    assert under(sim, call, book().flows["1000"]).verdict == "same way"
    assert under(sim, call, changed(no_greeting)).verdict == "undetermined"


@pytest.mark.parametrize("away", [0.5, 9.0])
@pytest.mark.parametrize("keys", ["", "272"])
def test_a_crash_is_left_out_of_what_would_have_been(away: float, keys: str) -> None:
    """Neither the pause between two keys nor the time for an answer is as long as nobody was there."""
    sim = Sim(book())
    call = sim.dial("anonymous")
    sim.wait(1.0)
    sim.press(call, keys)
    sim.now += away
    sim.crash()
    sim.happen(ev.CallFound(call, up=True))
    sim.wait(0.3)
    sim.press(call, "2722541"[len(keys) :] + "#")
    sim.now += away
    sim.crash()
    sim.happen(ev.CallFound(call, up=True))
    sim.wait(2.0)
    sim.answer_action(call, {**BEN, "email": ""})
    sim.wait(3.0)
    sim.now += away
    sim.hangs_up(call)
    result = under(sim, call, book().flows["1000"])
    assert result.verdict == "same way", result
    assert [step for step, _ in result.way][-1] == "offer_agent"


def test_a_call_that_has_not_ended_is_not_judged() -> None:
    sim = Sim(book())
    call = sim.dial()
    assert under(sim, call, book().flows["1000"]).undetermined == "it has not ended yet"
    assert again(sim, call).identical


# ---- telling ----------------------------------------------------------------------------------------------------------------


def test_nothing_that_is_told_has_a_key_a_number_or_a_value_in_it() -> None:
    sim = Sim(book())
    calls = [reference_call(sim), offered_call(sim, "2"), premium_call(sim)]
    text = json.dumps([call_told(again(sim, call), "") for call in calls], ensure_ascii=False)
    text += json.dumps([what_if_told(under(sim, call, book().flows["1000"])) for call in calls], ensure_ascii=False)
    for secret in ("2722541", "+4930555000101", "30555", "ben@example.com", "key 2", "https://example.com/o/1", "ASC2K41"):
        assert secret not in text
    assert "by key •" in text
    assert told(["c", "Play", {"media": ["digits:4711", "text:Your code is 4711."]}, 0.0]) == "Play digits:•••• text:Your code is ••••."
    assert told(["f", "VariableSet", {"name": "vars.pin", "value": "1234"}, 0.0]) == "VariableSet vars.pin"


def test_times_are_read_as_people_write_them() -> None:
    now = datetime(2026, 3, 5, 14, 30).astimezone()
    at = now.timestamp()
    assert moment("3h", "--since", now) == at - 3 * 3600
    assert moment("today", "--since", now) == at - 14.5 * 3600
    assert moment("yesterday", "--since", now) == at - 38.5 * 3600
    assert moment("2026-03-05T14:00", "--since", now) == at - 1800
    with pytest.raises(typer.BadParameter, match="'soon' is no time: expected today"):
        moment("soon", "--since", now)


def test_the_check_after_every_unit_test_notices_a_difference() -> None:
    sim = Sim(book())
    call = mailed_call(sim)
    sim.rows[-1][2][-1][2]["outcome"] = "abandoned"
    with pytest.raises(AssertionError, match="abandoned"):
        sim.replays()
    SIMS.remove(sim)
    assert facts.CallEnded.__name__ == sim.rows[-1][2][-1][1]
    assert call
