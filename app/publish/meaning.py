"""What each kind of step means to the proofs: what it reads and sets, whom it waits for, how long, and how it ends.

The meanings of the kinds themselves are in `kinds.py` and `kinds_outside.py`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from app.core.flow.compiled import CALL_VARIABLES, Compiled, variable_types
from app.core.flow.script import QUIET, longest
from app.publish.guards import NOTHING, Guards, Names
from app.yamlfile import Place

Use = Literal["prompt", "condition", "skills", "parameter", "attach", "message", "number", "value", "automation"]
Act = Literal["", "caller", "person"]
VALUE_LENGTH = 40
"""Characters that a value is counted as where the longest time to speak a text is told."""
_VALUE = re.compile(r"\{\{.*?\}\}")
_KIND = re.compile(r"^(digits|characters|number|date|time|money|recording|en|de|es):")
"""What stands before a value that is spoken in a way of its own."""
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
    `clears` are names whose variables are all forgotten first; `copies`: for each variable set from others, those. `implies`:
    variables that must have had values all along, since a condition about them held.
    """

    to: str
    where: Place
    sets: Names = NOTHING
    implies: Names = NOTHING
    clears: tuple[str, ...] = ()
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
        return Guards(_records(self.program.steps.values(), self.automated, self.program.outputs))

    @cached_property
    def at_first(self) -> Names:
        """The variables that every call has from its beginning."""
        return frozenset(CALL_VARIABLES) | {f"{into}.{key}" for into in self.automated for key in ("found", "answered")}

    @cached_property
    def automated(self) -> dict[str, str]:
        """The action that fills a name beside the steps, by the name."""
        automations: Iterable[Any] = getattr(self.program, "automations", ())
        return {automation.into: automation.action for automation in automations if automation.into}

    # ---- prompts -------------------------------------------------------------------------------------------------------

    def versions(self, prompt: str | None) -> list[tuple[str, ...]]:
        """The phrases of a prompt, for each language that has its own."""
        found: Any = self.program.prompts.get(prompt or "", ())
        if isinstance(found, tuple):
            return [found]
        return [tuple(found.spoken(language)) for language in getattr(self.program, "speaks", lambda: (self.program.language,))()]

    def longest(self, prompt: str | None) -> float:
        """Seconds after which playing a prompt is given up at the latest; 0 for one without phrases."""
        return max((longest(phrases) for phrases in map(_measured, self.versions(prompt)) if phrases), default=0.0)

    def longest_phrase(self, prompt: str | None) -> float:
        return max((longest((phrase,)) for phrases in self.versions(prompt) for phrase in _measured(phrases)), default=0.0)

    def sure(self, prompt: str | None) -> bool:
        """Whether a prompt has something to be heard whatever the values are, in every language."""
        versions = self.versions(prompt)
        return all(any(_TAG.sub("", _VALUE.sub("", _KIND.sub("", phrase))).strip() for phrase in phrases) for phrases in versions)

    # ---- reads ---------------------------------------------------------------------------------------------------------

    def spoken(self, name: str, node: Any, *keys: str) -> tuple[Read, ...]:
        """What the prompts under these keys of a step read."""
        found: list[Read] = []
        for key in keys:
            prompt = getattr(node, key, None)
            for phrases in self.versions(prompt):
                for phrase in phrases:
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
        known = self.program.outputs.get(action, {})
        return frozenset(f"{into}.{output}" for output in asked.sensitive if output in known) if asked else NOTHING


def _measured(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """Phrases as the media that the interpreter measures, as long as they may be, without those that have no sound."""
    filled = (_TAG.sub("", _VALUE.sub("x" * VALUE_LENGTH, phrase)) for phrase in phrases)
    return tuple(phrase if phrase.startswith("sound:") else f"text:{phrase}" for phrase in filled if phrase.strip())


def _records(steps: Iterable[Any], automated: Mapping[str, str], outputs: Mapping[str, Mapping[str, str]]) -> dict[str, Names]:
    """For each name that only lookups fill: what is set whenever `<name>.found` is true."""
    found: dict[str, Names] = {}
    asked = list(automated.items())
    others: set[str] = set()
    for node in steps:
        if node.do == "lookup":
            asked.append((node.into, node.action))
        elif node.do == "gather":
            asked += [(into, ask.action) for into, ask in node.ask.items()]
        elif node.do != "collect":
            others.add(getattr(node, "into", ""))
    for into, action in asked:
        given = frozenset(f"{into}.{output}" for output in outputs.get(action, {}))
        found[into] = found.get(into, given) & given
    return {into: given for into, given in found.items() if into not in others}


def asking(context: Context, node: Any) -> dict[str, Any]:
    """What waiting for another system is like: ringing first, then phrases, then music; the phrase begun is finished."""
    return {
        "wait": "system",
        "seconds": node.budget + context.longest_phrase(node.mask),
        "silence": QUIET,
        "fails_of": getattr(node, "action", ""),
    }


Describe = Callable[[Context, str, Any], Meaning]
"""Gives the meaning of a step: of this flow, of this name, as it is in the program."""
