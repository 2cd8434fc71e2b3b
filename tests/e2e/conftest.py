"""What tests with a bare PBX, without the application, may ask for."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from app.pbx.local import LocalPbx
from tests.pbx import Ari, running_pbx


@pytest.fixture(scope="session")
def bare_pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPbx]:
    """One Asterisk for all tests of this worker that bring their own application, or none."""
    with running_pbx(tmp_path_factory.mktemp("pbx")) as pbx:
        yield pbx


@pytest.fixture
def ari(bare_pbx: LocalPbx) -> Iterator[Ari]:
    """REST to it; what a test leaves behind is hung up."""
    ari = Ari(bare_pbx)
    yield ari
    ari.ask("POST", "asterisk/variable", variable="CALLWRIGHT_AWAY_UNTIL", value="0")
    ari.hang_up_all()
