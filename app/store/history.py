"""What is known of calls, ended or not: read beside the commits."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import or_, select

from app.store.backend import Backend
from app.store.batch import Record
from app.store.codec import loads
from app.store.draft import CLEAR_SECONDS, CLEAR_TEXTS
from app.store.errors import Forgotten
from app.store.keyring import KeyRing, journal_place
from app.store.schema import PERSONAL, call_keys, history, journal

FOUND_AT_MOST = 50
_HISTORY = select(history, call_keys.c.wrapped, call_keys.c.call.label("keyed")).outerjoin(call_keys, call_keys.c.call == history.c.call)


class History:
    """The calls in one database."""

    def __init__(self, backend: Backend, ring: KeyRing) -> None:
        self._backend, self._ring = backend, ring

    async def ended_calls(self, limit: int, before: float | None = None, process: str | None = None) -> list[dict[str, Any]]:
        """Calls that ended, the latest first, at most `limit`, ended before `before`: the dicts that `Batch.history` took.

        Of a forgotten call `ani`, `dnis`, `remarks` and `contact` are None, and `forgotten` is True.
        """
        query = _HISTORY
        if before is not None:
            query = query.where(history.c.ended < before)
        if process is not None:
            query = query.where(history.c.process == process)
        rows = await self._backend.rows(
            query.where(history.c.ended.is_not(None)).order_by(history.c.ended.desc(), history.c.call).limit(limit)
        )
        return [self._told(row._mapping) for row in rows]

    async def ended_call(self, call: str) -> dict[str, Any] | None:
        """One call that ended, as in `ended_calls`; None when there is none of that id."""
        rows = await self._backend.rows(_HISTORY.where(history.c.call == call, history.c.ended.is_not(None)))
        return self._told(rows[0]._mapping) if rows else None

    def _told(self, row: Mapping[str, Any]) -> dict[str, Any]:
        call = row["call"]
        personal: list[Any] = [None] * len(PERSONAL)
        if row["wrapped"] is not None and row["personal"] is not None:
            personal = loads(self._ring.keys.unwrap(call, bytes(row["wrapped"])).open(f"history:{call}", bytes(row["personal"])))
        facts = {name: row[name] for name in ("call", "cause", *CLEAR_TEXTS, *CLEAR_SECONDS)}
        return {**facts, **dict(zip(PERSONAL, personal, strict=True)), "forgotten": row["keyed"] is not None and row["wrapped"] is None}

    async def timeline(self, call: str) -> list[tuple[float, Record]] | None:
        """Every record of a call with its time, live or ended; None when the call is unknown. Raises Forgotten."""
        if not call:
            return None
        seals = await self._ring.stored([call])
        if call not in seals:
            return None
        seal = seals[call]
        if seal is None:
            raise Forgotten(call)
        query = select(journal.c.seq, journal.c.at, journal.c.payload).where(journal.c.call == call).order_by(journal.c.seq)
        told: list[tuple[float, Record]] = []
        for seq, at, payload in await self._backend.rows(query):
            told += [(at, record) for record in loads(seal.open(journal_place(call, seq, at), bytes(payload)))]
        return told

    async def calls_of(self, numbers: Iterable[str]) -> list[tuple[str, float | None]]:
        """Calls that ended and whose caller's number is one of these, not forgotten yet: id and when they arrived, the oldest first."""
        hashes = [self._ring.keys.hash_number(number) for number in numbers]
        query = select(history.c.call, history.c.arrived).where(history.c.ani_hash.in_(hashes)).order_by(history.c.arrived, history.c.call)
        return [(call, arrived) for call, arrived in await self._backend.rows(query)]

    async def find_call(self, prefix_or_uniqueid: str) -> list[str]:
        """Ids of calls, live or ended, that begin with the text, or whose uniqueid or linkedid it is; sorted, 50 at most."""
        text = prefix_or_uniqueid
        if not text or "\x00" in text:
            return []
        found = set()
        after = text[:-1] + chr(ord(text[-1]) + 1)
        pbx = select(history.c.call).where(or_(history.c.uniqueid == text, history.c.linkedid == text))
        for column in (call_keys.c.call, history.c.call):
            prefix = select(column).where(column >= text, column < after).order_by(column)
            found |= {row[0] for row in await self._backend.rows(prefix.limit(FOUND_AT_MOST))}
        found |= {row[0] for row in await self._backend.rows(pbx.limit(FOUND_AT_MOST))}
        return sorted(found)[:FOUND_AT_MOST]
