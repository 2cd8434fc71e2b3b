"""The versions of flows: numbered, one active, perhaps one more that some callers get first, and what takes that one back.

A flow's versions are counted from 1. Content that was a version before keeps its number: publishing it again makes that version
active again, which is what rolling back is. A new call runs the active version; while another is a canary, the callers with certain
numbers and a share of all calls run that one. A call keeps its version to its end, whatever becomes of the version meanwhile.

Three figures are kept for the versions that are run, each the share of the last calls that ended: `abandons` (the caller left before the
flow said goodbye or an agent answered), `failures` (a step left by `failed`, or the call took its error exit) and `defaults` (a step
left by one of `DEFAULTS`, the ways out that nobody wants). A canary with a figure above the active version's by more than its guard's
margin is taken back.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.core.flow.compiled import Compiled

ACTIVE, CANARY, RETIRED, TAKEN_BACK = "active", "canary", "retired", "taken_back"
RUN = (ACTIVE, CANARY)
ABANDONED, FAILED, DEFAULTED = 1, 2, 4
FIGURES = {"abandons": ABANDONED, "failures": FAILED, "defaults": DEFAULTED}
DEFAULTS = frozenset({"no_match", "no_input", "no_agents", "too_long"})
LEFT = frozenset({"abandoned", "hung_up"})
"""Outcomes of a call whose caller left before anything came of it."""
WINDOW = 200
"""Calls that a figure looks back on, at most."""
FILES = "files"
"""Who publishes what the project's files say when the application starts."""


class NotPublished(ValueError):
    """A version that cannot be published as things are. `kind` is a stable id; nothing has changed."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind


@dataclass(frozen=True, slots=True)
class Guard:
    """When a canary is taken back: a figure worse by more than `margin` (0.15: 15 points) in its last `calls` calls, and not before."""

    calls: int = 50
    margin: float = 0.15


@dataclass(slots=True)
class Version:
    """One version of a flow. `share` is 0 to 100 (percent of calls); `figures` has for each of the last calls what went wrong in it.

    `seen` is when the application last started with a file of this content, 0 for never; `why` says why it was taken back.
    """

    flow: str
    number: int
    hash: str
    published_at: float
    by: str
    note: str = ""
    state: str = RETIRED
    share: float = 0.0
    numbers: tuple[str, ...] = ()
    guard: Guard = field(default_factory=Guard)
    figures: list[int] = field(default_factory=list)
    seen: float = 0.0
    why: str = ""

    def runs(self) -> bool:
        """Whether new calls may run it."""
        return self.state in RUN

    def is_meant_for(self, call: str, ani: str) -> bool:
        """Whether this canary is for a call: by the caller's number, or by a hash of the call's id. The same call, the same answer."""
        if _digits(ani) and any(_digits(number) == _digits(ani) for number in self.numbers):
            return True
        drawn = int.from_bytes(hashlib.sha256(f"{self.hash}:{call}".encode()).digest()[:4], "big") / 2**32
        return drawn * 100 < self.share

    def share_of(self, figure: str, calls: int = WINDOW) -> float:
        """A figure over the last so many calls; 0 where there were none."""
        last = self.figures[-calls:]
        return sum(bool(marks & FIGURES[figure]) for marks in last) / len(last) if last else 0.0

    def row(self) -> dict[str, Any]:
        """All of it as plain JSON values, as the store keeps it."""
        return {
            "flow": self.flow,
            "number": self.number,
            "hash": self.hash,
            "published_at": self.published_at,
            "by": self.by,
            "note": self.note,
            "state": self.state,
            "share": self.share,
            "numbers": list(self.numbers),
            "guard": {"calls": self.guard.calls, "margin": self.guard.margin},
            "figures": list(self.figures),
            "seen": self.seen,
            "why": self.why,
        }

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Version:
        """The version that `row` was made of."""
        return cls(**{**row, "numbers": tuple(row["numbers"]), "guard": Guard(**row["guard"]), "figures": list(row["figures"])})


@dataclass(slots=True)
class Line:
    """All versions of one flow, by number."""

    flow: str
    versions: dict[int, Version] = field(default_factory=dict)

    @property
    def active(self) -> Version | None:
        return self._in(ACTIVE)

    @property
    def canary(self) -> Version | None:
        return self._in(CANARY)

    def _in(self, state: str) -> Version | None:
        return next((version for version in self.versions.values() if version.state == state), None)

    def of(self, hash_: str) -> Version | None:
        """The version of this content."""
        return next((version for version in self.versions.values() if version.hash == hash_), None)

    @property
    def tag(self) -> str:
        """Changes whenever it changes what new callers get: `<active>.<canary>.<versions>`."""
        active, canary = self.active, self.canary
        return f"{active.number if active else 0}.{canary.number if canary else 0}.{len(self.versions)}"

    def trouble(self) -> str:
        """Why the canary should be taken back; "" where it does well, or has not had enough calls."""
        canary, active = self.canary, self.active
        if canary is None or len(canary.figures) < canary.guard.calls:
            return ""
        for figure in FIGURES:
            has, others = canary.share_of(figure, canary.guard.calls), active.share_of(figure) if active else 0.0
            if has > others + canary.guard.margin + 1e-9:
                against = f"{others:.0%} under version {active.number}" if active else "no active version"
                return f"{figure}: {has:.0%} of the last {canary.guard.calls} calls, {against}, margin {canary.guard.margin:.0%}"
        return ""


@dataclass(frozen=True, slots=True)
class Wish:
    """A version that somebody wants published; as a canary where it has a `share` or `numbers`, else for every caller."""

    flow: str
    hash: str
    by: str
    note: str = ""
    share: float | None = None
    numbers: tuple[str, ...] = ()
    guard: Guard = field(default_factory=Guard)
    tag: str = ""
    """The line's tag that the wish was made upon; "" where it does not matter."""


@dataclass(slots=True)
class Versions:
    """Every flow's versions, and on the `shelf` the programs themselves by hash: those that run, and those that live calls run."""

    shelf: dict[str, Compiled] = field(default_factory=dict)
    lines: dict[str, Line] = field(default_factory=dict)

    def restore(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Take what the store kept, and nothing else; the programs are put on the shelf by whoever has them."""
        self.lines.clear()
        for row in rows:
            version = Version.of(row)
            self.lines.setdefault(version.flow, Line(version.flow)).versions[version.number] = version

    def active(self) -> list[Compiled]:
        """What is active, one program a flow."""
        found = (line.active for line in self.lines.values())
        return [self.shelf[version.hash] for version in found if version is not None and version.hash in self.shelf]

    def canary_for(self, flow: str, call: str, ani: str) -> Compiled | None:
        """The canary of a flow where this call is to run it."""
        line = self.lines.get(flow)
        canary = line.canary if line else None
        return self.shelf.get(canary.hash) if canary is not None and canary.is_meant_for(call, ani) else None

    def publish(self, wish: Wish, now: float, beside: Container[str] = ()) -> list[Version]:
        """Grant a wish; gives the versions that changed. Raises `NotPublished`, and then changes nothing.

        `beside` are flows that change in the same breath, whose numbers are known not to clash afterwards.
        """
        line = self.lines.get(wish.flow) or Line(wish.flow)
        program = self._wanted(wish, line)
        is_canary = wish.share is not None or bool(wish.numbers)
        if is_canary:
            self._must_fit(program, line)
        else:
            self._must_have_its_numbers(program, beside)
        version = line.of(wish.hash)
        if version is None:
            number = max(line.versions, default=0) + 1
            version = Version(wish.flow, number, wish.hash, now, wish.by, wish.note)
        elif version.state == ACTIVE and not is_canary and line.canary is None:
            return []
        changed = [other for other in line.versions.values() if other is not version and other.state in ((CANARY,) if is_canary else RUN)]
        for other in changed:
            _retire(other)
        version.state, version.why = CANARY if is_canary else ACTIVE, ""
        version.share, version.numbers, version.guard = (wish.share or 0.0, wish.numbers, wish.guard) if is_canary else (0.0, (), Guard())
        if is_canary:
            version.figures = []
        line.versions[version.number] = version
        self.lines[wish.flow] = line
        return [*changed, version]

    def _wanted(self, wish: Wish, line: Line) -> Compiled:
        if wish.tag and wish.tag != line.tag:
            raise NotPublished(
                "version-conflict", f"the versions of flow {wish.flow} have changed meanwhile; look at them, and publish again"
            )
        program = self.shelf.get(wish.hash)
        if program is None or program.name != wish.flow:
            raise NotPublished("unknown-version", f"there is no program {wish.hash} of flow {wish.flow}")
        return program

    def _must_fit(self, program: Compiled, line: Line) -> None:
        active = line.active
        if active is None:
            raise NotPublished(
                "no-active-version", "the first version of a flow is for every caller; there is none that the others could get"
            )
        if active.hash == program.version:
            raise NotPublished("active-already", f"version {active.number} is active already; it cannot be for some callers only")
        kept = self.shelf[active.hash].program.dnis if active.hash in self.shelf else program.program.dnis
        if set(kept) != set(program.program.dnis):
            raise NotPublished("other-numbers", "a version for some callers only must have the numbers (dnis) of the active version")

    def _must_have_its_numbers(self, program: Compiled, beside: Container[str]) -> None:
        for other in self.active():
            taken = sorted(set(other.program.dnis) & set(program.program.dnis))
            if taken and other.name != program.name and other.name not in beside:
                raise NotPublished("number-taken", f"the number {taken[0]} belongs to flow {other.name!r} already")

    def read_files(self, files: Mapping[str, str], now: float) -> tuple[list[Version], list[str]]:
        """What the project's files say at a start, hash by flow; gives the versions that changed, and what could not be published.

        A file is published when its content has never been a version, and when it has changed since the last start (brought back,
        say) and nobody has published that content since. A flow that came from a file and has none any more is retired.
        """
        changed: list[Version] = []
        for line in self.lines.values():
            if line.flow not in files and any(version.seen for version in line.versions.values()):
                for version in [version for version in line.versions.values() if version.runs()]:
                    _retire(version)
                    changed.append(version)
        fresh = {flow: hash_ for flow, hash_ in files.items() if self._has_news(flow, hash_)}
        problems = self._drop_clashing(fresh)
        for flow, hash_ in fresh.items():
            changed += self.publish(Wish(flow, hash_, FILES), now, fresh)
        for flow, hash_ in files.items():
            found = self.lines[flow].of(hash_) if flow in self.lines else None
            if found is not None:
                found.seen = now
                changed += [] if found in changed else [found]
        return changed, problems

    def _drop_clashing(self, fresh: dict[str, str]) -> list[str]:
        """Take out of `fresh` what cannot be published; says why. One that stays as it was may be in the way of another."""
        problems: list[str] = []
        while True:
            for flow, hash_ in fresh.items():
                try:
                    self._must_have_its_numbers(self._wanted(Wish(flow, hash_, FILES), Line(flow)), fresh)
                except NotPublished as error:
                    problems.append(f"{flow}: {error}")
                    del fresh[flow]
                    break
            else:
                return problems

    def _has_news(self, flow: str, hash_: str) -> bool:
        """Whether a file says something that is to be published."""
        line = self.lines.get(flow) or Line(flow)
        known, last = line.of(hash_), max((version.seen for version in line.versions.values()), default=0.0)
        return known is None or line.active is None or (known.seen < last and known.published_at <= last)

    def count(self, flow: str, hash_: str, marks: int) -> tuple[list[Version], Version | None]:
        """Note how a call ended: the versions that changed, and the canary that this takes back."""
        line = self.lines.get(flow)
        version = line.of(hash_) if line else None
        if line is None or version is None or not version.runs():
            return [], None
        version.figures = [*version.figures[1 - WINDOW :], marks]
        trouble = line.trouble()
        canary = line.canary
        if not trouble or canary is None:
            return [version], None
        canary.state, canary.why = TAKEN_BACK, trouble
        return [version] if version is canary else [version, canary], canary


def marks_of(exits: Collection[str]) -> int:
    """What the exits that steps have taken mean for the figures."""
    return (FAILED if "failed" in exits else 0) | (DEFAULTED if not DEFAULTS.isdisjoint(exits) else 0)


def _retire(version: Version) -> None:
    version.state, version.share, version.numbers = RETIRED, 0.0, ()


def _digits(number: str) -> str:
    return "".join(digit for digit in number if digit.isdigit())
