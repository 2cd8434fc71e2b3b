"""A flow on its way to callers: read from what somebody sent, and checked like a file of the project."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.flow.compiled import BadProgram, Compiled
from app.core.flow.program import Program
from app.publish.flowfile import Outputs, checked
from app.publish.reading import ProjectError
from app.yamlfile import MAX_DEPTH, Document, Tree, YamlError, parse_yaml


def as_document(name: str, content: str | Mapping[str, Any]) -> Document:
    """A flow file's text, or the JSON values of the same keys, called `name` in what is told of its mistakes; raises `ProjectError`."""
    if not isinstance(content, str):
        return Document(_tree(content, 0, name))
    try:
        return parse_yaml(content.encode("utf-8", "replace"))
    except YamlError as error:
        raise ProjectError([f"{name}:{error.line}: {error}"]) from None


def _tree(value: Any, depth: int, name: str) -> Tree:
    """JSON values as the file would have them: every scalar a string, what is null left out."""
    if depth > MAX_DEPTH:
        raise ProjectError([f"{name}:1: nested too deeply"])
    if isinstance(value, Mapping):
        return {str(key): _tree(each, depth + 1, name) for key, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_tree(each, depth + 1, name) for each in value]
    return str(value).lower() if isinstance(value, bool) else str(value)


def check_again(program: Program, outputs: Outputs, queues: Mapping[str, object]) -> Compiled:
    """An older program against the actions and queues of today; raises `ProjectError`."""
    problems = []
    for action, types in program.outputs.items():
        if action not in outputs:
            problems.append(f"{program.flow}: there is no action {action!r} any more")
        elif changed := [name for name, kind in types.items() if outputs[action].get(name) != kind]:
            problems.append(f"{program.flow}: action {action!r} does not give {', '.join(changed)} as it did")
    if problems:
        raise ProjectError(problems)
    try:
        return checked(program, queues)
    except BadProgram as error:
        raise ProjectError([f"{program.flow}: {'.'.join(map(str, where))}: {what}" for where, what in error.problems]) from None
