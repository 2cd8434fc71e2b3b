"""What each kind of step means to the proofs: what it reads and sets, whom it waits for, how long, and how it ends.

`MEANINGS` has one function for each kind; a kind without one is an error of this house, found by a test. What is said here is
what the interpreter does (`app/core/flow/steps.py`, `script.py`): whoever changes a step there says it here as well.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

from app.core.flow.compiled import Compiled, variable_types
from app.core.flow.script import QUIET, longest
from app.publish.guards import NOTHING, Guards, Names
from app.yamlfile import Place

Use = Literal["prompt", "condition", "skills", "parameter", "attach", "message", "value"]
Act = Literal["", "caller", "person"]
VALUE_LENGTH = 40
"""Characters that a value is counted as where the longest time to speak a text is told."""
_VALUE = re.compile(r"\{\{.*?\}\}")
_TAG = re.compile(r"\{%.*?%\}")


@dataclass(frozen=True, slots=True)
class Asked:
    """What the proofs know of an action: whether it changes anything, what makes a repeat harmless, which outputs are sensitive."""

    writes: bool = False
    idempotent: bool = True
    sensitive: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Read:
    """One variable that a step reads, and where. `must`: without a value the step fails; else nothing is in its place.

    `forgotten`: the step itself forgets the variable before it reads it, so that no path can have set it.
    """

    variable: str
    where: Place
    use: Use
    must: bool = True
    forgotten: bool = False


@dataclass(frozen=True, slots=True)
class Exit:
    """What is so once a step has been left this way.

    `act` says who must have done something for it to be taken; `person`: the call has been in somebody's hands, or will be;
    `clears` is a name whose variables are all forgotten first; `copies`: for each variable set from others, those. `implies`:
    variables that must have had values all along, since a condition about them held.
    """

    to: str
    where: Place
    sets: Names = NOTHING
    implies: Names = NOTHING
    clears: str = ""
    taints: Names = NOTHING
    copies: Mapping[str, Names] = field(default_factory=dict)
    act: Act = ""
    person: bool = False


@dataclass(frozen=True, slots=True)
class Meaning:
    """A step as the proofs see it. Times in seconds.

    `seconds` is the longest from entry to exit, the wait in a queue left out; `silence` the longest without a sound once the call
    is answered, `ring` the longest that an unanswered call waits before it; `wait` whom the step waits for; `answers`: the call is
    answered once it is left; `says`: the caller surely hears words; `person`: the flow ends here in somebody's hands; `failures`:
    the exits taken when what was asked (`fails_of`) failed; `empty`: prompts before a wait for keys that may have no sound.
    """

    reads: tuple[Read, ...] = ()
    exits: Mapping[str, Exit] = field(default_factory=dict)
    wait: Literal["", "caller", "person", "system"] = ""
    seconds: float = 0.0
    silence: float = 0.0
    ring: float = 0.0
    answers: bool = True
    says: bool = False
    person: bool = False
    failures: tuple[str, ...] = ()
    fails_of: str = ""
    empty: tuple[str, ...] = ()


class Context:
    """One flow with what is known around it; makes and keeps the meaning of each of its steps."""

    def __init__(self, flow: Compiled, actions: Mapping[str, Asked]) -> None:
        self.flow, self.program, self.actions = flow, flow.program, actions

    @cached_property
    def types(self) -> dict[str, str]:
        return variable_types(self.program)

    @cached_property
    def guards(self) -> Guards:
        return Guards(_records(self.program.steps.values(), self.program.outputs))

    @cached_property
    def meanings(self) -> dict[str, Meaning]:
        return {name: MEANINGS[node.do](self, name, node) for name, node in self.program.steps.items()}

    # ---- prompts -------------------------------------------------------------------------------------------------------

    def longest(self, prompt: str | None) -> float:
        """Seconds after which playing it is given up at the latest."""
        media = self._media(prompt)
        return longest(media) if media else 0.0

    def longest_phrase(self, prompt: str | None) -> float:
        return max((longest((item,)) for item in self._media(prompt)), default=0.0)

    def _media(self, prompt: str | None) -> tuple[str, ...]:
        if not prompt:
            return ()
        filled = (_TAG.sub("", _VALUE.sub("x" * VALUE_LENGTH, phrase)) for phrase in self.flow.media(prompt))
        return tuple(phrase for phrase in filled if phrase not in ("text:", ""))

    def sure(self, prompt: str | None) -> bool:
        """Whether a prompt has something to be heard whatever the values are."""
        return bool(prompt) and any(_TAG.sub("", _VALUE.sub("", p)).removeprefix("text:").strip() for p in self.flow.media(prompt or ""))

    # ---- reads ---------------------------------------------------------------------------------------------------------

    def spoken(self, name: str, node: Any, *keys: str) -> tuple[Read, ...]:
        """What the prompts under these keys of a step read."""
        found: list[Read] = []
        for key in keys:
            prompt = getattr(node, key, None)
            for phrase in self.program.prompts.get(prompt, ()) if prompt else ():
                found += self.text(phrase, ("steps", name, key), "prompt")
        return tuple(found)

    def text(self, text: str, where: Place, use: Use, must: bool = True) -> tuple[Read, ...]:
        reading = self.guards.text(text)
        return tuple(Read(v, where, use, must) for v in sorted(reading.needed)) + tuple(
            Read(v, where, use, False) for v in sorted(reading.all - reading.needed)
        )

    def condition(self, condition: str | None, where: Place, certain: Names = NOTHING) -> tuple[Read, ...]:
        """What a named condition reads, where `certain` names have values."""
        if not condition or condition not in self.program.conditions:
            return ()
        reading = self.guards.condition(self.program.conditions[condition], certain)
        return tuple(Read(v, where, "condition", v in reading.needed) for v in sorted(reading.all))

    def texts(self, name: str, node: Any, key: str, use: Use, must: bool = True, under: str = "") -> tuple[Read, ...]:
        found: list[Read] = []
        for item, text in (getattr(node, key, None) or {}).items():
            found += self.text(text, ("steps", name, under or key, item), use, must)
        return tuple(found)

    # ---- exits ---------------------------------------------------------------------------------------------------------

    def exits(self, name: str, node: Any, **effects: Mapping[str, Any]) -> dict[str, Exit]:
        """The step's named exits, with the effects given by exit name; `every` for all."""
        every = effects.get("every", {})
        return {exit_: Exit(to, ("steps", name, "exits", exit_), **{**every, **effects.get(exit_, {})}) for exit_, to in node.exits.items()}

    def outputs(self, action: str, into: str) -> Names:
        return frozenset(f"{into}.{output}" for output in self.program.outputs.get(action, {}))

    def secret(self, action: str, into: str) -> Names:
        asked = self.actions.get(action)
        return frozenset(f"{into}.{output}" for output in asked.sensitive) if asked else NOTHING


def _records(steps: Iterable[Any], outputs: Mapping[str, Mapping[str, str]]) -> dict[str, Names]:
    """For each name that lookups alone fill: what is set whenever `<name>.found` is true."""
    found: dict[str, Names] = {}
    others = {getattr(node, "into", "") for node in steps if node.do not in ("lookup", "collect")}
    for node in steps:
        if node.do == "lookup" and node.into not in others:
            given = frozenset(f"{node.into}.{output}" for output in outputs.get(node.action, {})) | {f"{node.into}.count"}
            found[node.into] = found.get(node.into, given) & given
    return found


# ---- the kinds -------------------------------------------------------------------------------------------------------------


def _say(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(
        reads=context.spoken(name, node, "prompt"),
        exits=context.exits(name, node),
        seconds=context.longest(node.prompt),
        says=context.sure(node.prompt),
    )


def _asking(context: Context, node: Any) -> dict[str, Any]:
    """What waiting for another system is like: ringing first, then phrases, then music; the phrase begun is finished."""
    return {
        "wait": "system",
        "seconds": node.budget + context.longest_phrase(node.mask),
        "silence": QUIET,
        "fails_of": getattr(node, "action", ""),
    }


def _lookup(context: Context, name: str, node: Any) -> Meaning:
    found, count = f"{node.into}.found", f"{node.into}.count"
    outputs = context.outputs(node.action, node.into)
    counted = {found} if node.unless else {found, count}
    secret = context.secret(node.action, node.into)
    exits = context.exits(
        name,
        node,
        every={"clears": f"{node.into}."},
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
        **_asking(context, node),
    )


def _after_forgetting(reads: Iterable[Read], into: str) -> tuple[Read, ...]:
    """A lookup forgets the record it looks for before it reads anything: nothing of that record can have a value but `found`."""
    own = (f"{into}.found", f"{into}.")
    return tuple(
        replace(read, forgotten=True) if read.must and read.variable.startswith(f"{into}.") and read.variable not in own else read
        for read in reads
        if read.variable != own[0]
    )


def _action(context: Context, name: str, node: Any) -> Meaning:
    outputs = context.outputs(node.action, node.into)
    done = {"clears": f"{node.into}.", "sets": outputs, "taints": context.secret(node.action, node.into)}
    return Meaning(
        reads=(*context.texts(name, node, "parameters", "parameter", under="with"), *context.spoken(name, node, "mask")),
        exits=context.exits(name, node, done=done),
        failures=("failed",),
        **_asking(context, node),
    )


def _empty_prompts(context: Context, node: Any) -> tuple[str, ...]:
    return tuple(key for key in ("prompt", "retry_no_match", "retry_no_input") if not context.sure(getattr(node, key, None)))


def _tries(context: Context, node: Any, each: float) -> float:
    again = max(context.longest(node.retry_no_match), context.longest(node.retry_no_input))
    return context.longest(node.prompt) + each + (node.tries - 1) * (again + each)


def _collect(context: Context, name: str, node: Any) -> Meaning:
    variable = frozenset({f"vars.{node.into}"})
    match = {"sets": variable, "act": "caller", "taints": variable if getattr(node, "sensitive", False) else NOTHING}
    return Meaning(
        reads=context.spoken(name, node, "prompt", "retry_no_match", "retry_no_input"),
        exits=context.exits(name, node, match=match, no_match={"act": "caller"}),
        wait="caller",
        seconds=_tries(context, node, node.total),
        says=context.sure(node.prompt),
        empty=_empty_prompts(context, node),
    )


def _menu(context: Context, name: str, node: Any) -> Meaning:
    exits = context.exits(name, node, no_match={"act": "caller"})
    reads = list(context.spoken(name, node, "prompt", "retry_no_match", "retry_no_input"))
    for key, choice in node.choices.items():
        where: Place = ("steps", name, "choices", key)
        exits[f"key {key}"] = Exit(target(choice), where, act="caller")
        reads += context.condition(getattr(choice, "when", None), where)
    return Meaning(
        reads=tuple(reads),
        exits=exits,
        wait="caller",
        seconds=_tries(context, node, node.first_key),
        says=context.sure(node.prompt),
        empty=_empty_prompts(context, node),
    )


def target(choice: Any) -> str:
    """The step that a menu's choice leads to; a choice may be the step's name, or more than that."""
    return choice if isinstance(choice, str) else str(choice.to)


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
        **{**_asking(context, node), "seconds": node.budget + 0.5 + context.longest_phrase(node.mask), "fails_of": "the e-mail"},
    )


def _release(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(answers=False, person=True)


def _hangup(context: Context, name: str, node: Any) -> Meaning:
    return Meaning(answers=False)


Describe = Callable[[Context, str, Any], Meaning]
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
}
