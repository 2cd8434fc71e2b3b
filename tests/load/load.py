"""`make load`: the shipped SIPp scenarios against an installation of its own, with as many agents as the rate needs.

    python -m tests.load.load [--rate 5] [--calls 100] [--flow mix] [--out build/load]

It starts Asterisk, CRM, mail catcher and application on free ports of 127.0.0.1, registers softphones and signs their agents in, places
the calls, prints what came of them, draws the set-up times, and stops everything. Rate, number of calls and duration have hard limits.
The exit status is 0 when no call failed, 1 when one did, 2 when the load could not be placed.

Set-up is from INVITE to 200 OK at the caller, lookup in the CRM included; in line to ringing is from the moment a call joins a queue to
its agent's telephone ringing, out of the timelines of at most `SAMPLE` calls. A call fails when SIPp says so, and when it should have
talked to an agent and did not.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.installation import DEMO
from app.up import Installation, UpError
from tests.e2e.house import free_ports
from tests.load import picture, sipp
from tests.load.running import Running, attempt
from tests.phones import free_port

MAX_RATE, MAX_CALLS = 100.0, 20_000
MAX_SECONDS = 420.0
"""Calls are placed for so long at most: the telephones stay registered for ten minutes."""
LONGEST_CALL = 90.0
SAMPLE = 300
MAX_AGENTS = 450
WRAP_UP = 1.0
DIAL = "1000"
GOOD, FAILED, NOT_PLACED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Part:
    """A share of the callers: a scenario and a CSV of `docker/sipp`, and whether each of them should talk to an agent."""

    name: str
    scenario: str
    numbers: str
    share: float = 1.0
    talks: bool = False


@dataclass(frozen=True, slots=True)
class Flow:
    """Who calls, and how long agents let it ring and talk, in seconds."""

    parts: tuple[Part, ...]
    ring: float = 0.3
    talk: float = 1.5


KNOWN = Part("known", "caller.xml", "known.csv")
UNKNOWN = Part("unknown", "reference.xml", "unknown.csv", talks=True)
PREMIUM = Part("premium", "caller.xml", "premium.csv", talks=True)
LATE = Part("late", "caller.xml", "late.csv", talks=True)
HANGUP = Part("hangup", "hangup.xml", "hangup.csv")
CANCEL = Part("cancel", "cancel.xml", "unknown.csv")
MIX = ((KNOWN, 0.3), (UNKNOWN, 0.2), (PREMIUM, 0.25), (LATE, 0.1), (HANGUP, 0.1), (CANCEL, 0.05))
FLOWS = {
    "known": Flow((KNOWN,)),
    "unknown": Flow((UNKNOWN,)),
    "premium": Flow((PREMIUM,)),
    "late": Flow((LATE,)),
    "hangup": Flow((replace(HANGUP, share=0.85), replace(CANCEL, share=0.15)), ring=0.8, talk=4.0),
    "mix": Flow(tuple(replace(part, share=share) for part, share in MIX)),
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for, within the limits."""

    rate: float
    calls: int
    flow: str

    @property
    def seconds(self) -> float:
        """How long calls are placed."""
        return self.calls / self.rate

    @property
    def agents(self) -> int:
        """Agents enough that nobody waits for one: rate times the seconds that a call keeps one, and some more."""
        flow = FLOWS[self.flow]
        return min(MAX_AGENTS, self.calls + 2, math.ceil(self.rate * (flow.ring + flow.talk + WRAP_UP + 1.5)) + 6)


@dataclass(slots=True)
class Found:
    """What came of a load."""

    counts: dict[str, sipp.Counts]
    set_ups: dict[str, list[sipp.SetUp]]
    outcomes: Counter[str]
    placement: list[float]
    left_at: Counter[str]
    wrong: list[str]


# ---- the installation ------------------------------------------------------------------------------------------------------------


def write_project(folder: Path, agents: int) -> None:
    """The demo's flows and actions, with so many agents who can take every call."""
    for name in ("flows", "actions"):
        shutil.copytree(DEMO / name, folder / name)
    queues = "".join(f"  {name}: {{ring: 15, wrap_up: {WRAP_UP}, max_wait: 60}}\n" for name in ("premium", "general", "billing"))
    able = "queues: [premium, general, billing], skills: {lang.en: 8, product.printers: 6}"
    people = "".join(f'  "{name}": {{name: Agent {name}, {able}}}\n' for name in names(agents))
    (folder / "centre.yaml").write_text(f"queues:\n{queues}agents:\n{people}")


def names(agents: int) -> list[str]:
    """The agents' ids and extensions."""
    return [f"load{number:03}" for number in range(1, agents + 1)]


class House:
    """The installation under load, its telephones, and who is signed in."""

    def __init__(self, folder: Path, plan: Plan, say: Callable[[str], None]) -> None:
        self._folder, self._plan, self._say = folder, plan, say
        write_project(folder / "project", plan.agents)
        ports = replace(free_ports(), rtp_start=15_002, rtp_end=19_998)
        self.installation = Installation(folder / "state", folder / "project", ports)
        self.sipps: list[sipp.Sipp] = []

    def up(self) -> Running:
        """Start everything, and the agents."""
        self._say(f"starting an installation with {self._plan.agents} agents")
        self.installation.up(lambda line: None)
        running = Running(self.installation)
        flow = FLOWS[self._plan.flow]
        port = free_port()
        secrets = self.installation.pbx(lambda line: None).secrets.agents
        sipp.register(self._folder, self.installation.ports.sip, port, secrets)
        self.sipps.append(sipp.telephones(self._folder, flow.ring, flow.talk, port))
        wanted = names(self._plan.agents)
        if not attempt(lambda: all(agent["phone"] == "reachable" for agent in running.agents()), 40):
            raise UpError("not every telephone became reachable")
        for agent in wanted:
            running.tell(agent, "sign-in")
            running.tell(agent, "ready")
        self._say(f"{len(wanted)} agents are ready")
        return running

    def call(self) -> dict[str, sipp.Sipp]:
        """Begin to place the calls; SIPp by part."""
        parts, plan = FLOWS[self._plan.flow].parts, self._plan
        numbers = sipp.split(plan.calls, [part.share for part in parts])
        begun = {}
        for part, calls in zip(parts, numbers, strict=True):
            if calls:
                rate, limit = plan.rate * calls / plan.calls, plan.seconds * 1.2 + LONGEST_CALL
                run = sipp.callers(
                    part.name, self._folder, self.installation.ports.sip, part.scenario, part.numbers, DIAL, calls, rate, limit
                )
                begun[part.name] = run
                self.sipps.append(run)
        return begun

    def down(self) -> None:
        """Stop everything."""
        for run in self.sipps:
            run.stop()
        self.installation.down(lambda line: None)


# ---- placing and counting --------------------------------------------------------------------------------------------------------


def place(house: House, plan: Plan, out: Console) -> dict[str, sipp.Sipp]:
    """Place the calls and wait until they are over, with progress."""
    begun = house.call()
    bar = Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("over · {task.fields[now]} up · {task.fields[failed]} failed"),
        TimeElapsedColumn(),
        console=out,
    )
    numbers = sipp.split(plan.calls, [part.share for part in FLOWS[plan.flow].parts])
    totals = {part.name: calls for part, calls in zip(FLOWS[plan.flow].parts, numbers, strict=True)}
    tasks = {name: bar.add_task(name, total=totals[name], now=0, failed=0) for name in begun}
    with Live(bar, console=out, refresh_per_second=4):
        while True:
            over = not any(run.running for run in begun.values())
            for name, run in begun.items():
                counts = run.counts()
                bar.update(tasks[name], completed=counts.good + counts.failed, now=counts.now, failed=counts.failed)
            if over:
                return begun
            time.sleep(0.25)


def count(running: Running, plan: Plan, begun: dict[str, sipp.Sipp]) -> Found:
    """What came of the calls, by SIPp and by the API."""
    counts = {name: run.counts() for name, run in begun.items()}
    wrong = [
        f"{name}: SIPp ended with {run.process.returncode}. {run.trouble()}".strip()
        for name, run in begun.items()
        if run.process.returncode
    ]
    if not attempt(lambda: not [row for row in running.live() if row["state"] != "wrap_up"], 30):
        wrong.append(f"{len(running.live())} calls are still up in the application after the last caller has left")
    ended = every_ended(running)
    outcomes = Counter(row["outcome"] for row in ended)
    placement, left_at = looked_into(running, ended)
    parts = {part.name: part for part in FLOWS[plan.flow].parts}
    should = sum(counts[name].placed for name in begun if parts[name].talks)
    if outcomes["answered"] < should:
        wrong.append(f"{should} callers should have talked to an agent, {outcomes['answered']} did")
    placed = sum(each.placed for each in counts.values())
    cancelled = counts["cancel"].placed if "cancel" in counts else 0
    if not placed - cancelled <= len(ended) <= placed:
        wrong.append(f"{placed} calls were placed, {cancelled} of them cancelled at once; the application knows of {len(ended)}")
    if placed < plan.calls:
        wrong.append(f"only {placed} of {plan.calls} calls could be placed")
    return Found(counts, {name: run.set_ups() for name, run in begun.items()}, outcomes, placement, left_at, wrong)


def every_ended(running: Running) -> list[dict[str, Any]]:
    """All calls of this installation, newest first."""
    found: dict[str, dict[str, Any]] = {}
    before: float | None = None
    while True:
        rows = running.ended(1000, before)
        fresh = [row for row in rows if row["id"] not in found]
        found |= {row["id"]: row for row in fresh}
        if len(rows) < 1000 or not fresh:
            return list(found.values())
        before = rows[-1]["ended"]


def looked_into(running: Running, ended: Sequence[dict[str, Any]]) -> tuple[list[float], Counter[str]]:
    """Milliseconds in line until an agent's telephone rang, and the steps at which callers hung up, of some calls spread over the run."""
    placement: list[float] = []
    left_at: Counter[str] = Counter()
    for row in ended[:: max(1, math.ceil(len(ended) / SAMPLE))]:
        timeline = running.timeline(row["id"])
        at = {entry["type"]: entry["at"] for entry in reversed(timeline)}
        if "Queued" in at and "LegRinging" in at:
            placement.append(1000 * (at["LegRinging"] - at["Queued"]))
        if row["outcome"] in ("hung_up", "abandoned"):
            left_at[next((e["step"] for e in reversed(timeline) if e["type"] == "StepEntered"), "")] += 1
    return placement, left_at


# ---- telling ---------------------------------------------------------------------------------------------------------------------


def tell(out: Console, found: Found) -> None:
    """The tables."""
    out.print()
    out.print(_times(found))
    rows = [(reason, n) for reason, n in _reasons(found).items()]
    tables = [_pairs("outcomes", found.outcomes.most_common())]
    if rows:
        tables.append(_pairs("failures", rows, "red"))
    if found.left_at:
        tables.append(_pairs("hung up at step", found.left_at.most_common()))
    for each in tables:
        out.print()
        out.print(each)
    out.print()
    for what in found.wrong:
        out.print(f"✗ {what}", style="red", markup=False)


def _times(found: Found) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2))
    for column in ("calls", "placed", "good", "failed", "p50 ms", "p95 ms", "p99 ms", "longest ms"):
        table.add_column(column, justify="left" if column == "calls" else "right")
    every: list[float] = []
    for name, counts in found.counts.items():
        values = [one.ms for one in found.set_ups[name]]
        every += values
        table.add_row(name, str(counts.placed), str(counts.good), str(counts.failed), *_percentiles(values))
    sums = [sum(getattr(counts, key) for counts in found.counts.values()) for key in ("placed", "good", "failed")]
    table.add_row("all, set-up", *map(str, sums), *_percentiles(every), style="bold")
    table.add_row("in line to ringing", "", "", "", *_percentiles(found.placement))
    return table


def _percentiles(values: Sequence[float]) -> list[str]:
    return [f"{picture.percentile(values, percent):.0f}" if values else "" for percent in (50, 95, 99, 100)]


def _pairs(title: str, rows: Sequence[tuple[str, int]], style: str = "") -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2), style=style)
    table.add_column(title)
    table.add_column("calls", justify="right")
    for name, number in rows:
        table.add_row(name.replace("_", " "), str(number))
    return table


def _reasons(found: Found) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for counts in found.counts.values():
        reasons.update(counts.reasons)
    return reasons


def as_json(plan: Plan, found: Found) -> dict[str, Any]:
    """The result for programs; times in milliseconds."""

    def spread(values: Sequence[float]) -> dict[str, float]:
        return {f"p{percent}": round(picture.percentile(values, percent), 1) for percent in (50, 95, 99)}

    return {
        "rate": plan.rate,
        "calls": plan.calls,
        "flow": plan.flow,
        "parts": {name: {"placed": c.placed, "good": c.good, "failed": c.failed} for name, c in found.counts.items()},
        "failures": dict(_reasons(found)),
        "outcomes": dict(found.outcomes),
        "setup_ms": spread([one.ms for ones in found.set_ups.values() for one in ones]),
        "placement_ms": spread(found.placement),
        "wrong": found.wrong,
    }


def asked(argv: Sequence[str] | None) -> tuple[Plan, Path]:
    """The plan and the folder for results; ends with a message when a limit is passed."""
    parser = argparse.ArgumentParser(prog="make load", description="Real calls in numbers, against an installation of its own.")
    parser.add_argument("--rate", type=float, default=5.0, help=f"calls a second, {MAX_RATE:.0f} at most")
    parser.add_argument("--calls", type=int, default=100, help=f"calls in all, {MAX_CALLS} at most")
    parser.add_argument("--flow", choices=FLOWS, default="mix", help="who calls")
    parser.add_argument("--out", type=Path, default=Path("build/load"), help="where the picture and the result go")
    given = parser.parse_args(argv)
    if not 0.1 <= given.rate <= MAX_RATE:
        parser.error(f"RATE must be from 0.1 to {MAX_RATE:.0f} calls a second, not {given.rate:g}")
    if not 1 <= given.calls <= MAX_CALLS:
        parser.error(f"CALLS must be from 1 to {MAX_CALLS}, not {given.calls}")
    plan = Plan(given.rate, given.calls, given.flow)
    if plan.seconds > MAX_SECONDS:
        parser.error(f"{plan.calls} calls at {plan.rate:g} a second take {plan.seconds:.0f} s; {MAX_SECONDS:.0f} s is the limit")
    return plan, given.out


def forget_settings() -> None:
    """Settings in the environment are for another installation, and would win over those of ours: only where Asterisk is stays."""
    for name in [name for name in os.environ if name.startswith("CALLWRIGHT_") and name != "CALLWRIGHT_PBX_ROOT"]:
        del os.environ[name]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status."""
    plan, results = asked(argv)
    forget_settings()
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    out.print(f"[bold]{plan.calls} calls, {plan.rate:g} a second, flow {plan.flow}[/bold]")
    folder = Path(tempfile.mkdtemp(prefix="callwright-load-"))
    folder.chmod(0o755)
    status = NOT_PLACED
    house = House(folder, plan, lambda line: out.print(f"[dim]{line}[/dim]"))
    try:
        running = house.up()
        status = FAILED
        begun = place(house, plan, out)
        found = count(running, plan, begun)
        tell(out, found)
        results.mkdir(parents=True, exist_ok=True)
        picture.draw(results / "setup.png", f"{plan.calls} calls, {plan.rate:g} a second, {plan.flow}", found.set_ups)
        (results / "load.json").write_text(json.dumps(as_json(plan, found), indent=1) + "\n")
        out.print(f"picture  {results / 'setup.png'}", markup=False)
        if not found.wrong and not _reasons(found):
            status = GOOD
    except (UpError, RuntimeError, OSError) as error:
        out.print(f"✗ the load {'went wrong' if status == FAILED else 'could not be placed'}: {error}", style="red", markup=False)
    finally:
        house.down()
        if status == GOOD:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            out.print(f"logs     {folder}", markup=False)
    return status


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C, so that everything is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
