"""Reading the files of a project: what is wrong in one is told with file, line, what was found and what was expected."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.core.flow.steps import STEPS
from app.yamlfile import Document, Place, YamlError, read_yaml

KINDS = (*STEPS, "release", "hangup")


class ProjectError(ValueError):
    """A project that cannot be used; `problems` has a line for each mistake."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def read(path: Path) -> Document:
    """One file as it is written; raises `ProjectError`."""
    try:
        return read_yaml(path)
    except YamlError as error:
        raise ProjectError([f"{path}:{error.line}: {error}"]) from None
    except OSError as error:
        raise ProjectError([f"{path}: cannot be read: {error.strerror}"]) from None


def validated(path: Path, document: Document, model: type[Any], content: Any) -> Any:
    """A file's content as the model has it; raises `ProjectError`."""
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise ProjectError([_mistake(path, document, dict(mistake)) for mistake in error.errors()]) from None


def told(path: Path, document: Document, place: Place, what: str) -> str:
    """A mistake with its file and line."""
    return f"{document.at(path, place)}: {'.'.join(map(str, place)) or 'the file'}: {what}"


def as_written(place: Place) -> Place:
    """A place in a program as a place in the file: a prompt's phrases and a choice's step have no key of their own there."""
    if place[:1] == ("prompts",):
        return tuple(part for part in place if part not in ("phrases", "by_language"))
    return place


def _mistake(path: Path, document: Document, mistake: Mapping[str, Any]) -> str:
    """One validation error in the words of the file."""
    place = _place(mistake["loc"])
    if mistake["type"] in ("union_tag_invalid", "union_tag_not_found"):
        kinds = ", ".join(KINDS)
        found = mistake["ctx"].get("tag")
        what = (
            f"there is no kind of step {found!r} (there are: {kinds})" if found else f"what the step is to do is missing (one of: {kinds})"
        )
        return told(path, document, (*place, "do"), what)
    if mistake["type"] == "too_long":
        ctx = mistake["ctx"]
        return told(
            path, document, place, f"at most {ctx['max_length']} can be given (found {ctx.get('actual_length') or len(mistake['input'])})"
        )
    given = mistake.get("input")
    shown = f" (found {given!r})" if isinstance(given, str | int | float) else ""
    return told(path, document, place, mistake["msg"].removeprefix("Value error, ") + shown)


def _place(loc: tuple[str | int, ...]) -> Place:
    """A validation error's location in the file: without the kind of step, which is no key there, and without the mark of a key."""
    place = loc[:-1] if loc and loc[-1] == "[key]" else loc
    return as_written((*place[:2], *place[3:]) if place[:1] == ("steps",) else place)
