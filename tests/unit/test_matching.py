"""The bitset matcher against a plain sort: same answers over random centres; and the parts it is made of."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.acd import Acd, AgentDef, QueueDef, Relax, Waiting, matching
from app.core.acd.matching import Family, levels_from, levels_of, mask, members
from app.core.acd.relaxation import FOREVER, final, next_step, relaxed

SKILLS = ("de", "en", "fr", "router")
QUEUES = ("sales", "support", "billing")


# ---- the oracle: go through all, sort, take the first -----------------------------------------------------------------


def asked_after(item: Waiting, rules: Sequence[Relax], now: float) -> dict[str, int]:
    """What is asked, level by level: the least of the ask and of every rule that has applied."""
    least = {
        skill: min([level] + [rule.level for rule in rules if rule.skill == skill and now - item.first >= rule.after])
        for skill, level in item.skills.items()
    }
    return {skill: level for skill, level in least.items() if level > 0}


def serves(agent: AgentDef, item: Waiting, asked: Mapping[str, int], now: float) -> bool:
    """Whether the agent could be given the interaction at all."""
    skilled = all(agent.skills.get(skill, 0) >= level for skill, level in asked.items())
    return item.queue in agent.queues and skilled and not item.refused.get(agent.id, now) > now


def band(level: int) -> int:
    """The band of fit that a level is in."""
    return 0 if level >= 8 else 1 if level >= 5 else 2 if level >= 1 else 3


def naive(
    queues: Mapping[str, QueueDef],
    agents: Mapping[str, AgentDef],
    states: Sequence[Mapping[str, Any]],
    waiting: Sequence[Waiting],
    now: float,
) -> list[tuple[str, str]]:
    """Who gets whom, from the rules alone: (interaction, agent) in the order of decisions."""
    committed = {s["id"]: s for s in states if s["presence"] == "ready" and not s["pending"] and s["phone"]["reachable"]}
    free = {name: s for name, s in committed.items() if not s["work"] and not s["phone"]["in_use"]}
    matches = []
    for item in sorted(waiting, key=lambda w: (w.first - w.credit, w.first, w.interaction)):
        asked = asked_after(item, queues[item.queue].relax, now)
        able = [agents[name] for name in free if serves(agents[name], item, asked, now)]
        last = item.last_agent
        if last in committed and now < item.last_agent_until and serves(agents[last], item, asked, now):
            able = [agent for agent in able if agent.id == last]
        if able:
            best = min(
                able,
                key=lambda a: (
                    a.id != item.last_agent,
                    max((band(a.skills.get(skill, 0)) for skill in item.skills), default=0),
                    len(a.skills) + len(a.queues),
                    free[a.id]["idle_since"],
                    a.id,
                ),
            )
            matches.append((item.interaction, best.id))
            del free[best.id]
    return matches


# ---- random centres ------------------------------------------------------------------------------------------------------

skill_sets = st.dictionaries(st.sampled_from(SKILLS), st.integers(1, 10), max_size=4)
rules = st.lists(st.builds(Relax, st.integers(1, 90).map(float), st.sampled_from(SKILLS), st.integers(0, 6)), max_size=3).map(tuple)


@st.composite
def centres(draw: st.DrawFn) -> tuple[dict[str, QueueDef], dict[str, AgentDef]]:
    """Queues with rules, and up to eight agents of them."""
    queues = {name: QueueDef(name, relax=draw(rules)) for name in QUEUES}
    agents = {
        name: AgentDef(name, name.title(), f"phone-{name}", draw(skill_sets), tuple(draw(st.sets(st.sampled_from(QUEUES), min_size=1))))
        for name in [f"a{n}" for n in range(draw(st.integers(1, 8)))]
    }
    return queues, agents


@st.composite
def waitings(draw: st.DrawFn, interaction: str, first: float) -> Waiting:
    """Somebody who waits since `first`, asking a little of everything; also a skill that no agent has."""
    return Waiting(
        interaction,
        draw(st.sampled_from(QUEUES)),
        draw(st.dictionaries(st.sampled_from((*SKILLS, "klingon")), st.integers(1, 10), max_size=3)),
        first,
        draw(st.sampled_from((3600.0, 0.0, -3600.0, 45.0))),
        draw(st.sampled_from((None, "a0", "a1", "nobody"))),
        first + draw(st.integers(0, 60)),
    )


@pytest.fixture(autouse=True)
def _cramped(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slots so scarce that columns are shifted, wiped and packed all the time."""
    for name, small in (("ROOM", 2), ("DEAD", 2), ("SPARSE", 4)):
        monkeypatch.setattr(matching, name, small)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), centre=centres())
def test_the_matcher_decides_what_a_plain_sort_decides(
    data: st.DataObject, centre: tuple[dict[str, QueueDef], dict[str, AgentDef]]
) -> None:
    queues, agents = centre
    acd, waiting, now = Acd(queues, agents), {}, 0.0
    for name in agents:
        acd.sign_in(name, now)
        acd.phone(name, True, False, now)
    for turn in range(data.draw(st.integers(1, 12))):
        now += data.draw(st.integers(0, 40))
        for n in range(data.draw(st.integers(0, 4))):
            item = data.draw(waitings(f"i{turn}-{n}", now - data.draw(st.sampled_from((0, 0, 30)))))
            waiting[item.interaction] = item
            acd.enqueue(item, now)
        for name in data.draw(st.sets(st.sampled_from(sorted(agents)))):
            state = acd.state(name)
            if state["presence"] == "not_ready":
                acd.ready(name, now)
            for row in state["work"]:
                for verb in ("answer", "joined", "hangup", "done"):
                    acd.work(name, row["interaction"], verb, now)
        expected = naive(queues, agents, acd.states(), list(waiting.values()), now)
        found = acd.match(now)
        assert [(m.interaction, m.agent) for m in found] == expected
        for match in found:
            del waiting[match.interaction]
        for queue in queues:
            line = sorted((w for w in waiting.values() if w.queue == queue), key=lambda w: w.key)
            assert acd.waiting(queue) == line
            assert [acd.position(w.interaction) for w in line] == list(range(1, len(line) + 1))


@settings(max_examples=150, deadline=None)
@given(
    centre=centres(), item=waitings("i", 0.0), signed_in=st.sets(st.integers(0, 7)), ready=st.sets(st.integers(0, 7)), matched=st.booleans()
)
def test_able_counts_who_could_ever_serve_and_who_could_now(
    centre: tuple[dict[str, QueueDef], dict[str, AgentDef]], item: Waiting, signed_in: set[int], ready: set[int], matched: bool
) -> None:
    queues, agents = centre
    acd = Acd(queues, agents)
    present = [name for n, name in enumerate(agents) if n in signed_in]
    free = [name for n, name in enumerate(agents) if n in signed_in & ready]
    for name in present:
        acd.sign_in(name, 0.0)
        acd.phone(name, True, False, 0.0)
    for name in free:
        acd.ready(name, 0.0)
    if matched:
        acd.match(0.0)
    asked = asked_after(item, queues[item.queue].relax, 1e9)
    able = {name for name, agent in agents.items() if serves(agent, item, asked, 0.0)}
    assert acd.able(item.queue, item.skills) == (len(able & set(present)), len(able & set(free)))


# ---- families ------------------------------------------------------------------------------------------------------------


def test_a_family_keeps_order_and_columns_through_shifts_burials_and_packing() -> None:
    """Column 0 is exact; 1 and 2 are left stale by those who go, and hold a member by a rule on its key."""
    rng = random.Random(7)
    family: Family[tuple[float, int]] = Family(3)
    living: set[tuple[float, int]] = set()
    gone: list[tuple[float, int]] = []
    widest = 0
    for n in range(6000):
        roll = rng.random()
        if roll < 0.45 or not living:
            key = rng.choice(gone) if gone and rng.random() < 0.3 else (n + rng.choice((0, 0, 0, -500, 500, rng.uniform(-2000, 0))), n)
            living.add(key)
            bit = 1 << family.add(key)
            for column in (0, *(column for column in (1, 2) if key[1] & column)):
                family.bits[column] |= bit
        else:
            key = min(living) if roll < 0.9 else rng.choice(sorted(living))
            living.remove(key)
            family.bits[0] ^= 1 << family.slot[key]
            family.discard(key)
            gone = [*gone[-20:], key]
        widest = max(widest, *(bits.bit_length() for bits in family.bits))
        assert len(family) == len(living)
        if n % 20 == 0:
            for column in range(3):
                found = [family.at[slot] for slot in members(family.bits[column] & family.bits[0])]
                assert found == sorted(key for key in living if key[1] & column == column)
    assert widest < 20_000


def test_callers_who_return_to_places_all_over_the_line_do_not_blow_up_the_columns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "ROOM", 64)
    family: Family[tuple[float]] = Family(1)
    keys = [(float(n),) for n in range(3000)]
    random.Random(3).shuffle(keys)
    for key in keys:
        slot = family.add(key)
        family.bits[0] |= 1 << slot
    assert [family.at[slot] for slot in members(family.bits[0])] == sorted(keys)
    assert family.bits[0].bit_length() < 10 * len(keys)


@given(st.sets(st.integers(0, 5000)))
def test_masks_and_members_are_inverse(slots: set[int]) -> None:
    assert members(mask(slots)) == sorted(slots, reverse=True)


@pytest.mark.parametrize("level", range(11))
@pytest.mark.parametrize("least", range(1, 12))
def test_a_minimum_level_finds_exactly_the_levels_above(level: int, least: int) -> None:
    assert bool(set(levels_of(level)) & set(levels_from(least))) == (level >= least)


# ---- relaxation ------------------------------------------------------------------------------------------------------------

STEPS = (Relax(30, "de", 3), Relax(60, "de", 0), Relax(45, "router", 2))


@pytest.mark.parametrize(
    ("waited", "asked", "following"),
    [
        (0, {"de": 7, "router": 1}, 30),
        (29.9, {"de": 7, "router": 1}, 30),
        (30, {"de": 3, "router": 1}, 45),
        (45, {"de": 3, "router": 1}, 60),
        (60, {"router": 1}, FOREVER),
    ],
)
def test_asks_shrink_with_the_wait_and_never_grow(waited: float, asked: dict[str, int], following: float) -> None:
    assert relaxed({"de": 7, "router": 1}, STEPS, waited) == asked
    assert next_step({"de": 7, "router": 1}, STEPS, waited) == following


def test_the_order_of_the_rules_does_not_matter() -> None:
    assert final({"de": 7, "router": 5}, STEPS) == final({"de": 7, "router": 5}, STEPS[::-1]) == {"router": 2}


@pytest.mark.parametrize(("after", "level"), [(-1, 3), (float("inf"), 3), (float("nan"), 3), (10, 11), (10, -1)])
def test_a_rule_out_of_range_is_refused(after: float, level: int) -> None:
    with pytest.raises(ValueError, match="relax"):
        Relax(after, "de", level)
