"""Of many alike cases `make test` tries one, which a fixed seed draws, and `make faults` all of them."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import pytest

SEED = 20


def one_of(cases: Iterable[Any]) -> list[Any]:
    """Values for `parametrize`: those that are not drawn are marked `faults`."""
    cases = list(cases)
    drawn = random.Random(SEED).randrange(len(cases))
    return [*faults_only(*cases[:drawn]), cases[drawn], *faults_only(*cases[drawn + 1 :])]


def faults_only(*cases: Any) -> list[Any]:
    """Values for `parametrize` that only `make faults` tries."""
    return [pytest.param(case, marks=pytest.mark.faults) for case in cases]
