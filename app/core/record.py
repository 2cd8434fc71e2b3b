"""Events, commands and facts as plain JSON values and back: the form in which the journal keeps them.

A record is `[type name, {field: value}]`, fields at their default left out. Tuples come back as tuples. A type that this
version does not know raises `UnknownRecord`, with its name.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any, TypeAlias

from app.core import commands, events, facts

_MODULES = (events, commands, facts)
TYPES: dict[str, type[Any]] = {
    name: kind for module in _MODULES for name, kind in vars(module).items() if isinstance(kind, type) and dataclasses.is_dataclass(kind)
}

Record: TypeAlias = list[Any]
"""`[kind, type name, {field: value}, time]`: kind is "e" for an event, "f" for a fact, "c" for a command."""


class UnknownRecord(ValueError):
    """A record names a type that this version does not have."""


def _plan(kind: type[Any]) -> tuple[tuple[str, Any, bool], ...]:
    """The fields that are kept of a type: name, default, and whether it is a tuple."""
    plan = []
    for f in dataclasses.fields(kind):
        if not f.metadata.get("kept", True):
            continue
        default = f.default_factory() if f.default_factory is not dataclasses.MISSING else f.default
        plan.append((f.name, default, str(f.type).startswith("tuple")))
    return tuple(plan)


_FIELDS = {kind: _plan(kind) for kind in TYPES.values()}


def pack(thing: Any) -> list[Any]:
    """`[type name, {field: value}]` of an event, command or fact."""
    kind = type(thing)
    values = {}
    for name, default, _ in _FIELDS[kind]:
        value = getattr(thing, name)
        if value != default or default is dataclasses.MISSING:
            values[name] = value
    return [kind.__name__, values]


def home(event: events.Event) -> str:
    """The call in whose journal an event belongs; "" for the centre's own."""
    if isinstance(event, events.TimerFired):
        return "" if event.owner.startswith("agent:") else event.owner
    return getattr(event, "call", "")


def rows_of(event: events.Event, out: Iterable[Any], now: float) -> dict[str, list[Record]]:
    """One row for each call that an event concerns: the event first, then what came of it, in order."""
    rows: dict[str, list[Record]] = {home(event): [["e", *pack(event), now]]}
    for thing in out:
        rows.setdefault(thing.call, []).append(["c" if isinstance(thing, commands.Command) else "f", *pack(thing), now])
    return rows


def unpack(record: list[Any]) -> Any:
    """The event, command or fact that `pack` made the record of."""
    name, values = record
    kind = TYPES.get(name)
    if kind is None:
        raise UnknownRecord(name)
    tuples = {n: tuple(values[n]) for n, _, is_tuple in _FIELDS[kind] if is_tuple and n in values}
    return kind(**{**values, **tuples})
