"""Whom a flow seeks for a caller: what tells whether two orders to the centre ask for the same."""

from __future__ import annotations

from typing import Any, NamedTuple

from app.core.call import Call
from app.core.flow.script import BookCallback, Enqueue, Order, Transfer

QUEUE, TRANSFER, CALLBACK = "queue", "transfer", "callback"


class Sought(NamedTuple):
    """`whom` is the queue with the skills asked and the place in it, or the number, trunk and agent of a transfer.

    `limit` is how long it may take, in seconds (None: the queue's own limit); it does not tell one order from another.
    """

    kind: str
    whom: tuple[Any, ...]
    limit: float | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        return self.kind, *self.whom

    @property
    def queue(self) -> str:
        """The queue, or ""."""
        return str(self.whom[0]) if self.kind == QUEUE else ""


def sought(call: Call, order: Order) -> Sought | None:
    """What an order seeks; a caller who comes back seeks the queue and the place that the fallback kept. None for one that seeks nobody."""
    match order:
        case Enqueue():
            kept = call.vars if call.step == call.flow.program.returns else {}
            queue, place = str(kept.get("call.queue", order.queue)), str(kept.get("call.priority", order.place))
            return Sought(QUEUE, (queue, tuple(sorted(order.skills.items())), place), order.max_wait)
        case Transfer():
            return Sought(TRANSFER, (order.number, order.trunk, order.agent), order.seconds)
        case BookCallback():
            return Sought(CALLBACK, (order.number, order.trunk, order.queue))
    return None
