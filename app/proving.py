"""A project's flows put to the proofs: its files read, its actions told in the words of the proofs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.actions.files import ActionFileError, load_actions
from app.actions.method import ActionDef
from app.core.acd import AgentDef, QueueDef
from app.core.flow.compiled import Compiled
from app.core.flow.program import Program
from app.publish.centre import ProjectError, agent_defs, load_book, load_centre, load_flow, queue_defs
from app.publish.meaning import Asked, Context
from app.publish.proofs import Report, prove
from app.publish.release import as_document, check_again
from app.yamlfile import Document, read_yaml


@dataclass(frozen=True, slots=True)
class Proven:
    """What is wrong with a project's files as such, and the report of each flow that could be read."""

    problems: tuple[str, ...]
    reports: tuple[Report, ...]

    @property
    def right(self) -> bool:
        """Whether nothing is wrong but what is only unwise."""
        return not self.problems and not any(report.errors for report in self.reports)


def prove_files(project: Path, paths: Iterable[Path] = ()) -> Proven:
    """Check a project and prove its flows, or only those of `paths`. Every mistake is in what comes back; nothing is raised."""
    try:
        definitions = load_actions(project / "actions")
        centre = load_centre(project)
    except (ActionFileError, ProjectError) as error:
        return Proven(tuple(error.problems), ())
    outputs = {name: definition.outputs for name, definition in definitions.items()}
    chosen = list(paths)
    problems: list[str] = []
    if not chosen:
        try:
            load_book(project, outputs)
        except ProjectError as error:
            problems += error.problems
    queues, agents = queue_defs(centre), agent_defs(centre)
    asked = {name: told(definition) for name, definition in definitions.items()}
    reports: list[Report] = []
    files = chosen or sorted((project / "flows").glob("*.yaml"))
    if not files:
        problems.append(f"{project / 'flows'}: there is no flow file")
    for path in files:
        try:
            document = read_yaml(path)
            flow = load_flow(path, outputs, queues, document, project=project)
            reports.append(prove(path, document, flow, queues, agents, asked))
        except ProjectError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    return Proven(tuple(problems), tuple(reports))


def read_flows(project: Path, paths: Iterable[Path] = ()) -> list[Context]:
    """The flows of a project, or only those of `paths`, ready to be looked at; raises `ProjectError` or `ActionFileError`."""
    definitions = load_actions(project / "actions")
    outputs = {name: definition.outputs for name, definition in definitions.items()}
    queues = queue_defs(load_centre(project))
    asked = {name: told(definition) for name, definition in definitions.items()}
    files = list(paths) or sorted((project / "flows").glob("*.yaml"))
    return [Context(load_flow(path, outputs, queues, project=project), asked) for path in files]


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads flows that somebody sent, and checks and proves them against a project's actions, queues and agents.

    Raises `ProjectError` with everything that is wrong, each with its place.
    """

    project: Path
    definitions: Mapping[str, ActionDef]
    queues: Mapping[str, QueueDef]
    agents: Mapping[str, AgentDef]

    @property
    def outputs(self) -> dict[str, Mapping[str, str]]:
        return {name: definition.outputs for name, definition in self.definitions.items()}

    def read(self, name: str, content: str | Mapping[str, Any]) -> Compiled:
        """A flow as YAML text or as JSON values, called `name` in what is told of it."""
        document = as_document(name, content)
        flow = load_flow(Path(name), self.outputs, self.queues, document, project=self.project)
        self._prove(name, document, flow)
        return flow

    def again(self, program: Program) -> Compiled:
        """An older program, against the actions, queues and agents of today."""
        flow = check_again(program, self.outputs, self.queues)
        self._prove(program.flow, Document({}), flow)
        return flow

    def context(self, flow: Compiled) -> Context:
        """A flow ready to be looked at."""
        return Context(flow, self._asked)

    @property
    def _asked(self) -> dict[str, Asked]:
        return {action: told(definition) for action, definition in self.definitions.items()}

    def _prove(self, name: str, document: Document, flow: Compiled) -> None:
        report = prove(Path(name), document, flow, self.queues, self.agents, self._asked)
        if report.errors:
            raise ProjectError([f"{each.file}:{each.line}: {each.where}: {each.what}" for each in report.errors])


def told(definition: ActionDef) -> Asked:
    """An action in the words of the proofs."""
    return Asked(not definition.reads, definition.run.once != "none", frozenset(definition.run.sensitive))


def as_dict(report: Report) -> Mapping[str, object]:
    """A report as JSON has it."""
    return {
        "flow": report.flow,
        "file": report.file,
        "findings": [
            {"proof": f.proof, "level": f.level, "file": f.file, "line": f.line, "where": f.where, "what": f.what, "path": f.path}
            for f in report.findings
        ],
        "longest": {"seconds": report.longest.seconds, "path": report.longest.path},
        "loops": [{"path": loop.path, "why": loop.why} for loop in report.loops],
    }
