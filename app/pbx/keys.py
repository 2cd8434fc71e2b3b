"""Keys that Asterisk tells twice. Pure: the times are Asterisk's own, out of its events.

While a prompt plays, Asterisk swallows the beginning of a key press. A prompt that ends in the middle of a press leaves it with the
end of a key that never began, and it then plays that key to itself, for as long as the press was and 45 ms more. A key that is told
meanwhile is put off, and told once more when its turn has come; then it is played in its turn, and puts off the next. So a caller who
types faster than that has every further key counted twice, until a pause is long enough (seen on Asterisk 22: 0.1 s a key, 0.05 s between).

The two stories are alike, one behind the other. What tells them apart:

- Asterisk does not look at the line while a key is put off: a key that is told again is told next, with nothing between.
- A key is put off for certain when it is told while Asterisk is known to be playing, or within its gap after another one. Then only when it
  is told again is open: a machine that is busy may take seconds.
- Where it is not certain, a key that is told again betrays itself: nobody presses a key before letting go of it.

What was pressed while a key was put off is read at once when its turn has come, so the next press can be told in the very millisecond in
which the one before is told again. Of the same key and length, these two events are equal, and nothing tells them from one that came twice:
the press counts when it is told again in its turn. Two equal events in one millisecond that are both told for the first time count once
(Asterisk must have stood still for longer than both presses took).
"""

from __future__ import annotations

from dataclasses import dataclass

SHORTEST = 0.08
"""Seconds that Asterisk plays a key at least."""
GAP = 0.045
"""Seconds that Asterisk keeps between two keys."""
EARLY = 0.005
LATE = 5.0
"""Seconds after which a key that should have been told again will not be."""
NIMBLE = 0.03
"""Seconds in which nobody lets go of a key and presses it again."""


@dataclass(frozen=True, slots=True)
class Told:
    """A key as it was told first: let go `at`, after a press of `length`. `surely` when it was put off, and will be told again."""

    digit: str
    length: float
    at: float
    surely: bool


@dataclass(slots=True)
class Keys:
    """The keys of one caller. All times in seconds on one clock, Asterisk's."""

    quiet_since: float = 0.0
    busy_until: float = 0.0
    told_at: float = 0.0
    last: Told | None = None

    def prompt_ended(self, at: float) -> None:
        """A prompt is over, by itself or stopped."""
        self.quiet_since = at

    def counts(self, digit: str, length: float, at: float, *, playing: bool = False) -> bool:
        """Whether a key, let go `at` after a press of `length`, is told for the first time. `playing`: over a prompt, none is put off."""
        pressed = at - length
        if self._again(digit, length, pressed, at):
            self.last = None
            self._plays(length, at)
            return False
        if self.told_at and not playing:
            self.busy_until = max(self.busy_until, self.told_at + GAP)
        surely = at < self.busy_until - EARLY
        if not surely and (pressed + EARLY < self.quiet_since < at or pressed + EARLY < self.busy_until):
            self._plays(length, at)
        self.told_at, self.last = at, Told(digit, length, at, surely)
        return True

    def _again(self, digit: str, length: float, pressed: float, at: float) -> bool:
        """Whether it is the last key, told again."""
        last = self.last
        if last is None or (last.digit, last.length) != (digit, length):
            return False
        if last.surely:
            return self.busy_until - EARLY <= at <= max(self.busy_until, last.at) + LATE
        return pressed < last.at + NIMBLE

    def _plays(self, length: float, at: float) -> None:
        """Asterisk plays a key whose beginning it did not see."""
        self.told_at, self.busy_until = at, at + max(length, SHORTEST) + GAP
