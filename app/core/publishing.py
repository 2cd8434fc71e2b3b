"""Publishing while calls run: wishes for a flow's version, what the files say at a start, and the figures that take a version back."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from app.core import events as ev
from app.core import facts
from app.core.call import Call
from app.core.versions import ABANDONED, FAILED, LEFT, Guard, Version, Wish

if TYPE_CHECKING:
    from app.core.center import Center


class Publishing:
    """The centre's part that changes which version new calls run."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def published(self, event: ev.FlowPublished, now: float) -> None:
        guard = Guard(**event.guard) if event.guard else Guard()
        wish = Wish(event.flow, event.version, event.by, event.note, event.share, event.numbers, guard, event.tag)
        self._changed(self._center.book.published.publish(wish, now))

    def flows_read(self, event: ev.FlowsRead, now: float) -> None:
        center = self._center
        center.book.published.restore(event.versions)
        before = {id(version): version.state for line in center.book.published.lines.values() for version in line.versions.values()}
        changed, problems = center.book.published.read_files(event.files, now)
        center.changes.versions.update({(version.flow, version.number): version for version in changed})
        self._changed(version for version in changed if version.state != before.get(id(version)))
        for problem in problems:
            center.say(facts.Noticed("", "flow not published", problem))

    def _changed(self, changed: Iterable[Version]) -> None:
        center = self._center
        for version in changed:
            center.changes.versions[version.flow, version.number] = version
            center.say(facts.VersionChanged("", version.flow, version.number, version.hash, version.state, version.why))
        center.book.renumber()

    def count(self, call: Call) -> None:
        """A call of a version has ended; a version for some callers that does worse than the active one is taken back."""
        if call.lost:
            return
        marks = call.marks | (ABANDONED if call.outcome in LEFT else 0) | (FAILED if call.failed else 0)
        changed, taken_back = self._center.book.published.count(call.flow.name, call.flow.version, marks)
        self._center.changes.versions.update({(version.flow, version.number): version for version in changed})
        if taken_back is not None:
            self._changed([taken_back])
