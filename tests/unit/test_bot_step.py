"""The `bot` step on virtual time: a program has the call, gives it back, hangs, is lost, and is connected anew after a take-over."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.flow.bot_step import START, START_AGAIN
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.publish.centre import load_book
from app.publish.reading import ProjectError
from app.testing.centre import VirtualCentre
from app.testing.project import Project
from tests.unit.centre import OUTPUTS, PROJECT, Sim

EXITS = {"done": "thanks", "failed": "broken", "hung": "late", "agent": "person"}
BOT: dict[str, Any] = {
    "do": "bot",
    "bot": "helper",
    "with": {"number": "{{ call.ani }}"},
    "max_seconds": "60",
    "answers": ["agent"],
    "exits": EXITS,
}


def centre(**changed: Any) -> Sim:
    """A centre whose one flow has this step, each exit leading to a prompt of its own name, after which the call rests."""
    step = {**BOT, **changed}
    ends = {name: {"do": "say", "prompt": name, "exits": {"done": "bye"}} for name in step["exits"].values()}
    content = {
        "flow": "test",
        "start": "first",
        "on_error": "bye",
        "entries": {"out": "thanks"},
        "prompts": {"hello": "Hello.", **{name: name for name in ends}},
        "steps": {"first": step, **ends, "bye": {"do": "hangup"}},
    }
    return Sim(Book({"1": compile_program(Program.model_validate(content), {})}, {}, {}))


def begun(sim: Sim) -> tuple[str, str]:
    """A caller whom the bot has: the call, and the request."""
    call = sim.dial(dnis="1")
    request = sim.last(do.StartBot, call).request
    sim.happen(ev.BotBegan(call, request))
    return call, request


def told(sim: Sim, call: str) -> list[tuple[str, dict[str, Any]]]:
    return [(each.type, dict(each.values)) for each in sim.all(do.TellBot, call)]


def test_the_caller_hears_music_until_the_bot_has_the_call() -> None:
    sim = centre()
    call = sim.dial(dnis="1")
    order = sim.last(do.StartBot, call)
    assert (order.bot, order.again) == ("helper", False)
    assert sim.center.calls[call].music
    sim.happen(ev.BotBegan(call, order.request))
    assert not sim.center.calls[call].music
    begins = {"with": {"number": "+4930555000101"}, "session": {}, "language": "en", "answers": ["done", "agent"], "again": False}
    assert told(sim, call) == [("start", begins)]


@pytest.mark.parametrize(
    ("exit_", "step"), [("done", "thanks"), ("agent", "person"), ("failed", "broken"), ("hung", "broken"), ("x", "broken")]
)
def test_the_bot_chooses_the_way_on_among_those_that_it_may(exit_: str, step: str) -> None:
    sim = centre()
    call, request = begun(sim)
    sim.happen(ev.BotEnded(call, request, exit_))
    assert sim.at_step(call) == step
    assert not sim.all(do.StopBot), "what has ended is not ended again"
    assert bool([each for each in sim.all(facts.Noticed) if "does not have" in each.detail]) == (exit_ in ("hung", "x"))


def test_a_prompt_is_spoken_before_the_bot_is_asked() -> None:
    sim = centre(prompt="hello")
    call = sim.dial(dnis="1")
    assert not sim.all(do.StartBot)
    sim.prompt_ends(call)
    assert sim.all(do.StartBot)


def test_keys_and_what_others_write_reach_the_bot_and_its_own_writes_do_not_come_back() -> None:
    sim = centre()
    call = sim.dial(dnis="1")
    sim.press(call, "7")
    request = sim.last(do.StartBot, call).request
    sim.happen(ev.SessionWritten(call, {"ivr.early": 1}, "desk"))
    sim.happen(ev.BotBegan(call, request))
    sim.press(call, "12")
    sim.happen(ev.SessionWritten(call, {"ivr.order": "A1"}, "desk"))
    sim.happen(ev.SessionWritten(call, {"ivr.word": "yes"}, "bot helper"))
    start, *rest = told(sim, call)
    assert start[1]["session"] == {"ivr.early": 1}
    assert rest == [
        ("key", {"digit": "7"}),
        ("key", {"digit": "1"}),
        ("key", {"digit": "2"}),
        ("session", {"session": {"ivr.order": "A1"}}),
    ]
    assert sim.center.calls[call].vars["ivr.word"] == "yes"
    sim.happen(ev.BotEnded(call, request, "done"))
    assert sim.center.calls[call].keys == ""


def test_a_bot_that_never_begins_is_given_up() -> None:
    sim = centre()
    call = sim.dial(dnis="1")
    sim.wait(START + 0.1)
    assert sim.at_step(call) == "broken"
    assert sim.last(do.StopBot, call).request == sim.last(do.StartBot, call).request
    assert not sim.center.calls[call].music


def test_a_bot_that_cannot_be_had_leaves_by_failed_at_once() -> None:
    sim = centre()
    call = sim.dial(dnis="1")
    sim.happen(ev.BotEnded(call, sim.last(do.StartBot, call).request, "failed", "unreachable"))
    assert sim.at_step(call) == "broken"
    assert not sim.center.calls[call].music


def test_a_bot_that_does_not_come_to_an_end_hangs() -> None:
    sim = centre()
    call, request = begun(sim)
    sim.wait(59)
    assert sim.at_step(call) == "first"
    sim.wait(2)
    assert sim.at_step(call) == "late"
    assert sim.last(do.StopBot, call).request == request


def test_a_caller_who_leaves_takes_the_bot_along() -> None:
    sim = centre()
    call, request = begun(sim)
    sim.hangs_up(call)
    assert sim.last(do.StopBot, call).request == request
    sim.happen(ev.BotEnded(call, request, "done"))
    assert sim.ending(call) == "hung_up"


def test_a_call_that_is_steered_away_is_taken_back() -> None:
    sim = centre()
    call, request = begun(sim)
    sim.happen(ev.CallSteered(call, "out", "desk"))
    assert sim.last(do.StopBot, call).request == request
    assert sim.at_step(call) == "thanks"


def test_after_a_take_over_the_bot_is_connected_anew_with_music_meanwhile() -> None:
    sim = centre()
    call, request = begun(sim)
    sim.wait(20)
    sim.crash()
    assert sim.center.calls[call].music
    before = len(sim.all(do.StartBot))
    sim.happen(ev.CallFound(call, up=True))
    again = sim.all(do.StartBot)[before:]
    assert [(each.request, each.again) for each in again] == [(request, True)]
    sim.wait(5)
    sim.happen(ev.BotBegan(call, request))
    assert told(sim, call)[-1][1]["again"] is True
    sim.wait(34)
    assert sim.at_step(call) == "first"
    sim.wait(2)
    assert sim.at_step(call) == "late", "the time that the bot had before counts"


def test_a_bot_that_is_away_after_a_take_over_is_given_up() -> None:
    sim = centre()
    call, _ = begun(sim)
    sim.crash()
    sim.wait(START_AGAIN + 0.1)
    assert sim.at_step(call) == "broken"


def test_an_answer_must_have_an_exit_and_be_none_that_every_bot_has() -> None:
    with pytest.raises(ValidationError, match="exits that are missing: agent"):
        centre(exits={name: step for name, step in EXITS.items() if name != "agent"})
    with pytest.raises(ValidationError, match="answers that every bot has"):
        centre(answers=["agent", "hung"])
    with pytest.raises(ValidationError, match="named twice"):
        centre(answers=["agent", "agent"])


FILE = """\
flow: talk
dnis: ["1999"]
start: talk
on_error: bye
prompts: {hello: Hello.}
steps:
  talk:
    do: bot
    bot: helper
    with: {number: "{{ call.ani }}"}
    prompt: hello
    max_seconds: "60"
    answers: [agent]
    exits: {done: bye, failed: bye, hung: bye, agent: bye}
  bye: {do: hangup}
"""


def written(folder: Path, text: str) -> Path:
    shutil.copytree(PROJECT, folder / "project")
    (folder / "project" / "flows" / "talk.yaml").write_text(text)
    return folder / "project"


def test_a_good_file_is_read(tmp_path: Path) -> None:
    program = load_book(written(tmp_path, FILE), OUTPUTS).flows["1999"].program
    assert set(program.steps["talk"].ways()) == {"done", "failed", "hung", "agent"}


@pytest.mark.parametrize(
    ("old", "new", "line", "what"),
    [
        ("bot: helper", "bot: wss://bot.example/", 9, "steps.talk.bot: String should match pattern"),
        ("call.ani", "call.nai", 10, "there is no variable 'call.nai'"),
        ("prompt: hello", "prompt: hallo", 11, "there is no prompt 'hallo'"),
        ('max_seconds: "60"', 'max_seconds: "7200"', 12, "less than or equal to 3600"),
        ("agent: bye}", "status: bye}", 7, "exits that are missing: agent"),
        ("answers: [agent]", "answers: [agent, hung]", 7, "answers that every bot has or that are no answers: hung"),
    ],
)
def test_each_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, what: str) -> None:
    assert FILE.count(old) == 1
    with pytest.raises(ProjectError) as found:
        load_book(written(tmp_path, FILE.replace(old, new)), OUTPUTS)
    (problem,) = found.value.problems
    assert what in problem
    assert f"talk.yaml:{line}:" in problem, problem


def test_what_a_bot_would_have_done_under_another_version_is_not_guessed() -> None:
    sim = centre()
    call, request = begun(sim)
    sim.happen(ev.BotEnded(call, request, "agent"))
    sim.prompt_ends(call)
    sim.hangs_up(call)
    sim.goes_no_other_way()


def test_a_test_of_a_flow_says_what_the_bot_does_and_otherwise_there_is_none(tmp_path: Path) -> None:
    text = FILE.replace("agent: bye}", "agent: hello}").replace("  bye:", "  hello: {do: say, prompt: hello, exits: {done: bye}}\n  bye:")
    project = Project.load(written(tmp_path, text))
    for choice, steps in (("agent", ["talk", "hello", "bye"]), ("", ["talk", "bye"])):
        centre = VirtualCentre(project)
        if choice:
            centre.bot("helper").leaves(choice, writes={"ivr.word": "yes"})
        call = centre.dial("+4930555", to="1999").waits(20)
        assert [fact.step for fact in centre.said if isinstance(fact, facts.StepEntered)] == steps
        assert call.outcome == "self_service"
        centre.check()
