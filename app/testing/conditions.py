"""A condition that ends in an error because a test wants it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.core.flow.conditions import ConditionFailed, Conditions


class Failing(Conditions):
    """The conditions of a program, of which one cannot be told."""

    def __init__(self, others: Conditions, name: str) -> None:
        self._others, self._name = others, name

    def test(self, name: str, variables: Mapping[str, Any]) -> bool:
        """Whether the named condition holds; raises `ConditionFailed`."""
        if name == self._name:
            raise ConditionFailed(f"{name}: the test wants it")
        return self._others.test(name, variables)
