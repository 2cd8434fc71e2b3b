"""Keys that Asterisk tells twice. Pure: the times are Asterisk's own, out of its events.

While a prompt plays, Asterisk swallows the beginning of a key press. A prompt that ends in the middle of a press leaves it with the
end of a key that never began, and it then plays that key to itself, for as long as the press was and 45 ms more. A key that is told
meanwhile is put off, and told once more when its turn has come; then it is played in its turn, and puts off the next. So a caller who
types faster than that has every further key counted twice, until a pause is long enough (seen on Asterisk 22: 0.1 s a key, 0.05 s between).

The two stories are alike, one behind the other. When a key will be told again can be told in advance, as long as it is known that Asterisk
is playing; and where that is not sure, a key that is told again betrays itself: nobody presses a key before letting go of it.

While a key is put off Asterisk does not look at the line. What was pressed meanwhile is read at once when the key's turn has come, so
the next press can be told in the very millisecond in which the one before is told again; of the same key and length, the two events are
equal, and only the first of them is the repetition. What cannot be told apart is one event that came twice and two presses of a key that
are both told for the first time in one millisecond: they count once (Asterisk must have stood still for longer than both took).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

GAP = 0.045
"""Seconds that Asterisk keeps between two keys of its own playing."""
EARLY = 0.005
LATE = 0.5
"""Seconds after which a key that should have been told again will not be."""


@dataclass(frozen=True, slots=True)
class Told:
    """A key as it was told: let go `at`, after a press of `length`. `surely` when it was put off, and will be told again."""

    digit: str
    length: float
    at: float
    surely: bool


@dataclass(slots=True)
class Keys:
    """The keys of one caller. All times in seconds on one clock, Asterisk's."""

    quiet_since: float = 0.0
    busy_until: float = 0.0
    again: deque[Told] = field(default_factory=deque)

    def prompt_ended(self, at: float) -> None:
        """A prompt is over, by itself or stopped."""
        self.quiet_since = at

    def counts(self, digit: str, length: float, at: float) -> bool:
        """Whether a key, let go `at` after a press of `length`, is told for the first time."""
        pressed = at - length
        while self.again and self._past(self.again[0], pressed, at):
            self.again.popleft()
        if self.again and (self.again[0].digit, self.again[0].length) == (digit, length) and at >= self.busy_until - EARLY:
            self.again.popleft()
            self.busy_until = at + length + GAP
            return False
        surely = at < self.busy_until - EARLY or any(each.surely for each in self.again)
        self.again.append(Told(digit, length, at, surely))
        if not surely and pressed + EARLY < self.quiet_since < at:
            self.busy_until = at + length + GAP
        return True

    def _past(self, told: Told, pressed: float, at: float) -> bool:
        """Whether it will not be told again."""
        return at > max(self.busy_until, told.at) + LATE if told.surely else pressed >= told.at
