"""Matching without a scan: one big integer for each (queue) and each (skill, minimum level), its bits in the order of time.

There are two kinds of families (see `family`): those who wait, by the time of their first enqueueing, and the agents who are
available, by the time since which they are idle. Who satisfies several conditions is then a few operations over whole columns,
and their number does not depend on how many distinct skill sets there are. What goes before time in the order has few values:
those who wait have a family (a *lane*) for each credit, and an agent looks for the head of each lane and takes the first of
these; agents have a column for each band of a level and for each versatility, which are tried one after another.

**Whom can an agent serve?** Those of his queues all of whose asks he meets, that is, as many as they ask. Each of his skills
gives a column of those who ask it at no more than his level; these are added up, all callers at once, by full adders on
whole columns, and the sum is compared with the number asked, which is kept as three columns of binary digits. The cost goes
with the skills of the agent (some 0.3 µs each and segment), not with those of the centre.

**Levels.** A skill has a column for each of ten minimum levels. A member is written to as many as his level, when he comes; a
condition is one column, and of those an agent's question has many more. Callers' asks are filed upside down (11 - level).

Only the columns of queues are exact: leaving clears the member's bits there, and every answer is masked with a queue.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from typing import NamedTuple, TypeAlias

from app.core.acd.family import Columns, Family, Seat, Segment, members
from app.core.acd.queues import Key, Waiting
from app.core.acd.relaxation import FOREVER, Relax

BANDS = (8, 5, 1)
"""The lowest level of each band, best first: expert, able, learner."""

ASK_DIGITS = 3
"""Binary digits of the number of skills asked."""

Found: TypeAlias = list[tuple[Segment[Seat], int]]
"""Some members of a family: segments in order, with the bits of those in each; no segment without any."""


class Layout:
    """Which column is which: one for each queue, ten for each skill, and one that stays empty.

    `of_level[skill][level]` are the columns of a member at that level (none at 0), `at_least[skill][level]` is that of everybody
    at that level or more (1 to 10; at 11 the empty one).
    """

    def __init__(self, queues: Iterable[str], skills: Iterable[str]) -> None:
        self.queues = {queue: column for column, queue in enumerate(queues)}
        self.of_level: dict[str, list[Columns]] = {}
        self.at_least: dict[str, list[int]] = {}
        self.empty = len(self.queues)
        self.width = self.empty + 1
        for skill in skills:
            columns = range(self.width, self.width + 10)
            self.of_level[skill] = [tuple(columns[:level]) for level in range(11)]
            self.at_least[skill] = [columns[0], *columns, self.empty]
            self.width += 10

    def homes(self, queues: Iterable[str]) -> Columns:
        """The columns of those of these queues that exist."""
        return tuple(self.queues[queue] for queue in dict.fromkeys(queues) if queue in self.queues)


class Entry(Seat):
    """One who waits or is being offered: his seat in a lane, and what is known of him beside his row."""

    __slots__ = ("asked", "deadline", "held", "item", "lined", "offered", "order", "rules")

    def __init__(self, item: Waiting) -> None:
        first, interaction = item.first, item.interaction
        super().__init__((first, interaction))
        self.item = item
        self.order: Key = (first - item.credit, first, interaction)
        self.rules: tuple[Relax, ...] = ()
        self.asked: Mapping[str, int] = item.skills
        self.lined = False
        self.held = ""
        self.offered = False
        self.deadline = FOREVER


class Question(NamedTuple):
    """An agent, as asked of those who wait: the columns of his queues; and what picks, for each of his skills, that of the asks he meets.

    These are an odd number, three at least, filled up with the empty column.
    """

    queues: Columns
    met: Callable[[list[int]], tuple[int, ...]]


class Callers:
    """Those who wait. Answers: whom could an agent serve first?

    Beside the layout's columns: the digits of the number of skills asked; and for each queue everybody waiting in it, whether
    or not he can be matched just now.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        digits = range(layout.width, layout.width + ASK_DIGITS)
        self._digits = (digits[0], digits[1], digits[2])
        self._counts = [tuple(column for digit, column in enumerate(digits) if count >> digit & 1) for count in range(1 << ASK_DIGITS)]
        self._places = {queue: digits.stop + column for queue, column in layout.queues.items()}
        self._lanes: dict[float, Family[Entry]] = {}

    def question(self, queues: Iterable[str], skills: Mapping[str, int]) -> Question:
        """What to ask for an agent with these queues and skills."""
        met = [self.layout.at_least[skill][11 - level] for skill, level in skills.items()]
        met += [self.layout.empty] * (3 - len(met) if len(met) < 3 else 1 - len(met) % 2)
        return Question(self.layout.homes(queues), itemgetter(*met))

    def first(self, question: Question, barred: Iterable[Entry] = ()) -> Entry | None:
        """The first of those lined up whom the agent can serve, apart from some who may not be given to him."""
        best: Entry | None = None
        for credit, lane in self._lanes.items():
            for segment in lane.segments:
                seats = segment.seats
                if not seats or (best is not None and seats[0].key[0] - credit > best.order[0]):
                    break
                found = self._servable(segment.bits, question)
                for one in barred:
                    if one.segment is segment:
                        found &= ~(1 << one.slot)
                if found:
                    entry = segment.at[found.bit_length() - 1]
                    if best is None or entry.order < best.order:
                        best = entry
                    break
        return best

    def _servable(self, bits: list[int], question: Question) -> int:
        """Those lined up in the queues of an agent who ask nothing that he lacks."""
        queues, met = question
        lined = 0
        for column in queues:
            lined |= bits[column]
        if not lined:
            return 0
        rows = iter(met(bits))
        ones = next(rows)
        twos = fours = 0
        for one, other in zip(rows, rows, strict=True):
            half = one ^ other
            carry = (one & other) | (half & ones)
            ones ^= half
            fours |= twos & carry
            twos ^= carry
        first, second, third = self._digits
        wrong = (ones ^ bits[first]) | (twos ^ bits[second]) | (fours ^ bits[third])
        return lined ^ (lined & wrong)

    def join(self, entry: Entry) -> None:
        """Somebody waits, from now on or again."""
        item = entry.item
        lane = self._lanes.get(item.credit) or self._open(item.credit)
        segment = lane.add(entry)
        segment.bits[self._places[item.queue]] |= 1 << entry.slot

    def part(self, entry: Entry) -> None:
        """He does not wait any more; his place is kept for a while."""
        item, segment = entry.item, entry.segment
        assert segment is not None
        bits, bit = segment.bits, 1 << entry.slot
        bits[self._places[item.queue]] ^= bit
        if entry.lined:
            bits[self.layout.queues[item.queue]] ^= bit
            entry.lined = False
        self._lanes[item.credit].discard(entry)

    def line_up(self, entry: Entry) -> None:
        """From now on agents who become available can find him."""
        of_level, asked, segment = self.layout.of_level, entry.asked, entry.segment
        assert segment is not None
        bits, bit = segment.bits, 1 << entry.slot
        columns = self._counts[len(asked)]
        for skill, level in asked.items():
            columns += of_level[skill][11 - level]
        before = entry.columns
        if before != columns:
            for column in set(before).symmetric_difference(columns) if before else columns:
                bits[column] ^= bit
            entry.columns = columns
        bits[self.layout.queues[entry.item.queue]] |= bit
        entry.lined = True

    def step_out(self, entry: Entry) -> None:
        """They can no longer."""
        if entry.lined:
            assert entry.segment is not None
            entry.segment.bits[self.layout.queues[entry.item.queue]] ^= 1 << entry.slot
            entry.lined = False

    def everybody(self, queue: str) -> Iterator[Entry]:
        """All who wait in `queue`, lane by lane."""
        column = self._places[queue]
        for lane in self._lanes.values():
            for segment in lane.segments:
                for slot in members(segment.bits[column]):
                    yield segment.at[slot]

    def ahead(self, queue: str, order: Key) -> int:
        """How many of those who wait in `queue` come before `order` (first - credit, first, interaction)."""
        count = 0
        for credit, lane in self._lanes.items():

            def before(key: tuple[float, str], credit: float = credit) -> bool:
                return (key[0] - credit, *key) < order

            count += lane.count_before(self._places[queue], before)
        return count

    def _open(self, credit: float) -> Family[Entry]:
        """A lane for a credit that was not in use; those no longer in use are given up. The greatest credit is looked at first."""
        used = {other: lane for other, lane in self._lanes.items() if lane.living}
        for other, lane in self._lanes.items():
            if other not in used:
                lane.close()
        used[credit] = lane = Family(self.layout.width + ASK_DIGITS + len(self._places))
        self._lanes = dict(sorted(used.items(), reverse=True))
        return lane


class Shelf:
    """Agents by (idle since, id). Answers: who of these can serve somebody, the best first?"""

    def __init__(self, layout: Layout, versatilities: Iterable[int]) -> None:
        self.layout = layout
        self._versatility = {value: layout.width + place for place, value in enumerate(sorted(set(versatilities)))}
        self._family: Family[Seat] = Family(layout.width + len(self._versatility))

    def columns(self, skills: Mapping[str, int], versatility: int) -> Columns:
        """The columns of an agent, those of his queues apart."""
        of_level = self.layout.of_level
        return (*(column for skill, level in skills.items() for column in of_level[skill][level]), self._versatility[versatility])

    def put(self, seat: Seat, homes: Columns, columns: Columns) -> None:
        """From now on the agent is found by those who ask one of his queues."""
        bits = self._family.add(seat).bits
        bit = 1 << seat.slot
        for column in homes:
            bits[column] |= bit
        if not seat.columns:
            for column in columns:
                bits[column] |= bit
            seat.columns = columns

    def take(self, seat: Seat, homes: Columns) -> None:
        """No longer; his place is kept for a while."""
        self.turn(seat, homes)
        self._family.discard(seat)

    def turn(self, seat: Seat, homes: Columns) -> None:
        """One who has a place is found from now on, or no longer."""
        assert seat.segment is not None
        bits, bit = seat.segment.bits, 1 << seat.slot
        for column in homes:
            bits[column] ^= bit

    def able(self, queue: str, asked: Mapping[str, int]) -> Found:
        """Those who serve `queue` and have every skill asked."""
        at_least, column = self.layout.at_least, self.layout.queues[queue]
        conditions = []
        for skill, level in asked.items():
            if skill not in at_least:
                return []
            conditions.append(at_least[skill][level])
        able: Found = []
        for segment in self._family.segments:
            bits = segment.bits
            found = bits[column]
            for condition in conditions:
                if not found:
                    break
                found &= bits[condition]
            if found:
                able.append((segment, found))
        return able

    def best(self, able: Found, skills: Mapping[str, int]) -> Found:
        """Of `able` (not none), those of the best fit, and of these the least versatile; the longest idle is their first."""
        if len(able) == 1 and not able[0][1] & (able[0][1] - 1):
            return able
        fit = self._fittest(able, skills)
        for column in self._versatility.values():
            found: Found = []
            for segment, bits in fit:
                bits &= segment.bits[column]
                if bits:
                    found.append((segment, bits))
            if found:
                return found
        return fit

    def _fittest(self, able: Found, skills: Mapping[str, int]) -> Found:
        """Of `able`, those in the best band of their weakest skill."""
        at_least = self.layout.at_least
        levels = [at_least[skill] for skill in skills if skill in at_least]
        if not levels or len(levels) < len(skills):
            return able
        for band in BANDS:
            found: Found = []
            for segment, bits in able:
                rows = segment.bits
                for level in levels:
                    bits &= rows[level[band]]
                if bits:
                    found.append((segment, bits))
            if found:
                return found
        return able


def head(found: Found) -> Seat:
    """The first of these (not none)."""
    segment, bits = found[0]
    return segment.at[bits.bit_length() - 1]


def holds(found: Found, seat: Seat) -> bool:
    """Whether this one is among these."""
    return any(bits >> seat.slot & 1 for segment, bits in found if segment is seat.segment)


def without(found: Found, seat: Seat) -> Found:
    """These without that one, if he is among them."""
    rest: Found = []
    for segment, bits in found:
        if segment is seat.segment:
            bits &= ~(1 << seat.slot)
        if bits:
            rest.append((segment, bits))
    return rest


def size(found: Found) -> int:
    """How many these are."""
    return sum(bits.bit_count() for _, bits in found)
