"""The bitset matcher against a plain sort: same answers over random centres; and the parts it is made of."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.core.acd import Acd, AgentDef, QueueDef, Relax, Waiting, family
from app.core.acd.family import Family, Seat, mask, members
from app.core.acd.matching import Layout
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


def rank(agent: AgentDef, item: Waiting, idle_since: float) -> tuple[bool, int, int, float, str]:
    """The sort key of an agent, from the rules."""
    fit = max((band(agent.skills.get(skill, 0)) for skill in item.skills), default=0)
    return (agent.id != item.last_agent, fit, len(agent.skills) + len(agent.queues), idle_since, agent.id)


def record(item: Waiting, asked: Mapping[str, int], ranked: Sequence[tuple[bool, int, int, float, str]], now: float) -> dict[str, Any]:
    """The decision record, from the sort keys of all who could have been chosen."""
    best, *others = ranked
    rules = ("last_agent", "fit", "versatility", "idle_since", "id")
    behind = [rule for rule, one, other in zip(rules, best, others[0], strict=True) if one != other] if others else []
    return {
        "agent": best[4],
        "queue": item.queue,
        "waited": now - item.first,
        "credit": item.credit,
        "asked": item.skills,
        "relaxed": asked,
        "last_agent": best[4] == item.last_agent,
        "fit": best[1],
        "versatility": best[2],
        "idle": now - best[3],
        "runner_up": {"agent": others[0][4], "behind_by": behind[0]} if others else None,
    }


def naive(
    queues: Mapping[str, QueueDef],
    agents: Mapping[str, AgentDef],
    states: Sequence[Mapping[str, Any]],
    waiting: Sequence[Waiting],
    now: float,
) -> list[tuple[str, str, dict[str, Any]]]:
    """Who gets whom and why, from the rules alone: (interaction, agent, decision record) in the order of decisions."""
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
            ranked = sorted(rank(agent, item, free[agent.id]["idle_since"]) for agent in able)
            best = ranked[0][4]
            matches.append((item.interaction, best, record(item, asked, ranked, now)))
            del free[best]
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
    """Segments so short that they are cut, dropped and packed all the time."""
    for name, small in (("SIZE", 6), ("FIRST", 1), ("ROOM", 1), ("TAIL", 1)):
        monkeypatch.setattr(family, name, small)


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
        assert [(m.interaction, m.agent, m.decision) for m in found] == expected
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


@pytest.mark.parametrize(
    ("size", "room", "tail"),
    [(3, 1, 1), (4, 9, 0), (6, 1, 3), (20, 3, 5), (20, 3, 0), (64, 4, 64), (64, 9, 4), (500, 64, 0), (5000, 2, 64), (5000, 64, 64)],
)
def test_a_family_keeps_order_and_columns_whatever_is_moved_cut_dropped_and_packed(
    size: int, room: int, tail: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Column 0 is exact; 1 and 2 are left stale by those who go, and hold a member by a rule on its key."""
    for name, number in (("SIZE", size), ("FIRST", 3 * room), ("ROOM", room), ("TAIL", tail)):
        monkeypatch.setattr(family, name, number)
    rng = random.Random(7)
    line: Family[Seat] = Family(3)
    living: dict[tuple[float, str], Seat] = {}
    gone: list[Seat] = []
    most = 0
    for n in range(6000):
        roll = rng.random()
        if roll < 0.45 or not living:
            back = gone and rng.random() < 0.3
            at = n + rng.choice((0, 0, 0, -500, 500, rng.uniform(-2000, 0)))
            seat = gone.pop(rng.randrange(len(gone))) if back else Seat((at, str(n)))
            living[seat.key] = seat
            bits, number = line.add(seat).bits, int(seat.key[1])
            for column in (0, *(column for column in (1, 2) if number & column)):
                bits[column] |= 1 << seat.slot
        else:
            seat = living.pop(min(living) if roll < 0.9 else rng.choice(sorted(living)))
            assert seat.segment is not None
            seat.segment.bits[0] ^= 1 << seat.slot
            line.discard(seat)
            gone = [*gone[-20:], seat]
        most = max(most, len(line.segments) - 2 * (len(living) // (size // 2)))
        assert all(bits.bit_length() <= size for segment in line.segments for bits in segment.bits)
        assert line.living == sum(segment.living for segment in line.segments) == len(living)
        if n % 20 == 0:
            for column in range(3):
                found = [s.at[slot].key for s in line.segments for slot in members(s.bits[column] & s.bits[0])]
                assert found == sorted(key for key in living if int(key[1]) & column == column)
            for key in rng.sample(sorted(living), min(3, len(living))):
                assert line.count_before(0, lambda other, key=key: other < key) == sum(other < key for other in living)  # type: ignore[misc]
    assert most < 10


def test_callers_who_return_to_places_all_over_the_line_do_not_make_many_segments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(family, "SIZE", 64)
    monkeypatch.setattr(family, "ROOM", 8)
    line: Family[Seat] = Family(1)
    keys = [(float(n), "") for n in range(3000)]
    random.Random(3).shuffle(keys)
    for key in keys:
        seat = Seat(key)
        line.add(seat).bits[0] |= 1 << seat.slot
    assert [s.at[slot].key for s in line.segments for slot in members(s.bits[0])] == sorted(keys)
    assert len(line.segments) < 4 * len(keys) / 64


@given(st.sets(st.integers(0, 5000)))
def test_masks_and_members_are_inverse(slots: set[int]) -> None:
    assert members(mask(slots)) == sorted(slots, reverse=True)


@pytest.mark.parametrize("level", range(11))
@pytest.mark.parametrize("least", range(1, 12))
def test_a_minimum_level_finds_exactly_the_levels_above(level: int, least: int) -> None:
    layout = Layout(QUEUES, SKILLS)
    for skill in SKILLS:
        assert (layout.at_least[skill][least] in layout.of_level[skill][level]) == (level >= least)
        assert all(layout.at_least[skill][least] not in layout.of_level[other][level] for other in SKILLS if other != skill)


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
