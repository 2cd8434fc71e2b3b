"""Where Callwright's CPU goes: CPU of each thread by the kernel's count, and what a sampling profiler sees in those that run Python.

A moment counts when a thread holds the interpreter, whether or not it gets a processor just then; so the shares are sound on a busy
machine too, and they are scaled to the CPU that was used. Each is put down to the innermost function of our own on the stack: a
library's time counts for who called it. SQLite's own time, outside the interpreter, shows in its thread alone. Needs `py-spy`, and the
right to look into another process (root).
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
from rich.console import Console
from rich.table import Table

from tests.load.bench_house import CALLWRIGHT, BenchHouse

if TYPE_CHECKING:
    from tests.load.bench import Bench

HERTZ = 250
TOP = 45
OURS = ("app/",)


def run(bench: Bench, house: BenchHouse, out: Console) -> None:
    """Place the calls, and print who spent what."""
    beside = Path(sys.executable).with_name("py-spy")
    profiler = str(beside) if beside.exists() else shutil.which("py-spy")
    if profiler is None:
        raise RuntimeError("py-spy is missing: pip install py-spy")
    file = house.folder / "stacks"
    recorders: list[subprocess.Popen[bytes]] = []

    def record(seconds: float) -> None:
        argv = [
            profiler,
            "record",
            "-p",
            str(pid),
            "-d",
            str(round(seconds) + 3),
            "-r",
            str(HERTZ),
            "-g",
            "-f",
            "raw",
            "-F",
            "-o",
            str(file),
        ]
        recorders.append(subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    house.begin(CALLWRIGHT)
    pid = house.installation.pid("application")
    assert pid is not None
    found, before = bench.found[CALLWRIGHT], {}
    bench.measure(found, bench.meters(), lambda seconds: (before.update(threads(pid)), record(seconds)))
    used = {thread: seconds - before.get(thread, 0.0) for thread, seconds in threads(pid).items()}
    if recorders[0].wait(30) or not file.exists():
        raise RuntimeError("py-spy could not look into the application")
    told = found.as_json()
    out.print(f"\napplication: {told['app_cpu_s_per_1000']} ms of CPU a call, the profiler's own disturbance included; by thread:")
    for thread, seconds in sorted(used.items(), key=lambda each: -each[1]):
        if seconds > 0:
            out.print(f"  {'the loop' if thread == pid else thread}: {1000 * seconds / found.placed:.2f} ms a call")
    show(out, stacks(file), told["app_cpu_s_per_1000"])


def threads(pid: int) -> dict[int, float]:
    """CPU seconds of each thread of a process."""
    return {thread.id: thread.user_time + thread.system_time for thread in psutil.Process(pid).threads()}


def stacks(file: Path) -> list[tuple[list[str], int]]:
    """The stacks, outermost first, and how often each was seen."""
    found = []
    for line in file.read_text().splitlines():
        stack, _, count = line.rpartition(" ")
        found.append(([frame.strip() for frame in stack.split(";")], int(count)))
    return found


def show(out: Console, seen: list[tuple[list[str], int]], spent: float) -> None:
    """Two tables: by our own innermost function, and by the function that ran. `spent` is milliseconds a call in all."""
    every = sum(count for _, count in seen) or 1
    for title, owner in (("our own function, with what it calls outside", ours), ("the function that ran", lambda stack: stack[-1])):
        counts: Counter[str] = Counter()
        for stack, count in seen:
            counts[owner(stack)] += count
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
        table.add_column(title)
        table.add_column("%", justify="right")
        table.add_column("ms a call", justify="right")
        for name, count in counts.most_common(TOP):
            table.add_row(name, f"{100 * count / every:.1f}", f"{spent * count / every:.2f}")
        out.print()
        out.print(table)


def ours(stack: list[str]) -> str:
    """The innermost function of ours, or the outermost of all where there is none."""
    return next((frame for frame in reversed(stack) if any(f"({place}" in frame for place in OURS)), stack[0])
