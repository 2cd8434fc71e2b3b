"""What every part of a flow file is made of: the base of its models, and the forms of its small values."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Seconds = Annotated[float, Field(gt=0, le=14_400)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
StepName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}(\.[a-z][a-z0-9_]{0,39}){0,5}$")]
"""A step's name; one with dots was put in at publish for a `subflow` step."""

Key = Annotated[str, Field(pattern=r"^[0-9*#]$")]
Language = Literal["en", "de", "es"]


@lru_cache(maxsize=4096)
def around(step: str) -> tuple[str, ...]:
    """A step, and those of the subflows in which it is, from the inside out."""
    parts = step.split(".")
    return tuple(".".join(parts[:n]) for n in range(len(parts), 0, -1))


def listed(value: Any) -> Any:
    """One text as a list of one."""
    return [value] if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(listed)]
"""Several texts, or one."""


class Part(BaseModel):
    """Any part of a flow file: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)
