"""What every test may ask for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.e2e.house import LiveHouse

# How fast examples are made is the machine's affair: real calls run beside these tests.
settings.register_profile("callwright", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("callwright")


@pytest.fixture(scope="session")
def running_house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHouse]:
    """One installation for all real calls of this worker."""
    house = LiveHouse(Path(tmp_path_factory.mktemp("house")))
    house.up()
    yield house
    try:
        house.replays_as_a_whole()
    finally:
        house.down()


@pytest.fixture
def house(running_house: LiveHouse) -> Iterator[LiveHouse]:
    """The installation, with the universal check after the test."""
    if running_house.installation.pid("application") is None:
        running_house.start()
    yield running_house
    try:
        running_house.check()
    except (AssertionError, OSError):
        running_house.clear()
        raise
