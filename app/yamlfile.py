"""YAML as written: every scalar a string, and the line of everything.

PyYAML's `BaseLoader` leaves `+4930123` and `0301234` alone where other loaders make numbers of them. The document is built
from the composed nodes here, so that each place in it, named by its path of keys and indexes, is known by its line. Keys
given twice, aliases that explode, and files of more than 1 MiB are refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias, TypeVar

import yaml

Place: TypeAlias = tuple[str | int, ...]
T = TypeVar("T")
Tree: TypeAlias = "str | dict[str, Tree] | list[Tree]"

MAX_BYTES = 1 << 20
MAX_NODES = 50_000
MAX_DEPTH = 32


class YamlError(ValueError):
    """The text is not the YAML we read. `line` counts from 1."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


@dataclass(slots=True)
class Document:
    """The content of one file, and the line at which each place in it begins."""

    content: Tree
    lines: dict[Place, int] = field(default_factory=dict)
    borrowed: dict[Place, tuple[Path, int]] = field(default_factory=dict)
    """Places that are written in another file, each with that file and its line there."""

    def line(self, place: Place) -> int:
        """The line of a place, or of the nearest place around it that exists."""
        while place and place not in self.lines:
            place = place[:-1]
        return self.lines.get(place, 1)

    def found(self, path: Path, place: Place) -> tuple[Path, int]:
        """File and line of a place, or of the nearest place around it that exists; `path` is this file."""
        while place and place not in self.lines and place not in self.borrowed:
            place = place[:-1]
        return self.borrowed.get(place, (path, self.lines.get(place, 1)))

    def at(self, path: Path, place: Place) -> str:
        """`file:line` of a place, as `found`."""
        file, line = self.found(path, place)
        return f"{file}:{line}"

    def borrow(self, place: Place, other: Document, written: Place, path: Path) -> None:
        """What is put at a place is to be found where it is written, in the other file, which is `path`."""
        self.borrowed.update({(*place, *each[len(written) :]): (path, line) for each, line in _under(other.lines, written)})

    def repeat(self, place: Place, written: Place) -> None:
        """What is put at a place as well is to be found where it is written."""
        if place != written:
            self.lines.update({(*place, *each[len(written) :]): line for each, line in _under(self.lines, written)})
            self.borrowed.update({(*place, *each[len(written) :]): found for each, found in _under(self.borrowed, written)})


def _under(places: Mapping[Place, T], around: Place) -> list[tuple[Place, T]]:
    return [(place, found) for place, found in places.items() if place[: len(around)] == around]


def read_yaml(path: Path) -> Document:
    """Read one file; raises `YamlError` for what is no YAML, `OSError` for what cannot be read."""
    return parse_yaml(path.read_bytes())


def parse_yaml(raw: bytes) -> Document:
    """Read a file's content; raises `YamlError` for what is no YAML."""
    if len(raw) > MAX_BYTES:
        raise YamlError(1, f"the file has {len(raw)} bytes; {MAX_BYTES} are allowed")
    try:
        root = yaml.compose(raw.decode("utf-8"), Loader=yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise YamlError(raw[: error.start].count(b"\n") + 1, "not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise YamlError(mark.line + 1 if mark else 1, f"not YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise YamlError(1, f"not YAML: {error}") from error
    if root is None:
        raise YamlError(1, "the file is empty")
    document = Document("")
    document.content = _build(root, (), document.lines)
    return document


def _build(node: yaml.Node, place: Place, lines: dict[Place, int]) -> Tree:
    line = node.start_mark.line + 1
    if len(lines) >= MAX_NODES or len(place) > MAX_DEPTH:
        raise YamlError(line, "too large or nested too deeply")
    lines[place] = line
    if isinstance(node, yaml.ScalarNode):
        return str(node.value)
    if isinstance(node, yaml.SequenceNode):
        return [_build(item, (*place, n), lines) for n, item in enumerate(node.value)]
    content: dict[str, Tree] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode) or key.value == "":
            raise YamlError(key.start_mark.line + 1, "a key must be a plain word; put quotes around one that begins with # or *")
        if key.value in content:
            raise YamlError(key.start_mark.line + 1, f"the key {key.value!r} is given twice")
        content[key.value] = _build(value, (*place, key.value), lines)
        lines[(*place, key.value)] = key.start_mark.line + 1
    return content
