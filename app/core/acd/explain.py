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
from typing import Any, NamedTuple, TypeAlias

from app.core.acd.agents import Agent, AgentDef
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


def rank(about: AgentDef, idle_since: float, item: Waiting) -> Rank:
    """The sort key of an agent for an interaction: the smallest is chosen."""
    return (about.id != item.last_agent, fit(about.skills, item.skills), about.versatility, idle_since, about.id)


class Seen(NamedTuple):
    """What was seen when an interaction was given to an agent; nothing in it changes any more. The second of `agents` is the runner-up."""

    item: Waiting
    asked: Mapping[str, int]
    agents: tuple[AgentDef, ...]
    idle_since: tuple[float, ...]
    now: float

    def record(self) -> dict[str, Any]:
        """The record of the match. Times in seconds."""
        item = self.item
        chosen, *others = [rank(about, idle_since, item) for about, idle_since in zip(self.agents, self.idle_since, strict=True)]
        return {
            "agent": self.agents[0].id,
            "queue": item.queue,
            "waited": self.now - item.first,
            "credit": item.credit,
            "asked": dict(item.skills),
            "relaxed": dict(self.asked),
            "last_agent": not chosen[0],
            "fit": chosen[1],
            "versatility": chosen[2],
            "idle": self.now - self.idle_since[0],
            "runner_up": {"agent": self.agents[1].id, "behind_by": behind_by(chosen, others[0])} if others else None,
        }


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
