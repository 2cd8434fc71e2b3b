"""The project that a test is about: found from where the test is, read as the application reads it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from app.actions.files import load_actions
from app.actions.method import ActionDef
from app.actions.prepare import Prepared
from app.actions.samples import sample_credentials
from app.core.book import Book
from app.publish.centre import load_book

MARK = "centre.yaml"
NOWHERE = "https://sample.invalid"


class NoProject(LookupError):
    """There is no project here."""


def find_project(start: Path) -> Path:
    """The nearest folder, from `start` upwards, that has a `centre.yaml`; raises `NoProject`."""
    for folder in (start, *start.parents):
        if (folder / MARK).is_file():
            return folder
    raise NoProject(f"no {MARK} in {start} or in any folder above it; name the project with --callwright-project or callwright_project")


@dataclass(frozen=True)
class Project:
    """A project read and checked: its actions, and what the centre runs. Shared by the tests of a run; nothing in it changes."""

    path: Path
    actions: Mapping[str, ActionDef]
    book: Book

    @classmethod
    def load(cls, path: Path) -> Project:
        """Read the folder; raises `ActionFileError` or `ProjectError` with every mistake."""
        actions = load_actions(path / "actions")
        return cls(path, actions, load_book(path, {name: definition.outputs for name, definition in actions.items()}))

    @cached_property
    def prepared(self) -> dict[str, Prepared]:
        """Each action ready to make requests, with credentials of no worth."""
        credentials = sample_credentials(self.actions, NOWHERE)
        return {name: Prepared(definition, credentials) for name, definition in self.actions.items()}

    @cached_property
    def numbers(self) -> dict[str, str]:
        """The first number of each flow, by the flow's name."""
        found: dict[str, str] = {}
        for number, flow in self.book.flows.items():
            found.setdefault(flow.name, number)
        return found

    def number(self, to: str) -> str:
        """The number to dial: `to` itself, or the first one of the flow of that name; "" is the only flow's. Raises `LookupError`."""
        flows = self.numbers
        if to in self.book.flows:
            return to
        if to in flows:
            return flows[to]
        if not to and len(flows) == 1:
            return next(iter(flows.values()))
        known = ", ".join(f"{number} ({flow.name})" for number, flow in self.book.flows.items()) or "none"
        raise LookupError(
            f"{'no flow has the number or name ' + repr(to) if to else 'dial(..., to=...) must say where'}; there are: {known}"
        )
