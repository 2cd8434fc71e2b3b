"""What a proof is about, and what it found."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path as File
from typing import Literal

from app.core.acd import AgentDef, QueueDef
from app.publish.graph import Graph, Path
from app.yamlfile import Document, Place

Level = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong, with the path on which it goes wrong, in plain words. Only an error makes the check fail."""

    proof: str
    level: Level
    file: str
    line: int
    where: str
    what: str
    path: str = ""

    def __str__(self) -> str:
        mark = "" if self.level == "error" else "warning: "
        return f"{self.file}:{self.line}: {mark}{self.where}: {self.what}" + (f"\n    {self.path}" if self.path else "")


@dataclass(frozen=True, slots=True)
class Subject:
    """One flow with everything that its proofs look at."""

    graph: Graph
    file: File
    document: Document
    queues: Mapping[str, QueueDef]
    agents: Mapping[str, AgentDef]

    def finding(self, proof: str, where: Place, what: str, path: Path | str | None = None, level: Level = "error") -> Finding:
        file, line = self.document.found(self.file, where)
        return Finding(proof, level, str(file), line, ".".join(map(str, where)), what, str(path or ""))


@dataclass(frozen=True, slots=True)
class Longest:
    """The longest time to a person or a goodbye: seconds (None where there is no bound), and the path that takes it."""

    seconds: float | None
    path: str


@dataclass(frozen=True, slots=True)
class Loop:
    """A way round that is allowed, and why."""

    path: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found of one flow."""

    flow: str
    file: str
    findings: tuple[Finding, ...]
    longest: Longest
    loops: tuple[Loop, ...] = field(default=())

    @property
    def errors(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def warnings(self) -> tuple[Finding, ...]:
        return tuple(finding for finding in self.findings if finding.level == "warning")
