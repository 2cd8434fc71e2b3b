"""Subflows in files of their own, which several flows of a project run."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.actions.files import load_actions
from app.cli import app
from app.core.flow.program import Program
from app.proving import Reader, prove_files
from app.publish.centre import load_book
from app.publish.diff import differences
from app.publish.reading import ProjectError
from app.publish.shared import Shared
from app.testing.coverage import exits_in
from app.yamlfile import read_yaml
from tests.unit.centre import OUTPUTS, PROJECT, Sim
from tests.unit.test_publish_flow import enters

CENTRE = "queues: {line: {ring: 5}}\nagents: {ann: {name: Ann, queues: [line]}}\n"
IDENTIFY = """\
start: ask
exits: [known, unknown]
conditions: {known: contact.found}
prompts:
  ask: {en: "Your reference.", de: Ihre Nummer.}
steps:
  ask:
    do: collect
    into: reference
    prompt: ask
    retry_no_match: ask
    retry_no_input: ask
    length: 3
    tries: 1
    exits: {match: look, no_match: exit.unknown, no_input: exit.unknown}
  look:
    do: lookup
    into: contact
    action: crm.contact_by_reference
    with: {digits: "{{ vars.reference }}"}
    exits: {found: again, none: exit.unknown, many: exit.unknown, failed: exit.unknown}
  again:
    do: switch
    cases: {known: exit.known}
    exits: {otherwise: exit.unknown, failed: exit.unknown}
"""
FLOW = """\
flow: NAME
dnis: ["NUMBER"]
start: who
on_error: away
prompts: {hello: Hello., bye: Goodbye.}
steps:
  who: {do: subflow, run: identify, exits: {known: hello, unknown: away}}
  hello: {do: say, prompt: hello, exits: {done: end}}
  end: {do: hangup}
  away: {do: release}
"""
SHOP, DESK = (FLOW.replace("NAME", name).replace("NUMBER", number) for name, number in (("shop", "1"), ("desk", "2")))


def project(folder: Path, files: dict[str, str] | None = None, **subflows: str) -> Path:
    """A project of two flows, and the subflows given."""
    given = {"centre.yaml": CENTRE, "flows/shop.yaml": SHOP, "flows/desk.yaml": DESK, **(files or {})}
    given |= {f"subflows/{name}.yaml": text for name, text in (subflows or {"identify": IDENTIFY}).items()}
    for name, text in given.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    (folder / "actions").mkdir(exist_ok=True)
    (folder / "actions" / "crm.yaml").write_text((PROJECT / "actions" / "crm.yaml").read_text())
    return folder


def programs(folder: Path) -> dict[str, Program]:
    return {flow.name: flow.program for flow in load_book(folder, OUTPUTS).flows.values()}


def problems(folder: Path) -> list[str]:
    with pytest.raises(ProjectError) as raised:
        load_book(folder, OUTPUTS)
    return [problem.removeprefix(f"{folder}/") for problem in raised.value.problems]


@pytest.mark.parametrize("crash", [False, True], ids=["", "after crashes"])
@pytest.mark.parametrize("number", ["1", "2"])
def test_two_flows_run_the_same_file(tmp_path: Path, number: str, crash: bool) -> None:
    sim = Sim(load_book(project(tmp_path), OUTPUTS))
    call = sim.dial("+4930123456", number)
    assert "Your reference." in sim.heard(call)
    enters(sim, call, found=True, crash=crash)
    assert sim.steps(call) == ["who", "who.ask", "who.look", "who.again", "hello"]
    sim.hangs_up(call)
    sim.replays()


def test_a_version_is_also_what_its_shared_files_say(tmp_path: Path) -> None:
    before = programs(project(tmp_path))
    project(tmp_path, identify=IDENTIFY.replace("Your reference.", "Your number, please."))
    after = programs(tmp_path)
    assert all(before[name].version != after[name].version for name in ("shop", "desk"))
    (change,) = differences(before["shop"], after["shop"])
    assert "Your number, please." in change.text()
    back = programs(project(tmp_path))
    assert {name: program.version for name, program in back.items()} == {name: program.version for name, program in before.items()}


def test_a_call_ends_on_the_shared_file_that_it_began_with(tmp_path: Path) -> None:
    book = load_book(project(tmp_path), OUTPUTS)
    sim = Sim(book)
    call = sim.dial("+4930123456", "1")
    new = load_book(project(tmp_path, identify=IDENTIFY.replace("known: contact.found", "known: contact.late_payment")), OUTPUTS)
    book.published.shelf.update({flow.version: flow for flow in new.flows.values()})
    book.flows = new.flows
    sim.crash()
    enters(sim, call, found=True, crash=True)
    assert sim.at_step(call) == "hello"
    other = sim.dial("+4930123457", "1")
    enters(sim, other, found=True, crash=False)
    assert sim.at_step(other) == "away"


def test_what_was_published_is_read_with_the_shared_files_of_the_project_and_can_be_sent_again(tmp_path: Path) -> None:
    beside = 'automations:\n  - {on: arrival, action: crm.order_link, with: {order: "{{ call.id }}"}}\n'
    folder = project(tmp_path, {"automations.yaml": beside})
    book = load_book(folder, OUTPUTS)
    reader = Reader(folder, load_actions(folder / "actions"), book.queues, book.agents)
    sent = reader.read("sent.yaml", SHOP)
    assert sent.version == book.flows["1"].version
    project(tmp_path, identify=IDENTIFY.replace("length: 3", "length: 4"))
    assert reader.read("sent.yaml", SHOP).program.steps["who.ask"].length == 4  # type: ignore[union-attr]
    told = sent.program.model_dump(mode="json", by_alias=True, exclude={"outputs", "tables"})
    assert reader.read("program", told).version == sent.version, "a program that was got by the API is put in already"


def test_the_flows_own_goes_before_what_is_shared(tmp_path: Path) -> None:
    own = "prompts: {ask: Who are you., hello"
    text = SHOP.replace("prompts: {hello", own)
    inner = "subflows: {identify: {start: s, exits: [known, unknown], steps: {s: {do: say, prompt: bye, exits: {done: exit.known}}}}}\n"
    both = programs(project(tmp_path, {"flows/shop.yaml": text, "flows/desk.yaml": DESK.replace("steps:\n", f"{inner}steps:\n")}))
    assert both["shop"].prompts["ask"].phrases == ("Who are you.",)
    assert set(both["desk"].steps) == {"who", "who.s", "hello", "end", "away"}


def test_a_shared_prompt_is_taken_in_the_languages_of_the_flow(tmp_path: Path) -> None:
    words = "{hello: {en: Hello., de: Hallo.}, bye: {en: Bye., de: Ade.}}"
    text = SHOP.replace("start: who", "languages: [en, de]\nstart: who").replace("{hello: Hello., bye: Goodbye.}", words)
    both = programs(project(tmp_path, {"flows/shop.yaml": text}))
    assert set(both["shop"].prompts["ask"].by_language) == {"en", "de"}
    assert set(both["desk"].prompts["ask"].by_language) == {"en"}
    lacks = IDENTIFY.replace(", de: Ihre Nummer.", "")
    assert problems(project(tmp_path, {"flows/shop.yaml": text}, identify=lacks)) == [
        "subflows/identify.yaml:5: prompts.ask: there is nothing to say in: de"
    ]


def test_a_shared_subflow_may_run_another(tmp_path: Path) -> None:
    greet = "start: hi\nexits: [done]\nprompts: {hi: Hi.}\nsteps:\n  hi: {do: say, prompt: hi, exits: {done: exit.done}}\n"
    nested = IDENTIFY.replace("start: ask", "start: greet").replace(
        "steps:\n", "steps:\n  greet: {do: subflow, run: greet, exits: {done: ask}}\n"
    )
    found = programs(project(tmp_path, identify=nested, greet=greet))
    assert {"who.greet", "who.greet.hi", "who.ask"} < set(found["shop"].steps)
    circle = greet.replace("steps:\n", "steps:\n  round: {do: subflow, run: identify, exits: {known: hi, unknown: hi}}\n")
    told = problems(project(tmp_path, identify=nested, greet=circle))
    assert any(
        "a subflow cannot run itself: identify -> greet -> identify" in each and each.startswith("subflows/greet.yaml:5:") for each in told
    )


WRONG = [
    ("match: look,", "match: lok,", "subflows/identify.yaml:15: subflows.identify.steps.ask.exits.match: there is no step 'lok'"),
    ("length: 3", "length: three", "subflows/identify.yaml:13: steps.who.ask.length: Input should be a valid integer"),
    ("prompt: ask", "prompt: aks", "subflows/identify.yaml:10: steps.who.ask.prompt: there is no prompt 'aks'"),
    ("known: contact.found", "known: contact.fund", "subflows/identify.yaml:3: conditions.known: "),
    ("exits: [known, unknown]", "exits: [known]", "flows/shop.yaml:7: steps.who.exits: subflow 'identify' has the exits: known"),
    ("start: ask\n", "", "subflows/identify.yaml:1: subflows.identify: a subflow has start, exits and steps"),
    ("start: ask\n", "start: ask\nautomations: []\n", "subflows/identify.yaml:2: a shared subflow has exits, start, steps, and may have"),
    ('prompts:\n  ask: {en: "Your reference.", de: Ihre Nummer.}', "prompts: x", "subflows/identify.yaml:4: prompts: not a map of names"),
    ("start: ask", "start: [ask", "subflows/identify.yaml:2: not YAML"),
    ("action: crm.contact_by_reference", "action: crm.contact", "subflows/identify.yaml:19: steps.who.look.action: there is no action"),
]


@pytest.mark.parametrize(("right", "wrong", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_a_mistake_is_told_in_the_shared_file_and_once_for_all_flows(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    found = problems(project(tmp_path, identify=IDENTIFY.replace(right, wrong, 1)))
    assert sum(problem.startswith(told) for problem in found) == 1, found


@pytest.mark.parametrize("run", ["identfy", "../subflows/identify", "identify.yaml", "/etc/passwd"])
def test_a_subflow_that_is_not_there_is_told_with_what_there_is(tmp_path: Path, run: str) -> None:
    (told,) = problems(project(tmp_path, {"flows/shop.yaml": SHOP.replace("run: identify", f"run: {run}")}))
    assert told.startswith(f"flows/shop.yaml:7: steps.who.run: there is no subflow '{run}'")
    if run == "identfy":
        assert "did you mean 'identify'" in told


def test_two_shared_files_cannot_mean_different_things_by_one_name(tmp_path: Path) -> None:
    second = IDENTIFY.replace("Your reference.", "The other one.")
    text = SHOP.replace("known: hello", "known: again").replace(
        "  hello:", "  again: {do: subflow, run: again, exits: {known: hello, unknown: away}}\n  hello:"
    )
    found = problems(project(tmp_path, {"flows/shop.yaml": text}, identify=IDENTIFY, again=second))
    assert len(found) == 1
    assert "has another one of this name" in found[0]
    assert found[0].startswith("subflows/")
    own = text.replace("prompts: {hello", "prompts: {ask: Which one., hello")
    assert "again.ask" in programs(project(tmp_path, {"flows/shop.yaml": own}))["shop"].steps


def test_a_proof_points_into_the_shared_file(tmp_path: Path) -> None:
    text = IDENTIFY.replace("Your reference.", "Your reference, {{ contact.first_name }}.")
    folder = project(tmp_path, identify=text)
    (report, other) = prove_files(folder).reports
    finding = next(each for each in report.findings if each.proof == "unset")
    assert (finding.file, finding.line, finding.where) == (str(folder / "subflows" / "identify.yaml"), 10, "steps.who.ask.prompt")
    assert [each.proof for each in other.findings] == [each.proof for each in report.findings]


def test_what_tests_are_to_take_is_found_in_the_shared_file(tmp_path: Path) -> None:
    folder = project(tmp_path)
    path = folder / "flows" / "shop.yaml"
    exits = exits_in(path, read_yaml(path), Shared(folder))
    program = programs(folder)["shop"]
    assert {(each.step, each.name) for each in exits} == {(s, way) for s, node in program.steps.items() for way in node.ways() or ("",)}
    (match,) = (each for each in exits if (each.step, each.name) == ("who.ask", "match"))
    assert (match.file, match.line) == (folder / "subflows" / "identify.yaml", 15)


def test_the_commands_know_the_shared_files(tmp_path: Path) -> None:
    folder = project(tmp_path)
    checked = CliRunner().invoke(app, ["check", str(folder)])
    assert checked.exit_code == 0, checked.output
    shown = CliRunner().invoke(app, ["flow", "show", "--project", str(folder), "shop"])
    assert "who.ask" in shown.output
    one = CliRunner().invoke(app, ["flow", "check", str(folder / "subflows" / "identify.yaml")])
    assert all(f"{name} (" in one.output for name in ("shop", "desk")), "a shared file is proven in every flow"
    other = project(tmp_path / "other", identify=IDENTIFY.replace("Your reference.", "Your number."))
    files = [str(each / "flows" / "shop.yaml") for each in (folder, other)]
    differ = CliRunner().invoke(app, ["flow", "diff", *files])
    assert differ.exit_code == 1
    assert "Your number." in differ.output


def test_each_file_of_a_project_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, {"automations.yaml": "automations: []\n"})
    read: Counter[Path] = Counter()
    read_bytes = Path.read_bytes

    def counted(path: Path) -> bytes:
        read[path] += 1
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", counted)
    done = CliRunner().invoke(app, ["check", str(folder)])
    assert done.exit_code == 0, done.output
    assert "flows for 1, 2" in done.output
    assert read == dict.fromkeys((path for path in folder.rglob("*.yaml")), 1)


def test_a_shared_file_fits_its_schema(tmp_path: Path) -> None:
    made: dict[str, Any] = json.loads(CliRunner().invoke(app, ["flow", "schema", "--of", "subflow"]).output)
    assert set(made["properties"]) == {"start", "exits", "steps", "prompts", "conditions", "calendars"}
    assert made["required"] == ["start", "exits", "steps"]
