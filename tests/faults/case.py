"""What a fault case is, and what they all use: the application started with a failpoint, ended, waited for, and looked at afterwards.

A case is a name (`A1/play/after_persist`) and a function of a running installation. It raises where a promise was broken, and gives what
it measured. The tests run some of the cases, `python -m tests.faults.run` all of them.
"""

from __future__ import annotations

import os
import signal
import time
import urllib.error
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

from app.failpoints import VARIABLE
from app.installation import fetch
from tests.e2e.house import LiveHouse
from tests.phones import AgentPhone, Caller, until

QUIET_SECONDS = 3.0
"""Within which every call is under control again on a machine that does nothing else."""
HEARD_WITHIN = 1.5
"""Seconds after which the watchdog, which asks every half second, has heard of a process. On a slow machine two that live for a moment
only would be one silence to it, and callers be let go."""
AGENT_TONE, CALLER_TONE = 1300.0, 1900.0


@dataclass(frozen=True, slots=True)
class Case:
    """One fault, and how it is tried."""

    name: str
    run: Callable[[LiveHouse], dict[str, Any]]


def start(house: LiveHouse, **environment: str) -> float:
    """Start the application with these variables and wait until it is ready; the wall time at which its process was started."""
    part = next(part for part in house.installation.parts() if part.name == "application")
    began = time.time()
    house.installation.start(replace(part, env=environment), house.say.append)
    return began


def start_armed(house: LiveHouse, failpoint: str, **environment: str) -> None:
    """Replace the running application by one that dies at a failpoint, but not before the watchdog has heard of it."""
    if house.installation.pid("application") is not None:
        house.kill()
    start(house, **environment, **{VARIABLE: failpoint})
    began = time.monotonic()
    until(lambda: time.monotonic() - began > HEARD_WITHIN, HEARD_WITHIN + 1)


def ready(house: LiveHouse) -> bool:
    """Whether the application says that it can take calls."""
    try:
        return bool(fetch(f"http://127.0.0.1:{house.installation.ports.api}/readyz")["ready"])
    except urllib.error.HTTPError as error:
        if error.code != 503:
            raise
        return False


def dies(house: LiveHouse, within: float = 40.0) -> None:
    """Wait until the application has died."""
    until(lambda: house.installation.pid("application") is None, within, "the failpoint to be passed")


def insist(attempt: Callable[[], Any], within: float = 20.0) -> Any:
    """Ask again until the application answers: it may be dead just now, or die while it is asked."""
    deadline = time.monotonic() + within
    while True:
        try:
            return attempt()
        except OSError:
            assert time.monotonic() < deadline, f"the application does not answer for {within} s"
        time.sleep(0.05)


def exit_code(pid: int, within: float) -> int:
    """Wait for the end of a process that was started from here; its exit status, negative for a signal."""
    ended = until(lambda: os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT), within, f"process {pid} to end")
    assert isinstance(ended, os.waitid_result)
    return ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status


def send(pid: int, number: signal.Signals) -> None:
    """A signal to one process of ours."""
    os.kill(pid, number)


def patience() -> float:
    """How many times slower than a quiet machine this one may be just now."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1)) * 2


def found_after(house: LiveHouse, calls: Iterable[str], began: float) -> list[float]:
    """Seconds from the start of the process until each of these calls was under control again."""
    seconds = []
    for call in calls:
        found = [entry["at"] for entry in house.timeline(call) if entry["type"] in ("CallFound", "CallArrived") and entry["at"] >= began]
        seconds += [found[0] - began] if found else []
    return sorted(seconds)


def under_control_soon(seconds: list[float]) -> float:
    """The 99th percentile, which may not be more than promised, on a machine as busy as this one."""
    p99 = seconds[max(0, round(len(seconds) * 0.99) - 1)]
    assert p99 < QUIET_SECONDS * patience(), f"under control after {p99:.1f} s"
    return round(p99, 2)


def ended_as(house: LiveHouse, call: str, outcome: str) -> None:
    """Wait for the end of a call, which had that outcome."""
    row = until(lambda: insist(lambda: house.ended(call)), 15, f"the end of {told(house, call)}")
    assert isinstance(row, dict)
    assert row["outcome"] == outcome, f"{row['outcome']}, not {outcome}: {told(house, call)}"


def told(house: LiveHouse, call: str) -> str:
    """The last lines of a call's timeline, for a failing case."""
    entries = insist(lambda: house.timeline(call))[-14:]
    return "; ".join(f"{e['at'] % 1000:.2f} {e['type']} {e.get('step') or e.get('outcome') or e.get('reason') or ''}" for e in entries)


def talk(caller: Caller, agent: AgentPhone) -> bool:
    """Both hear one another, and have done so for a while: a conversation, and no mere click."""
    now = time.monotonic()
    return all(
        rtp.level(tone, at, at + 0.1) > 500
        for rtp, tone in ((caller.rtp, AGENT_TONE), (agent.rtp, CALLER_TONE))
        for at in (now - 0.6, now - 0.1)
    )
