"""A program made ready to run: conditions compiled, prompts as media, every reference checked.

`compile_program` raises `BadProgram`, which lists everything that is wrong with it, each with the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from app.core.flow import program as nodes
from app.core.flow.conditions import BadCondition, Conditions
from app.core.flow.program import Program
from app.core.flow.texts import BadText, names
from app.core.flow.words import unknown

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

    def __init__(self, problems: list[tuple[tuple[str | int, ...], str]]) -> None:
        super().__init__("; ".join(f"{'.'.join(map(str, where))}: {what}" for where, what in problems))
        self.problems = problems


@dataclass(slots=True)
class Compiled:
    """A program with its conditions compiled. One for each version, shared by its calls."""

    program: Program
    conditions: Conditions
    name: str = field(init=False)
    version: str = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.version = self.program.flow, self.program.version

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
        elif isinstance(node, nodes.Collect | nodes.Record):
            types[f"vars.{node.into}"] = "string"
        elif isinstance(node, nodes.Set):
            types |= {f"vars.{name}": "string" for name in node.values}
    return types


def compile_program(program: Program, queues: Mapping[str, object]) -> Compiled:
    """The program ready to run; raises `BadProgram`."""
    types = variable_types(program)
    problems = list(_Check(program, types, queues).problems())
    try:
        conditions = Conditions(program.conditions, types)
    except BadCondition as error:
        problems += [(("conditions", name), what) for name, what in error.problems.items()]
    if problems:
        raise BadProgram(problems)
    return Compiled(program, conditions)


Path = tuple[str | int, ...]
Problem = tuple[Path, str]


@dataclass(frozen=True, slots=True)
class _Check:
    """Every name in a program against what there is."""

    program: Program
    types: Mapping[str, str]
    queues: Mapping[str, object]

    def problems(self) -> Iterator[Problem]:
        program = self.program
        yield from self.step(("start",), program.start)
        yield from self.step(("on_error",), program.on_error)
        if program.returns and not isinstance(program.steps.get(program.returns), nodes.Queue):
            yield ("returns",), f"{program.returns!r} is not a queue step"
        for i, number in enumerate(program.dnis):
            if number in program.dnis[:i]:
                yield ("dnis", i), f"the number {number} is given twice"
        for name, phrases in program.prompts.items():
            for i, phrase in enumerate(phrases):
                yield from self.text(("prompts", name, i), phrase)
        for name, node in program.steps.items():
            yield from self.node(("steps", name), node)

    def node(self, where: Path, node: nodes.AnyStep) -> Iterator[Problem]:
        for group in ("exits", "choices", "cases"):
            for name, step in getattr(node, group, {}).items():
                yield from self.step((*where, group, name), step)
        for key in ("prompt", "mask", "review", "retry_no_match", "retry_no_input"):
            prompt = getattr(node, key, None)
            if prompt and prompt not in self.program.prompts:
                yield (*where, key), unknown("prompt", prompt, self.program.prompts)
        if isinstance(node, nodes.Switch):
            for condition in node.cases:
                yield from self.condition((*where, "cases", condition), condition)
        if isinstance(node, nodes.Lookup | nodes.Act):
            yield from self.action(where, node)
        if isinstance(node, nodes.Queue):
            yield from self.queue(where, node)
        if isinstance(node, nodes.Email | nodes.Voicemail | nodes.Sms | nodes.Transfer):
            for key in ("to", "subject", "body", "text"):
                yield from self.text((*where, key), getattr(node, key, None) or "")
        for key in ("attach", "values"):
            for name, text in getattr(node, key, {}).items():
                yield from self.text((*where, key, name), text)

    def action(self, where: Path, node: nodes.Lookup | nodes.Act) -> Iterator[Problem]:
        if node.action not in self.program.outputs:
            yield (*where, "action"), unknown("action", node.action, ())
        elif isinstance(node, nodes.Lookup) and self.program.outputs[node.action].get("count") != "int":
            lacks = "has no whole number `count` among its response attributes, which a lookup needs"
            yield (*where, "action"), f"action {node.action!r} {lacks}"
        if isinstance(node, nodes.Lookup) and node.unless:
            yield from self.condition((*where, "unless"), node.unless)
        for key, text in node.parameters.items():
            yield from self.text((*where, "with", key), text)

    def queue(self, where: Path, node: nodes.Queue) -> Iterator[Problem]:
        if node.queue not in self.queues:
            yield (*where, "queue"), unknown("queue", node.queue, self.queues)
        skills = node.skills_from
        if skills and skills not in self.types:
            yield (*where, "skills_from"), unknown("variable", skills, self.types)
        elif skills and self.types[skills] != "map":
            yield (*where, "skills_from"), f"{skills!r} is a {self.types[skills]}, not a map of skill to level"

    def step(self, where: Path, step: str) -> Iterator[Problem]:
        if step not in self.program.steps:
            yield where, unknown("step", step, self.program.steps)

    def condition(self, where: Path, condition: str) -> Iterator[Problem]:
        if condition not in self.program.conditions:
            yield where, unknown("condition", condition, self.program.conditions)

    def text(self, where: Path, text: str) -> Iterator[Problem]:
        try:
            named = names(text)
        except BadText as error:
            yield where, str(error)
            return
        for name in sorted(named):
            if name not in self.types and not name.startswith("ivr."):
                yield where, unknown("variable", name, self.types)
