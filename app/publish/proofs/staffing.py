"""A queue step asks for agents whom the centre has.

Whether anybody is signed in is another matter: here it is that some agent of the queue could ever serve the call, once every rule
of relaxation has applied. What a record asks for by `skills_from` is not known before the call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from app.core.acd import AgentDef
from app.core.acd.queues import MAX_SKILLS
from app.core.acd.relaxation import final
from app.publish.proofs.findings import Finding, Subject

SHOWN = 6


def unstaffed(subject: Subject) -> Iterator[Finding]:
    """Queue steps that no agent can ever serve."""
    for name, node in subject.graph.program.steps.items():
        queue = subject.queues.get(getattr(node, "queue", "") or "")
        if queue is None:
            continue
        skills: Mapping[str, int] = getattr(node, "skills", None) or {}
        asked = final(skills, queue.relax)
        members = [agent for agent in subject.agents.values() if queue.name in agent.queues]
        where = ("steps", name, "skills") if asked and members else ("steps", name, "queue")
        path = subject.graph.path_to(name)
        if not members:
            yield subject.finding("unstaffed", where, f"no agent serves the queue {queue.name!r}", path)
        elif all(_lacks(agent, asked) for agent in members):
            eased = ", also once every rule of relaxation has applied" if queue.relax else ""
            who = "; ".join(f"{agent.id} {_lacks(agent, asked)}" for agent in members[:SHOWN])
            more = f"; and {len(members) - SHOWN} more" if len(members) > SHOWN else ""
            what = f"no agent of the queue {queue.name!r} can serve this{eased}: {who}{more}"
            yield subject.finding("unstaffed", where, what, path)
        more_from = getattr(node, "skills_from", None)
        if more_from and len(skills) >= MAX_SKILLS:
            what = f"{MAX_SKILLS} skills can be asked for and all are fixed here: any other one in {more_from} makes the step fail"
            yield subject.finding("sixth skill", ("steps", name, "skills_from"), what, path, "warning")


def _lacks(agent: AgentDef, asked: Mapping[str, int]) -> str:
    """What an agent lacks; "" for one who can serve this."""
    for skill, level in asked.items():
        has = agent.skills.get(skill, 0)
        if has < level:
            return f"has {skill} at {has}, {level} is asked" if has else f"lacks {skill}"
    return ""
