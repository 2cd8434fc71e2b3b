"""What is known of a method while an action file is made for it, and how JSON becomes parameters and names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson
from yarl import URL


class BadSource(ValueError):
    """The document or line does not say enough."""


@dataclass(frozen=True, slots=True)
class Draft:
    """What is known of a method. `needs`: the names of its secrets in the settings; `secrets`: those that a curl line had."""

    connector: str
    method: str
    request: dict[str, Any]
    parameters: dict[str, dict[str, str]]
    values: dict[str, str]
    auth: dict[str, Any]
    origin: str
    needs: tuple[str, ...]
    base_url: str
    description: str = ""
    answered: bool = False
    status: int = 503
    body: str = ""
    response: dict[str, dict[str, str]] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict, repr=False)


def snake(text: str) -> str:
    """A name as action files have them."""
    words = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", text)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")
    return (name if name[:1].isalpha() else f"n_{name}".rstrip("_"))[:40].rstrip("_")


def templated(document: Any, parameters: dict[str, dict[str, str]], values: dict[str, str], path: str = "") -> Any:
    """A JSON body whose scalars have become parameters, entered with their types and these values; lists stay as they are."""
    if isinstance(document, dict):
        return {str(key): templated(value, parameters, values, f"{path}.{key}".strip(".")) for key, value in document.items()}
    if isinstance(document, list) or document is None:
        return _constant(document)
    name = free(path, parameters)
    parameters[name] = {"type": kind_of(document)}
    values[name] = as_text(document)
    return f"{{{{ {name} }}}}"


def kind_of(value: Any) -> str:
    """The type of a JSON value."""
    if isinstance(value, list):
        kinds = {kind_of(item) for item in value}
        return f"list of {kinds.pop()}" if len(kinds) == 1 and not isinstance(value[0], list) else "list of string"
    names = {bool: "boolean", int: "integer", float: "number", dict: "object"}
    return names.get(type(value), "string")


def _constant(value: Any) -> Any:
    """A JSON value that is always the same, as a body of an action file spells it."""
    if isinstance(value, list):
        return [_constant(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _constant(item) for key, item in value.items()}
    if isinstance(value, str) and "{{" not in value and "{%" not in value:
        return value
    return f"{{{{ {'none' if value is None else orjson.dumps(value).decode()} }}}}"


def free(path: str, taken: Mapping[str, Any]) -> str:
    """The shortest name of a path that nothing else has."""
    if path.startswith("length("):
        steps = ["_".join([*re.findall(r"\w+", path)[1:], "count"])]
    else:
        steps = [step for step in re.findall(r"[\w$-]+", path) if step != "0"] or ["value"]
    for n in range(len(steps) - 1, -1, -1):
        name = snake("_".join(steps[n:]))
        if name not in taken and not re.fullmatch(r"call_id|request_id|settings", name):
            return name
    n = 2
    while f"{snake('_'.join(steps))[:36]}_{n}" in taken:
        n += 1
    return f"{snake('_'.join(steps))[:36]}_{n}"


def as_text(value: Any) -> str:
    """A value as action files spell it: text itself, anything else as JSON."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def origin_of(url: str) -> str:
    """Scheme, host and port of an address."""
    return str(URL(url).origin())
