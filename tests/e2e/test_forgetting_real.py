"""A caller of a real call is forgotten. In an installation of its own: what was forgotten cannot be run again from the journal."""

from __future__ import annotations

import urllib.error
from collections.abc import Iterator

import pytest

from tests.e2e.house import LiveHouse
from tests.e2e.test_messages_real import LOW, RECORD, SILENCE, beep, kept, said, sound_of, speaks
from tests.e2e.variant import project, restarted

pytestmark = pytest.mark.pbx


@pytest.fixture
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHouse]:
    """An installation with a flow that records."""
    house = LiveHouse(tmp_path_factory.mktemp("alone"))
    house.up()
    try:
        with restarted(house, CALLWRIGHT_PROJECT=str(project(tmp_path_factory.mktemp("recording"), name=RECORD))):
            yield house
    finally:
        house.down()


def test_the_recording_of_a_caller_who_is_forgotten_is_gone_at_once(alone: LiveHouse) -> None:
    number = "+4930555000777"
    with alone.visit(number, "1101", tone=SILENCE) as visit:
        beep(alone, visit)
        speaks(visit, LOW, seconds=0.6)
        visit.phone.rtp.press("#")
        visit.phone.wait_for("released", 20)
    alone.over(visit.call)
    (content,) = kept(alone, visit)
    assert said(content)[1] > 300
    spool = alone.installation.state / "asterisk" / "spool" / "recording"
    assert spool.is_dir()
    assert list(spool.iterdir()) == []

    report = alone.api(f"/v1/subjects/{number.replace('+', '%2B')}", method="DELETE")
    assert [call["call"] for call in report["calls"]] == [visit.call]
    assert (report["recordings"], report["kept"], report["left"]) == (1, [], [])
    assert list((alone.installation.state / "recordings").glob(f"{visit.call}*")) == []
    for ask in (lambda: sound_of(alone, f"{visit.call}-rc1"), lambda: alone.timeline(visit.call)):
        with pytest.raises(urllib.error.HTTPError):
            ask()
