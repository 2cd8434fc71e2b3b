"""What the watchdog decides from Asterisk's lists, and what it reads its settings from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from app.watchdog import SettingsError, main, plan, read_settings


def channel(id_: str, state: str = "Up", app: str = "Stasis", data: str = "callwright,1000") -> dict[str, Any]:
    return {"id": id_, "state": state, "dialplan": {"app_name": app, "app_data": data}}


def leg(id_: str, state: str) -> dict[str, Any]:
    return {"id": id_, "state": state, "dialplan": {"app_name": "", "app_data": ""}}


def bridge(*members: str) -> dict[str, Any]:
    return {"id": "b", "channels": list(members)}


def test_waiting_caller_is_released_alone_or_with_a_bridge_of_its_own() -> None:
    found = plan("callwright", [channel("a"), channel("b", "Ring")], [bridge("a")])
    assert (found.hang_up, found.release, found.pairs) == ((), ("a", "b"), ())


def test_ringing_leg_is_hung_up_and_its_caller_released() -> None:
    found = plan("callwright", [channel("a"), leg("a-leg1", "Ringing")], [bridge("a", "a-leg1")])
    assert (found.hang_up, found.release) == (("a-leg1",), ("a",))


def test_leg_that_is_not_dialled_yet_is_hung_up() -> None:
    assert plan("callwright", [leg("a-leg1", "Down")], []).hang_up == ("a-leg1",)


def test_talking_pair_stays() -> None:
    found = plan("callwright", [channel("a"), leg("a-leg1", "Up")], [bridge("a", "a-leg1")])
    assert (found.hang_up, found.release, found.pairs) == ((), (), (("a", "a-leg1"),))


@pytest.mark.parametrize(
    ("left", "bridges"), [(channel("a"), [bridge("a")]), (leg("a-leg1", "Up"), [bridge("a-leg1")]), (channel("a"), [])]
)
def test_who_is_left_of_a_pair_is_hung_up(left: dict[str, Any], bridges: list[dict[str, Any]]) -> None:
    found = plan("callwright", [left], bridges, {("a", "a-leg1")})
    assert (found.hang_up, found.release) == ((left["id"],), ())


def test_channels_of_others_are_left_alone() -> None:
    others = [channel("x", app="Queue", data="sales"), channel("y", data="other-app,1000"), channel("z", app="Playback", data="callwright")]
    found = plan("callwright", others, [bridge("x", "y")])
    assert (found.hang_up, found.release, found.pairs) == ((), (), ())


def test_answers_without_the_fields_we_know_decide_nothing() -> None:
    found = plan("callwright", [{}, {"id": "a"}, {"id": "b", "dialplan": None}], [{}, {"channels": ["gone"]}])
    assert (found.hang_up, found.release, found.pairs) == ((), (), ())


def test_settings_come_from_the_applications_file_and_the_environment_goes_first(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[ari]\nurl = "http://127.0.0.1:9/"\npassword = "from-the-file"\napp = "x"\n[api]\nport = 8123\n')
    read = read_settings(file, {"CALLWRIGHT_WATCHDOG_PATIENCE": "3", "CALLWRIGHT_ARI__PASSWORD": "from-the-environment"})
    assert (read.ari_url, read.app, read.health_url) == ("http://127.0.0.1:9", "x", "http://127.0.0.1:8123/healthz")
    assert (read.ari_password, read.patience) == ("from-the-environment", 3.0)
    assert "from-the-environment" not in repr(read)


@pytest.mark.parametrize(
    ("environment", "says"),
    [
        ({}, "no ARI password"),
        ({"CALLWRIGHT_WATCHDOG_ARI_PASSWORD": "p", "CALLWRIGHT_WATCHDOG_PATIENCE": "soon"}, "not a number"),
        ({"CALLWRIGHT_WATCHDOG_ARI_PASSWORD": "p", "CALLWRIGHT_WATCHDOG_PATIENCE": "0"}, "1 to 3600"),
        ({"CALLWRIGHT_WATCHDOG_ARI_PASSWORD": "p", "CALLWRIGHT_WATCHDOG_ARI_URL": "localhost:8088"}, "must begin with http"),
    ],
)
def test_settings_that_cannot_be_used_are_named(environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        read_settings(None, environment)


def test_file_that_is_not_toml_ends_with_status_78(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "c.toml"
    file.write_text("= nonsense")
    assert main(["--config", str(file)]) == 78
    assert str(file) in capsys.readouterr().err
