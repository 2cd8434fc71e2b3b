"""A centre for one call, in which nobody waits or answers: what became of that is on record."""

from __future__ import annotations

from typing import Any

from app.core import automations
from app.core.book import Book
from app.core.call import FLOW, QUEUED, Call
from app.core.center import Center
from app.core.flow.script import Order
from app.core.flow.sought import CALLBACK, QUEUE, Sought, sought
from app.core.offers import Offers


class _NoOffers(Offers):
    """Nobody is in a queue."""

    def leave_queue(self, call: Call, now: float) -> None:
        if call.phase == QUEUED:
            call.phase = FLOW


class Unstaffed(Center):
    """`sought` has whom the flow sought since that was last looked at. A callback hangs on the project's rules alone: it is booked."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.offers = _NoOffers(self)
        self.sought: list[Sought] = []

    def _order(self, call: Call, order: Order, now: float) -> None:
        whom = sought(call, order)
        if whom is None or whom.kind == CALLBACK:
            super()._order(call, order, now)
            return
        call.music = True
        if whom.kind == QUEUE:
            call.phase = QUEUED
        self.sought.append(whom)

    def connect(self, call: Call, agent: str, now: float) -> list[Any]:
        """The caller of a queue talks to an agent, who is nobody here."""
        call.connected, call.phase, call.music, call.served_by = now, FLOW, False, agent
        return self.beside(call, "connected", now)

    def put_through(self, call: Call, now: float) -> None:
        """The far side of a transfer answers."""
        call.passed_on, call.music = now, False

    def beside(self, call: Call, on: str, now: float) -> list[Any]:
        """What the flow does beside its steps when this happens."""
        automations.start(self, call, on)
        return self._settled(now)

    def tell(self, call: Call, outcome: str, now: float) -> list[Any]:
        """The wait has ended; what the flow makes of it."""
        call.phase = FLOW
        self.tell_flow(call, outcome, now)
        return self._settled(now)
