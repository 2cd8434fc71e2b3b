"""A whole centre in a test: the production core, and around it everything that is outside in production, on virtual time.

`happen` hands an event to the core and carries out the commands that come of it. What follows from a command later (a prompt that ends, a
phone that stops ringing, an answer of another system) waits in a heap until virtual time gets there; deadlines of the core are kept by
the core. Time passes only where a test waits for something.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, TypeAlias

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.call import TALKING
from app.core.center import Center
from app.core.versions import Versions
from app.testing import sound
from app.testing.agent import VirtualAgent
from app.testing.answers import ActionAnswers, mode_of
from app.testing.bot import VirtualBot
from app.testing.caller import VirtualCall
from app.testing.conditions import Failing
from app.testing.coverage import Coverage
from app.testing.mailbox import Mailbox
from app.testing.outside import Answer, Outside
from app.testing.project import Project
from app.testing.takeover import Rows, rows_after

BEGINNING = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
"""When a test begins, unless it says otherwise: a Monday morning."""
DESK_RETURNS_AFTER = 1.0
MANY_EVENTS = 20_000

_LOST_WITH_THE_PROCESS = (ev.ActionSucceeded, ev.ActionFailed, ev.MailSent, ev.MailFailed, ev.DeskAcknowledged)
Thing: TypeAlias = ev.Event | Callable[[], None]


class Clock:
    """Virtual time."""

    __slots__ = ("_centre",)

    def __init__(self, centre: VirtualCentre) -> None:
        self._centre = centre

    @property
    def now(self) -> float:
        """Epoch seconds."""
        return self._centre.now

    @property
    def time(self) -> datetime:
        """The same as a time in UTC."""
        return datetime.fromtimestamp(self._centre.now, UTC)

    def waits(self, seconds: float = 0.0, *, minutes: float = 0.0) -> None:
        """Let time pass."""
        self._centre.waits(seconds, minutes=minutes)

    def goes_to(self, when: datetime | str) -> None:
        """Let time pass until then: a time with its zone, or ISO text (UTC unless it says otherwise). Never backwards."""
        moment = datetime.fromisoformat(when) if isinstance(when, str) else when
        moment = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = moment.timestamp() - self._centre.now
        if seconds < 0:
            raise ValueError(f"it is {self.time:%Y-%m-%d %H:%M:%S} UTC already; time does not go back to {moment}")
        self._centre.waits(seconds)


class VirtualCentre:
    """The centre of one test."""

    def __init__(self, project: Project, coverage: Coverage | None = None) -> None:
        self.project = project
        self.book = replace(project.book, published=Versions())
        self.center = Center(self.book)
        self.now = BEGINNING.timestamp()
        self.clock = Clock(self)
        self.mailbox = Mailbox()
        self.calls: dict[str, VirtualCall] = {}
        """Every call of the test, those that are over included."""
        self.max_silence = sound.MAX_SILENCE
        self._coverage = coverage or Coverage()
        self.agents: dict[str, VirtualAgent] = {}
        """The agents that the test has spoken of, or that were rung."""
        self._actions: dict[str, ActionAnswers] = {}
        self._bots: dict[str, VirtualBot] = {}
        self._later: list[tuple[float, int, Thing]] = []
        self._n = 0
        self._rows = Rows(at=self.now)
        self._turns: list[tuple[float, ev.Event, list[Any]]] = []
        self._in_rows = 0
        self._outside = Outside(self)
        self._takers = self._outside.takers
        self._takers |= {
            ev.CallArrived: self._arrived,
            facts.StepEntered: self._entered,
            facts.StepLeft: self._left,
            facts.CallEnded: self._ended,
            facts.CallbackEnded: self._ended,
            facts.Noticed: self._noticed,
        }

    # ---- who is there --------------------------------------------------------------------------------------------------

    def dial(self, number: str = "", *, to: str = "", crm: str | float = "", name: str = "", **more: Any) -> VirtualCall:
        """A caller dials. `to` is the number dialled or the name of its flow, and may be left out where there is only one.

        `crm` is how every action behaves in this call: "slow", "failing", "nonsense", or the seconds that each answer takes.
        """
        dnis = self.project.number(to)
        call_id = f"{len(self.calls) + 1:032x}"
        call = self.calls[call_id] = VirtualCall(self, call_id, number, mode_of(crm))
        flow = self.book.flows[dnis]
        call.exits = self._coverage.exits_of(self.project.path, flow.name)
        self.happen(ev.CallArrived(call_id, f"channel-{call_id}", number, name, dnis, f"{self.now:.0f}.{len(self.calls)}", **more))
        return call

    def agent(self, who: str) -> VirtualAgent:
        """An agent of the project, by id or by name. Raises `LookupError`."""
        agents = self.book.agents
        found = [a.id for a in agents.values() if who in (a.id, a.name) or who.casefold() == a.name.casefold()]
        if not found:
            raise LookupError(f"there is no agent {who!r}; there are: {', '.join(f'{a.id} ({a.name})' for a in agents.values())}")
        id_ = found[0]
        if id_ not in self.agents:
            self.agents[id_] = VirtualAgent(self, agents[id_])
        return self.agents[id_]

    def action(self, name: str) -> ActionAnswers:
        """An action of the project, to choose what it answers. Raises `LookupError`."""
        if name not in self._actions:
            if name not in self.project.actions:
                raise LookupError(f"there is no action {name!r}; there are: {', '.join(self.project.actions)}")
            self._actions[name] = ActionAnswers(self.project.prepared[name])
        return self._actions[name]

    def bot(self, name: str) -> VirtualBot:
        """A bot that steps name, to choose what it does. Until then it cannot be had."""
        return self._bots.setdefault(name, VirtualBot(self, name))

    @property
    def actions(self) -> Mapping[str, ActionAnswers]:
        """Every action by its name."""
        return {name: self.action(name) for name in self.project.actions}

    def condition_fails(self, name: str) -> None:
        """A condition of any flow ends in an error from now on, as where a variable of it has no value."""
        flows = self.book.flows
        if not any(name in flow.program.conditions for flow in flows.values()):
            raise LookupError(f"there is no condition {name!r}")
        self._settle_rows()
        broken = {number: replace(flow, conditions=Failing(flow.conditions, name)) for number, flow in flows.items()}
        self.book = self.center.book = replace(self.book, flows=broken, published=Versions())

    def ring_seconds(self, call: str) -> float:
        """How long a phone rings for this call."""
        return self.book.queues[self.calls[call].queue].ring

    @property
    def events(self) -> int:
        """How many events the core has handled."""
        return len(self._turns)

    @property
    def said(self) -> list[Any]:
        """Every fact and command so far, in order."""
        return [thing for _, _, out in self._turns for thing in out]

    @property
    def commands(self) -> list[do.Command]:
        """Every command so far, in order."""
        return [thing for thing in self.said if isinstance(thing, do.Command)]

    def on(self, command: type[do.Command], answer: Answer) -> None:
        """Say what comes of a kind of command: an event, (seconds, event), or None for nothing."""
        self._outside.on(command, answer)

    # ---- time ----------------------------------------------------------------------------------------------------------

    def waits(self, seconds: float = 0.0, *, minutes: float = 0.0) -> None:
        """Let time pass for everybody."""
        self._pass(self.now + seconds + 60.0 * minutes)

    def until(self, condition: Callable[[], bool], within: float) -> bool:
        """Let time pass until a condition holds, at most so many seconds; whether it does."""
        if condition():
            return True
        return self._pass(self.now + within, condition)

    def later(self, seconds: float, thing: Thing) -> None:
        """Let something happen in a while."""
        self._n += 1
        heapq.heappush(self._later, (self.now + seconds, self._n, thing))

    def _pass(self, end: float, condition: Callable[[], bool] | None = None) -> bool:
        later = self._later
        while True:
            due = self.center.timers.next()
            if later and later[0][0] <= end and (due is None or later[0][0] <= due):
                at, _, thing = heapq.heappop(later)
                self.now = max(self.now, at)
                if callable(thing):
                    thing()
                elif not self._comes(thing):
                    continue
                else:
                    self.happen(thing)
            elif due is not None and due <= end:
                self.now = max(self.now, due)
                fired = self.center.due(self.now)
                assert fired is not None
                self.happen(fired)
            else:
                break
            if condition is not None and condition():
                return True
        self.now = max(self.now, end)
        return False

    def _comes(self, event: ev.Event) -> bool:
        """Whether something that was to happen still does: nothing comes for a call that is over, nor does a stopped prompt end again.

        A call whose caller is to be called back is not over.
        """
        call = self.calls.get(getattr(event, "call", ""))
        if call is None or isinstance(event, ev.AgentEvent):
            return True
        if isinstance(event, ev.PlaybackEnded):
            return not call.outcome and call.ear.playing.get(event.playback, self.now + 1) <= self.now
        return not call.outcome or bool(call.core.booking)

    # ---- the core ------------------------------------------------------------------------------------------------------

    def happen(self, event: ev.Event) -> list[Any]:
        """Something happens now; what came of it. Raises `IllegalMove` for an agent's wish that cannot be granted."""
        now, takers = self.now, self._takers
        event = self.center.veiled(event)
        out = self.center.handle(event, now)
        self._turns.append((now, event, out))
        take = takers.get(type(event))
        if take is not None:
            take(event)
        concerned = {getattr(event, "call", "") or getattr(event, "owner", "")}
        for thing in out:
            concerned.add(thing.call)
            take = takers.get(type(thing))
            if take is not None:
                take(thing)
            elif isinstance(thing, do.Command):
                self._outside.not_taken(thing)
        for id_ in concerned:
            call = self.calls.get(id_)
            if call is not None:
                call.ear.listen(call.core, now)
        turns = len(self._turns)
        if not turns & 63:
            self.center.touched()
        if turns - self._in_rows > MANY_EVENTS and not self.center.calls:
            self._settle_rows()
        return out

    def _settle_rows(self) -> None:
        """Make the rows that the store would have by now."""
        rows_after(self.book, self._rows, [(at, event) for at, event, _ in self._turns[self._in_rows :]])
        self._in_rows, self._rows.at = len(self._turns), self.now

    def crash(self) -> list[tuple[str, str]]:
        """The process dies, and the next one takes over from the rows it left. Gives the calls that did not come back to their step.

        Asterisk lives on: prompts play to their end and phones go on ringing. Answers of other systems that were under way are lost.
        """
        self._settle_rows()
        self.center, trouble = self._rows.bring_back(self.book)
        self._later[:] = [entry for entry in self._later if not isinstance(entry[2], _LOST_WITH_THE_PROCESS)]
        heapq.heapify(self._later)
        for call in self.calls.values():
            call.core = self.center.calls.get(call.id, call.core)
        self.happen(ev.TookOver(self.now, len(self._rows.live)))
        for call_id, problem in trouble:
            self.happen(ev.StepFailed(call_id, problem))
        for call in list(self.calls.values()):
            if not call.outcome:
                self.happen(self._found(call))
        for agent in self.agents.values():
            if agent.has_desk:
                self.later(DESK_RETURNS_AFTER, ev.DeskFound(agent.id))
        return trouble

    def _found(self, call: VirtualCall) -> ev.CallFound:
        """What reconciliation meets of a call."""
        legs = {a.leg.id: "up" if a.leg.up else "ringing" for a in self.agents.values() if a.leg and a.leg.call == call.id}
        bridged = tuple(leg for leg, state in legs.items() if state == "up")
        return ev.CallFound(call.id, call.ear.up, call.core.bridge, legs, bridged, tuple(call.ear.playing))

    # ---- what has to be so after every test ----------------------------------------------------------------------------

    def problems(self) -> list[str]:
        """What is wrong with the calls so far: silence, nobody who will act, commands that nothing carried out."""
        found = []
        for call in self.calls.values():
            found += [
                f"{call}: silence of {silence.seconds:.1f} s at step {silence.step}, {silence.at - call.core.arrived:.1f} s into the call"
                for silence in call.silences
                if silence.seconds > self.max_silence
            ]
            if not call.outcome and not self._somebody_acts(call):
                found.append(f"{call}: nothing has a deadline and no person is asked, so that it may stay like this for ever")
        return found + [
            f"nobody carries out {name} in a test; say what comes of it with centre.on({name}, ...)" for name in self._outside.unknown
        ]

    def check(self) -> None:
        """Raise `AssertionError` when something is wrong."""
        problems = self.problems()
        if problems:
            raise AssertionError("\n".join(problems))

    def _somebody_acts(self, call: VirtualCall) -> bool:
        """An agent talks, the PBX has been told to let the caller go, or the core has a deadline for this call."""
        core = call.core
        return core.phase == TALKING or bool(core.leaving) or bool(self.center.timers.of(call.id))

    # ---- noting --------------------------------------------------------------------------------------------------------

    def _arrived(self, event: ev.CallArrived) -> None:
        call = self.calls[event.call]
        call.core, call.ear.up = self.center.calls[event.call], event.up

    def _entered(self, fact: facts.StepEntered) -> None:
        call = self.calls[fact.call]
        call.path.append((fact.step, ""))
        call.exits.add((fact.step, ""))

    def _left(self, fact: facts.StepLeft) -> None:
        call = self.calls[fact.call]
        taken = (fact.step, fact.exit)
        call.path[-1] = taken
        call.exits.add(taken)

    def _ended(self, fact: facts.CallEnded | facts.CallbackEnded) -> None:
        self.calls[fact.call].outcome = fact.outcome

    def _noticed(self, fact: facts.Noticed) -> None:
        self.calls[fact.call].noticed.append((fact.what, fact.detail))
