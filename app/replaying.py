"""Replays over a journal: opening it where an installation keeps it, running calls again, and telling the results as plain values.

No key that was pressed is ever told, no value of a variable or parameter, and no full telephone number: records are told by what of them
is harmless (`told`).
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.actions.files import load_actions
from app.core import events as ev
from app.core.defined import Kept
from app.core.flow.compiled import Compiled
from app.core.flow.replay import Replayed, replay_call
from app.core.flow.what_if import WhatIf, what_if
from app.core.record import Record, unpack
from app.core.recorded import Difference
from app.core.replay_centre import CentreReplay, CentreReplayed
from app.engine import made_with
from app.publish.centre import load_centre
from app.publish.flowfile import load_flow
from app.publish.shared import Shared
from app.settings import read_settings
from app.store import Forgotten, Journal

SHOWN: Mapping[str, tuple[str, ...]] = {
    "FlowBegan": ("flow", "version"),
    "StepEntered": ("step",),
    "StepLeft": ("step", "exit"),
    "VariableSet": ("name",),
    "Queued": ("queue", "position"),
    "Offered": ("agent",),
    "OfferEnded": ("agent", "reason"),
    "Connected": ("agent", "waited"),
    "TalkEnded": ("agent", "by", "talked"),
    "Outcome": ("outcome",),
    "CallEnded": ("outcome", "seconds"),
    "WrapUpEnded": ("agent", "seconds"),
    "Noticed": ("what",),
    "Play": ("media",),
    "StartAction": ("action",),
    "MarkPlace": ("queue",),
    "StartMusic": ("music",),
    "RingAgent": ("endpoint", "seconds"),
    "HangUpLeg": ("cause",),
    "HangUp": ("cause",),
    "Release": ("context",),
    "QueueLog": ("event",),
    "Pop": ("agent",),
    "WithdrawPop": ("agent", "reason"),
}
"""What of each kind of record is shown; of all others nothing but the name."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a journal is, and the project that belongs to it."""

    database: str
    key: Path
    project: Path | None = None


def place_of(state: Path, database: str = "", key: Path | None = None) -> Place:
    """The journal of an installation, or the database named; raises ValueError with what is wrong."""
    if database:
        file = Path(database.partition("///")[2])
        if key is None and not database.startswith("sqlite"):
            raise ValueError("--key: name the key file of this database")
        return Place(database, key or file.with_name("callwright.key"))
    config = state / "callwright.toml"
    if not config.exists():
        raise ValueError(f"nothing was started from {state} yet: run `callwright up`, or give --database")
    settings = read_settings(config)
    return Place(settings.database_url, key or settings.state / "callwright.key", settings.project)


@asynccontextmanager
async def reading(place: Place) -> AsyncIterator[tuple[Journal, Kept]]:
    """The journal, and what was run by hash; raises StoreError."""
    journal = await Journal.open(place.database, place.key)
    try:
        yield journal, Kept(await journal.programs())
    finally:
        await journal.close()


async def one_call(place: Place, text: str) -> tuple[Replayed, str]:
    """A call, by its id or how it begins, run again; and what else explains a difference. Raises LookupError, Forgotten, StoreError."""
    async with reading(place) as (journal, kept):
        found = await journal.find(text)
        if len(found) != 1 and text not in found:
            raise LookupError(f"{len(found)} calls begin with {text!r}: give more of the id" if found else f"there is no call {text!r}")
        call = text if text in found else found[0]
        rows = await journal.call(call)
        if not rows:
            raise LookupError(f"call {call} is too old: nothing of it is in the journal any more")
        again = replay_call(call, rows, kept)
        hint = "" if again.identical else await _other_versions(journal, rows[0][2][0][3])
        return again, hint


async def _other_versions(journal: Journal, at: float) -> str:
    """What was installed otherwise when something was recorded, or "" where nothing was, or nobody knows."""
    async for _, _, records in journal.centre_before(at):
        event = unpack(records[0][1:3]) if records[0][1] == "TookOver" else None
        if isinstance(event, ev.TookOver):
            now = made_with()
            return ", ".join(f"{name} was {then} and is {now.get(name)}" for name, then in event.made_with.items() if now.get(name) != then)
    return ""


async def whole_centre(
    place: Place, since: float | None, until: float, progress: Callable[[CentreReplayed], None] | None = None
) -> CentreReplayed:
    """The centre run again, from the last beginning without calls up to `since` (None: the first there is). Raises StoreError."""
    async with reading(place) as (journal, kept):
        first = 0
        async for seq, _, records in journal.centre_before(until if since is None else since):
            if records[0][1] == "TookOver" and records[0][2]["calls"] == 0 and records[0][2].get("staff"):
                first = seq
                if since is not None:
                    break
        if not first:
            return CentreReplayed(unknown="no process began without calls before that: there is nothing from which to start")
        again = CentreReplay(kept)
        try:
            async for row in journal.everything(first, until):
                if not again.take(row):
                    break
                if progress is not None:
                    progress(again.result)
        except Forgotten as error:
            again.result.unknown = f"call {error.call} was forgotten: its key is deleted, and nothing is known from there on"
        return again.end()


def other_flow(file: Path, project: Path) -> Compiled:
    """A flow's file, checked against the actions and queues of a project; raises ValueError."""
    outputs = {name: definition.outputs for name, definition in load_actions(project / "actions").items()}
    return load_flow(file, outputs, load_centre(project).queues, shared=Shared(project))


async def calls_under(
    place: Place, other: Compiled, since: float, until: float, progress: Callable[[int, int], None] | None = None
) -> list[WhatIf]:
    """Every call to the numbers of a flow that arrived in this time and has ended, under that version of it. Raises StoreError."""
    found = []
    async with reading(place) as (journal, kept):
        numbers = set(other.program.dnis)
        rows = [
            row for row in await journal.ended(since, until) if row["dnis"] in numbers or (row["forgotten"] and row["flow"] == other.name)
        ]
        for n, row in enumerate(rows, 1):
            found.append(await _under(journal, kept, row, other))
            if progress is not None:
                progress(n, len(rows))
    return found


async def _under(journal: Journal, kept: Kept, row: Mapping[str, Any], other: Compiled) -> WhatIf:
    call = row["call"]
    try:
        rows = await journal.call(call)
    except Forgotten:
        return WhatIf(call, row["version"], undetermined="it was forgotten")
    if not rows:
        return WhatIf(call, row["version"], undetermined="it is not in the journal any more")
    return what_if(replay_call(call, rows, kept), rows, other, kept)


# ---- telling ----------------------------------------------------------------------------------------------------------------


def told(record: Record | None) -> str:
    """A record in a few words, with nothing in it that a caller said or typed."""
    if record is None:
        return "nothing"
    _, name, values, _ = record
    shown = [_shown(name, key, values[key]) for key in SHOWN.get(name, ()) if key in values]
    return " ".join([name, *shown])


def _shown(name: str, key: str, value: Any) -> str:
    if key == "media":
        return " ".join(re.sub(r"[0-9]", "•", item if len(item) < 60 else f"{item[:57]}...") for item in value)
    if name == "StepLeft" and key == "exit":
        return f"by {exit_told(value)}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def exit_told(name: str) -> str:
    """An exit's name without the key that was pressed."""
    return "key •" if name.startswith("key ") else name


def difference_told(difference: Difference) -> str:
    """Where a replay first differs, in a sentence."""
    if difference.why:
        return difference.why
    then, now = difference.recorded, difference.replayed
    if then and now and told(then) == told(now):
        keys = sorted(key for key in {*then[2], *now[2]} if then[2].get(key) != now[2].get(key)) or ["its kind"]
        return f"{told(then)}: {', '.join(keys)} not the same"
    return f"{told(then)} then, {told(now)} now"


def call_told(again: Replayed, hint: str) -> dict[str, Any]:
    """A replayed call as plain values: the verdict, and each step, exit, fact and command with its seconds since the arrival."""
    began = again.recorded[0][3] if again.recorded else 0.0

    def lines(records: Sequence[Record]) -> list[dict[str, Any]]:
        kinds = {"f": "fact", "c": "command"}
        return [
            {"at": round(at - began, 3), "kind": kinds[kind], "what": told([kind, name, values, at])} for kind, name, values, at in records
        ]

    found: dict[str, Any] = {"call": again.call, "flow": again.flow, "version": again.version, "verdict": verdict(again)}
    if again.difference is not None:
        at = round(again.difference.at - began, 3)
        found["difference"] = {"at": at, "what": difference_told(again.difference), "explained_by": hint}
    if again.unknown:
        found["unknown"] = again.unknown
    return {**found, "recorded": lines(again.recorded), "replayed": lines(again.replayed)}


def verdict(result: Replayed | CentreReplayed) -> str:
    """`identical`, `different` or `unknown`."""
    return "identical" if result.identical else "different" if result.difference is not None else "unknown"


def what_if_told(one: WhatIf) -> dict[str, Any]:
    """A call under another version, as plain values."""
    n = one.differs
    found: dict[str, Any] = {
        "call": one.call,
        "version": one.version,
        "verdict": one.verdict,
        "way": _way(one.way),
        "other_way": _way(one.other_way),
    }
    found |= {"end": _end(one.end), "other_end": _end(one.other_end)}
    if n is not None:
        found["differs_at"] = {"step": n + 1, "then": _place(one.way, n), "now": _place(one.other_way, n)}
    if one.undetermined:
        found["undetermined"] = {"from": one.step, "because": one.undetermined}
    return found


def _way(way: Sequence[tuple[str, str]]) -> list[list[str]]:
    return [[step, exit_told(name)] for step, name in way]


def _place(way: Sequence[tuple[str, str]], n: int) -> str:
    if n >= len(way):
        return "the end"
    step, name = way[n]
    return f"{step} by {exit_told(name)}" if name else step


def _end(end: tuple[str, str, str]) -> dict[str, str]:
    outcome, queue, step = end
    return {"outcome": outcome, "queue": queue, "step": step}
