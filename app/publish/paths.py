"""All the ways of callers through a flow, in the callers' terms: what they are like and do, and what they hear and get.

A path is a list of moments. A circumstance says which caller this is or what the caller does ("who presses 1"); an experience is what
the caller notices ("hears ..."). Steps that a caller does not notice leave nothing but their circumstance. Names of steps and prompts
are in none of it: two flows that treat callers alike have the same paths. A way that comes to a step for the second time ends there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from app.core.flow import program as nodes
from app.core.flow.program import Program

MOST = 10_000
"""Paths that are looked at."""
SHOWN = 120
"""Characters of a text that are told."""
SILENT = frozenset({"set", "switch", "lookup", "action", "hours", "subflow", "wait_for"})
"""Kinds of steps of which a caller notices nothing but the phrases that mask them."""
_NOT_NOTICED = frozenset({"do", "exits", "choices", "cases", "into", "attach", "once"})
_PROMPTS = ("prompt", "prompt_later", "mask", "retry_no_match", "retry_no_input")
ANSWERS = {
    ("lookup", "found"): "whom {} finds",
    ("lookup", "none"): "whom {} does not find",
    ("lookup", "many"): "whom {} finds more than once",
    ("lookup", "failed"): "for whom {} fails",
    ("action", "done"): "for whom {} succeeds",
    ("action", "failed"): "for whom {} fails",
    ("menu", "no_match"): "who presses another key",
    ("menu", "no_input"): "who presses nothing",
    ("collect", "match"): "who enters {}",
    ("collect", "no_match"): "who enters something else",
    ("collect", "no_input"): "who enters nothing",
    ("switch", "otherwise"): "for whom none of it holds",
    ("switch", "failed"): "for whom it cannot be told",
    ("queue", "talked"): "whom an agent answers",
    ("queue", "no_agents"): "for whom no agent is signed in",
    ("queue", "too_long"): "who waits too long",
    ("queue", "failed"): "whom the queue cannot take",
    ("email", "sent"): "whose mail goes out",
    ("email", "failed"): "whose mail does not go out",
}
PLACES = {"front": ", at its front", "back": ", at its back"}


class TooManyPaths(ValueError):
    """More ways through the flow than are looked at."""


@dataclass(frozen=True, slots=True)
class Moment:
    """One thing on a path. Two are the same when their keys are; `settings` are the details of it that can be told apart by name."""

    noticed: bool
    key: tuple[Any, ...]
    words: str
    settings: tuple[tuple[str, str], ...] = field(default=(), compare=False)


Path = tuple[Moment, ...]


def paths(program: Program, *, together: bool = False) -> list[Path]:
    """Every path from the arrival, from the error exit, of those who come back from the fallback, who ask for a person, and who are sent
    to an entry. Raises `TooManyPaths`.

    Where ways out of a step lead to the same step they are one way with `together`, which makes far fewer paths.
    """
    noticed = {name: _experiences(program, node) for name, node in program.steps.items()}
    ways = {name: list((_ways_together if together else _ways)(program, node)) for name, node in program.steps.items()}
    found: list[Path] = []
    nobody: frozenset[str] = frozenset()
    open_ways = [(step, before, nobody) for step, before in reversed(_entries(program))]
    while open_ways:
        step, before, seen = open_ways.pop()
        if step in seen or not ways[step]:
            found.append((*before, *(_again(noticed[step]) if step in seen else noticed[step])))
        for circumstance, target in reversed(ways[step]) if step not in seen else ():
            open_ways.append((target, (*before, *noticed[step], *circumstance), seen | {step}))
        if len(found) > MOST:
            raise TooManyPaths(f"flow {program.flow} has more than {MOST} ways through it")
    return found


def _entries(program: Program) -> list[tuple[str, Path]]:
    """The steps at which callers begin, with what is special about those who do."""
    entries: list[tuple[str, Path]] = [
        (program.start, ()),
        (program.on_error, (_circumstance("error", words="whose call fails on our side"),)),
    ]
    if program.returns:
        entries.append((program.returns, (_circumstance("returns", words="who comes back from the fallback to a place in a queue"),)))
    if program.reach_a_person:
        entries.append((program.reach_a_person.step, (_circumstance("person", words="who asks for a person"),)))
    entries += [
        (step, (_circumstance("entry", name, words=f"whom another system sends to {name}"),)) for name, step in program.entries.items()
    ]
    return entries


def _again(noticed: Path) -> Path:
    """A step that the caller comes to for the second time."""
    return tuple(Moment(True, ("again", moment.key), f"comes to this again: {moment.words}") for moment in noticed[:1])


def _ways(program: Program, node: Any) -> Iterator[tuple[Path, str]]:
    """Every way out of a step: what the caller is like who takes it, and the step that follows."""
    for key, choice in getattr(node, "choices", {}).items():
        to, when = (choice, None) if isinstance(choice, str) else (choice.to, choice.when)
        among = f" among those for whom {when} holds" if when else ""
        yield (_circumstance("key", key, when or "", words=f"who presses {key}{among}"),), to
    for condition, target in getattr(node, "cases", {}).items():
        yield (_circumstance("case", condition, words=f"for whom {condition} holds"),), target
    only = len(node.exits) == 1 and not getattr(node, "choices", None) and not getattr(node, "cases", None)
    for name, target in node.exits.items():
        yield ((), target) if only else ((_left_by(program, node, name),), target)


def _ways_together(program: Program, node: Any) -> Iterator[tuple[Path, str]]:
    """The same, those with the same step to follow as one."""
    by_target: dict[str, list[Moment]] = {}
    for circumstances, target in _ways(program, node):
        by_target.setdefault(target, []).extend(circumstances)
    for target, alike in by_target.items():
        key = ("one of", *sorted(map(repr, (moment.key for moment in alike))))
        words = " or ".join(moment.words for moment in alike)
        yield ((Moment(False, key, words),) if len(alike) > 1 and len(by_target) > 1 else tuple(alike[: len(by_target) - 1])), target


def _left_by(program: Program, node: Any, name: str) -> Moment:
    words = ANSWERS.get((node.do, name), f"for whom {node.do} ends in {name}")
    what = getattr(node, "action", "") if node.do in ("lookup", "action") else f"{getattr(node, 'length', 'the')} keys"
    return _circumstance(node.do, getattr(node, "action", ""), name, words=words.format(what))


def _circumstance(*key: str, words: str) -> Moment:
    return Moment(False, key, words)


def _experiences(program: Program, node: Any) -> Path:
    """What a caller notices of a step, whichever way it ends."""
    if node.do in SILENT:
        mask = _text(program, getattr(node, "mask", None) or "")
        return (Moment(True, ("hears", mask), f"hears {_quoted(mask)}", (("mask", mask),)),) if mask else ()
    settings = tuple(
        (name, _text(program, value) if name in _PROMPTS and value else str(value))
        for name, value in node.model_dump(mode="json").items()
        if name not in _NOT_NOTICED
    )
    return (Moment(True, (node.do, *settings, *sorted(getattr(node, "choices", {}))), _words(program, node), settings),)


def _words(program: Program, node: Any) -> str:
    prompt = _quoted(_text(program, node.prompt)) if getattr(node, "prompt", None) else ""
    match node:
        case nodes.Menu():
            return f"hears {prompt} and is asked to press {_either(list(node.choices))}"
        case nodes.Collect():
            return f"hears {prompt} and is asked for {node.length} keys{''.join(f' or {key}' for key in node.choices)}"
        case nodes.Queue():
            return f"waits in the queue {node.queue}{PLACES.get(node.place, '')}"
        case nodes.Email():
            return f"gets the mail {_quoted(node.subject)}"
        case nodes.Hangup():
            return "the call ends"
        case nodes.Release():
            return "goes back to the dialplan of the PBX"
    return f"hears {prompt}" if node.do == "say" else f"comes to {node.do}: {prompt}" if prompt else f"comes to {node.do}"


def _text(program: Program, prompt: str) -> str:
    """What a prompt says, in each language that has its own words."""
    found = program.prompts.get(prompt)
    return " / ".join(dict.fromkeys(" ".join(found.spoken(language)) for language in program.speaks())) if found else ""


def _quoted(text: str) -> str:
    return f"“{text if len(text) <= SHOWN else text[: SHOWN - 1] + '…'}”"


def _either(keys: list[str]) -> str:
    return keys[0] if len(keys) == 1 else f"{', '.join(keys[:-1])} or {keys[-1]}"
