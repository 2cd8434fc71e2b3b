"""What goes in and what comes out: plain values, no database."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, TypeAlias

Record: TypeAlias = list[Any]
"""`[kind, type, {fields}]`; kind is "e" for an event, "f" for a fact, "c" for a command."""


@dataclass(slots=True)
class Batch:
    """All that one turn of the engine, or several that share a commit, wants written.

    `at` is the engine's clock (epoch seconds). `journal` holds (call id, records) in order, "" for the centre. `live` and
    `agents` map ids to JSON snapshots; None deletes the row. `history` has one dict for each call that ended (written again
    after its wrap-up). `versions` maps (flow, number) to the row of a flow's version. `full` asks for a commit that a power cut
    cannot undo.
    """

    at: float
    journal: list[tuple[str, list[Record]]] = field(default_factory=list)
    live: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    agents: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    versions: dict[tuple[str, int], dict[str, Any]] = field(default_factory=dict)
    full: bool = False


@dataclass(slots=True)
class Recovered:
    """What the last process left.

    `now_floor` is the highest `at` ever committed (0.0 when nothing was). `journal` has, for each live call, its rows from
    its arrival on: (seq, at, records) in order. `versions` are the rows that `Batch.versions` took. `alive` is when that process wrote
    anything, if only its lease, for the last time.
    """

    now_floor: float
    live: dict[str, dict[str, Any]]
    agents: dict[str, dict[str, Any]]
    journal: dict[str, list[tuple[int, float, list[Record]]]]
    versions: list[dict[str, Any]] = field(default_factory=list)
    alive: float = 0.0
