"""What a caller types where a `collect` step is `sensitive`: known to the process that took it, and never written down.

A key in such a step is told as a `SecretKey`: how many there are in this try, and how the try ends. That alone is journaled, and decides.
The variable holds `HIDDEN`, and what it stands for is kept in memory, for the parameters of actions. A take-over forgets it: a try that
had begun is made again, and the variable holds `LOST`, so that a step which needs it fails.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from app.core.events import SecretKey
from app.core.flow.script import MATCH, NO_MATCH, PERSON, Keys
from app.core.flow.texts import BadText, names

HIDDEN, LOST = "•••", "•••?"
SPACE = "vars"


class SecretLost(BadText):
    """A text needs what was typed before another process took over."""


@dataclass(slots=True)
class Secrets:
    """One call's, in memory alone. `last` is the last key of the open try, which the journal has as well."""

    typed: str = ""
    last: SecretKey | None = None
    values: dict[str, str] = field(default_factory=dict)
    """By variable."""

    def hear(self, call: str, digit: str, wanted: Keys, fits: Callable[[str], bool] | None) -> SecretKey:
        """A key is pressed. One that is no part of a try (it has ended, or a terminator comes first) has the count 0."""
        if self.last is not None and self.last.ended:
            return SecretKey(call, 0)
        if wanted.terminator and digit == wanted.terminator:
            return SecretKey(call, len(self.typed), _fit(wanted, fits, self.typed)) if self.typed else SecretKey(call, 0)
        if digit == wanted.person and not digit.isdigit():
            return SecretKey(call, len(self.typed) + 1, PERSON)
        self.typed += digit
        paused = _fit(wanted, fits, self.typed)
        if len(self.typed) < wanted.length:
            return SecretKey(call, len(self.typed), "", paused)
        return SecretKey(call, len(self.typed), paused if self.typed.isdigit() else NO_MATCH)

    def begin(self) -> None:
        """Another try."""
        self.typed, self.last = "", None

    def keep(self, variable: str) -> None:
        """The try was a match."""
        self.values[variable] = self.typed
        self.begin()

    def forget(self) -> None:
        """Another process goes on."""
        self.begin()
        self.values.clear()


def _fit(wanted: Keys, fits: Callable[[str], bool] | None, got: str) -> str:
    """How a try ends that ends here."""
    outcome = wanted.ended(got)
    if outcome == MATCH and fits is not None and not fits(got):
        return PERSON if got == wanted.person else NO_MATCH
    return outcome


def secret_names(texts: Iterable[str], variables: Mapping[str, Any]) -> bool:
    """Whether one of the texts has a value in it that is hidden; raises `SecretLost` where it is lost."""
    if HIDDEN not in (values := variables.values()) and LOST not in values:
        return False
    veiled = {name: value for name, value in variables.items() if name.startswith(f"{SPACE}.") and value in (HIDDEN, LOST)}
    named = {name for text in texts for name in names(text)}
    found = {name: value for name, value in veiled.items() if name in named or SPACE in named}
    lost = sorted(name for name, value in found.items() if value == LOST)
    if lost:
        raise SecretLost(f"{lost[0]} is sensitive, and was forgotten when another process took over")
    return bool(found)
