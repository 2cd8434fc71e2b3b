"""How far each reader of the feed has got, and what it did not take."""

from __future__ import annotations

from sqlalchemy import select

from app.store import statements as sql
from app.store.backend import Backend
from app.store.schema import cursors, undelivered


class Readers:
    """The readers of one database's journal."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    async def cursor(self, reader: str) -> tuple[int, int] | None:
        """How far a reader of the feed has got: a journal row and a record in it; None for a new reader."""
        rows = await self._backend.rows(select(cursors.c.seq, cursors.c.step).where(cursors.c.reader == reader))
        return (rows[0].seq, rows[0].step) if rows else None

    async def move_cursor(self, reader: str, seq: int, step: int) -> None:
        """A reader has got this far."""
        await self._backend.run([(sql.CURSOR_PUT, [(reader, seq, step)])], full=False)

    async def bury(self, reader: str, seq: int, step: int, at: float, reason: str) -> None:
        """Note that a reader did not take a record, and move past it."""
        await self._backend.run([(sql.BURY, [(reader, seq, step, at, reason)]), (sql.CURSOR_PUT, [(reader, seq, step)])], full=True)

    async def unbury(self, reader: str, seq: int, step: int) -> None:
        """A record that was not taken has been taken after all."""
        await self._backend.run([(sql.UNBURY, [(reader, seq, step)])], full=True)

    async def buried(self, reader: str, limit: int = 1000) -> list[tuple[int, int, float, str]]:
        """What a reader did not take: (journal row, record, when, why), in order."""
        query = select(undelivered).where(undelivered.c.reader == reader).order_by(undelivered.c.seq, undelivered.c.step)
        return [(row.seq, row.step, row.at, row.reason) for row in await self._backend.rows(query.limit(limit))]
