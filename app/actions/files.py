"""Action files: one file a connector, each method described in exactly five parts, and how it is run stands apart.

    connector: crm
    settings:        what differs between installations and is no secret, used as {{ settings.name }} (optional)
    methods:
      contact_by_phone:
        request:     how it is asked: kind (rest, graphql, soap, sql, csv) and what that kind needs: see app/actions/dialects.py
        parameters:  what it needs, each with its type
        response:    what comes out, each attribute a JMESPath with its type
        auth:        the scheme, and the name of the credentials, never a secret: see app/actions/schemes.py
        samples:     requests with the responses they had, and the attributes expected of them
        run:         budget, retries, what makes a repeat harmless, what is sensitive, how many at once (optional): see `method`

Every mistake found in every file is reported in one `ActionFileError`, each with file and line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BeforeValidator, Field, ValidationError

from app.yamlfile import Document, Place, YamlError, read_yaml

from . import preset
from .dialects import KINDS
from .method import ActionDef, find_problem
from .parts import Name, Part, Setting

_OURS: Final = ("name", "settings", "folder")


class ActionFileError(ValueError):
    """Files that cannot be used; `problems` has a line for each mistake: file, line, place, what was expected and found."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


def _version(value: Any) -> Any:
    return value if value is not None else "1"


class Connector(Part):
    """One file: a connector with its methods. Each method is checked by itself, so that all mistakes are found at once."""

    format: Annotated[Literal["1"], BeforeValidator(_version)] = "1"
    connector: Name
    description: str = ""
    settings: dict[Name, Setting] = Field(default_factory=dict)
    methods: dict[Name, dict[str, Any]] = Field(min_length=1)


def load_actions(directory: Path) -> dict[str, ActionDef]:
    """All methods of all `*.yaml` files of a directory, by full name; raises `ActionFileError` with every mistake.

    The folder around the directory is the project's, in which CSV files are found.
    """
    problems: list[str] = []
    found: dict[str, ActionDef] = {}
    if not directory.is_dir():
        raise ActionFileError([f"{directory}: expected a directory of action files, found none"])
    for path in sorted(directory.glob("*.yaml")):
        for name, definition in _load_file(path, problems).items():
            if name in found:
                problems.append(f"{path}:1: {name}: the method is described in another file as well")
            found[name] = definition
    if problems:
        raise ActionFileError(problems)
    return found


def _load_file(path: Path, problems: list[str]) -> dict[str, ActionDef]:
    try:
        document = read_yaml(path)
        connector = Connector.model_validate(preset.expand(document.content))
    except YamlError as error:
        problems.append(f"{path}:{error.line}: {error}")
        return {}
    except OSError as error:
        problems.append(f"{path}:1: cannot be read: {error.strerror}")
        return {}
    except ValidationError as error:
        problems.extend(_explain(path, document, (), error))
        return {}
    found: dict[str, ActionDef] = {}
    for method, parts in connector.methods.items():
        name = f"{connector.connector}.{method}"
        try:
            foreign = [
                f"{path}:{document.line(('methods', method, key))}: methods.{method}.{key}: no such key is known here"
                for key in _OURS
                if key in parts
            ]
            problems.extend(foreign)
            found[name] = ActionDef.model_validate({**parts, "name": name, "settings": connector.settings, "folder": path.parent.parent})
        except ValidationError as error:
            problems.extend(_explain(path, document, ("methods", method), error))
    for definition in found.values():
        wrong, method = find_problem(definition, found), definition.name.partition(".")[2]
        if wrong:
            problems.append(f"{path}:{document.line(('methods', method, 'run', 'find'))}: methods.{method}.run.find: {wrong}")
    return found


def _explain(path: Path, document: Document, around: Place, error: ValidationError) -> list[str]:
    lines = []
    for detail in error.errors(include_url=False):
        place: Place = (
            *around,
            *(step for n, step in enumerate(detail["loc"]) if not (n and detail["loc"][n - 1] == "request" and step in KINDS)),
        )
        message = detail["msg"].removeprefix("Value error, ")
        if detail["type"] == "missing":
            message = "this part is missing"
        elif detail["type"] == "extra_forbidden":
            message = "no such key is known here"
        elif isinstance(detail["input"], str):
            message += f", found {detail['input'][:60]!r}"
        where = ".".join(str(step) for step in place if step != "[key]") or "the file"
        lines.append(f"{path}:{document.line(place)}: {where}: {message}")
    return lines
