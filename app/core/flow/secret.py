"""What a caller types where a `collect` step is `sensitive`: known to the process that took it, and never written down.

A key in such a step is told as a `SecretKey`: how many there are in this try, and how the try ends. That alone is journaled, and decides.
The variable holds `HIDDEN`, and what it stands for is kept in memory, for the parameters of actions. A take-over forgets it: a try that
had begun is made again, and the variable holds `LOST`, so that a step which needs it fails.

A sensitive step takes nothing that was typed ahead. But callers try: a key that can only be meant for one to come, or for one that has
just given up, is told as a `SecretKey` too, of no count. How many keys the inputs before it take is known from the program (`keys_ahead`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from app.core.events import SecretKey
from app.core.flow import program as nodes
from app.core.flow.script import MATCH, NO_MATCH, PERSON, Keys
from app.core.flow.texts import BadText, names

HIDDEN, LOST = "•••", "•••?"
SPACE = "vars"


def is_secret(node: Any) -> TypeGuard[nodes.Collect]:
    """Whether a step is a sensitive input."""
    return isinstance(node, nodes.Collect) and node.sensitive


def keys_ahead(program: nodes.Program) -> dict[str, int]:
    """How many keys typed from a step on, the step itself included, are for ordinary inputs before one is for a sensitive input.

    Steps from which no sensitive input can be come to are left out. After one that gave up, or that a mistake of ours or somebody who sent
    the call elsewhere ended, a caller may still be typing.
    """
    ahead = {name: 0 for name, node in program.steps.items() if is_secret(node)}
    late = [to for name in ahead for exit_, to in program.steps[name].ways().items() if _may_go_on(program.steps[name], exit_)]
    late += [program.on_error, *program.entries.values()] if ahead else []
    found = bool(ahead)
    while found:
        found = False
        for name, node in program.steps.items():
            after = [ahead[to] for to in node.ways().values() if to in ahead]
            takes = _takes(node)
            if after and takes is not None and not is_secret(node) and takes + min(after) < ahead.get(name, 1 << 30):
                ahead[name], found = takes + min(after), True
    while late:
        name = late.pop()
        if _takes(program.steps[name]) == 0 and ahead.get(name) != 0:
            ahead[name] = 0
            late += program.steps[name].ways().values()
    return ahead


def takes_keys(node: Any) -> bool:
    """Whether a step takes keys that were typed ahead."""
    return _takes(node) != 0


def _takes(node: Any) -> int | None:
    """How many of the keys typed ahead a step takes at most; None where no key outlives it."""
    if isinstance(node, nodes.Bot):
        return None
    if isinstance(node, nodes.Collect):
        return node.length
    return 1 if isinstance(node, nodes.Menu | nodes.Confirm | nodes.Callback) or getattr(node, "review", None) else 0


def _may_go_on(node: Any, exit_: str) -> bool:
    """Whether a caller may not have noticed that a sensitive input is over."""
    return exit_ != "match" or (node.min_length or node.length) < node.length


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
        if away := wanted.leads_away(digit):
            return SecretKey(call, len(self.typed) + 1, away)
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
