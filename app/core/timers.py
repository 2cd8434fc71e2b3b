"""Deadlines by owner and name: set, moved, cancelled, and taken in order of time, then of setting."""

from __future__ import annotations

import heapq
from typing import TypeAlias

_Entry: TypeAlias = tuple[float, int, str, str]
"""When, how many were set before, whose and which."""


class Timers:
    """A heap with lazy deletion. An owner is a call's id, `agent:<id>` or "" for the centre."""

    def __init__(self) -> None:
        self._at: dict[str, dict[str, _Entry]] = {}
        self._heap: list[_Entry] = []
        self._n = 0

    def set(self, owner: str, name: str, at: float) -> None:
        """Set a deadline, or move it."""
        self._n += 1
        entry = (at, self._n, owner, name)
        self._at.setdefault(owner, {})[name] = entry
        heapq.heappush(self._heap, entry)

    def cancel(self, owner: str, name: str) -> None:
        """Forget a deadline, if there is one."""
        if owner in self._at:
            self._at[owner].pop(name, None)

    def cancel_all(self, owner: str) -> None:
        """Forget an owner."""
        self._at.pop(owner, None)

    def of(self, owner: str) -> dict[str, float]:
        """An owner's deadlines."""
        return {name: entry[0] for name, entry in self._at.get(owner, {}).items()}

    def next(self) -> float | None:
        """The earliest deadline."""
        heap = self._heap
        while heap:
            entry = heap[0]
            names = self._at.get(entry[2])
            if names is not None and names.get(entry[3]) is entry:
                return entry[0]
            heapq.heappop(heap)
        return None

    def pop(self, now: float) -> tuple[str, str] | None:
        """Take the earliest deadline that has passed: its owner and name."""
        at = self.next()
        if at is None or at > now:
            return None
        _, _, owner, name = heapq.heappop(self._heap)
        del self._at[owner][name]
        return owner, name
