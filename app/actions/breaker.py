"""A circuit breaker for one action.

After `FAILURES` failures in a row it opens and refuses at once; after `REST` seconds it lets one single probe through
(half open), whose outcome closes it or opens it again. It is our own because the kept library lets every waiting request
through as a probe, measures by the wall clock, which steps, and costs more than the decision is worth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Literal

FAILURES: Final = 5
REST: Final = 5.0


class Breaker:
    """`admit()` before each request, then exactly one of `succeeded()`, `failed()`, `abandoned()`."""

    __slots__ = ("_clock", "_failures", "_opened", "_probing")

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._opened: float | None = None
        self._probing = False

    @property
    def state(self) -> Literal["closed", "open", "half_open"]:
        """Whether requests pass, are refused, or one of them may probe."""
        if self._opened is None:
            return "closed"
        return "half_open" if self._probing or self._clock() - self._opened >= REST else "open"

    def admit(self) -> bool:
        """Whether a request may go out now; in the half-open state only one may."""
        if self._opened is None:
            return True
        if self._probing or self._clock() - self._opened < REST:
            return False
        self._probing = True
        return True

    def succeeded(self) -> None:
        """The system answered as it should."""
        self._failures, self._opened, self._probing = 0, None, False

    def failed(self) -> None:
        """The system did not answer, or answered with nonsense or an error of its own."""
        self._failures += 1
        if self._failures >= FAILURES:
            self._opened, self._probing = self._clock(), False

    def abandoned(self) -> None:
        """The request said nothing about the system."""
        self._probing = False
