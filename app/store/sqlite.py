"""SQLite: one file, one writing connection with a thread of its own, readers beside it.

`synchronous` is NORMAL in WAL mode, so an ordinary commit costs no flush and outlives the process; a full one switches to FULL
before it begins and flushes everything before it too. `secure_delete` overwrites what is deleted: a call's key must not survive in
a free page.

**At once, or in the thread.** An ordinary commit appends some pages to the log, which takes 0.05 ms where it is asked for, and 0.6 ms
of two threads' time when it is handed over and back. So it is made at once (`run_now`), as long as nothing of it may take long:
what flushes (full commits, bringing the log into the file, the first commit of a log begun anew), what waits for a lock, and
everything for a while after a commit that was slow, is a job of the thread (`run`).
"""

from __future__ import annotations

import asyncio
import errno
import os
import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import aiosqlite
import structlog
from sqlalchemy import Select, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.store.errors import LeaseLost, StoreBusy, StoreClash, StoreError, StoreFull, StoreRefused
from app.store.statements import Plan

log = structlog.get_logger()

BUSY_MS = 250
READER_BUSY_MS = 2000
READERS = 2
LOG_COMMITS = 200
"""Commits after which the log is brought into the file: some 1,500 pages."""
SLOW = 0.05
"""Seconds that a commit made at once may take before the thread is given the next ones."""
SPARED = 10.0
"""Seconds for which it is given them."""

_BUSY = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_RUINED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


class SqliteBackend:
    """An open SQLite database in WAL mode."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, readers: AsyncEngine) -> None:
        self._path = path
        self._writer = writer
        self._readers = readers
        self._asked = 0  # jobs handed to the thread, counted here alone
        self._done = 0  # those it has finished, counted there alone, and so whatever becomes of who asked
        self._in_log = 0
        self._spared_until = 0.0
        self._tidying: asyncio.Task[None] | None = None

    @classmethod
    async def open(cls, path: Path) -> SqliteBackend:
        """Connect to a file that exists and has its schema."""
        writer = await aiosqlite.connect(path, isolation_level=None, timeout=0, cached_statements=64, check_same_thread=False)
        try:
            for pragma in (
                "journal_mode=WAL",
                "synchronous=NORMAL",
                "foreign_keys=ON",
                "secure_delete=ON",
                "cache_size=-16384",
                "wal_autocheckpoint=0",
            ):
                await writer.execute_fetchall(f"PRAGMA {pragma}")
        except sqlite3.Error as e:
            await writer.close()
            raise _translate(e, path) from e
        return cls(path, writer, _reading(path))

    def can_run_now(self) -> bool:
        """As `Backend.can_run_now`."""
        return self._asked == self._done and 0 < self._in_log < LOG_COMMITS and time.monotonic() >= self._spared_until

    def run_now(self, plan: Plan) -> bool:
        """As `Backend.run_now`."""
        began = time.monotonic()
        try:
            _carry_out(self._writer._conn, plan)
        except (sqlite3.Error, ValueError):
            return False  # the thread says what is wrong, after the patience that it has
        self._in_log += 1
        if time.monotonic() - began > SLOW:
            self._spared_until = began + SPARED
        return True

    async def run(self, plan: Plan, full: bool) -> None:
        """As `Backend.run`."""
        await self._in_thread(_carry_out_fully if full else _carry_out, plan)
        self._in_log += 1
        if self._in_log > LOG_COMMITS and self._tidying is None:
            self._tidying = asyncio.create_task(self._tidy())

    async def _tidy(self) -> None:
        """Bring the log into the file; whoever commits meanwhile waits in the thread. What fails is tried again with the next log."""
        try:
            await self._in_thread(_bring_log_into_file)
        except StoreError as e:
            log.warning("store.log_not_brought_in", reason=str(e))
        finally:
            self._in_log, self._tidying = 0, None

    async def _in_thread(self, work: Callable[..., Any], *given: Any) -> Any:
        """One job of the writer's thread. The one place that reaches below aiosqlite's public names: a whole transaction is one job."""
        self._asked += 1
        try:
            return await self._writer._execute(self._patiently, self._writer._conn, work, *given)  # type: ignore[no-untyped-call]
        except sqlite3.Error as e:
            raise _translate(e, self._path) from e
        except ValueError as e:
            raise StoreError(f"{self._path}: the database is closed") from e

    def _patiently(self, db: sqlite3.Connection, work: Callable[..., Any], *given: Any) -> Any:
        """In the thread: do something that may wait for a lock for `BUSY_MS`, which nobody else may."""
        try:
            db.execute(f"PRAGMA busy_timeout={BUSY_MS}")
            return work(db, *given)
        finally:
            db.execute("PRAGMA busy_timeout=0")
            self._done += 1

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
        busy, _, _ = await self._in_thread(_empty_log)
        self._in_log = 0
        if busy:
            raise StoreBusy(f"{self._path}: a reader keeps the old log alive; the deleted values are in it until it has gone")

    async def close(self) -> None:
        """Close every connection; the last one brings the log into the file."""
        if self._tidying is not None:
            await self._tidying
        await self._readers.dispose()
        await self._writer.close()


# ---- what is done with the connection, here or in its thread ------------------------------------------------------------


def _carry_out(db: sqlite3.Connection, plan: Plan) -> None:
    """One transaction: all of the plan, or nothing."""
    if db.in_transaction:  # an earlier job could not even roll back
        db.execute("ROLLBACK")
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


def _carry_out_fully(db: sqlite3.Connection, plan: Plan) -> None:
    """The same, flushed to the disk."""
    db.execute("PRAGMA synchronous=FULL")
    try:
        _carry_out(db, plan)
    finally:
        db.execute("PRAGMA synchronous=NORMAL")


def _bring_log_into_file(db: sqlite3.Connection) -> None:
    """As much of it as readers allow; the next commit begins the log anew when that was all."""
    db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()


def _empty_log(db: sqlite3.Connection) -> tuple[int, int, int]:
    found: tuple[int, int, int] = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return found


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
