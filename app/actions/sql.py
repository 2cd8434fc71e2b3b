"""A database that is only read: one SELECT with bound parameters, at most so many rows, in a transaction that cannot write.

SQLite files are opened read-only, and a statement that takes longer than its budget is interrupted. In PostgreSQL the transaction is
READ ONLY and has the budget as `statement_timeout`. The address comes from the settings alone, so nothing of a call can choose it.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import date, datetime
from datetime import time as clock_time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
from sqlalchemy import text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolBusy
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from app.core.events import Json

from .dialects import Sql
from .extract import MAX_BODY
from .failures import Failed
from .select import parameters

STEPS: Final = 10_000
"""Steps of SQLite's machine between two looks at the clock."""


class SqlTable:
    """One statement and its database. Raises `ValueError` for an address that is no database we know."""

    def __init__(self, request: Sql, database: str, concurrency: int) -> None:
        self._url = _address(database)
        self._statement, self._rows = text(request.statement), request.rows
        self._bound = sorted(parameters(request.statement))
        self._concurrency = min(concurrency, 8)
        self._engine: AsyncEngine | None = None

    def line(self, values: Mapping[str, Any]) -> str:
        """The request as samples spell it: `sql {"phone":"+4930"}`."""
        return f"sql {orjson.dumps(self._chosen(values)).decode()}"

    async def find(self, values: Mapping[str, Any], seconds: float) -> Json:
        """The rows for these values, in at most so many seconds; raises `Failed`."""
        try:
            async with self._open().connect() as connection:
                await self._hold_back(connection, seconds)
                result = await connection.execute(self._statement, self._chosen(values))
                rows = result.mappings().fetchmany(self._rows + 1)
                found = [{name: _json(value) for name, value in row.items()} for row in rows]
        except DBAPIError as error:
            if "interrupted" in str(error.orig) or "statement timeout" in str(error.orig):
                raise Failed("timeout", f"no answer within {seconds:g} s") from None
            unreachable = error.connection_invalidated or "unable to open" in str(error.orig)
            kind = type(error.orig).__name__ if error.orig else type(error).__name__
            raise Failed("refused" if unreachable else "fault", f"the database says {kind}", passing=unreachable) from None
        except PoolBusy:
            raise Failed("busy", "all connections to the database are in use") from None
        except SQLAlchemyError as error:
            raise Failed("fault", f"the database says {type(error).__name__}") from None
        except Exception as error:  # while connecting, drivers raise what is their own
            raise Failed("refused", f"the database says {type(error).__name__}", passing=isinstance(error, OSError)) from None
        if len(orjson.dumps(found)) > MAX_BODY:
            raise Failed("too_big", f"the rows have more than {MAX_BODY} bytes")
        return {"rows": found[: self._rows], "count": min(len(found), self._rows), "more": len(found) > self._rows}

    async def close(self) -> None:
        """Close all connections."""
        if self._engine is not None:
            await self._engine.dispose()
            self._engine = None

    def _chosen(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return {name: values[name] for name in self._bound}

    def _open(self) -> AsyncEngine:
        if self._engine is None:
            options: dict[str, Any] = {"pool_size": self._concurrency, "max_overflow": 0, "pool_timeout": 1.0, "pool_pre_ping": False}
            if self._url.drivername.startswith("postgresql"):
                options["execution_options"] = {"postgresql_readonly": True}
                options["connect_args"] = {"timeout": 5}
            self._engine = create_async_engine(self._url, hide_parameters=True, **options)
        return self._engine

    async def _hold_back(self, connection: AsyncConnection, seconds: float) -> None:
        """What the database itself enforces: nothing is written, and nothing lasts longer than the budget."""
        if self._url.drivername.startswith("postgresql"):
            await connection.execute(text(f"SET LOCAL statement_timeout = {max(int(seconds * 1000), 1)}"))
            return
        driver = (await connection.get_raw_connection()).driver_connection
        assert driver is not None
        until = time.monotonic() + seconds
        await driver.set_progress_handler(lambda: time.monotonic() > until, STEPS)


def _address(database: str) -> URL:
    """The address with the driver that does not block; a SQLite file read-only."""
    try:
        url = make_url(database)
    except (ArgumentError, NoSuchModuleError, ValueError) as error:
        raise ValueError(
            "the database is not an address such as sqlite:////path/to/file.db or postgresql://user:password@host/name"
        ) from error
    kind = url.get_backend_name()
    if kind == "postgresql":
        return url.set(drivername="postgresql+asyncpg")
    if kind != "sqlite" or not url.database:
        raise ValueError(f"expected a database of sqlite (a file) or postgresql, found {kind}")
    return URL.create("sqlite+aiosqlite", database=f"file:{Path(url.database).resolve()}", query={"mode": "ro", "uri": "true"})


def _json(value: Any) -> Json:
    """A value of a database as JSON has it; what JSON has not is text, and bytes are nothing."""
    if value is None or isinstance(value, str | bool | int | float):
        return value
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() and abs(value) < 2**53 else float(value)
    if isinstance(value, datetime | date | clock_time):
        return value.isoformat()
    if isinstance(value, dict | list):
        found: Json = value
        return found
    return str(value) if isinstance(value, UUID) else None
