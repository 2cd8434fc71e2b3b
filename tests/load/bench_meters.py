"""What a stretch of time costs: CPU seconds of groups of processes, their memory, and what other machines on this host stole.

CPU is user and system time as Linux counts it (ticks of 10 ms), threads and children included, also those that have ended meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

KIB = 1024


@dataclass(frozen=True, slots=True)
class Reading:
    """One look at the meters: monotonic seconds, CPU seconds of both groups, ticks stolen and ticks in all."""

    at: float
    asterisk: float
    app: float
    stolen: int
    ticks: int


@dataclass(frozen=True, slots=True)
class Spent:
    """What was spent between two readings; CPU in seconds, `steal` in per cent."""

    seconds: float
    asterisk: float
    app: float
    steal: float

    def less(self, idle: Spent) -> Spent:
        """Without what would have been spent had there been nothing to do."""
        share = self.seconds / idle.seconds
        return Spent(self.seconds, max(0.0, self.asterisk - share * idle.asterisk), max(0.0, self.app - share * idle.app), self.steal)


class Meters:
    """The meters of one contender; `app` are the pids of its own processes, empty when Asterisk does everything."""

    def __init__(self, asterisk: int, app: Sequence[int]) -> None:
        self._asterisk, self._app = asterisk, tuple(app)

    def read(self) -> Reading:
        """Look now."""
        fields = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return Reading(time.monotonic(), cpu([self._asterisk]), cpu(self._app), fields[7], sum(fields))

    def since(self, before: Reading) -> Spent:
        """What has been spent since."""
        now = self.read()
        steal = 100 * (now.stolen - before.stolen) / max(1, now.ticks - before.ticks)
        return Spent(now.at - before.at, now.asterisk - before.asterisk, now.app - before.app, steal)

    def during(self, work: Callable[[], object]) -> Spent:
        """What doing something takes."""
        before = self.read()
        work()
        return self.since(before)

    def resident(self) -> float:
        """KiB of the contender's processes in memory; 0 where Asterisk does everything."""
        return sum(psutil.Process(pid).memory_info().rss for pid in self._app) / KIB


def cpu(pids: Sequence[int]) -> float:
    """CPU seconds of processes and of all their children."""
    total = 0.0
    for pid in pids:
        root = psutil.Process(pid)
        total += sum(root.cpu_times()[:4])
        for child in root.children(recursive=True):
            try:
                total += sum(child.cpu_times()[:4])
            except psutil.NoSuchProcess:
                continue  # it has ended: from now on its parent counts it
    return total
