"""Opening a database: never a guess, never a silent new one.

A SQLite file that is not there is made under another name, given its schema, and only then moved to its own: what lies at
the path is whole or absent. A file that is there must be sound, must be ours by the application id in its header, and must
have a schema that this version knows; an older one is migrated in one transaction. Everything else is `StoreRefused`, and
the file stays as it was.
PostgreSQL databases are migrated under an advisory lock.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Connection, event, inspect, select, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from app.store.backend import Backend
from app.store.errors import StoreClash, StoreError, StoreRefused
from app.store.postgres import CONNECT_SECONDS, PostgresBackend
from app.store.schema import HEAD, installation
from app.store.seal import Keys, make_key, read_key, sync_folder
from app.store.sqlite import SqliteBackend
from app.store.statements import PROOF_ADD

log = structlog.get_logger()

APPLICATION_ID = 0x43575354  # "CWST"
CHECK_WHOLE_BELOW = 64 * 1024 * 1024
_RESUMED_FROM = ("writer", "live", "agents")
_MIGRATION_LOCK = 0x43575354


async def open_backend(url: str) -> Backend:
    """The database at `url`, checked and with today's schema; raises StoreRefused, StoreBusy or StoreError."""
    address = make_url(url)
    if address.drivername == "sqlite+aiosqlite":
        return await _open_sqlite(address)
    if address.drivername == "postgresql+asyncpg":
        return await _open_postgres(address)
    raise StoreRefused(f"database {address.drivername}: use sqlite+aiosqlite:///file or postgresql+asyncpg://...")


async def open_keys(backend: Backend, key_file: Path) -> Keys:
    """The keys of this database; a database that has none yet gets the key in `key_file`, made when it is not there."""
    proof = await _proof(backend)
    if proof is None:
        make_key(key_file)
        keys = Keys(read_key(key_file))
        try:
            await backend.run([(PROOF_ADD, [(1, keys.proof())])], full=True)
        except StoreClash:
            log.info("store.opened_by_two", key_file=str(key_file))
        proof = await _proof(backend)
    keys = Keys(read_key(key_file))
    if proof is None or not keys.proves(proof):
        raise StoreRefused(f"the key file {key_file} is not the key of this database; bring back the one it was made with")
    return keys


async def _proof(backend: Backend) -> bytes | None:
    rows = await backend.rows(select(installation.c.proof))
    return bytes(rows[0].proof) if rows else None


# ---- SQLite -----------------------------------------------------------------------------------------------------------


async def _open_sqlite(address: URL) -> Backend:
    path = _file(address)
    if _is_ready(path):
        await _migrate_file(path)
    else:
        try:
            await _make_file(path)
        except OSError as e:
            raise StoreRefused(f"{path} cannot be made: {e.strerror or e}") from e
    return await SqliteBackend.open(path)


def _file(address: URL) -> Path:
    if not address.database or address.database == ":memory:":
        raise StoreRefused("the database must be a file: sqlite+aiosqlite:////folder/callwright.db")
    return Path(address.database).absolute()


def _is_ready(path: Path) -> bool:
    """True when the file is there and sound, False when there is nothing; refuses everything between."""
    if path.exists():
        _check_file(path)
        return True
    if path.with_name(path.name + "-wal").exists():
        raise StoreRefused(f"{path} is missing, but its log {path.name}-wal is there; restore the file, or move the log away to begin anew")
    return False


async def _make_file(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    try:
        await _migrate_file(draft)
        descriptor = os.open(draft, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        os.link(draft, path)
    except FileExistsError:
        _check_file(path)
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(path.parent)
    log.warning("store.created", path=str(path))


def _check_file(path: Path) -> None:
    """Refuse what is not a sound database of ours; reads only."""
    if path.stat().st_size == 0:
        raise StoreRefused(f"{path} is empty; restore a backup, or remove the file to begin anew")
    try:
        db = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=1.0)
    except sqlite3.Error as e:
        raise StoreRefused(f"{path} cannot be opened: {e}") from e
    try:
        ours = db.execute("PRAGMA application_id").fetchone()[0]
        tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if ours != APPLICATION_ID or "alembic_version" not in tables:
            raise StoreRefused(f"{path} is a database of another program; give another file")
        checks = ["PRAGMA quick_check(1)"]
        if path.stat().st_size > CHECK_WHOLE_BELOW:
            checks = [f"PRAGMA quick_check('{table}')" for table in _RESUMED_FROM if table in tables]
        for check in checks:
            found = db.execute(check).fetchone()[0]
            if found != "ok":
                raise StoreRefused(f"{path} is damaged ({found}); keep it, and restore a backup")
    except sqlite3.OperationalError as e:
        raise StoreError(f"{path} cannot be checked: {e}") from e
    except sqlite3.DatabaseError as e:
        raise StoreRefused(f"{path} is damaged ({e}); keep it, and restore a backup") from e
    finally:
        db.close()


async def _migrate_file(path: Path) -> None:
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(path)), poolclass=NullPool, connect_args={"timeout": 5.0})

    @event.listens_for(engine.sync_engine, "connect")
    def in_our_hands(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # no implicit transactions: tables are made in ours

    @event.listens_for(engine.sync_engine, "begin")
    def begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    await _migrate(engine, str(path))


# ---- PostgreSQL -------------------------------------------------------------------------------------------------------


async def _open_postgres(address: URL) -> Backend:
    engine = create_async_engine(address, poolclass=NullPool, connect_args={"timeout": CONNECT_SECONDS})
    await _migrate(engine, address.render_as_string(hide_password=True))
    return await PostgresBackend.open(address)


# ---- the schema -------------------------------------------------------------------------------------------------------


async def _migrate(engine: AsyncEngine, name: str) -> None:
    try:
        async with engine.begin() as connection:
            await connection.run_sync(_upgrade, name)
    except OSError as e:
        raise StoreError(f"{name} cannot be reached: {e}") from e
    except DBAPIError as e:
        raise StoreError(f"{name}: its schema cannot be read or migrated: {e.orig}") from e
    finally:
        await engine.dispose()


def _upgrade(connection: Connection, name: str) -> None:
    """Bring the schema to HEAD; does nothing, and loads nothing, when it is there."""
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _MIGRATION_LOCK})
    version = version_of(connection)
    if version == HEAD:
        return
    from alembic import command
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise StoreRefused(
            f"{name} has the schema {version} of a newer version (this one knows {HEAD}); upgrade the program, or restore a backup"
        )
    config.attributes["connection"] = connection
    command.upgrade(config, HEAD)
    if connection.dialect.name == "sqlite":
        connection.exec_driver_sql(f"PRAGMA application_id={APPLICATION_ID}")


def version_of(connection: Connection) -> str | None:
    """The revision of the schema, or None where there is none of ours."""
    if not inspect(connection).has_table("alembic_version"):
        return None
    try:
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one_or_none()
    except SQLAlchemyError as e:
        raise StoreRefused(f"the table alembic_version cannot be read: {type(e).__name__}") from e
