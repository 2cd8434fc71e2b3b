"""PostgreSQL: the same plans in asyncpg's transactions.

`synchronous_commit` is off for ordinary commits and on for full ones, which is what NORMAL and FULL are to SQLite: the
server's own crash may lose the last half second of ordinary commits, ours never does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Select
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from app.store.errors import LeaseLost, StoreBusy, StoreClash, StoreError, StoreFull
from app.store.statements import Plan

LOCK_MS = 250
CONNECT_SECONDS = 5.0
COMMAND_SECONDS = 30.0
READERS = 4

_BUSY = {"55P03", "40001", "40P01", "57014"}
_FULL = {"53100"}


class PostgresBackend:
    """An open PostgreSQL database."""

    def __init__(self, writers: AsyncEngine, readers: AsyncEngine) -> None:
        self._writers = writers
        self._readers = readers

    @classmethod
    async def open(cls, url: URL) -> PostgresBackend:
        """Connect to a database that has its schema."""
        return cls(_writing(url), _reading(url))

    def can_run_now(self) -> bool:
        """As `Backend.can_run_now`; a server always takes a moment."""
        return False

    def run_now(self, plan: Plan) -> bool:
        """As `Backend.run_now`."""
        return False

    async def run(self, plan: Plan, full: bool) -> None:
        """As `Backend.run`."""
        try:
            async with self._writers.begin() as connection:
                if full:
                    await connection.exec_driver_sql("SET LOCAL synchronous_commit TO on")
                for statement, rows in plan:
                    done = await connection.exec_driver_sql(statement.postgresql, rows[0] if len(rows) == 1 else rows)
                    if statement.must_hit and done.rowcount < 1:
                        raise LeaseLost("another process has taken the lease, or none was acquired")
        except DBAPIError as e:
            raise _translate(e) from e
        except OSError as e:
            raise StoreError(f"the database cannot be reached: {e}") from e

    async def rows(self, query: Select[Any]) -> Sequence[Any]:
        """As `Backend.rows`."""
        try:
            async with self._readers.connect() as connection:
                result = await connection.execute(query)
                return list(result)
        except DBAPIError as e:
            raise _translate(e) from e
        except OSError as e:
            raise StoreError(f"the database cannot be reached: {e}") from e

    async def scrub(self) -> None:
        """Vacuum the tables that held the values; the server's own log and backups keep them for as long as it is told to."""
        try:
            async with self._readers.connect() as connection:
                await connection.exec_driver_sql("VACUUM call_keys, history")
        except DBAPIError as e:
            raise _translate(e) from e

    async def close(self) -> None:
        """Close every connection."""
        await self._writers.dispose()
        await self._readers.dispose()


def _writing(url: URL) -> AsyncEngine:
    return create_async_engine(url, pool_size=2, max_overflow=0, connect_args=_connection("callwright writer"))


def _reading(url: URL) -> AsyncEngine:
    connection = _connection("callwright reader")
    return create_async_engine(
        url, pool_size=READERS, max_overflow=0, pool_pre_ping=True, isolation_level="AUTOCOMMIT", connect_args=connection
    )


def _connection(name: str) -> dict[str, Any]:
    settings = {"application_name": name, "synchronous_commit": "off", "lock_timeout": f"{LOCK_MS}ms"}
    return {"server_settings": settings, "timeout": CONNECT_SECONDS, "command_timeout": COMMAND_SECONDS}


def _translate(e: DBAPIError) -> StoreError:
    state = getattr(e.orig, "sqlstate", None) or ""
    if state in _BUSY:
        return StoreBusy("another connection holds the rows")
    if state in _FULL:
        return StoreFull("no space left on the database server; free some and it goes on by itself")
    if state.startswith("23"):
        return StoreClash("a row is there already")
    if e.connection_invalidated:
        return StoreError("the connection to the database broke")
    return StoreError(f"the database refused ({state or 'no code'}): {type(e.orig).__name__}")
