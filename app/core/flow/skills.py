"""The skills that a step asks of the agent who is to serve a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import facts
from app.core.acd.queues import MAX_SKILLS, check_skills

if TYPE_CHECKING:
    from app.core.call import Call
    from app.core.flow.program import Callback, Queue


def skills_asked(call: Call, node: Queue | Callback) -> dict[str, int] | None:
    """The step's own skills over those of the map that it names; None, with a note why, where no agent can have them."""
    skills = dict(node.skills)
    if node.skills_from:
        asked = call.vars.get(node.skills_from)
        if isinstance(asked, dict):
            skills = {**asked, **skills}
    try:
        skills = {str(skill): int(level) for skill, level in skills.items()}
        check_skills(skills, f"the {node.do} step")
    except (ValueError, TypeError, OverflowError) as error:
        call.note(facts.Noticed(call.id, "skills that no agent can have", str(error)))
        return None
    if len(skills) > MAX_SKILLS:
        call.note(facts.Noticed(call.id, "too many skills", f"{len(skills)} asked for, {MAX_SKILLS} at most"))
        return None
    return skills
