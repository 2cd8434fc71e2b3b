"""SQLite: one file, one writing connection in a thread of its own, readers beside it.

A whole plan is one job in the writer's thread: one hand-over, one transaction. `synchronous` is NORMAL in WAL mode, so a
commit costs no flush and outlives the process; a full commit switches to FULL before it begins and flushes everything
before it too. `secure_delete` overwrites what is deleted: a call's key must not survive in a free page.
"""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import aiosqlite
from sqlalchemy import Select, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.store.errors import LeaseLost, StoreBusy, StoreClash, StoreError, StoreFull, StoreRefused
from app.store.statements import Plan

BUSY_MS = 250
READER_BUSY_MS = 2000
READERS = 2

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_RUINED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SYNCHRONOUS = {False: "PRAGMA synchronous=NORMAL", True: "PRAGMA synchronous=FULL"}


class SqliteBackend:
    """An open SQLite database in WAL mode."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, readers: AsyncEngine) -> None:
        self._path = path
        self._writer = writer
        self._readers = readers
        self._full = False

    @classmethod
    async def open(cls, path: Path) -> SqliteBackend:
        """Connect to a file that exists and has its schema."""
        writer = await aiosqlite.connect(path, isolation_level=None, timeout=BUSY_MS / 1000, cached_statements=64)
        try:
            for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON", "cache_size=-16384"):
                await writer.execute_fetchall(f"PRAGMA {pragma}")
        except sqlite3.Error as e:
            await writer.close()
            raise _translate(e, path) from e
        return cls(path, writer, _reading(path))

    async def run(self, plan: Plan, full: bool) -> None:
        """As `Backend.run`."""
        switch = _SYNCHRONOUS[full] if full is not self._full else None
        try:
            # The one place that reaches below aiosqlite's public names: its queue takes a whole transaction as one job.
            await self._writer._execute(_carry_out, self._writer._conn, plan, switch)  # type: ignore[no-untyped-call]
        except sqlite3.Error as e:
            raise _translate(e, self._path) from e
        except ValueError as e:
            raise StoreError(f"{self._path}: the database is closed") from e
        finally:
            self._full = full

    async def rows(self, query: Select[Any]) -> Sequence[Any]:
        """As `Backend.rows`."""
        try:
            async with self._readers.connect() as connection:
                result = await connection.execute(query)
                return list(result)
        except DBAPIError as e:
            raise (_translate(e.orig, self._path) if isinstance(e.orig, sqlite3.Error) else StoreError(str(e.orig))) from e

    async def scrub(self) -> None:
        """Bring the log into the file and empty it: old pages with deleted keys are in neither then."""
        try:
            rows = list(await self._writer.execute_fetchall("PRAGMA wal_checkpoint(TRUNCATE)"))
        except sqlite3.Error as e:
            raise _translate(e, self._path) from e
        if rows[0][0]:
            raise StoreBusy(f"{self._path}: a reader keeps the old log alive; the deleted values are in it until it has gone")

    async def close(self) -> None:
        """Close every connection; the last one brings the log into the file."""
        await self._readers.dispose()
        await self._writer.close()


def _carry_out(db: sqlite3.Connection, plan: Plan, switch: str | None) -> None:
    """Runs in the writer's thread."""
    if db.in_transaction:  # an earlier job could not even roll back
        db.execute("ROLLBACK")
    if switch is not None:
        db.execute(switch)
    db.execute("BEGIN IMMEDIATE")
    try:
        for statement, rows in plan:
            done = db.execute(statement.sqlite, rows[0]) if len(rows) == 1 else db.executemany(statement.sqlite, rows)
            if statement.must_hit and done.rowcount < 1:
                raise LeaseLost("another process has taken the lease, or none was acquired")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def _reading(path: Path) -> AsyncEngine:
    engine = create_async_engine(
        URL.create("sqlite+aiosqlite", database=str(path)),
        isolation_level="AUTOCOMMIT",
        pool_size=READERS,
        max_overflow=0,
        pool_reset_on_return=None,
        connect_args={"timeout": READER_BUSY_MS / 1000},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def only_read(connection: Any, _: Any) -> None:
        cursor = connection.cursor()
        cursor.execute("PRAGMA query_only=ON")
        cursor.close()

    return engine


def _translate(e: sqlite3.Error, path: Path) -> StoreError:
    code = getattr(e, "sqlite_errorcode", 0)
    primary = code & 0xFF
    if primary in _BUSY:
        return StoreBusy(f"{path}: another connection holds the database")
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _no_room(path)):
        return StoreFull(f"{path}: {os.strerror(errno.ENOSPC).lower()}; free some and it goes on by itself")
    if primary in _RUINED:
        return StoreRefused(f"{path}: {e}; keep the file, and restore a backup")
    if isinstance(e, sqlite3.IntegrityError):
        return StoreClash(f"{path}: {e}")
    return StoreError(f"{path}: {e} ({getattr(e, 'sqlite_errorname', 'no code')})")


def _no_room(path: Path) -> bool:
    room = os.statvfs(path.parent)
    return room.f_bavail * room.f_frsize < 64 * 1024
