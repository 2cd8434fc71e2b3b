"""A whole centre under a random life: callers, keys, lookups, agents, phones, desks, time, lost events, crashes at any moment.

`World` is the truth behind the centre: the channels, legs and playbacks that a PBX would have, changed by the centre's commands and
by chance. What a crash or a lost link hides from the centre comes back through the adapter's own reconciliation.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import AgentDef, IllegalMove, QueueDef, Relax
from app.core.book import Book
from app.core.call import FLOW, OFFERED, QUEUED, TALKING, TRANSFER
from app.core.center import Center
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.core.offers import waiting_of
from app.core.saving import dump_call, restore
from app.pbx.reconcile import Found, Snapshot, reconcile
from tests.unit.centre import SIMS, Sim

EXAMPLES = int(os.environ.get("CALLWRIGHT_MACHINE_EXAMPLES", "60"))
STEPS = int(os.environ.get("CALLWRIGHT_MACHINE_STEPS", "50"))

FLOW_FILE: dict[str, Any] = {
    "flow": "everything",
    "dnis": ["1"],
    "start": "look",
    "on_error": "sorry",
    "returns": "back",
    "conditions": {"unknown": "!call.number_known", "premium": "contact.found && contact.premium"},
    "prompts": {
        "welcome": ["Welcome.", "We look for you."],
        "ask": "Your number, please.",
        "again": "Once more.",
        "hello": "Hello {{ contact.name }}.",
        "choose": "One or two.",
        "sorry": "We are sorry.",
    },
    "steps": {
        "look": {
            "do": "lookup",
            "into": "contact",
            "action": "find",
            "with": {"phone": "{{ call.ani }}"},
            "unless": "unknown",
            "ring": "0.6",
            "mask": "welcome",
            "exits": {"found": "check", "none": "ask", "many": "ask", "failed": "general"},
        },
        "ask": {
            "do": "collect",
            "into": "number",
            "prompt": "ask",
            "retry_no_match": "again",
            "retry_no_input": "again",
            "length": "3",
            "tries": "2",
            "exits": {"match": "look_again", "no_match": "general", "no_input": "general"},
        },
        "look_again": {
            "do": "lookup",
            "into": "contact",
            "action": "find",
            "with": {"phone": "{{ vars.number }}"},
            "exits": {"found": "check", "none": "general", "many": "general", "failed": "general"},
        },
        "check": {"do": "switch", "cases": {"premium": "hello"}, "exits": {"otherwise": "mail", "failed": "general"}},
        "hello": {"do": "say", "prompt": "hello", "barge_in": "true", "exits": {"done": "premium"}},
        "mail": {
            "do": "email",
            "to": "{{ contact.name }}@example.com",
            "subject": "Hello",
            "body": "Hello",
            "mask": "sorry",
            "exits": {"sent": "bye", "failed": "choose"},
        },
        "choose": {
            "do": "menu",
            "prompt": "choose",
            "choices": {"1": "general", "2": "to_ann"},
            "retry_no_match": "again",
            "retry_no_input": "again",
            "tries": "2",
            "exits": {"no_match": "general", "no_input": "bye"},
        },
        "premium": {
            "do": "queue",
            "queue": "premium",
            "skills_from": "contact.skills",
            "place": "front",
            "exits": {"talked": "survey", "no_agents": "sorry", "too_long": "general", "failed": "general"},
        },
        "general": {
            "do": "queue",
            "queue": "general",
            "exits": {"talked": "survey", "no_agents": "sorry", "too_long": "sorry", "failed": "sorry"},
        },
        "back": {
            "do": "queue",
            "queue": "general",
            "place": "back",
            "exits": {"talked": "bye", "no_agents": "sorry", "too_long": "sorry", "failed": "sorry"},
        },
        "survey": {
            "do": "menu",
            "prompt": "choose",
            "choices": {"1": "premium", "2": "to_cy"},
            "retry_no_match": "again",
            "retry_no_input": "again",
            "tries": "1",
            "exits": {"no_match": "bye", "no_input": "bye"},
        },
        "to_ann": {
            "do": "transfer",
            "agent": "ann",
            "ring": "5",
            "exits": {"talked": "survey", "no_answer": "general", "busy": "premium", "failed": "bye"},
        },
        "to_cy": {
            "do": "transfer",
            "agent": "cy",
            "ring": "5",
            "exits": {"talked": "bye", "no_answer": "to_ann", "busy": "to_ann", "failed": "general"},
        },
        "sorry": {"do": "say", "prompt": "sorry", "exits": {"done": "away"}},
        "away": {"do": "release"},
        "bye": {"do": "hangup"},
    },
    "outputs": {"find": {"found": "bool", "count": "int", "premium": "bool", "name": "string", "skills": "map"}},
}
QUEUES = {
    "premium": QueueDef("premium", ring=5, wrap_up=10, max_wait=60, relax=(Relax(20, "x", 1),)),
    "general": QueueDef("general", ring=5, wrap_up=10, max_wait=90),
}
AGENTS = {
    "ann": AgentDef("ann", "Ann", "ann", {"x": 5, "y": 3}, ("premium", "general")),
    "bob": AgentDef("bob", "Bob", "bob", {"x": 8}, ("premium",)),
    "cy": AgentDef("cy", "Cy", "cy", {}, ("general",)),
    "dee": AgentDef("dee", "Dee", "dee", {"x": 2}, ("premium", "general"), wrap_up=0.0),
}
AFTER_THE_END = (do.HangUpLeg, do.DropBridge, do.WithdrawPop, do.QueueLog)
CAUSES = (0, 3, 16, 17, 18, 19, 20, 21, 26, 27, 34, 38, 41)


def small_book() -> Book:
    direct = {**FLOW_FILE, "flow": "direct", "dnis": ["3"], "start": "to_cy"}
    flows = {flow["dnis"][0]: compile_program(Program.model_validate(flow), QUEUES) for flow in (FLOW_FILE, direct)}
    return Book(flows, QUEUES, AGENTS, max_calls=6)


@dataclass
class Line:
    """The PBX's truth about one call."""

    call: str
    channel: str
    up: bool = False
    alive: bool = True
    music: bool = False
    playing: list[str] = field(default_factory=list)
    legs: dict[str, str] = field(default_factory=dict)
    bridged: set[str] = field(default_factory=set)
    bridge: str = ""
    asked: list[tuple[str, str]] = field(default_factory=list)


class CentreMachine(RuleBasedStateMachine):
    """Invariants are I1, I3, I4 of the fault list, ids, sound, deadlines, and that a restart at any moment changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.sim = Sim(small_book())
        self.lines: dict[str, Line] = {}
        self.owed: list[ev.Event] = []
        self.unsent: list[do.Command] = []
        self.read = 0
        self.ended: set[str] = set()
        self.over: dict[str, int] = {}
        self.legs: set[str] = set()
        self.offers: set[str] = set()
        self.media: dict[str, tuple[str, ...]] = {}
        self.requests: dict[str, int] = {}
        self.crashes = 0
        self.old: list[ev.Event] = []

    # ---- the truth -----------------------------------------------------------------------------------------------------

    def happen(self, event: ev.Event) -> None:
        self.send()
        self.old.append(event)
        self.sim.happen(event)
        self.look()

    def look(self) -> None:
        """Read what the centre said; what it ordered is carried out when the next thing happens, or never."""
        for thing in self.sim.out[self.read :]:
            self.check(thing)
            if isinstance(thing, do.Command):
                self.unsent.append(thing)
        self.read = len(self.sim.out)

    def check(self, thing: Any) -> None:
        if isinstance(thing, do.Command):
            assert thing.call not in self.ended or isinstance(thing, AFTER_THE_END), f"{thing} after the end"
        if isinstance(thing, facts.CallEnded):
            self.over[thing.call] = self.over.get(thing.call, 0) + 1
            self.ended.add(thing.call)
        elif isinstance(thing, do.RingAgent):
            assert thing.leg not in self.legs
            self.legs.add(thing.leg)
        elif isinstance(thing, facts.Offered):
            assert thing.offer not in self.offers
            self.offers.add(thing.offer)
        elif isinstance(thing, do.Play):
            assert self.media.setdefault(thing.playback, thing.media) == thing.media
        elif isinstance(thing, do.StartAction | do.SendMail):
            self.requests[thing.request] = self.requests.get(thing.request, 0) + 1
            assert self.requests[thing.request] <= 1 + self.crashes

    def send(self) -> None:
        """Carry out what the centre ordered."""
        orders, self.unsent = self.unsent, []
        for order in orders:
            self.carry_out(self.lines[order.call], order)

    def carry_out(self, line: Line, order: do.Command) -> None:
        if isinstance(order, do.HangUpLeg):
            if line.legs.pop(order.leg, None) is not None:
                line.bridged.discard(order.leg)
                self.owed.append(ev.LegEnded(line.call, order.leg, order.cause))
        elif isinstance(order, do.RingAgent):
            if line.alive:
                line.legs[order.leg], line.bridge = "down", order.bridge
                line.bridged.add(order.leg)
            else:
                self.owed.append(ev.LegEnded(line.call, order.leg, 26))
        elif not line.alive:
            return
        elif isinstance(order, do.Answer):
            line.up = True
        elif isinstance(order, do.Play):
            line.playing.append(order.playback)
        elif isinstance(order, do.StopPlay):
            if order.playback in line.playing:
                line.playing.remove(order.playback)
                self.owed.append(ev.PlaybackEnded(line.call, order.playback))
        elif isinstance(order, do.StartMusic):
            line.music = True
        elif isinstance(order, do.StopMusic | do.Talk):
            line.music = False
        elif isinstance(order, do.JoinBridge):
            line.bridged.add(order.leg)
        elif isinstance(order, do.StartAction):
            line.asked.append(("action", order.request))
        elif isinstance(order, do.SendMail):
            line.asked.append(("mail", order.request))
        elif isinstance(order, do.HangUp | do.Release):
            self.gone(line)
            self.owed.append(ev.CallerLeft(line.call, 16))

    def gone(self, line: Line) -> None:
        line.alive, line.music = False, False
        line.playing.clear()

    def snapshot(self, restarted: bool = False) -> Snapshot:
        states = {"down": "Down", "ringing": "Ringing", "up": "Up"}
        channels = {line.channel: Found("Up" if line.up else "Ring", True) for line in self.lines.values() if line.alive}
        bridges: dict[str, tuple[str, ...]] = {}
        playing: set[str] = set()
        for line in self.lines.values():
            channels |= {leg: Found(states[state], True, dialled=True) for leg, state in line.legs.items()}
            if line.bridge:
                bridges[line.bridge] = (*((line.channel,) if line.alive else ()), *sorted(line.bridged))
            playing |= set(line.playing)
        return Snapshot(restarted, channels, bridges, frozenset(playing))

    def reconnect(self, restarted: bool = False) -> None:
        """What was not seen is inferred, as the adapter does it; events under way are lost."""
        self.send()
        self.owed.clear()
        for event in reconcile(self.sim.center.live_calls(), self.snapshot(restarted)):
            self.happen(event)
        known = {leg for live in self.sim.center.live_calls() for leg in live.legs}
        for line in self.lines.values():
            for stray in set(line.legs) - known:
                del line.legs[stray]
                line.bridged.discard(stray)
        self.send()
        ringing = {leg for line in self.lines.values() for leg in line.legs}
        assert ringing <= {leg for live in self.sim.center.live_calls() for leg in live.legs}, "a phone rings for an offer that is over"

    def hidden(self, data: st.DataObject) -> None:
        """Things that happen while nobody of ours sees them."""
        for line in self.lines.values():
            if line.alive and data.draw(st.integers(0, 5)) == 0:
                self.gone(line)
            for leg in list(line.legs):
                change = data.draw(st.sampled_from(("", "ringing", "up", "end")))
                if change == "end":
                    del line.legs[leg]
                    line.bridged.discard(leg)
                elif change and line.legs[leg] != "up":
                    line.legs[leg] = change
            for playback in list(line.playing):
                if data.draw(st.booleans()):
                    line.playing.remove(playback)

    def some(self, data: st.DataObject, test: Callable[[Line], Any]) -> Line | None:
        lines = [line for line in self.lines.values() if test(line)]
        return data.draw(st.sampled_from(lines)) if lines else None

    # ---- callers -------------------------------------------------------------------------------------------------------

    @initialize(agents=st.sets(st.sampled_from(sorted(AGENTS)), min_size=1))
    def some_agents_are_there(self, agents: set[str]) -> None:
        for agent in sorted(agents):
            self.happen(ev.AgentPhoneChanged(agent, True))
            self.happen(ev.AgentSignedIn(agent))
            self.happen(ev.AgentBecameReady(agent))

    @rule(ani=st.sampled_from(("+4930555000101", "anonymous")), dnis=st.sampled_from(("1", "1", "2", "3", "3")), back=st.integers(0, 4))
    def a_caller_arrives(self, ani: str, dnis: str, back: int) -> None:
        call = f"call{len(self.lines) + 1}"
        self.lines[call] = Line(call, f"channel-{call}", up=back == 4)
        kept = {"queue": "premium", "first_enqueue": self.sim.now - 30, "priority": "front"} if back == 4 else {}
        self.happen(ev.CallArrived(call, f"channel-{call}", ani, "", dnis, up=back == 4, returning=kept))

    @rule(data=st.data(), keys=st.sampled_from(("1", "2", "#", "123", "123#", "*", "A", "12", "x")))
    def a_caller_presses_keys(self, data: st.DataObject, keys: str) -> None:
        line = self.some(data, lambda line: line.alive)
        for key in keys if line else "":
            assert line is not None
            if line.alive:
                self.happen(ev.DigitPressed(line.call, key))

    @rule(data=st.data(), cause=st.sampled_from(CAUSES))
    def a_caller_hangs_up(self, data: st.DataObject, cause: int) -> None:
        self.send()
        line = self.some(data, lambda line: line.alive)
        if line:
            self.gone(line)
            self.happen(ev.CallerLeft(line.call, cause))

    @rule(data=st.data(), ok=st.booleans())
    def a_prompt_ends(self, data: st.DataObject, ok: bool) -> None:
        self.send()
        line = self.some(data, lambda line: line.playing)
        if line:
            self.happen(ev.PlaybackEnded(line.call, line.playing.pop(0), ok))

    @rule(data=st.data(), how=st.sampled_from(("one", "one", "basic", "none", "many", "failed", "bad skills", "no count", "six skills")))
    def an_answer_comes(self, data: st.DataObject, how: str) -> None:
        self.send()
        line = self.some(data, lambda line: line.asked)
        if not line:
            return
        kind, request = line.asked.pop(0)
        if kind == "mail":
            self.happen(ev.MailFailed(line.call, request, "no") if how == "failed" else ev.MailSent(line.call, request))
        elif how == "failed":
            self.happen(ev.ActionFailed(line.call, request, "timeout"))
        else:
            skills: dict[str, Any] = {"x": 3}
            skills = {"bad skills": {"x": 99}, "six skills": {f"s{n}": 1 for n in range(6)}}.get(how, skills)
            count = {"none": 0, "many": 2, "no count": None}.get(how, 1)
            values = {"found": count == 1, "count": count, "premium": how != "basic", "name": "Anna", "skills": skills}
            self.happen(ev.ActionSucceeded(line.call, request, values))

    # ---- legs ----------------------------------------------------------------------------------------------------------

    @rule(data=st.data(), what=st.sampled_from(("ringing", "up", "up", "end")), cause=st.sampled_from(CAUSES))
    def a_leg_does_something(self, data: st.DataObject, what: str, cause: int) -> None:
        self.send()
        line = self.some(data, lambda line: line.legs)
        if not line:
            return
        leg = data.draw(st.sampled_from(sorted(line.legs)))
        if what == "end":
            del line.legs[leg]
            line.bridged.discard(leg)
            self.happen(ev.LegEnded(line.call, leg, cause))
        elif line.legs[leg] != "up":
            line.legs[leg] = what
            self.happen((ev.LegAnswered if what == "up" else ev.LegRinging)(line.call, leg))

    @rule()
    def the_pbx_tells_what_it_owes(self) -> None:
        self.send()
        owed, self.owed = self.owed, []
        for event in owed:
            self.happen(event)

    @rule(data=st.data())
    def the_pbx_refuses_the_last_dial(self, data: st.DataObject) -> None:
        dials = [order for order in self.unsent if isinstance(order, do.RingAgent)]
        if dials:
            self.unsent.remove(dials[0])
            self.happen(ev.CommandRefused(dials[0].call, "RingAgent", dials[0].leg, "no such endpoint"))

    # ---- agents --------------------------------------------------------------------------------------------------------

    @rule(
        agent=st.sampled_from(sorted(AGENTS)),
        kind=st.sampled_from((ev.AgentSignedIn, ev.AgentSignedOut, ev.AgentBecameReady, ev.AgentBecameReady, ev.AgentBecameNotReady)),
    )
    def an_agent_changes(self, agent: str, kind: type[ev.AgentEvent]) -> None:
        self.wish(kind(agent))

    @rule(agent=st.sampled_from(sorted(AGENTS)), kind=st.sampled_from((ev.DeskFound, ev.DeskLost)))
    def a_desk_comes_or_goes(self, agent: str, kind: type[ev.AgentEvent]) -> None:
        self.happen(kind(agent))

    @rule(
        agent=st.sampled_from(sorted(AGENTS)), reachable=st.sampled_from((True, True, False)), in_use=st.sampled_from((True, False, False))
    )
    def a_phone_changes(self, agent: str, reachable: bool, in_use: bool) -> None:
        self.happen(ev.AgentPhoneChanged(agent, reachable, in_use))

    @rule(
        data=st.data(),
        agent=st.sampled_from(sorted(AGENTS)),
        kind=st.sampled_from((ev.AgentRejected, ev.AgentHungUp, ev.AgentFinishedWrapUp)),
    )
    def an_agent_acts_on_a_call(self, data: st.DataObject, agent: str, kind: type[Any]) -> None:
        if self.lines:
            self.wish(kind(agent, data.draw(st.sampled_from(sorted(self.lines)))))

    @rule(data=st.data())
    def a_desk_acknowledges(self, data: st.DataObject) -> None:
        pops = self.sim.all(do.Pop)[-3:]
        if pops:
            pop = data.draw(st.sampled_from(pops))
            self.happen(ev.DeskAcknowledged(pop.agent, pop.call, pop.offer))

    def wish(self, event: ev.AgentEvent) -> None:
        """What an agent asks for is granted, or refused and then nothing has changed."""
        before = self.picture(self.sim.center)
        try:
            self.happen(event)
        except IllegalMove:
            assert self.picture(self.sim.center) == before
            assert self.sim.center.touched().calls == {}

    # ---- time, faults --------------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from((0.0, 0.1, 0.2, 0.5, 2.0, 3.0, 5.0, 11.0, 31.0, 61.0)))
    def time_passes(self, seconds: float) -> None:
        self.send()
        until = self.sim.now + seconds
        while (at := self.sim.center.next_deadline()) is not None and at <= until:
            self.sim.now = max(at, self.sim.now)
            due = self.sim.center.due(self.sim.now)
            assert due is not None
            self.happen(due)
            self.send()
        self.sim.now = until

    @precondition(lambda self: self.old)
    @rule(data=st.data())
    def something_comes_twice_or_late(self, data: st.DataObject) -> None:
        event = data.draw(st.sampled_from(self.old[-40:]))
        stale = isinstance(event, ev.LegRinging | ev.LegAnswered | ev.LegEnded | ev.PlaybackEnded | ev.ActionSucceeded | ev.MailSent)
        if isinstance(event, ev.LegAnswered) and event.leg in self.lines[event.call].legs:
            return
        if isinstance(event, ev.CallArrived) and event.call in self.ended:
            return
        if stale or isinstance(event, ev.CallerLeft | ev.CallArrived | ev.DeskAcknowledged | ev.TimerFired | ev.CommandRefused):
            self.happen(event)

    @rule(data=st.data())
    def events_about_nobody(self, data: st.DataObject) -> None:
        leg = data.draw(st.sampled_from(("nobody-leg1", "call1-leg99", "")))
        for event in (
            ev.LegEnded("nobody", leg),
            ev.PlaybackEnded("nobody", "nobody-pb1"),
            ev.DigitPressed("nobody", "1"),
            ev.CallerLeft("nobody"),
        ):
            self.sim.happen(event)
        for call in list(self.lines)[:1]:
            self.happen(ev.LegEnded(call, leg))
            self.happen(ev.CommandRefused(call, "MarkPlace", "", "no"))

    @precondition(lambda self: any(line.alive for line in self.lines.values()))
    @rule(data=st.data())
    def an_adapter_fails(self, data: st.DataObject) -> None:
        line = self.some(data, lambda line: line.alive)
        assert line is not None
        self.happen(ev.StepFailed(line.call, "boom"))

    @rule(data=st.data(), restarted=st.sampled_from((False, False, True)))
    def the_link_is_lost_and_comes_back(self, data: st.DataObject, restarted: bool) -> None:
        self.happen(ev.PbxLost("closed"))
        self.send()
        self.hidden(data)
        if restarted:
            for line in self.lines.values():
                self.gone(line)
                line.legs.clear()
                line.bridged.clear()
        self.reconnect(restarted)

    @rule(data=st.data(), carried_out=st.booleans(), away=st.sampled_from((0.0, 3.0, 30.0)))
    def the_process_is_killed(self, data: st.DataObject, carried_out: bool, away: float) -> None:
        """At any moment: before or after the last commands went out. What happens meanwhile is not seen."""
        if carried_out:
            self.send()
        self.unsent.clear()
        self.crashes += 1
        self.hidden(data)
        self.sim.now += away
        self.sim.crash()
        self.look()
        for line in self.lines.values():
            line.asked.clear()
        self.send()
        self.reconnect()

    # ---- what must hold ------------------------------------------------------------------------------------------------

    @staticmethod
    def picture(center: Center) -> dict[str, Any]:
        """Everything that decides what a centre does next."""
        acd = center.acd
        picture: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "calls": {call.id: dump_call(center, call) for call in center.calls.values()},
                    "flow": {
                        call.id: [call.step, call.keys, call.swallow, call.minted, call.events, call.deadline, call.vars]
                        for call in center.calls.values()
                        if call.caller and not call.leaving
                    },
                    "agents": acd.states(),
                    "waiting": {queue: [item.dump() for item in acd.waiting(queue)] for queue in QUEUES},
                    "timers": {owner: center.timers.of(owner) for owner in [*center.calls, *(f"agent:{name}" for name in AGENTS)]},
                    "pbx": [[live.call, live.bridge, live.legs, live.playbacks, live.up] for live in center.live_calls()],
                },
                sort_keys=True,
            )
        )
        return picture

    @invariant()
    def a_restart_changes_nothing(self) -> None:
        other = Center(self.sim.book)
        assert restore(other, self.sim.live, self.sim.agents, self.sim.journal, self.sim.now) == []
        assert self.picture(other) == self.picture(self.sim.center)

    @invariant()
    def every_call_is_either_here_or_ended_once(self) -> None:
        center = self.sim.center
        assert set(self.sim.live) == set(center.calls)
        assert all(count == 1 for count in self.over.values())
        for call in self.lines:
            here = call in center.calls and center.calls[call].caller
            assert here != (call in self.ended)

    @invariant()
    def agents_and_calls_agree(self) -> None:
        rows = {(state["id"], work["interaction"]): work["state"] for state in self.sim.center.acd.states() for work in state["work"]}
        assert len({agent for agent, _ in rows}) == len(rows), "an agent holds two"
        expected = {}
        for call in self.sim.center.calls.values():
            if call.offer:
                state = "offered" if call.phase == OFFERED else "talking" if call.phase == TALKING else "wrap_up"
                expected[call.offer.agent, call.id] = state
                assert (state == "wrap_up") == call.wrapping
            else:
                assert call.phase not in (OFFERED, TALKING)
            assert (call.phase == TRANSFER) == (call.far is not None)
            if call.far:
                expected[call.far.agent, call.id] = "talking" if call.far.answered else "offered"
        assert rows == expected

    @invariant()
    def those_who_wait_stand_in_order(self) -> None:
        center = self.sim.center
        for queue in QUEUES:
            line = sorted(
                (waiting_of(c) for c in center.calls.values() if c.phase == QUEUED and c.place and c.place.queue == queue),
                key=lambda w: w.key,
            )
            assert [item.interaction for item in center.acd.waiting(queue)] == [item.interaction for item in line]
            assert [center.acd.position(item.interaction) for item in line] == list(range(1, len(line) + 1))
            assert all(center.acd.able(queue, item.skills)[0] for item in line), "somebody waits for nobody"

    @invariant()
    def nobody_hears_nothing_for_ever(self) -> None:
        for call in self.sim.center.calls.values():
            timers = self.sim.center.timers.of(call.id)
            if not call.caller:
                assert "wrap_up" in timers
            elif call.phase in (QUEUED, OFFERED):
                assert call.music
                assert "max_wait" in timers
                assert call.phase == QUEUED or {"ring", "pop"} & set(timers)
            elif call.far:
                assert call.far.answered or (call.music and "far" in timers)
            elif call.phase == FLOW and not call.leaving and not call.lost:
                assert call.deadline is not None
                assert timers[f"wait {call.waits}"] == call.deadline
                assert not (call.music and call.playing in self.lines[call.id].playing), "music over a prompt"

    @invariant()
    def what_was_ordered_makes_sound(self) -> None:
        if self.unsent:
            return
        for call in self.sim.center.calls.values():
            if call.caller and call.phase == QUEUED and self.lines[call.id].alive:
                assert self.lines[call.id].music

    def teardown(self) -> None:
        """Everybody leaves, everything that is owed comes, time passes: then nothing is left."""
        for line in self.lines.values():
            if line.alive:
                self.gone(line)
                self.happen(ev.CallerLeft(line.call))
        self.the_pbx_tells_what_it_owes()
        for line in self.lines.values():
            for leg in list(line.legs):
                del line.legs[leg]
                self.happen(ev.LegEnded(line.call, leg))
        self.the_pbx_tells_what_it_owes()
        self.time_passes(3600.0)
        self.sim.replays()
        self.sim.goes_no_other_way()
        SIMS.remove(self.sim)
        assert self.sim.center.calls == {}
        assert self.sim.live == {}
        assert set(self.over) == set(self.lines)
        assert self.sim.center.next_deadline() is None
        assert all(state["work"] == [] for state in self.sim.center.acd.states())


def test_no_call_is_lost_no_agent_gets_stuck_and_a_crash_at_any_moment_changes_nothing() -> None:
    run_state_machine_as_test(
        CentreMachine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)),
    )


# ---- races, each way round -------------------------------------------------------------------------------------------------


def in_the_queue(sim: Sim, n: int = 1) -> list[str]:
    """Callers of the general queue, waiting."""
    calls = []
    for _ in range(n):
        call = sim.dial(dnis="1")
        sim.fail_action(call)
        sim.wait(0.01)
        calls.append(call)
    return calls


def nobody_is_stuck(sim: Sim) -> None:
    sim.wait(20)
    assert sim.center.calls == {}
    assert sim.live == {}
    assert all(state["work"] == [] for state in sim.center.acd.states())
    assert all(len(sim.all(facts.CallEnded, f"call{n}")) == 1 for n in range(1, sim.calls + 1))


@pytest.mark.parametrize("agent_first", [True, False])
def test_both_hang_up_in_the_same_moment(agent_first: bool) -> None:
    """C2: one outcome, one wrap-up, no stuck agent."""
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    (call,) = in_the_queue(sim)
    leg = sim.answers(call)
    sim.wait(5)
    both = [ev.LegEnded(call, leg), ev.CallerLeft(call)]
    for event in (*(both if agent_first else reversed(both)), *both):
        sim.happen(event)
    assert sim.ending(call) == "answered"
    assert [talk.by for talk in sim.all(facts.TalkEnded, call)] == ["agent" if agent_first else "caller"]
    nobody_is_stuck(sim)
    assert len(sim.all(facts.WrapUpEnded, call)) == 1
    assert sim.center.acd.state("cy")["presence"] == "ready"


@pytest.mark.parametrize("caller_first", [True, False])
def test_the_agent_answers_as_the_caller_hangs_up(caller_first: bool) -> None:
    """C3: exactly one winner, and no penalty for the agent."""
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    (call,) = in_the_queue(sim)
    leg = sim.rings(call)
    both = [ev.CallerLeft(call), ev.LegAnswered(call, leg)]
    for event in both if caller_first else reversed(both):
        sim.happen(event)
    assert sim.all(do.HangUpLeg, call)
    assert sim.ending(call) == ("abandoned" if caller_first else "answered")
    if caller_first:
        assert sim.last(do.WithdrawPop, call).reason == "caller gone"
    sim.happen(ev.LegEnded(call, leg))
    nobody_is_stuck(sim)
    assert sim.center.acd.state("cy")["presence"] == "ready"


@pytest.mark.parametrize(("said", "counts"), [(3.0, 3.0), (-50.0, 0.0), (60.0, 8.0), (None, 8.0)])
def test_an_answer_that_is_only_found_counts_from_when_it_came(said: float | None, counts: float) -> None:
    """What the PBX says of it lies between the offer and now, or counts as the nearer of these."""
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    (call,) = in_the_queue(sim)
    leg, offered = sim.rings(call), sim.now
    sim.wait(8.0)
    sim.happen(ev.LegAnswered(call, leg, 0.0 if said is None else offered + said))
    live = sim.center.calls[call]
    assert live.connected == pytest.approx(offered + counts, abs=0.05)
    assert live.waited == pytest.approx(live.connected - sim.last(facts.Queued, call).first)
    sim.wait(1.0)
    sim.happen(ev.LegEnded(call, leg))
    assert sim.last(facts.TalkEnded, call).talked == pytest.approx(9.0 - counts, abs=0.05)
    sim.hangs_up(call)


@pytest.mark.parametrize("timeout_first", [True, False])
def test_the_agent_answers_as_the_ring_time_ends(timeout_first: bool) -> None:
    """C3: either they talk, or the late answer is hung up and the caller keeps the place."""
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    (call,) = in_the_queue(sim)
    first = sim.last(facts.Queued, call).first
    leg = sim.rings(call)
    if timeout_first:
        sim.wait(10.1)
        sim.happen(ev.LegAnswered(call, leg))
        assert sim.center.calls[call].phase == QUEUED
        assert sim.all(do.HangUpLeg, call)[-1].leg == leg
        assert sim.center.acd.state("cy")["presence"] == "not_ready"
        assert sim.center.acd.item(call).first == first
        assert len(sim.all(facts.Queued, call)) == 1
    else:
        sim.happen(ev.LegAnswered(call, leg))
        sim.wait(10.1)
        assert sim.center.calls[call].phase == TALKING
    sim.hangs_up(call)
    sim.happen(ev.LegEnded(call, leg))
    nobody_is_stuck(sim)


def test_fifty_callers_and_ten_agents_in_a_ringing_storm() -> None:
    """C5: no agent is offered twice at a time, every caller is served once, in order of arrival."""
    agents = {f"a{n}": AgentDef(f"a{n}", f"A{n}", f"a{n}", {"x": 5}, ("premium", "general"), wrap_up=1.0) for n in range(10)}
    compiled = compile_program(Program.model_validate(FLOW_FILE), QUEUES)
    sim = Sim(Book({"1": compiled}, QUEUES, agents))
    for agent in agents:
        sim.agent_is_ready(agent)
    calls = in_the_queue(sim, 50)
    rounds = 0
    while sim.center.calls:
        rounds += 1
        assert rounds < 100
        for call in [call for call in sim.center.calls.values() if call.phase == OFFERED]:
            assert call.offer is not None
            held = [c.id for c in sim.center.calls.values() if c.offer and c.offer.agent == call.offer.agent]
            assert held == [call.id]
            if rounds % 3 == 1 and call.offer.agent == "a3":
                agent = call.offer.agent
                sim.happen(ev.LegEnded(call.id, call.offer.leg, 19))
                sim.happen(ev.AgentBecameReady(agent))
            else:
                sim.happen(ev.LegAnswered(call.id, call.offer.leg))
        for call in [call for call in sim.center.calls.values() if call.phase == TALKING]:
            assert call.offer is not None
            leg = call.offer.leg
            sim.hangs_up(call.id)
            sim.happen(ev.LegEnded(call.id, leg))
        sim.wait(1.1)
    assert [sim.ending(call) for call in calls] == ["answered"] * 50
    connected = [fact.call for fact in sim.all(facts.Connected)]
    assert sorted(connected) == sorted(calls)
    worst = max(abs(connected.index(call) - n) for n, call in enumerate(calls))
    assert worst <= 10, (worst, connected)


def test_two_queues_never_offer_one_agent_twice() -> None:
    """C5: the same agent is wanted by callers of two queues at once."""
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    sim.happen(ev.AgentBecameNotReady("cy"))
    general = in_the_queue(sim, 3)
    premium = sim.dial(dnis="1")
    sim.answer_action(premium, {"count": 1, "premium": True, "name": "Anna", "skills": {"x": 1}})
    sim.agent_is_ready("ann")
    sim.prompt_ends(premium)
    offers = [call.offer.agent for call in sim.center.calls.values() if call.offer]
    assert len(offers) == len(set(offers)) == 1
    sim.happen(ev.AgentBecameReady("cy"))
    offers = [call.offer.agent for call in sim.center.calls.values() if call.offer]
    assert sorted(offers) == ["ann", "cy"]
    for call in [*general, premium]:
        sim.hangs_up(call)
    nobody_is_stuck(sim)


# ---- files that have changed under live calls ----------------------------------------------------------------------------------


def reborn(sim: Sim, book: Book) -> Sim:
    """The next process, with other files."""
    sim.book = book
    center = Center(book)
    trouble = restore(center, sim.live, sim.agents, sim.journal, sim.now)
    sim.center = center
    sim.take_over_event()
    for call, problem in trouble:
        sim.happen(ev.StepFailed(call, problem))
    return sim


def test_a_queue_that_is_gone_sends_its_callers_to_the_error_exit() -> None:
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    waits, rings = reversed(in_the_queue(sim, 2))
    before = {thing.playback for thing in sim.all(do.Play)}
    queues = {"premium": QUEUES["premium"], "other": QueueDef("other")}
    steps = {name: {**step, "queue": "other"} if step.get("queue") == "general" else step for name, step in FLOW_FILE["steps"].items()}
    changed = compile_program(Program.model_validate({**FLOW_FILE, "steps": steps}), queues)
    reborn(sim, Book({"1": changed}, queues, AGENTS))
    for call in (waits, rings):
        assert sim.at_step(call) == "sorry"
        assert sim.last(do.Play, call).playback not in before
    assert all(state["work"] == [] for state in sim.center.acd.states())
    for call in (waits, rings):
        sim.hangs_up(call)
    nobody_is_stuck(sim)


@pytest.mark.parametrize("moment", ["ringing", "talking", "wrap-up"])
def test_an_agent_who_is_gone_from_the_files_strands_nobody(moment: str) -> None:
    sim = Sim(small_book())
    sim.agent_is_ready("cy")
    (call,) = in_the_queue(sim)
    leg = sim.rings(call)
    if moment != "ringing":
        sim.happen(ev.LegAnswered(call, leg))
    if moment == "wrap-up":
        sim.hangs_up(call)
    reborn(sim, Book(small_book().flows, QUEUES, {name: agent for name, agent in AGENTS.items() if name != "cy"}))
    if moment == "ringing":
        assert sim.center.calls[call].phase in (QUEUED, FLOW)
    if moment != "wrap-up":
        sim.wait(1)
        sim.happen(ev.LegEnded(call, leg))
        sim.hangs_up(call)
    assert sim.center.calls == {}
    assert sim.center.next_deadline() is None
