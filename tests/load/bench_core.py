"""The core alone: whole calls through the order status hotline on virtual time, with everything that the engine asks of the core.

    python tests/load/bench_core.py [--calls 2000] [--profile] [--json FILE]

A call is the full one: an unknown number, the lookup by phone that finds nobody, seven digits and `#` with barge-in, the second
lookup, greeting, premium queue, offer with pop and acknowledgement, ringing, answer, talk, hang-up by the agent, wrap-up. Each event
is handled, every record packed, every live row and agent's row made, as the engine does for a turn of one event. Timers fire
in virtual time. Nothing is written and nothing waits, so the figures are CPU of the core, of `pack` and of `dump_call` alone.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import json
import pstats
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.core import commands as do
from app.core import events as ev
from app.core.center import Center
from app.core.record import pack
from app.core.saving import dump_agent, dump_call, history_row
from tests.unit.centre import ANNA, book

AT_ONCE = 20


class Bench:
    """One centre and what the engine would do with what comes out of it."""

    def __init__(self) -> None:
        self.center = Center(book())
        self.now = 1_000_000.0
        self.events = self.records = self.rows = 0
        self.last: dict[tuple[str, type[Any]], Any] = {}

    def happen(self, event: ev.Event) -> None:
        out = self.center.handle(event, self.now)
        self.events += 1
        records = [["e", *pack(event), self.now]]
        for thing in out:
            records.append(["c" if isinstance(thing, do.Command) else "f", *pack(thing), self.now])
            self.last[thing.call, type(thing)] = thing
        touched = self.center.touched()
        rows: list[Any] = [None if call is None else dump_call(self.center, call) for call in touched.calls.values()]
        rows += [dump_agent(self.center, agent) for agent in touched.agents]
        rows += [history_row(call) for call in touched.ended]
        self.records += len(records)
        self.rows += len(rows)

    def wait(self, seconds: float) -> None:
        self.now += seconds
        while (due := self.center.due(self.now)) is not None:
            self.happen(due)

    def said(self, call: str, kind: type[Any]) -> Any:
        return self.last[call, kind]

    def sign_in(self) -> None:
        for agent in ("101", "102", "104"):
            self.happen(ev.AgentPhoneChanged(agent, True))
            self.happen(ev.AgentSignedIn(agent))
            self.happen(ev.DeskFound(agent))
            self.happen(ev.AgentBecameReady(agent))

    def whole_call(self, call: str) -> None:
        self.happen(ev.CallArrived(call, f"channel-{call}", ani="+493055500099", dnis="1000", uniqueid=call))
        self.wait(0.05)
        self.happen(ev.ActionSucceeded(call, self.said(call, do.StartAction).request, {"count": 0, "found": False}))
        self.wait(1.0)
        for key in "2722541#":
            self.happen(ev.DigitPressed(call, key))
            self.wait(0.2)
        self.happen(ev.ActionSucceeded(call, self.said(call, do.StartAction).request, ANNA))
        self.wait(3.0)
        self.happen(ev.PlaybackEnded(call, self.said(call, do.Play).playback))
        pop = self.said(call, do.Pop)
        self.happen(ev.DeskAcknowledged(pop.agent, call, pop.offer))
        leg = self.said(call, do.RingAgent).leg
        self.happen(ev.LegRinging(call, leg))
        self.wait(0.2)
        self.happen(ev.LegAnswered(call, leg))
        self.wait(2.0)
        self.happen(ev.LegEnded(call, leg))
        self.happen(ev.CallerLeft(call))
        self.happen(ev.AgentFinishedWrapUp(pop.agent, call, "solved"))
        self.last = {said: thing for said, thing in self.last.items() if said[0] != call}


def run(calls: int = 2000, profile: bool = False) -> dict[str, float]:
    """Measure; the figures as a dict. CPU times are of this process alone."""
    bench = Bench()
    bench.sign_in()
    for n in range(AT_ONCE):
        bench.whole_call(f"warm-up-{n}")
    bench.events = bench.records = bench.rows = 0
    gc.collect()
    gc.freeze()
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    began, cpu = time.perf_counter(), time.process_time()
    for n in range(calls):
        bench.whole_call(f"{n:032x}")
    seconds, spent = time.perf_counter() - began, time.process_time() - cpu
    profiler.disable()
    gc.unfreeze()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    assert not bench.center.calls
    return {
        "calls": calls,
        "events_per_s": round(bench.events / spent),
        "calls_per_s": round(calls / spent),
        "cpu_ms_per_call": round(spent / calls * 1000, 3),
        "us_per_event": round(spent / bench.events * 1e6, 1),
        "events_per_call": round(bench.events / calls, 1),
        "records_per_call": round(bench.records / calls, 1),
        "rows_per_call": round(bench.rows / calls, 1),
        "elapsed_s": round(seconds, 3),
        "steal_pct": round(max(0.0, 1 - spent / seconds) * 100, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    result = run(given.calls, given.profile)
    for name, value in result.items():
        print(f"{name:>18}  {value}")
    if given.json:
        given.json.write_text(json.dumps({"core": result}, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
