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
DAY = 86_400.0
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
    offsets: tuple[tuple[float, float], ...] = ()
    """From an epoch second on, how many seconds the zone's clocks are ahead of UTC."""

    def at(self, now: float) -> Found:
        """What the calendar says of a time, epoch seconds."""
        if not self.since <= now < self.until:
            return "unknown"
        if _within(self.holidays, now):
            return "holiday"
        return "open" if _within(self.open, now) else "closed"

    def opens(self, at: float) -> float | None:
        """The first time from `at` on that is open; None where nobody knows of one."""
        if not self.since <= at < self.until:
            return None
        i = bisect_right(self.open, at, key=_begin)
        if i and at < self.open[i - 1][1]:
            return at
        return self.open[i][0] if i < len(self.open) else None

    def closes(self, at: float) -> float:
        """When the hours end that are open at a time."""
        i = bisect_right(self.open, at, key=_begin)
        end = self.open[i - 1][1] if i else at
        while i < len(self.open) and self.open[i][0] <= end:
            end, i = self.open[i][1], i + 1
        return end

    def local(self, at: float) -> str:
        """Day and time on the zone's clocks: `2026-07-03 15:05`."""
        days, seconds = divmod(int(at + self._ahead(at)), int(DAY))
        return f"{_date(days)} {seconds // 3600:02}:{seconds // 60 % 60:02}"

    def at_clock(self, now: float, minute: int) -> float:
        """The next time from `now` on at which the zone's clocks show this minute of a day."""
        local = now + self._ahead(now)
        wanted = local - local % DAY + 60 * minute
        while (at := wanted - self._ahead(wanted - self._ahead(now))) < now:
            wanted += DAY
        return at

    def _ahead(self, at: float) -> float:
        i = bisect_right(self.offsets, at, key=_begin)
        return self.offsets[max(i - 1, 0)][1] if self.offsets else 0.0


def _date(days: int) -> str:
    """The day that is so many days after 1970-01-01, counted in years that begin in March, so that a leap day is the last of its year."""
    era, day = divmod(days + 719_468, 146_097)
    year = (day - day // 1_460 + day // 36_524 - day // 146_096) // 365
    day -= 365 * year + year // 4 - year // 100
    month = (5 * day + 2) // 153
    return f"{era * 400 + year + month // 10:04}-{(month + 2) % 12 + 1:02}-{day - (153 * month + 2) // 5 + 1:02}"


def _begin(span: Span) -> float:
    return span[0]


def _within(spans: tuple[Span, ...], now: float) -> bool:
    i = bisect_right(spans, now, key=_begin)
    return i > 0 and now < spans[i - 1][1]
