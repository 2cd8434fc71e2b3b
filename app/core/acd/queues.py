"""Queues: their definitions, those who wait in them, and the one order of all waiting.

The order is a sort key, `(first - credit, first, interaction)`: `first` is when the interaction was first enqueued and is
never lost, the credit is seconds of waiting given for priority. Ageing is built in: whoever has a smaller credit is served
at the latest when he has waited that difference longer. The key spans all queues, because an agent serves several of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, TypeAlias

from app.core.acd.relaxation import Relax

FRONT, NORMAL, BACK = 3600.0, 0.0, -3600.0
MAX_SKILLS = 5
MAX_LEVEL = 10

Key: TypeAlias = tuple[float, float, str]


class UnknownQueue(LookupError):
    """There is no queue of that name."""

    kind = "unknown-queue"


class UnknownInteraction(LookupError):
    """The interaction is neither waiting nor offered."""

    kind = "unknown-interaction"


def check_skills(skills: Mapping[str, int], owner: str) -> None:
    """Raise ValueError unless every level is a whole number from 1 to 10."""
    for skill, level in skills.items():
        if type(level) is not int or not 1 <= level <= MAX_LEVEL:
            raise ValueError(f"{owner}: level of skill {skill!r} must be 1 to {MAX_LEVEL}, not {level!r}")


@dataclass(frozen=True, slots=True)
class QueueDef:
    """A named line with its rules. Times in seconds; `front`, `normal` and `back` are the credits of the three priorities."""

    name: str
    title: str = ""
    music: str = "default"
    ring: float = 15.0
    wrap_up: float = 30.0
    max_wait: float = 600.0
    relax: tuple[Relax, ...] = ()
    front: float = FRONT
    normal: float = NORMAL
    back: float = BACK

    def credit(self, priority: str) -> float:
        """Seconds of credit for `front`, `normal` or `back`; ValueError for any other word."""
        credits = {"front": self.front, "normal": self.normal, "back": self.back}
        if priority not in credits:
            raise ValueError(f"queue {self.name!r}: priority must be front, normal or back, not {priority!r}")
        return credits[priority]


@dataclass(frozen=True, slots=True)
class Waiting:
    """Somebody who waits, or is being offered.

    `skills`: skill to minimum level (1-10), five at most. `first`: when first enqueued. `credit`: seconds given for priority.
    `last_agent` is preferred whenever free, and waited for until `last_agent_until` while busy. `refused`: agents not to be
    asked again before a time, because they declined this very interaction. Raises ValueError when the skills are not in range.
    """

    interaction: str
    queue: str
    skills: Mapping[str, int]
    first: float
    credit: float = NORMAL
    last_agent: str | None = None
    last_agent_until: float = 0.0
    refused: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.skills) > MAX_SKILLS:
            raise ValueError(f"interaction {self.interaction}: {len(self.skills)} skills asked, at most {MAX_SKILLS} can be")
        check_skills(self.skills, f"interaction {self.interaction}")

    @property
    def key(self) -> Key:
        """The sort key: smaller is served first."""
        return (self.first - self.credit, self.first, self.interaction)

    def dump(self) -> dict[str, Any]:
        """As plain JSON values; `load` gives an equal one back."""
        return asdict(self)

    @classmethod
    def load(cls, row: Mapping[str, Any]) -> Waiting:
        """From what `dump` gave."""
        return cls(**row)
