"""All proofs of a flow, and of a project."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from app.core.acd import AgentDef, QueueDef
from app.core.flow.compiled import Compiled
from app.publish.graph import Graph
from app.publish.meaning import Asked, Context
from app.publish.proofs.findings import Finding, Report, Subject
from app.publish.proofs.longest import longest
from app.publish.proofs.loops import allowed, endless, unreachable
from app.publish.proofs.people import forsaken, silent
from app.publish.proofs.repeats import repeated
from app.publish.proofs.secrecy import leaked
from app.publish.proofs.staffing import unstaffed
from app.publish.proofs.variables import unset
from app.yamlfile import Document

Proof = Callable[[Subject], Iterator[Finding]]
PROOFS: tuple[Proof, ...] = (unreachable, endless, unset, forsaken, silent, repeated, unstaffed, leaked)


def prove(
    path: Path,
    document: Document,
    flow: Compiled,
    queues: Mapping[str, QueueDef],
    agents: Mapping[str, AgentDef],
    actions: Mapping[str, Asked],
) -> Report:
    """Everything that the proofs find of one flow, in the order of its file (`document`, called `path`) and of those that it shares."""
    subject = Subject(Graph(Context(flow, actions)), path, document, queues, agents)
    findings = [finding for proof in PROOFS for finding in proof(subject)]
    findings.sort(key=lambda finding: (finding.file != str(path), finding.file, finding.line))
    return Report(flow.program.flow, str(path), tuple(findings), longest(subject), tuple(allowed(subject)))
