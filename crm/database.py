"""Opening the database file: never a guess, never a silent new one.

A file that is empty or not there becomes a database of ours. A file that is there must be sound (SQLite's own check), must
carry our application id, and its schema must be one that this version knows; an older one is migrated in a single
transaction, so that a failure leaves the file as it was. Everything else is refused with `DatabaseRefused`.

Reads go through a few connections without transactions. Writes go through one connection and `BEGIN IMMEDIATE`, committed
with `synchronous=FULL`: what was acknowledged is on disk.
"""

from __future__ import annotations

import os
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, event, text
from sqlalchemy.engine import URL, Connection, Engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from crm import onetrip

APPLICATION_ID = 0x43574352  # "CWCR" in the file's header
BUSY_MS = 2000
READERS = 4


class DatabaseRefused(Exception):
    """The file cannot be used; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Database:
    """The two ways into one open file."""

    reader: AsyncEngine
    writer: AsyncEngine

    async def close(self) -> None:
        """Return once every connection is closed."""
        await self.reader.dispose()
        await self.writer.dispose()


def open_database(path: Path) -> Database:
    """Check, create or migrate the file at `path` and open it. Blocks; raises DatabaseRefused."""
    _prepare(path)
    reader = create_async_engine(
        _url("sqlite+aiosqlite", path),
        async_creator=lambda: onetrip.connect(path),
        isolation_level="AUTOCOMMIT",
        pool_size=READERS,
        max_overflow=0,
        pool_timeout=BUSY_MS / 1000,
        pool_reset_on_return=None,
        skip_autocommit_rollback=True,
        json_serializer=_dump,
        json_deserializer=orjson.loads,
    )
    writer = create_async_engine(
        _url("sqlite+aiosqlite", path),
        pool_size=1,
        max_overflow=0,
        pool_timeout=BUSY_MS / 1000,
        json_serializer=_dump,
        json_deserializer=orjson.loads,
    )
    event.listen(reader.sync_engine, "connect", _tune)
    _begin_immediate(writer.sync_engine)
    return Database(reader, writer)


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


def _url(driver: str, path: Path) -> URL:
    return URL.create(driver, database=str(path))


def _tune(connection: Any, _record: Any) -> None:
    cursor = connection.cursor()
    for pragma in (f"busy_timeout={BUSY_MS}", "journal_mode=WAL", "foreign_keys=ON", "synchronous=FULL"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin_immediate(engine: Engine) -> None:
    """Take transactions out of the driver's hands: it would open them late, and not at all for DDL."""

    def on_connect(connection: Any, record: Any) -> None:
        connection.isolation_level = None
        _tune(connection, record)

    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    event.listen(engine, "connect", on_connect)
    event.listen(engine, "begin", on_begin)


def _prepare(path: Path) -> None:
    if not path.parent.is_dir():
        raise DatabaseRefused(f"{path}: the directory {path.parent} does not exist")
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise DatabaseRefused(f"{path}: cannot be opened for writing: {error.strerror}") from None
    _require_sound(path)
    engine = create_engine(_url("sqlite", path), poolclass=NullPool)
    _begin_immediate(engine)
    try:
        _migrate(engine, path)
    finally:
        engine.dispose()


def _require_sound(path: Path) -> None:
    connection = sqlite3.connect(path, timeout=BUSY_MS / 1000)
    try:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        owner = connection.execute("PRAGMA application_id").fetchone()[0]
    except sqlite3.OperationalError as error:
        raise DatabaseRefused(f"{path}: cannot be read: {error}") from None
    except sqlite3.DatabaseError as error:
        raise DatabaseRefused(
            f"{path}: is damaged or not an SQLite file ({error}); it was left untouched, restore it from a backup"
        ) from None
    finally:
        connection.close()
    if verdict != "ok":
        raise DatabaseRefused(f"{path}: is damaged ({verdict}); it was left as it is, restore it from a backup")
    if tables and owner != APPLICATION_ID:
        raise DatabaseRefused(f"{path}: is a database of another program; name another file")


def _migrate(engine: Engine, path: Path) -> None:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    script = ScriptDirectory.from_config(config)
    known = {revision.revision for revision in script.walk_revisions()}
    with engine.begin() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
        if current is not None and current not in known:
            raise DatabaseRefused(
                f"{path}: has schema {current!r}, written by a newer version; this one knows up to {script.get_current_head()!r}"
            )
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
        connection.execute(text(f"PRAGMA application_id={APPLICATION_ID}"))
