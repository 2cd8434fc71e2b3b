"""Reading a project's files into what the core runs: queues, agents, and the flow of each dialled number.

A project is a folder: `centre.yaml` (queues and agents), `flows/*.yaml`, `actions/*.yaml` (read elsewhere; here only the types of
their attributes are needed). Every mistake in every file is reported at once, each with file, line, what was found and what was expected.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from app.core.acd import AgentDef, QueueDef, Relax
from app.core.book import Book
from app.core.flow.compiled import Compiled
from app.core.flow.program import Callback, Transfer
from app.core.flow.words import unknown
from app.core.transfer import Rules
from app.publish.flowfile import Outputs, load_flow
from app.publish.reading import ProjectError, read, told, validated
from app.publish.shared import Shared
from app.yamlfile import Document, Place, YamlError, read_yaml

Level = Annotated[int, Field(ge=1, le=10)]
Seconds = Annotated[float, Field(gt=0, le=14_400)]
AgentId = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]


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


@dataclass(frozen=True, slots=True)
class FlowFile:
    """A flow with the file that it was read from."""

    path: Path
    document: Document
    flow: Compiled


@dataclass(frozen=True, slots=True)
class ProjectFiles:
    """Everything that was read of a project: each flow whose file is right, and what is wrong with any file."""

    book: Book
    flows: tuple[FlowFile, ...]
    problems: tuple[str, ...]


def load_book(project: Path, outputs: Outputs) -> Book:
    """What the project's files say. `outputs`: for each action the CEL types of its attributes. Raises `ProjectError`."""
    files = read_files(project, outputs)
    if files.problems:
        raise ProjectError(list(files.problems))
    return files.book


def read_files(project: Path, outputs: Outputs, paths: Iterable[Path] = ()) -> ProjectFiles:
    """Read and check a project's files, of its flows only `paths` where any are given. Each is read once. Nothing is raised."""
    try:
        centre = load_centre(project)
    except ProjectError as error:
        names = _queue_names(project)
        problems = [*error.problems, *(_load_flows(project, outputs, names, paths)[1] if names else ())]
        return ProjectFiles(Book({}, {}, {}), (), tuple(dict.fromkeys(problems)))
    queues, agents = queue_defs(centre), agent_defs(centre)
    flows, problems = _load_flows(project, outputs, queues, paths)
    problems += [problem for file in flows for problem in _bad_transfers(file, centre)]
    numbers = {number: file.flow for file in flows for number in file.flow.program.dnis}
    return ProjectFiles(Book(numbers, queues, agents, transfers=centre.rules), tuple(flows), tuple(dict.fromkeys(problems)))


def queue_defs(centre: CentreFile) -> dict[str, QueueDef]:
    """The queues of a centre file as the core has them."""
    return {
        name: QueueDef(name, q.title, q.music, q.ring, q.wrap_up, q.max_wait, tuple(Relax(r.after, r.skill, r.level) for r in q.relax))
        for name, q in centre.queues.items()
    }


def agent_defs(centre: CentreFile) -> dict[str, AgentDef]:
    """The agents of a centre file as the core has them."""
    return {id_: AgentDef(id_, a.name, a.phone or id_, a.skills, a.queues, a.wrap_up) for id_, a in centre.agents.items()}


def _bad_transfers(file: FlowFile, centre: CentreFile) -> list[str]:
    """The steps of a flow that could never dial: what is wrong with each."""
    return [
        told(file.path, file.document, ("steps", step, *key), what)
        for step, node in file.flow.program.steps.items()
        if isinstance(node, Transfer | Callback)
        for key, what in _bad_transfer(node, centre.rules, centre.agents)
    ]


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


def _load_flows(project: Path, outputs: Outputs, queues: Mapping[str, object], paths: Iterable[Path]) -> tuple[list[FlowFile], list[str]]:
    """The flows whose files are right, and everything that is wrong with any of them."""
    problems: list[str] = []
    flows: list[FlowFile] = []
    names: dict[str, Path] = {}
    numbers: dict[str, FlowFile] = {}
    shared = Shared(project)
    for path in tuple(paths) or sorted((project / "flows").glob("*.yaml")):
        try:
            document = read(path)
            file = FlowFile(path, document, load_flow(path, outputs, queues, document, shared=shared))
        except ProjectError as error:
            problems += error.problems
            continue
        name = file.flow.name
        if name in names:
            problems.append(told(path, document, ("flow",), f"there is a flow {name!r} already ({names[name]})"))
        for i, number in enumerate(file.flow.program.dnis):
            if owner := numbers.get(number):
                taken = f"the number {number} belongs to flow {owner.flow.name!r} ({owner.path}) already"
                problems.append(told(path, document, ("dnis", i), taken))
            numbers[number] = file
        names.setdefault(name, path)
        flows.append(file)
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
    document = read(path)
    centre: CentreFile = validated(path, document, CentreFile, document.content)
    problems = [
        f"{path}:{document.line(('agents', id_, 'queues', i))}: agents.{id_}.queues.{i}: {unknown('queue', queue, centre.queues)}"
        for id_, agent in centre.agents.items()
        for i, queue in enumerate(agent.queues)
        if queue not in centre.queues
    ]
    if problems:
        raise ProjectError(problems)
    return centre
