"""Reading a project's files into what the core runs: queues, agents, and the flow of each dialled number.

A project is a folder: `centre.yaml` (queues and agents), `flows/*.yaml`, `actions/*.yaml` (read elsewhere; here only the types of
their attributes are needed). Every mistake in every file is reported at once, each with file, line, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from app.core.acd import AgentDef, QueueDef, Relax
from app.core.book import Book
from app.core.flow.compiled import BadProgram, Compiled, compile_program
from app.core.flow.program import Callback, Program, Transfer
from app.core.flow.steps import STEPS
from app.core.flow.words import unknown
from app.core.transfer import Rules
from app.publish import automations
from app.publish.calendars import expand_all
from app.publish.subflows import inlined
from app.yamlfile import Document, Place, YamlError, read_yaml

KINDS = (*STEPS, "release", "hangup")
Level = Annotated[int, Field(ge=1, le=10)]
Seconds = Annotated[float, Field(gt=0, le=14_400)]
AgentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


class ProjectError(ValueError):
    """A project that cannot be used; `problems` has a line for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Part(BaseModel):
    """Nothing but the declared keys."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class RelaxFile(Part):
    """After `after` seconds ask at most `level` of `skill`; 0 drops it."""

    after: Seconds
    skill: str
    level: Annotated[int, Field(ge=0, le=10)] = 0


class QueueFile(Part):
    """A queue as the file has it. Times in seconds."""

    title: str = ""
    music: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,40}$")] = "default"
    ring: Seconds = 15.0
    wrap_up: Annotated[float, Field(ge=0, le=14_400)] = 30.0
    max_wait: Seconds = 600.0
    relax: tuple[RelaxFile, ...] = ()


class AgentFile(Part):
    """An agent as the file has it. `phone` is the name of a phone in Asterisk, the agent's id unless said otherwise."""

    name: str
    queues: Annotated[tuple[str, ...], Field(min_length=1)]
    skills: dict[str, Level] = {}
    phone: AgentId | None = None
    wrap_up: Annotated[float, Field(ge=0, le=14_400)] | None = None
    pin: str | None = None


Pattern = Annotated[str, Field(pattern=r"^\+?[0-9]{1,20}\*?$")]


class TransfersFile(Part):
    """What transfers may dial, and through which trunks of Asterisk; nothing unless said. `at_once` is how many may be up together."""

    trunks: Annotated[tuple[AgentId, ...], Field(min_length=1)]
    allowed: Annotated[tuple[Pattern, ...], Field(min_length=1)]
    denied: tuple[Pattern, ...] = ()
    at_once: Annotated[int, Field(ge=1, le=1000)] = 10


class CentreFile(Part):
    """`centre.yaml`."""

    queues: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")], QueueFile]
    agents: dict[AgentId, AgentFile]
    transfers: TransfersFile | None = None

    @property
    def rules(self) -> Rules:
        """What transfers may dial."""
        file = self.transfers
        return Rules(file.allowed, file.denied, file.trunks, file.at_once) if file else Rules()


def load_book(project: Path, outputs: Mapping[str, Mapping[str, str]]) -> Book:
    """What the project's files say. `outputs`: for each action the CEL types of its attributes. Raises `ProjectError`."""
    try:
        centre = load_centre(project)
    except ProjectError as error:
        names = _queue_names(project)
        raise ProjectError([*error.problems, *(_load_flows(project, outputs, names)[1] if names else ())]) from None
    queues, agents = queue_defs(centre), agent_defs(centre)
    flows, problems = _load_flows(project, outputs, queues)
    problems += _bad_transfers(project, flows, centre.rules, agents)
    if problems:
        raise ProjectError(list(dict.fromkeys(problems)))
    return Book(flows, queues, agents, transfers=centre.rules)


def queue_defs(centre: CentreFile) -> dict[str, QueueDef]:
    """The queues of a centre file as the core has them."""
    return {
        name: QueueDef(name, q.title, q.music, q.ring, q.wrap_up, q.max_wait, tuple(Relax(r.after, r.skill, r.level) for r in q.relax))
        for name, q in centre.queues.items()
    }


def agent_defs(centre: CentreFile) -> dict[str, AgentDef]:
    """The agents of a centre file as the core has them."""
    return {id_: AgentDef(id_, a.name, a.phone or id_, a.skills, a.queues, a.wrap_up) for id_, a in centre.agents.items()}


def _bad_transfers(project: Path, flows: Mapping[str, Compiled], rules: Rules, agents: Mapping[str, object]) -> list[str]:
    """Transfers that can never be dialled."""
    problems = []
    for path in sorted((project / "flows").glob("*.yaml")):
        document = _maybe_read(path)
        name = document.content.get("flow") if document and isinstance(document.content, dict) else None
        program = next((flow.program for flow in flows.values() if flow.program.flow == name), None)
        for step, node in program.steps.items() if program else ():
            if document and isinstance(node, Transfer | Callback):
                problems += [_told(path, document, ("steps", step, *key), what) for key, what in _bad_transfer(node, rules, agents)]
    return problems


def _bad_transfer(node: Transfer | Callback, rules: Rules, agents: Mapping[str, object]) -> list[tuple[Place, str]]:
    if isinstance(node, Transfer) and node.agent is not None:
        return [] if node.agent in agents else [(("agent",), unknown("agent", node.agent, agents))]
    if not rules.trunks:
        return [((), "the project allows no transfers: expected `transfers` with `trunks` and `allowed` in centre.yaml")]
    problems: list[tuple[Place, str]] = []
    if node.through and node.through not in rules.trunks:
        problems.append((("through",), unknown("trunk", node.through, rules.trunks)))
    key, number = ("to", node.to) if isinstance(node, Transfer) else ("number", node.number)
    if number and "{" not in number and not rules.dialled(number):
        problems.append(((key,), f"{number!r} is not a number that `transfers` in centre.yaml allow"))
    return problems


def _maybe_read(path: Path) -> Document | None:
    try:
        return _read(path)
    except ProjectError:
        return None


def _load_flows(
    project: Path, outputs: Mapping[str, Mapping[str, str]], queues: Mapping[str, object]
) -> tuple[dict[str, Compiled], list[str]]:
    """The flow of each number, and everything that is wrong with any of them."""
    problems: list[str] = []
    flows: dict[str, Compiled] = {}
    files: dict[str, Path] = {}
    for path in sorted((project / "flows").glob("*.yaml")):
        try:
            compiled = load_flow(path, outputs, queues, project=project)
        except ProjectError as error:
            problems += error.problems
            continue
        name, document = compiled.program.flow, _read(path)
        if name in files:
            problems.append(f"{path}:{document.line(('flow',))}: flow: there is a flow {name!r} already ({files[name]})")
        for i, number in enumerate(compiled.program.dnis):
            owner = flows[number].program.flow if number in flows else ""
            if owner:
                taken = f"the number {number} belongs to flow {owner!r} ({files[owner]}) already"
                problems.append(f"{path}:{document.line(('dnis', i))}: dnis.{i}: {taken}")
            flows[number] = compiled
        files.setdefault(name, path)
    return flows, problems


def _queue_names(project: Path) -> dict[str, None]:
    """The queues that a centre file names, whatever else is wrong with it."""
    try:
        content = read_yaml(project / "centre.yaml").content
    except (YamlError, OSError):
        return {}
    queues = content.get("queues") if isinstance(content, dict) else None
    return dict.fromkeys(queues) if isinstance(queues, dict) else {}


def load_centre(project: Path) -> CentreFile:
    """Queues and agents; raises `ProjectError`."""
    path = project / "centre.yaml"
    document = _read(path)
    centre: CentreFile = _validated(path, document, CentreFile, document.content)
    problems = [
        f"{path}:{document.line(('agents', id_, 'queues', i))}: agents.{id_}.queues.{i}: {unknown('queue', queue, centre.queues)}"
        for id_, agent in centre.agents.items()
        for i, queue in enumerate(agent.queues)
        if queue not in centre.queues
    ]
    if problems:
        raise ProjectError(problems)
    return centre


def load_flow(
    path: Path,
    outputs: Mapping[str, Mapping[str, str]],
    queues: Mapping[str, object],
    document: Document | None = None,
    *,
    project: Path | None = None,
    today: date | None = None,
) -> Compiled:
    """One flow file, completed, validated, checked and compiled; raises `ProjectError`.

    With a `document`, `path` is only what it is called. `project` is the folder whose automations belong to it as well; the tables of its
    calendars begin with the year before `today`'s.
    """
    document = document or _read(path)
    program = load_program(path, outputs, document, project=project, today=today)
    try:
        return checked(program, queues)
    except BadProgram as error:
        raise ProjectError([_told(path, document, _as_written(where), what) for where, what in error.problems]) from None


def load_program(
    path: Path,
    outputs: Mapping[str, Mapping[str, str]],
    document: Document | None = None,
    *,
    project: Path | None = None,
    today: date | None = None,
) -> Program:
    """One flow file, completed and validated, but not checked against anything else; raises `ProjectError`."""
    document = document or _read(path)
    content = document.content
    if isinstance(content, dict):
        content = _completed(path, document, content, outputs, project, today or datetime.now(UTC).date())
    program: Program = _validated(path, document, Program, content)
    return program


def checked(program: Program, queues: Mapping[str, object]) -> Compiled:
    """The program ready to run, with everything that must hold before a caller gets it; raises `BadProgram`."""
    return compile_program(program, queues)


FILLED_IN = {"outputs": "the action files", "tables": "the calendars"}


def _completed(
    path: Path, document: Document, content: Mapping[str, Any], outputs: Mapping[str, Mapping[str, str]], project: Path | None, today: date
) -> dict[str, Any]:
    """A flow file's content with all that comes from elsewhere; raises `ProjectError`."""
    given = [
        _told(path, document, (key,), f"comes from {whence} and cannot be given here")
        for key, whence in FILLED_IN.items()
        if key in content
    ]
    if given:
        raise ProjectError(given)
    shared = project / automations.FILE if project else None
    if shared is not None and shared.exists():
        try:
            content = automations.joined(content, document, _read(shared), shared)
        except ValueError as error:
            raise ProjectError(error.problems if isinstance(error, ProjectError) else [str(error)]) from None
    flow, problems = inlined(content, document)
    tables, wrong = expand_all(content.get("calendars"), today)
    if problems or wrong:
        raise ProjectError([_told(path, document, place, what) for place, what in (*problems, *wrong)])
    asked = set(_asked(flow))
    return {**flow, "tables": tables, "outputs": {name: dict(types) for name, types in outputs.items() if name in asked}}


def _asked(content: Mapping[str, Any]) -> Iterator[str]:
    """The actions that a flow names."""
    steps, beside = content.get("steps"), content.get("automations")
    questions = [*(steps.values() if isinstance(steps, dict) else ()), *(beside if isinstance(beside, list) else ())]
    for question in questions:
        if isinstance(question, dict):
            yield str(question.get("action"))
            several = question.get("ask")
            yield from (
                str(each.get("action")) for each in (several.values() if isinstance(several, dict) else ()) if isinstance(each, dict)
            )


def _read(path: Path) -> Document:
    try:
        return read_yaml(path)
    except YamlError as error:
        raise ProjectError([f"{path}:{error.line}: {error}"]) from None
    except OSError as error:
        raise ProjectError([f"{path}: cannot be read: {error.strerror}"]) from None


def _validated(path: Path, document: Document, model: type[Any], content: Any) -> Any:
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ProjectError([_mistake(path, document, dict(mistake)) for mistake in error.errors()]) from None


def _mistake(path: Path, document: Document, mistake: Mapping[str, Any]) -> str:
    """One validation error in the words of the file."""
    place = _place(mistake["loc"])
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        kinds = ", ".join(KINDS)
        found = mistake["ctx"].get("tag")
        what = (
            f"there is no kind of step {found!r} (there are: {kinds})" if found else f"what the step is to do is missing (one of: {kinds})"
        )
        return _told(path, document, (*place, "do"), what)
    if mistake["type"] == "too_long":
        ctx = mistake["ctx"]
        return _told(
            path, document, place, f"at most {ctx['max_length']} can be given (found {ctx.get('actual_length') or len(mistake['input'])})"
        )
    given = mistake.get("input")
    shown = f" (found {given!r})" if isinstance(given, str | int | float) else ""
    return _told(path, document, place, mistake["msg"].removeprefix("Value error, ") + shown)


def _told(path: Path, document: Document, place: Place, what: str) -> str:
    return f"{document.at(path, place)}: {'.'.join(map(str, place)) or 'the file'}: {what}"


def _place(loc: tuple[str | int, ...]) -> Place:
    """A validation error's location in the file: without the kind of step, which is no key there, and without the mark of a key."""
    place = loc[:-1] if loc and loc[-1] == "[key]" else loc
    return _as_written((*place[:2], *place[3:]) if place[:1] == ("steps",) else place)


def _as_written(place: Place) -> Place:
    """A place in a program as a place in the file: a prompt's phrases and a choice's step have no key of their own there."""
    if place[:1] == ("prompts",):
        return tuple(part for part in place if part not in ("phrases", "by_language"))
    return place
