"""What agents, their phones and their desks tell, and what it means for the calls they have in hand."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import commands as do
from app.core import events as ev
from app.core.acd import IllegalMove
from app.core.call import DIALLING, OFFERED, TALKING, Call
from app.core.far import CANCELLED, DECLINED, Far

if TYPE_CHECKING:
    from app.core.center import Center

DESK_GRACE = 10.0
"""Seconds a desk may be away before an offer is withdrawn from it."""


class Agents:
    """The centre's part that hears them. The ACD keeps their states."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def park(self, agent: str, reason: str, now: float) -> None:
        try:
            self._center.acd.not_ready(agent, now, reason)
        except IllegalMove:
            self._center.ignored["parked already"] += 1

    def work(self, agent: str, call: Call, verb: str, now: float) -> None:
        """A verb for an agent's work. One who is not in the project's files any more has none; his last work may sign him out."""
        center = self._center
        if agent not in center.book.agents:
            center.ignored["agent not in the files"] += 1
            return
        center.acd.work(agent, call.id, verb, now)
        if center.acd.state(agent)["presence"] == "signed_out":
            center.somebody_left()

    def signed_in(self, event: ev.AgentSignedIn, now: float) -> None:
        self._center.acd.sign_in(event.agent, now)

    def signed_out(self, event: ev.AgentSignedOut, now: float) -> None:
        self._center.acd.sign_out(event.agent, now)
        self._center.somebody_left()

    def ready(self, event: ev.AgentBecameReady, now: float) -> None:
        self._center.acd.ready(event.agent, now)
        self._center.settle()

    def not_ready(self, event: ev.AgentBecameNotReady, now: float) -> None:
        self._center.acd.not_ready(event.agent, now, event.reason)

    def finished_wrap_up(self, event: ev.AgentFinishedWrapUp, now: float) -> None:
        call = self._center.calls.get(event.call)
        if call is None or not call.wrapping or call.offer is None or call.offer.agent != event.agent:
            raise IllegalMove("done", "not in wrap-up of this call", f"agent {event.agent}")
        call.disposition, call.remarks = event.disposition, event.remarks
        self._center.talks.end_wrap_up(call, "done", now)

    def rejected(self, event: ev.AgentRejected, now: float) -> None:
        through = self._put_through(event.agent, event.call)
        if through is not None and not through[1].answered:
            self._center.transfers.declined(through[0], now)
            return
        call = self._offered_to(event.agent, event.call, "reject")
        if call.offer and call.offer.leg:
            self._center.emit(call, do.HangUpLeg(call.id, call.offer.leg, DECLINED))
        self._center.offers.failed(call, "rejected", now)

    def _offered_to(self, agent: str, call_id: str, verb: str) -> Call:
        call = self._center.calls.get(call_id)
        if call is None or call.phase != OFFERED or call.offer is None or call.offer.agent != agent:
            raise IllegalMove(verb, "not offered this call", f"agent {agent}")
        return call

    def _put_through(self, agent: str, call_id: str) -> tuple[Call, Far] | None:
        """A call that a flow puts through to this agent, whose phone is the far side of it."""
        call = self._center.calls.get(call_id)
        return (call, call.far) if call is not None and call.far and call.far.to == agent else None

    def hung_up(self, event: ev.AgentHungUp, now: float) -> None:
        through = self._put_through(event.agent, event.call)
        if through is not None and through[1].answered:
            self._center.emit(through[0], through[1].hang_up(event.call))
            return
        call = self._center.calls.get(event.call)
        if call is None or call.phase not in (TALKING, DIALLING) or call.offer is None or call.offer.agent != event.agent:
            raise IllegalMove("hang_up", "not talking in this call", f"agent {event.agent}")
        self._center.emit(call, do.HangUpLeg(call.id, call.offer.leg))

    def phone_changed(self, event: ev.AgentPhoneChanged, now: float) -> None:
        self._center.acd.phone(event.agent, event.reachable, event.in_use, now)
        self._center.settle()

    def desk_acknowledged(self, event: ev.DeskAcknowledged, now: float) -> None:
        call = self._center.calls.get(event.call)
        if call is None or call.phase != OFFERED or call.offer is None:
            return
        if call.offer.id == event.offer and call.offer.agent == event.agent and not call.offer.leg:
            self._center.offers.ring(call, now)

    def desk_found(self, event: ev.DeskFound, now: float) -> None:
        self._center.acd.desk(event.agent, True, now)
        self._center.timers.cancel(f"agent:{event.agent}", "desk")

    def desk_lost(self, event: ev.DeskLost, now: float) -> None:
        center = self._center
        if center.acd.state(event.agent)["desk"]:
            center.acd.desk(event.agent, False, now)
            center.timers.set(f"agent:{event.agent}", "desk", now + DESK_GRACE)

    def desk_stays_away(self, agent: str, now: float) -> None:
        center = self._center
        center.changes.agents[agent] = None
        for call in list(center.calls.values()):
            if call.phase == OFFERED and call.offer and call.offer.agent == agent:
                if call.offer.leg:
                    center.emit(call, do.HangUpLeg(call.id, call.offer.leg, CANCELLED))
                center.offers.failed(call, "desk_lost", now)
        self.park(agent, "desk_lost", now)
