"""A program made ready to run: conditions compiled, prompts as media, every reference checked.

`compile_program` raises `BadProgram`, which lists everything that is wrong with it, each with the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from app.core.flow import program as nodes
from app.core.flow.conditions import BadCondition, Conditions
from app.core.flow.program import Program
from app.core.flow.texts import BadText, compiled

CALL_VARIABLES = {
    "call.id": "string",
    "call.ani": "string",
    "call.name": "string",
    "call.dnis": "string",
    "call.number_known": "bool",
    "call.returned": "bool",
}
_RECORDED = ("sound", "digits", "number", "characters")


class BadProgram(ValueError):
    """All that is wrong with a program: pairs of a place (a path of keys) and what was found there."""

    def __init__(self, problems: list[tuple[tuple[str, ...], str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(where)}: {what}" for where, what in problems))
        self.problems = problems


@dataclass(slots=True)
class Compiled:
    """A program with its conditions compiled. One for each version, shared by its calls."""

    program: Program
    conditions: Conditions

    def media(self, prompt: str) -> tuple[str, ...]:
        """The phrases of a prompt; one without a kind of its own is text to be spoken."""
        return tuple(p if p.partition(":")[0] in _RECORDED and ":" in p else f"text:{p}" for p in self.program.prompts[prompt])


def variable_types(program: Program) -> dict[str, str]:
    """The type of every variable a condition of the program can name."""
    types = {**CALL_VARIABLES, "ivr": "map"}
    for node in program.steps.values():
        if isinstance(node, nodes.Lookup):
            types |= {f"{node.into}.found": "bool", f"{node.into}.count": "int"}
        if isinstance(node, nodes.Lookup | nodes.Act):
            types |= {f"{node.into}.{name}": kind for name, kind in program.outputs.get(node.action, {}).items()}
        elif isinstance(node, nodes.Collect):
            types[f"vars.{node.into}"] = "string"
        elif isinstance(node, nodes.Set):
            types |= {f"vars.{name}": "string" for name in node.values}
    return types


def compile_program(program: Program, queues: Mapping[str, object]) -> Compiled:
    """The program ready to run; raises `BadProgram`."""
    problems = list(_problems(program, queues))
    try:
        conditions = Conditions(program.conditions, variable_types(program))
    except BadCondition as error:
        problems.append((("conditions", str(error).split(":")[0].removeprefix("condition ")), str(error)))
    if problems:
        raise BadProgram(problems)
    return Compiled(program, conditions)


Problem = tuple[tuple[str, ...], str]


def _problems(program: Program, queues: Mapping[str, object]) -> Iterator[Problem]:
    for key in ("start", "on_error"):
        if getattr(program, key) not in program.steps:
            yield (key,), f"there is no step {getattr(program, key)!r}"
    if program.returns and not isinstance(program.steps.get(program.returns), nodes.Queue):
        yield ("returns",), f"{program.returns!r} is not a queue step"
    for name, phrases in program.prompts.items():
        for i, phrase in enumerate(phrases):
            yield from _text(("prompts", name, str(i)), phrase)
    for name, node in program.steps.items():
        yield from _step_problems(program, queues, ("steps", name), node)


def _step_problems(program: Program, queues: Mapping[str, object], where: tuple[str, ...], node: nodes.AnyStep) -> Iterator[Problem]:
    targets = dict(node.exits)
    targets |= getattr(node, "choices", {}) | (node.cases if isinstance(node, nodes.Switch) else {})
    for name, step in targets.items():
        if step not in program.steps:
            yield (*where, "exits", name), f"there is no step {step!r}"
    for key in ("prompt", "mask", "retry_no_match", "retry_no_input"):
        prompt = getattr(node, key, None)
        if prompt and prompt not in program.prompts:
            yield (*where, key), f"there is no prompt {prompt!r}"
    conditions = (
        list(node.cases) if isinstance(node, nodes.Switch) else [node.unless] if isinstance(node, nodes.Lookup) and node.unless else []
    )
    for condition in conditions:
        if condition not in program.conditions:
            yield (*where, "cases"), f"there is no condition {condition!r}"
    if isinstance(node, nodes.Lookup | nodes.Act):
        if node.action not in program.outputs:
            yield (*where, "action"), f"there is no action {node.action!r}"
        elif isinstance(node, nodes.Lookup) and program.outputs[node.action].get("count") != "int":
            yield (
                (*where, "action"),
                f"action {node.action!r} has no whole number `count` among its response attributes, which a lookup needs",
            )
        for key, text in node.parameters.items():
            yield from _text((*where, "with", key), text)
    if isinstance(node, nodes.Queue) and node.queue not in queues:
        yield (*where, "queue"), f"there is no queue {node.queue!r}"
    if isinstance(node, nodes.Email):
        for key in ("to", "subject", "body"):
            yield from _text((*where, key), getattr(node, key))
    for key in ("attach", "values"):
        for name, text in getattr(node, key, {}).items():
            yield from _text((*where, key, name), text)


def _text(where: tuple[str, ...], text: str) -> Iterator[Problem]:
    try:
        compiled(text)
    except BadText as error:
        yield where, str(error)
