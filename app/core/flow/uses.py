"""What of a call's variables a step may use: rather one too many than one too few."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from app.core.flow.program import Program


def uses(program: Program, step: str, space: str) -> bool:
    """Whether a step, or a prompt or a condition that it names, has a variable under this name (`<space>.`) in it."""
    named = re.compile(rf"(?<![\w.]){re.escape(space)}\.")
    return any(named.search(text) for text in _texts(program, step))


def _texts(program: Program, step: str) -> Iterator[str]:
    for text in _strings(program.steps[step].model_dump()):
        yield text
        if text in program.conditions:
            yield program.conditions[text]
        if text in program.prompts:
            yield from (phrase for _, phrase in program.prompts[text].every_phrase())


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _strings(key)
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
