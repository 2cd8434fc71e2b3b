"""Matching without a scan: one big integer for each (queue) and each (skill, minimum level), its bits in time order.

Every member of a family has a *slot*, a bit position; whoever came earlier has the higher one. All members that satisfy
several conditions are then a few operations over whole columns, at about 0.1 µs each for 10,000 members, and the first of
them is `bit_length() - 1`, which costs nothing. Neither depends on how many distinct skill sets there are.

There are two families: those who wait, by the time of their first enqueueing, and the agents who are available, by the time
since which they are idle. What goes before time in the order (the credits of the one, fit and versatility of the other) has
few values, and a column for each: the first in order is looked for value by value.

**Whom can an agent serve?** Those of his queues all of whose asks he meets, that is, as many as they ask. Each of his skills
gives a column of those who ask it at no more than his level; these are added up, all callers at once, by full adders on
whole columns, and the sum is compared with the number asked, which is kept as three columns of binary digits. The cost goes
with the skills of the agent (some 0.6 µs each), not with those of the centre.

**Levels.** A column for each of ten minimum levels would be ten writes for a skill. Instead a skill has a column for each
band (level >= 1, >= 5, >= 8) and one for each exact level inside a band: four writes at most, and a minimum level is the `|`
of at most three columns. The bands are also what "fit" means (see `explain`). Callers' asks are filed upside down (11 - level).

**Slots.** A new key gets the slot just below its predecessor's, mostly at the end of the line. Where that is taken (somebody
returns to an earlier place) everything above moves up by one shift of each column, which makes room for many; a family that
has become sparse is packed, with every other slot left free. Whoever is taken out leaves a dead key behind, which keeps his
slot for the case that he returns; dead keys are dropped when they outnumber the living.

**Stale bits.** Only the columns of queues and credits are exact. Leaving clears the member's bits there, and every answer is masked with a
queue column; bits in other columns are wiped when dead keys are dropped, before their slots can be used again.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

BANDS = (8, 5, 1)
"""The lowest level of each band, best first: expert, able, learner."""
ROOM, DEAD, SPARSE = 64, 256, 4096
"""Least slots made free at once, least dead keys worth burying, slots free at the low end of a fresh family."""

ASK_DIGITS = 3
"""Binary digits of the number of skills asked."""

K = TypeVar("K", bound=tuple[Any, ...])
Columns = tuple[int, ...]


class Family(Generic[K]):
    """Members in the order of their keys, and columns of bits over them."""

    def __init__(self, columns: int) -> None:
        self.bits = [0] * columns
        self.slot: dict[K, int] = {}
        self.at: dict[int, K] = {}
        self._keys: list[K] = []
        self._dead: set[K] = set()

    def __len__(self) -> int:
        return len(self._keys) - len(self._dead)

    def add(self, key: K) -> int:
        """Give `key` its place in the order, and return its slot, which stays valid until the next `add`."""
        slot = self.slot.get(key)
        if slot is not None:
            self._dead.discard(key)
            return slot
        if len(self._dead) > len(self) + DEAD:
            self._bury()
        keys = self._keys
        place = len(keys) if not keys or key > keys[-1] else bisect_left(keys, key)
        below = self.slot[keys[place]] if place < len(keys) else -1
        if place == 0:
            slot = below + 1 if keys else SPARSE
        else:
            if self.slot[keys[place - 1]] - 1 == below:
                self._make_room(keys[place - 1])
            slot = self.slot[keys[place - 1]] - 1
        keys.insert(place, key)
        self.slot[key] = slot
        self.at[slot] = key
        return slot

    def discard(self, key: K) -> None:
        """`key` may be forgotten; until it is, adding it again finds its old slot. Its exact columns must be cleared already."""
        if key in self.slot:
            self._dead.add(key)

    def floor(self, before: Callable[[K], bool]) -> int:
        """The lowest slot that members with `before` can have; `before` must hold for the first ones in order and no others."""
        place = bisect_left(self._keys, True, key=lambda key: not before(key))
        return self.slot[self._keys[place]] + 1 if place < len(self._keys) else 0

    def _make_room(self, above: K) -> None:
        """Free the slots below `above`, by moving it and every higher one up; where the family is too sparse already, by packing it."""
        if self._sparse():
            self._pack()
            return
        start, size = self.slot[above], max(ROOM, len(self._keys) // 8)
        low = (1 << start) - 1
        self.bits = [((b >> start) << (start + size)) | (b & low) if b >> start else b for b in self.bits]
        self._renumber({key: slot + size if slot >= start else slot for key, slot in self.slot.items()})

    def _bury(self) -> None:
        """Drop the dead keys and wipe their bits."""
        dead = self._dead
        self._keys = [key for key in self._keys if key not in dead]
        self._dead = set()
        self._renumber({key: self.slot[key] for key in self._keys})
        living = mask(self.at)
        self.bits = [b & living for b in self.bits]
        if self._sparse():
            self._pack()

    def _sparse(self) -> bool:
        return bool(self._keys) and self.slot[self._keys[0]] > 4 * (len(self._keys) + SPARSE)

    def _pack(self) -> None:
        """Slots with just one free between each two, and the bits moved along."""
        packed = {key: SPARSE + 2 * place for place, key in enumerate(reversed(self._keys))}
        moved = {self.slot[key]: slot for key, slot in packed.items()}
        self.bits = [mask(moved[slot] for slot in members(b)) for b in self.bits]
        self._renumber(packed)

    def _renumber(self, slots: dict[K, int]) -> None:
        self.slot = slots
        self.at = {slot: key for key, slot in slots.items()}


def mask(slots: Iterable[int]) -> int:
    """The integer with exactly these bits."""
    taken = list(slots)
    if not taken:
        return 0
    row = bytearray(max(taken) // 8 + 1)
    for slot in taken:
        row[slot >> 3] |= 1 << (slot & 7)
    return int.from_bytes(row, "little")


def members(bits: int) -> list[int]:
    """The set bits, highest first."""
    text = format(bits, "b")
    top = len(text) - 1
    found = []
    place = text.find("1")
    while place >= 0:
        found.append(top - place)
        place = text.find("1", place + 1)
    return found


class Layout:
    """Which column is which: one for each queue, then ten for each skill.

    `of_level[skill][level]` are the columns of a member at that level (none at 0), `at_least[skill][level]` those whose union is
    everybody at that level or more (none above 10). A band has the column of its lowest level.
    """

    def __init__(self, queues: Iterable[str], skills: Iterable[str]) -> None:
        self.queues = {queue: column for column, queue in enumerate(queues)}
        self.of_level: dict[str, list[Columns]] = {}
        self.at_least: dict[str, list[Columns]] = {}
        self.width = len(self.queues)
        for skill in skills:
            first = self.width - 1
            self.of_level[skill] = [tuple(first + column for column in levels_of(level)) for level in range(11)]
            self.at_least[skill] = [tuple(first + column for column in levels_from(level)) for level in range(12)]
            self.width += 10

    def homes(self, queues: Iterable[str]) -> Columns:
        """The columns of those of these queues that exist."""
        return tuple(self.queues[queue] for queue in dict.fromkeys(queues) if queue in self.queues)


def levels_of(level: int) -> list[int]:
    """The bands that `level` is in, and itself: `levels_of(6) == [5, 1, 6]`."""
    return [band for band in BANDS if level >= band] + ([level] if level and level not in BANDS else [])


def levels_from(level: int) -> list[int]:
    """Levels from `level` up to the next band, which holds all above: `levels_from(6) == [6, 7, 8]`."""
    band = min((band for band in BANDS if band >= level), default=10)
    return list(range(max(level, 1), band + 1))


def union(bits: list[int], columns: Columns) -> int:
    """Members of any of these columns."""
    found = 0
    for column in columns:
        found |= bits[column]
    return found


def add_up(rows: list[int]) -> list[int]:
    """How many of `rows` have each bit: the sums as columns of binary digits, lowest first, `ASK_DIGITS` of them."""
    digits = []
    for _ in range(ASK_DIGITS):
        carried = []
        while len(rows) > 2:
            a, b, c = rows.pop(), rows.pop(), rows.pop()
            half = a ^ b
            rows.append(half ^ c)
            carried.append((a & b) | (half & c))
        if len(rows) == 2:
            carried.append(rows[0] & rows[1])
            rows = [rows[0] ^ rows[1]]
        digits.append(rows[0] if rows else 0)
        rows = carried
    return digits


@dataclass(frozen=True, slots=True)
class Question:
    """An agent, as asked of those who wait: the columns of his queues, and for each of his skills those of the asks he meets."""

    queues: Columns
    skills: tuple[Columns, ...]


class Callers:
    """Those who wait. Answers: whom of these could an agent serve, and who is the first?

    A family by (first enqueued, interaction). Beside the layout's columns: the digits of the number of skills asked; for each
    queue everybody waiting in it, whether or not he can be matched just now; and one for each credit in use.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self._digits = range(layout.width, layout.width + ASK_DIGITS)
        self._places = {queue: self._digits.stop + column for queue, column in layout.queues.items()}
        self.family: Family[tuple[float, str]] = Family(self._digits.stop + len(self._places))
        self._credits: dict[float, int] = {}
        self._holders: dict[float, int] = {}
        self._spare: list[int] = []
        self._filed: dict[tuple[float, str], Columns] = {}

    def question(self, queues: Iterable[str], skills: Mapping[str, int]) -> Question:
        """What to ask for an agent with these queues and skills."""
        return Question(self.layout.homes(queues), tuple(self.layout.at_least[skill][11 - level] for skill, level in skills.items()))

    def columns(self, asked: Mapping[str, int]) -> Columns:
        """The columns of a caller with these asks."""
        count = len(asked)
        of_level = self.layout.of_level
        skills = [column for skill, level in asked.items() for column in of_level[skill][11 - level]]
        return (*skills, *(column for digit, column in enumerate(self._digits) if count >> digit & 1))

    def servable(self, question: Question) -> int:
        """Those lined up in the queues of an agent who ask nothing that he lacks."""
        bits = self.family.bits
        lined = union(bits, question.queues)
        if not lined:
            return 0
        met = [row for columns in question.skills if (row := union(bits, columns))]
        wrong = 0
        for digit, column in zip(add_up(met), self._digits, strict=True):
            wrong |= digit ^ bits[column]
        return lined ^ (lined & wrong)

    def first(self, among: int) -> int:
        """The slot of the one of these (not none) who goes first."""
        if len(self._credits) == 1:
            return among.bit_length() - 1
        bits, at = self.family.bits, self.family.at
        best: tuple[float, float, str] | None = None
        found = -1
        for credit, column in self._credits.items():
            slot = (among & bits[column]).bit_length() - 1
            if slot >= 0:
                since, interaction = at[slot]
                key = (since - credit, since, interaction)
                if best is None or key < best:
                    best, found = key, slot
        return found

    def join(self, seat: tuple[float, str], queue: str, credit: float) -> None:
        """Somebody waits, from now on or again."""
        bit = 1 << self.family.add(seat)
        if credit not in self._credits:
            self._credits[credit] = self._spare.pop() if self._spare else self._new_column()
            self._holders[credit] = 0
        self._holders[credit] += 1
        self.family.bits[self._credits[credit]] |= bit
        self.family.bits[self._places[queue]] |= bit

    def part(self, seat: tuple[float, str], queue: str, credit: float) -> None:
        """He does not wait any more; his place is kept for a while."""
        bits, bit = self.family.bits, 1 << self.family.slot[seat]
        bits[self._places[queue]] ^= bit
        bits[self._credits[credit]] ^= bit
        self.family.discard(seat)
        self._holders[credit] -= 1
        if not self._holders[credit]:
            del self._holders[credit]
            self._spare.append(self._credits.pop(credit))

    def everybody(self, queue: str) -> int:
        """All who wait in `queue`."""
        return self.family.bits[self._places[queue]]

    def line_up(self, seat: tuple[float, str], queue: str, asked: Mapping[str, int]) -> None:
        """From now on agents who become available can find him."""
        bits, columns = self.family.bits, self.columns(asked)
        bit = 1 << self.family.slot[seat]
        before = self._filed.get(seat, ())
        if before != columns:
            for column in before:
                bits[column] &= ~bit
            for column in columns:
                bits[column] |= bit
            self._file(seat, columns)
        bits[self.layout.queues[queue]] |= bit

    def step_out(self, seat: tuple[float, str], queue: str) -> None:
        """They can no longer."""
        self.family.bits[self.layout.queues[queue]] ^= 1 << self.family.slot[seat]

    def ahead(self, queue: str, key: tuple[float, float, str]) -> int:
        """How many of those who wait in `queue` come before `key` (first - credit, first, interaction)."""
        bits, count = self.family.bits, 0
        for credit, column in self._credits.items():

            def before(seat: tuple[float, str], credit: float = credit) -> bool:
                return (seat[0] - credit, *seat) < key

            count += ((self.everybody(queue) & bits[column]) >> self.family.floor(before)).bit_count()
        return count

    def _file(self, seat: tuple[float, str], columns: Columns) -> None:
        self._filed[seat] = columns
        if len(self._filed) > 2 * (len(self.family.slot) + DEAD):
            self._filed = {seat: columns for seat, columns in self._filed.items() if seat in self.family.slot}

    def _new_column(self) -> int:
        self.family.bits.append(0)
        return len(self.family.bits) - 1


class Shelf:
    """The agents who are available, by (idle since, id). Answers: of these, who can serve somebody, the best first?"""

    def __init__(self, layout: Layout, versatilities: Iterable[int]) -> None:
        self.layout = layout
        self._versatility = {value: layout.width + place for place, value in enumerate(sorted(set(versatilities)))}
        self.family: Family[tuple[float, str]] = Family(layout.width + len(self._versatility))

    def columns(self, skills: Mapping[str, int], versatility: int) -> Columns:
        """The columns of an agent, those of his queues apart."""
        of_level = self.layout.of_level
        return (*(column for skill, level in skills.items() for column in of_level[skill][level]), self._versatility[versatility])

    def able(self, queue: str, asked: Mapping[str, int]) -> int:
        """Those who serve `queue` and have every skill asked."""
        at_least, bits = self.layout.at_least, self.family.bits
        found = bits[self.layout.queues[queue]]
        for skill, level in asked.items():
            if not found or skill not in at_least:
                return 0
            found &= union(bits, at_least[skill][level])
        return found

    def best(self, able: int, skills: Mapping[str, int]) -> int:
        """Of `able` (not none), those of the best fit, and of these the least versatile; the longest idle is the highest bit."""
        bits = self.family.bits
        fit = self._fittest(able, skills)
        for column in self._versatility.values():
            found = fit & bits[column]
            if found:
                return found
        return fit

    def _fittest(self, able: int, skills: Mapping[str, int]) -> int:
        """Of `able`, those in the best band of their weakest skill."""
        at_least, bits = self.layout.at_least, self.family.bits
        if any(skill not in at_least for skill in skills):
            return able
        for band in BANDS:
            found = able
            for skill in skills:
                found &= bits[at_least[skill][band][0]]
            if found:
                return found
        return able
