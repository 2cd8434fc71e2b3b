"""Members in the order of their keys, and columns of bits over them: big integers, cut into segments.

Every member has a *seat*: a segment and a slot in it, which is a bit position. Whoever comes earlier in the order is in an
earlier segment, or in the same one with the higher bit. All members that satisfy several conditions are then a few operations
over the columns of a segment, at some 0.04 µs each, and the first of them is `bit_length() - 1`, which costs nothing.

**Why segments.** Who asks for the first member mostly finds him in the earliest segment, so that the others are not looked at;
a bit is set in a short integer, and nothing that one member does moves more than one segment, packing apart, which is rare.
Shorter ones than `SIZE` make an operation hardly cheaper, and more operations; with few members the integers are short anyway.

**Slots.** A new member comes mostly last and gets the slot below its predecessor's. One who belongs further up gets a slot between
his neighbours. Where none is free, the few below move down, if they are few; else everybody above moves up by one shift of each
column, which makes room for many. In a segment that is full to the top, a newcomer at the end begins the next segment, and one in
the middle cuts his in two. Whoever is taken out leaves his seat behind, dead, and finds it again if he returns. A segment with
nobody alive is dropped. When cuts and dead seats have made more segments than there need be, all are packed anew, with a
free slot between each two.

**Stale bits.** The owner of a family decides which of its columns are exact. Bits of the others need not be cleared when a
member goes (`Seat.columns` says where he has some), as long as every answer is masked with an exact column.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

SIZE, FIRST, ROOM, TAIL = 5000, 256, 64, 64
"""Slots of a segment at most, and at first; slots made free at once between two members; how many are few enough to move down."""

Key = tuple[float, str]
Columns = tuple[int, ...]


class Seat:
    """The place of one member. `columns`: those that hold its bit and are not exact."""

    __slots__ = ("alive", "columns", "key", "segment", "slot")

    def __init__(self, key: Key) -> None:
        self.key = key
        self.segment: Segment[Any] | None = None
        self.slot = 0
        self.alive = False
        self.columns: Columns = ()


S = TypeVar("S", bound=Seat)


class Segment(Generic[S]):
    """A stretch of the order, with its part of every column."""

    __slots__ = ("at", "bits", "gone", "living", "seats")

    def __init__(self, width: int) -> None:
        self.bits = [0] * width
        self.seats: list[S] = []
        self.at: dict[int, S] = {}
        self.living = 0
        self.gone = False

    def put(self, seat: S, place: int, slot: int) -> None:
        """Seat somebody, `place` seats from the beginning."""
        self.seats.insert(place, seat)
        self.at[slot] = seat
        seat.segment, seat.slot = self, slot

    def part(self, place: int) -> bool:
        """Make room before a place that is not the first; False where that cannot be done."""
        few = len(self.seats) - place <= TAIL
        if few and (self.seats[-1].slot or self.extend()):
            self.sink(place)
            return True
        return self.lift(place, ROOM)

    def extend(self) -> bool:
        """Make room after the last one; False where there is none."""
        return self.lift(len(self.seats), max(FIRST, self.seats[0].slot))

    def sink(self, place: int) -> None:
        """Move the last ones, from `place` on, down by one slot; there must be a free one below."""
        low = (1 << self.seats[place - 1].slot) - 1
        for column, bits in enumerate(self.bits):
            if moving := bits & low:
                self.bits[column] = bits ^ moving | moving >> 1
        for seat in reversed(self.seats[place:]):
            del self.at[seat.slot]
            seat.slot -= 1
            self.at[seat.slot] = seat

    def lift(self, place: int, room: int) -> bool:
        """Move the first `place` seats up, which frees up to `room` slots below; False where there is no room above."""
        moving = self.seats[:place]
        top = moving[0].slot
        by = min(room, SIZE - 1 - top)
        if by <= 0:
            return False
        end = moving[-1].slot
        low = (1 << end) - 1
        self.bits = [(bits >> end << end + by) | (bits & low) if bits > low else bits for bits in self.bits]
        for seat in moving:
            seat.slot += by
        self.at = {seat.slot: seat for seat in self.seats}
        return True


class Family(Generic[S]):
    """The members and their segments, in order. Only a segment that is the only one can be empty."""

    def __init__(self, width: int) -> None:
        self.living = 0
        self.segments: list[Segment[S]] = [Segment(width)]
        self._width = width

    def add(self, seat: S) -> Segment[S]:
        """Give `seat` its place in the order, the old one if he still has it. Places are valid until the next `add`."""
        segment = seat.segment
        if segment is None or segment.gone:
            self._place(seat)
            segment = seat.segment
            assert segment is not None
        seat.alive = True
        segment.living += 1
        self.living += 1
        return segment

    def discard(self, seat: S) -> None:
        """The seat may be forgotten. Its bits in exact columns must be cleared already."""
        segment = seat.segment
        assert segment is not None
        seat.alive = False
        segment.living -= 1
        self.living -= 1
        if not segment.living and segment is not self.segments[-1]:
            self._drop(segment)

    def close(self) -> None:
        """Nobody finds his old place here any more."""
        for segment in self.segments:
            segment.gone = True

    def count_before(self, column: int, before: Callable[[Key], bool]) -> int:
        """How many in an exact column have `before`, which must hold for the first in order and no others."""
        count = 0
        for segment in self.segments:
            place = bisect_left(segment.seats, True, key=lambda seat: not before(seat.key))
            floor = segment.seats[place].slot + 1 if place < len(segment.seats) else 0
            count += (segment.bits[column] >> floor).bit_count()
            if floor:
                break
        return count

    def _place(self, seat: S) -> None:
        seat.columns = ()
        last = self.segments[-1]
        seats = last.seats
        if not seats:
            last.put(seat, 0, min(FIRST, SIZE) - 1)
        elif seat.key < seats[-1].key:
            self._squeeze(seat)
        elif seats[-1].slot or last.extend():
            last.put(seat, len(seats), seats[-1].slot - 1)
        else:
            self._open(len(self.segments)).put(seat, 0, min(FIRST, SIZE) - 1)
            if not last.living:
                self._drop(last)
            self._tidy(seat)

    def _squeeze(self, seat: S) -> None:
        """A place before some who are there already."""
        at = bisect_left(self.segments, seat.key, key=lambda segment: segment.seats[-1].key)
        segment = self.segments[at]
        place = bisect_left(segment.seats, seat.key, key=lambda other: other.key)
        below = segment.seats[place].slot
        if not place:
            if below < SIZE - 1:
                segment.put(seat, 0, below + 1)
            else:
                self._open(at).put(seat, 0, SIZE // 2)
                self._tidy(seat)
            return
        cut = segment.seats[place - 1].slot == below + 1 and not segment.part(place)
        if cut:
            self._cut(at, place)
        segment.put(seat, place, segment.seats[place - 1].slot - 1)
        if cut:
            self._tidy(seat)

    def _open(self, at: int) -> Segment[S]:
        segment: Segment[S] = Segment(self._width)
        self.segments.insert(at, segment)
        return segment

    def _drop(self, segment: Segment[S]) -> None:
        segment.gone = True
        self.segments.remove(segment)

    def _cut(self, at: int, place: int) -> None:
        """The seats from `place` on become a segment of their own; the slots that they leave are free."""
        segment, later = self.segments[at], self._open(at + 1)
        low = (1 << segment.seats[place - 1].slot) - 1
        for column, bits in enumerate(segment.bits):
            if moved := bits & low:
                later.bits[column] = moved
                segment.bits[column] = bits ^ moved
        for seat in segment.seats[place:]:
            del segment.at[seat.slot]
            later.put(seat, len(later.seats), seat.slot)
            later.living += seat.alive
        segment.living -= later.living
        del segment.seats[place:]

    def _tidy(self, newcomer: S) -> None:
        """Pack when there are too many segments; `newcomer` has his seat already, and is not alive yet."""
        if len(self.segments) > 2 * (self.living // (SIZE // 2)) + 4:
            newcomer.alive = True
            self._pack()
            newcomer.alive = False
            assert newcomer.segment is not None
            newcomer.segment.living -= 1

    def _pack(self) -> None:
        """Drop the dead, and seat the living anew, with a free slot between each two."""
        old, full = self.segments, SIZE // 2
        living = [seat for segment in old for seat in segment.seats if seat.alive]
        self.segments = [Segment(self._width) for _ in range(0, len(living), full)]
        moves: dict[Segment[S], dict[int, tuple[int, int]]] = {segment: {} for segment in old}
        for number, seat in enumerate(living):
            index, place = divmod(number, full)
            slot = 2 * (min(full, len(living) - index * full) - 1 - place)
            assert seat.segment is not None
            moves[seat.segment][seat.slot] = (index, slot)
            self.segments[index].put(seat, place, slot)
            self.segments[index].living += 1
        for segment in old:
            segment.gone = True
            self._carry(segment, moves[segment])

    def _carry(self, old: Segment[S], moves: dict[int, tuple[int, int]]) -> None:
        """The bits of a segment that has been packed, to where its members are now."""
        living = mask(moves)
        for column, bits in enumerate(old.bits):
            if bits := bits & living:
                slots: dict[int, list[int]] = {}
                for index, slot in (moves[slot] for slot in members(bits)):
                    slots.setdefault(index, []).append(slot)
                for index, moved in slots.items():
                    self.segments[index].bits[column] |= mask(moved)


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
