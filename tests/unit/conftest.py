"""Every centre that a unit test drove is run again from its journal, and must come out the same; it records nobody who types a secret."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.centre import SIMS


@pytest.fixture(autouse=True)
def replayed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After the test, while what it patched is patched still: the whole centre again, and each of its calls."""
    SIMS.clear()
    yield
    for sim in SIMS:
        sim.replays()
        sim.records_no_secret()
