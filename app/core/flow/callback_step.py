"""The step that offers to call the caller back. What comes of a booking is the centre's business (`app.core.callbacks`)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from app.core import facts
from app.core.flow import program as nodes
from app.core.flow.script import NO_INPUT, PERSON, BookCallback, Keys, Script, Wait, answer, collect
from app.core.flow.skills import skills_asked

if TYPE_CHECKING:
    from app.core.call import Call

_CLOCK = re.compile(r"([01]\d|2[0-3])([0-5]\d)")


def callback(call: Call, node: nodes.Callback) -> Script[str]:
    """Nobody is asked whose number must not be dialled, or for whom no agent can have the skills."""
    yield from answer(call)
    skills = skills_asked(call, node)
    if skills is None:
        return "failed"
    attach = {name: call.fill_or_empty(text) for name, text in node.attach.items()}
    number = call.fill_or_empty(node.number).strip()
    start = _start(call, node)
    if start is None:
        return "failed"
    times = (node.ring, node.attempts, node.retry_after, node.within, node.hours or "", start)
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


def _start(call: Call, node: nodes.Callback) -> float | None:
    """When calling back may begin, in the hours and at the time that are wanted; 0 for at once, None where it cannot be told."""
    call.set("call.callback", "")
    if node.hours is None:
        return 0.0
    table, wanted = call.flow.program.tables[node.hours], call.now
    if node.wish is not None:
        typed = _CLOCK.fullmatch(call.fill_or_empty(node.wish).strip())
        if typed is None:
            call.note(facts.Noticed(call.id, "no callback", f"{node.wish} is no time of day such as 0930"))
            return None
        wanted = table.at_clock(call.now, 60 * int(typed[1]) + int(typed[2]))
    start = table.opens(wanted)
    if start is None:
        call.note(facts.Noticed(call.id, "calendar has no hours from today on", f"{node.hours}: publish the flow anew"))
    elif start > call.now:
        call.set("call.callback", table.local(start))
    return start


def _asked(call: Call, node: nodes.Callback) -> Script[str]:
    """`yes`, or the exit of a caller who does not want it, or presses neither key."""
    wanted = Keys(1, "", node.first_key, node.first_key, node.first_key)
    person = call.person_key(node)
    offer = node.prompt_later if node.prompt_later and call.vars["call.callback"] else node.prompt
    prompt = call.prompt(offer)
    for _ in range(node.tries):
        _, key = yield from collect(call, wanted, prompt)
        if key == node.yes:
            return "yes"
        if key == node.no:
            return "declined"
        if key and key == person:
            return PERSON
        again = node.retry_no_match if key else node.retry_no_input
        prompt = call.prompt(again or offer)
    return NO_INPUT
