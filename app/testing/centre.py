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
from app.testing import sound
from app.testing.agent import DESK_SHOWS_AFTER, VirtualAgent
from app.testing.answers import ActionAnswers, mode_of
from app.testing.caller import Heard, VirtualCall
from app.testing.conditions import Failing
from app.testing.coverage import Coverage
from app.testing.mailbox import Mailbox
from app.testing.project import Project
from app.testing.takeover import Rows, rows_after

BEGINNING = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
"""When a test begins, unless it says otherwise: a Monday morning."""
AT_ONCE = 0.02
"""Seconds that the PBX takes for what it does at once."""
DESK_RETURNS_AFTER = 1.0
UNREACHABLE = 20
MANY_EVENTS = 20_000

_LOST_WITH_THE_PROCESS = (ev.ActionSucceeded, ev.ActionFailed, ev.MailSent, ev.MailFailed, ev.DeskAcknowledged)
Thing: TypeAlias = ev.Event | Callable[[], None]
Answer: TypeAlias = Callable[[Any], "ev.Event | tuple[float, ev.Event] | None"]


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
        self.book = project.book
        self.center = Center(self.book)
        self.now = BEGINNING.timestamp()
        self.clock = Clock(self)
        self.mailbox = Mailbox()
        self.calls: dict[str, VirtualCall] = {}
        """Every call of the test, those that are over included."""
        self.commands: list[do.Command] = []
        """Every command so far, in order."""
        self.max_silence = sound.MAX_SILENCE
        self.not_understood: dict[str, str] = {}
        """Commands that nobody carries out, and what is lacking."""
        self.events = 0
        """How many events the core has handled."""
        self._coverage = coverage or Coverage()
        self._agents: dict[str, VirtualAgent] = {}
        self._actions: dict[str, ActionAnswers] = {}
        self._later: list[tuple[float, int, Thing]] = []
        self._n = 0
        self._rows = Rows(at=self.now)
        self._handled: list[tuple[float, ev.Event]] = []
        self._answers: dict[type[Any], Answer] = {}
        self._carriers: dict[type[Any], Callable[[Any], None]] = {
            do.Answer: self._answer,
            do.Play: self._play,
            do.StopPlay: self._stop_play,
            do.StartMusic: self._start_music,
            do.StopMusic: self._stop_music,
            do.RingAgent: self._ring,
            do.Talk: self._talk,
            do.HoldCaller: self._hold,
            do.ResumeCaller: self._resume,
            do.HangUpLeg: self._hang_up_leg,
            do.HangUp: self._hang_up,
            do.Release: self._release,
            do.StartAction: self._start_action,
            do.SendMail: self._send_mail,
            do.Pop: self._pop,
            do.WithdrawPop: self._nothing,
            do.MarkPlace: self._nothing,
            do.JoinBridge: self._nothing,
            do.DropBridge: self._nothing,
            do.QueueLog: self._nothing,
        }
        self._noters: dict[type[Any], Callable[[Any], None]] = {
            facts.StepEntered: self._entered,
            facts.StepLeft: self._left,
            facts.CallEnded: self._ended,
            facts.Noticed: self._noticed,
        }
        self._changes: dict[type[Any], Callable[[Any], None]] = {
            ev.CallArrived: self._arrived,
            ev.PlaybackEnded: self._playback_ended,
            ev.LegEnded: self._leg_ended,
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
        if id_ not in self._agents:
            self._agents[id_] = VirtualAgent(self, agents[id_])
        return self._agents[id_]

    def action(self, name: str) -> ActionAnswers:
        """An action of the project, to choose what it answers. Raises `LookupError`."""
        if name not in self._actions:
            if name not in self.project.actions:
                raise LookupError(f"there is no action {name!r}; there are: {', '.join(self.project.actions)}")
            self._actions[name] = ActionAnswers(self.project.prepared[name])
        return self._actions[name]

    @property
    def actions(self) -> Mapping[str, ActionAnswers]:
        """Every action by its name."""
        return {name: self.action(name) for name in self.project.actions}

    def condition_fails(self, name: str) -> None:
        """A condition of any flow ends in an error from now on, as where a variable of it has no value."""
        flows = self.book.flows
        if not any(name in flow.program.conditions for flow in flows.values()):
            raise LookupError(f"there is no condition {name!r}")
        broken = {number: replace(flow, conditions=Failing(flow.conditions, name)) for number, flow in flows.items()}
        self.book = self.center.book = replace(self.book, flows=broken)

    def ring_seconds(self, call: str) -> float:
        """How long a phone rings for this call."""
        return self.book.queues[self.calls[call].queue].ring

    def on(self, command: type[do.Command], answer: Answer) -> None:
        """Say what comes of a kind of command: an event, (seconds, event), or None for nothing."""
        self._answers[command] = answer

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
        """Whether something that was to happen still does: nothing comes for a call that is over, nor does a stopped prompt end again."""
        call = self.calls.get(getattr(event, "call", ""))
        if call is None or isinstance(event, ev.AgentEvent):
            return True
        if isinstance(event, ev.PlaybackEnded):
            return not call.outcome and call.ear.playing.get(event.playback, self.now + 1) <= self.now
        return not call.outcome

    # ---- the core ------------------------------------------------------------------------------------------------------

    def happen(self, event: ev.Event) -> list[Any]:
        """Something happens now; what came of it. Raises `IllegalMove` for an agent's wish that cannot be granted."""
        out = self.center.handle(event, self.now)
        self._handled.append((self.now, event))
        self.events += 1
        if (change := self._changes.get(type(event))) is not None:
            change(event)
        concerned = {getattr(event, "call", "") or getattr(event, "owner", "")}
        for thing in out:
            concerned.add(thing.call)
            if isinstance(thing, do.Command):
                self.commands.append(thing)
                self._carriers.get(type(thing), self._carry_out_otherwise)(thing)
            elif (note := self._noters.get(type(thing))) is not None:
                note(thing)
        self.center.touched()
        for id_ in concerned:
            call = self.calls.get(id_)
            if call is not None:
                call.ear.listen(call.core, self.now)
        if len(self._handled) > MANY_EVENTS and not self.center.calls:
            self._rows, self._handled = rows_after(self.book, self._rows, self._handled), []
        return out

    def crash(self) -> list[tuple[str, str]]:
        """The process dies, and the next one takes over from the rows it left. Gives the calls that did not come back to their step.

        Asterisk lives on: prompts play to their end and phones go on ringing. Answers of other systems that were under way are lost.
        """
        self._rows, self._handled = rows_after(self.book, self._rows, self._handled), []
        self._rows.at = self.now
        self.center, trouble = self._rows.bring_back(self.book)
        self._later = [entry for entry in self._later if not isinstance(entry[2], _LOST_WITH_THE_PROCESS)]
        heapq.heapify(self._later)
        for call in self.calls.values():
            call.core = self.center.calls.get(call.id, call.core)
        self.happen(ev.TookOver(self.now, len(self._rows.live)))
        for call_id, problem in trouble:
            self.happen(ev.StepFailed(call_id, problem))
        for call in list(self.calls.values()):
            if not call.outcome:
                self.happen(self._found(call))
        for agent in self._agents.values():
            if agent.has_desk:
                self.later(DESK_RETURNS_AFTER, ev.DeskFound(agent.id))
        return trouble

    def _found(self, call: VirtualCall) -> ev.CallFound:
        """What reconciliation meets of a call."""
        legs = {a.leg.id: "up" if a.leg.up else "ringing" for a in self._agents.values() if a.leg and a.leg.call == call.id}
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
        return found + [f"nothing comes of {name} in a test: {lacking}" for name, lacking in self.not_understood.items()]

    def check(self) -> None:
        """Raise `AssertionError` when something is wrong."""
        problems = self.problems()
        if problems:
            raise AssertionError("\n".join(problems))

    def _somebody_acts(self, call: VirtualCall) -> bool:
        """An agent talks, the PBX has been told to let the caller go, or the core has a deadline for this call."""
        core = call.core
        return core.phase == TALKING or bool(core.leaving) or bool(self.center.timers.of(call.id))

    # ---- carrying out --------------------------------------------------------------------------------------------------

    def _carry_out_otherwise(self, command: do.Command) -> None:
        answer = self._answers.get(type(command))
        if answer is None:
            name = type(command).__name__
            self.not_understood[name] = f"say what does with centre.on({name}, ...)"
            return
        come = answer(command)
        if come is not None:
            self.later(*(come if isinstance(come, tuple) else (AT_ONCE, come)))

    def _nothing(self, command: do.Command) -> None:
        """Nobody in a test notices."""

    def _arrived(self, event: ev.CallArrived) -> None:
        call = self.calls[event.call]
        call.core, call.ear.up = self.center.calls[event.call], event.up

    def _answer(self, command: do.Answer) -> None:
        self.calls[command.call].ear.up = True

    def _play(self, command: do.Play) -> None:
        call = self.calls[command.call]
        seconds = sound.seconds_of(command.media)
        call.ear.playing[command.playback] = self.now + seconds
        call.played.append(Heard(self.now, sound.text_of(command.media), command.media, call.core.step))
        self.later(seconds, ev.PlaybackEnded(command.call, command.playback))

    def _stop_play(self, command: do.StopPlay) -> None:
        playing = self.calls[command.call].ear.playing
        if command.playback in playing:
            playing[command.playback] = self.now + AT_ONCE
            self.later(AT_ONCE, ev.PlaybackEnded(command.call, command.playback))

    def _playback_ended(self, event: ev.PlaybackEnded) -> None:
        self.calls[event.call].ear.playing.pop(event.playback, None)

    def _start_music(self, command: do.StartMusic) -> None:
        self.calls[command.call].ear.music = True

    def _stop_music(self, command: do.StopMusic) -> None:
        self.calls[command.call].ear.music = False

    def _hold(self, command: do.HoldCaller) -> None:
        ear = self.calls[command.call].ear
        ear.music, ear.talking = True, False

    def _resume(self, command: do.ResumeCaller) -> None:
        ear = self.calls[command.call].ear
        ear.music, ear.talking = False, True

    def _hang_up(self, command: do.HangUp) -> None:
        self.later(AT_ONCE, ev.CallerLeft(command.call, command.cause))

    def _release(self, command: do.Release) -> None:
        self.later(AT_ONCE, ev.CallerLeft(command.call, elsewhere=True))

    def _start_action(self, command: do.StartAction) -> None:
        self.later(*self.action(command.action).answer(command, self.calls[command.call].crm))

    def _send_mail(self, command: do.SendMail) -> None:
        self.later(*self.mailbox.answer(command))

    def _pop(self, command: do.Pop) -> None:
        agent = self.agent(command.agent)
        agent.card = command.card
        if agent.has_desk:
            self.later(DESK_SHOWS_AFTER, ev.DeskAcknowledged(command.agent, command.call, command.offer))

    def _ring(self, command: do.RingAgent) -> None:
        called = [agent for agent in self.book.agents.values() if agent.endpoint == command.endpoint]
        if called:
            self.agent(called[0].id).be_rung(command)
        else:
            self.later(AT_ONCE, ev.LegEnded(command.call, command.leg, UNREACHABLE))

    def _with_leg(self, leg: str) -> VirtualAgent | None:
        return next((agent for agent in self._agents.values() if agent.leg and agent.leg.id == leg), None)

    def _talk(self, command: do.Talk) -> None:
        ear = self.calls[command.call].ear
        ear.music, ear.talking = False, True
        agent = self._with_leg(command.leg)
        if agent is not None:
            agent.talk()

    def _hang_up_leg(self, command: do.HangUpLeg) -> None:
        agent = self._with_leg(command.leg)
        if agent is not None:
            self.later(AT_ONCE, agent.ending(command.cause))

    def _leg_ended(self, event: ev.LegEnded) -> None:
        agent = self._with_leg(event.leg)
        if agent is not None:
            if agent.leg and agent.leg.up:
                self.calls[event.call].ear.talking = False
            agent.hung_up()

    # ---- noting --------------------------------------------------------------------------------------------------------

    def _entered(self, fact: facts.StepEntered) -> None:
        call = self.calls[fact.call]
        call.path.append((fact.step, ""))
        call.exits.add((fact.step, ""))

    def _left(self, fact: facts.StepLeft) -> None:
        call = self.calls[fact.call]
        taken = (fact.step, fact.exit)
        call.path[-1] = taken
        call.exits.add(taken)

    def _ended(self, fact: facts.CallEnded) -> None:
        self.calls[fact.call].outcome = fact.outcome

    def _noticed(self, fact: facts.Noticed) -> None:
        self.calls[fact.call].noticed.append((fact.what, fact.detail))
