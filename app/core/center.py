"""The root of the core: every event goes in here, and every fact and command comes out.

`handle(event, now)` hands the event to the call's flow, to the ACD, or to both, and gives what came of it in order. The
centre has no clock: it keeps deadlines, says when the next is (`next_deadline`), and is told by a `TimerFired` that it has
passed. Everything it knows of a call or an agent can be written down (`app.core.saving`) and brought back by the next process.

A call's way: `flow` (its program runs) -> `queued` -> `offered` (reserved for an agent, whose phone may ring) -> `talking` ->
`flow` again when the agent hung up first; `over` when the caller has left. Wrap-up is the agent's, and may outlast the caller.

Late, duplicate and unknown events are normal: they are counted and otherwise silence.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import Acd, AgentDef, IllegalMove, Match, QueueDef, UnknownAgent, Waiting
from app.core.call import AUTOMATION, DIALLING, FLOW, OFFERED, OVER, QUEUED, TALKING, Call, Offer, Place
from app.core.callbacks import Callbacks
from app.core.defined import plain_staff, staff_hash
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.conditions import ConditionFailed
from app.core.flow.program import Program
from app.core.flow.script import BookCallback, Enqueue, LeaveWill, Order, Transfer
from app.core.flow.texts import BadText, nested
from app.core.flow.words import unknown
from app.core.session import SessionRefused, check_write
from app.core.timers import Timers
from app.core.transfer import Rules, Transfers
from app.core.versions import ABANDONED, FAILED, LEFT, Guard, Version, Versions, Wish, marks_of
from app.core.view import LiveCall
from app.core.wills import Wills

FLEETING = 0.03
"""Seconds of conversation that are none: an agent who hangs up within them has not served the caller."""
POP_PATIENCE = 0.15
"""Seconds the phone waits for the desk to show the record."""
RING_GRACE = 5.0
"""Seconds beyond the ring time after which a leg that told nothing is given up."""
DESK_GRACE = 10.0
"""Seconds a desk may be away before an offer is withdrawn from it."""
CANCELLED, DECLINED = 26, 21
REASONS = {
    17: "busy",
    18: "no_answer",
    19: "no_answer",
    21: "rejected",
    3: "unreachable",
    20: "unreachable",
    0: "failed",
    26: "failed",
    41: "failed",
    -1: "withdrawn",
    -2: "withdrawn",
}

AWAY = "callwright-fallback"
FALLBACK = Program.model_validate(
    {"flow": "fallback", "title": "No flow for this number", "start": "away", "on_error": "away", "steps": {"away": {"do": "release"}}}
)


@dataclass(slots=True)
class Book:
    """What a centre runs: the flow of each dialled number, the queues, the agents. Read from files at publish.

    `flows` are those that are active, `published` all versions that there are of each.
    """

    flows: Mapping[str, Compiled]
    queues: Mapping[str, QueueDef]
    agents: Mapping[str, AgentDef]
    max_calls: int = 1000
    published: Versions = field(default_factory=Versions)
    staff: str = ""
    """The hash of queues and agents as they were read (`app.core.defined`)."""
    transfers: Rules = field(default_factory=Rules)

    def __post_init__(self) -> None:
        self.published.shelf.update({compiled.version: compiled for compiled in self.flows.values()})
        self.staff = self.staff or staff_hash(plain_staff(self.queues, self.agents, self.transfers))

    def versions(self) -> list[Compiled]:
        """Every flow in every version that a call can go on with, each once; those that new calls run come first."""
        every = (*self.flows.values(), NO_FLOW, NO_ROOM, *self.published.shelf.values())
        return list({(flow.name, flow.version): flow for flow in every}.values())

    def version(self, flow: str, version: str) -> Compiled | None:
        """The flow in exactly this version, if it is there."""
        every = (*self.flows.values(), NO_FLOW, NO_ROOM, *self.published.shelf.values())
        return next((compiled for compiled in every if (compiled.name, compiled.version) == (flow, version)), None)

    def flow_for(self, dnis: str, call: str, ani: str) -> Compiled:
        """What a new call runs that dialled this number."""
        active = self.flows.get(dnis)
        return NO_FLOW if active is None else self.published.canary_for(active.name, call, ani) or active

    def renumber(self) -> None:
        """Give every number to the flow whose active version has it; a flow without versions keeps what the files gave it."""
        kept = {number: flow for number, flow in self.flows.items() if flow.name not in self.published.lines}
        self.flows = kept | {number: flow for flow in self.published.active() for number in flow.program.dnis}


class Inconsistent(RuntimeError):
    """The centre's parts disagree: a mistake of ours, never somebody's illegal wish."""


NO_FLOW = compile_program(FALLBACK, {})
NO_ROOM = compile_program(
    Program.model_validate(
        {"flow": "no-room", "start": "away", "on_error": "away", "steps": {"away": {"do": "release", "for_good": "false"}}},
    ),
    {},
)
"""What a call runs for which there is no flow, or no room: back to the dialplan."""


@dataclass(slots=True)
class Touched:
    """What a turn changed and the store has to write: live calls, agents, calls that are over, versions of flows."""

    calls: dict[str, Call | None] = field(default_factory=dict)
    agents: dict[str, None] = field(default_factory=dict)
    ended: list[Call] = field(default_factory=list)
    versions: dict[tuple[str, int], Version] = field(default_factory=dict)


class Center:
    """The one deterministic machine. Not reentrant; one caller at a time."""

    def __init__(self, book: Book) -> None:
        self.book = book
        self.acd = Acd(book.queues, book.agents)
        self.transfers, self.wills, self.callbacks = Transfers(self), Wills(self), Callbacks(self)
        self.calls: dict[str, Call] = {}
        self.timers = Timers()
        self.ignored: Counter[str] = Counter()
        self.admitting = True
        self.blind = False
        """While nobody knows which channels there are, after a take-over: nobody is offered a call, nobody sent away for want of agents."""
        self.store_away = False
        """While nothing can be written: new calls take the fallback, and nobody is offered a call, since no phone may be dialled."""
        self._out: list[Any] = []
        self._untold: deque[tuple[Call, str]] = deque()
        self._touched = Touched()
        self._settle = False
        self._fewer = False
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            ev.CallArrived: self._arrived,
            ev.CallerLeft: self._caller_left,
            ev.LegRinging: self._leg_ringing,
            ev.LegAnswered: self._leg_answered,
            ev.LegEnded: self._leg_ended,
            ev.CommandRefused: self._refused,
            ev.CallFound: self._found,
            ev.PbxLost: self._noted,
            ev.PbxBack: self._pbx_back,
            ev.AgentSignedIn: self._signed_in,
            ev.AgentSignedOut: self._signed_out,
            ev.AgentBecameReady: self._ready,
            ev.AgentBecameNotReady: self._not_ready,
            ev.AgentFinishedWrapUp: self._finished_wrap_up,
            ev.AgentRejected: self._rejected,
            ev.AgentHungUp: self._agent_hung_up,
            ev.AgentPhoneChanged: self._phone_changed,
            ev.DeskAcknowledged: self._desk_acknowledged,
            ev.DeskFound: self._desk_found,
            ev.DeskLost: self._desk_lost,
            ev.TimerFired: self._timer_fired,
            ev.TookOver: self._took_over,
            ev.StepFailed: self._step_failed,
            ev.SessionWritten: self._session_written,
            ev.CallSteered: self._steered,
            ev.FlowPublished: self._published,
            ev.FlowsRead: self._flows_read,
        }

    # ---- in and out ----------------------------------------------------------------------------------------------------

    def handle(self, event: ev.Event, now: float) -> list[Any]:
        """What comes of an event: facts and commands in order.

        Raises `IllegalMove` or `UnknownAgent` for an agent's wish that cannot be granted, `SessionRefused` for another system's,
        `NotPublished` for a version, and then changes nothing.
        """
        handler = self._handlers.get(type(event))
        try:
            if handler is not None:
                handler(event, now)
            elif isinstance(event, ev.CallEvent):
                self._to_flow(event, now)
        except (IllegalMove, UnknownAgent, SessionRefused) as refusal:
            if self._out or not isinstance(event, ev.AgentEvent | ev.SessionEvent):
                raise Inconsistent(f"{type(event).__name__}: {refusal}") from refusal
            raise
        return self._settled(now)

    def veiled(self, event: ev.Event) -> ev.Event:
        """What may be written down of an event and is to be handled in its place: of a key in a sensitive input, not which one it was."""
        if not isinstance(event, ev.DigitPressed):
            return event
        call = self.calls.get(event.call)
        return (call.veil(event.digit) if call is not None and call.caller else None) or event

    def _settled(self, now: float) -> list[Any]:
        """What has come of it, with what follows from it for those who wait."""
        while self._untold:
            call, outcome = self._untold.popleft()
            self._tell(call, outcome, now)
        while not self.blind and (self._fewer or (self._settle and not self.store_away)):
            if self._fewer:
                self._fewer = False
                self._those_nobody_can_serve(now)
            else:
                self._match(now)
        out, self._out = self._out, []
        return out

    def next_deadline(self) -> float | None:
        """When the next `TimerFired` is due, epoch seconds, or None."""
        return self.timers.next()

    def due(self, now: float) -> ev.TimerFired | None:
        """The next deadline that has passed, taken off the list."""
        found = self.timers.pop(now)
        return None if found is None else ev.TimerFired(*found)

    def has_room(self) -> bool:
        """Whether a call that arrives now is served here rather than by the fallback."""
        return self.admitting and not self.store_away and len(self.calls) < self.book.max_calls

    def touched(self) -> Touched:
        """What changed since this was last asked."""
        touched, self._touched = self._touched, Touched()
        touched.agents.update(dict.fromkeys(self.acd.changed()))
        return touched

    def live_calls(self) -> list[LiveCall]:
        """What the PBX adapter has to look for."""
        views = [live_view(call) for call in self.calls.values() if call.caller or call.booking]
        return [view for view in views if view.caller or view.legs]

    def fail(self, call_id: str, error: str, now: float) -> list[Any]:
        """Something outside the flow raised for this call: it takes its error exit. One that waits or talks goes on doing so."""
        call = self.calls.get(call_id)
        if call is not None and call.caller and call.phase == FLOW:
            try:
                self._take_error_exit(call, error, now)
            except Exception as second:
                self._let_go(call, f"{type(second).__name__}: {second}")
            self.set_wait(call)
        elif call is not None:
            self._emit(call, facts.Noticed(call.id, "error", error[:300]))
        return self._settled(now)

    def _step_failed(self, event: ev.StepFailed, now: float) -> None:
        self._out = self.fail(event.call, event.error, now)

    @property
    def circumstances(self) -> tuple[bool, bool, bool]:
        """What the engine knows and tells by attributes: `admitting`, `blind`, `store_away`."""
        return self.admitting, self.blind, self.store_away

    # ---- the caller ----------------------------------------------------------------------------------------------------

    def _arrived(self, event: ev.CallArrived, now: float) -> None:
        if event.call in self.calls:
            self.ignored["arrived twice"] += 1
            return
        flow = self.book.flow_for(event.dnis, event.call, event.ani)
        if not self.has_room():
            flow = NO_ROOM
        call = Call(event.call, event.channel, flow, event.ani, event.name, event.dnis, event.uniqueid, event.linkedid, arrived=now)
        call.answered = now if event.up else 0.0
        call.vars.update(call_variables(call, bool(event.returning)))
        self.calls[call.id] = call
        self._emit(call, facts.FlowBegan(call.id, flow.name, flow.version, self.book.staff))
        self._automate(call, "arrival", now)
        start = self._back_to_place(call, event.returning, now)
        self._run(call, now, lambda: call.begin(now, start))

    def _back_to_place(self, call: Call, kept: Mapping[str, Any], now: float) -> str:
        """The step at which a caller goes on who comes back from the fallback; "" for one who begins at the beginning."""
        queue = self.book.queues.get(str(kept.get("queue", "")))
        if queue is None or call.flow.program.returns is None:
            return ""
        priority = kept.get("priority") or 0.0
        if isinstance(priority, str):
            priority = queue.credit(priority) if priority in ("front", "normal", "back") else 0.0
        call.set("call.queue", queue.name)
        call.set("call.first_enqueue", min(float(kept.get("first_enqueue") or now), now))
        call.set("call.priority", float(priority))
        return call.flow.program.returns

    def _to_flow(self, event: ev.CallEvent, now: float) -> None:
        call = self.calls.get(event.call)
        if call is not None and call.will and not call.caller:
            self.wills.feed(call, event, now)
            return
        if call is None or not call.caller:
            self.ignored[f"{type(event).__name__} for no call"] += 1
            return
        awaited = len(call.automated)
        self._run(call, now, lambda: call.feed(event, now))
        if len(call.automated) != awaited:
            self._touch(call)
        if isinstance(event, ev.SessionWritten):
            self._automate(call, "session_written", now)

    def _automate(self, call: Call, on: str, now: float) -> None:
        """Start what a flow does beside its steps when this happens on a call. What cannot be started is noted, and nothing else."""
        for n, automation in enumerate(call.flow.program.automations):
            if automation.on != on:
                continue
            try:
                order = call.beside(n, partial(self._mint, call, AUTOMATION))
            except (ConditionFailed, BadText) as error:
                self._emit(call, facts.Noticed(call.id, "automation not started", f"{automation.action} on {on}: {error}"))
                continue
            if order is None:
                continue
            if automation.into and on != "ended":
                hidden = [list(order.hidden)] if order.hidden else []
                call.automated[order.request] = [order.action, dict(order.params), order.budget, *hidden]
            self._emit(call, order)

    # ---- other systems -------------------------------------------------------------------------------------------------

    def _session_written(self, event: ev.SessionWritten, now: float) -> None:
        call = self._session_of(event)
        if event.expected is not None and event.expected != call.written:
            raise SessionRefused("stale", f"the session was written {call.written} times by now, not {event.expected}")
        check_write(event.values, call.vars, call.flow.program.session)
        call.written += 1
        self._touch(call)
        self._to_flow(event, now)

    def _steered(self, event: ev.CallSteered, now: float) -> None:
        """Leave whatever the flow waits for, a queue included, and go on at the entry. A conversation is not cut."""
        call = self._session_of(event)
        step = call.flow.program.entries.get(event.entry)
        if step is None:
            raise SessionRefused("unknown-entry", unknown("entry", event.entry, call.flow.program.entries))
        if call.phase == TALKING or call.leaving:
            raise SessionRefused("not-steerable", "the caller talks to an agent" if call.phase == TALKING else "the call is being let go")
        self._leave_queue(call, now)
        if call.music:
            call.music = False
            self._emit(call, do.StopMusic(call.id))
        if call.playing and call.play:
            call.play = None
            self._emit(call, do.StopPlay(call.id, call.playing))
        call.keys = ""
        self._run(call, now, lambda: call.divert(step, now))

    def _session_of(self, event: ev.SessionEvent) -> Call:
        call = self.calls.get(event.call)
        if call is None:
            raise SessionRefused("unknown-call", "no such call")
        if not call.caller:
            raise SessionRefused("ended-call", "the call has ended")
        return call

    def _run(self, call: Call, now: float, step: Callable[[], list[Any]]) -> None:
        """Let a call's flow take a step, and carry out what it asks of the centre.

        Where nothing comes of it (a key of several), the call's row stays as it is: the journal has the event, and driving the open
        step again brings it back.
        """
        try:
            for out in step():
                self._touch(call)
                if isinstance(out, Order):
                    self._order(call, out, now)
                else:
                    self._out.append(out)
                    if type(out) is facts.StepLeft:
                        call.marks |= marks_of((out.exit,))
                    if isinstance(out, do.Answer):
                        self._automate(call, "answered", now)
        except Exception as error:
            self._take_error_exit(call, f"{type(error).__name__}: {error}", now)
        self.set_wait(call)

    def _take_error_exit(self, call: Call, error: str, now: float) -> None:
        """One call failed; only that call goes to its flow's error step, and to the fallback when that fails too."""
        self._out.extend(call.take_out())
        if call.failed:
            self._leave_queue(call, now)
            self._let_go(call, error)
            return
        self._emit(call, facts.Noticed(call.id, "error", error[:300]))
        self._leave_queue(call, now)
        if call.music:
            call.music = False
            self._emit(call, do.StopMusic(call.id))
        call.failed, call.leaving = True, ""
        self._run(call, now, lambda: call.divert(call.flow.program.on_error, now))

    def _let_go(self, call: Call, error: str) -> None:
        """The error exit failed too: back to the dialplan, and not to be brought back."""
        call.stop()
        call.failed, call.leaving = True, "release"
        self._emit(call, facts.Noticed(call.id, "error", error[:300]))
        self._emit(call, do.Release(call.id, AWAY, do.FOR_GOOD))

    def _caller_left(self, event: ev.CallerLeft, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None or not call.caller:
            self.ignored["left twice"] += 1
            return
        call.caller, call.ended, call.cause = False, now, event.cause
        for order in call.stop_bots():
            self._emit(call, order)
        call.stop()
        self.set_wait(call)
        waiting = call.phase in (QUEUED, OFFERED)
        position = self.acd.position(call.id)
        if call.phase == TALKING:
            self._talk_over(call, "lost" if call.lost else "caller", now)
        elif waiting:
            self._leave_queue(call, now)
        elif call.far:
            self.transfers.caller_left(call, now)
        call.outcome = "booked" if call.booking else _outcome(call, waiting, event.elsewhere)
        if call.outcome == "abandoned" and call.place:
            self._queue_log(call, "NONE", "ABANDON", (str(position), "1", f"{now - call.place.first:.0f}"))
        call.phase = OVER
        if call.bridge:
            self._emit(call, do.DropBridge(call.id, call.bridge))
        self._emit(call, facts.CallEnded(call.id, call.outcome, call.cause, round(now - call.arrived, 3)))
        self._count(call)
        self._automate(call, "ended", now)
        self._touched.ended.append(call)
        if call.will:
            self.wills.caller_left(call, now)
        if call.booking:
            self.callbacks.caller_left(call, now)
        self._forget_when_done(call)

    def _refused(self, event: ev.CommandRefused, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None:
            return
        self._emit(call, facts.Noticed(call.id, f"refused: {event.command}", event.reason))
        if call.phase == OFFERED and call.offer and event.ref and event.ref == call.offer.leg:
            self._offer_failed(call, "failed", now)
        elif call.far and event.ref == call.far.leg:
            self._far_side(call).refused(call, now)
        elif event.command == do.Release.__name__ and call.caller:
            self._emit(call, do.HangUp(call.id))

    # ---- queue and agent -----------------------------------------------------------------------------------------------

    def _order(self, call: Call, order: Order, now: float) -> None:
        if isinstance(order, Transfer):
            self.transfers.order(call, order, now)
        elif isinstance(order, LeaveWill):
            self.wills.order(call, order)
        elif isinstance(order, BookCallback):
            self.callbacks.order(call, order, now)
        else:
            assert isinstance(order, Enqueue)
            self._enqueue(call, order, now)

    def _enqueue(self, call: Call, order: Enqueue, now: float) -> None:
        kept = call.vars if call.step == call.flow.program.returns else {}
        queue = self.book.queues[kept.get("call.queue", order.queue)]
        if call.wrapping and call.offer:
            self._end_wrap_up(call, "expire", now)
        able, _ = self.acd.able(queue.name, order.skills)
        if not able:
            self.tell_soon(call, "no_agents")
            return
        first = kept.get("call.first_enqueue", now)
        credit = kept.get("call.priority", queue.credit(order.place))
        call.place = Place(queue.name, order.skills, credit, first, order.attach, order.max_wait or queue.max_wait)
        self.acd.enqueue(waiting_of(call), now)
        call.phase = QUEUED
        self.timers.set(call.id, "max_wait", now + call.place.max_wait)
        self._emit(call, facts.Queued(call.id, queue.name, order.skills, credit, first, self.acd.position(call.id)))
        self._emit(call, do.MarkPlace(call.id, queue.name, first, credit))
        self._emit(call, do.StartMusic(call.id, queue.music))
        self._queue_log(call, "NONE", "ENTERQUEUE", ("", call.ani))
        self._automate(call, "queued", now)
        call.music = True
        self._settle = True

    def _match(self, now: float) -> None:
        self._settle = False
        for match in self.acd.match(now):
            self._offer(match, now)
        deadline = self.acd.next_deadline()
        if deadline is None:
            self.timers.cancel("", "acd")
        else:
            self.timers.set("", "acd", deadline)

    def _offer(self, match: Match, now: float) -> None:
        call = self.calls[match.interaction]
        call.phase = OFFERED
        call.offer = offer = Offer(self._mint(call, "of"), match.agent, now)
        self._emit(call, facts.Offered(call.id, match.agent, offer.id, match.decision))
        self._emit(call, do.Pop(call.id, match.agent, offer.id, self.card(call)))
        if self.acd.state(match.agent)["desk"]:
            self.timers.set(call.id, "pop", now + POP_PATIENCE)
        else:
            self._ring(call, now)

    def _ring(self, call: Call, now: float) -> None:
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        self.timers.cancel(call.id, "pop")
        offer.leg = self._mint(call, "leg")
        call.bridge = call.bridge or self._mint(call, "br")
        seconds = self.book.queues[place.queue].ring
        endpoint = self.book.agents[offer.agent].endpoint
        self._emit(call, do.RingAgent(call.id, offer.leg, call.bridge, endpoint, seconds, call.ani, call.name, not call.caller))
        self.timers.set(call.id, "ring", now + seconds + RING_GRACE)

    def _leg_ringing(self, event: ev.LegRinging, now: float) -> None:
        if (far := self._with_far(event.call, event.leg)) is not None:
            self._far_side(far).ringing(far)
            return
        call = self._with_leg(event.call, event.leg)
        if call is not None and call.offer:
            call.offer.ringing = True
            self._touch(call)

    def _leg_answered(self, event: ev.LegAnswered, now: float) -> None:
        """Caller and agent hear each other, from now on or, where the answer was only found, since `event.at`."""
        if (far := self._with_far(event.call, event.leg)) is not None:
            self._far_side(far).answered(far, event.at, now)
            return
        call = self._with_leg(event.call, event.leg)
        if call is None or call.offer is None or call.place is None or call.phase != OFFERED:
            if call is None or call.phase not in (TALKING, DIALLING):
                self._out.append(do.HangUpLeg(event.call, event.leg))
            return
        offer = call.offer
        since = min(max(event.at, offer.at), now) if event.at else now
        if not call.caller:
            self.callbacks.agent_answered(call, since, now)
            return
        offer.answered = since
        self._work(offer.agent, call, "answer", since)
        self._work(offer.agent, call, "joined", since)
        for name in ("ring", "max_wait", "pop"):
            self.timers.cancel(call.id, name)
        self._emit(call, do.Talk(call.id, call.bridge, offer.leg))
        self.callbacks.not_needed(call)
        self._connected(call, since, now)

    def _connected(self, call: Call, since: float, now: float) -> None:
        """The customer talks to the agent who was offered the call."""
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        call.phase, call.served_by, call.connected, call.music = TALKING, offer.agent, since, False
        call.waited = since - place.first
        self._emit(call, facts.Connected(call.id, offer.agent, offer.id, round(call.waited, 3)))
        self._automate(call, "connected", now)
        self._queue_log(call, offer.agent, "CONNECT", (f"{call.waited:.0f}", "", f"{since - offer.at:.0f}"))

    def _leg_ended(self, event: ev.LegEnded, now: float) -> None:
        if (far := self._with_far(event.call, event.leg)) is not None:
            self._far_side(far).ended(far, event.cause, now)
            return
        call = self._with_leg(event.call, event.leg)
        if call is None or call.offer is None:
            return
        if call.far and not call.caller:
            self.callbacks.agent_left(call, now)
        elif call.phase == TALKING and not call.lost and now - call.offer.answered < FLEETING:
            self._never_talked(call, now)
        elif call.phase == TALKING:
            self._talk_over(call, "lost" if call.lost else "agent", now)
            if not call.lost:
                self._tell(call, "talked", now)
        elif call.phase == OFFERED:
            self._offer_failed(call, REASONS.get(event.cause, "no_answer"), now)

    def _offer_failed(self, call: Call, reason: str, now: float) -> None:
        """An offer came to nothing; the call goes back to its place, with its first enqueue time."""
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        for name in ("ring", "pop"):
            self.timers.cancel(call.id, name)
        self._work(offer.agent, call, _VERBS.get(reason, "no_answer"), now)
        self._emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, reason))
        self._emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, reason))
        self._queue_log(call, offer.agent, "RINGNOANSWER", (f"{(now - offer.at) * 1000:.0f}",))
        call.offer, call.phase = None, QUEUED
        self.acd.requeue(call.id, now)
        place.refused = dict(self.acd.item(call.id).refused)
        if call.caller:
            self._emit(call, do.StartMusic(call.id, self.book.queues[place.queue].music))
        self._settle = True
        self._someone_able(call, now)

    def _never_talked(self, call: Call, now: float) -> None:
        """The phone was answered and hung up in one breath: no conversation, and the caller waits on in the old place."""
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        self._work(offer.agent, call, "hangup", now)
        self._work(offer.agent, call, "expire", now)
        self._park(offer.agent, "hung up at once", now)
        self._emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, "hung_up"))
        self._emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, "hung_up"))
        self._queue_log(call, offer.agent, "RINGNOANSWER", (f"{(now - offer.at) * 1000:.0f}",))
        call.offer, call.phase, call.served_by, call.connected, call.waited = None, QUEUED, "", 0.0, 0.0
        call.music = True
        self.acd.enqueue(waiting_of(call), now)
        self.timers.set(call.id, "max_wait", max(place.first + place.max_wait, now))
        self._emit(call, do.StartMusic(call.id, self.book.queues[place.queue].music))
        self._settle = True
        self._someone_able(call, now)

    def _park(self, agent: str, reason: str, now: float) -> None:
        try:
            self.acd.not_ready(agent, now, reason)
        except IllegalMove:
            self.ignored["parked already"] += 1

    def _someone_able(self, call: Call, now: float) -> None:
        """A caller for whom nobody who is signed in could ever be found does not wait."""
        if call.caller and call.place and call.phase == QUEUED and not self.acd.able(call.place.queue, call.place.skills)[0]:
            self._leave_queue(call, now)
            self._tell(call, "no_agents", now)

    def _leave_queue(self, call: Call, now: float) -> None:
        """The call waits no longer: out of its queue, its offer withdrawn, a phone that rings for it silenced."""
        for name in ("ring", "pop", "max_wait"):
            self.timers.cancel(call.id, name)
        if call.phase == QUEUED:
            self.acd.leave(call.id)
            self._settle = True
        elif call.phase == OFFERED and call.offer:
            offer = call.offer
            if offer.leg:
                self._emit(call, do.HangUpLeg(call.id, offer.leg, CANCELLED))
            self._work(offer.agent, call, "withdraw", now)
            self.acd.leave(call.id)
            self._emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, "withdrawn"))
            self._emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, "caller gone"))
            call.offer = None
            self._settle = True
        if call.phase in (QUEUED, OFFERED):
            call.phase = FLOW

    def _talk_over(self, call: Call, by: str, now: float) -> None:
        offer = call.offer
        assert offer is not None
        call.talked += now - call.connected
        call.parted = now
        call.phase = FLOW
        self._emit(call, facts.TalkEnded(call.id, offer.agent, by, round(now - call.connected, 3)))
        self._queue_log(
            call,
            offer.agent,
            "COMPLETEAGENT" if by == "agent" else "COMPLETECALLER",
            (f"{call.waited:.0f}", f"{now - call.connected:.0f}", "1"),
        )
        if by == "caller":
            self._emit(call, do.HangUpLeg(call.id, offer.leg))
        self._work(offer.agent, call, "hangup", now)
        call.wrapping = True
        seconds = self._wrap_up_seconds(call)
        if by == "lost" or seconds <= 0:
            self._end_wrap_up(call, "expire", now)
        else:
            self.timers.set(call.id, "wrap_up", now + seconds)

    def _wrap_up_seconds(self, call: Call) -> float:
        assert call.place is not None
        agent, queue = self.book.agents.get(call.served_by), self.book.queues.get(call.place.queue)
        if agent is None or queue is None:
            return 0.0
        return queue.wrap_up if agent.wrap_up is None else agent.wrap_up

    def _end_wrap_up(self, call: Call, verb: str, now: float) -> None:
        offer = call.offer
        assert offer is not None
        self._work(offer.agent, call, verb, now)
        self.timers.cancel(call.id, "wrap_up")
        call.wrapping, call.offer = False, None
        call.wrapped += now - call.parted
        self._emit(call, facts.WrapUpEnded(call.id, offer.agent, call.disposition, call.remarks, round(now - call.parted, 3)))
        self._settle = True
        if not call.caller:
            self._touched.ended.append(call)
        self._forget_when_done(call)

    def tell_soon(self, call: Call, outcome: str) -> None:
        """Tell the flow, once it has said all that it had to say, how a wait for somebody ended that never began."""
        self._untold.append((call, outcome))

    def transfers_up(self) -> int:
        """How many callers are put through, or are about to be."""
        return sum(call.far is not None for call in self.calls.values())

    def _tell(self, call: Call, outcome: str, now: float) -> None:
        """Tell the flow how its wait for an agent ended."""
        if call.caller and call.wait is None:
            self._take_error_exit(call, "the step that waited for an agent is not open any more", now)
        elif call.caller:
            fact = facts.Outcome(call.id, outcome)
            self._emit(call, fact)
            self._run(call, now, lambda: call.feed(fact, now))

    def _work(self, agent: str, call: Call, verb: str, now: float) -> None:
        """A verb for an agent's work. One who is not in the project's files any more has none; his last work may sign him out."""
        if agent not in self.book.agents:
            self.ignored["agent not in the files"] += 1
            return
        self.acd.work(agent, call.id, verb, now)
        self._fewer = self._fewer or self.acd.state(agent)["presence"] == "signed_out"

    # ---- agents --------------------------------------------------------------------------------------------------------

    def _signed_in(self, event: ev.AgentSignedIn, now: float) -> None:
        self.acd.sign_in(event.agent, now)

    def _signed_out(self, event: ev.AgentSignedOut, now: float) -> None:
        self.acd.sign_out(event.agent, now)
        self._fewer = True

    def _those_nobody_can_serve(self, now: float) -> None:
        for call in list(self.calls.values()):
            self._someone_able(call, now)

    def _ready(self, event: ev.AgentBecameReady, now: float) -> None:
        self.acd.ready(event.agent, now)
        self._settle = True

    def _not_ready(self, event: ev.AgentBecameNotReady, now: float) -> None:
        self.acd.not_ready(event.agent, now, event.reason)

    def _finished_wrap_up(self, event: ev.AgentFinishedWrapUp, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None or not call.wrapping or call.offer is None or call.offer.agent != event.agent:
            raise IllegalMove("done", "not in wrap-up of this call", f"agent {event.agent}")
        call.disposition, call.remarks = event.disposition, event.remarks
        self._end_wrap_up(call, "done", now)

    def _rejected(self, event: ev.AgentRejected, now: float) -> None:
        call = self._offered_to(event.agent, event.call, "reject")
        if call.offer and call.offer.leg:
            self._emit(call, do.HangUpLeg(call.id, call.offer.leg, DECLINED))
        self._offer_failed(call, "rejected", now)

    def _offered_to(self, agent: str, call_id: str, verb: str) -> Call:
        call = self.calls.get(call_id)
        if call is None or call.phase != OFFERED or call.offer is None or call.offer.agent != agent:
            raise IllegalMove(verb, "not offered this call", f"agent {agent}")
        return call

    def _agent_hung_up(self, event: ev.AgentHungUp, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None or call.phase not in (TALKING, DIALLING) or call.offer is None or call.offer.agent != event.agent:
            raise IllegalMove("hang_up", "not talking in this call", f"agent {event.agent}")
        self._emit(call, do.HangUpLeg(call.id, call.offer.leg))

    def _phone_changed(self, event: ev.AgentPhoneChanged, now: float) -> None:
        self.acd.phone(event.agent, event.reachable, event.in_use, now)
        self._settle = True

    def _desk_acknowledged(self, event: ev.DeskAcknowledged, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None or call.phase != OFFERED or call.offer is None:
            return
        if call.offer.id == event.offer and call.offer.agent == event.agent and not call.offer.leg:
            self._ring(call, now)

    def _desk_found(self, event: ev.DeskFound, now: float) -> None:
        self.acd.desk(event.agent, True, now)
        self.timers.cancel(f"agent:{event.agent}", "desk")

    def _desk_lost(self, event: ev.DeskLost, now: float) -> None:
        if self.acd.state(event.agent)["desk"]:
            self.acd.desk(event.agent, False, now)
            self.timers.set(f"agent:{event.agent}", "desk", now + DESK_GRACE)

    def _desk_stays_away(self, agent: str, now: float) -> None:
        self._touched.agents[agent] = None
        for call in list(self.calls.values()):
            if call.phase == OFFERED and call.offer and call.offer.agent == agent:
                if call.offer.leg:
                    self._emit(call, do.HangUpLeg(call.id, call.offer.leg, CANCELLED))
                self._offer_failed(call, "desk_lost", now)
        self._park(agent, "desk_lost", now)

    # ---- versions of flows ---------------------------------------------------------------------------------------------

    def _published(self, event: ev.FlowPublished, now: float) -> None:
        guard = Guard(**event.guard) if event.guard else Guard()
        wish = Wish(event.flow, event.version, event.by, event.note, event.share, event.numbers, guard, event.tag)
        self._versions_changed(self.book.published.publish(wish, now))

    def _flows_read(self, event: ev.FlowsRead, now: float) -> None:
        self.book.published.restore(event.versions)
        before = {id(version): version.state for line in self.book.published.lines.values() for version in line.versions.values()}
        changed, problems = self.book.published.read_files(event.files, now)
        self._touched.versions.update({(version.flow, version.number): version for version in changed})
        self._versions_changed(version for version in changed if version.state != before.get(id(version)))
        self._out.extend(facts.Noticed("", "flow not published", problem) for problem in problems)

    def _versions_changed(self, changed: Iterable[Version]) -> None:
        for version in changed:
            self._touched.versions[version.flow, version.number] = version
            self._out.append(facts.VersionChanged("", version.flow, version.number, version.hash, version.state, version.why))
        self.book.renumber()

    def _count(self, call: Call) -> None:
        """A call of a version has ended; a version for some callers that does worse than the active one is taken back."""
        if call.lost:
            return
        marks = call.marks | (ABANDONED if call.outcome in LEFT else 0) | (FAILED if call.failed else 0)
        changed, taken_back = self.book.published.count(call.flow.name, call.flow.version, marks)
        self._touched.versions.update({(version.flow, version.number): version for version in changed})
        if taken_back is not None:
            self._versions_changed([taken_back])

    # ---- time, and coming back -----------------------------------------------------------------------------------------

    def _timer_fired(self, event: ev.TimerFired, now: float) -> None:
        if event.owner == "":
            self.acd.due(now)
            self._settle = True
        elif event.owner.startswith("agent:"):
            self._desk_stays_away(event.owner.removeprefix("agent:"), now)
        elif (call := self.calls.get(event.owner)) is not None:
            self._call_timer(call, event, now)

    def _call_timer(self, call: Call, event: ev.TimerFired, now: float) -> None:
        if event.timer.startswith("wait "):
            if call.caller:
                self._run(call, now, lambda: call.feed(event, now))
        elif event.timer == "pop" and call.phase == OFFERED:
            self._ring(call, now)
        elif event.timer == "ring" and call.phase == OFFERED and call.offer:
            self._emit(call, do.HangUpLeg(call.id, call.offer.leg, CANCELLED))
            never_dialled = self.store_away and not call.offer.ringing
            self._offer_failed(call, "withdrawn" if never_dialled else "no_answer", now)
        elif event.timer == "max_wait" and call.phase in (QUEUED, OFFERED):
            self._leave_queue(call, now)
            self._queue_log(call, "NONE", "EXITWITHTIMEOUT", ("1", "1", f"{now - (call.place.first if call.place else now):.0f}"))
            self._tell(call, "too_long", now)
        elif event.timer == "far" and call.far:
            self._far_side(call).too_long(call, now)
        elif event.timer in ("again", "booking") and call.booking:
            self.callbacks.due(call, event.timer, now)
        elif event.timer == "will" and call.will and not call.caller:
            self.wills.due(call, now)
        elif event.timer == "wrap_up" and call.wrapping:
            self._end_wrap_up(call, "expire", now)

    def _noted(self, event: ev.Event, now: float) -> None:
        """The journal has it; nothing else is to be done."""

    def _pbx_back(self, event: ev.PbxBack, now: float) -> None:
        """Asterisk began anew: every call that was up is lost. None of them may be offered to anybody while they are being closed."""
        for call in self.calls.values() if event.restarted else ():
            if call.caller:
                call.lost = True
                self._touch(call)
                self._leave_queue(call, now)

    def _took_over(self, event: ev.TookOver, now: float) -> None:
        """Requests whose answers died with the process before us are asked again, with time enough for an answer."""
        for call in [call for call in self.calls.values() if call.caller]:
            fact = facts.TakenOver(call.id, event.last)
            self._emit(call, fact)
            self._run(call, now, partial(call.feed, fact, now))
            for again in call.ask_again():
                self._emit(call, again)
        self.wills.took_over(now)
        self.callbacks.took_over(now)
        for state in self.acd.states():
            if state["desk"]:
                self.acd.desk(state["id"], False, now)
                self.timers.set(f"agent:{state['id']}", "desk", now + DESK_GRACE)
        self._settle = True

    def _found(self, event: ev.CallFound, now: float) -> None:
        """A call of ours lives after a gap: issue what was ordered and is not so.

        Legs that are gone have been told of by now; one that is not among those found was ordered since.
        """
        call = self.calls.get(event.call)
        if call is None or not call.caller:
            return
        self._touch(call)
        if call.answered and not event.up:
            self._emit(call, do.Answer(call.id))
        if call.leaving:
            self._emit(call, do.HangUp(call.id) if call.leaving == "hangup" else do.Release(call.id, AWAY, do.FOR_GOOD))
        elif call.far:
            self.transfers.found(call, event, now)
        elif call.phase == TALKING and call.offer and call.offer.leg in event.legs:
            call.offer.answered = call.offer.at  # nobody knows when it was: they may have talked for long
            joined = call.offer.leg in event.bridged
            self._emit(call, (do.Talk if joined else do.JoinBridge)(call.id, call.bridge, call.offer.leg))
        elif call.phase in (QUEUED, OFFERED) or call.music:
            self._emit(call, do.StartMusic(call.id, self._music(call)))
        for bot in call.bots():
            self._emit(call, do.StartBot(call.id, bot.request, bot.bot, again=True))
        if call.playing in event.playbacks and call.play is None:
            self._emit(call, do.StopPlay(call.id, call.playing))

    def _music(self, call: Call) -> str:
        queue = self.book.queues.get(call.place.queue) if call.place and call.phase in (QUEUED, OFFERED) else None
        return queue.music if queue else "default"

    # ---- small things --------------------------------------------------------------------------------------------------

    def card(self, call: Call) -> dict[str, Any]:
        """What the agent is shown of a call: the very record that the flow used."""
        spaces = nested(call.vars)
        place = call.place
        queue = self.book.queues.get(place.queue) if place else None
        contact = spaces.pop("contact", {})
        return {
            "call": call.id,
            "queue": place.queue if place else "",
            "queue_title": (queue.title or queue.name) if queue else "",
            "skills": dict(place.skills) if place else {},
            "tier": contact.get("tier", ""),
            "caller": call.ani,
            "callback": call.booking.get("number", ""),
            "name": call.name,
            "contact": contact if contact.get("found") else {},
            "reference": (place.attach if place else {}).get("reference", ""),
            "attached": dict(place.attach) if place else {},
            "vars": spaces.get("vars", {}),
            "first_enqueue": place.first if place else 0.0,
            "flow": call.flow.program.flow,
            "wrap_up": queue.wrap_up if queue else 0.0,
        }

    def _with_leg(self, call_id: str, leg: str) -> Call | None:
        call = self.calls.get(call_id)
        if call is None or call.offer is None or call.offer.leg != leg:
            self.ignored["leg of no offer"] += 1
            return None
        return call

    def _with_far(self, call_id: str, leg: str) -> Call | None:
        call = self.calls.get(call_id)
        return call if call is not None and call.far and call.far.leg == leg else None

    def _emit(self, call: Call, thing: do.Command | facts.Fact) -> None:
        self._out.append(thing)
        self._touch(call)

    def _touch(self, call: Call) -> None:
        if self._touched.calls.get(call.id, call) is not None:
            self._touched.calls[call.id] = call

    def _forget_when_done(self, call: Call) -> None:
        """A call is kept until its caller has left (and was called back), its agent is done with it, and its message is handed over."""
        if not (call.caller or call.wrapping or call.will or call.booking) and call.id in self.calls:
            del self.calls[call.id]
            self.timers.cancel_all(call.id)
            self._touched.calls[call.id] = None

    def set_wait(self, call: Call) -> None:
        """Keep the one deadline of the flow's open wait."""
        self.timers.cancel_prefixed(call.id, "wait ")
        if call.deadline is not None:
            self.timers.set(call.id, f"wait {call.waits}", call.deadline)

    def _mint(self, call: Call, kind: str) -> str:
        """A new id for a thing of the centre's; the flow's ids have a counter of their own, which is driven again."""
        call.minted_by_centre += 1
        return f"{call.id}-{kind}{call.minted_by_centre}"

    def _queue_log(self, call: Call, agent: str, event: str, values: Iterable[str]) -> None:
        if call.place:
            name = self.book.agents[agent].name if agent in self.book.agents else agent
            self._emit(call, do.QueueLog(call.id, call.uniqueid, call.place.queue, name, event, tuple(values)))

    def _far_side(self, call: Call) -> Transfers | Callbacks:
        """Who knows the far leg of this call."""
        return self.transfers if call.caller else self.callbacks

    def line_up(self, call: Call, now: float) -> bool:
        """Let a call without a caller wait in its place; False where its queue is not there any more."""
        if call.place is None or call.place.queue not in self.book.queues:
            return False
        call.phase = QUEUED
        self.acd.enqueue(waiting_of(call), now)
        place = call.place
        self._emit(call, facts.Queued(call.id, place.queue, place.skills, place.credit, place.first, self.acd.position(call.id)))
        self._settle = True
        return True

    def settle(self) -> None:
        """Somebody may be served now who could not before."""
        self._settle = True

    def write_history(self, call: Call) -> None:
        """What stays of the call has changed since it ended."""
        self._touched.ended.append(call)

    # What the centre's parts, transfers, wills and callbacks, may do with it.
    emit, touch, mint, tell_flow, forget_when_done = _emit, _touch, _mint, _tell, _forget_when_done
    work, connected, talk_over, end_wrap_up = _work, _connected, _talk_over, _end_wrap_up


def call_variables(call: Call, returned: bool) -> dict[str, Any]:
    """The variables that every call has. A number is known when it can be one: five digits or more, a plus before them or not."""
    known = len(call.ani) >= 5 and call.ani.removeprefix("+").isdecimal()
    values = {"id": call.id, "ani": call.ani, "name": call.name, "dnis": call.dnis, "number_known": known, "returned": returned}
    values |= {"language": call.flow.program.language, "agent": "", "outcome": ""}
    answers = {
        f"{automation.into}.{key}": False
        for automation in call.flow.program.automations
        if automation.into
        for key in ("found", "answered")
    }
    return answers | {f"call.{name}": value for name, value in values.items()}


_VERBS = {"failed": "reject", "withdrawn": "withdraw", "desk_lost": "withdraw", "rejected": "reject"}
"""What an offer that failed means for the agent: a phone that cannot be rung is not tried again at once for the same call."""


def waiting_of(call: Call) -> Waiting:
    """The ACD's row of a call that waits or is offered."""
    assert call.place is not None
    place = call.place
    return Waiting(call.id, place.queue, place.skills, place.first, place.credit, refused=dict(place.refused))


def _outcome(call: Call, waiting: bool, elsewhere: bool) -> str:
    if call.lost:
        return "lost_media_server"
    if call.leaving == "release" or elsewhere:
        return "released"
    if waiting:
        return "abandoned"
    if call.connected:
        return "answered"
    if call.passed_on:
        return "transferred"
    return "self_service" if call.leaving or call.will.get("mail") else "hung_up"


def live_view(call: Call) -> LiveCall:
    """What of one call the PBX adapter has to look for."""
    legs = {}
    if call.offer and call.offer.leg and call.phase in (OFFERED, DIALLING, TALKING):
        legs[call.offer.leg] = "up" if call.offer.answered else "ringing" if call.offer.ringing else "created"
    if call.far:
        legs[call.far.leg] = "up" if call.far.answered else "ringing" if call.far.ringing else "created"
    playing = (call.playing,) if call.playing and not call.leaving else ()
    recordings = (call.recording,) if call.recording and not call.leaving else ()
    alone = bool(call.booking) and not call.caller
    return LiveCall(call.id, call.channel, bool(call.answered), call.caller, call.bridge, legs, playing, recordings, alone)
