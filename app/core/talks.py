"""Conversations of callers with agents, and the wrap-up after them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import automations, facts
from app.core import commands as do
from app.core.call import FLOW, QUEUED, TALKING, Call
from app.core.offers import waiting_of

if TYPE_CHECKING:
    from app.core.center import Center


class Talks:
    """The centre's part that knows who talks, and who is busy afterwards."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def connected(self, call: Call, since: float, now: float) -> None:
        """The customer talks to the agent who was offered the call."""
        center = self._center
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        call.phase, call.served_by, call.connected, call.music = TALKING, offer.agent, since, False
        call.waited = since - place.first
        center.emit(call, facts.Connected(call.id, offer.agent, offer.id, round(call.waited, 3)))
        automations.start(center, call, "connected")
        center.queue_log(call, offer.agent, "CONNECT", (f"{call.waited:.0f}", "", f"{since - offer.at:.0f}"))

    def never_talked(self, call: Call, now: float) -> None:
        """The phone was answered and hung up in one breath: no conversation, and the caller waits on in the old place."""
        center = self._center
        offer, place = call.offer, call.place
        assert offer is not None
        assert place is not None
        center.agents.work(offer.agent, call, "hangup", now)
        center.agents.work(offer.agent, call, "expire", now)
        center.agents.park(offer.agent, "hung up at once", now)
        center.emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, "hung_up"))
        center.emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, "hung_up"))
        center.queue_log(call, offer.agent, "RINGNOANSWER", (f"{(now - offer.at) * 1000:.0f}",))
        call.offer, call.phase, call.served_by, call.connected, call.waited = None, QUEUED, "", 0.0, 0.0
        call.music = True
        center.acd.enqueue(waiting_of(call), now)
        center.timers.set(call.id, "max_wait", max(place.first + place.max_wait, now))
        center.emit(call, do.StartMusic(call.id, center.book.queues[place.queue].music))
        center.settle()
        center.offers.someone_able(call, now)

    def over(self, call: Call, by: str, now: float) -> None:
        center = self._center
        offer = call.offer
        assert offer is not None
        call.talked += now - call.connected
        call.parted = now
        call.phase = FLOW
        center.emit(call, facts.TalkEnded(call.id, offer.agent, by, round(now - call.connected, 3)))
        center.queue_log(
            call,
            offer.agent,
            "COMPLETEAGENT" if by == "agent" else "COMPLETECALLER",
            (f"{call.waited:.0f}", f"{now - call.connected:.0f}", "1"),
        )
        if by == "caller":
            center.emit(call, do.HangUpLeg(call.id, offer.leg))
        center.agents.work(offer.agent, call, "hangup", now)
        call.wrapping = True
        seconds = self._wrap_up_seconds(call)
        if by == "lost" or seconds <= 0:
            self.end_wrap_up(call, "expire", now)
        else:
            center.timers.set(call.id, "wrap_up", now + seconds)

    def _wrap_up_seconds(self, call: Call) -> float:
        assert call.place is not None
        agent, queue = self._center.book.agents.get(call.served_by), self._center.book.queues.get(call.place.queue)
        if agent is None or queue is None:
            return 0.0
        return queue.wrap_up if agent.wrap_up is None else agent.wrap_up

    def end_wrap_up(self, call: Call, verb: str, now: float) -> None:
        center = self._center
        offer = call.offer
        assert offer is not None
        center.agents.work(offer.agent, call, verb, now)
        center.timers.cancel(call.id, "wrap_up")
        call.wrapping, call.offer = False, None
        call.wrapped += now - call.parted
        center.emit(call, facts.WrapUpEnded(call.id, offer.agent, call.disposition, call.remarks, round(now - call.parted, 3)))
        center.settle()
        if not call.caller:
            center.write_history(call)
        center.forget_when_done(call)
