"""A database for a test: a new SQLite file, and a new database in a throwaway PostgreSQL where one can be started.

`store_url` runs a test once on each. The PostgreSQL cluster lives in a temporary folder, on a free port of 127.0.0.1, under its
own user, for the length of the test run. Load it with `pytest_plugins = ("tests.databases",)`.
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Cluster:
    """A running PostgreSQL, or the reason why there is none."""

    port: int = 0
    password: str = ""
    missing: str = ""

    def url(self, database: str, scheme: str = "postgresql+asyncpg") -> str:
        """The address of one of its databases."""
        return f"{scheme}://postgres:{self.password}@127.0.0.1:{self.port}/{database}"


@pytest.fixture(scope="session")
def postgres_cluster() -> Iterator[Cluster]:
    """One PostgreSQL for the test run, stopped and removed at its end."""
    programs = _programs()
    user = "postgres" if os.geteuid() == 0 else None
    if programs is None:
        yield Cluster(missing="PostgreSQL's initdb and pg_ctl are not installed (Debian: apt-get install postgresql)")
        return
    if user and not _exists(user):
        yield Cluster(missing="running as root, and there is no user `postgres` to run PostgreSQL as")
        return
    folder = Path(tempfile.mkdtemp(prefix="callwright-postgres-"))
    if user:
        shutil.chown(folder, user)
    try:
        cluster = _start(programs, folder, user)
        yield cluster
        if not cluster.missing:
            _run([programs / "pg_ctl", "-D", folder / "data", "-m", "immediate", "-w", "stop"], folder, user)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(programs: Path, folder: Path, user: str | None) -> Cluster:
    password, port = secrets.token_hex(16), _free_port()
    secret = folder / "password"
    secret.write_text(password, encoding="ascii")
    if user:
        shutil.chown(secret, user)
    data = folder / "data"
    made = _run(
        [
            programs / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "-A",
            "scram-sha-256",
            "--pwfile",
            secret,
            "-E",
            "UTF8",
            "--locale=C.UTF-8",
            "-N",
        ],
        folder,
        user,
    )
    options = f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c fsync=off -c shared_buffers=16MB"
    started = made or _run([programs / "pg_ctl", "-D", data, "-l", folder / "log", "-w", "-t", "30", "-o", options, "start"], folder, user)
    return Cluster(missing=f"PostgreSQL did not start: {started}") if started else Cluster(port, password)


def _run(command: list[str | Path], folder: Path, user: str | None) -> str:
    """Run one of PostgreSQL's programs; gives the end of what it said when it failed, else nothing."""
    done = subprocess.run(command, cwd=folder, user=user, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return (done.stderr or done.stdout).strip()[-300:] if done.returncode else ""


def _programs() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: int(p.parts[-3]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@pytest_asyncio.fixture(params=["sqlite", "postgresql"])
async def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[str]:
    """The address of a database that does not exist yet (SQLite) or is empty (PostgreSQL)."""
    if request.param == "sqlite":
        yield f"sqlite+aiosqlite:///{tmp_path}/callwright.db"
        return
    cluster: Cluster = request.getfixturevalue("postgres_cluster")
    if cluster.missing:
        pytest.skip(cluster.missing)
    import asyncpg

    name = f"test_{os.getpid()}_{next(_numbers)}"
    admin = await asyncpg.connect(cluster.url("postgres", "postgresql"))
    try:
        await admin.execute(f"CREATE DATABASE {name}")
        yield cluster.url(name)
        await admin.execute(f"DROP DATABASE {name} WITH (FORCE)")
    finally:
        await admin.close()
