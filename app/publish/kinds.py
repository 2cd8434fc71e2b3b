"""The meaning of each kind of step, in one table: `MEANINGS`.

What is said here is what the interpreter does (`app/core/flow/steps.py`, `script.py`): whoever changes a step there says it here as
well. A kind without a meaning is found by a test.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from app.core.flow.program import chosen
from app.core.flow.script import QUIET
from app.publish.guards import NOTHING, Names
from app.publish.kinds_outside import OUTSIDE
from app.publish.meaning import Context, Describe, Exit, Meaning, Read, asking
from app.yamlfile import Place


def _say(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(
        reads=context.spoken(name, node, "prompt"),
        exits=context.exits(name, node),
        seconds=context.longest(node.prompt),
        says=context.sure(node.prompt),
    )


def _lookup(context: Context, name: str, node: Any) -> Meaning:
    found, count = f"{node.into}.found", f"{node.into}.count"
    outputs = context.outputs(node.action, node.into)
    counted = {found} if node.unless else {found, count}
    secret = context.secret(node.action, node.into)
    exits = context.exits(
        name,
        node,
        every={"clears": (f"{node.into}.",)},
        found={"sets": outputs | {found, count}, "taints": secret},
        none={"sets": frozenset(counted)},
        many={"sets": frozenset({found, count})},
        failed={"sets": frozenset({found})},
    )
    reads = (
        *context.condition(node.unless, ("steps", name, "unless"), frozenset({found})),
        *context.texts(name, node, "parameters", "parameter", under="with"),
        *context.spoken(name, node, "mask"),
    )
    return Meaning(
        reads=_after_forgetting(reads, node.into),
        exits=exits,
        ring=min(node.ring, node.budget),
        failures=("failed",),
        **asking(context, node),
    )


def _after_forgetting(reads: Iterable[Read], into: str) -> tuple[Read, ...]:
    """A lookup forgets the record it looks for before it reads anything: nothing of that record can have a value but `found`."""
    own = (f"{into}.found", f"{into}.")
    return tuple(
        replace(read, forgotten=True) if read.must and read.variable.startswith(f"{into}.") else read
        for read in reads
        if read.variable not in own
    )


def _action(context: Context, name: str, node: Any) -> Meaning:
    outputs = context.outputs(node.action, node.into)
    done = {"clears": (f"{node.into}.",), "sets": outputs, "taints": context.secret(node.action, node.into)}
    return Meaning(
        reads=(*context.texts(name, node, "parameters", "parameter", under="with"), *context.spoken(name, node, "mask")),
        exits=context.exits(name, node, done=done),
        failures=("failed",),
        **asking(context, node),
    )


def _empty_prompts(context: Context, node: Any) -> tuple[str, ...]:
    """The prompts before a wait for keys that may have no sound."""
    return tuple(key for key in ("prompt", "retry_no_match", "retry_no_input") if not context.sure(getattr(node, key, None)))


def _tries(context: Context, node: Any, each: float) -> float:
    tries: int = node.tries
    again = max(context.longest(node.retry_no_match), context.longest(node.retry_no_input))
    return context.longest(node.prompt) + each + (tries - 1) * (again + each)


def _collect(context: Context, name: str, node: Any) -> Meaning:
    variable = frozenset({f"vars.{node.into}"})
    match = {"sets": variable, "act": "caller", "taints": variable if getattr(node, "sensitive", False) else NOTHING}
    away = {chosen(key): Exit(to, ("steps", name, "choices", key), act="caller") for key, to in node.choices.items()}
    return Meaning(
        reads=context.spoken(name, node, "prompt", "retry_no_match", "retry_no_input"),
        exits={**context.exits(name, node, match=match, no_match={"act": "caller"}), **away},
        wait="caller",
        seconds=_tries(context, node, node.total),
        says=context.sure(node.prompt),
        empty=_empty_prompts(context, node),
    )


def _menu(context: Context, name: str, node: Any) -> Meaning:
    exits = context.exits(name, node, no_match={"act": "caller"})
    reads = list(context.spoken(name, node, "prompt", "retry_no_match", "retry_no_input"))
    offered = 0.0
    for key, choice in node.choices.items():
        where: Place = ("steps", name, "choices", key)
        exits[chosen(key)] = Exit(choice.to, where, act="caller")
        reads += context.condition(choice.when, where)
        reads += [replace(read, where=where) for read in context.spoken(name, choice, "prompt")]
        offered += context.longest(choice.prompt)
    always = _always_offered(context, node)
    return Meaning(
        reads=tuple(reads),
        exits=exits,
        wait="caller",
        seconds=_tries(context, node, node.first_key) + node.tries * offered,
        says=always or context.sure(node.prompt),
        empty=() if always else _empty_prompts(context, node),
    )


def _always_offered(context: Context, node: Any) -> bool:
    """Whether some choice that is open is heard by its own prompt, whoever the caller is: one that has no condition, or any of them."""
    heard = [bool(choice.prompt) and context.sure(choice.prompt) for choice in node.choices.values()]
    return all(heard) or any(heard_ and choice.when is None for heard_, choice in zip(heard, node.choices.values(), strict=True))


def _switch(context: Context, name: str, node: Any) -> Meaning:
    conditions, guards = context.program.conditions, context.guards
    certain: Names = NOTHING
    reads: list[Read] = []
    exits: dict[str, Exit] = {}
    for condition, to in node.cases.items():
        where: Place = ("steps", name, "cases", condition)
        reads += context.condition(condition, where, certain)
        exits[f"case {condition}"] = Exit(to, where, implies=certain | guards.when_true(conditions[condition]))
        certain |= guards.when_false(conditions[condition])
    exits |= context.exits(name, node, otherwise={"implies": certain})
    return Meaning(reads=tuple(reads), exits=exits, answers=False)


def _set(context: Context, name: str, node: Any) -> Meaning:
    reads: list[Read] = []
    copies: dict[str, Names] = {}
    before: set[str] = set()
    for key, text in node.values.items():
        where: Place = ("steps", name, "values", key)
        reads += [read for read in context.text(text, where, "value") if read.variable not in before]
        direct = context.guards.text(text).all
        copies[f"vars.{key}"] = frozenset().union(*(copies.get(v, {v}) for v in direct))
        before.add(f"vars.{key}")
    done = {"sets": frozenset(copies), "copies": copies}
    return Meaning(reads=tuple(reads), exits=context.exits(name, node, done=done), answers=False)


FROM_QUEUE = ("no_agents", "too_long", "failed")


def _queue(context: Context, name: str, node: Any) -> Meaning:
    reads = context.texts(name, node, "attach", "attach", must=False)
    if node.skills_from:
        reads = (Read(node.skills_from, ("steps", name, "skills_from"), "skills"), *reads)
    waited = {"act": "person", "person": True}
    return Meaning(
        reads=reads,
        exits=context.exits(name, node, talked=waited, too_long={"act": "person"}),
        wait="person",
        failures=FROM_QUEUE,
        fails_of=f"queue {node.queue}",
    )


def _email(context: Context, name: str, node: Any) -> Meaning:
    reads: list[Read] = []
    for key in ("to", "subject", "body"):
        reads += context.text(getattr(node, key), ("steps", name, key), "message")
    return Meaning(
        reads=(*reads, *context.spoken(name, node, "mask")),
        exits=context.exits(name, node),
        failures=("failed",),
        **{**asking(context, node), "seconds": node.budget + 0.5 + context.longest_phrase(node.mask), "fails_of": "the e-mail"},
    )


def _release(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(answers=False, person=True)


def _hangup(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(answers=False)


def _confirm(context: Context, name: str, node: Any) -> Meaning:
    by_key = {"act": "caller"}
    return Meaning(
        reads=context.spoken(name, node, "prompt", "retry_no_match", "retry_no_input"),
        exits=context.exits(name, node, yes=by_key, no=by_key, no_match=by_key),
        wait="caller",
        seconds=_tries(context, node, node.first_key),
        says=context.sure(node.prompt),
        empty=_empty_prompts(context, node),
    )


def _wait_for(context: Context, name: str, node: Any) -> Meaning:
    held = context.program.conditions.get(node.until or "")
    implies = context.guards.when_true(held) if held else NOTHING
    reads = [replace(read, must=False) for read in context.condition(node.until, ("steps", name, "until"))]
    return Meaning(
        reads=(*reads, *context.spoken(name, node, "mask")),
        exits=context.exits(name, node, set={"sets": frozenset({node.variable}), "implies": implies}),
        wait="system",
        seconds=node.max_wait + context.longest_phrase(node.mask),
        silence=QUIET,
    )


def _gather(context: Context, name: str, node: Any) -> Meaning:
    """All names asked for are forgotten first; `answered` and `found` are told of each. One that answered may not have been found."""
    reads: list[Read] = []
    answered: set[str] = set()
    secret: set[str] = set()
    for into, ask in node.ask.items():
        for key, text in ask.parameters.items():
            reads += context.text(text, ("steps", name, "ask", into, "with", key), "parameter")
        outputs = context.outputs(ask.action, into)
        answered |= {f"{into}.count"} if f"{into}.count" in outputs else outputs
        secret |= context.secret(ask.action, into)
    told = frozenset(f"{into}.{key}" for into in node.ask for key in ("found", "answered"))
    every = {"clears": tuple(f"{into}." for into in node.ask), "sets": told, "taints": frozenset(secret)}
    return Meaning(
        reads=(*reads, *context.spoken(name, node, "mask")),
        exits=context.exits(name, node, every=every, done={"sets": told | answered}, failed={"taints": NOTHING}),
        ring=min(node.ring, node.budget),
        failures=("failed",),
        **{**asking(context, node), "fails_of": f"every question of {name}"},
    )


def _at_once(context: Context, name: str, node: Any) -> Meaning:
    """Nothing is waited for, read or set: a calendar, a subflow's beginning."""
    return Meaning(exits=context.exits(name, node), answers=False)


def _language(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(reads=context.text(node.to, ("steps", name, "to"), "value"), exits=context.exits(name, node), answers=False)


MEANINGS: dict[str, Describe] = {
    "say": _say,
    "lookup": _lookup,
    "action": _action,
    "collect": _collect,
    "menu": _menu,
    "switch": _switch,
    "set": _set,
    "queue": _queue,
    "email": _email,
    "release": _release,
    "hangup": _hangup,
    "confirm": _confirm,
    "wait_for": _wait_for,
    "gather": _gather,
    "hours": _at_once,
    "subflow": _at_once,
    "language": _language,
    **OUTSIDE,
}


def meanings(context: Context) -> dict[str, Meaning]:
    """The meaning of each step of a flow, in the order of its file."""
    return {name: MEANINGS[node.do](context, name, node) for name, node in context.program.steps.items()}
