"""What action files call sensitive (`run.sensitive`) is shown nowhere: not in a timeline, on a desk, in a feed or by the command line.

Values are hidden by name where they have one, and by value wherever else they turn up (a rendered text, a record on a desk), so that
no way out has to know how they came there. Very short values are hidden by name alone: a "1" would hide every other "1".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from app.core.flow import program as nodes
from app.core.flow import texts
from app.core.flow.program import Program

from .method import ActionDef

MASK: Final = "•••"
SHORTEST: Final = 3
"""Characters of a value that is also hidden where it has no name."""
SHORTEST_NUMBER: Final = 6
"""The same for a number, of which there are many that mean something else: seconds, levels, ports."""
KEPT: Final = frozenset({"type", "kind", "at", "call", "id", "request", "action", "state", "step", "flow", "outcome"})
"""What a message is made of: never hidden, whatever values are."""


class Sensitive:
    """Which parameters and attributes of which actions are hidden."""

    def __init__(self, definitions: Mapping[str, ActionDef]) -> None:
        self._names = {name: frozenset(definition.run.sensitive) for name, definition in definitions.items() if definition.run.sensitive}
        self._variables: dict[tuple[str, str], frozenset[str]] = {}

    def __bool__(self) -> bool:
        return bool(self._names)

    def of(self, action: str) -> frozenset[str]:
        """The names that an action calls sensitive."""
        return self._names.get(action, frozenset())

    def variables(self, program: Program) -> frozenset[str]:
        """The variables of a flow that hold a sensitive attribute, such as `contact.pin`, or a text made of one."""
        key = (program.flow, program.version)
        if key not in self._variables:
            self._variables[key] = self._held(program) if self._names else frozenset()
        return self._variables[key]

    def _held(self, program: Program) -> frozenset[str]:
        asked = [(automation.into, automation.action) for automation in program.automations]
        copies: list[tuple[str, frozenset[str]]] = []
        for step in program.steps.values():
            if isinstance(step, nodes.Gather):
                asked += [(into, question.action) for into, question in step.ask.items()]
            elif isinstance(step, nodes.Lookup | nodes.Act):
                asked.append((step.into, step.action))
            elif isinstance(step, nodes.Set):
                copies += [(f"vars.{name}", texts.names(text)) for name, text in step.values.items()]
        held = {f"{into}.{name}" for into, action in asked for name in self.of(action) if into}
        while more := {name for name, read in copies if any(f"{each}.".startswith(f"{one}.") for each in held for one in read)} - held:
            held |= more
        return frozenset(held)

    def known(self, program: Program, variables: Mapping[str, Any]) -> dict[str, Any]:
        """A call's variables, without the values of those that are sensitive."""
        hidden = self.variables(program)
        return {name: MASK if name in hidden else value for name, value in variables.items()}

    def shown(self, thing: Any, program: Program, variables: Mapping[str, Any]) -> Any:
        """Something about a live call, without what is sensitive in it."""
        hidden = self.variables(program)
        if not hidden:
            return thing
        return veiled(thing, {name.partition(".")[2] for name in hidden}, [variables[name] for name in hidden if name in variables])

    def ended(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """The history's row of a call: of what systems of record told it has the contact's id alone."""
        hides = bool(row.get("contact")) and any("id" in names for names in self._names.values())
        return {**row, "contact": MASK} if hides else dict(row)

    def found_in(self, entries: Iterable[Mapping[str, Any]]) -> tuple[frozenset[str], tuple[Any, ...]]:
        """The sensitive names and values in one call's whole timeline, as `veiled` takes them."""
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
        return frozenset(names), tuple(secrets)

    def timeline(self, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The entries of one call's timeline, without what is sensitive in them."""
        names, secrets = self.found_in(entries) if self._names else (frozenset(), ())
        return [veiled(entry, names, secrets) for entry in entries] if names else list(entries)


def veiled(thing: Any, names: Iterable[str], secrets: Iterable[Any]) -> Any:
    """A copy in which members of these names, and these values wherever they stand, are hidden."""
    written = sorted({str(secret) for secret in _leaves(list(secrets)) if len(str(secret)) >= SHORTEST}, key=len, reverse=True)
    return _veil(thing, frozenset(names), written, 0)


def _veil(thing: Any, names: frozenset[str], written: list[str], depth: int) -> Any:
    if isinstance(thing, Mapping):
        if str(thing.get("name", "")).rpartition(".")[2] in names and "." in str(thing.get("name", "")) and "value" in thing:
            return {**thing, "value": MASK}
        return {
            key: value if not depth and key in KEPT else MASK if depth and _last(key) in names else _veil(value, names, written, depth + 1)
            for key, value in thing.items()
        }
    if isinstance(thing, list | tuple):
        return [_veil(item, names, written, depth + 1) for item in thing]
    if isinstance(thing, str):
        for text in written:
            thing = thing.replace(text, MASK)
        return thing
    if isinstance(thing, int | float) and not isinstance(thing, bool) and len(str(thing)) >= SHORTEST_NUMBER and str(thing) in written:
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
