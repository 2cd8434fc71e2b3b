"""A real Tryton for tests: installed into an environment of its own, with parties and opportunities in a SQLite database.

The environment and one empty database are made once, under build/tryton, and kept; each server gets a copy of the database. Where the
packages cannot be installed, `running_tryton` skips the test and says why.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.phones import free_port, until

KEPT = Path(__file__).parents[1] / "build" / "tryton"
INSIDE = Path(__file__).with_name("tryton_inside.py")
PACKAGES = (
    "trytond==8.2.1",
    "trytond-party==8.2.0",
    "trytond-sale-opportunity==8.2.0",
    "proteus==8.2.0",
    "tryton-naiad==8.2.0",
    "phonenumbers>=9,<10",
)


class Tryton:
    """A running server."""

    def __init__(self, directory: Path, port: int, key: str) -> None:
        self.directory, self.key = directory, key
        self.origin = f"http://127.0.0.1:{port}"
        self.base_url = f"{self.origin}/crm"

    def add(self, *parties: dict[str, Any]) -> list[int]:
        """Keep parties (name, code, mechanisms as pairs of type and value, identifiers), through Tryton's own library; their ids."""
        told = _inside("add", self.base_url, self.key, given=json.dumps(parties))
        return list(json.loads(told))

    def ask(self, path: str, body: Any = None, method: str = "") -> Any:
        """A look into it, past everything that is tested."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.base_url}/rest/model/{path}", data, method=method or ("POST" if data else "GET"))
        request.add_header("Authorization", f"Bearer {self.key}")
        request.add_header("Content-Type", "application/json")
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=10) as answer:
            return json.loads(answer.read())


@contextmanager
def running_tryton(directory: Path) -> Iterator[Tryton]:
    """A server with a database of its own, in which nobody is yet."""
    template, key = _ready()
    directory.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, directory / "crm.sqlite")
    port = free_port(socket.SOCK_STREAM)
    config = _config(directory, port)
    with (directory / "trytond.log").open("wb") as log:
        server = subprocess.Popen([_program("trytond"), "-c", str(config), "-d", "crm"], stdout=log, stderr=log)
    tryton = Tryton(directory, port, key)
    try:
        until(lambda: server.poll() is not None or _answers(tryton.origin), 30, "Tryton to answer")
        assert server.poll() is None, (directory / "trytond.log").read_text()[-2000:]
        yield tryton
    finally:
        server.terminate()
        server.wait(10)


def _ready() -> tuple[Path, str]:
    """The empty database and its key, made on first use: half a minute."""
    KEPT.mkdir(parents=True, exist_ok=True)
    version = hashlib.sha256("\n".join((*PACKAGES, INSIDE.read_text(), sys.version)).encode()).hexdigest()
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        stamp = KEPT / "ready.json"
        if not stamp.exists() or json.loads(stamp.read_text())["version"] != version:
            stamp.unlink(missing_ok=True)
            _install()
            stamp.write_text(json.dumps({"version": version, "key": _make_database()}))
        return KEPT / "database" / "crm.sqlite", json.loads(stamp.read_text())["key"]


def _install() -> None:
    environment = KEPT / "venv"
    try:
        if not (environment / "bin" / "python").exists():
            subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, capture_output=True, timeout=120)
        pip = [_program("python"), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
        subprocess.run(pip, check=True, capture_output=True, timeout=300)
    except (OSError, subprocess.SubprocessError) as error:
        told = (getattr(error, "stderr", b"") or b"").decode(errors="replace").strip().splitlines()
        pytest.skip(f"Tryton cannot be installed here: {told[-1] if told else type(error).__name__}")


def _make_database() -> str:
    """A database with the modules and a company in it; the key that its REST API can be asked with."""
    folder, key = KEPT / "database", secrets.token_hex(32)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "crm.sqlite").touch()
    (folder / "password").write_text(secrets.token_urlsafe(12))
    config = str(_config(folder, 1))
    admin = [_program("trytond-admin"), "-c", config, "-d", "crm"]
    environment = {**os.environ, "TRYTONPASSFILE": str(folder / "password")}
    for arguments in (["--all", "--email", "admin@example.org"], ["-u", "party", "sale_opportunity", "--activate-dependencies"]):
        subprocess.run([*admin, *arguments], env=environment, check=True, capture_output=True, timeout=300)
    _inside("prepare", config, key)
    return key


def _config(folder: Path, port: int) -> Path:
    path = folder / "trytond.conf"
    path.write_text(f"[database]\nuri = sqlite://\npath = {folder}\n[web]\nlisten = 127.0.0.1:{port}\n")
    return path


def _inside(*arguments: str, given: str = "") -> str:
    """Run the script that uses Tryton's own libraries; what it prints."""
    told = subprocess.run([_program("python"), "-P", str(INSIDE), *arguments], input=given, capture_output=True, text=True, timeout=120)
    assert told.returncode == 0, told.stderr[-2000:]
    return told.stdout


def _program(name: str) -> str:
    return str(KEPT / "venv" / "bin" / name)


def _answers(origin: str) -> bool:
    try:
        urllib.request.build_opener(urllib.request.ProxyHandler({})).open(origin, timeout=1).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True
