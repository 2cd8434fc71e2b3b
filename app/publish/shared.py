"""What the flows of a project share: `automations.yaml` and the files of the folder `subflows`, joined to each flow that they belong to.

`automations.yaml` belongs to every flow: it has `automations:`, as a flow has them, and the named `conditions:` that they ask for. A file
of `subflows` belongs to the flows that run it by its name (`run: identify` runs `subflows/identify.yaml`, where the flow's own file has no
subflow of that name): it has `start`, `exits` and `steps`, and the `prompts`, `conditions` and `calendars` that they need and the flow need
not have. What a flow has under the same name is the flow's; of a prompt only the languages that the flow speaks are taken.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from app.core.flow.program import Automation
from app.publish.reading import ProjectError, read
from app.publish.subflows import KEYS, put_in
from app.yamlfile import Document

AUTOMATIONS = "automations.yaml"
SUBFLOWS = "subflows"
NAMED = ("prompts", "conditions", "calendars")
"""What a shared subflow may have besides what every subflow has, each a map of names."""


class Shared:
    """The shared files of a project, each read once. Without a project there are none."""

    def __init__(self, project: Path | None = None) -> None:
        self._project = project
        self._read: dict[Path, Document] = {}

    @cached_property
    def subflows(self) -> dict[str, Path]:
        """The shared subflows, by the name under which a flow runs them."""
        return {path.stem: path for path in sorted((self._project / SUBFLOWS).glob("*.yaml"))} if self._project else {}

    def joined(self, content: Mapping[str, Any], document: Document) -> dict[str, Any]:
        """A flow file's content with everything that it shares among its own; raises `ProjectError`."""
        join = _Join(content, document)
        path = self._project / AUTOMATIONS if self._project else None
        if path is not None and path.exists():
            join.automations(self._document(path), path)
        self._run(join)
        if join.problems:
            raise ProjectError(join.problems)
        return join.content

    def _run(self, join: _Join) -> None:
        """Join the shared subflows that the flow runs, and those that they run."""
        if not isinstance(join.content.get("subflows", {}), Mapping):
            return
        seen: set[str] = set()
        found = list(_runs(join.content))
        while found:
            name = found.pop()
            if name in seen:
                continue
            seen.add(name)
            if name not in join.content.get("subflows", {}) and name in self.subflows:
                join.subflow(name, self._document(self.subflows[name]), self.subflows[name])
            found += _runs(join.content.get("subflows", {}).get(name))

    def _document(self, path: Path) -> Document:
        if path not in self._read:
            self._read[path] = read(path)
        return self._read[path]


def project_of(file: Path) -> Path | None:
    """The project in which a file lies, in its folder of flows or of shared subflows."""
    around = file.resolve().parent.parent
    return around if (around / "centre.yaml").is_file() else None


class _Join:
    """One flow being joined with what it shares."""

    def __init__(self, content: Mapping[str, Any], document: Document) -> None:
        self.content, self.problems = dict(content), list[str]()
        self._document = document
        self._taken: dict[tuple[str, str], tuple[Path, Any]] = {}

    def automations(self, shared: Document, path: Path) -> None:
        given = shared.content
        if not isinstance(given, dict) or not given.keys() <= {"automations", "conditions"}:
            raise ProjectError([f"{path}:1: the file has automations and conditions, and nothing else"])
        automations, own = given.get("automations", []), self.content.get("automations", [])
        if not isinstance(automations, list) or not isinstance(given.get("conditions", {}), dict):
            raise ProjectError([f"{path}:1: automations are a list, and conditions a map of names to conditions"])
        if isinstance(own, list):
            joined = list(own)
            for i, automation in enumerate(automations):
                if isinstance(automation, dict) and "at" in automation:
                    what = "a step is one flow's: expected among the automations of that flow"
                    self.problems.append(f"{shared.at(path, ('automations', i, 'at'))}: automations.{i}.at: {what}")
                if not any(_same(automation, other) for other in own):
                    self._document.borrow(("automations", len(joined)), shared, ("automations", i), path)
                    joined.append(automation)
            self.content["automations"] = joined
        self._named("conditions", shared, path)

    def subflow(self, name: str, shared: Document, path: Path) -> None:
        given = shared.content
        if not isinstance(given, dict) or (more := given.keys() - KEYS - set(NAMED)):
            line = min((shared.line((key,)) for key in more), default=1) if isinstance(given, dict) else 1
            what = f"a shared subflow has {', '.join(sorted(KEYS))}, and may have {', '.join(NAMED)}, and nothing else"
            raise ProjectError([f"{path}:{line}: {what}"])
        self._document.borrow(("subflows", name), shared, (), path)
        subflow = {key: value for key, value in given.items() if key in KEYS}
        self.content["subflows"] = {**self.content.get("subflows", {}), name: subflow}
        for group in NAMED:
            self._named(group, shared, path)

    def _named(self, group: str, shared: Document, path: Path) -> None:
        """Take what the shared file has under names that the flow does not have itself."""
        given, own = shared.content.get(group, {}) if isinstance(shared.content, dict) else {}, self.content.get(group, {})
        if not isinstance(given, dict):
            self.problems.append(f"{shared.at(path, (group,))}: {group}: not a map of names")
            return
        if not isinstance(own, Mapping):
            return
        for name, value in given.items():
            whose, other = self._taken.get((group, name), (path, value))
            if other != value:
                what = (
                    f"{whose} has another one of this name, and this flow needs both: give it another name, or to the flow one of its own"
                )
                self.problems.append(f"{shared.at(path, (group, name))}: {group}.{name}: {what}")
            if name not in own:
                self._taken[group, name] = path, value
                self._document.borrow((group, name), shared, (group, name), path)
        taken = {name: self._spoken(value) if group == "prompts" else value for name, value in given.items() if name not in own}
        if taken:
            self.content[group] = {**own, **taken}

    def _spoken(self, prompt: Any) -> Any:
        """A shared prompt in the languages of this flow."""
        speaks = self.content.get("languages") or [self.content.get("language", "en")]
        return {language: text for language, text in prompt.items() if language in speaks} if isinstance(prompt, dict) else prompt


def _same(one: Any, other: Any) -> bool:
    """Whether two automations are one and the same, as in a program that was published once."""
    try:
        return Automation.model_validate(one) == Automation.model_validate(other)
    except ValidationError:
        return False


def _runs(content: Any) -> Iterator[str]:
    """The subflows that the steps of a flow or of a subflow run."""
    given = content.get("steps") if isinstance(content, Mapping) else None
    steps = given if isinstance(given, Mapping) else {}
    for name, step in steps.items():
        if isinstance(step, Mapping) and step.get("do") == "subflow" and not put_in(name, step, steps):
            yield str(step.get("run"))
