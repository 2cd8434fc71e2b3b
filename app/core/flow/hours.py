"""Opening hours as a flow file gives them, and as the core reads them: a table of spans in epoch seconds, made at publish.

The core knows no zones and no calendar: it compares the time of a call with numbers.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import Literal, TypeAlias

from pydantic import Field

from app.core.flow.part import Part, Texts

Span: TypeAlias = tuple[float, float]
"""From an epoch second until just before another."""
Found = Literal["open", "closed", "holiday", "unknown"]


class Calendar(Part):
    """A zone, the hours of each day of the week, and the days that differ.

    `open` has for a day (`mon`) or for several (`mon-fri`) its spans, `"09:00-18:00"`; a span may end at 24:00. `holidays` are days on
    which nothing is open, and `special` those with hours of their own: `2027-12-24`, or `12-24` for every year.
    """

    zone: str
    open: dict[str, Texts]
    holidays: tuple[str, ...] = ()
    special: dict[str, Texts] = Field(default_factory=dict)


class Table(Part):
    """The spans in which a calendar is open, and its holidays, in order; nothing is known before `since` and from `until` on."""

    since: float
    until: float
    open: tuple[Span, ...]
    holidays: tuple[Span, ...]

    def at(self, now: float) -> Found:
        """What the calendar says of a time, epoch seconds."""
        if not self.since <= now < self.until:
            return "unknown"
        if _within(self.holidays, now):
            return "holiday"
        return "open" if _within(self.open, now) else "closed"


def _within(spans: tuple[Span, ...], now: float) -> bool:
    i = bisect_right(spans, now, key=lambda span: span[0])
    return i > 0 and now < spans[i - 1][1]
