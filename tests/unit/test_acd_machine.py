"""A machine that does anything in any order: no call is lost, no agent offered twice, the order is kept, a restart changes nothing."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from app.core.acd import WORK, Acd, AgentDef, IllegalMove, QueueDef, Waiting, family
from tests.unit.test_matching import SKILLS, centres, naive, waitings

VERBS = sorted({verb for verbs in WORK.values() for verb in verbs})
EXAMPLES, STEPS = int(os.environ.get("ACD_MACHINE_EXAMPLES", "60")), 50


class CentreMachine(RuleBasedStateMachine):
    """A centre beside a plain model of who is where."""

    @initialize(centre=centres())
    def open(self, centre: tuple[dict[str, QueueDef], dict[str, AgentDef]]) -> None:
        self.queues, self.agents = centre
        self.acd = Acd(self.queues, self.agents)
        self.now = 0.0
        self.born = 0
        self.waiting: dict[str, Waiting] = {}
        self.offered: dict[str, str] = {}
        self.unplaced: set[str] = set()
        for name in list(self.agents)[::2]:
            self.acd.sign_in(name, 0.0)
            self.acd.phone(name, True, False, 0.0)
            self.acd.ready(name, 0.0)

    def picture(self, acd: Acd) -> dict[str, Any]:
        """All that can be seen of a centre."""
        return {
            "agents": [acd.dump_agent(name) for name in self.agents],
            "lines": {queue: [item.dump() for item in acd.waiting(queue)] for queue in self.queues},
            "places": {name: acd.position(name) for name in self.waiting},
            "able": {queue: [acd.able(queue, {skill: 5}) for skill in SKILLS] for queue in self.queues},
        }

    def legal(self, action: Any, *arguments: Any) -> bool:
        """Do it; if that is not legal, see that nothing has changed."""
        before = self.picture(self.acd)
        try:
            action(*arguments)
        except IllegalMove:
            assert self.picture(self.acd) == before
            return False
        return True

    def copy(self) -> Acd:
        """The same centre in a new process: built from rows that went through JSON."""
        held = [*self.waiting, *self.offered, *self.unplaced]
        rows = json.loads(json.dumps([self.acd.item(name).dump() for name in held]))
        other = Acd(self.queues, self.agents)
        for name in self.agents:
            other.load_agent(name, json.loads(json.dumps(self.acd.dump_agent(name))))
        other.restore([Waiting.load(row) for row in rows], [*self.offered, *self.unplaced])
        return other

    # ---- what may happen ------------------------------------------------------------------------------------------------

    @rule(data=st.data(), verb=st.sampled_from(("sign_in", "sign_out", "ready", "ready", "not_ready")))
    def presence(self, data: st.DataObject, verb: str) -> None:
        self.legal(getattr(self.acd, verb), data.draw(st.sampled_from(sorted(self.agents))), self.now)

    @rule(data=st.data(), reachable=st.sampled_from((True, True, False)), in_use=st.sampled_from((False, False, True)))
    def phone(self, data: st.DataObject, reachable: bool, in_use: bool) -> None:
        self.acd.phone(data.draw(st.sampled_from(sorted(self.agents))), reachable, in_use, self.now)

    @rule(data=st.data(), connected=st.booleans())
    def desk(self, data: st.DataObject, connected: bool) -> None:
        self.acd.desk(data.draw(st.sampled_from(sorted(self.agents))), connected, self.now)

    @rule(data=st.data(), early=st.sampled_from((0, 0, 0, 50)))
    def enqueue(self, data: st.DataObject, early: int) -> None:
        self.born += 1
        item = data.draw(waitings(f"i{self.born:03}", self.now - early))
        self.acd.enqueue(item, self.now)
        self.waiting[item.interaction] = item

    @precondition(lambda self: self.waiting or self.offered)
    @rule(data=st.data())
    def leave(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted([*self.waiting, *self.offered])))
        self.acd.leave(name)
        self.waiting.pop(name, None)
        self.offered.pop(name, None)

    @precondition(lambda self: self.waiting)
    @rule(data=st.data(), credit=st.sampled_from((3600.0, -3600.0, 7.5)))
    def another_priority(self, data: st.DataObject, credit: float) -> None:
        old = self.waiting[data.draw(st.sampled_from(sorted(self.waiting)))]
        self.acd.leave(old.interaction)
        new = Waiting(old.interaction, old.queue, {}, old.first, credit)
        self.acd.enqueue(new, self.now)
        self.waiting[new.interaction] = new

    @precondition(lambda self: any(state["work"] for state in self.acd.states()))
    @rule(data=st.data(), legal=st.sampled_from((True, True, True, False)))
    def work(self, data: st.DataObject, legal: bool) -> None:
        state = data.draw(st.sampled_from([state for state in self.acd.states() if state["work"]]))
        row = state["work"][0]
        verb = data.draw(st.sampled_from(sorted(WORK[row["state"]]) if legal else VERBS))
        if not self.legal(self.acd.work, state["id"], row["interaction"], verb, self.now):
            return
        after = WORK[row["state"]][verb]
        if row["interaction"] in self.offered and verb == "joined":
            del self.offered[row["interaction"]]
        elif row["interaction"] in self.offered and after is None:
            del self.offered[row["interaction"]]
            self.unplaced.add(row["interaction"])

    @precondition(lambda self: self.unplaced or self.offered)
    @rule(data=st.data())
    def requeue(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted([*self.unplaced, *self.offered])))
        row = self.acd.item(name)
        if self.legal(self.acd.requeue, name, self.now):
            self.unplaced.remove(name)
            self.waiting[name] = row
        else:
            assert name in self.offered

    @rule(data=st.data())
    def reserve(self, data: st.DataObject) -> None:
        """One is put through to an agent by name: whoever has nothing in hand and is ready has it, and nothing else."""
        agent = data.draw(st.sampled_from(sorted(self.agents)))
        before, picture = self.acd.state(agent), self.picture(self.acd)
        self.born += 1
        why_not = self.acd.reserve(agent, f"i{self.born:03}", self.now)
        free = before["presence"] == "ready" and not (before["pending"] or before["work"] or before["phone"]["in_use"])
        assert (why_not == "") == (free and before["phone"]["reachable"])
        if why_not:
            assert self.picture(self.acd) == picture
        else:
            assert [(row["interaction"], row["state"]) for row in self.acd.state(agent)["work"]] == [(f"i{self.born:03}", "offered")]

    @rule(seconds=st.sampled_from((0.5, 1.0, 10.0, 31.0)))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def match(self) -> None:
        expected = naive(self.queues, self.agents, self.acd.states(), list(self.waiting.values()), self.now)
        other = self.copy()
        found = self.acd.match(self.now)
        assert [(match.interaction, match.agent, match.decision) for match in found] == expected
        assert other.match(self.now) == found
        assert self.acd.match(self.now) == []
        for match in found:
            assert match.decision == json.loads(json.dumps(match.decision))
            self.offered[match.interaction] = match.agent
            del self.waiting[match.interaction]
        assert self.acd.next_deadline() == other.next_deadline()
        self.nothing_happens_before_the_deadline()

    @rule()
    def the_process_is_killed(self) -> None:
        before = self.picture(self.acd)
        self.acd = self.copy()
        assert self.picture(self.acd) == before

    # ---- what must hold ---------------------------------------------------------------------------------------------------

    def nothing_happens_before_the_deadline(self) -> None:
        deadline = self.acd.next_deadline()
        just_before = self.now + 1e6 if deadline is None else deadline - 0.001
        assert deadline is None or deadline > self.now
        assert naive(self.queues, self.agents, self.acd.states(), list(self.waiting.values()), just_before) == []

    @invariant()
    def no_call_is_lost_and_the_order_is_kept(self) -> None:
        for queue in self.queues:
            line = sorted(
                (item for item in self.waiting.values() if item.queue == queue), key=lambda w: (w.first - w.credit, w.first, w.interaction)
            )
            assert self.acd.waiting(queue) == line
            assert [self.acd.position(item.interaction) for item in line] == list(range(1, len(line) + 1))
        for name in [*self.offered, *self.unplaced]:
            assert self.acd.position(name) == 0
            assert self.acd.item(name).interaction == name

    @invariant()
    def no_agent_and_no_call_is_offered_twice(self) -> None:
        rows = [(state["id"], row) for state in self.acd.states() for row in state["work"]]
        assert all(len(state["work"]) <= 1 for state in self.acd.states())
        open_offers = {row["interaction"]: name for name, row in rows if row["state"] in ("offered", "connecting")}
        assert len(open_offers) == sum(row["state"] in ("offered", "connecting") for _, row in rows)
        assert self.offered.items() <= open_offers.items()
        assert not set(self.waiting) & set(open_offers)


def test_no_call_is_lost_no_agent_offered_twice_and_a_restart_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, small in (("SIZE", 6), ("FIRST", 1), ("ROOM", 1), ("TAIL", 1)):
        monkeypatch.setattr(family, name, small)
    run_state_machine_as_test(
        CentreMachine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)),
    )
