"""Callers who are called back, on virtual time."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import AgentDef, QueueDef
from app.core.book import Book
from app.core.call import BOOKED, DIALLING, QUEUED, TALKING
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.core.saving import history_row
from app.core.transfer import GRACE, Rules
from app.pbx.reconcile import Found, Snapshot, reconcile
from app.proving import prove_files
from app.testing.centre import VirtualCentre
from app.testing.project import Project
from tests.unit.centre import PROJECT, Sim

QUEUES = {"line": QueueDef("line", ring=5, wrap_up=10, max_wait=60)}
AGENTS = {name: AgentDef(name, name.title(), name, {"lang.en": 5}, ("line",)) for name in ("ann", "bob")}
RULES = Rules(("+49*",), ("+49900*",), ("carrier",), at_once=2)
NUMBER = "+4930555000101"
CALLBACK: dict[str, Any] = {
    "do": "callback",
    "prompt": "offer",
    "queue": "line",
    "ring": "20",
    "attempts": "2",
    "retry_after": "300",
    "exits": {"booked": "booked", "declined": "declined", "failed": "broken", "no_input": "silent"},
}
WAIT: dict[str, Any] = {
    "do": "queue",
    "queue": "line",
    "skills": {"lang.en": "3"},
    "place": "front",
    "attach": {"reference": "R1"},
    "exits": {"talked": "bye", "no_agents": "call", "too_long": "call", "failed": "bye"},
}


def centre(rules: Rules = RULES, start: str = "call", **changed: Any) -> Sim:
    """A centre whose flow offers a callback, at once or after a while in the queue."""
    ends = {name: {"do": "say", "prompt": name, "exits": {"done": "bye"}} for name in CALLBACK["exits"].values()}
    content = {
        "flow": "test",
        "start": start,
        "on_error": "bye",
        "prompts": {"offer": "Shall we call {{ call.ani }}?", **{name: name for name in ends}},
        "steps": {"wait": WAIT, "call": {**CALLBACK, **changed}, **ends, "bye": {"do": "hangup"}},
    }
    return Sim(Book({"1": compile_program(Program.model_validate(content), QUEUES)}, QUEUES, AGENTS, transfers=rules))


def booked(sim: Sim) -> str:
    """A caller who has booked, and has hung up."""
    call = sim.dial(ani=NUMBER, dnis="1")
    sim.press(call, "1")
    assert sim.at_step(call) == "booked"
    sim.prompt_ends(call)
    sim.hangs_up(call)
    return call


def dialled(sim: Sim) -> str:
    """A booking whose agent is there while the customer's phone is about to ring."""
    call = booked(sim)
    sim.agent_is_ready("ann")
    sim.answers(call)
    return call


def customer(sim: Sim, call: str) -> str:
    return str(sim.last(do.RingOutside, call).leg)


def work(sim: Sim, agent: str = "ann") -> list[str]:
    return [row["state"] for row in sim.center.acd.state(agent)["work"]]


def ended(sim: Sim, call: str) -> str:
    (fact,) = sim.all(facts.CallbackEnded, call)
    return str(fact.outcome)


# ---- the offer ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("keys", "step"), [("1", "booked"), ("2", "declined"), ("91", "booked"), ("99", "silent"), ("", "silent")])
def test_the_caller_chooses_by_a_key(keys: str, step: str) -> None:
    sim = centre()
    call = sim.dial(ani=NUMBER, dnis="1")
    assert NUMBER in sim.heard(call)
    for key in keys:
        sim.press(call, key)
    sim.wait(0 if keys else 40)
    assert step in sim.steps(call)
    assert bool(sim.all(facts.CallbackBooked)) == (step == "booked")


@pytest.mark.parametrize("ani", ["anonymous", "", "+49900123456", "0049301234"])
def test_a_number_that_must_not_be_dialled_is_not_offered(ani: str) -> None:
    sim = centre()
    call = sim.dial(ani=ani, dnis="1")
    assert sim.at_step(call) == "broken"
    assert "Shall we" not in sim.heard(call)
    sim.prompt_ends(call)
    sim.hangs_up(call)
    assert sim.ending(call) == "self_service"
    assert not sim.center.calls


def test_a_trunk_that_is_not_the_projects_fails() -> None:
    sim = centre(through="other")
    assert sim.at_step(sim.dial(ani=NUMBER, dnis="1")) == "broken"


def test_the_place_in_the_queue_is_kept() -> None:
    sim = centre(start="wait")
    sim.agent_is_ready("ann")
    sim.happen(ev.AgentBecameNotReady("ann", "lunch"))
    call = sim.dial(ani=NUMBER, dnis="1")
    before = sim.center.calls[call].place
    assert before is not None
    sim.wait(60)
    sim.press(call, "1")
    sim.prompt_ends(call)
    assert not sim.center.acd.waiting("line"), "nothing waits while the caller is there"
    sim.hangs_up(call)
    place = sim.center.calls[call].place
    assert place is not None
    assert (place.first, place.credit, place.skills, place.attach) == (before.first, before.credit, {"lang.en": 3}, {"reference": "R1"})
    assert sim.center.acd.position(call) == 1
    assert sim.ending(call) == "booked"
    sim.happen(ev.AgentBecameReady("ann"))
    card = sim.last(do.Pop, call).card
    assert (card["callback"], card["reference"], card["first_enqueue"]) == (NUMBER, "R1", before.first)


def test_a_caller_who_talks_to_an_agent_after_all_is_not_called_back() -> None:
    sim = centre(exits={**CALLBACK["exits"], "booked": "wait"})
    sim.agent_is_ready("ann")
    call = sim.dial(ani=NUMBER, dnis="1")
    sim.press(call, "1")
    sim.answers(call)
    sim.hangs_up(call)
    assert sim.ending(call) == "answered"
    sim.wait(11)
    assert not sim.center.calls
    assert not sim.all(facts.CallbackEnded)


# ---- calling back -----------------------------------------------------------------------------------------------------------


def test_the_agent_answers_first_and_then_the_customer() -> None:
    sim = centre()
    call = booked(sim)
    sim.wait(100)
    assert sim.center.calls[call].phase == QUEUED, "nobody who could serve it is signed in, and it waits all the same"
    sim.agent_is_ready("ann")
    ring = sim.last(do.RingAgent, call)
    assert ring.alone
    assert not sim.all(do.RingOutside)
    agent = sim.answers(call)
    out = sim.last(do.RingOutside, call)
    assert (out.number, out.trunk, out.bridge, out.seconds, out.alone) == (NUMBER, "carrier", ring.bridge, 20.0, True)
    sim.happen(ev.LegRinging(call, out.leg))
    sim.happen(ev.LegAnswered(call, out.leg))
    assert sim.center.calls[call].phase == TALKING
    assert sim.last(facts.Connected, call).agent == "ann"
    sim.wait(30)
    sim.happen(ev.LegEnded(call, out.leg))
    assert sim.last(do.HangUpLeg, call).leg == agent
    sim.happen(ev.LegEnded(call, agent))
    assert (ended(sim, call), work(sim)) == ("called_back", ["wrap_up"])
    row = history_row(sim.center.calls[call])
    assert (row["outcome"], row["agent"], row["talked"], row["waited"]) == ("called_back", "ann", 30.0, 100.0)
    sim.wait(10)
    assert (work(sim), sim.center.calls, sim.live) == ([], {}, {})


def test_the_agent_may_hang_up_first() -> None:
    sim = centre()
    call = dialled(sim)
    leg = customer(sim, call)
    sim.happen(ev.LegAnswered(call, leg))
    sim.happen(ev.AgentHungUp("ann", call))
    sim.happen(ev.LegEnded(call, sim.last(do.RingAgent, call).leg))
    assert sim.last(do.HangUpLeg, call).leg == leg
    assert (ended(sim, call), work(sim)) == ("called_back", ["wrap_up"])
    sim.happen(ev.LegEnded(call, leg))
    assert len(sim.all(facts.TalkEnded, call)) == 1


@pytest.mark.parametrize(("how", "why"), [(17, "busy"), (19, "no_answer"), (3, "failed"), (-1, "failed"), ("silence", "no_answer")])
def test_a_customer_who_is_not_reached_is_tried_again_later_and_then_no_more(how: Any, why: str) -> None:
    sim = centre()
    call = dialled(sim)
    for left in (1, 0):
        leg = customer(sim, call)
        if how == "silence":
            sim.wait(20 + GRACE)
            assert leg in [order.leg for order in sim.all(do.HangUpLeg, call)]
        else:
            sim.happen(ev.LegEnded(call, leg, how))
        tried = sim.last(facts.CallbackTried, call)
        assert (tried.outcome, tried.left, work(sim)) == (why, left, [])
        assert sim.last(do.RingAgent, call).leg in [order.leg for order in sim.all(do.HangUpLeg, call)], "the agent is let go"
        sim.happen(ev.LegEnded(call, sim.last(do.RingAgent, call).leg))
        if left:
            assert sim.center.calls[call].phase == BOOKED
            sim.wait(299)
            assert len(sim.all(do.RingAgent, call)) == 1, "not before its time"
            sim.wait(1)
            sim.answers(call)
    assert ended(sim, call) == "not_reached"
    assert (len(sim.all(do.RingOutside, call)), sim.center.calls, sim.live) == (2, {}, {})


def test_an_agent_who_declines_costs_no_try() -> None:
    sim = centre()
    call = booked(sim)
    sim.agent_is_ready("ann")
    sim.rings(call)
    sim.happen(ev.AgentRejected("ann", call))
    assert sim.center.calls[call].phase == QUEUED
    assert sim.center.calls[call].booking["left"] == 2
    sim.agent_is_ready("bob")
    sim.answers(call)
    sim.happen(ev.LegAnswered(call, customer(sim, call)))
    assert sim.last(facts.Connected, call).agent == "bob"
    first, second = (order.bridge for order in sim.all(do.RingAgent, call))
    assert first != second, "the first bridge went with its only leg, and may be there for a moment still"


def test_an_agent_who_hangs_up_while_it_rings_stops_the_customers_phone() -> None:
    sim = centre()
    call = dialled(sim)
    sim.happen(ev.LegEnded(call, sim.last(do.RingAgent, call).leg))
    assert customer(sim, call) in [order.leg for order in sim.all(do.HangUpLeg, call)]
    assert (sim.last(facts.CallbackTried, call).outcome, sim.center.calls[call].phase) == ("agent_left", BOOKED)
    sim.happen(ev.LegAnswered(call, customer(sim, call)))
    assert sim.center.calls[call].phase == BOOKED, "an answer that crossed it is nobody's"


def test_no_more_lines_than_the_rules_allow() -> None:
    sim = centre(Rules(("+49*",), (), ("carrier",), at_once=1))
    first, second = booked(sim), booked(sim)
    sim.agent_is_ready("ann")
    sim.answers(first)
    sim.agent_is_ready("bob")
    sim.answers(second)
    assert len(sim.all(do.RingOutside)) == 1
    assert sim.center.calls[second].phase == BOOKED


def test_a_booking_that_nobody_serves_in_time_is_over() -> None:
    sim = centre(within="600")
    call = booked(sim)
    sim.wait(600)
    assert (ended(sim, call), sim.center.calls) == ("not_reached", {})


# ---- the end of the process ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", ["asked", "booked", "waiting", "offered", "dialling", "ringing", "talking", "sleeping", "wrap_up"])
def test_a_booking_survives_the_process_at_every_point(point: str) -> None:
    sim = centre()

    def at(here: str) -> None:
        if here == point:
            sim.crash()

    call = sim.dial(ani=NUMBER, dnis="1")
    at("asked")
    sim.press(call, "1")
    at("booked")
    sim.prompt_ends(call)
    sim.hangs_up(call)
    at("waiting")
    sim.agent_is_ready("ann")
    agent = sim.last(do.RingAgent, call).leg
    at("offered")
    sim.happen(ev.LegAnswered(call, agent))
    at("dialling")
    sim.happen(ev.LegEnded(call, customer(sim, call), 17))
    sim.happen(ev.LegEnded(call, agent))
    at("sleeping")
    sim.wait(300)
    sim.answers(call)
    sim.happen(ev.LegRinging(call, customer(sim, call)))
    at("ringing")
    (live,) = sim.center.live_calls()
    assert (live.alone, live.caller, set(live.legs.values())) == (True, False, {"up", "ringing"})
    sim.happen(ev.LegAnswered(call, customer(sim, call)))
    at("talking")
    sim.wait(5)
    sim.happen(ev.LegEnded(call, customer(sim, call)))
    at("wrap_up")
    sim.wait(11)
    assert (ended(sim, call), len(sim.all(do.RingOutside, call)), len(sim.all(do.RingAgent, call))) == ("called_back", 2, 2)
    assert (work(sim), sim.center.calls, sim.live) == ([], {}, {})


def test_a_dial_of_which_there_is_no_trace_is_a_try_and_not_repeated_at_once() -> None:
    sim = centre()
    call = dialled(sim)
    sim.crash()
    assert sim.center.calls[call].phase == DIALLING
    sim.happen(ev.LegEnded(call, customer(sim, call), -1))
    assert (len(sim.all(do.RingOutside, call)), sim.center.calls[call].phase, work(sim)) == (1, BOOKED, [])


@pytest.mark.parametrize("caller", [False, True])
def test_a_phone_let_go_while_nobody_saw_is_rung_again_and_its_agent_not_blamed(caller: bool) -> None:
    """The agent may have answered: after ten seconds without us the watchdog hangs up whoever has nobody to talk to."""
    sim = centre(start="wait" if caller else "call")
    call = "call1"
    if not caller:
        booked(sim)
    sim.agent_is_ready("ann")
    if caller:
        sim.dial(ani=NUMBER, dnis="1")
    sim.rings(call)
    sim.crash()
    channels = {sim.center.calls[call].channel: Found("Up", True)} if caller else {}
    for event in reconcile(sim.center.live_calls(), Snapshot(channels=channels)):
        sim.happen(event)
    assert sim.center.acd.state("ann")["presence"] == "ready"
    first, second = (order.bridge for order in sim.all(do.RingAgent, call))
    assert (first == second) is caller, "a bridge in which nobody is left goes, and none is made anew under its name"
    sim.answers(call)
    assert sim.center.calls[call].phase == (TALKING if caller else DIALLING)
    assert sim.all(facts.CallbackTried, call) == []


def test_a_pbx_that_begins_anew_loses_the_caller_and_not_the_booking() -> None:
    sim = centre()
    call = sim.dial(ani=NUMBER, dnis="1")
    sim.press(call, "1")
    sim.happen(ev.PbxBack(True))
    sim.happen(ev.CallerLeft(call, 41))
    sim.agent_is_ready("ann")
    sim.answers(call)
    sim.happen(ev.LegAnswered(call, customer(sim, call)))
    assert sim.center.calls[call].phase == TALKING


# ---- in a test of one's own, and before publishing --------------------------------------------------------------------------


FILE = """\
flow: again
dnis: ["1120"]
start: ask
on_error: no
prompts: {ask: ["Shall we call you at", "characters:{{ call.ani }}"], soon: We call you back., no: We cannot call you back.}
steps:
  ask: {do: callback, prompt: ask, queue: general, exits: {booked: soon, declined: no, failed: no, no_input: no}}
  soon: {do: say, prompt: soon, exits: {done: bye}}
  no: {do: say, prompt: no, exits: {done: bye}}
  bye: {do: hangup}
"""


@pytest.fixture
def files(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    shutil.copytree(PROJECT, folder)
    (folder / "flows" / "again.yaml").write_text(FILE)
    centre_file = folder / "centre.yaml"
    centre_file.write_text(centre_file.read_text() + "\ntransfers: {trunks: [carrier], allowed: ['+49*']}\n")
    return folder


def test_a_test_of_a_flow_calls_back(files: Path) -> None:
    virtual = VirtualCentre(Project.load(files))
    call = virtual.dial(NUMBER, to="again")
    call.hears("Shall we call you")
    call.presses("1")
    call.hears("soon")
    assert virtual.until(lambda: call.outcome == "booked", 30)
    chen = virtual.agent("Chen").ready()
    chen.answers()
    assert virtual.until(lambda: chen.state == "talking" and call.state == "over", 1)
    virtual.waits(seconds=60)
    chen.hangs_up()
    assert (call.outcome, call.agent, chen.state) == ("called_back", "103", "wrap_up")
    virtual.check()


def test_a_test_of_a_flow_says_that_the_customer_is_busy(files: Path) -> None:
    virtual = VirtualCentre(Project.load(files))
    virtual.on(do.RingOutside, lambda order: ev.LegEnded(order.call, order.leg, 17))
    call = virtual.dial(NUMBER, to="again")
    call.presses("1")
    virtual.agent("Chen").ready().always_answers()
    assert virtual.until(lambda: call.outcome == "not_reached", 3600)
    assert len([order for order in virtual.commands if isinstance(order, do.RingOutside)]) == 3


def test_a_callback_is_proved_like_any_step(files: Path) -> None:
    flow = files / "flows" / "again.yaml"
    (report,) = prove_files(files, [flow]).reports
    assert report.findings == ()
    for old, new, proof in [
        ("failed: no,", "failed: ask,", "endless"),
        ("queue: general,", "queue: general, skills: {lang.xx: 9},", "unstaffed"),
        ("failed: no,", "failed: bye,", "forsaken"),
    ]:
        flow.write_text(FILE.replace(old, new))
        (report,) = prove_files(files, [flow]).reports
        assert proof in [finding.proof for finding in report.findings if finding.where.startswith("steps.ask")], report.findings
