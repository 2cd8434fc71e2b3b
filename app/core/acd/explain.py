"""Why: the decision record kept with every match, and the answer to "why not that agent".

The ranking of agents for one interaction is `(is the last agent, fit, versatility, idle since, id)`:

- *last agent*: who served this caller before goes first, whatever his fit;
- *fit*: the band of the weakest of the skills the interaction asked for at first: 0 when all are at level 8 or more, 1 at 5
  or more, 2 below, 3 when one is missing (relaxation dropped it). Bands and not exact levels, so that one level more does
  not use up somebody whom only he could replace;
- *versatility*: the number of skills and queues; the polyglot stays free;
- *idle since*: the longest idle first; *id*: so that equal inputs give equal answers.

A record is small and plain JSON: what was asked, how long it waited, the key that placed it, what each rule saw of the agent
chosen, and the runner-up with the first rule that put him second.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from app.core.acd.agents import Agent
from app.core.acd.matching import BANDS
from app.core.acd.queues import Waiting

Rank: TypeAlias = tuple[int, int, int, float, str]
RULES = ("last_agent", "fit", "versatility", "idle_since", "id")


def fit(skills: Mapping[str, int], asked: Mapping[str, int]) -> int:
    """The band of the weakest skill: 0 (expert) to 3 (lacks one); 0 when nothing is asked."""
    weakest = 10
    for skill in asked:
        weakest = min(weakest, skills.get(skill, 0))
    for number, band in enumerate(BANDS):
        if weakest >= band:
            return number
    return len(BANDS)


def rank(agent: Agent, item: Waiting) -> Rank:
    """The sort key of an agent for an interaction: the smallest is chosen."""
    about = agent.definition
    return (about.id != item.last_agent, fit(about.skills, item.skills), about.versatility, agent.idle_since, about.id)


def decision(item: Waiting, asked: Mapping[str, int], agent: Agent, runner_up: Agent | None, now: float) -> dict[str, Any]:
    """The record of one match. Times in seconds."""
    chosen = rank(agent, item)
    record: dict[str, Any] = {
        "agent": agent.definition.id,
        "queue": item.queue,
        "waited": now - item.first,
        "credit": item.credit,
        "asked": dict(item.skills),
        "relaxed": dict(asked),
        "last_agent": not chosen[0],
        "fit": chosen[1],
        "versatility": chosen[2],
        "idle": now - agent.idle_since,
        "runner_up": None,
    }
    if runner_up is not None:
        record["runner_up"] = {"agent": runner_up.definition.id, "behind_by": behind_by(chosen, rank(runner_up, item))}
    return record


def behind_by(first: Rank, second: Rank) -> str:
    """The first rule by which `second` comes after `first`."""
    return next(rule for rule, a, b in zip(RULES, first, second, strict=True) if a != b)


def why_not(item: Waiting, asked: Mapping[str, int], agent: Agent, held_for: str, now: float) -> dict[str, Any]:
    """The first thing that keeps `agent` from being offered `item`; `{"reason": "none"}` when nothing does."""
    about = agent.definition
    lacking = {skill: level for skill, level in asked.items() if about.skills.get(skill, 0) < level}
    if item.queue not in about.queues:
        return {"reason": "queue", "queue": item.queue}
    if lacking:
        return {"reason": "skills", "lacking": lacking}
    if item.refused.get(about.id, now) > now:
        return {"reason": "refused", "until": item.refused[about.id]}
    if agent.presence != "ready":
        return {"reason": agent.presence, "detail": agent.reason}
    if agent.pending:
        return {"reason": "pending", "detail": agent.pending}
    if agent.work:
        return {"reason": "busy", "work": [state for state, _ in agent.work.values()]}
    if not agent.available:
        return {"reason": "phone", "reachable": agent.reachable, "in_use": agent.in_use}
    if held_for and held_for != about.id:
        return {"reason": "last_agent", "waits_for": held_for, "until": item.last_agent_until}
    return {"reason": "none"}
