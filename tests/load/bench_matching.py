"""Matching at full size: 10,000 agents and 10,000 waiting, with levels, priorities, last agents, several queues and relaxation.

    python tests/load/bench_matching.py [--size 10000] [--decisions 4000] [--json FILE]

A decision is everything the distributor does from the verb to the list of matches, decision record included: an agent ends
his wrap-up and takes the head of all he can serve; a call arrives and takes the best of the agents who are available; and
both where nobody fits. Each is measured for three numbers of distinct sets of skills asked. The collector is frozen; time
stolen by other machines on this host is printed, and a yardstick after each case, because both are in the numbers.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from app.core.acd import Acd, AgentDef, QueueDef, Relax, Waiting

SKILLS = [f"skill{n}" for n in range(50)]
QUEUES = [f"queue{n}" for n in range(6)]
SKILLS_OF_AGENT = 5
START = 1_000_000.0


class Centre:
    """A centre of random agents, and random callers whom at least one of them could serve."""

    def __init__(self, size: int, sets: int, seed: int = 1) -> None:
        self.rng = random.Random(seed)
        self.queues = {name: QueueDef(name, relax=(Relax(60, "skill0", 2), Relax(300, "skill1", 0))) for name in QUEUES}
        self.agents = {f"a{n:05}": self._agent(f"a{n:05}") for n in range(size)}
        self.acd = Acd(self.queues, self.agents)
        self.names = list(self.agents)
        self.asks = [self._ask() for _ in range(sets)] if sets else []
        self.calls = 0
        self.now = START

    def _agent(self, name: str) -> AgentDef:
        rng = self.rng
        skills = {skill: rng.randint(1, 10) for skill in rng.sample(SKILLS, SKILLS_OF_AGENT)}
        return AgentDef(name, name, name, skills, tuple(rng.sample(QUEUES, rng.randint(1, 3))))

    def _ask(self) -> tuple[str, dict[str, int]]:
        rng = self.rng
        agent = self.agents[rng.choice(self.names)]
        skills = rng.sample(sorted(agent.skills), rng.randint(1, 5))
        return rng.choice(agent.queues), {skill: rng.randint(1, agent.skills[skill]) for skill in skills}

    def caller(self) -> Waiting:
        """One more caller: a known ask or one of his own, some with priority, some with a last agent."""
        self.calls += 1
        self.now += 0.01
        rng = self.rng
        queue, skills = rng.choice(self.asks) if self.asks else self._ask()
        credit = rng.choices((3600.0, 0.0, -3600.0), (1, 8, 1))[0]
        last = rng.choice(self.names) if rng.random() < 0.2 else None
        return Waiting(f"c{self.calls:07}", queue, skills, self.now, credit, last, self.now + 20 if last else 0.0)

    def load(self, name: str, *, busy: bool) -> None:
        """An agent who is ready, or in wrap-up."""
        work = [{"interaction": f"w-{name}", "state": "wrap_up", "since": START}] if busy else []
        about: dict[str, Any] = {"presence": "ready", "reason": "", "since": START, "pending": "", "pending_reason": "", "desk": True}
        self.acd.load_agent(
            name, {**about, "work": work, "idle_since": START - self.rng.random() * 600, "phone": {"reachable": True, "in_use": False}}
        )


def agents_free(size: int, sets: int, decisions: int) -> tuple[list[int], list[int]]:
    """Everybody is busy and `size` callers wait. Nanoseconds for an agent to end his work and get a caller; for a caller to find nobody."""
    centre = Centre(size, sets)
    acd = centre.acd
    for name in centre.names:
        centre.load(name, busy=True)
    acd.restore([centre.caller() for _ in range(size)])
    centre.now += 30
    acd.match(centre.now)
    in_hand = {name: f"w-{name}" for name in centre.names}
    free, nobody = [], []
    freeze()
    while len(free) < decisions:
        name = centre.rng.choice(centre.names)
        interaction, now = in_hand[name], centre.now
        begin = time.perf_counter_ns()
        acd.work(name, interaction, "done", now)
        found = acd.match(now)
        took = time.perf_counter_ns() - begin
        if not found:
            centre.load(name, busy=True)
            in_hand[name] = f"w-{name}"
            continue
        free.append(took)
        in_hand[name] = found[0].interaction
        for verb in ("answer", "joined", "hangup"):
            acd.work(name, in_hand[name], verb, now)
        caller = centre.caller()
        begin = time.perf_counter_ns()
        acd.enqueue(caller, centre.now)
        found = acd.match(centre.now)
        nobody.append(time.perf_counter_ns() - begin)
        assert not found, "all agents are busy"
    return free, nobody


def calls_arrive(size: int, sets: int, decisions: int) -> tuple[list[int], list[int]]:
    """`size` agents are available. Nanoseconds for a caller to get one; for an agent to come back and find nobody."""
    centre = Centre(size, sets)
    acd = centre.acd
    for name in centre.names:
        centre.load(name, busy=False)
    acd.match(centre.now)
    arrives, back = [], []
    freeze()
    for _ in range(decisions):
        caller = centre.caller()
        begin = time.perf_counter_ns()
        acd.enqueue(caller, centre.now)
        found = acd.match(centre.now)
        arrives.append(time.perf_counter_ns() - begin)
        match = found[0]
        for verb in ("answer", "joined", "hangup"):
            acd.work(match.agent, match.interaction, verb, centre.now)
        begin = time.perf_counter_ns()
        acd.work(match.agent, match.interaction, "done", centre.now)
        found = acd.match(centre.now)
        back.append(time.perf_counter_ns() - begin)
        assert not found, "nobody waits"
    return arrives, back


def nobody_fits(size: int, sets: int, decisions: int) -> tuple[list[int], list[int]]:
    """Half the agents available and `size` callers waiting, none of whom they can serve.

    Nanoseconds for one more agent to become available in vain; for one more caller to arrive in vain.
    """
    centre = Centre(size, sets)
    acd = centre.acd
    for place, name in enumerate(centre.names):
        centre.load(name, busy=place % 2 == 1)
    unanswerable = []
    for _ in range(size):
        caller = centre.caller()
        others = [skill for skill in SKILLS if skill not in caller.skills]
        lacking = dict.fromkeys(centre.rng.sample(others, 5 - len(caller.skills)), 9)
        unanswerable.append(Waiting(caller.interaction, caller.queue, {**caller.skills, **lacking}, caller.first, caller.credit))
    acd.restore(unanswerable)
    acd.match(centre.now)
    agents, callers = [], []
    idle = [name for name in centre.names if acd.state(name)["presence"] == "ready" and not acd.state(name)["work"]]
    freeze()
    while len(agents) < decisions:
        name = centre.rng.choice(idle)
        acd.phone(name, True, True, centre.now)
        begin = time.perf_counter_ns()
        acd.phone(name, True, False, centre.now)
        found = acd.match(centre.now)
        agents.append(time.perf_counter_ns() - begin)
        assert not found, "nobody fits"
        ask = centre.rng.choice(unanswerable)
        centre.now += 0.01
        caller = Waiting(f"n{len(agents)}", ask.queue, ask.skills, centre.now, ask.credit)
        begin = time.perf_counter_ns()
        acd.enqueue(caller, centre.now)
        found = acd.match(centre.now)
        callers.append(time.perf_counter_ns() - begin)
        for match in found:
            acd.work(match.agent, match.interaction, "withdraw", centre.now)
        acd.leave(caller.interaction)
    return agents, callers


def freeze() -> None:
    """No collection in what is measured."""
    gc.collect()
    gc.freeze()
    gc.disable()


def summary(taken: list[int]) -> dict[str, float]:
    """Decisions a second, and microseconds at the 50th, 99th and 99.9th percentile."""
    ordered = sorted(taken)
    at = {f"p{q}": ordered[min(len(ordered) - 1, int(len(ordered) * q / 100))] / 1000 for q in (50, 99, 99.9)}
    return {"per_second": len(taken) / (sum(taken) / 1e9), **at, "max": ordered[-1] / 1000}


def yardstick(size: int) -> float:
    """Microseconds for 50 unions of two columns, the median just now: what this machine gives, to hold the other numbers against."""
    rng = random.Random(1)
    one, other = rng.getrandbits(size), rng.getrandbits(size)
    taken = []
    for _ in range(1000):
        begin = time.perf_counter_ns()
        for _ in range(50):
            one | other
        taken.append(time.perf_counter_ns() - begin)
    return summary(taken)["p50"]


def stolen() -> tuple[int, int]:
    """Ticks stolen from this machine, and all ticks."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:]]
    return ticks[7], sum(ticks[:8])


CASES: dict[str, tuple[Callable[[int, int, int], tuple[list[int], list[int]]], tuple[str, str]]] = {
    "all busy": (agents_free, ("agent becomes free", "call arrives, all busy")),
    "all available": (calls_arrive, ("call arrives", "agent free, nobody waits")),
    "nobody fits": (nobody_fits, ("agent free, nobody fits", "call arrives, nobody fits")),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=10_000)
    parser.add_argument("--decisions", type=int, default=4_000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{options.size} agents x {options.size} waiting, {SKILLS_OF_AGENT} of {len(SKILLS)} skills an agent, {len(QUEUES)} queues")
    heads = (("decisions/s", 13), ("p50 us", 9), ("p99 us", 9), ("p99.9 us", 10), ("max us", 9), ("steal %", 9), ("50 | us", 9))
    print(f"{'case':<28}{'skill sets':>12}" + "".join(f"{head:>{width}}" for head, width in heads))
    for run, names in CASES.values():
        for sets in (20, 200, 0):
            before = stolen()
            measured = run(options.size, sets, options.decisions)
            after = stolen()
            unit = yardstick(options.size)
            gc.enable()
            gc.unfreeze()
            steal = 100 * (after[0] - before[0]) / max(1, after[1] - before[1])
            for name, taken in zip(names, measured, strict=True):
                row = {"case": name, "sets": sets or "distinct", **summary(taken), "steal_pct": steal, "yardstick_us": unit}
                rows.append(row)
                print(
                    f"{name:<28}{row['sets']:>12}{row['per_second']:>13,.0f}{row['p50']:>9.1f}{row['p99']:>9.1f}"
                    f"{row['p99.9']:>10.1f}{row['max']:>9.0f}{steal:>9.1f}{unit:>9.1f}",
                    flush=True,
                )
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
