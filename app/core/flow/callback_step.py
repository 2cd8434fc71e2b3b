"""The step that offers to call the caller back. What comes of a booking is the centre's business (`app.core.callbacks`)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from app.core import facts
from app.core.flow import program as nodes
from app.core.flow.script import NO_INPUT, PERSON, BookCallback, Keys, Script, Wait, answer, collect
from app.core.flow.skills import skills_asked

if TYPE_CHECKING:
    from app.core.call import Call


def callback(call: Call, node: nodes.Callback) -> Script[str]:
    """Nobody is asked whose number must not be dialled, or for whom no agent can have the skills."""
    yield from answer(call)
    skills = skills_asked(call, node)
    if skills is None:
        return "failed"
    attach = {name: call.fill_or_empty(text) for name, text in node.attach.items()}
    number = call.fill_or_empty(node.number).strip()
    times = (node.ring, node.attempts, node.retry_after, node.within)
    order = BookCallback(number, node.through or "", node.queue, skills, node.place, attach, *times)
    yield order
    allowed = yield Wait((facts.Outcome,), None)
    if allowed.outcome == "failed":
        return "failed"
    answered = yield from _asked(call, node)
    if answered != "yes":
        return answered
    yield order.sure()
    booked = yield Wait((facts.Outcome,), None)
    return str(booked.outcome)


def _asked(call: Call, node: nodes.Callback) -> Script[str]:
    """`yes`, or the exit of a caller who does not want it, or presses neither key."""
    wanted = Keys(1, "", node.first_key, node.first_key, node.first_key)
    person = call.person_key(node)
    prompt = call.prompt(node.prompt)
    for _ in range(node.tries):
        _, key = yield from collect(call, wanted, prompt)
        if key == node.yes:
            return "yes"
        if key == node.no:
            return "declined"
        if key and key == person:
            return PERSON
        again = node.retry_no_match if key else node.retry_no_input
        prompt = call.prompt(again or node.prompt)
    return NO_INPUT
