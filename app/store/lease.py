"""The lease: one process writes at a time, and knows it without asking.

The row `writer` names the holder and a random token. Every write of the holder asks for its token and extends the lease, in
the same transaction, so a process that lost the lease cannot write. Between writes the holder trusts its own clock: it
holds the lease for `TTL` seconds after it *began* its last extension, on a clock that also runs while the machine sleeps.

Another process takes the lease when the holder's process is dead (same boot, same process namespace), when the lease has run
out on the wall clock, or when it has itself seen no extension for `TTL` seconds, whatever the wall clocks say.
"""

from __future__ import annotations

import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

TTL = 5.0


@dataclass(frozen=True, slots=True)
class Holder:
    """A process that wants to write. `started` is in clock ticks since boot; `host` tells one boot and container from another."""

    id: str
    pid: int
    host: str
    started: int

    @classmethod
    def current(cls) -> Holder:
        """This process, under a random id."""
        pid = os.getpid()
        state = _process(pid)
        return cls(id=secrets.token_hex(8), pid=pid, host=_host(), started=state[1] if state else 0)

    def is_dead(self) -> bool:
        """True when the process certainly does not run any more; False when it runs, or cannot be seen from here."""
        if self.host != _host():
            return False
        state = _process(self.pid)
        return state is None or state[0] in "ZX" or state[1] != self.started


@dataclass(slots=True)
class Tenure:
    """The lease as its holder knows it."""

    token: int = 0
    until: float = 0.0

    def held(self) -> bool:
        """True while nobody else can have the lease. Costs a look at the clock."""
        return self.token != 0 and clock() < self.until


def clock() -> float:
    """Seconds since boot, sleep included."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def new_token() -> int:
    """A random positive number, never 0 (nobody holds the lease)."""
    return secrets.randbelow(2**62) + 1


def _host() -> str:
    boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return f"{boot} {os.readlink('/proc/self/ns/pid')}"


def _process(pid: int) -> tuple[str, int] | None:
    """State letter and start time of a process; None when there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    fields = text[text.rindex(")") + 2 :].split()
    return fields[0], int(fields[19])
