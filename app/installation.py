"""What `callwright up` has put into its state directory, and what runs out of it. Nothing is started or ended in here.

Only the standard library is imported: every command of the command line begins here.
"""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

DEMO = Path(__file__).parent / "demo"
HERE = Path("build/up")


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens on 127.0.0.1."""

    sip: int = 5060
    ari: int = 8088
    ami: int = 5038
    rtp_start: int = 10000
    rtp_end: int = 15000
    agi: int = 4573
    api: int = 8080
    crm: int = 8081
    smtp: int = 8025
    mail: int = 8082
    watchdog: int = 8083


@dataclass(frozen=True, slots=True)
class Part:
    """One process: how it is started, and how one can tell that it is ready (an address that answers with 200)."""

    name: str
    argv: tuple[str, ...]
    address: str
    ready: str
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PartState:
    """A part as `callwright status` tells it."""

    name: str
    pid: int | None
    address: str
    state: str
    why: str = ""


class Installed:
    """One state directory, and the processes started from it."""

    def __init__(self, state: Path, ports: Ports | None = None, *, faults: bool = False) -> None:
        self.state, self.faults = state.absolute(), faults
        kept = self.state / "ports.json"
        self.ports = ports or (Ports(**json.loads(kept.read_text())) if kept.exists() else Ports())

    @property
    def api(self) -> tuple[str, str]:
        """Where the application's API is, and the admin's token."""
        return f"http://127.0.0.1:{self.ports.api}", json.loads((self.state / "secrets.json").read_text())["admin_token"]

    @property
    def config(self) -> Path:
        """The settings that the application runs with."""
        return self.state / "callwright.toml"

    def parts(self) -> tuple[Part, ...]:
        """Our own processes, in the order in which they are started."""
        p, python = self.ports, sys.executable
        crm: tuple[str, ...] = (python, "-m", "crm", "--host", "127.0.0.1", "--port", str(p.crm), "--database", str(self.state / "crm.db"))
        crm += ("--token-file", str(self.state / "crm.token"), "--seed", "demo") + (("--faults",) if self.faults else ())
        crm += tuple(f"--framed-by=http://{host}:{p.api}" for host in ("127.0.0.1", "localhost"))
        catcher = (python, "-m", "app.channels.catcher", "--smtp", f"127.0.0.1:{p.smtp}", "--http", f"127.0.0.1:{p.mail}")
        crm_url, mail_url, api_url = (f"http://127.0.0.1:{port}" for port in (p.crm, p.mail, p.api))
        return (
            Part("crm", crm, crm_url, f"{crm_url}/healthz"),
            Part("mail", (*catcher, "--directory", str(self.state / "mail")), mail_url, f"{mail_url}/healthz"),
            Part("application", (python, "-m", "app.cli", "run", "--config", str(self.config)), api_url, f"{api_url}/readyz"),
            Part("watchdog", (python, "-m", "app.watchdog", "--config", str(self.config)), "", ""),
        )

    def pid(self, name: str) -> int | None:
        """The pid of a part that runs, or None."""
        try:
            pid, started = map(int, (self.state / f"{name}.pid").read_text().split())
        except (OSError, ValueError):
            return None
        reap(pid)
        return pid if started_at(pid) == started else None

    def last_words(self, name: str) -> str:
        """The end of a part's log."""
        try:
            return "\n".join((self.state / "log" / f"{name}.log").read_text(errors="replace").splitlines()[-12:])
        except OSError:
            return "(no log)"

    def status(self) -> list[PartState]:
        """What runs and what does not, and why."""
        asterisk = self.pid_of_asterisk()
        rows = [
            PartState(
                "asterisk",
                asterisk,
                f"udp:127.0.0.1:{self.ports.sip}",
                "running" if asterisk else "down",
                "" if asterisk else "not started, or ended",
            )
        ]
        for part in self.parts():
            pid = self.pid(part.name)
            why = not_ready(part.ready) if pid else f"not started, or ended; see {self.state / 'log' / part.name}.log"
            rows.append(PartState(part.name, pid, part.address, "down" if pid is None else "not ready" if why else "running", why or ""))
        return rows

    def pid_of_asterisk(self) -> int | None:
        """The pid of the Asterisk of this installation, or None."""
        try:
            pid = int((self.state / "asterisk" / "pid").read_text())
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (OSError, ValueError):
            return None
        return pid if str(self.state / "asterisk" / "etc" / "asterisk.conf").encode() in command else None


def fetch(url: str, token: str = "", body: Any = None, method: str = "", timeout: float = 5.0) -> Any:
    """A small JSON request to a part of ours on loopback; raises `urllib.error.URLError`."""
    request = urllib.request.Request(url, method=method or ("POST" if body is not None else "GET"))
    if token:
        request.add_header("Authorization", f"Bearer {token}")
    data = None
    if body is not None:
        request.add_header("Content-Type", "application/json")
        data = json.dumps(body).encode()
    with _OPENER.open(request, data, timeout=timeout) as answer:
        text = answer.read()
        return json.loads(text) if text else None


_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def not_ready(url: str) -> str | None:
    """Why an address does not answer with 200, or None when it does."""
    if not url:
        return None
    try:
        with _OPENER.open(url, timeout=2):
            return None
    except urllib.error.HTTPError as error:
        return _reasons(error.read()) or f"{url} says {error.code}"
    except (OSError, ValueError) as error:
        return f"{url}: {getattr(error, 'reason', error)}"


def _reasons(body: bytes) -> str:
    """The parts that are not well, out of an answer of `/readyz`."""
    try:
        parts = json.loads(body)["parts"]
        return "; ".join(f"{name}: {part['why']}" for name, part in parts.items() if not part["ok"])
    except (ValueError, KeyError, TypeError):
        return ""


def started_at(pid: int) -> int:
    """When a process started, in clock ticks since boot; -1 when there is none or it is a zombie."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return -1
    return -1 if text[0] in "ZX" else int(text[19])


def reap(pid: int) -> None:
    """Let a child of ours that has ended go."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except (ChildProcessError, OSError):
        pass
