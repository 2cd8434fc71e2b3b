"""Opening hours and holidays into the table that the core reads: spans in epoch seconds, in the calendar's own zone.

The zones are those of the `tzdata` package, so that the same file gives the same table on every machine. A table begins with the year
before the day of publishing and ends two whole years after that day's year.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta
from functools import cache
from importlib import resources
from itertools import pairwise
from typing import Any
from zoneinfo import ZoneInfo

from pydantic import ValidationError

from app.core.flow.hours import Calendar, Span, Table
from app.core.flow.words import unknown
from app.yamlfile import Place

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
YEARS = 2
_SPAN = re.compile(r"(\d\d):([0-5]\d) ?- ?(\d\d):([0-5]\d)")
_DAY = re.compile(r"(?:(\d{4})-)?(\d\d)-(\d\d)")
Minutes = tuple[int, int]
Problem = tuple[Place, str]
Yearly = tuple[int, int, int]
"""Year, month, day; the year 0 stands for every year."""


def expand_all(calendars: Any, today: date) -> tuple[dict[str, Any], list[Problem]]:
    """The table of each calendar of a flow file as it is written, and what is wrong with any, by its place in the file.

    What is no calendar at all is left to the validation of the file.
    """
    tables: dict[str, Any] = {}
    problems: list[Problem] = []
    for name, written in calendars.items() if isinstance(calendars, Mapping) else ():
        try:
            calendar = Calendar.model_validate(written)
        except ValidationError:
            continue
        work = _Work(calendar)
        table = work.table(today)
        problems += [(("calendars", name, *place), what) for place, what in work.problems]
        tables[name] = table
    return tables, problems


@cache
def zone(name: str) -> ZoneInfo:
    """A zone by its name; raises `KeyError` where there is none."""
    if name not in _zones():
        raise KeyError(name)
    with resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).open("rb") as file:
        return ZoneInfo.from_file(file, key=name)


@cache
def _zones() -> frozenset[str]:
    return frozenset(resources.files("tzdata").joinpath("zones").read_text(encoding="utf-8").split())


class _Work:
    """One calendar being expanded; `problems` is what was wrong with it."""

    def __init__(self, calendar: Calendar) -> None:
        self.problems: list[Problem] = []
        self._zone = self._known_zone(calendar.zone)
        self._week = self._weekly(calendar)
        self._special = {}
        self._holidays = self._days("holidays", dict(zip(calendar.holidays, range(len(calendar.holidays)), strict=False)))
        for day, written in self._days("special", {day: day for day in calendar.special}).items():
            if day in self._holidays:
                self.problems.append((("special", written), "this day is a holiday as well"))
            self._special[day] = self._spans(("special", written), calendar.special[str(written)])

    def table(self, today: date) -> Table:
        """All its spans, from the year before this day's on."""
        first, end = date(today.year - 1, 1, 1), date(today.year + YEARS + 1, 1, 1)
        opened: list[Span] = []
        holidays: list[Span] = []
        for n in range((end - first).days):
            day = first + timedelta(n)
            if self._of(day, self._holidays) is not None:
                holidays.append((self._at(day, 0), self._at(day, 24 * 60)))
                continue
            special = self._of(day, self._special)
            for begins, ends in self._week[day.weekday()] if special is None else special:
                opened.append((self._at(day, begins), self._at(day, ends)))
        since, until = self._at(first, 0), self._at(end, 0)
        offsets = tuple(self._offsets(since, until))
        return Table(since=since, until=until, open=tuple(opened), holidays=tuple(holidays), offsets=offsets)

    def _offsets(self, since: float, until: float) -> Iterator[tuple[float, float]]:
        """From when on the zone's clocks are how far ahead of UTC."""
        yield since, self._ahead(since)
        at = int(since)
        while at < until:
            before, after = at, at + 86_400
            while after - before > 1 and self._ahead(before) != self._ahead(after):
                middle = (before + after) // 2
                before, after = (middle, after) if self._ahead(middle) == self._ahead(at) else (before, middle)
            if after - before == 1:
                yield float(after), self._ahead(after)
            at += 86_400

    def _ahead(self, at: float) -> float:
        ahead = datetime.fromtimestamp(at, self._zone).utcoffset()
        return ahead.total_seconds() if ahead is not None else 0.0

    def _at(self, day: date, minutes: int) -> float:
        """A minute of a day as an epoch second; in the hour that a change of clocks repeats, the first of the two."""
        after, minute = divmod(minutes, 24 * 60)
        moment = datetime(day.year, day.month, day.day, *divmod(minute, 60), tzinfo=self._zone)
        return (moment + timedelta(after)).timestamp()

    @staticmethod
    def _of(day: date, days: Mapping[Yearly, Any]) -> Any:
        once = days.get((day.year, day.month, day.day))
        return days.get((0, day.month, day.day)) if once is None else once

    def _known_zone(self, name: str) -> ZoneInfo:
        try:
            return zone(name)
        except KeyError:
            self.problems.append((("zone",), unknown("zone", name, _zones())))
            return zone("UTC")

    def _weekly(self, calendar: Calendar) -> list[list[Minutes]]:
        week: list[list[Minutes]] = [[] for _ in DAYS]
        given: dict[int, str] = {}
        for days, texts in calendar.open.items():
            spans = self._spans(("open", days), texts)
            for n in self._weekdays(days):
                if n in given:
                    self.problems.append((("open", days), f"{DAYS[n]} has hours already, under {given[n]!r}"))
                given[n], week[n] = days, spans
        return week

    def _weekdays(self, days: str) -> Iterator[int]:
        first, dash, last = (each.strip() for each in days.partition("-"))
        if first not in DAYS or (dash and last not in DAYS):
            self.problems.append((("open", days), f"not a day or a span of days of {', '.join(DAYS)}, such as mon-fri (found {days!r})"))
            return
        n, end = DAYS.index(first), DAYS.index(last or first)
        yield n
        while n != end:
            n = (n + 1) % 7
            yield n

    def _spans(self, place: Place, texts: tuple[str, ...]) -> list[Minutes]:
        spans: list[Minutes] = []
        for text in texts:
            found = _SPAN.fullmatch(text)
            begins, ends = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
            if found is None or ends > 24 * 60:
                self.problems.append((place, f"not hours such as 09:00-18:00 (found {text!r})"))
            elif begins >= ends:
                self.problems.append((place, f"{text!r} ends before it begins; what comes after midnight belongs to the next day"))
            else:
                spans.append((begins, ends))
        spans.sort()
        for (_, ends), (begins, _) in pairwise(spans):
            if begins < ends:
                self.problems.append((place, f"hours that overlap: {', '.join(texts)}"))
                break
        return spans

    def _days(self, group: str, written: Mapping[str, str | int]) -> dict[Yearly, str | int]:
        """Days as they are written, each with its key in the file."""
        days: dict[Yearly, str | int] = {}
        for text, key in written.items():
            found = _DAY.fullmatch(text)
            day = (int(found[1] or 0), int(found[2]), int(found[3])) if found else (0, 0, 0)
            try:
                date(day[0] or 2000, day[1], day[2])
            except ValueError:
                self.problems.append(((group, key), f"not a day such as 2027-12-24, or 12-24 for every year (found {text!r})"))
            else:
                days[day] = key
        return days
