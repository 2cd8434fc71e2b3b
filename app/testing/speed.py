"""How many whole calls a second the simulator does: `python -m app.testing.speed [--calls 2000] [--profile] [--at-least 2000]`.

A call is a full one through the demo's order status hotline, written as a user's test would write it: a stranger is looked up by number
and not found, seven digits and `#` barge in on the question, the second lookup finds a premium customer, an agent is offered the call,
sees the record, answers, talks, hangs up and is done with the wrap-up. The checks that follow every test are made too. Figures are by CPU
time of this one process on one core, over all rounds and of the fastest round: on a machine that is busy with other things the same work
takes more CPU time, and the fastest round tells what the program needs. The collector of cyclic garbage does not run by itself here, but
once at the end of every round, which is counted.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import pstats
import sys
import time
from pathlib import Path

from app.testing.centre import VirtualCentre
from app.testing.project import Project

DEMO = Path(__file__).parents[1] / "demo"
A_ROUND = 100
"""Calls of one centre; each round has its own, as each test does."""


def whole_call(centre: VirtualCentre) -> None:
    """One call, and what is asked about it."""
    call = centre.dial("+493055500099")
    call.hears("ask_reference").presses("7332215#").ends()
    assert (call.queue, call.agent, call.outcome) == ("premium", "101", "answered")
    centre.waits(6)


def make_centre(project: Project) -> VirtualCentre:
    """A centre whose one agent serves everybody."""
    centre = VirtualCentre(project)
    centre.action("crm.contact_by_reference").answers(sample="premium_with_an_order", skills={"lang.en": 5, "product.printers": 3})
    centre.agent("101").ready().always_answers(after=1.0, talks=5.0, wraps_up=2.0)
    return centre


def run(calls: int, profile: bool = False) -> dict[str, float]:
    """Simulate so many calls, in whole rounds; figures by name."""
    project = Project.load(DEMO)
    whole_call(make_centre(project))
    gc.collect()
    gc.freeze()
    gc.disable()
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    virtual, events, done, spent, fastest = 0.0, 0, 0, 0.0, 0.0
    while done < calls:
        cpu = time.process_time()
        centre = make_centre(project)
        start = centre.now
        for _ in range(A_ROUND):
            whole_call(centre)
        centre.check()
        gc.collect()
        took = time.process_time() - cpu
        virtual, events, done, spent = virtual + centre.now - start, events + centre.events, done + A_ROUND, spent + took
        fastest = max(fastest, A_ROUND / took)
    profiler.disable()
    gc.enable()
    gc.unfreeze()
    if profile:
        pstats.Stats(profiler).sort_stats("tottime").print_stats(30)
    return {
        "calls": done,
        "calls a second": round(done / spent),
        "in the fastest round": round(fastest),
        "events a call": round(events / done, 1),
        "CPU ms a call": round(spent / done * 1000, 3),
        "virtual s a call": round(virtual / done, 1),
    }


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m app.testing.speed", description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--profile", action="store_true")
    parser.add_argument(
        "--at-least", type=float, default=0.0, metavar="CALLS", help="fail below so many calls a second in the fastest round"
    )
    given = parser.parse_args()
    figures = run(given.calls, given.profile)
    for name, value in figures.items():
        print(f"{name:>20}  {value}")
    if figures["in the fastest round"] < given.at_least:
        sys.exit(f"fewer than {given.at_least:g} calls a second in every round")


if __name__ == "__main__":
    main()
