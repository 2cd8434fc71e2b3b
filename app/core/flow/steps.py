"""The steps of a flow: one generator for each kind, from entry to the name of the exit it takes.

`STEPS` maps the kind in the file to its generator. A step reads its node, yields what it wants done, and returns an exit.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from app.core import commands, facts
from app.core.events import ActionSucceeded, MailFailed, MailSent
from app.core.flow import program as nodes
from app.core.flow.callback_step import callback
from app.core.flow.conditions import ConditionFailed
from app.core.flow.inner_steps import INNER_STEPS
from app.core.flow.matching import whole
from app.core.flow.outside_steps import OUTSIDE_STEPS
from app.core.flow.program import chosen
from app.core.flow.script import (
    FORGOTTEN,
    MATCH,
    NO_INPUT,
    NO_MATCH,
    PERSON,
    Enqueue,
    Keys,
    Script,
    answer,
    ask,
    collect,
    delivered,
    play,
    secret_keys,
    settled,
)
from app.core.flow.secret import SecretLost
from app.core.flow.skills import skills_asked
from app.core.flow.texts import BadText

if TYPE_CHECKING:
    from app.core.call import Call


def say(call: Call, node: nodes.Say) -> Script[str]:
    if not (node.once and node.prompt in call.heard):
        call.heard.add(node.prompt)
        yield from play(call, call.prompt(node.prompt), barge_in=node.barge_in)
    return "done"


def lookup(call: Call, node: nodes.Lookup) -> Script[str]:
    call.forget(node.into)
    call.set(f"{node.into}.found", False)
    try:
        if node.unless and call.test(node.unless):
            return "none"
    except ConditionFailed as error:
        call.note(facts.Noticed(call.id, "condition failed", str(error)))
        return "failed"
    result = yield from _ask(call, node, node.ring)
    count = result.values.get("count") if isinstance(result, ActionSucceeded) else None
    if not isinstance(count, int):
        return "failed"
    if count == 1:
        call.keep(node.into, result.values)
    call.set(f"{node.into}.count", count)
    call.set(f"{node.into}.found", count == 1)
    return "found" if count == 1 else "many" if count > 1 else "none"


def act(call: Call, node: nodes.Act) -> Script[str]:
    result = yield from _ask(call, node, 0.0)
    if not isinstance(result, ActionSucceeded):
        return "failed"
    call.keep(node.into, result.values)
    return "done"


def _ask(call: Call, node: nodes.Lookup | nodes.Act, ring: float) -> Script[Any]:
    """Start the node's action and wait for its answer: ringing first, then with phrases or music, never past the budget."""
    until = call.now + node.budget
    try:
        order = call.order(lambda: call.mint("rq"), node.action, node.parameters, node.budget)
    except SecretLost as error:
        call.note(facts.Noticed(call.id, "not asked", str(error)))
        return None
    yield order
    return (yield from ask(call, node.mask, ring, until))


def keys_of(call: Call, node: nodes.Collect) -> Keys:
    """What keys a collect step wants of this caller."""
    times = (node.first_key, node.between_keys, node.total)
    least, choices = node.min_length or node.length, "".join(node.choices)
    return Keys(node.length, node.terminator, *times, call.person_key(node), least, node.barge_in, choices)


def collect_secret(call: Call, node: nodes.Collect) -> Script[str]:
    """As `collect_keys`, of keys that nobody may know. What was typed ahead does not count; a try that a take-over ended is made again."""
    call.keys = ""
    wanted, prompt, outcome, tries = keys_of(call, node), call.prompt(node.prompt), "", node.tries
    while tries:
        call.begin_secret()
        outcome = yield from secret_keys(call, wanted, prompt)
        if outcome == FORGOTTEN:
            prompt = call.prompt(node.prompt)
            continue
        if outcome not in (NO_MATCH, NO_INPUT):
            if outcome == MATCH:
                if call.secret_key is not None and call.secret_key.count == node.length:
                    call.end_entry(node.terminator)
                call.keep_secret(f"vars.{node.into}")
            return outcome
        tries -= 1
        prompt = call.prompt(node.retry_no_match if outcome == NO_MATCH else node.retry_no_input)
    call.begin_secret()
    return outcome


def collect_keys(call: Call, node: nodes.Collect) -> Script[str]:
    if node.sensitive:
        return (yield from collect_secret(call, node))
    wanted = keys_of(call, node)
    fits = whole(node.pattern) if node.pattern else None
    prompt = call.prompt(node.prompt)
    outcome, value = "", ""
    for _ in range(node.tries):
        outcome, value = yield from collect(call, wanted, prompt)
        if outcome == MATCH and fits and not fits(value):
            outcome = PERSON if value == wanted.person else NO_MATCH
        if outcome not in (NO_MATCH, NO_INPUT):
            if outcome == MATCH:
                call.set(f"vars.{node.into}", value)
            return outcome
        prompt = call.prompt(node.retry_no_match if outcome == NO_MATCH else node.retry_no_input)
    return outcome


def menu(call: Call, node: nodes.Menu) -> Script[str]:
    try:
        choices = {key: choice for key, choice in node.choices.items() if choice.when is None or call.test(choice.when)}
    except ConditionFailed as error:
        call.note(facts.Noticed(call.id, "condition failed", str(error)))
        return "failed"
    if not choices:
        return "none"
    offers = [choice.prompt for choice in choices.values() if choice.prompt]
    return (yield from _choose(call, node, {key: chosen(key) for key in choices}, offers))


def confirm(call: Call, node: nodes.Confirm) -> Script[str]:
    return (yield from _choose(call, node, {node.yes: "yes", node.no: "no"}, []))


def _choose(call: Call, node: nodes.Menu | nodes.Confirm, ways: dict[str, str], offers: list[str]) -> Script[str]:
    """Let the caller press one of the keys of `ways`; every try ends with the prompts `offers`."""
    wanted = Keys(1, "", node.first_key, node.first_key, node.first_key)
    offered = tuple(item for name in offers for item in call.prompt(name))
    person = call.person_key(node)
    prompt = (call.prompt(node.prompt) if node.prompt else ()) + offered
    outcome = ""
    for _ in range(node.tries):
        outcome, key = yield from collect(call, wanted, prompt)
        if key in ways:
            return ways[key]
        if key and key == person:
            return PERSON
        outcome = NO_MATCH if key else outcome
        prompt = call.prompt(node.retry_no_match if key else node.retry_no_input) + offered
    return outcome


def switch(call: Call, node: nodes.Switch) -> Script[str]:
    for condition in node.cases:
        try:
            if call.test(condition):
                return f"case {condition}"
        except ConditionFailed as error:
            call.note(facts.Noticed(call.id, "condition failed", str(error)))
            return "failed"
    return "otherwise"
    yield  # a switch never waits, but it is a generator like every step


def set_values(call: Call, node: nodes.Set) -> Script[str]:
    for name, text in node.values.items():
        call.set_text(f"vars.{name}", text)
    return "done"
    yield


def queue(call: Call, node: nodes.Queue) -> Script[str]:
    skills = skills_asked(call, node)
    if skills is None:
        return "failed"
    attach = {name: call.fill_or_empty(text) for name, text in node.attach.items()}
    yield from answer(call)
    return (yield from settled(call, Enqueue(node.queue, skills, node.place, attach, node.max_wait)))


def email(call: Call, node: nodes.Email) -> Script[str]:
    to = call.fill_or_empty(node.to).strip()
    if not to:
        return "failed"
    try:
        subject, body = call.fill(node.subject), call.fill(node.body)
    except BadText as error:
        call.note(facts.Noticed(call.id, "text failed", str(error)))
        return "failed"
    mail = commands.SendMail(call.id, call.mint("ml"), to, subject, body, node.budget)
    return (yield from delivered(call, mail, node.mask, MailSent, MailFailed))


STEPS: dict[str, Callable[[Call, Any], Script[str]]] = {
    "say": say,
    "lookup": lookup,
    "action": act,
    "collect": collect_keys,
    "menu": menu,
    "confirm": confirm,
    "switch": switch,
    "set": set_values,
    "queue": queue,
    "callback": callback,
    "email": email,
    **INNER_STEPS,
    **OUTSIDE_STEPS,
}
