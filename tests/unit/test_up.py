"""`callwright up` with projects that change: what it keeps, and what it refuses; nothing is started here."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tomllib
from pathlib import Path

import pytest

from app.api.auth import Credentials
from app.installation import DEMO
from app.up import Installation, UpError

ZOE = 'agents:\n  "201": {name: Zoe, queues: [general], skills: {lang.en: 8}}\n'


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return Path(shutil.copytree(DEMO, tmp_path / "acme"))


@pytest.fixture
def state(tmp_path: Path) -> Path:
    (tmp_path / "state").mkdir()
    return tmp_path / "state"


def pretend_to_run(installation: Installation) -> None:
    """The application's pid is that of this test; its settings name the project."""
    started = Path(f"/proc/{os.getpid()}/stat").read_text().rpartition(")")[2].split()[19]
    (installation.state / "application.pid").write_text(f"{os.getpid()} {started}\n")
    installation.config.write_text(f"project = {json.dumps(str(installation.project))}\n")


def test_an_agent_who_is_new_gets_a_pin_and_may_sign_in_and_nothing_else_changes(project: Path, state: Path) -> None:
    installation = Installation(state, project)
    installation.let_people_in()
    before, text = installation.keep(), (state / "credentials.toml").read_text()
    assert sorted(before["pins"]) == ["101", "102", "103", "104", "105", "106"]
    own = '[tokens.wall]\nrole = "supervisor"\nsha256 = "' + "0" * 64 + '"\n'
    (state / "credentials.toml").write_text(f"{text}\n{own}")
    centre = project / "centre.yaml"
    centre.write_text(centre.read_text().replace("agents:\n", ZOE))
    installation.let_people_in()
    after = installation.keep()
    assert after == {**before, "pins": {**after["pins"], **before["pins"]}}
    assert sorted(set(after["pins"]) - set(before["pins"])) == ["201"]
    told = tomllib.loads((state / "credentials.toml").read_text())
    assert (sorted(told["tokens"]), sorted(told["agents"])) == (["admin", "wall"], sorted(after["pins"]))
    assert sorted(Credentials.load(state / "credentials.toml").pins) == sorted(after["pins"])
    assert [stat.S_IMODE((state / name).stat().st_mode) for name in ("credentials.toml", "secrets.json")] == [0o600, 0o600]


def test_another_project_is_not_started_beside_one_that_runs(project: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.up.install_packages", lambda say: pytest.fail("it began to start something"))
    pretend_to_run(Installation(state))
    with pytest.raises(UpError, match=r"app/demo runs already out of .*: `callwright down` first"):
        Installation(state, project).up(print)
    assert not (state / "secrets.json").exists()


def test_files_that_are_newer_than_what_runs_are_named(project: Path, state: Path) -> None:
    installation = Installation(state, project)
    assert installation.changed_meanwhile() == []
    pretend_to_run(installation)
    started = (state / "application.pid").stat().st_mtime
    for path in project.rglob("*.yaml"):
        os.utime(path, (started - 1, started - 1))
    assert installation.changed_meanwhile() == []
    os.utime(project / "flows" / "order-status.yaml", (started + 1, started + 1))
    assert installation.changed_meanwhile() == ["flows/order-status.yaml"]
