"""The flow language: each kind of mistake is told with its file, its line, what was found and what was expected."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.core.acd import QueueDef
from app.core.flow.compiled import Compiled
from app.publish.centre import load_book
from app.publish.flowfile import load_flow
from app.publish.reading import ProjectError
from tests.unit.centre import OUTPUTS, PROJECT, book

GOOD = """\
flow: small
title: A small flow
dnis: ["+4930123", "0301234"]
start: look
on_error: away
conditions:
  premium: contact.found && contact.premium
  wrote: ivr.colour == 'red'
prompts:
  hello: "Hello {{ contact.first_name }}."
  ask:
    - Please choose.
    - "digits:{{ vars.reference }}"
steps:
  look:
    do: lookup
    into: contact
    action: crm.contact_by_phone
    with: {phone: "{{ call.ani }}"}
    budget: 2.5
    exits: {found: check, none: ask, many: ask, failed: away}
  check:
    do: switch
    cases: {premium: line, wrote: line}
    exits: {otherwise: greet, failed: away}
  greet:
    do: say
    prompt: hello
    exits: {done: ask}
  ask:
    do: collect
    into: reference
    prompt: ask
    retry_no_match: ask
    retry_no_input: ask
    length: 7
    exits: {match: choose, no_match: away, no_input: away}
  choose:
    do: menu
    prompt: ask
    choices: {"1": line}
    retry_no_match: ask
    retry_no_input: ask
    exits: {no_match: away, no_input: away}
  line:
    do: queue
    queue: premium
    skills: {lang.en: 5}
    skills_from: contact.skills
    attach: {reference: "{{ vars.reference }}"}
    exits: {talked: mail, no_agents: away, too_long: away, failed: away}
  mail:
    do: email
    to: "{{ contact.email }}"
    subject: Your order
    body: Hello
    exits: {sent: bye, failed: away}
  away:
    do: release
  bye:
    do: hangup
"""
QUEUES = {"premium": QueueDef("premium")}


def load(tmp_path: Path, text: str) -> Compiled:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_flow(path, OUTPUTS, QUEUES)


def test_the_good_flow_is_taken_and_its_numbers_stay_as_they_are_written(tmp_path: Path) -> None:
    assert load(tmp_path, GOOD).program.dnis == ("+4930123", "0301234")


def test_a_flow_has_a_version_that_follows_everything_it_does(tmp_path: Path) -> None:
    first = load(tmp_path, GOOD).program.version
    assert load(tmp_path, GOOD + "# a remark\n").program.version == first
    assert load(tmp_path, GOOD.replace("Please choose.", "Choose.")).program.version != first


MISTAKES = [
    ("exits: {done: ask}", "exits: {}", "steps.greet", "exits that are missing: done"),
    ("exits: {done: ask}", "exits: {done: ask, finished: ask}", "steps.greet", "exits that this step does not have: finished"),
    ("exits: {done: ask}", "exits: {done: nowhere}", "steps.greet.exits.done", "no step 'nowhere'"),
    ("start: look", "start: lok", "start", "no step 'lok'"),
    ("start: look", "start: lok", "start", "did you mean 'look'"),
    ("on_error: away", "on_error: nowhere", "on_error", "no step 'nowhere'"),
    ("start: look", "start: look\nreturns: ask", "returns", "'ask' is not a queue step"),
    ("    prompt: hello", "    prompt: hallo", "steps.greet.prompt", "no prompt 'hallo'"),
    ("    prompt: hello", "    prompt: hallo", "steps.greet.prompt", "did you mean 'hello'"),
    ("cases: {premium: line, wrote: line}", "cases: {primium: line}", "steps.check.cases.primium", "no condition 'primium'"),
    ("cases: {premium: line, wrote: line}", "cases: {premium: lne}", "steps.check.cases.premium", "no step 'lne'"),
    ('choices: {"1": line}', 'choices: {"1": lne}', "steps.choose.choices.1", "no step 'lne'"),
    ('choices: {"1": line}', 'choices: {"12": line}', "steps.choose.choices.12", "0-9*#"),
    ("queue: premium", "queue: gold", "steps.line.queue", "no queue 'gold' (there are: premium)"),
    ("action: crm.contact_by_phone", "action: crm.contact", "steps.look.action", "no action 'crm.contact'"),
    ("action: crm.contact_by_phone", "action: crm.order_link", "steps.look.action", "no whole number `count`"),
    ("contact.found && contact.premium", "contact.found && contact.premum", "conditions.premium", "contact.premum"),
    ("contact.found && contact.premium", "contact.found && contact.premum", "conditions.premium", "did you mean 'contact.premium'"),
    ("contact.found && contact.premium", "contact.found && contact.email", "conditions.premium", "no matching overload"),
    ("contact.found && contact.premium", "contact.email", "conditions.premium", "not true or false"),
    ("contact.found && contact.premium", "contact.found &&", "conditions.premium", "Syntax error"),
    ("contact.found && contact.premium", "timestamp('2026-01-01T00:00:00Z') != null", "conditions.premium", "clock"),
    ("contact.found && contact.premium", "call.ani.getHours() > 3", "conditions.premium", "clock"),
    ("Hello {{ contact.first_name }}.", "Hello {{ contact.first_name }.", "prompts.hello", "unexpected"),
    ("Hello {{ contact.first_name }}.", "Hello {{ contact.frst_name }}.", "prompts.hello", "no variable 'contact.frst_name'"),
    ("Hello {{ contact.first_name }}.", "Hello {{ nobody.name }}.", "prompts.hello", "no variable 'nobody.name'"),
    ("Hello {{ contact.first_name }}.", "{% for x in contact %}x{% endfor %}", "prompts.hello", "'for' cannot be used"),
    ("Hello {{ contact.first_name }}.", "{%- macro m() %}x{% endmacro %}", "prompts.hello", "'macro' cannot be used"),
    ("skills: {lang.en: 5}", "skills: {a: 1, b: 1, c: 1, d: 1, e: 1, f: 1}", "steps.line.skills", "at most 5"),
    ("skills: {lang.en: 5}", "skills: {lang.en: 11}", "steps.line.skills.lang.en", "less than or equal to 10 (found '11')"),
    ("skills_from: contact.skills", "skills_from: contact.skils", "steps.line.skills_from", "no variable 'contact.skils'"),
    ("skills_from: contact.skills", "skills_from: contact.email", "steps.line.skills_from", "is a string, not a map"),
    ("budget: 2.5", "budget: 9", "steps.look.budget", "less than or equal to 8 (found '9')"),
    ("budget: 2.5", "budget: soon", "steps.look.budget", "valid number"),
    ("length: 7", "length: 0", "steps.ask.length", "greater than or equal to 1 (found '0')"),
    ("length: 7", "length: 7\n    terminator: x", "steps.ask.terminator", "[#*]"),
    ("do: hangup", "do: hang_up", "steps.bye.do", "hangup"),
    ("do: hangup", "dos: hangup", "steps.bye", "do"),
    ("do: hangup", "do: hangup\n    colour: red", "steps.bye.colour", "not permitted"),
    ("title: A small flow", "titel: A small flow", "titel", "not permitted"),
    ("title: A small flow", "outputs: {x: {y: string}}", "outputs", "cannot be given here"),
    ("flow: small", "flow: Small!", "flow", "pattern"),
    ("title: A small flow", "language: xx", "language", "'en', 'de' or 'es'"),
    ("title: A small flow", "title: A small flow\ntitle: Another", "", "given twice"),
    ('dnis: ["+4930123", "0301234"]', 'dnis: ["+4930123", "030 1234"]', "dnis.1", "pattern"),
    ('dnis: ["+4930123", "0301234"]', 'dnis: ["0301234", "0301234"]', "dnis", "given twice"),
    ("  bye:\n    do: hangup", "  bye:\n    do: [hangup]", "steps.bye.do", "hangup"),
]


@pytest.mark.parametrize(("right", "wrong", "where", "what"), MISTAKES, ids=[f"{where}: {what}"[:60] for _, _, where, what in MISTAKES])
def test_a_mistake_is_told_with_file_line_place_and_reason(tmp_path: Path, right: str, wrong: str, where: str, what: str) -> None:
    assert GOOD.count(right) >= 1
    text = GOOD.replace(right, wrong, 1)
    with pytest.raises(ProjectError) as raised:
        load(tmp_path, text)
    told = "\n".join(raised.value.problems)
    found = [line for line in raised.value.problems if what in line and (not where or f": {where}" in line)]
    assert found, told
    number = re.match(rf"{re.escape(str(tmp_path / 'small.yaml'))}:(\d+): ", found[0])
    assert number, told
    changed = text[: next((i for i, (a, b) in enumerate(zip(GOOD, text, strict=False)) if a != b), len(GOOD) - 1)].count("\n") + 1
    assert abs(int(number[1]) - changed) <= 4, f"line {number[1]}, the mistake is in line {changed}"


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = (
        GOOD.replace("queue: premium", "queue: gold")
        .replace("    prompt: hello", "    prompt: hallo")
        .replace("contact.premium", "contact.x")
    )
    with pytest.raises(ProjectError) as raised:
        load(tmp_path, text.replace("{{ contact.email }}", "{{ contact.emil }}"))
    assert len(raised.value.problems) == 4


def test_a_number_of_two_flows_and_two_flows_of_one_name_are_mistakes(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "centre.yaml").write_text((PROJECT / "centre.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    for name in ("a", "b"):
        (tmp_path / "flows" / f"{name}.yaml").write_text(GOOD, encoding="utf-8")
    with pytest.raises(ProjectError) as raised:
        load_book(tmp_path, OUTPUTS)
    told = "\n".join(raised.value.problems)
    assert re.search(r"b\.yaml:3: dnis\.0: the number \+4930123 belongs to flow 'small' \(.*a\.yaml\) already", told)
    assert re.search(r"b\.yaml:1: flow: there is a flow 'small' already \(.*a\.yaml\)", told)


def test_mistakes_in_the_centre_file_and_in_the_flows_are_told_together(tmp_path: Path) -> None:
    (tmp_path / "flows").mkdir()
    centre = (PROJECT / "centre.yaml").read_text(encoding="utf-8")
    (tmp_path / "centre.yaml").write_text(centre.replace("queues: [billing]", "queues: [biling]"), encoding="utf-8")
    (tmp_path / "flows" / "a.yaml").write_text(GOOD.replace("start: look", "start: lok"), encoding="utf-8")
    with pytest.raises(ProjectError) as raised:
        load_book(tmp_path, OUTPUTS)
    told = "\n".join(raised.value.problems)
    assert "agents.105.queues.0: there is no queue 'biling'" in told
    assert "no step 'lok'" in told


@pytest.mark.parametrize("text", ["", "- a\n", "just words", "a: [", "\xff", "{1: }", "x: &a [*a]"])
def test_what_is_no_flow_at_all_is_told_with_a_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ProjectError, match=r"bad\.yaml:\d+: "):
        load_flow(path, OUTPUTS, QUEUES)


def test_a_folder_without_a_centre_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot be read: No such file"):
        load_book(tmp_path, OUTPUTS)


def test_the_demo_is_right() -> None:
    demo = book()
    assert set(demo.flows) == {"1000"}
    assert set(demo.queues) == {"premium", "general", "billing"}
