"""Callbacks: a caller who would have to wait is called back instead, and keeps the place in the queue meanwhile.

A booking is a part of its call (`Call.booking`), and outlives the caller: once the caller's channel has gone, the call waits in the ACD
as it would with a caller. The agent who is found for it is rung first, into a bridge without a caller; when the agent has answered, the
customer is dialled through a trunk into the same bridge. A customer who is not reached is tried again later, so many times in all.

A try is counted in the row that is written before the dial goes out. A dial of which nobody knows whether it went out (a take-over that
finds no leg) is a try that failed, and never repeated at once. There is one leg to the customer at a time.

A booking may have a calendar: it waits in the ACD only while that is open, and sleeps until the next opening in between.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import commands as do
from app.core import facts
from app.core.call import BOOKED, DIALLING, FLOW, OFFERED, OVER, QUEUED, TALKING, Call, Place
from app.core.far import GRACE, OUTCOMES, Far
from app.core.flow.hours import Table
from app.core.flow.script import BookCallback

if TYPE_CHECKING:
    from app.core.center import Center

LATER = 60.0
"""Seconds until it is asked again whether a booking is too old, that was about to be carried out when it became so."""


class Callbacks:
    """The centre's part that keeps bookings and dials back."""

    def __init__(self, center: Center) -> None:
        self._center = center

    # ---- booking ---------------------------------------------------------------------------------------------------------

    def order(self, call: Call, order: BookCallback, now: float) -> None:
        """Say whether this number may be called back, or (`sure`) book it, with the place that the call had in the same queue."""
        center, rules = self._center, self._center.book.transfers
        number, trunk = rules.dialled(order.number), rules.trunk(order.trunk)
        why = rules.refusal(number, trunk)
        if why:
            center.emit(call, facts.Noticed(call.id, "no callback", why))
            center.tell_soon(call, "failed")
            return
        if not order.booked:
            center.tell_soon(call, "allowed")
            return
        if call.wrapping:
            center.talks.end_wrap_up(call, "expire", now)
        queue = center.book.queues[order.queue]
        had = call.place if call.place and call.place.queue == queue.name else None
        call.booking = {
            "number": number,
            "trunk": trunk,
            "ring": order.ring,
            "left": order.attempts,
            "retry_after": order.retry_after,
            "at": now,
            "until": max(now, order.start) + order.within,
            "calendar": order.calendar,
            "start": order.start,
            "queue": queue.name,
            "skills": dict(order.skills or (had.skills if had else {})),
            "credit": had.credit if had else queue.credit(order.place),
            "first": had.first if had else now,
            "attach": dict(order.attach or (had.attach if had else {})),
        }
        center.emit(call, facts.CallbackBooked(call.id, queue.name, call.booking["first"], order.attempts, call.vars["call.callback"]))
        center.tell_soon(call, "booked")

    def not_needed(self, call: Call) -> None:
        """The caller talks to an agent after all."""
        if call.booking:
            call.booking = {}
            self._center.emit(call, facts.Noticed(call.id, "callback dropped", "the caller talks to an agent"))

    def caller_left(self, call: Call, now: float) -> None:
        """From now on the booking waits."""
        center, booking = self._center, call.booking
        within = booking["until"] - booking["at"]
        call.place = Place(booking["queue"], booking["skills"], booking["credit"], booking["first"], booking["attach"], within)
        call.bridge, call.served_by, call.connected, call.music = "", "", 0.0, False
        center.timers.set(call.id, "booking", booking["until"])
        self._wait(call, now)

    def _wait(self, call: Call, now: float) -> None:
        """Into the queue, to the old place, without a channel; or to sleep until that is open."""
        table = self._table(call)
        opens = self._opens(call, max(now, call.booking.get("start", 0.0)))
        if opens is not None and opens > now:
            self._sleep(call, opens)
        elif opens is None or not self._center.offers.line_up(call, now):
            self._done(call, "not_reached", now)
        elif table is not None:
            self._center.timers.set(call.id, "closing", table.closes(now))

    def _sleep(self, call: Call, until: float) -> None:
        call.phase = BOOKED
        self._center.timers.set(call.id, "again", until)
        self._center.touch(call)

    def _table(self, call: Call) -> Table | None:
        """The hours in which this call may be called back; None for always."""
        return call.flow.program.tables.get(call.booking.get("calendar", ""))

    def _opens(self, call: Call, at: float) -> float | None:
        """The first time from `at` on at which the call may be called back; None where nobody knows of one."""
        table = self._table(call)
        return at if table is None else table.opens(at)

    # ---- dialling --------------------------------------------------------------------------------------------------------

    def agent_answered(self, call: Call, since: float, now: float) -> None:
        """The agent is there: dial the customer, unless that is not allowed any more."""
        center, booking, offer = self._center, call.booking, call.offer
        assert offer is not None
        rules = center.book.transfers
        offer.answered = since
        for name in ("ring", "pop"):
            center.timers.cancel(call.id, name)
        for verb in ("answer", "joined"):
            center.agents.work(offer.agent, call, verb, since)
        if self._opens(call, now) != now:
            self._not_reached(call, "closed", now)
            return
        call.phase = DIALLING
        call.booking = {**booking, "left": booking["left"] - 1}
        why = rules.refusal(rules.dialled(booking["number"]), booking["trunk"]) or rules.full(center.transfers_up())
        if why:
            center.emit(call, facts.Noticed(call.id, "not called back", why))
            self._not_reached(call, "failed", now)
            return
        call.far = Far(call.mint_for_centre("leg"), now, "")
        trunk, number, ring = booking["trunk"], booking["number"], booking["ring"]
        center.emit(call, do.RingOutside(call.id, call.far.leg, call.bridge, trunk, number, ring, alone=True))
        center.timers.set(call.id, "far", now + ring + GRACE)

    def answered(self, call: Call, now: float) -> None:
        """The two hear one another."""
        far = call.far
        assert far is not None
        if call.offer:
            self._center.emit(call, do.Talk(call.id, call.bridge, call.offer.leg))
        self._center.talks.connected(call, far.answered, now)

    def ended(self, call: Call, cause: int, now: float) -> None:
        """The customer's leg is gone."""
        if call.phase == TALKING:
            self._center.talks.over(call, "caller", now)
            self._done(call, "called_back", now)
        else:
            self._not_reached(call, OUTCOMES.get(cause, "failed"), now)

    def agent_left(self, call: Call, now: float) -> None:
        """The agent's leg is gone: the conversation is over, or the customer's phone stops ringing."""
        far = call.far
        assert far is not None
        self._center.emit(call, far.hang_up(call.id))
        if call.phase == TALKING:
            self._center.talks.over(call, "agent", now)
            self._done(call, "called_back", now)
        else:
            self._not_reached(call, "agent_left", now)

    def too_long(self, call: Call, now: float) -> None:
        """Nobody answered, and no leg told of its end."""
        assert call.far is not None
        self._center.emit(call, call.far.hang_up(call.id))
        self._not_reached(call, "no_answer", now)

    def refused(self, call: Call, now: float) -> None:
        """Asterisk would not do it."""
        self._not_reached(call, "failed", now)

    def _not_reached(self, call: Call, why: str, now: float) -> None:
        """The agent is free at once, and the booking sleeps until the next try, if there is one."""
        center, booking, offer = self._center, call.booking, call.offer
        assert offer is not None
        center.timers.cancel(call.id, "far")
        center.emit(call, do.HangUpLeg(call.id, offer.leg))
        for verb in ("hangup", "expire"):
            center.agents.work(offer.agent, call, verb, now)
        center.emit(call, facts.OfferEnded(call.id, offer.agent, offer.id, "not_reached"))
        center.emit(call, do.WithdrawPop(call.id, offer.agent, offer.id, "not_reached"))
        center.emit(call, facts.CallbackTried(call.id, why, booking["left"]))
        call.offer, call.far, call.bridge = None, None, ""
        again = self._opens(call, now + (0.0 if why == "closed" else booking["retry_after"]))
        if booking["left"] <= 0 or again is None or again >= booking["until"]:
            self._done(call, "not_reached", now)
        else:
            self._sleep(call, again)
        center.settle()

    # ---- time, and coming back -------------------------------------------------------------------------------------------

    def due(self, call: Call, timer: str, now: float) -> None:
        """It is time for another try (`again`), the hours end (`closing`), or the booking is too old (`booking`).

        One in hand is carried out all the same.
        """
        if timer == "again" and call.phase == BOOKED:
            self._wait(call, now)
        elif timer == "closing" and call.phase == QUEUED:
            self._center.acd.leave(call.id)
            self._wait(call, now)
        elif timer == "closing" and call.phase in (OFFERED, DIALLING):
            self._center.timers.set(call.id, "closing", now + LATER)
        elif timer == "booking" and call.phase in (QUEUED, BOOKED):
            self._done(call, "not_reached", now)
        elif timer == "booking":
            self._center.timers.set(call.id, "booking", now + LATER)

    def took_over(self, now: float) -> None:
        """A booking whose queue is not in the project's files any more is over."""
        for call in list(self._center.calls.values()):
            if call.booking and not call.caller and call.phase == FLOW:
                self._done(call, "not_reached", now)

    def _done(self, call: Call, outcome: str, now: float) -> None:
        center = self._center
        for name in ("again", "booking", "closing", "far"):
            center.timers.cancel(call.id, name)
        center.acd.leave(call.id)
        call.booking, call.far, call.phase = {}, None, OVER
        call.outcome, call.ended = outcome, now
        center.emit(call, facts.CallbackEnded(call.id, outcome))
        center.write_history(call)
        center.forget_when_done(call)
