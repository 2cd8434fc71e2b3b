"""All fault cases."""

from __future__ import annotations

from tests.faults import away, crowd, ends, kill_points, language_points, lost_pbx, outside_points, silence
from tests.faults.case import Case

CASES: list[Case] = [
    *kill_points.CASES,
    *outside_points.CASES,
    *language_points.CASES,
    *crowd.CASES,
    *away.CASES,
    *ends.CASES,
    *silence.CASES,
    *lost_pbx.CASES,
]
