"""Automations for one step: what is done as a call enters it, leaves it, or is at it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.flow.compiled import Compiled
from app.publish.diff import differences
from app.publish.flowfile import load_flow
from app.publish.meaning import Context
from app.publish.proofs import prove
from app.publish.reading import ProjectError
from app.publish.shared import Shared
from app.publish.sketch import mermaid, outline
from app.yamlfile import read_yaml
from tests.unit.centre import ANNA, BEN, OUTPUTS, Sim
from tests.unit.test_publish_flow import AGENTS, QUEUES

FLOW = """\
flow: small
dnis: ["1"]
start: hello
on_error: away
entries: {out: bye}
reach_a_person: {key: "0", step: away}
conditions: {gold: has(ivr.tier) && ivr.tier == 'gold', found: contact.found}
prompts: {hello: Hello., ask: Your reference., bye: Goodbye.}
automations:
  - {on: entered, at: who, action: crm.order_link, with: {order: "at {{ vars.place }}"}}
  - {on: left, at: who.ask, action: crm.contact_by_reference, with: {digits: "{{ vars.reference }}"}, into: contact}
  - {on: left, at: who, action: crm.order_link, with: {order: left who}}
  - {on: session_written, at: who, action: crm.order_link, with: {order: written there}, when: gold}
subflows:
  identify:
    start: ask
    exits: [typed, silent]
    steps:
      ask:
        do: collect
        into: reference
        prompt: ask
        retry_no_match: ask
        retry_no_input: ask
        length: 3
        tries: 1
        exits: {match: wait, no_match: exit.silent, no_input: exit.silent}
      wait: {do: wait_for, variable: contact.answered, max_wait: 10, exits: {set: exit.typed, too_long: exit.silent}}
steps:
  hello: {do: say, prompt: hello, exits: {done: first}}
  first: {do: set, values: {place: the door}, exits: {done: who}}
  who: {do: subflow, run: identify, exits: {typed: check, silent: away}}
  check: {do: switch, cases: {found: inside}, exits: {otherwise: first, failed: away}}
  inside: {do: set, values: {place: inside}, exits: {done: bye}}
  bye: {do: say, prompt: bye, exits: {done: end}}
  end: {do: hangup}
  away: {do: release}
"""


def load(tmp_path: Path, text: str = FLOW, shared: str = "") -> Compiled:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    if shared:
        (tmp_path / "automations.yaml").write_text(shared)
    return load_flow(path, OUTPUTS, QUEUES, shared=Shared(tmp_path))


def began(tmp_path: Path, text: str = FLOW) -> tuple[Sim, str]:
    """A call that is asked for the reference."""
    sim = Sim(Book({"1": load(tmp_path, text)}, QUEUES, AGENTS))
    call = sim.dial("+4930123456", "1")
    sim.prompt_ends(call)
    assert sim.at_step(call) == "who.ask"
    return sim, call


def asked(sim: Sim, call: str) -> list[Any]:
    """What was asked, once each."""
    return [next(iter(order.params.values())) for order in {o.request: o for o in sim.all(do.StartAction, call)}.values()]


def last_request(sim: Sim, action: str) -> str:
    return str([order.request for order in sim.all(do.StartAction) if order.action == action][-1])


@pytest.mark.parametrize("crash", [False, True], ids=["", "after crashes"])
def test_it_leaves_as_the_step_is_entered_and_left_with_what_is_known_then(tmp_path: Path, crash: bool) -> None:
    sim, call = began(tmp_path)
    assert asked(sim, call) == ["at the door"]
    if crash:
        sim.crash()
    sim.press(call, "275")
    assert asked(sim, call) == ["at the door", "275"]
    assert sim.at_step(call) == "who.wait"
    if crash:
        sim.crash()
    sim.happen(ev.ActionSucceeded(call, last_request(sim, "crm.contact_by_reference"), ANNA))
    assert asked(sim, call) == ["at the door", "275", "left who"]
    assert sim.at_step(call) == "bye"
    assert sim.center.calls[call].vars["contact.first_name"] == "Anna"
    if crash:
        sim.crash()
    sim.prompt_ends(call)
    sim.hangs_up(call)
    sim.replays()
    sim.goes_no_other_way()
    left = next(n for n, thing in enumerate(sim.out) if isinstance(thing, facts.StepLeft) and thing.step == "who.ask")
    assert [type(thing) for thing in sim.out[left + 1 : left + 3]] == [do.StartAction, facts.StepEntered]


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_what_an_earlier_visit_brings_is_never_taken_for_a_later_one(tmp_path: Path, crash: bool) -> None:
    sim, call = began(tmp_path)
    sim.press(call, "275")
    first = last_request(sim, "crm.contact_by_reference")
    sim.happen(ev.ActionFailed(call, first, "status"))
    assert sim.at_step(call) == "who.ask", "nobody was found, and the caller is asked again"
    sim.press(call, "276")
    second = last_request(sim, "crm.contact_by_reference")
    assert sim.at_step(call) == "who.wait", "the earlier answer is no answer to this question"
    if crash:
        sim.crash()
        assert [order.request for order in sim.all(do.StartAction)].count(first) == 1
        assert [order.request for order in sim.all(do.StartAction)].count(second) == 2
    sim.happen(ev.ActionSucceeded(call, first, BEN))
    assert sim.at_step(call) == "who.wait"
    if crash:
        sim.crash()
    sim.happen(ev.ActionSucceeded(call, second, ANNA))
    assert sim.at_step(call) == "bye"
    assert sim.center.calls[call].vars["contact.first_name"] == "Anna"
    sim.hangs_up(call)
    sim.replays()


@pytest.mark.parametrize("how", ["person", "sent", "error", "nothing typed", "hangs up"])
def test_a_step_is_left_however_the_call_goes_on_and_not_where_it_ends(tmp_path: Path, how: str) -> None:
    sim, call = began(tmp_path)
    if how == "person":
        sim.press(call, "0")
        sim.wait(5)
    elif how == "sent":
        sim.happen(ev.CallSteered(call, "out"))
    elif how == "error":
        sim.happen(ev.StepFailed(call, "boom"))
    elif how == "nothing typed":
        sim.prompt_ends(call)
        sim.wait(7)
    else:
        sim.hangs_up(call)
    assert ("left who" in asked(sim, call)) == (how != "hangs up")
    assert not [each for each in sim.all(facts.Noticed, call) if each.what == "automation not started" and "left" not in each.detail]


def test_another_event_is_acted_upon_only_at_the_step(tmp_path: Path) -> None:
    sim = Sim(Book({"1": load(tmp_path)}, QUEUES, AGENTS))
    call = sim.dial("+4930123456", "1")
    sim.happen(ev.SessionWritten(call, {"ivr.tier": "gold"}))
    assert asked(sim, call) == []
    sim.prompt_ends(call)
    sim.happen(ev.SessionWritten(call, {"ivr.x": "1"}))
    assert asked(sim, call) == ["at the door", "written there"], "a step of a subflow is at the subflow's as well"


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_what_cannot_be_asked_is_noted_and_disturbs_nothing(tmp_path: Path, crash: bool) -> None:
    sim, call = began(tmp_path)
    if crash:
        sim.crash()
    sim.press(call, "0")
    sim.wait(5)
    assert "contact_by_reference on left" in sim.last(facts.Noticed, call).detail
    assert sim.at_step(call) == "away"


WRONG = [
    (FLOW.replace("at: who.ask", "at: who.aks"), "small.yaml:11: automations.1.at: there is no step 'who.aks' (did you mean 'who.ask'?)"),
    (FLOW.replace("on: entered, at: who", "on: entered"), "small.yaml:10: automations.0: expected `at`, the step that is entered"),
    (FLOW.replace("on: left, at: who,", "on: arrival, at: who,"), "small.yaml:12: automations.2: a call that arrives is at no step yet"),
    (FLOW.replace("on: left, at: who,", "on: gone, at: who,"), "small.yaml:12: automations.2.on: Input should be 'arrival'"),
]


@pytest.mark.parametrize(("text", "told"), WRONG, ids=[told for _, told in WRONG])
def test_a_mistake_is_told_with_its_line(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ProjectError) as raised:
        load(tmp_path, text)
    assert any(problem.removeprefix(f"{tmp_path}/").startswith(told) for problem in raised.value.problems), raised.value.problems


def test_the_projects_automations_are_for_no_one_step(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match=r"automations.yaml:2: automations.0.at: a step is one flow's"):
        load(tmp_path, shared='automations:\n  - {on: entered, at: end, action: crm.order_link, with: {order: "1"}}\n')


def findings(tmp_path: Path, text: str) -> list[tuple[str, str, str]]:
    path = tmp_path / "small.yaml"
    flow = load(tmp_path, text)
    report = prove(path, read_yaml(path), flow, QUEUES, AGENTS, {})
    return [(each.proof, each.where, each.what) for each in report.findings]


def test_what_no_path_has_set_by_then_is_told(tmp_path: Path) -> None:
    assert findings(tmp_path, FLOW) == []
    too_early = FLOW.replace("on: left, at: who.ask,", "on: entered, at: who.ask,").replace("exits: {done: who}", "exits: {done: who}")
    once = too_early.replace("otherwise: first", "otherwise: away")
    assert ("unset", "automations.1.with.digits") in [(proof, where) for proof, where, _ in findings(tmp_path, once)]


def test_a_record_that_is_asked_for_anew_is_not_known_any_more(tmp_path: Path) -> None:
    spoken = FLOW.replace("bye: Goodbye.", 'bye: "Goodbye {{ contact.first_name }}."')
    spoken = spoken.replace("entries: {out: bye}\n", "")
    assert findings(tmp_path, spoken) == []
    again = spoken.replace("on: left, at: who.ask,", "on: left, at: check,")
    assert ("unset", "steps.bye.prompt") in [(proof, where) for proof, where, _ in findings(tmp_path, again)]


def test_it_is_shown_at_its_step_and_told_as_a_change(tmp_path: Path) -> None:
    flow = load(tmp_path)
    lines = outline(Context(flow, {})).splitlines()
    at = next(n for n, line in enumerate(lines) if line.startswith("who.ask "))
    assert lines[at + 1] == "    beside, left: crm.contact_by_reference into contact"
    assert "left: crm.contact_by_reference into contact" in mermaid(Context(flow, {}))
    less = load(tmp_path, FLOW.replace("  - {on: left, at: who, action: crm.order_link, with: {order: left who}}\n", ""))
    (change,) = differences(flow.program, less.program)
    assert change.text() == ("what is asked beside the steps: at who, left: crm.order_link [order: left who] before, nothing now.")
