"""A few of the fault cases, each kill point at least once; which steps they are taken from is drawn with a fixed seed.

`python -m tests.faults.run` tries them all.
"""

from __future__ import annotations

import random

import pytest

from tests.drawn import SEED
from tests.e2e.house import LiveHouse
from tests.faults import kill_points, language_points, outside_points
from tests.faults.case import Case
from tests.faults.cases import CASES

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(180)]
SMALL = ("A2/20 calls", "B2/3 s")


def _drawn() -> list[Case]:
    """One case for each kill point, no step twice."""
    draw = random.Random(SEED)
    steps = draw.sample(list(kill_points.SCENES), len(kill_points.POINTS))
    wanted = {f"A1/{step}/{point}" for step, point in zip(steps, kill_points.POINTS, strict=True)}
    return [case for case in CASES if case.name in wanted or case.name in SMALL]


@pytest.mark.parametrize("case", _drawn(), ids=lambda case: case.name)
def test_fault_is_survived(house: LiveHouse, case: Case) -> None:
    case.run(house)


def test_every_step_is_killed_at_every_point() -> None:
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)
    steps = [*kill_points.SCENES, *outside_points.SCENES, *language_points.SCENES]
    assert {name for name in names if name.startswith("A1/")} == {f"A1/{step}/{point}" for step in steps for point in kill_points.POINTS}
