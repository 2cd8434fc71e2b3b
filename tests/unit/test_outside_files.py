"""Flow files with steps that reach outside: what may be written, and what each mistake is told as."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from app.publish.centre import load_book
from app.publish.reading import ProjectError
from tests.unit.centre import OUTPUTS, PROJECT

FLOW = """\
flow: outside
dnis: ["1999"]
start: out
on_error: bye
prompts: {speak: Speak., review: Choose.}
steps:
  out: {do: transfer, to: "+49 30 5550100", exits: {talked: who, busy: mail, no_answer: mail, failed: mail}}
  who: {do: record, into: who, prompt: speak, exits: {recorded: text, nothing: text, failed: text}}
  text: {do: sms, to: "{{ call.ani }}", text: "Hear {{ vars.who }}", exits: {sent: agent, failed: agent}}
  agent: {do: transfer, agent: "101", exits: {talked: bye, busy: mail, no_answer: mail, failed: mail}}
  mail:
    do: voicemail
    to: night@example.com
    subject: Message
    body: Hear it.
    prompt: speak
    review: review
    exits: {left: bye, nothing: bye, failed: bye}
  bye: {do: hangup}
"""
CALLBACK = """\
flow: outside
dnis: ["1999"]
start: ask
on_error: bye
prompts: {ask: ["Shall we call", "characters:{{ call.ani }}"]}
steps:
  ask:
    do: callback
    prompt: ask
    queue: general
    number: "+49 30 5550100"
    skills: {lang.en: 3}
    exits: {booked: bye, declined: bye, failed: bye, no_input: bye}
  bye: {do: hangup}
"""
TRANSFERS = """
transfers:
  trunks: [carrier]
  allowed: ["+49*"]
  denied: ["+49900*"]
"""


def project(folder: Path, flow: str, transfers: str = TRANSFERS) -> Path:
    shutil.copytree(PROJECT, folder / "project")
    (folder / "project" / "flows" / "outside.yaml").write_text(flow)
    centre = folder / "project" / "centre.yaml"
    centre.write_text(centre.read_text() + transfers)
    return folder / "project"


def test_a_good_one_is_read(tmp_path: Path) -> None:
    book = load_book(project(tmp_path, FLOW), OUTPUTS)
    assert book.flows["1999"].program.steps["mail"].review == "review"  # type: ignore[union-attr]
    assert (book.transfers.dialled("+49301"), book.transfers.dialled("+49900123"), book.transfers.trunks) == ("+49301", "", ("carrier",))


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        (
            'to: "+49 30 5550100"',
            'to: "+1 900 123456"',
            7,
            "steps.out.to: '+1 900 123456' is not a number that `transfers` in centre.yaml allow",
        ),
        ('to: "+49 30 5550100"', 'to: "+49 900 1"', 7, "is not a number that `transfers` in centre.yaml allow"),
        (
            'to: "+49 30 5550100"',
            'to: "+49 30", through: carier',
            7,
            "steps.out.through: there is no trunk 'carier' (did you mean 'carrier'?)",
        ),
        ('to: "+49 30 5550100"', 'to: "+49 30", agent: "101"', 7, "expected either `to`, a number, or `agent`"),
        ('agent: "101"', 'agent: "10l"', 10, "steps.agent.agent: there is no agent '10l'"),
        ('to: "+49 30 5550100"', 'to: "{{ call.nai }}"', 7, "there is no variable 'call.nai'"),
        ("vars.who", "vars.whom", 9, "there is no variable 'vars.whom'"),
        ("review: review", "review: revue", 17, "there is no prompt 'revue'"),
        ("subject: Message", 'subject: Message\n    seconds: "900"', 15, "steps.mail.seconds: Input should be less than or equal to 300"),
        ("exits: {left: bye, nothing: bye, failed: bye}", "exits: {left: bye}", 11, "exits that are missing: failed, nothing"),
    ],
)
def test_each_mistake_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, told: str) -> None:
    assert FLOW.count(old) == 1
    with pytest.raises(ProjectError) as found:
        load_book(project(tmp_path, FLOW.replace(old, new)), OUTPUTS)
    (problem,) = found.value.problems
    assert told in problem
    assert f"outside.yaml:{line}:" in problem, problem


def test_without_an_allow_list_nothing_is_transferred(tmp_path: Path) -> None:
    with pytest.raises(ProjectError) as found:
        load_book(project(tmp_path, FLOW, ""), OUTPUTS)
    (problem,) = found.value.problems
    assert "steps.out: the project allows no transfers" in problem


@pytest.mark.parametrize("pattern", ["*", "+49-30*", "x", "+4*9", ""])
def test_an_odd_pattern_is_refused(tmp_path: Path, pattern: str) -> None:
    with pytest.raises(ProjectError) as found:
        load_book(project(tmp_path, FLOW, TRANSFERS.replace("+49*", pattern)), OUTPUTS)
    assert "transfers.allowed.0" in str(found.value)


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        (
            '"+49 30 5550100"',
            '"+1 900 123456"',
            11,
            "steps.ask.number: '+1 900 123456' is not a number that `transfers`",
        ),
        ('"+49 30 5550100"', '"{{ vars.nummer }}"', 11, "there is no variable 'vars.nummer'"),
        ("queue: general", "queue: generel", 10, "steps.ask.queue: there is no queue 'generel' (did you mean 'general'?)"),
        ("queue: general", "queue: general\n    through: other", 11, "steps.ask.through: there is no trunk 'other'"),
        ("queue: general", "queue: general\n    no: '1'", 7, "yes and no are the same key"),
        ("prompt: ask", "prompt: aks", 9, "there is no prompt 'aks'"),
        ("no_input: bye", "silence: bye", 7, "exits that are missing: no_input"),
    ],
)
def test_each_mistake_in_a_callback_is_told_with_its_line(tmp_path: Path, old: str, new: str, line: int, told: str) -> None:
    assert CALLBACK.count(old) == 1
    assert load_book(project(tmp_path / "good", CALLBACK), OUTPUTS).flows["1999"].program.steps["ask"].do == "callback"
    with pytest.raises(ProjectError) as found:
        load_book(project(tmp_path / "bad", CALLBACK.replace(old, new)), OUTPUTS)
    (problem,) = found.value.problems
    assert told in problem
    assert f"outside.yaml:{line}:" in problem, problem
