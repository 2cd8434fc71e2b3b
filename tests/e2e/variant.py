"""The running installation with another environment or another project, for as long as a test needs it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.installation import DEMO
from tests.e2e.house import LiveHouse


@contextmanager
def restarted(house: LiveHouse, **environment: str) -> Iterator[None]:
    """The application started again with these variables. Afterwards it is down: whoever asks for the `house` next starts it as it was."""
    if house.installation.pid("application") is not None:
        house.kill()
    house.environment = environment
    house.start()
    try:
        yield
    finally:
        house.environment = {}
        if house.installation.pid("application") is not None:
            house.kill()


def project(folder: Path, *, ring: int = 15, **flows: str) -> Path:
    """The demo's files with another ring time, in seconds, and with more flows: name to YAML."""
    target = folder / "project"
    shutil.copytree(DEMO, target)
    centre = target / "centre.yaml"
    centre.write_text(centre.read_text().replace("ring: 15", f"ring: {ring}"))
    for name, text in flows.items():
        (target / "flows" / f"{name}.yaml").write_text(text)
    return target
