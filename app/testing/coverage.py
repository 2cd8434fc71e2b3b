"""Which exits of a flow the tests have taken, of all that its file has, like the coverage of code.

An exit is a line of the file, or of a shared subflow's: under `exits`, `choices` or `cases` of a step. A step that has none of these (it
ends the flow) counts as one, taken when it was entered. Exits that the language demands but that a step as written cannot take are named
in `CANNOT` and do not count. A flow that no test has called counts with everything it has.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from app.publish.reading import ProjectError, read
from app.publish.shared import Shared
from app.publish.subflows import inlined
from app.yamlfile import Document

GROUPS = {"exits": "", "choices": "key ", "cases": "case "}
"""Where a step's file names its exits, and what comes before the name in the journal."""
CANNOT: dict[tuple[str, str], Callable[[Mapping[str, Any]], bool]] = {
    ("queue", "failed"): lambda node: "skills_from" not in node,
    ("language", "unknown"): lambda node: "{{" not in node.get("to", ""),
}
"""By kind of step and exit, when it cannot be: a queue step fails by the skills of a record alone, since those in the file are
checked; a language that the file names itself is one that the flow speaks, or else `done` is never taken."""
Taken = set[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Exit:
    """One exit of a step, and where it is written; `name` is "" for a step that ends the flow."""

    step: str
    name: str
    file: Path
    line: int

    def __str__(self) -> str:
        return f"step {self.step}, exit {self.name}" if self.name else f"step {self.step}"


@dataclass(frozen=True, slots=True)
class FlowReport:
    """One flow: all its exits, and those that were taken."""

    path: Path
    flow: str
    exits: tuple[Exit, ...]
    missing: tuple[Exit, ...]

    @property
    def taken(self) -> int:
        return len(self.exits) - len(self.missing)


class Coverage:
    """What was taken, by project and flow. Can be sent to another process and merged there."""

    def __init__(self) -> None:
        self._taken: dict[tuple[str, str], Taken] = {}
        self._projects: dict[str, None] = {}

    def exits_of(self, project: Path, flow: str) -> Taken:
        """The exits taken of a flow, to add to."""
        self._projects[str(project)] = None
        return self._taken.setdefault((str(project), flow), set())

    def dump(self) -> list[Any]:
        """As plain values."""
        return [[project, flow, sorted(taken)] for (project, flow), taken in self._taken.items()]

    def merge(self, dumped: Iterable[Any]) -> None:
        """Add what another process has taken."""
        for project, flow, taken in dumped:
            self.exits_of(Path(project), flow).update((step, name) for step, name in taken)

    def report(self) -> list[FlowReport]:
        """Every flow of every project that a test was about."""
        found = []
        for project in self._projects:
            shared = Shared(Path(project))
            for path in sorted((Path(project) / "flows").glob("*.yaml")):
                document = _read(path)
                if document is not None and isinstance(document.content, dict):
                    flow = str(document.content.get("flow", path.stem))
                    exits = tuple(exits_in(path, document, shared))
                    taken = self._taken.get((project, flow), set())
                    found.append(FlowReport(path, flow, exits, tuple(e for e in exits if (e.step, e.name) not in taken)))
        return found


def exits_in(path: Path, document: Document, shared: Shared) -> list[Exit]:
    """Every exit that a flow's file and its shared subflows have, in order of lines."""
    content = document.content
    try:
        steps = inlined(shared.joined(content, document), document)[0].get("steps") if isinstance(content, dict) else None
    except ProjectError:
        steps = None
    found = []
    for step, node in steps.items() if isinstance(steps, dict) else ():
        named = [
            Exit(step, before + name, *document.found(path, ("steps", step, group, name)))
            for group, before in GROUPS.items()
            for name in _names(node, group)
            if not _cannot(node, name)
        ]
        found += named or [Exit(step, "", *document.found(path, ("steps", step)))]
    return sorted(found, key=lambda each: (each.file != path, each.file, each.line))


def percent(reports: Iterable[FlowReport]) -> float:
    """Exits taken of all exits, in percent; 100 where there is none."""
    reports = list(reports)
    total = sum(len(report.exits) for report in reports)
    return 100.0 * sum(report.taken for report in reports) / total if total else 100.0


def _cannot(node: Any, name: str) -> bool:
    rule = CANNOT.get((str(node.get("do")), name))
    return rule is not None and rule(node)


def _names(node: Any, group: str) -> Mapping[str, Any]:
    inner = node.get(group) if isinstance(node, dict) else None
    return inner if isinstance(inner, dict) else {}


def _read(path: Path) -> Document | None:
    try:
        return read(path)
    except ProjectError:
        return None
