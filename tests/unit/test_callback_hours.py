"""Callbacks that keep to opening hours, and to the time that the caller wished."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.call import BOOKED, QUEUED
from app.core.flow.hours import Table
from app.core.transfer import Rules
from app.publish.calendars import expand_all
from app.publish.flowfile import load_flow
from app.publish.meaning import Context
from app.publish.proofs import prove
from app.publish.reading import ProjectError
from app.yamlfile import read_yaml
from tests.unit.centre import SIMS, Sim
from tests.unit.test_callbacks import AGENTS, NUMBER, QUEUES, RULES, customer, ended
from tests.unit.test_publish_flow import TODAY

BERLIN = ZoneInfo("Europe/Berlin")
FLOW = """\
flow: again
dnis: ["1"]
start: call
on_error: bye
languages: [en]
calendars:
  shop:
    zone: Europe/Berlin
    open: {mon-fri: ["09:00-12:00", "13:00-18:00"]}
    holidays: [2026-06-05]
prompts:
  now: Shall we call you.
  later: ["Shall we call you on", "date:{{ call.callback }}", "time:{{ call.callback }}"]
  wish: When shall we call.
  soon: {en: ["We will call you", "{{ call.callback }}"]}
steps:
  when:
    do: collect
    into: time
    prompt: wish
    retry_no_match: wish
    retry_no_input: wish
    length: 4
    exits: {match: call, no_match: bye, no_input: bye}
  call:
    do: callback
    prompt: now
    prompt_later: later
    hours: shop
    queue: line
    attempts: 2
    retry_after: 3600
    within: 90000
    exits: {booked: soon, declined: bye, failed: bye, no_input: bye}
  soon: {do: say, prompt: soon, exits: {done: bye}}
  bye: {do: hangup}
"""
WISHED = FLOW.replace("start: call", "start: when").replace("hours: shop\n", 'hours: shop\n    wish: "{{ vars.time }}"\n')


@pytest.fixture(autouse=True)
def replayed() -> Iterator[None]:
    """Whatever happened in a test comes out the same when it is run again."""
    SIMS.clear()
    yield
    for sim in SIMS:
        sim.replays()


def at(local: str) -> float:
    return datetime.fromisoformat(local).replace(tzinfo=BERLIN).timestamp()


def centre(tmp_path: Path, local: str, text: str = FLOW, rules: Rules = RULES) -> Sim:
    path = tmp_path / "again.yaml"
    path.write_text(text)
    sim = Sim(Book({"1": load_flow(path, {}, QUEUES, today=TODAY)}, QUEUES, AGENTS, transfers=rules))
    sim.now = at(local)
    return sim


def until(sim: Sim, local: str) -> None:
    sim.wait(at(local) - sim.now)


def booked(sim: Sim, wish: str = "") -> str:
    call = sim.dial(ani=NUMBER, dnis="1")
    sim.press(call, f"{wish}1")
    assert sim.at_step(call) == "soon"
    sim.hangs_up(call)
    return call


def phase(sim: Sim, call: str) -> str:
    return sim.center.calls[call].phase


def test_while_it_is_open_nothing_is_different(tmp_path: Path) -> None:
    sim = centre(tmp_path, "2026-06-03 10:00")
    call = booked(sim)
    assert "Shall we call you." in sim.heard(call)
    assert sim.last(facts.CallbackBooked, call).begins == ""
    assert phase(sim, call) == QUEUED
    sim.agent_is_ready("ann")
    sim.answers(call)
    sim.happen(ev.LegAnswered(call, customer(sim, call)))
    sim.happen(ev.LegEnded(call, customer(sim, call), 16))
    assert ended(sim, call) == "called_back"


@pytest.mark.parametrize(
    ("booked_at", "opens", "day"),
    [
        ("2026-06-03 08:00", "2026-06-03 09:00", "June third, twenty twenty six"),
        ("2026-06-03 12:30", "2026-06-03 13:00", "June third, twenty twenty six"),
        ("2026-06-03 18:00", "2026-06-04 09:00", "June fourth, twenty twenty six"),
        ("2026-06-04 20:00", "2026-06-08 09:00", "June eighth, twenty twenty six"),
    ],
)
@pytest.mark.parametrize("crash", [False, True], ids=["", "after crashes"])
def test_who_books_while_it_is_closed_is_told_when_it_will_be_and_called_then(
    tmp_path: Path, booked_at: str, opens: str, day: str, crash: bool
) -> None:
    sim = centre(tmp_path, booked_at)
    sim.agent_is_ready("ann")
    call = booked(sim)
    assert day in sim.heard(call).replace("-", " ")
    assert f"We will call you {opens}" in sim.heard(call)
    assert sim.last(facts.CallbackBooked, call).begins == opens
    assert phase(sim, call) == BOOKED
    if crash:
        sim.crash()
    sim.wait(at(opens) - sim.now - 1)
    assert sim.all(do.RingAgent) == []
    if crash:
        sim.crash()
    sim.wait(1)
    sim.answers(call)
    assert len(sim.all(do.RingOutside, call)) == 1
    assert datetime.fromtimestamp(sim.now, BERLIN).strftime("%Y-%m-%d %H:%M") == opens


@pytest.mark.parametrize("crash", [False, True], ids=["", "after a crash"])
def test_who_waits_as_the_hours_end_waits_for_the_next_and_keeps_the_place(tmp_path: Path, crash: bool) -> None:
    sim = centre(tmp_path, "2026-06-03 17:30")
    sim.happen(ev.AgentPhoneChanged("ann", True))
    sim.happen(ev.AgentSignedIn("ann"))
    call = booked(sim)
    assert phase(sim, call) == QUEUED
    if crash:
        sim.crash()
    until(sim, "2026-06-03 18:00")
    assert phase(sim, call) == BOOKED
    sim.happen(ev.AgentBecameReady("ann"))
    assert sim.all(do.RingAgent) == [], "nobody is rung in the evening"
    until(sim, "2026-06-04 08:00")
    later = booked(sim)
    until(sim, "2026-06-04 09:00")
    assert [order.call for order in sim.all(do.RingAgent)] == [call]
    assert phase(sim, later) == QUEUED


def test_an_agent_who_answers_after_closing_dials_nobody_and_no_try_is_lost(tmp_path: Path) -> None:
    sim = centre(tmp_path, "2026-06-03 11:59:58")
    sim.agent_is_ready("ann")
    call = booked(sim)
    sim.wait(3)
    sim.answers(call)
    assert sim.all(do.RingOutside, call) == []
    assert (sim.last(facts.CallbackTried, call).outcome, sim.last(facts.CallbackTried, call).left) == ("closed", 2)
    assert sim.center.acd.state("ann")["work"] == [], "the agent is free at once"
    until(sim, "2026-06-03 13:00")
    sim.answers(call)
    assert len(sim.all(do.RingOutside, call)) == 1


def test_a_phone_that_still_rings_at_closing_time_is_not_rung_again(tmp_path: Path) -> None:
    sim = centre(tmp_path, "2026-06-03 11:59:58")
    sim.agent_is_ready("ann")
    call = booked(sim)
    sim.wait(3)
    sim.happen(ev.LegEnded(call, sim.rings(call), 19))
    sim.happen(ev.AgentBecameReady("ann"))
    sim.wait(120)
    assert phase(sim, call) == BOOKED


def test_the_next_try_is_in_the_hours_too(tmp_path: Path) -> None:
    sim = centre(tmp_path, "2026-06-03 17:30")
    sim.agent_is_ready("ann")
    call = booked(sim)
    sim.answers(call)
    sim.happen(ev.LegEnded(call, customer(sim, call), 17))
    assert (sim.last(facts.CallbackTried, call).outcome, phase(sim, call)) == ("busy", BOOKED)
    until(sim, "2026-06-04 08:59")
    assert len(sim.all(do.RingAgent, call)) == 1
    until(sim, "2026-06-04 09:00")
    assert len(sim.all(do.RingAgent, call)) == 2


def test_the_time_within_which_one_is_called_counts_from_the_opening(tmp_path: Path) -> None:
    sim = centre(tmp_path, "2026-06-04 20:00")
    call = booked(sim)
    until(sim, "2026-06-09 09:59")
    assert phase(sim, call) == QUEUED
    until(sim, "2026-06-09 10:00")
    assert ended(sim, call) == "not_reached"


@pytest.mark.parametrize(
    ("now", "wish", "begins"),
    [
        ("2026-06-03 10:00", "1100", "2026-06-03 11:00"),
        ("2026-06-03 10:00", "1000", ""),
        ("2026-06-03 10:00", "0930", "2026-06-04 09:30"),
        ("2026-06-03 10:00", "1215", "2026-06-03 13:00"),
        ("2026-06-03 10:00", "1930", "2026-06-04 09:00"),
        ("2026-06-04 17:00", "1000", "2026-06-08 09:00"),
        ("2026-10-23 17:00", "1000", "2026-10-26 09:00"),
    ],
)
def test_a_wished_time_falls_into_the_hours(tmp_path: Path, now: str, wish: str, begins: str) -> None:
    sim = centre(tmp_path, now, WISHED)
    sim.agent_is_ready("ann")
    call = booked(sim, wish)
    assert sim.last(facts.CallbackBooked, call).begins == begins
    if begins:
        sim.wait(at(begins) - sim.now - 1)
        assert sim.all(do.RingAgent) == []
        sim.wait(1)
    assert len(sim.all(do.RingAgent, call)) == 1


@pytest.mark.parametrize("wish", ["2500", "1260"])
def test_what_is_no_time_of_day_is_not_booked(tmp_path: Path, wish: str) -> None:
    sim = centre(tmp_path, "2026-06-03 10:00", WISHED)
    call = sim.dial(ani=NUMBER, dnis="1")
    sim.press(call, wish)
    assert sim.at_step(call) == "bye"
    assert "no time of day" in sim.last(facts.Noticed, call).detail


def test_beyond_the_end_of_the_calendar_nobody_is_promised_anything(tmp_path: Path) -> None:
    sim = centre(tmp_path, "2029-06-03 10:00")
    call = sim.dial(ani=NUMBER, dnis="1")
    assert sim.at_step(call) == "bye"
    assert "publish the flow anew" in sim.last(facts.Noticed, call).detail


WRONG = [
    ("hours: shop", "hours: shp", "again.yaml:29: steps.call.hours: there is no calendar 'shp' (did you mean 'shop'?)"),
    ("prompt_later: later", "prompt_later: latter", "again.yaml:28: steps.call.prompt_later: there is no prompt 'latter'"),
    ("    hours: shop\n", "", "again.yaml:25: steps.call: `wish` and `prompt_later` need `hours`, a calendar"),
    ("hours: shop\n", 'hours: shop\n    wish: "{{ vars.tme }}"\n', "again.yaml:30: steps.call.wish: there is no variable 'vars.tme'"),
]


@pytest.mark.parametrize(("right", "wrong", "told"), WRONG, ids=[told for *_, told in WRONG])
def test_a_mistake_is_told_with_its_line(tmp_path: Path, right: str, wrong: str, told: str) -> None:
    with pytest.raises(ProjectError) as raised:
        centre(tmp_path, "2026-06-03 10:00", FLOW.replace(right, wrong, 1))
    found = [problem.removeprefix(f"{tmp_path}/") for problem in raised.value.problems]
    assert any(problem.startswith(told) for problem in found), found


def test_the_proofs_know_both_offers(tmp_path: Path) -> None:
    def proofs(text: str) -> list[tuple[str, str]]:
        sim = centre(tmp_path, "2026-06-03 10:00", text)
        path = tmp_path / "again.yaml"
        report = prove(path, read_yaml(path), sim.book.flows["1"], QUEUES, AGENTS, {})
        return [(each.proof, each.where) for each in report.findings if each.proof in ("unset", "silent") and "call" in each.where]

    assert proofs(WISHED) == []
    assert ("silent", "steps.call.prompt_later") in proofs(WISHED.replace('"Shall we call you on", ', ""))
    unset: Any = WISHED.replace("start: when", "start: call").replace("  when:", "  late:").replace("booked: soon", "booked: late")
    assert ("unset", "steps.call.wish") in proofs(unset)
    assert Context(centre(tmp_path, "2026-06-03 10:00").book.flows["1"], {}).types["call.callback"] == "string"


def table(zone: str) -> Table:
    tables, wrong = expand_all({"all": {"zone": zone, "open": {"mon-sun": ["00:00-24:00"]}}}, TODAY)
    assert not wrong
    found: Table = tables["all"]
    return found


@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York", "Asia/Kolkata", "UTC", "Australia/Lord_Howe"])
def test_the_zones_clocks_are_known_at_any_time(zone: str) -> None:
    known = table(zone)
    for n in range(0, 24 * 400, 7):
        moment = at("2026-01-01 00:00") + 3600 * n
        assert known.local(moment) == datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%Y-%m-%d %H:%M")


def test_a_day_is_told_by_its_date() -> None:
    plain = Table(since=0.0, until=1e11, open=(), holidays=())
    for day in range(80_000):
        moment = datetime(1970, 1, 1, 12, tzinfo=UTC) + timedelta(day)
        assert plain.local(moment.timestamp()) == f"{moment:%Y-%m-%d} 12:00"


def test_hours_round_the_clock_never_close_and_the_clocks_time_is_found_across_a_change() -> None:
    known = table("Europe/Berlin")
    assert known.closes(at("2026-06-03 10:00")) == known.until
    saturday = at("2026-10-24 15:00")
    assert datetime.fromtimestamp(known.at_clock(saturday, 14 * 60 + 30), BERLIN) == datetime(2026, 10, 25, 14, 30, tzinfo=BERLIN)
    assert known.opens(known.until) is None
    assert datetime.fromtimestamp(known.since, UTC).year == 2024
