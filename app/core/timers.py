"""Deadlines by owner and name: set, moved, cancelled, and taken in order of time, then of setting."""

from __future__ import annotations

import heapq


class Timers:
    """A heap with lazy deletion. An owner is a call's id, `agent:<id>` or "" for the centre."""

    def __init__(self) -> None:
        self._at: dict[str, dict[str, tuple[float, int]]] = {}
        self._heap: list[tuple[float, int, str, str]] = []
        self._n = 0

    def set(self, owner: str, name: str, at: float) -> None:
        """Set a deadline, or move it."""
        self._n += 1
        self._at.setdefault(owner, {})[name] = (at, self._n)
        heapq.heappush(self._heap, (at, self._n, owner, name))

    def cancel(self, owner: str, name: str) -> None:
        """Forget a deadline, if there is one."""
        if owner in self._at:
            self._at[owner].pop(name, None)

    def cancel_prefixed(self, owner: str, prefix: str) -> None:
        """Forget an owner's deadlines whose names begin so."""
        for name in [n for n in self._at.get(owner, ()) if n.startswith(prefix)]:
            del self._at[owner][name]

    def cancel_all(self, owner: str) -> None:
        """Forget an owner."""
        self._at.pop(owner, None)

    def of(self, owner: str) -> dict[str, float]:
        """An owner's deadlines."""
        return {name: at for name, (at, _) in self._at.get(owner, {}).items()}

    def next(self) -> float | None:
        """The earliest deadline."""
        while self._heap:
            at, n, owner, name = self._heap[0]
            if self._at.get(owner, {}).get(name) == (at, n):
                return at
            heapq.heappop(self._heap)
        return None

    def pop(self, now: float) -> tuple[str, str] | None:
        """Take the earliest deadline that has passed: its owner and name."""
        at = self.next()
        if at is None or at > now:
            return None
        _, _, owner, name = heapq.heappop(self._heap)
        del self._at[owner][name]
        return owner, name
