"""`make bench`: the full call by Callwright against what a user would write instead, on the same Asterisk, one after another.

    python -m tests.load.bench [--quick] [--profile] [--out build]

The call: INVITE, lookup over HTTP, answer, greeting, seven keys and `#` while it plays, second lookup, queue, agent's phone (180, 200 ms,
200 OK), two seconds of conversation, BYE by the agent. Who handles it: `dialplan` (CURL, Read, Queue), `fastagi` (a panoramisk script and
Queue), `bare_ari` (a script of a hundred lines without a journal, skills or recovery: what ARI costs by itself), `callwright` (the
application as an operator runs it, journal and distributor included). All ask the same stand-in for a CRM.

Times are from the wire and CPU is without what the idle system takes, see `bench_wire` and `bench_meters`. Each contender gets its turn
in every round, so that a noisy neighbour hits all of them; `steal` says how noisy it was. At ten calls a second much of the CPU goes into
waking up whoever waits, so what a call takes is also measured at the rate of a busy centre (`busy`). The highest rate is searched for on
`LADDER`: under 1 % of calls failed, and set-up p99 under 500 ms; there and at the busy rate callers are silent, for the load generator's
sake. Memory is the slope over callers who are held in the queue. `--quick` measures few calls and leaves memory, rates and core out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from app.pbx.local import PbxError
from app.up import UpError
from tests.load import bench_calls, bench_picture, bench_profile, bench_table
from tests.load.bench_commits import Commits
from tests.load.bench_core_runs import core
from tests.load.bench_house import BARE, CALLWRIGHT, CONTENDERS, FEW, MANY, NOBODY, BenchHouse
from tests.load.bench_meters import Meters, Spent
from tests.load.bench_wire import Capture, Moments
from tests.load.picture import percentile
from tests.load.running import attempt
from tests.load.sipp import Sipp

LADDER = (10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120, 130, 140)
FAILURES, SLOWEST = 0.01, 500.0
"""Share of calls that may fail, and milliseconds that set-up may take at p99, at a rate that counts as held."""
GOOD, FAILED, NOT_PLACED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Rates in calls a second, `step` in seconds of calls at a rate that is tried."""

    rounds: int = 2
    rate: float = 10.0
    calls: int = 150
    warm_up: int = 20
    idle: float = 4.0
    few: int = 48
    many: int = 380
    held: tuple[int, int] | None = (50, 200)
    step: float = 4.0
    busy: tuple[float, int] = (60.0, 480)
    core: bool = True


QUICK = Plan(rounds=1, rate=5.0, calls=20, warm_up=4, idle=2.0, few=24, many=24, held=None, core=False)


@dataclass(slots=True)
class Found:
    """What was measured of one contender."""

    calls: list[Moments] = field(default_factory=list)
    placed: int = 0
    failed: int = 0
    spent: list[Spent] = field(default_factory=list)
    commits: Commits | None = None
    held: float | None = None
    max_rate: float | None = None
    busy: dict[str, float] = field(default_factory=dict)
    tried: list[tuple[float, float, float]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For `bench.json`: milliseconds, CPU seconds a thousand calls, KiB a held call."""
        thousands = self.placed / 1000
        seconds = sum(each.seconds for each in self.spent)
        told: dict[str, Any] = {
            "calls": self.placed,
            "failed": self.failed,
            "asterisk_cpu_s_per_1000": round(sum(each.asterisk for each in self.spent) / thousands, 2),
            "app_cpu_s_per_1000": round(sum(each.app for each in self.spent) / thousands, 2),
            "setup_ms": _spread([call.set_up for call in self.calls]),
            "placement_ms": _spread([call.placement for call in self.calls]),
            "answer_to_audio_ms": _spread([call.to_caller for call in self.calls]),
            "answer_to_agent_ms": _spread([call.to_agent for call in self.calls]),
            "max_rate": self.max_rate,
            "held_kib": None if self.held is None else round(self.held, 1),
            "steal_pct": round(sum(each.steal * each.seconds for each in self.spent) / seconds, 2),
        }
        if self.busy:
            told["busy"] = self.busy
        if self.commits is not None:
            told["commits_per_call"] = round(self.commits.count / self.placed, 2)
            told["commit_ms"] = {f"p{percent}": round(self.commits.percentile(percent), 2) for percent in (50, 95, 99)}
        return told


def _spread(values: Sequence[float | None]) -> dict[str, float | None]:
    known = [value for value in values if value is not None]
    return {f"p{percent}": round(percentile(known, percent), 2) if known else None for percent in (50, 95, 99)}


# ---- measuring -------------------------------------------------------------------------------------------------------------------


class Bench:
    """One run of the benchmark on a house that is up."""

    def __init__(self, house: BenchHouse, plan: Plan, say: Callable[[str], None]) -> None:
        self._house, self._plan, self._say = house, plan, say
        self.found = {contender: Found() for contender in CONTENDERS}

    def run(self) -> None:
        """All rounds; in the last one memory and rate too."""
        for number in range(1, self._plan.rounds + 1):
            for contender in CONTENDERS:
                self._say(f"{contender}: {self._plan.calls} calls at {self._plan.rate:g} a second, round {number} of {self._plan.rounds}")
                self._house.begin(contender)
                try:
                    self._turn(contender, last=number == self._plan.rounds)
                finally:
                    self._house.end()

    def _turn(self, contender: str, last: bool) -> None:
        found, meters = self.found[contender], self.meters()
        self.measure(found, meters)
        if last and self._plan.held is not None:
            if contender != BARE:  # the script has an agent for everybody, so nobody can be held
                self._say(f"{contender}: {self._plan.held[1]} callers held in the queue")
                self.hold(found, meters, *self._plan.held)
            self._say(f"{contender}: the highest rate")
            self.search(found)
            self._say(f"{contender}: {self._plan.busy[1]} calls at {self._plan.busy[0]:g} a second")
            self.keep_busy(found, meters)

    def meters(self) -> Meters:
        """Of the contender that runs now."""
        asterisk = self._house.pbx.pid
        assert asterisk is not None
        return Meters(asterisk, self._house.pids)

    def measure(self, found: Found, meters: Meters, during: Callable[[float], None] | None = None) -> None:
        """Times and CPU of calls at the plan's rate. `during` is told how long it will take, as the calls begin."""
        plan, ports = self._plan, self._house.installation.ports
        self.over(self.place(plan.warm_up, plan.rate, voice=True))
        idle = meters.during(lambda: time.sleep(plan.idle))
        commits = self._commits()
        with Capture(ports.sip, (ports.rtp_start, ports.rtp_end), self._house.folder / "wire") as wire:
            before = meters.read()
            run = self.place(plan.calls, plan.rate, voice=True)
            if during is not None:
                during(plan.calls / plan.rate)
            self.over(run)
            found.spent.append(meters.since(before).less(idle))
        counts = run.counts()
        found.placed, found.failed = found.placed + counts.placed, found.failed + plan.calls - counts.good
        found.calls += wire.calls.values()
        if counts.good < plan.calls:
            found.trouble.append(f"{plan.calls - counts.good} of {plan.calls} calls failed: {dict(counts.reasons)} {run.trouble()[:300]}")
        if commits is not None:
            found.commits = self._commits(commits) if found.commits is None else found.commits + self._commits(commits)

    def place(self, calls: int, rate: float, voice: bool) -> Sipp:
        """Begin to place full calls."""
        return self._house.place(partial(bench_calls.callers_scenario, voice=voice), calls, rate)

    def over(self, run: Sipp) -> None:
        """Wait until a run is over, and nothing of it is left in Asterisk."""
        bench_calls.wait_for(run)
        attempt(self._house.quiet, 10)
        run.stop()

    def _commits(self, before: Commits | None = None) -> Any:
        if self._house.contender != CALLWRIGHT:
            return None
        now = Commits.read(self._house.installation)
        return now if before is None else now - before

    def hold(self, found: Found, meters: Meters, some: int, all_: int) -> None:
        """KiB of the contender's own for a held caller: the slope between some and all. Asterisk's would depend on who came before."""
        house, rate = self._house, 40.0
        house.queue(NOBODY)
        runs, readings = [], []
        stays = (all_ / rate + 12.0, (all_ - some) / rate + 6.0)
        for stay, calls, waiting in zip(stays, (some, all_ - some), (some, all_), strict=True):
            run = house.place(partial(bench_calls.held_scenario, stay=stay), calls, rate)
            runs.append(run)
            if not attempt(lambda waiting=waiting: house.waiting() >= waiting, calls / rate + 5.0):  # type: ignore[misc]
                found.trouble.append(f"{waiting} callers should be held, {house.waiting()} are")
                break
            time.sleep(0.5)
            readings.append(meters.resident())
        for run in runs:
            self.over(run)
        house.queue(FEW)
        if len(readings) == len(stays):
            found.held = (readings[1] - readings[0]) / (all_ - some)

    def keep_busy(self, found: Found, meters: Meters) -> None:
        """CPU of calls at the rate of a busy centre; the queue is that of the highest rate, and the callers are silent."""
        rate, calls = self._plan.busy
        idle, before = meters.during(lambda: time.sleep(self._plan.idle)), meters.read()
        run = self.place(calls, rate, voice=False)
        self.over(run)
        spent, good = meters.since(before).less(idle), run.counts().good
        if good < calls * (1 - FAILURES):
            found.trouble.append(f"{calls - good} of {calls} calls failed at {rate:g} a second")
            return
        each = 1000 / calls
        found.busy = {
            "rate": rate,
            "asterisk_cpu_s_per_1000": round(spent.asterisk * each, 2),
            "app_cpu_s_per_1000": round(spent.app * each, 2),
        }

    def search(self, found: Found) -> None:
        """The highest rung of the ladder that is held, by halving; 0 when not even the lowest is."""
        self._house.queue(MANY)
        low, high = -1, len(LADDER)
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if self._holds(found, LADDER[middle]) else (low, middle)
        found.max_rate = float(LADDER[low]) if low >= 0 else 0.0

    def _holds(self, found: Found, rate: float) -> bool:
        calls = max(40, round(rate * self._plan.step))
        began = time.monotonic()
        run = self.place(calls, rate, voice=False)
        self.over(run)
        counts, set_ups = run.counts(), run.set_ups()
        failed, slow = 1 - counts.good / calls, percentile([one.ms for one in set_ups], 99)
        placed = max((one.at for one in set_ups), default=0.0) - min((one.at for one in set_ups), default=0.0)
        held = failed < FAILURES and slow < SLOWEST and placed < 1.2 * calls / rate + 0.5
        found.tried.append((rate, failed, slow))
        note = "" if held else f" {dict(counts.reasons)}"
        self._say(
            f"  {rate:g} a second: {100 * failed:.1f} % failed, set-up p99 {slow:.0f} ms, placed in {placed:.1f} s:"
            f" {'held' if held else 'not held'} ({time.monotonic() - began:.0f} s){note}"
        )
        return held


# ---- telling ---------------------------------------------------------------------------------------------------------------------


def results(bench: Bench, core_found: dict[str, Any]) -> dict[str, Any]:
    """What `bench.json` holds."""
    return {"w2": {contender: found.as_json() for contender, found in bench.found.items()}, "core": core_found}


def asked(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="make bench", description="The full call, side by side with what a user would write instead.")
    parser.add_argument("--quick", action="store_true", help="few calls; no memory, no highest rate, no core: under 90 s")
    parser.add_argument("--profile", action="store_true", help="where Callwright's CPU goes, instead of the comparison (needs py-spy)")
    parser.add_argument("--out", type=Path, default=Path("build"), help="where the picture and the result go")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 0 good, 1 calls failed, 2 nothing could be measured."""
    given = asked(argv)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 130)
    plan = QUICK if given.quick else Plan()
    folder = Path(tempfile.mkdtemp(prefix="callwright-bench-"))
    house = BenchHouse(folder, plan.few, plan.many)
    bench = Bench(house, plan, lambda line: out.print(f"[dim]{time.strftime('%H:%M:%S')} {line}[/dim]"))
    status = NOT_PLACED
    try:
        house.up()
        if given.profile:
            bench_profile.run(bench, house, out)
            status = GOOD
        else:
            bench.run()
            house.down()
            status = tell(bench, core(out) if plan.core else {}, given.out, out)
    except (UpError, PbxError, RuntimeError, OSError) as error:
        out.print(f"✗ nothing could be measured: {error}", style="red", markup=False)
    finally:
        house.down()
        if status == GOOD:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            out.print(f"logs     {folder}", markup=False)
    return status


def tell(bench: Bench, core_found: dict[str, Any], folder: Path, out: Console) -> int:
    """Print, draw and write what was found."""
    told = results(bench, core_found)
    bench_table.show(out, told)
    wrong = [f"{contender}: {what}" for contender, found in bench.found.items() for what in found.trouble]
    for what in wrong:
        out.print(f"✗ {what}", style="red", markup=False)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "bench.json").write_text(json.dumps(told, indent=1) + "\n")
    bench_picture.draw(folder / "bench.png", told)
    out.print(f"\npicture  {folder / 'bench.png'}\nresult   {folder / 'bench.json'}", markup=False)
    return FAILED if wrong else GOOD


def _end(number: int, frame: FrameType | None) -> None:
    """SIGTERM ends like Ctrl-C, so that everything is stopped."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
