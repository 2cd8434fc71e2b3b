"""The death of a process and the next one that takes over, with the rows that the store would have.

The core is deterministic, so rows need not be made for every turn of every test: when a process dies, what it handled is handled once
more by a centre that does make the rows, each as it is touched, by the production's own means (`app.core.saving`, `app.core.record`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.center import Center
from app.core.record import pack, unpack
from app.core.saving import dump_agent, dump_call, restore


@dataclass(slots=True)
class Rows:
    """What the store holds: live calls, agents, and for each call its journal as (time, event or fact) pairs."""

    live: dict[str, dict[str, Any]] = field(default_factory=dict)
    agents: dict[str, dict[str, Any]] = field(default_factory=dict)
    journal: dict[str, list[tuple[float, Any]]] = field(default_factory=dict)
    at: float = 0.0

    def bring_back(self, book: Book) -> tuple[Center, list[tuple[str, str]]]:
        """A centre that goes on from these rows, and the calls that are not at their step, each with the reason."""
        center = Center(book)
        return center, restore(center, self.live, self.agents, self.journal, self.at)

    def note(self, center: Center, event: ev.Event, out: list[Any], now: float) -> None:
        """Write down one turn."""
        home = event.owner if isinstance(event, ev.TimerFired) else getattr(event, "call", "")
        self.journal.setdefault(home, []).append((now, _through_the_store(event)))
        for thing in out:
            if isinstance(thing, facts.Fact):
                self.journal.setdefault(thing.call, []).append((now, _through_the_store(thing)))
        touched = center.touched()
        for call_id, call in touched.calls.items():
            if call is None:
                self.live.pop(call_id, None)
                self.journal.pop(call_id, None)
            else:
                self.live[call_id] = json.loads(json.dumps(dump_call(center, call)))
        for agent in touched.agents:
            self.agents[agent] = json.loads(json.dumps(dump_agent(center, agent)))
        self.at = now


def rows_after(book: Book, rows: Rows, handled: list[tuple[float, ev.Event]]) -> None:
    """Bring the rows with which a process began to where it leaves them, having handled these (time, event) pairs."""
    center, _ = rows.bring_back(book)
    for now, event in handled:
        if isinstance(event, ev.TimerFired):
            due = center.due(now)
            assert due == event, f"{event} was handled where {due} was due: the core is not deterministic"
        rows.note(center, event, center.handle(event, now), now)


def _through_the_store(thing: Any) -> Any:
    return unpack(json.loads(json.dumps(pack(thing))))
