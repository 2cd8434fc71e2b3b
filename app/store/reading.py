"""Reading a journal beside the process that writes it, or without one: for replays. Nothing is made, migrated or changed.

Rows come as (number, call, records), in order; the centre's own have the call "". What a call said is opened with that call's key, so
of a call that was forgotten there is nothing to read.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any, TypeAlias

from sqlalchemy import Select, select
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.store.backend import Backend
from app.store.batch import Record
from app.store.codec import loads
from app.store.errors import Forgotten, StoreError, StoreRefused
from app.store.history import History
from app.store.keyring import CENTRE, KeyRing, journal_place
from app.store.opening import open_backend, open_keys, version_of
from app.store.schema import HEAD, journal, programs
from app.store.seal import Keys

Row: TypeAlias = tuple[int, str, list[Record]]
AT_ONCE = 2000
ENDED_AT_ONCE = 500


class Journal:
    """One database, read."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self._backend = backend
        self._ring = KeyRing(backend, keys)
        self._history = History(backend, self._ring)

    @classmethod
    async def open(cls, url: str, key_file: Path) -> Journal:
        """Open what is there; raises StoreRefused with a clear text where it is not there, of another version, or not opened by the key."""
        address = _address(url, key_file)
        _refuse_unless_todays(address, await _version(address))
        backend = await open_backend(url)
        try:
            return cls(backend, await open_keys(backend, key_file))
        except BaseException:
            await backend.close()
            raise

    async def close(self) -> None:
        """Close every connection."""
        await self._backend.close()

    async def find(self, text: str) -> list[str]:
        """Ids of calls that begin with the text, or whose uniqueid or linkedid it is."""
        return await self._history.find_call(text)

    async def ended(self, since: float, until: float) -> list[dict[str, Any]]:
        """The history's rows of calls that arrived in this time and have ended, in the order of their arrival."""
        found: dict[str, dict[str, Any]] = {}
        before: float | None = None
        while True:
            rows = await self._history.ended_calls(ENDED_AT_ONCE, before)
            found |= {row["call"]: row for row in rows if since <= (row["arrived"] or row["ended"]) < until}
            if len(rows) < ENDED_AT_ONCE or rows[-1]["ended"] < since or rows[-1]["ended"] == before:
                return sorted(found.values(), key=lambda row: (row["arrived"] or row["ended"], row["call"]))
            before = rows[-1]["ended"]

    async def programs(self) -> dict[str, tuple[str, Any]]:
        """What was run, by hash: flow ("" for queues and agents) and plain JSON."""
        rows = await self._backend.rows(select(programs))
        return {row.hash: (row.flow, json.loads(row.program)) for row in rows}

    async def call(self, call: str) -> list[Row]:
        """The rows of a call, and those of the centre between its first and its last; empty where there are none. Raises Forgotten."""
        await self._fetch_seals([call])
        if call in self._ring.seals and self._ring.seals[call] is None:
            raise Forgotten(call)
        own = await self._backend.rows(select(journal.c.seq).where(journal.c.call == call).order_by(journal.c.seq))
        if not own or not call:
            return []
        between = _ROWS.where(journal.c.call.in_([call, CENTRE]), journal.c.seq >= own[0].seq, journal.c.seq <= own[-1].seq)
        return [self._opened(row) for row in await self._backend.rows(between)]

    async def everything(self, first: int, until: float) -> AsyncIterator[Row]:
        """All rows from a number on, up to a time. Raises Forgotten where a call among them was."""
        after = first - 1
        while True:
            rows = await self._backend.rows(_ROWS.where(journal.c.seq > after).limit(AT_ONCE))
            await self._fetch_seals(row.call for row in rows)
            for row in rows:
                if row.at >= until:
                    return
                yield self._opened(row)
            if len(rows) < AT_ONCE:
                return
            after = rows[-1].seq

    async def centre_before(self, at: float) -> AsyncIterator[Row]:
        """The centre's own rows up to a time, the latest first."""
        before: int | None = None
        while True:
            query = select(journal).where(journal.c.call == CENTRE, journal.c.at <= at).order_by(journal.c.seq.desc())
            rows = await self._backend.rows(query.limit(AT_ONCE) if before is None else query.where(journal.c.seq < before).limit(AT_ONCE))
            for row in rows:
                yield self._opened(row)
            if len(rows) < AT_ONCE:
                return
            before = rows[-1].seq

    async def _fetch_seals(self, calls: Iterable[str]) -> None:
        self._ring.seals |= await self._ring.missing(calls)

    def _opened(self, row: Any) -> Row:
        seal = self._ring.seals.get(row.call)
        if seal is None:
            raise Forgotten(row.call)
        return row.seq, row.call, loads(seal.open(journal_place(row.call, row.seq, row.at), bytes(row.payload)))


_ROWS: Select[Any] = select(journal).order_by(journal.c.seq)


def _address(url: str, key_file: Path) -> URL:
    """Where the database is; refuses, before anything could be made, what is not there."""
    try:
        address = make_url(url)
    except ArgumentError:
        raise StoreRefused(f"{url.partition(':')[0]!r} does not begin a database's address: sqlite+aiosqlite:////file") from None
    if address.drivername == "sqlite+aiosqlite" and not (address.database and Path(address.database).is_file()):
        raise StoreRefused(f"there is no database {address.database}")
    if not key_file.exists():
        raise StoreRefused(f"the key file {key_file} is not there; without it the database cannot be read")
    return address


def _refuse_unless_todays(address: URL, version: str | None) -> None:
    if version != HEAD:
        name, schema = address.render_as_string(hide_password=True), version or "of another program"
        mend = "start the application once with this version, and it is brought up to date"
        raise StoreRefused(f"{name} has the schema {schema}, and this version reads {HEAD}; {mend}")


async def _version(address: URL) -> str | None:
    if address.drivername not in ("sqlite+aiosqlite", "postgresql+asyncpg"):
        raise StoreRefused(f"database {address.drivername}: use sqlite+aiosqlite:////file or postgresql+asyncpg://...")
    engine = create_async_engine(address, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            return await connection.run_sync(version_of)
    except (OSError, SQLAlchemyError) as error:
        raise StoreError(f"{address.render_as_string(hide_password=True)} cannot be read: {getattr(error, 'orig', error)}") from error
    finally:
        await engine.dispose()
