"""A project's flows put to the proofs: its files read, its actions told in the words of the proofs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.actions.files import ActionFileError, load_actions
from app.actions.method import ActionDef
from app.core.acd import AgentDef, QueueDef
from app.core.book import Book
from app.core.flow.compiled import Compiled
from app.core.flow.program import Program
from app.publish.centre import read_files
from app.publish.flowfile import load_flow
from app.publish.meaning import Asked, Context
from app.publish.proofs import Report, prove
from app.publish.reading import ProjectError
from app.publish.release import as_document, check_again
from app.publish.shared import SUBFLOWS, Shared
from app.yamlfile import Document


@dataclass(frozen=True, slots=True)
class Proven:
    """What is wrong with a project's files as such, and the report of each flow that could be read; the book where nothing is wrong."""

    problems: tuple[str, ...]
    reports: tuple[Report, ...] = ()
    book: Book | None = None
    actions: int = 0

    @property
    def right(self) -> bool:
        """Whether nothing is wrong but what is only unwise."""
        return not self.problems and not any(report.errors for report in self.reports)


def prove_files(project: Path, paths: Iterable[Path] = ()) -> Proven:
    """Check a project and prove its flows, or only those of `paths`. Every mistake is in what comes back; nothing is raised.

    A shared subflow is proven in every flow of the project.
    """
    chosen = list(paths)
    if any(path.resolve().parent == project.resolve() / SUBFLOWS for path in chosen):
        chosen = []
    try:
        definitions = load_actions(project / "actions")
    except ActionFileError as error:
        return Proven(tuple(error.problems))
    files = read_files(project, _outputs(definitions), chosen)
    book, asked = files.book, _asked(definitions)
    problems = files.problems
    if not files.flows and not problems:
        problems = (f"{project / 'flows'}: there is no flow file",)
    reports = tuple(prove(file.path, file.document, file.flow, book.queues, book.agents, asked) for file in files.flows)
    return Proven(problems, reports, None if problems else book, len(definitions))


def read_flows(project: Path, paths: Iterable[Path] = ()) -> list[Context]:
    """The flows of a project, or only those of `paths`, ready to be looked at; raises `ProjectError` or `ActionFileError`."""
    definitions = load_actions(project / "actions")
    files = read_files(project, _outputs(definitions), paths)
    if files.problems:
        raise ProjectError(list(files.problems))
    asked = _asked(definitions)
    return [Context(file.flow, asked) for file in files.flows]


def _outputs(definitions: Mapping[str, ActionDef]) -> dict[str, Mapping[str, str]]:
    return {name: definition.outputs for name, definition in definitions.items()}


def _asked(definitions: Mapping[str, ActionDef]) -> dict[str, Asked]:
    return {name: told(definition) for name, definition in definitions.items()}


@dataclass(frozen=True, slots=True)
class Reader:
    """Reads flows that somebody sent, and checks and proves them against a project's actions, queues and agents.

    Raises `ProjectError` with everything that is wrong, each with its place.
    """

    project: Path
    definitions: Mapping[str, ActionDef]
    queues: Mapping[str, QueueDef]
    agents: Mapping[str, AgentDef]

    def read(self, name: str, content: str | Mapping[str, Any]) -> Compiled:
        """A flow as YAML text or as JSON values, called `name` in what is told of it."""
        document = as_document(name, content)
        flow = load_flow(Path(name), _outputs(self.definitions), self.queues, document, shared=Shared(self.project))
        self._prove(name, document, flow)
        return flow

    def again(self, program: Program) -> Compiled:
        """An older program, against the actions, queues and agents of today."""
        flow = check_again(program, _outputs(self.definitions), self.queues)
        self._prove(program.flow, Document({}), flow)
        return flow

    def context(self, flow: Compiled) -> Context:
        """A flow ready to be looked at."""
        return Context(flow, _asked(self.definitions))

    def _prove(self, name: str, document: Document, flow: Compiled) -> None:
        report = prove(Path(name), document, flow, self.queues, self.agents, _asked(self.definitions))
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
