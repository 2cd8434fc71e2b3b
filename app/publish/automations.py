"""What the project does beside the steps of every flow: `automations.yaml`, joined to each flow's own automations.

The file has `automations:`, as a flow has them, and the named `conditions:` that they ask for. A condition that a flow has under the
same name is the flow's.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from app.yamlfile import Document, Place

FILE = "automations.yaml"
_KEYS = {"automations", "conditions"}


def joined(content: Mapping[str, Any], document: Document, shared: Document, path: Path) -> dict[str, Any]:
    """A flow file's content with the project's automations after its own; raises `ValueError` where the shared file is none."""
    given = shared.content
    if not isinstance(given, dict) or not set(given) <= _KEYS:
        raise ValueError(f"{path}:1: the file has automations and conditions, and nothing else")
    automations, conditions = given.get("automations", []), given.get("conditions", {})
    if not isinstance(automations, list) or not isinstance(conditions, dict):
        raise ValueError(f"{path}:1: automations are a list, and conditions a map of names to conditions")
    own, named = content.get("automations", []), content.get("conditions", {})
    if not isinstance(own, list) or not isinstance(named, Mapping):
        return dict(content)
    for i in range(len(automations)):
        _borrow(document, ("automations", len(own) + i), shared, ("automations", i), path)
    for name in conditions.keys() - named.keys():
        _borrow(document, ("conditions", name), shared, ("conditions", name), path)
    return {**content, "automations": [*own, *automations], "conditions": {**conditions, **named}}


def _borrow(document: Document, place: Place, shared: Document, written: Place, path: Path) -> None:
    """What was joined at `place` is to be found where it is written, in the other file."""
    for each, line in shared.lines.items():
        if each[: len(written)] == written:
            document.borrowed[(*place, *each[len(written) :])] = (path, line)
