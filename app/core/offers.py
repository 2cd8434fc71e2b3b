"""How a waiting call comes to an agent: its place in a queue, the offer, the agent's phone, and what becomes of an offer that failed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import automations, facts
from app.core import commands as do
from app.core import events as ev
from app.core.acd import Match, Waiting
from app.core.call import DIALLING, FLOW, OFFERED, QUEUED, TALKING, Call, Offer, Place
from app.core.far import CANCELLED
from app.core.flow.script import Enqueue
from app.core.view import card_of

if TYPE_CHECKING:
    from app.core.center import Center

FLEETING = 0.03
"""Seconds of conversation that are none: an agent who hangs up within them has not served the caller."""
POP_PATIENCE = 0.15
"""Seconds the phone waits for the desk to show the record."""
RING_GRACE = 5.0
"""Seconds beyond the ring time after which a leg that told nothing is given up."""
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
VERBS = {"failed": "reject", "withdrawn": "withdraw", "desk_lost": "withdraw", "rejected": "reject"}
"""What an offer that failed means for the agent: a phone that cannot be rung is not tried again at once for the same call."""


class Offers:
    """The centre's part that brings callers and agents together."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def enqueue(self, call: Call, order: Enqueue, now: float) -> None:
        center = self._center
        kept = call.vars if call.step == call.flow.program.returns else {}
        queue = center.book.queues[kept.get("call.queue", order.queue)]
        if call.wrapping and call.offer:
            center.talks.end_wrap_up(call, "expire", now)
        able, _ = center.acd.able(queue.name, order.skills)
        if not able:
            center.tell_soon(call, "no_agents")
            return
        first = kept.get("call.first_enqueue", now)
        credit = kept.get("call.priority", queue.credit(order.place))
        call.place = Place(queue.name, order.skills, credit, first, order.attach, order.max_wait or queue.max_wait)
        center.acd.enqueue(waiting_of(call), now)
        call.phase = QUEUED
        center.timers.set(call.id, "max_wait", now + call.place.max_wait)
        center.emit(call, facts.Queued(call.id, queue.name, order.skills, credit, first, center.acd.position(call.id)))
        center.emit(call, do.MarkPlace(call.id, queue.name, first, credit))
        center.emit(call, do.StartMusic(call.id, queue.music))
        center.queue_log(call, "NONE", "ENTERQUEUE", ("", call.ani))
        automations.start(center, call, "queued")
        call.music = True
        center.settle()

    def match(self, now: float) -> None:
        center = self._center
        for match in center.acd.match(now):
            self._offer(match, now)
        deadline = center.acd.next_deadline()
        if deadline is None:
            center.timers.cancel("", "acd")
        else:
            center.timers.set("", "acd", deadline)

    def _offer(self, match: Match, now: float) -> None:
        center = self._center
        call = center.calls[match.interaction]
        call.phase = OFFERED
        call.offer = offer = Offer(call.mint_for_centre("of"), match.agent, now)
        center.emit(call, facts.Offered(call.id, match.agent, offer.id, match.decision))
        center.emit(call, do.Pop(call.id, match.agent, offer.id, card_of(call, center.book)))
        if center.acd.state(match.agent)["desk"]:
            center.timers.set(call.id, "pop", now + POP_PATIENCE)
        else:
            self.ring(call, now)

    def ring(self, call: Call, now: float) -> None:
        center = self._center
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        center.timers.cancel(call.id, "pop")
        offer.leg = call.mint_for_centre("leg")
        call.bridge = call.bridge or call.mint_for_centre("br")
        seconds = center.book.queues[place.queue].ring
        endpoint = center.book.agents[offer.agent].endpoint
        center.emit(call, do.RingAgent(call.id, offer.leg, call.bridge, endpoint, seconds, call.ani, call.name, not call.caller))
        center.timers.set(call.id, "ring", now + seconds + RING_GRACE)

    def leg_ringing(self, event: ev.LegRinging, now: float) -> None:
        if (call := self._with_far(event.call, event.leg)) is not None and call.far:
            call.far.ringing = True
            self._center.touch(call)
            return
        call = self._with_leg(event.call, event.leg)
        if call is not None and call.offer:
            call.offer.ringing = True
            self._center.touch(call)

    def leg_answered(self, event: ev.LegAnswered, now: float) -> None:
        """Caller and agent hear each other, from now on or, where the answer was only found, since `event.at`."""
        center = self._center
        if (call := self._with_far(event.call, event.leg)) is not None and call.far:
            if call.far.answer(event.at, now):
                center.timers.cancel(call.id, "far")
                center.far_side(call).answered(call, now)
            return
        call = self._with_leg(event.call, event.leg)
        if call is None or call.offer is None or call.place is None or call.phase != OFFERED:
            if call is None or call.phase not in (TALKING, DIALLING):
                center.say(do.HangUpLeg(event.call, event.leg))
            return
        offer = call.offer
        since = min(max(event.at, offer.at), now) if event.at else now
        if not call.caller:
            center.callbacks.agent_answered(call, since, now)
            return
        offer.answered = since
        center.agents.work(offer.agent, call, "answer", since)
        center.agents.work(offer.agent, call, "joined", since)
        for name in ("ring", "max_wait", "pop"):
            center.timers.cancel(call.id, name)
        center.emit(call, do.Talk(call.id, call.bridge, offer.leg))
        center.callbacks.not_needed(call)
        center.talks.connected(call, since, now)

    def leg_ended(self, event: ev.LegEnded, now: float) -> None:
        center = self._center
        if (far := self._with_far(event.call, event.leg)) is not None:
            center.far_side(far).ended(far, event.cause, now)
            return
        call = self._with_leg(event.call, event.leg)
        if call is None or call.offer is None:
            return
        if call.far and not call.caller:
            center.callbacks.agent_left(call, now)
        elif call.phase == TALKING and not call.lost and now - call.offer.answered < FLEETING:
            center.talks.never_talked(call, now)
        elif call.phase == TALKING:
            center.talks.over(call, "lost" if call.lost else "agent", now)
            if not call.lost:
                center.tell_flow(call, "talked", now)
        elif call.phase == OFFERED:
            self.failed(call, REASONS.get(event.cause, "no_answer"), now)

    def failed(self, call: Call, reason: str, now: float) -> None:
        """An offer came to nothing; the call goes back to its place, with its first enqueue time."""
        center = self._center
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        for name in ("ring", "pop"):
            center.timers.cancel(call.id, name)
        center.agents.work(offer.agent, call, VERBS.get(reason, "no_answer"), now)
        center.emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, reason))
        center.emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, reason))
        center.queue_log(call, offer.agent, "RINGNOANSWER", (f"{(now - offer.at) * 1000:.0f}",))
        call.offer, call.phase = None, QUEUED
        center.acd.requeue(call.id, now)
        place.refused = dict(center.acd.item(call.id).refused)
        if call.caller:
            center.emit(call, do.StartMusic(call.id, center.book.queues[place.queue].music))
        else:
            call.bridge = ""  # nobody is left in it: it goes, and one made anew under its name might go with it
        center.settle()
        self.someone_able(call, now)

    def someone_able(self, call: Call, now: float) -> None:
        """A caller for whom nobody who is signed in could ever be found does not wait."""
        if call.caller and call.place and call.phase == QUEUED and not self._center.acd.able(call.place.queue, call.place.skills)[0]:
            self.leave_queue(call, now)
            self._center.tell_flow(call, "no_agents", now)

    def leave_queue(self, call: Call, now: float) -> None:
        """The call waits no longer: out of its queue, its offer or transfer withdrawn, a phone that rings for it silenced."""
        center = self._center
        for name in ("ring", "pop", "max_wait"):
            center.timers.cancel(call.id, name)
        if call.phase == QUEUED:
            center.acd.leave(call.id)
            center.settle()
        elif call.phase == OFFERED and call.offer:
            offer = call.offer
            if offer.leg:
                center.emit(call, do.HangUpLeg(call.id, offer.leg, CANCELLED))
            center.agents.work(offer.agent, call, "withdraw", now)
            center.acd.leave(call.id)
            center.emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, "withdrawn"))
            center.emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, "caller gone"))
            call.offer = None
            center.settle()
        elif call.far and not call.far.answered:
            center.transfers.leave(call, now)
        if call.phase in (QUEUED, OFFERED):
            call.phase = FLOW

    def those_nobody_can_serve(self, now: float) -> None:
        for call in list(self._center.calls.values()):
            self.someone_able(call, now)

    def _with_leg(self, call_id: str, leg: str) -> Call | None:
        call = self._center.calls.get(call_id)
        if call is None or call.offer is None or call.offer.leg != leg:
            self._center.ignored["leg of no offer"] += 1
            return None
        return call

    def _with_far(self, call_id: str, leg: str) -> Call | None:
        call = self._center.calls.get(call_id)
        return call if call is not None and call.far and call.far.leg == leg else None

    def line_up(self, call: Call, now: float) -> bool:
        """Let a call without a caller wait in its place; False where its queue is not there any more."""
        center = self._center
        if call.place is None or call.place.queue not in center.book.queues:
            return False
        call.phase = QUEUED
        center.acd.enqueue(waiting_of(call), now)
        place = call.place
        center.emit(call, facts.Queued(call.id, place.queue, place.skills, place.credit, place.first, center.acd.position(call.id)))
        center.settle()
        return True

    def waited_too_long(self, call: Call, now: float) -> None:
        """The longest wait that the flow or the queue allows is over."""
        self.leave_queue(call, now)
        self._center.queue_log(call, "NONE", "EXITWITHTIMEOUT", ("1", "1", f"{now - (call.place.first if call.place else now):.0f}"))
        self._center.tell_flow(call, "too_long", now)

    def unanswered(self, call: Call, offer: Offer, now: float) -> None:
        """The agent's phone has told nothing for longer than it may ring."""
        self._center.emit(call, do.HangUpLeg(call.id, offer.leg, CANCELLED))
        never_dialled = self._center.store_away and not offer.ringing
        self.failed(call, "withdrawn" if never_dialled else "no_answer", now)


def waiting_of(call: Call) -> Waiting:
    """The ACD's row of a call that waits or is offered."""
    assert call.place is not None
    place = call.place
    return Waiting(call.id, place.queue, place.skills, place.first, place.credit, refused=dict(place.refused))
