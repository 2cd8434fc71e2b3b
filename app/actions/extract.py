"""From a response's body to the typed attributes that an action declares.

Nothing of a body that fails anywhere is kept: either all declared attributes come out with their types, or `Malformed` says
which one did not. Most paths are plain (`results[0].email`) and are walked directly, a tenth of the cost of the interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

import jmespath
import orjson
from jmespath.exceptions import JMESPathError

from app.core.events import Json

from .values import TooBig, WrongType, convert, loosely

MAX_BODY: Final = 256 * 1024
MAX_DEPTH: Final = 32

Find: TypeAlias = Callable[[Json], Json]
_REQUIRED: Final = object()


class Malformed(ValueError):
    """The body is not what the action declares; the message holds no value of it."""


class Attribute:
    """One response attribute: where it is found, what type it has, and what it is when it is absent or null."""

    __slots__ = ("default", "find", "kind", "name")

    def __init__(self, name: str, path: str, kind: str, default: Json = _REQUIRED, loose: bool = False) -> None:
        self.name, self.kind, self.default = name, kind, default
        self.find = _loose(compile_path(path), kind) if loose else compile_path(path)

    def read(self, document: Json) -> Json:
        """The typed value in this document; raises `Malformed` or `TooBig`."""
        try:
            value = self.find(document)
            if value is None and self.default is not _REQUIRED:
                return self.default
            return convert(value, self.kind)
        except (WrongType, JMESPathError) as error:
            raise Malformed(f"{self.name}: {error if isinstance(error, WrongType) else 'the path does not fit the body'}") from error
        except TooBig as error:
            raise TooBig(f"{self.name}: {error}") from error


def compile_path(path: str) -> Find:
    """A JMESPath as a function; raises `JMESPathError` (a `ValueError`) for one that is none."""
    compiled = jmespath.compile(path)
    steps = _plain_steps(compiled.parsed)
    if steps is None:
        return compiled.search
    return lambda document: _walk(document, steps)


def parse(body: bytes) -> Json:
    """The JSON in a body of at most `MAX_BODY` bytes, nested at most `MAX_DEPTH` deep; raises `Malformed`."""
    try:
        document = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Malformed(f"the body is not JSON: {error.msg} at character {error.pos}" if body else "the body is empty") from error
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _deeper_than(document, MAX_DEPTH):
        raise Malformed(f"the body is nested more than {MAX_DEPTH} deep")
    return document


def extract(body: bytes, attributes: tuple[Attribute, ...]) -> dict[str, Json]:
    """All attributes of a response; raises `Malformed` or `TooBig`."""
    return read(parse(body), attributes) if attributes else {}


def read(document: Json, attributes: tuple[Attribute, ...]) -> dict[str, Json]:
    """All attributes in a document; raises `Malformed` or `TooBig`."""
    return {attribute.name: attribute.read(document) for attribute in attributes}


def _loose(find: Find, kind: str) -> Find:
    return lambda document: loosely(find(document), kind)


def _plain_steps(tree: Mapping[str, Any]) -> tuple[str | int, ...] | None:
    """The keys and indexes of a path that has nothing else in it."""
    if tree["type"] in ("field", "index"):
        return (tree["value"],)
    if tree["type"] not in ("subexpression", "index_expression"):
        return None
    steps: list[str | int] = []
    for child in tree["children"]:
        inner = _plain_steps(child)
        if inner is None:
            return None
        steps.extend(inner)
    return tuple(steps)


def _walk(document: Json, steps: tuple[str | int, ...]) -> Json:
    for step in steps:
        if isinstance(document, dict):
            document = document.get(step)
        elif isinstance(document, list) and isinstance(step, int) and -len(document) <= step < len(document):
            document = document[step]
        else:
            return None
    return document


def _deeper_than(document: Json, depth: int) -> bool:
    level = [document]
    for _ in range(depth):
        level = [item for node in level for item in (node.values() if isinstance(node, dict) else node) if isinstance(item, dict | list)]
        if not level:
            return False
    return True
