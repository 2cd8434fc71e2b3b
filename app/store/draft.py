"""A batch as bytes and columns, before anything is sealed or written."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from app.store.batch import Batch
from app.store.codec import dumps
from app.store.schema import PERSONAL
from app.store.statements import Row

CLEAR_TEXTS = ("flow", "version", "process", "queue", "agent", "outcome", "disposition", "uniqueid", "linkedid")
CLEAR_SECONDS = ("arrived", "answered", "connected", "ended", "waited", "talked", "wrap_up")
_FACTS = frozenset({"call", "cause", *CLEAR_TEXTS, *CLEAR_SECONDS, *PERSONAL})


class Draft:
    """A batch as bytes: nothing in it is shared with the caller any more."""

    __slots__ = ("agent_drop", "agent_put", "at", "history", "journal", "live_drop", "live_put", "versions")

    def __init__(self, batch: Batch) -> None:
        self.at = float(batch.at)
        self.journal = [(call, dumps(records)) for call, records in batch.journal]
        self.live_put = [(call, dumps(snapshot)) for call, snapshot in batch.live.items() if snapshot is not None]
        self.live_drop: list[Row] = [(call,) for call, snapshot in batch.live.items() if snapshot is None]
        self.agent_put = [(agent, dumps(snapshot)) for agent, snapshot in batch.agents.items() if snapshot is not None]
        self.agent_drop: list[Row] = [(agent,) for agent, snapshot in batch.agents.items() if snapshot is None]
        self.history = [_facts(ended) for ended in batch.history]
        self.versions = [_version(row) for row in batch.versions.values()]

    def calls(self) -> list[str]:
        """Every call that the batch has something to seal for."""
        return [row[0] for row in (*self.journal, *self.live_put)] + [row[0] for row in self.history]


def _facts(ended: Mapping[str, Any]) -> tuple[str, list[Any], str | None, bytes]:
    """Call id, the clear columns in order, the caller's number, and the personal part as bytes."""
    unknown = ended.keys() - _FACTS
    if unknown or not ended.get("call"):
        raise ValueError(f"history: unknown {sorted(unknown)}" if unknown else "history: `call` is missing")
    get = ended.get
    clear = [
        *(_text(get(name)) for name in CLEAR_TEXTS[:6]),
        None if get("cause") is None else int(ended["cause"]),
        *(None if get(name) is None else float(ended[name]) for name in CLEAR_SECONDS),
        *(_text(get(name)) for name in CLEAR_TEXTS[6:]),
    ]
    return ended["call"], clear, _text(get("ani")), dumps([get(name) for name in PERSONAL])


def _version(row: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The clear columns of a flow's version, and the callers' numbers as bytes."""
    clear = {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
    return {**clear, "guard": _json_text(row["guard"]), "figures": _json_text(row["figures"])}, dumps(row["numbers"])


def _json_text(value: Any) -> str:
    """JSON that a text column of either database takes, whatever the strings in it."""
    return json.dumps(value, separators=(",", ":"))


def _text(value: Any) -> str | None:
    """A value as a text column of either database takes it: no NUL, no lone surrogates."""
    if value is None:
        return None
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode("utf-8")
