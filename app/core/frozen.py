"""Values that nobody changes once they are made: events, facts, commands, and what steps ask for.

The type checker sees to that, and nothing does at run time: a frozen dataclass asks for every field of every value whether it may be set,
and that was a twelfth of all that the core costs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeVar, dataclass_transform

T = TypeVar("T")


@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: type[T]) -> type[T]:
    """A dataclass with slots, equal and hashed by its fields, that is frozen to the type checker."""
    return dataclass(slots=True, unsafe_hash=True)(cls)
