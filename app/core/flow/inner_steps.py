"""The steps that work on what is known, or wait for it: language, hours, wait_for, gather, subflow. As those in `steps.py`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.core import facts
from app.core.events import ActionFailed, ActionSucceeded, Event, SessionWritten
from app.core.flow import program as nodes
from app.core.flow.conditions import ConditionFailed
from app.core.flow.script import Script, ask, mask
from app.core.flow.secret import SecretLost

if TYPE_CHECKING:
    from app.core.call import Call


def wait_for(call: Call, node: nodes.WaitFor) -> Script[str]:
    def is_set(_: Any = None) -> bool:
        value = call.vars.get(node.variable)
        if value is None or (node.variable.endswith(".answered") and value is not True):
            return False
        try:
            return node.until is None or call.test(node.until)
        except ConditionFailed:
            return False

    if is_set():
        return "set"
    found = yield from mask(call, call.mask(node.mask), (SessionWritten,), call.now + node.max_wait, is_set)
    if found is None and node.until and node.variable in call.vars:
        call.note(facts.Noticed(call.id, "waited in vain", f"{node.variable} was set, and {node.until} did not hold"))
    return "set" if found is not None else "too_long"


def gather(call: Call, node: nodes.Gather) -> Script[str]:
    until = call.now + node.budget
    asked: dict[str, str] = {}
    answers: dict[str, Event] = {}
    for into in node.ask:
        call.forget(into)
        call.set(f"{into}.found", False)
        call.set(f"{into}.answered", False)
    for into, question in node.ask.items():
        try:
            order = call.order(lambda: call.mint("rq"), question.action, question.parameters, node.budget)
        except SecretLost as error:
            call.note(facts.Noticed(call.id, "not asked", str(error)))
            continue
        asked[order.request] = into
        yield order
    if not asked:
        return "failed"

    def all_answered(event: Event) -> bool:
        if isinstance(event, ActionSucceeded | ActionFailed):
            answers[asked[event.request]] = event
        return len(answers) == len(asked)

    yield from ask(call, node.mask, node.ring, until, all_answered)
    for into in node.ask:
        call.set(f"{into}.answered", call.keep_found(into, answers.get(into)))
    good = sum(call.vars[f"{into}.answered"] for into in node.ask)
    return "done" if good == len(node.ask) else "some" if good else "failed"


def language(call: Call, node: nodes.Speak) -> Script[str]:
    wanted = call.fill_or_empty(node.to).strip().lower().replace("_", "-").partition("-")[0]
    if wanted not in call.flow.program.speaks():
        return "unknown"
    call.set("call.language", wanted)
    return "done"
    yield


def hours(call: Call, node: nodes.Hours) -> Script[str]:
    found = call.flow.program.tables[node.calendar].at(call.now)
    if found == "unknown":
        call.note(facts.Noticed(call.id, "calendar has no hours for today", f"{node.calendar}: publish the flow anew"))
        return "closed"
    return found
    yield


def subflow(call: Call, node: nodes.Subflow) -> Script[str]:
    return "begin"
    yield


INNER_STEPS: dict[str, Callable[[Call, Any], Script[str]]] = {
    "wait_for": wait_for,
    "gather": gather,
    "language": language,
    "hours": hours,
    "subflow": subflow,
}
