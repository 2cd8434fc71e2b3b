"""The journal of a running installation, replayed: all of it comes out identical, or this fails with the first difference."""

from __future__ import annotations

from collections.abc import Set
from pathlib import Path

from app.core.defined import Kept
from app.core.flow.replay import replay_call
from app.core.flow.what_if import what_if
from app.core.replay_centre import replay_centre
from app.replaying import place_of
from app.store import Journal


async def replayed_calls(state: Path, known: Set[str]) -> set[str]:
    """Run every call again that has ended and is not known yet, also under its own version as if it were another; gives their ids."""
    journal = await _journal(state)
    try:
        kept = Kept(await journal.programs())
        calls = {row["call"] for row in await journal.ended(0.0, float("inf"))} - known
        for call in sorted(calls):
            rows = await journal.call(call)
            again = replay_call(call, rows, kept)
            assert again.identical, f"{call} is replayed otherwise: {again.difference} {again.unknown}"
            assert again.replayed == again.recorded
            itself = what_if(again, rows, kept.flow(again.flow, again.version), kept)
            assert itself.verdict in ("same way", "undetermined"), f"{call} would go another way under its own version: {itself}"
        return calls
    finally:
        await journal.close()


async def replayed_centre(state: Path) -> int:
    """Run everything again, the ACD included; gives how many events there were."""
    journal = await _journal(state)
    try:
        rows = [row async for row in journal.everything(1, float("inf"))]
        again = replay_centre(rows, Kept(await journal.programs()))
        assert again.identical, f"the centre is replayed otherwise: {again}"
        return again.events
    finally:
        await journal.close()


async def _journal(state: Path) -> Journal:
    place = place_of(state)
    return await Journal.open(place.database, place.key)
