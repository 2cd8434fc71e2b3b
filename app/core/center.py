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
from typing import Any

from app.core import automations, driving, facts
from app.core import commands as do
from app.core import events as ev
from app.core.acd import Acd, IllegalMove, UnknownAgent
from app.core.agents import Agents
from app.core.book import AWAY, NO_ROOM, Book
from app.core.call import FLOW, OFFERED, OVER, QUEUED, TALKING, Call, call_variables
from app.core.callbacks import Callbacks
from app.core.flow.script import BookCallback, Enqueue, LeaveWill, Order, Transfer
from app.core.offers import Offers
from app.core.publishing import Publishing
from app.core.recovery import Recovery
from app.core.session import SessionRefused
from app.core.steering import Steering
from app.core.talks import Talks
from app.core.timers import Timers
from app.core.transfer import Transfers
from app.core.versions import Version, marks_of
from app.core.view import LiveCall, live_view
from app.core.wills import Wills


class Inconsistent(RuntimeError):
    """The centre's parts disagree: a mistake of ours, never somebody's illegal wish."""


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
        self.offers, self.talks, self.agents = Offers(self), Talks(self), Agents(self)
        self.transfers, self.wills, self.callbacks = Transfers(self), Wills(self), Callbacks(self)
        self.steering, self.publishing, self.recovery = Steering(self), Publishing(self), Recovery(self)
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
        self.changes = Touched()
        self._settle = False
        self._fewer = False
        self._handlers: dict[type[Any], Callable[[Any, float], None]] = {
            ev.CallArrived: self._arrived,
            ev.CallerLeft: self._caller_left,
            ev.LegRinging: self.offers.leg_ringing,
            ev.LegAnswered: self.offers.leg_answered,
            ev.LegEnded: self.offers.leg_ended,
            ev.CommandRefused: self._refused,
            ev.CallFound: self.recovery.found,
            ev.PbxLost: self._noted,
            ev.PbxBack: self.recovery.pbx_back,
            ev.AgentSignedIn: self.agents.signed_in,
            ev.AgentSignedOut: self.agents.signed_out,
            ev.AgentBecameReady: self.agents.ready,
            ev.AgentBecameNotReady: self.agents.not_ready,
            ev.AgentFinishedWrapUp: self.agents.finished_wrap_up,
            ev.AgentRejected: self.agents.rejected,
            ev.AgentHungUp: self.agents.hung_up,
            ev.AgentPhoneChanged: self.agents.phone_changed,
            ev.DeskAcknowledged: self.agents.desk_acknowledged,
            ev.DeskFound: self.agents.desk_found,
            ev.DeskLost: self.agents.desk_lost,
            ev.TimerFired: self._timer_fired,
            ev.TookOver: self.recovery.took_over,
            ev.StepFailed: self._step_failed,
            ev.SessionWritten: self.steering.written,
            ev.CallSteered: self.steering.steered,
            ev.FlowPublished: self.publishing.published,
            ev.FlowsRead: self.publishing.flows_read,
        }

    # ---- in and out --------------------------------------------------------------------------------------------------

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
                self.to_flow(event, now)
        except (IllegalMove, UnknownAgent, SessionRefused) as refusal:
            if self._out or not isinstance(event, ev.AgentEvent | ev.SessionEvent):
                raise Inconsistent(f"{type(event).__name__}: {refusal}") from refusal
            raise
        return self._settled(now)

    def veiled(self, event: ev.Event) -> ev.Event:
        """What may be written down of an event and is to be handled in its place: of a key for a sensitive input, not which one it was."""
        if not isinstance(event, ev.DigitPressed):
            return event
        call = self.calls.get(event.call)
        return (call.veil(event.digit) if call is not None and call.caller else None) or event

    def _settled(self, now: float) -> list[Any]:
        """What has come of it, with what follows from it for those who wait."""
        while self._untold:
            call, outcome = self._untold.popleft()
            self.tell_flow(call, outcome, now)
        while not self.blind and (self._fewer or (self._settle and not self.store_away)):
            if self._fewer:
                self._fewer = False
                self.offers.those_nobody_can_serve(now)
            else:
                self._settle = False
                self.offers.match(now)
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
        touched, self.changes = self.changes, Touched()
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
                self.take_error_exit(call, error, now)
            except Exception as second:
                self._let_go(call, f"{type(second).__name__}: {second}")
            self.set_wait(call)
        elif call is not None:
            self.emit(call, facts.Noticed(call.id, "error", error[:300]))
        return self._settled(now)

    def _step_failed(self, event: ev.StepFailed, now: float) -> None:
        self._out = self.fail(event.call, event.error, now)

    @property
    def circumstances(self) -> tuple[bool, bool, bool]:
        """What the engine knows and tells by attributes: `admitting`, `blind`, `store_away`."""
        return self.admitting, self.blind, self.store_away

    # ---- the caller --------------------------------------------------------------------------------------------------

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
        self.emit(call, facts.FlowBegan(call.id, flow.name, flow.version, self.book.staff))
        automations.start(self, call, "arrival")
        start = self._back_to_place(call, event.returning, now)
        self.run(call, now, driving.begin, start)

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

    def to_flow(self, event: ev.CallEvent, now: float) -> None:
        call = self.calls.get(event.call)
        if call is not None and call.will and not call.caller:
            self.wills.feed(call, event, now)
            return
        if call is None or not call.caller:
            self.ignored[f"{type(event).__name__} for no call"] += 1
            return
        awaited = len(call.automated)
        self.run(call, now, driving.feed, event)
        if len(call.automated) != awaited:
            self.touch(call)
        if isinstance(event, ev.SessionWritten):
            automations.start(self, call, "session_written")

    def run(self, call: Call, now: float, drive: Callable[[Call, Any, float], list[Any]], what: Any) -> None:
        """Drive a call's flow (one of `app.core.driving`, with what that takes), and carry out what it asks of the centre.

        Where nothing comes of it (a key of several), the call's row stays as it is: the journal has the event, and driving the open
        step again brings it back.
        """
        try:
            came = drive(call, what, now)
            if came:
                self.touch(call)
            for out in came:
                if isinstance(out, Order):
                    self._order(call, out, now)
                    continue
                self._out.append(out)
                if type(out) is facts.StepLeft:
                    call.marks |= marks_of((out.exit,))
                elif type(out) is do.Answer:
                    automations.start(self, call, "answered")
        except Exception as error:
            self.take_error_exit(call, f"{type(error).__name__}: {error}", now)
        self.set_wait(call)

    def take_error_exit(self, call: Call, error: str, now: float) -> None:
        """One call failed; only that call goes to its flow's error step, and to the fallback when that fails too."""
        self._out.extend(driving.take_out(call))
        if call.failed:
            self.offers.leave_queue(call, now)
            self._let_go(call, error)
            return
        self.emit(call, facts.Noticed(call.id, "error", error[:300]))
        self.offers.leave_queue(call, now)
        if call.music:
            call.music = False
            self.emit(call, do.StopMusic(call.id))
        call.failed, call.leaving = True, ""
        self.run(call, now, driving.divert, call.flow.program.on_error)

    def _let_go(self, call: Call, error: str) -> None:
        """The error exit failed too: back to the dialplan, and not to be brought back."""
        driving.stop(call)
        call.failed, call.leaving = True, "release"
        self.emit(call, facts.Noticed(call.id, "error", error[:300]))
        self.emit(call, do.Release(call.id, AWAY, do.FOR_GOOD))

    def _caller_left(self, event: ev.CallerLeft, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None or not call.caller:
            self.ignored["left twice"] += 1
            return
        call.caller, call.ended, call.cause = False, now, event.cause
        for order in driving.stop_bots(call):
            self.emit(call, order)
        driving.stop(call)
        self.set_wait(call)
        waiting = call.phase in (QUEUED, OFFERED)
        position = self.acd.position(call.id)
        if call.phase == TALKING:
            self.talks.over(call, "lost" if call.lost else "caller", now)
        elif waiting:
            self.offers.leave_queue(call, now)
        elif call.far:
            self.transfers.leave(call, now)
        call.outcome = "booked" if call.booking else _outcome(call, waiting, event.elsewhere)
        if call.outcome == "abandoned" and call.place:
            self.queue_log(call, "NONE", "ABANDON", (str(position), "1", f"{now - call.place.first:.0f}"))
        call.phase = OVER
        if call.bridge:
            self.emit(call, do.DropBridge(call.id, call.bridge))
        self.emit(call, facts.CallEnded(call.id, call.outcome, call.cause, round(now - call.arrived, 3)))
        self.publishing.count(call)
        automations.start(self, call, "ended")
        self.write_history(call)
        if call.will:
            self.wills.caller_left(call, now)
        if call.booking:
            self.callbacks.caller_left(call, now)
        self.forget_when_done(call)

    def _refused(self, event: ev.CommandRefused, now: float) -> None:
        call = self.calls.get(event.call)
        if call is None:
            return
        self.emit(call, facts.Noticed(call.id, f"refused: {event.command}", event.reason))
        if call.phase == OFFERED and call.offer and event.ref and event.ref == call.offer.leg:
            self.offers.failed(call, "failed", now)
        elif call.far and event.ref == call.far.leg:
            self.far_side(call).refused(call, now)
        elif event.command == do.Release.__name__ and call.caller:
            self.emit(call, do.HangUp(call.id))

    def _order(self, call: Call, order: Order, now: float) -> None:
        if isinstance(order, Transfer):
            self.transfers.order(call, order, now)
        elif isinstance(order, LeaveWill):
            self.wills.order(call, order)
        elif isinstance(order, BookCallback):
            self.callbacks.order(call, order, now)
        else:
            assert isinstance(order, Enqueue)
            self.offers.enqueue(call, order, now)

    def tell_soon(self, call: Call, outcome: str) -> None:
        """Tell the flow, once it has said all that it had to say, how a wait for somebody ended that never began."""
        self._untold.append((call, outcome))

    def transfers_up(self) -> int:
        """How many callers are put through, or are about to be."""
        return sum(call.far is not None for call in self.calls.values())

    def tell_flow(self, call: Call, outcome: str, now: float) -> None:
        """Tell the flow how its wait for an agent ended."""
        if call.caller and call.wait is None:
            self.take_error_exit(call, "the step that waited for an agent is not open any more", now)
        elif call.caller:
            fact = facts.Outcome(call.id, outcome)
            self.emit(call, fact)
            self.run(call, now, driving.feed, fact)

    # ---- time --------------------------------------------------------------------------------------------------------

    def _timer_fired(self, event: ev.TimerFired, now: float) -> None:
        if event.owner == "":
            self.acd.due(now)
            self._settle = True
        elif event.owner.startswith("agent:"):
            self.agents.desk_stays_away(event.owner.removeprefix("agent:"), now)
        elif (call := self.calls.get(event.owner)) is not None:
            self._call_timer(call, event, now)

    def _call_timer(self, call: Call, event: ev.TimerFired, now: float) -> None:
        if event.timer.startswith("wait "):
            if call.caller:
                self.run(call, now, driving.feed, event)
        elif event.timer == "pop" and call.phase == OFFERED:
            self.offers.ring(call, now)
        elif event.timer == "ring" and call.phase == OFFERED and call.offer:
            self.offers.unanswered(call, call.offer, now)
        elif event.timer == "max_wait" and call.phase in (QUEUED, OFFERED):
            self.offers.waited_too_long(call, now)
        elif event.timer == "far" and call.far:
            self.far_side(call).too_long(call, now)
        elif event.timer in ("again", "booking", "closing") and call.booking:
            self.callbacks.due(call, event.timer, now)
        elif event.timer == "will" and call.will and not call.caller:
            self.wills.due(call, now)
        elif event.timer == "wrap_up" and call.wrapping:
            self.talks.end_wrap_up(call, "expire", now)

    def _noted(self, event: ev.Event, now: float) -> None:
        """The journal has it; nothing else is to be done."""

    # ---- what the centre and its parts do with a call ----------------------------------------------------------------

    def emit(self, call: Call, thing: do.Command | facts.Fact) -> None:
        self._out.append(thing)
        self.touch(call)

    def say(self, thing: do.Command | facts.Fact) -> None:
        """What comes of an event for no live call."""
        self._out.append(thing)

    def touch(self, call: Call) -> None:
        if self.changes.calls.get(call.id, call) is not None:
            self.changes.calls[call.id] = call

    def forget_when_done(self, call: Call) -> None:
        """A call is kept until its caller has left (and was called back), its agent is done with it, and its message is handed over."""
        if not (call.caller or call.wrapping or call.will or call.booking) and call.id in self.calls:
            del self.calls[call.id]
            self.timers.cancel_all(call.id)
            self.changes.calls[call.id] = None

    def set_wait(self, call: Call) -> None:
        """Keep the one deadline of the flow's open wait."""
        if call.timed:
            self.timers.cancel(call.id, call.timed)
        call.timed = "" if call.deadline is None else f"wait {call.waits}"
        if call.deadline is not None:
            self.timers.set(call.id, call.timed, call.deadline)

    def queue_log(self, call: Call, agent: str, event: str, values: Iterable[str]) -> None:
        if call.place:
            name = self.book.agents[agent].name if agent in self.book.agents else agent
            self.emit(call, do.QueueLog(call.id, call.uniqueid, call.place.queue, name, event, tuple(values)))

    def far_side(self, call: Call) -> Transfers | Callbacks:
        """Who knows the far leg of this call."""
        return self.transfers if call.caller else self.callbacks

    def settle(self) -> None:
        """Somebody may be served now who could not before."""
        self._settle = True

    def somebody_left(self) -> None:
        """Fewer agents are signed in than before: there may be callers whom nobody can serve now."""
        self._fewer = True

    def write_history(self, call: Call) -> None:
        """What stays of the call has changed since it ended."""
        self.changes.ended.append(call)


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
