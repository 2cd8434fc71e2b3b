"""A connection for reading that goes to its thread once for each statement.

aiosqlite runs SQLite in a thread, and every step of a cursor (make, execute, fetch, close) is a trip to that thread and back; the
four trips cost more than the lookup of a contact itself. Here the steps are one function, run there in one go. The rows are all
fetched at once, which is what SQLAlchemy does with aiosqlite's own cursors too.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import aiosqlite


class OneTripCursor:
    """As much of a cursor as SQLAlchemy's asyncio adapter uses."""

    rowcount = -1
    lastrowid = -1
    arraysize = 1

    def __init__(self, run: Callable[..., Any]) -> None:
        self._run = run
        self._rows: list[Any] = []
        self.description: Any = None

    async def __aenter__(self) -> OneTripCursor:
        return self

    async def execute(self, statement: str, parameters: Any = ()) -> OneTripCursor:
        """Run the statement and keep its rows."""
        self.description, self._rows = await self._run(statement, parameters)
        return self

    async def fetchall(self) -> list[Any]:
        """Return the rows."""
        return self._rows

    async def close(self) -> None:
        """Nothing is open: the real cursor was closed in the thread."""


class OneTripConnection(aiosqlite.Connection):
    """An aiosqlite connection whose cursors make one trip."""

    def cursor(self) -> Any:
        """Return a cursor at once."""
        return OneTripCursor(self._whole)

    async def _whole(self, statement: str, parameters: Any) -> Any:
        return await self._execute(self._read, statement, parameters)  # type: ignore[no-untyped-call]

    def _read(self, statement: str, parameters: Any) -> tuple[Any, list[Any]]:
        cursor = self._conn.execute(statement, parameters)
        try:
            return cursor.description, cursor.fetchall()
        finally:
            cursor.close()


async def connect(path: Path) -> OneTripConnection:
    """Open the file; the connection belongs to a daemon thread of its own."""
    connection = OneTripConnection(lambda: sqlite3.connect(path), iter_chunk_size=64)
    connection._thread.daemon = True
    return await connection  # type: ignore[return-value]
