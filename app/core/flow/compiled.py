"""A program made ready to run: conditions compiled, prompts as media, every reference checked.

`compile_program` raises `BadProgram`, which lists everything that is wrong with it, each with the place in the file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from app.core.flow import program as nodes
from app.core.flow.conditions import BadCondition, Conditions
from app.core.flow.program import Program
from app.core.flow.secret import keys_ahead
from app.core.flow.spoken import KINDS, alphabet, text_in
from app.core.flow.texts import BadText, names
from app.core.flow.words import unknown

CALL_VARIABLES = {
    "call.id": "string",
    "call.ani": "string",
    "call.name": "string",
    "call.dnis": "string",
    "call.language": "string",
    "call.agent": "string",
    "call.outcome": "string",
    "call.callback": "string",
    "call.number_known": "bool",
    "call.returned": "bool",
}


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
    keys_ahead: dict[str, int] = field(init=False)
    beside: dict[str, list[tuple[int, nodes.Automation]]] = field(init=False)
    """The automations, each with its number in the program, by what starts them."""

    def __post_init__(self) -> None:
        self.name, self.version = self.program.flow, self.program.version
        self.keys_ahead = keys_ahead(self.program)
        self.beside = {}
        for n, automation in enumerate(self.program.automations):
            self.beside.setdefault(automation.on, []).append((n, automation))

    def media(self, prompt: str, language: str) -> tuple[str, ...]:
        """The phrases of a prompt in a language, as they are written; one without a kind of its own is text to be spoken."""
        return tuple(phrase if _kind(phrase) else f"text:{phrase}" for phrase in self.program.prompts[prompt].spoken(language))

    def known_texts(self) -> list[tuple[str, str]]:
        """Every (text, language) that can be known before a call to be spoken in one."""
        texts: list[tuple[str, str]] = []
        for language in self.program.speaks():
            for item in dict.fromkeys(item for prompt in self.program.prompts for item in self.media(prompt, language)):
                said = text_in(item, language)
                if said and said[0].strip() and "{{" not in item and "{%" not in item:
                    texts.append(said)
                texts += [(word, language) for word in alphabet(item.partition(":")[0], language)]
        return texts


def _kind(phrase: str) -> str:
    """The kind that a phrase has of its own, or ""."""
    kind, colon, _ = phrase.partition(":")
    return kind if colon and kind in KINDS else ""


def variable_types(program: Program) -> dict[str, str]:
    """The type of every variable a condition of the program can name."""
    types = {**CALL_VARIABLES, "ivr": "map"}
    for automation in program.automations:
        if automation.into:
            types |= {f"{automation.into}.answered": "bool", **_answers(program, automation.into, automation.action)}
    for node in program.steps.values():
        if isinstance(node, nodes.Gather):
            for into, question in node.ask.items():
                types |= {f"{into}.answered": "bool", **_answers(program, into, question.action)}
        if isinstance(node, nodes.Lookup):
            types |= {f"{node.into}.found": "bool", f"{node.into}.count": "int"}
        if isinstance(node, nodes.Lookup | nodes.Act):
            types |= {f"{node.into}.{name}": kind for name, kind in program.outputs.get(node.action, {}).items()}
        elif isinstance(node, nodes.Collect | nodes.Record):
            types[f"vars.{node.into}"] = "string"
        elif isinstance(node, nodes.Set):
            types |= {f"vars.{name}": "string" for name in node.values}
    return types


def _answers(program: Program, into: str, action: str) -> dict[str, str]:
    """The variables that an answer is kept in, with whether it was found."""
    return {f"{into}.found": "bool", **{f"{into}.{name}": kind for name, kind in program.outputs.get(action, {}).items()}}


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
        for name, step in program.entries.items():
            yield from self.step(("entries", name), step)
        for i, number in enumerate(program.dnis):
            if number in program.dnis[:i]:
                yield ("dnis", i), f"the number {number} is given twice"
        if program.reach_a_person:
            yield from self.step(("reach_a_person", "step"), program.reach_a_person.step)
        for name, prompt in program.prompts.items():
            yield from self.prompt(("prompts", name), prompt)
        for i, automation in enumerate(program.automations):
            yield from self.automation(("automations", i), automation)
        for name, node in program.steps.items():
            yield from self.node(("steps", name), node)

    def prompt(self, where: Path, prompt: nodes.Prompt) -> Iterator[Problem]:
        for place, phrase in prompt.every_phrase():
            yield from self.text((*where, *place), phrase)
        speaks = self.program.speaks()
        silent = [language for language in speaks if not prompt.spoken(language)]
        if prompt.phrases and len(speaks) > 1 and not all(_kind(phrase) for phrase in prompt.phrases):
            yield where, f"spoken text in a flow of several languages must be given in each of them: {{{': ..., '.join(speaks)}: ...}}"
        elif silent:
            yield where, f"there is nothing to say in: {', '.join(silent)}"
        for language in prompt.by_language:
            if language not in speaks:
                yield (*where, language), f"the flow does not speak {language!r} (it speaks: {', '.join(speaks)})"

    def node(self, where: Path, node: nodes.AnyStep) -> Iterator[Problem]:
        for group in ("exits", "cases"):
            for name, step in getattr(node, group, {}).items():
                yield from self.step((*where, group, name), step)
        if isinstance(node, nodes.Menu):
            yield from self.choices((*where, "choices"), node)
        if isinstance(node, nodes.Collect):
            for key, step in node.choices.items():
                yield from self.step((*where, "choices", key), step)
        if isinstance(node, nodes.WaitFor):
            yield from self.wait_for(where, node)
        if isinstance(node, nodes.Gather):
            for into, question in node.ask.items():
                yield from self.asks((*where, "ask", into), question)
        if isinstance(node, nodes.Speak):
            yield from self.text((*where, "to"), node.to)
        for key in ("calendar", "hours"):
            calendar = getattr(node, key, None)
            if calendar and calendar not in self.program.tables:
                yield (*where, key), unknown("calendar", calendar, self.program.calendars)
        for key in ("prompt", "prompt_later", "mask", "review", "retry_no_match", "retry_no_input"):
            prompt = getattr(node, key, None)
            if prompt and prompt not in self.program.prompts:
                yield (*where, key), unknown("prompt", prompt, self.program.prompts)
        if isinstance(node, nodes.Switch):
            for condition in node.cases:
                yield from self.condition((*where, "cases", condition), condition)
        if isinstance(node, nodes.Lookup | nodes.Act):
            yield from self.action(where, node)
        if isinstance(node, nodes.Queue | nodes.Callback):
            yield from self.queue(where, node)
        if isinstance(node, nodes.Email | nodes.Voicemail | nodes.Sms | nodes.Transfer | nodes.Callback):
            for key in ("to", "subject", "body", "text", "number", "wish"):
                yield from self.text((*where, key), getattr(node, key, None) or "")
        if isinstance(node, nodes.Bot):
            for name, text in node.parameters.items():
                yield from self.text((*where, "with", name), text)
        for key in ("attach", "values"):
            for name, text in getattr(node, key, {}).items():
                yield from self.text((*where, key, name), text)

    def choices(self, where: Path, node: nodes.Menu) -> Iterator[Problem]:
        for key, choice in node.choices.items():
            yield from self.step((*where, key), choice.to)
            if choice.when:
                yield from self.condition((*where, key, "when"), choice.when)
            if choice.prompt and choice.prompt not in self.program.prompts:
                yield (*where, key, "prompt"), unknown("prompt", choice.prompt, self.program.prompts)

    def wait_for(self, where: Path, node: nodes.WaitFor) -> Iterator[Problem]:
        awaited = [f"{each.into}.answered" for each in self.program.automations if each.into and each.on != "ended"]
        if not node.variable.startswith("ivr.") and node.variable not in awaited:
            yield (*where, "variable"), unknown("variable that an automation sets", node.variable, awaited)
        if node.until:
            yield from self.condition((*where, "until"), node.until)

    def automation(self, where: Path, automation: nodes.Automation) -> Iterator[Problem]:
        yield from self.asks(where, automation)
        if automation.when:
            yield from self.condition((*where, "when"), automation.when)
        if automation.at:
            yield from self.step((*where, "at"), automation.at)

    def asks(self, where: Path, question: nodes.Ask | nodes.Act | nodes.Lookup | nodes.Automation) -> Iterator[Problem]:
        if question.action not in self.program.outputs:
            yield (*where, "action"), unknown("action", question.action, ())
        for key, text in question.parameters.items():
            yield from self.text((*where, "with", key), text)

    def action(self, where: Path, node: nodes.Lookup | nodes.Act) -> Iterator[Problem]:
        yield from self.asks(where, node)
        if node.action not in self.program.outputs:
            return
        if isinstance(node, nodes.Lookup) and self.program.outputs[node.action].get("count") != "int":
            lacks = "has no whole number `count` among its response attributes, which a lookup needs"
            yield (*where, "action"), f"action {node.action!r} {lacks}"
        if isinstance(node, nodes.Lookup) and node.unless:
            yield from self.condition((*where, "unless"), node.unless)

    def queue(self, where: Path, node: nodes.Queue | nodes.Callback) -> Iterator[Problem]:
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
