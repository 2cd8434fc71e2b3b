"""What publishing adds to a flow file: subflows put in, calendars expanded, the project's automations joined."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import AgentDef, QueueDef
from app.core.book import Book
from app.core.flow.compiled import Compiled
from app.publish.calendars import expand_all
from app.publish.centre import load_book
from app.publish.flowfile import load_flow
from app.publish.reading import ProjectError
from app.publish.shared import Shared
from app.replaying import other_flow
from app.testing.coverage import exits_in
from app.yamlfile import parse_yaml
from tests.unit.centre import ANNA, OUTPUTS, PROJECT, Sim

QUEUES = {"line": QueueDef("line", ring=5, wrap_up=10, max_wait=60)}
AGENTS = {"ann": AgentDef("ann", "Ann", "ann", {}, ("line",))}
TODAY = date(2026, 6, 1)


def load(tmp_path: Path, text: str, *, today: date = TODAY, shared: str = "") -> Compiled:
    path = tmp_path / "small.yaml"
    path.write_text(text, encoding="utf-8")
    if shared:
        (tmp_path / "automations.yaml").write_text(shared, encoding="utf-8")
    return load_flow(path, OUTPUTS, QUEUES, shared=Shared(tmp_path), today=today)


def problems(tmp_path: Path, text: str, **more: Any) -> list[str]:
    with pytest.raises(ProjectError) as raised:
        load(tmp_path, text, **more)
    return [problem.removeprefix(f"{tmp_path}/") for problem in raised.value.problems]


def call_of(compiled: Compiled, now: datetime | None = None) -> tuple[Sim, str]:
    sim = Sim(Book({"1": compiled}, QUEUES, AGENTS))
    if now is not None:
        sim.now = now.timestamp()
    return sim, sim.dial("+4930123456", "1")


# ---- hours ------------------------------------------------------------------------------------------------------------------

HOURS = """\
flow: small
start: check
on_error: away
calendars:
  shop:
    zone: Europe/Berlin
    open:
      mon-fri: ["09:00-12:30", "13:30-18:00"]
      sat: 10:00-14:00
    holidays: [12-25, 2026-10-03, 01-01]
    special: {12-24: 09:00-12:00}
steps:
  check:
    do: hours
    calendar: shop
    exits: {open: opened, closed: shut, holiday: feast}
  opened: {do: hangup}
  shut: {do: hangup}
  feast: {do: hangup}
  away: {do: release}
"""
BERLIN = ZoneInfo("Europe/Berlin")
TIMES = [
    ("2026-06-03 09:00", "opened"),
    ("2026-06-03 08:59:59", "shut"),
    ("2026-06-03 12:29:59", "opened"),
    ("2026-06-03 12:30", "shut"),
    ("2026-06-03 18:00", "shut"),
    ("2026-06-06 13:59", "opened"),
    ("2026-06-07 11:00", "shut"),
    ("2026-12-25 03:00", "feast"),
    ("2027-12-25 23:59:59", "feast"),
    ("2026-12-26 00:00", "shut"),
    ("2026-10-03 11:00", "feast"),
    ("2026-12-24 11:00", "opened"),
    ("2026-12-24 14:00", "shut"),
    ("2026-01-15 09:00", "opened"),
    ("2026-01-15 08:00", "shut"),
    ("2028-06-01 10:00", "opened"),
]


@pytest.mark.parametrize(("local", "step"), TIMES)
def test_hours_are_those_of_the_calendars_own_zone(tmp_path: Path, local: str, step: str) -> None:
    sim, call = call_of(load(tmp_path, HOURS), datetime.fromisoformat(local).replace(tzinfo=BERLIN))
    assert sim.at_step(call) == step


def test_beyond_the_end_of_the_table_it_is_closed_and_somebody_is_told(tmp_path: Path) -> None:
    compiled = load(tmp_path, HOURS)
    until = compiled.program.tables["shop"].until
    assert datetime.fromtimestamp(until, UTC) >= datetime(2028, 12, 31, tzinfo=UTC)
    sim, call = call_of(compiled, datetime.fromtimestamp(until, UTC))
    assert sim.at_step(call) == "shut"
    assert sim.last(facts.Noticed, call).what == "calendar has no hours for today"


def test_the_version_follows_the_calendar_and_not_the_day_on_which_it_is_read(tmp_path: Path) -> None:
    first = load(tmp_path, HOURS)
    later = load(tmp_path, HOURS, today=date(2027, 3, 3))
    assert first.program.tables != later.program.tables
    assert first.version == later.version
    assert load(tmp_path, HOURS.replace("10:00-14:00", "10:00-15:00")).version != first.version


def test_clocks_that_change_move_the_hours_in_utc() -> None:
    tables, wrong = expand_all({"night": {"zone": "Europe/Berlin", "open": {"sat-mon": "00:00-24:00"}}}, TODAY)
    assert not wrong
    hours = [(end - begin) / 3600 for begin, end in tables["night"].open]
    assert {23.0, 24.0, 25.0} == set(hours)


WRONG_HOURS = [
    ("Europe/Berlin", "Europe/Berlln", 6, "calendars.shop.zone: there is no zone 'Europe/Berlln' (did you mean 'Europe/Berlin'?)"),
    ("Europe/Berlin", "../etc", 6, "calendars.shop.zone: there is no zone '../etc'"),
    ("mon-fri:", "mon-fry:", 8, "calendars.shop.open.mon-fry: not a day"),
    ("sat: 10", "fri: 10", 9, "calendars.shop.open.fri: fri has hours already, under 'mon-fri'"),
    ("10:00-14:00", "10-14", 9, "calendars.shop.open.sat: not hours such as 09:00-18:00 (found '10-14')"),
    ("10:00-14:00", "10:00-25:00", 9, "calendars.shop.open.sat: not hours"),
    ("10:00-14:00", "22:00-06:00", 9, "calendars.shop.open.sat: '22:00-06:00' ends before it begins"),
    ("13:30-18:00", "12:00-18:00", 8, "calendars.shop.open.mon-fri: hours that overlap"),
    ("2026-10-03", "2026-02-30", 10, "calendars.shop.holidays.1: not a day"),
    ("12-25", "25.12.", 10, "calendars.shop.holidays.0: not a day"),
    ("{12-24:", "{12-25:", 11, "calendars.shop.special.12-25: this day is a holiday as well"),
    ("calendar: shop", "calendar: shp", 15, "steps.check.calendar: there is no calendar 'shp' (did you mean 'shop'?)"),
    ("zone: Europe/Berlin", "sone: Europe/Berlin", 5, "calendars.shop.zone: Field required"),
    ("flow: small", "flow: small\ntables: {}", 2, "tables: comes from the calendars"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "told"), WRONG_HOURS, ids=[told for *_, told in WRONG_HOURS])
def test_a_mistake_in_a_calendar_is_told_with_its_line(tmp_path: Path, right: str, wrong: str, line: int, told: str) -> None:
    assert any(problem.startswith(f"small.yaml:{line}: {told}") for problem in problems(tmp_path, HOURS.replace(right, wrong, 1)))


# ---- subflows ---------------------------------------------------------------------------------------------------------------

SUBFLOWS = """\
flow: small
start: hello
on_error: away
conditions: {known: contact.found}
prompts: {ask: Your reference., hello: Hello.}
subflows:
  identify:
    start: ask
    exits: [known, unknown]
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
  greeted:
    start: greet
    exits: [done]
    steps:
      greet: {do: say, prompt: hello, exits: {done: who}}
      who: {do: subflow, run: identify, exits: {known: exit.done, unknown: exit.done}}
steps:
  hello: {do: subflow, run: greeted, exits: {done: who}}
  who:
    do: subflow
    run: identify
    exits: {known: bye, unknown: away}
  bye: {do: hangup}
  away: {do: release}
"""


def test_the_exits_that_tests_are_to_take_are_those_of_the_steps_that_run(tmp_path: Path) -> None:
    program = load(tmp_path, SUBFLOWS).program
    ways = {(step, way) for step, node in program.steps.items() for way in node.ways() or ("",)}
    assert {(each.step, each.name) for each in exits_in(Path("small.yaml"), parse_yaml(SUBFLOWS.encode()), Shared())} == ways


def enters(sim: Sim, call: str, *, found: bool, crash: bool) -> None:
    if crash:
        sim.crash()
    sim.press(call, "275")
    if crash:
        sim.crash()
    if found:
        sim.answer_action(call, ANNA)
    else:
        sim.fail_action(call)


@pytest.mark.parametrize("crash", [False, True], ids=["", "after crashes"])
def test_a_subflow_is_run_wherever_it_is_named_and_comes_back_by_its_exits(tmp_path: Path, crash: bool) -> None:
    sim, call = call_of(load(tmp_path, SUBFLOWS))
    sim.prompt_ends(call)
    enters(sim, call, found=True, crash=crash)
    enters(sim, call, found=False, crash=crash)
    inner = [f"hello.who.{step}" for step in ("ask", "look", "again")]
    assert sim.steps(call) == ["hello", "hello.greet", "hello.who", *inner, "who", "who.ask", "who.look", "away"]


WRONG_SUBFLOWS = [
    ("run: greeted", "run: identify, x: y", 37, "steps.hello.exits: subflow 'identify' has the exits: known, unknown (found: done)"),
    ("run: greeted", "run: greted", 37, "steps.hello.run: there is no subflow 'greted' (did you mean 'greeted'?)"),
    ("run: greeted", "do_: x", 37, "steps.hello.run: there is no subflow 'None'"),
    ("{known: bye, unknown: away}", "{known: bye}", 41, "steps.who.exits: subflow 'identify' has the exits"),
    ("match: look", "match: lok", 19, "subflows.identify.steps.ask.exits.match: there is no step 'lok' (did you mean 'look'?)"),
    ("match: look", "match: bye", 19, "subflows.identify.steps.ask.exits.match: there is no step 'bye'"),
    ("cases: {known: exit.known}", "cases: {known: exit.knwn}", 28, "subflows.identify.steps.again.cases.known: there is no exit 'knwn'"),
    ("length: 3", "length: none", 17, "steps.who.ask.length: Input should be a valid integer"),
    ("    start: ask", "    start: as", 8, "subflows.identify.start: there is no step 'as'"),
    ("exits: [known, unknown]", "exits: known", 9, "subflows.identify.exits: not a list"),
    ("    start: greet\n", "", 30, "subflows.greeted: a subflow has start, exits and steps"),
    (
        "run: greeted, exits: {done: who}",
        "run: identify, exits: {known: bye, unknown: bye}",
        30,
        "subflows.greeted: no step runs this subflow",
    ),
    ("prompt: hello, exits", "promt: hello, exits", 34, "steps.hello.greet.promt: Extra inputs are not permitted"),
    ("unknown: away}", "unknown: awy}", 41, "steps.who.exits.unknown: there is no step 'awy' (did you mean 'away'?)"),
]


@pytest.mark.parametrize(("right", "wrong", "line", "told"), WRONG_SUBFLOWS, ids=[told for *_, told in WRONG_SUBFLOWS])
def test_a_mistake_in_a_subflow_is_told_where_it_is_written(tmp_path: Path, right: str, wrong: str, line: int, told: str) -> None:
    found = problems(tmp_path, SUBFLOWS.replace(right, wrong, 1))
    assert any(problem.startswith(f"small.yaml:{line}: {told}") for problem in found), found


@pytest.mark.parametrize(
    ("right", "wrong", "circle"),
    [
        (
            "greet: {do: say, prompt: hello, exits: {done: who}}",
            "greet: {do: subflow, run: greeted, exits: {done: who}}",
            "greeted -> greeted",
        ),
        (
            "      look:\n        do: lookup",
            "      deep: {do: subflow, run: greeted, exits: {done: exit.known}}\n      look:\n        do: lookup",
            "greeted -> identify -> greeted",
        ),
    ],
)
def test_a_subflow_that_runs_itself_is_refused(tmp_path: Path, right: str, wrong: str, circle: str) -> None:
    found = problems(tmp_path, SUBFLOWS.replace(right, wrong, 1))
    assert any(f"a subflow cannot run itself: {circle}" in problem and problem.startswith("small.yaml:") for problem in found), found


def test_subflows_that_multiply_are_stopped(tmp_path: Path) -> None:
    runs = "".join(f"      s{n}: {{do: subflow, run: NEXT, exits: {{done: {f's{n + 1}' if n < 7 else 'exit.done'}}}}}\n" for n in range(8))
    levels = [f"  l{n}:\n    start: s0\n    exits: [done]\n    steps:\n{runs.replace('NEXT', f'l{n + 1}')}" for n in range(5)]
    last = "  l5:\n    start: s0\n    exits: [done]\n    steps: {s0: {do: say, prompt: hello, exits: {done: exit.done}}}\n"
    text = f"flow: small\nstart: a\non_error: b\nprompts: {{hello: Hi.}}\nsubflows:\n{''.join(levels)}{last}"
    text += "steps:\n  a: {do: subflow, run: l0, exits: {done: b}}\n  b: {do: hangup}\n"
    assert any("more than 500 steps" in problem for problem in problems(tmp_path, text))


# ---- automations ------------------------------------------------------------------------------------------------------------

AUTOMATIONS = """\
flow: small
start: hello
on_error: away
conditions: {vip: has(ivr.tier) && ivr.tier == 'gold', who: contact.found && contact.premium}
prompts: {hello: Hello.}
automations:
  - {on: arrival, action: crm.contact_by_phone, with: {phone: "{{ call.ani }}"}, into: contact}
  - {on: session_written, action: crm.order_link, with: {order: "{{ ivr.order }}"}, when: vip}
steps:
  hello: {do: say, prompt: hello, exits: {done: wait}}
  wait: {do: wait_for, variable: contact.answered, max_wait: 10, exits: {set: check, too_long: away}}
  check: {do: switch, cases: {who: line}, exits: {otherwise: line, failed: away}}
  line: {do: queue, queue: line, exits: {talked: bye, no_agents: away, too_long: away, failed: away}}
  bye: {do: hangup}
  away: {do: release}
"""
SHARED = """\
conditions:
  served: call.agent != ''
automations:
  - {on: answered, action: crm.order_link, with: {order: "answered {{ call.id }}"}}
  - {on: queued, action: crm.order_link, with: {order: queued}}
  - {on: connected, action: crm.order_link, with: {order: "connected to {{ call.agent }}"}}
  - {on: ended, action: crm.order_link, with: {order: "{{ call.outcome }} by {{ call.agent }}"}, when: served}
"""


def test_a_flow_that_calls_are_replayed_under_has_the_automations_of_its_project(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder)
    (folder / "automations.yaml").write_text(
        'automations:\n  - {on: answered, action: crm.order_link, with: {order: "answered {{ call.id }}"}}\n'
    )
    assert [each.on for each in other_flow(folder / "flows" / "order-status.yaml", folder).program.automations] == ["answered"]


def asked(sim: Sim, call: str) -> list[tuple[str, Any]]:
    return [(order.action, *order.params.values()) for order in sim.all(do.StartAction, call)]


def test_an_automation_leaves_at_arrival_before_the_welcome_and_a_step_may_wait_for_its_answer(tmp_path: Path) -> None:
    sim, call = call_of(load(tmp_path, AUTOMATIONS))
    kinds = [type(thing) for thing in sim.out]
    assert kinds.index(do.StartAction) < kinds.index(do.Play)
    request = sim.last(do.StartAction, call).request
    sim.prompt_ends(call)
    assert sim.at_step(call) == "wait"
    sim.happen(ev.ActionSucceeded(call, request, ANNA))
    assert sim.steps(call)[:4] == ["hello", "wait", "check", "line"]
    assert sim.center.calls[call].vars["contact.first_name"] == "Anna"


@pytest.mark.parametrize("outcome", ["answer", "failure", "nobody"])
@pytest.mark.parametrize("when", ["in the prompt", "while it is waited for"])
@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_the_answer_may_come_at_any_time_and_may_be_a_failure(tmp_path: Path, outcome: str, when: str, crash: bool) -> None:
    sim, call = call_of(load(tmp_path, AUTOMATIONS))
    request = sim.last(do.StartAction, call).request
    if when != "in the prompt":
        sim.prompt_ends(call)
    if crash:
        sim.crash()
        assert [order.request for order in sim.all(do.StartAction, call)] == [request, request], "what died with the process is asked again"
    event = {"answer": ev.ActionSucceeded(call, request, ANNA), "failure": ev.ActionFailed(call, request, "timeout")}.get(outcome)
    if event is not None:
        sim.happen(event)
        sim.crash()
        assert len(sim.all(do.StartAction, call)) <= 2 + crash, "an answer that came is not asked for again twice"
    if when == "in the prompt":
        sim.wait(3)
        sim.prompt_ends(call)
    sim.wait(10.1)
    assert sim.steps(call)[2] == {"answer": "check", "failure": "check", "nobody": "away"}[outcome]
    known = sim.center.calls[call].vars
    assert (known["contact.answered"], known["contact.found"]) == (outcome != "nobody", outcome == "answer")


def test_what_is_written_starts_an_automation_where_its_condition_holds(tmp_path: Path) -> None:
    sim, call = call_of(load(tmp_path, AUTOMATIONS))
    sim.happen(ev.SessionWritten(call, {"ivr.tier": "iron", "ivr.order": "1"}))
    sim.happen(ev.SessionWritten(call, {"ivr.tier": "gold", "ivr.order": "2"}))
    assert asked(sim, call)[1:] == [("crm.order_link", "2")]
    sim.crash()
    assert asked(sim, call)[2:] == [("crm.contact_by_phone", "+4930123456")], "what nobody waits for is not asked again"


def test_an_automation_that_cannot_be_started_is_noted_and_disturbs_nothing(tmp_path: Path) -> None:
    sim, call = call_of(load(tmp_path, AUTOMATIONS))
    sim.happen(ev.SessionWritten(call, {"ivr.tier": "gold"}))
    assert sim.last(facts.Noticed, call).what == "automation not started"
    assert sim.at_step(call) == "hello"


def test_the_projects_automations_belong_to_every_flow(tmp_path: Path) -> None:
    sim, call = call_of(load(tmp_path, AUTOMATIONS, shared=SHARED))
    sim.agent_is_ready("ann")
    sim.answer_action(call, {})
    request = sim.all(do.StartAction, call)[0].request
    sim.happen(ev.ActionSucceeded(call, request, ANNA))
    sim.prompt_ends(call)
    sim.answers(call)
    sim.wait(1)
    sim.crash()
    sim.hangs_up(call)
    shared = [order for action, order in asked(sim, call) if action == "crm.order_link"]
    assert shared == [f"answered {call}", "queued", "connected to ann", "answered by ann"]
    other, unserved = call_of(load(tmp_path, AUTOMATIONS, shared=SHARED))
    other.hangs_up(unserved)
    assert len(asked(other, unserved)) == 2, "its condition does not hold for a caller whom nobody served"


WRONG_AUTOMATIONS = [
    (AUTOMATIONS.replace("crm.order_link", "crm.order"), SHARED, "small.yaml:8: automations.1.action: there is no action 'crm.order'"),
    (AUTOMATIONS.replace("when: vip", "when: vap"), SHARED, "small.yaml:8: automations.1.when: there is no condition 'vap'"),
    (AUTOMATIONS.replace("on: arrival", "on: departure"), SHARED, "small.yaml:7: automations.0.on: Input should be 'arrival'"),
    (
        AUTOMATIONS.replace("contact.answered", "contct.answered"),
        SHARED,
        "small.yaml:11: steps.wait.variable: there is no variable that an",
    ),
    (
        AUTOMATIONS,
        SHARED.replace("crm.order_link", "crm.order", 1),
        "automations.yaml:4: automations.2.action: there is no action 'crm.order'",
    ),
    (AUTOMATIONS, SHARED.replace("call.agent != ''", "call.agnt != ''"), "automations.yaml:2: conditions.served: "),
    (AUTOMATIONS, SHARED.replace("on: queued", "on: queue"), "automations.yaml:5: automations.3.on: Input should be"),
    (AUTOMATIONS, "steps: {}", "automations.yaml:1: the file has automations and conditions, and nothing else"),
    (AUTOMATIONS, "automations: {a: [", "automations.yaml:1: not YAML"),
]


@pytest.mark.parametrize(("text", "shared", "told"), WRONG_AUTOMATIONS, ids=[told for *_, told in WRONG_AUTOMATIONS])
def test_a_mistake_in_an_automation_is_told_where_it_is_written(tmp_path: Path, text: str, shared: str, told: str) -> None:
    assert any(problem.startswith(told) for problem in problems(tmp_path, text, shared=shared))


def test_a_mistake_in_the_projects_automations_is_told_once_for_all_flows(tmp_path: Path) -> None:
    (tmp_path / "centre.yaml").write_text("queues: {line: {}}\nagents: {ann: {name: Ann, queues: [line]}}\n")
    (tmp_path / "automations.yaml").write_text(SHARED.replace("crm.order_link", "crm.order", 1))
    (tmp_path / "flows").mkdir()
    for n in range(2):
        (tmp_path / "flows" / f"f{n}.yaml").write_text(AUTOMATIONS.replace("flow: small", f"flow: small{n}"))
    with pytest.raises(ProjectError) as raised:
        load_book(tmp_path, OUTPUTS)
    assert len(raised.value.problems) == 1
