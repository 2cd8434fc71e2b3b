"""Reading a flow file into what the core runs: completed by all that comes from other files, validated, checked and compiled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from app.core.flow.compiled import BadProgram, Compiled, compile_program
from app.core.flow.program import Program
from app.publish.calendars import expand_all
from app.publish.reading import ProjectError, as_written, read, told, validated
from app.publish.shared import Shared
from app.publish.subflows import inlined
from app.yamlfile import Document

FILLED_IN = {"outputs": "the action files", "tables": "the calendars"}
Outputs = Mapping[str, Mapping[str, str]]
"""For each action the CEL types of its attributes."""


def load_flow(
    path: Path,
    outputs: Outputs,
    queues: Mapping[str, object],
    document: Document | None = None,
    *,
    shared: Shared | None = None,
    today: date | None = None,
) -> Compiled:
    """One flow file, completed, validated, checked and compiled; raises `ProjectError`.

    With a `document`, `path` is only what it is called. `shared` are the files of its project that belong to it as well; the tables of its
    calendars begin with the year before `today`'s.
    """
    document = document or read(path)
    program = load_program(path, outputs, document, shared=shared, today=today)
    try:
        return checked(program, queues)
    except BadProgram as error:
        raise ProjectError([told(path, document, as_written(where), what) for where, what in error.problems]) from None


def load_program(
    path: Path,
    outputs: Outputs,
    document: Document | None = None,
    *,
    shared: Shared | None = None,
    today: date | None = None,
) -> Program:
    """One flow file, completed and validated, but not checked against anything else; raises `ProjectError`."""
    document = document or read(path)
    content = document.content
    if isinstance(content, dict):
        content = _completed(path, document, content, outputs, shared or Shared(), today or datetime.now(UTC).date())
    program: Program = validated(path, document, Program, content)
    return program


def checked(program: Program, queues: Mapping[str, object]) -> Compiled:
    """The program ready to run, with everything that must hold before a caller gets it; raises `BadProgram`."""
    return compile_program(program, queues)


def _completed(path: Path, document: Document, content: Mapping[str, Any], outputs: Outputs, shared: Shared, today: date) -> dict[str, Any]:
    """A flow file's content with all that comes from elsewhere; raises `ProjectError`."""
    given = [
        told(path, document, (key,), f"comes from {whence} and cannot be given here") for key, whence in FILLED_IN.items() if key in content
    ]
    if given:
        raise ProjectError(given)
    flow, problems = inlined(shared.joined(content, document), document, shared.subflows)
    tables, wrong = expand_all(flow.get("calendars"), today)
    if problems or wrong:
        raise ProjectError([told(path, document, place, what) for place, what in (*problems, *wrong)])
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
