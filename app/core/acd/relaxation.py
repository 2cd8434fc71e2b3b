"""Relaxation: what a queue asks of its agents, less and less the longer somebody waits.

A rule says "after so many seconds, ask no more than this level of that skill"; level 0 drops the skill. Rules only ever
lower an ask, so they may stand in any order and what is asked after `waited` seconds is a plain function of the time: a
restart, a replay and a what-if see the same asks without any state being kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

FOREVER = float("inf")


@dataclass(frozen=True, slots=True)
class Relax:
    """After `after` seconds of waiting ask at most `level` (0-10) of `skill`; 0 drops it. Raises ValueError when out of range."""

    after: float
    skill: str
    level: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.after < FOREVER:
            raise ValueError(f"relax: after must be 0 seconds or more, not {self.after}")
        if not 0 <= self.level <= 10:
            raise ValueError(f"relax: level of {self.skill!r} must be 0 to 10, not {self.level}")


def relaxed(skills: Mapping[str, int], rules: Iterable[Relax], waited: float) -> dict[str, int]:
    """What is still asked after `waited` seconds: skill to minimum level, dropped skills left out."""
    asked = dict(skills)
    for rule in rules:
        if rule.after <= waited and asked.get(rule.skill, 0) > rule.level:
            asked[rule.skill] = rule.level
    return {skill: level for skill, level in asked.items() if level}


def next_step(skills: Mapping[str, int], rules: Iterable[Relax], waited: float) -> float:
    """Seconds of waiting at which the next rule for one of these skills falls due, `FOREVER` when none does."""
    return min((rule.after for rule in rules if rule.after > waited and rule.skill in skills), default=FOREVER)


def final(skills: Mapping[str, int], rules: Iterable[Relax]) -> dict[str, int]:
    """What is asked once every rule has applied."""
    return relaxed(skills, rules, FOREVER)
