"""SIPp processes for load: the scenarios of `docker/sipp`, run as they are shipped, and what SIPp counted.

Everything is copied to a folder of the run first, since SIPp leaves its statistics beside the scenario.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.phones import free_port

KIT = Path(__file__).resolve().parents[2] / "docker" / "sipp"
REASONS = {
    "FailedCannotSendMessage(C)": "a message could not be sent",
    "FailedMaxUDPRetrans(C)": "no answer to repeated messages",
    "FailedUnexpectedMessage(C)": "refused, or an unexpected message",
    "FailedCallRejected(C)": "given up",
    "FailedRegexpDoesntMatch(C)": "an answer without what it should have",
    "FailedRegexpHdrNotFound(C)": "an answer without a header",
    "FailedOutboundCongestion(C)": "congestion on the way out",
    "FailedTimeoutOnRecv(C)": "waited too long",
    "FailedTimeoutOnSend(C)": "sent too late",
}


@dataclass(frozen=True, slots=True)
class Counts:
    """What one SIPp run counted so far."""

    placed: int = 0
    good: int = 0
    failed: int = 0
    now: int = 0
    reasons: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SetUp:
    """One call's INVITE to 200 OK: seconds since its SIPp began, and how many milliseconds it took (SIPp's clock ticks every 4 ms)."""

    at: float
    ms: float


class Sipp:
    """One SIPp process in a folder of its own; `name` is for people."""

    def __init__(self, name: str, folder: Path, scenario: str, *arguments: str, port: int | None = None) -> None:
        self.name, self.folder, self.port = name, folder / name, port or free_port()
        shutil.copytree(KIT, self.folder, ignore=shutil.ignore_patterns("Dockerfile"))
        binary = shutil.which("sipp")
        if binary is None:
            raise RuntimeError("sipp is missing: apt-get install sip-tester")
        here = ["-i", "127.0.0.1", "-mi", "127.0.0.1", "-p", str(self.port), "-mp", str(free_port()), "-nostdin"]
        traces = ["-trace_err", "-error_file", "errors", "-trace_stat", "-stf", "stats", "-fd", "1", "-trace_rtt", "-rtt_freq", "1"]
        with open(self.folder / "screen", "wb") as screen:
            self.process = subprocess.Popen(
                [binary, *arguments, "-sf", scenario, *here, *traces],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                env={**os.environ, "TERM": "dumb"},
            )

    @property
    def running(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    def counts(self) -> Counts:
        """What it has counted by now, or in all once it has ended."""
        try:
            rows = [line.split(";") for line in (self.folder / "stats").read_text().splitlines() if line]
            row = dict(zip(rows[0], rows[-1], strict=False))
            reasons = {told: int(row[column]) for column, told in REASONS.items() if int(row.get(column) or 0)}
            placed, good, failed, now = (
                int(row[column]) for column in ("TotalCallCreated", "SuccessfulCall(C)", "FailedCall(C)", "CurrentCall")
            )
            return Counts(placed, good, failed, now, reasons)
        except (OSError, IndexError, KeyError, ValueError):
            return Counts()

    def set_ups(self) -> list[SetUp]:
        """Set-up times of the calls that were answered."""
        found = []
        for path in self.folder.glob("*_rtt.csv"):
            for line in path.read_text().splitlines()[1:]:
                parts = line.split(";")
                if len(parts) == 3 and parts[2] == "setup":
                    found.append(SetUp(float(parts[0]) / 1000, float(parts[1])))
        return found

    def trouble(self) -> str:
        """The first lines that SIPp complained with."""
        texts = [path.read_text(errors="replace")[:600] for path in (self.folder / "errors",) if path.exists()]
        return "\n".join(texts)

    def stop(self) -> None:
        """End it now, if it has not ended."""
        if self.running:
            self.process.kill()
        self.process.wait()


def callers(name: str, folder: Path, sip: int, scenario: str, numbers: str, dial: str, calls: int, rate: float, seconds: float) -> Sipp:
    """Callers, `rate` a second on average, `calls` in all; whoever is left after `seconds` is given up."""
    pace = ["-r", str(max(1, round(rate * 10))), "-rp", "10000", "-m", str(calls), "-l", str(calls)]
    limit = ["-timeout", f"{round(seconds)}s", "-timeout_error"]
    return Sipp(name, folder, scenario, f"127.0.0.1:{sip}", "-inf", numbers, "-s", dial, *pace, *limit)


def telephones(folder: Path, ring: float, talk: float, port: int) -> Sipp:
    """Any number of agents' telephones on one port; seconds of ringing and of talking."""
    manners = ["-set", "ring", str(round(ring * 1000)), "-set", "talk", str(round(talk * 1000))]
    return Sipp("agents", folder, "agents.xml", *manners, port=port)


def register(folder: Path, sip: int, port: int, secrets: Mapping[str, str]) -> None:
    """Register telephones (extension to password) at that port, from that port, as Asterisk believes the address that it sees.

    Raises `RuntimeError` when one is refused. The registrations last ten minutes.
    """
    rows = [f"{name};{port};[authentication username={name} password={secret}]" for name, secret in secrets.items()]
    injected = folder / "agents.csv"
    injected.touch(mode=0o600)
    injected.write_text("\n".join(["SEQUENTIAL", *rows]) + "\n")
    pace = ["-r", "200", "-m", str(len(rows)), "-timeout", "60s", "-timeout_error"]
    sipp = Sipp("register", folder, "register.xml", f"127.0.0.1:{sip}", "-inf", str(injected), *pace, port=port)
    status = sipp.process.wait()
    injected.unlink()
    if status:
        raise RuntimeError(f"telephones cannot register (SIPp ends with {status}): {sipp.trouble()}")


def split(total: int, shares: Sequence[float]) -> list[int]:
    """`total` in whole parts by shares, each part that has a share getting at least one while there are enough."""
    whole = sum(shares)
    exact = [total * share / whole for share in shares]
    parts = [int(each) for each in exact]
    for index in sorted(range(len(parts)), key=lambda i: (parts[i] > 0, parts[i] - exact[i])):
        if sum(parts) == total:
            break
        parts[index] += 1
    return parts
