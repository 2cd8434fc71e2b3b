"""What action files call sensitive (`run.sensitive`) is shown nowhere: not in a timeline, on a desk, in a feed or by the command line.

Values are hidden by name where they have one, and by value wherever else they turn up (a rendered text, a record on a desk), so that
no way out has to know how they came there. Very short values are hidden by name alone: a "1" would hide every other "1".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from app.core.flow.program import Program

from .method import ActionDef

MASK: Final = "•••"
SHORTEST: Final = 3
"""Characters of a value that is also hidden where it has no name."""
KEPT: Final = frozenset({"type", "kind", "at", "call", "id", "request", "action", "state", "step", "flow", "outcome"})
"""What a message is made of: never hidden, whatever values are."""


class Sensitive:
    """Which parameters and attributes of which actions are hidden."""

    def __init__(self, definitions: Mapping[str, ActionDef]) -> None:
        self._names = {name: frozenset(definition.run.sensitive) for name, definition in definitions.items() if definition.run.sensitive}
        self._variables: dict[str, frozenset[str]] = {}  # by the version of the flow

    def __bool__(self) -> bool:
        return bool(self._names)

    def of(self, action: str) -> frozenset[str]:
        """The names that an action calls sensitive."""
        return self._names.get(action, frozenset())

    def variables(self, program: Program) -> frozenset[str]:
        """The variables of a call that hold a sensitive attribute, such as `contact.pin`, by the steps of its flow."""
        known = self._variables.get(program.version)
        if known is None:
            asked = [(str(getattr(step, "into", "")), self.of(str(getattr(step, "action", "")))) for step in program.steps.values()]
            known = self._variables[program.version] = frozenset(f"{into}.{name}" for into, names in asked for name in names if into)
        return known

    def shown(self, thing: Any, program: Program, variables: Mapping[str, Any]) -> Any:
        """Something about a live call, without what is sensitive in it."""
        hidden = self.variables(program) if self._names else frozenset()
        if not hidden:
            return thing
        return veiled(thing, {name.partition(".")[2] for name in hidden}, [variables[name] for name in hidden if name in variables])

    def timeline(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The entries of one call's timeline, without what is sensitive in them."""
        names: set[str] = set()
        secrets: list[Any] = []
        asked: dict[str, str] = {}
        for entry in entries:
            if entry.get("type") == "StartAction":
                asked[entry["request"]] = entry["action"]
            action = asked.get(entry.get("request", ""), "")
            found = entry.get("params") or entry.get("values") or {}
            hidden = self.of(action) & found.keys() if action else frozenset()
            names |= hidden
            secrets.extend(found[name] for name in hidden)
        return [veiled(entry, names, secrets) for entry in entries] if names else list(entries)


def veiled(thing: Any, names: Iterable[str], secrets: Iterable[Any]) -> Any:
    """A copy in which members of these names, and these values wherever they stand, are hidden."""
    texts = sorted({str(secret) for secret in _leaves(list(secrets)) if len(str(secret)) >= SHORTEST}, key=len, reverse=True)
    return _veil(thing, frozenset(names), texts, 0)


def _veil(thing: Any, names: frozenset[str], texts: list[str], depth: int) -> Any:
    if isinstance(thing, Mapping):
        if str(thing.get("name", "")).rpartition(".")[2] in names and "." in str(thing.get("name", "")) and "value" in thing:
            return {**thing, "value": MASK}
        return {
            key: value if not depth and key in KEPT else MASK if depth and _last(key) in names else _veil(value, names, texts, depth + 1)
            for key, value in thing.items()
        }
    if isinstance(thing, list | tuple):
        return [_veil(item, names, texts, depth + 1) for item in thing]
    if isinstance(thing, str):
        for text in texts:
            thing = thing.replace(text, MASK)
        return thing
    if isinstance(thing, int | float) and not isinstance(thing, bool) and str(thing) in texts:
        return MASK
    return thing


def _last(key: Any) -> str:
    return str(key).rpartition(".")[2]


def _leaves(thing: Any) -> Iterable[Any]:
    if isinstance(thing, Mapping):
        return [leaf for value in thing.values() for leaf in _leaves(value)]
    if isinstance(thing, list | tuple):
        return [leaf for item in thing for leaf in _leaves(item)]
    return [] if thing is None or isinstance(thing, bool) else [thing]
