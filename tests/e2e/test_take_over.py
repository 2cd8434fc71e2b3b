"""Nobody in control for a while, and two who think they are: the cases A3 to A7 of the fault table that a change may break first."""

from __future__ import annotations

import pytest

from tests.e2e.house import LiveHouse
from tests.faults.cases import CASES

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(180)]
SOME = (
    "A3/caller leaves while ringing",
    "A3/agent declines",
    "A3/both hang up",
    "A4/new call",
    "A5/frozen",
    "A6/live calls finish",
    "A6/limit",
    "A7/stale process",
)


@pytest.mark.parametrize("name", SOME)
def test_take_over(house: LiveHouse, name: str) -> None:
    next(case for case in CASES if case.name == name).run(house)
