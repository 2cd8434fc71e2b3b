"""What happens on calls, for whoever wants to follow: read from the journal, so that a reader can go on where it stopped.

A message is `{id, type, at, call, ...}` with the fields of the event or fact. Its id, `<journal row>-<record>`, goes up; a reader that
keeps the last one misses nothing while the journal is kept (30 days). Keys that callers press, and what systems of record answered,
are told to nobody here.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, NamedTuple

from app.core import events, facts
from app.store import Forgotten, Store

AT_ONCE = 500
TOLD = (
    *(events.CallArrived, events.CallerLeft, events.SessionWritten, events.CallSteered, events.PbxLost, events.PbxBack),
    *(kind for kind in vars(facts).values() if isinstance(kind, type) and issubclass(kind, facts.Fact) and kind is not facts.Fact),
)
TYPES = frozenset(kind.__name__ for kind in TOLD)
_UNTOLD = frozenset({"decision"})
_ID = re.compile(r"([0-9]{1,18})-([0-9]{1,6})")


class Place(NamedTuple):
    """Where a reader is: everything up to this record of this journal row was read."""

    seq: int
    step: int

    def __str__(self) -> str:
        return f"{self.seq}-{self.step}"

    @classmethod
    def read(cls, text: str) -> Place | None:
        """The place that an id tells, or None when it is none."""
        found = _ID.fullmatch(text)
        return cls(int(found[1]), int(found[2])) if found else None


END_OF_ROW = 999_999


class Feed:
    """The journal as messages. `poke` is to be called after each commit."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._waiting: set[asyncio.Event] = set()
        self.veil: Callable[[dict[str, Any]], Awaitable[dict[str, Any]]] = _as_it_is
        """Takes out of a message what may not be told."""

    def poke(self) -> None:
        """Something was committed."""
        for event in self._waiting:
            event.set()

    def now(self) -> Place:
        """Past everything that has been committed."""
        return Place(self._store.last_seq, END_OF_ROW)

    async def after(self, place: Place) -> list[tuple[Place, dict[str, Any]]]:
        """The next messages after a place, and where each stands; rows of which nothing is told move the place on as one without fields."""
        found: list[tuple[Place, dict[str, Any]]] = []
        read = place.seq if place.step == END_OF_ROW else place.seq - 1
        for seq, call, records in await self._store.journal_after(read, AT_ONCE):
            told = [(at, await self.veil(message)) for at, message in _messages(seq, call, records) if at > place]
            found += told or ([(Place(seq, END_OF_ROW), {})] if seq > place.seq else [])
        return found

    async def one(self, place: Place) -> dict[str, Any] | None:
        """The message at exactly this place; None when its call was forgotten or the journal does not have it any more."""
        for seq, call, records in await self._store.journal_after(place.seq - 1, 1):
            message = next((message for at, message in _messages(seq, call, records) if at == place), None)
            return None if message is None else await self.veil(message)
        return None

    async def flow_of(self, call: str) -> str:
        """The flow that a call runs; "" where the journal does not tell, or may not."""
        try:
            records = await self._store.history.timeline(call) or ()
        except Forgotten:
            return ""
        return next((str(values["flow"]) for _, (_, name, values, _) in records if name == "FlowBegan"), "")

    async def follow(self, place: Place) -> AsyncIterator[tuple[Place, dict[str, Any]]]:
        """Every message after a place, for ever."""
        changed = asyncio.Event()
        self._waiting.add(changed)
        try:
            while True:
                changed.clear()
                if place >= self.now():
                    await changed.wait()
                found = await self.after(place)
                for at, message in found:
                    if message:
                        yield at, message
                place = Place(found[-1][0].seq if found else place.seq, END_OF_ROW)
        finally:
            self._waiting.discard(changed)


async def _as_it_is(message: dict[str, Any]) -> dict[str, Any]:
    return message


def _messages(seq: int, call: str, records: Iterable[list[Any]]) -> Iterator[tuple[Place, dict[str, Any]]]:
    for step, (kind, name, values, at) in enumerate(records):
        if kind != "c" and name in TYPES:
            place = Place(seq, step)
            told = {key: value for key, value in values.items() if key not in _UNTOLD}
            yield place, {"id": str(place), "type": name, "at": at, "call": call, **told}
