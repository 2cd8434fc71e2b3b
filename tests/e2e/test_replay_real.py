"""`callwright replay` on what real calls left behind, while the application runs; each call of every other suite is replayed as well."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from app.cli import app
from tests.e2e.house import MAILED, UNKNOWN, LiveHouse
from tests.phones import until

pytestmark = pytest.mark.pbx
ROOT = Path(__file__).parents[2]
FLOW = ROOT / "app" / "demo" / "flows" / "order-status.yaml"


def replay(house: LiveHouse, *arguments: str, status: int = 0) -> str:
    """What the command says, run in this process: a process of its own for each would take longer to begin than to answer."""
    environment = {"CALLWRIGHT_STATE": str(house.installation.state), "COLUMNS": "160"}
    done = CliRunner().invoke(app, ["replay", *arguments], env=environment)
    assert done.exit_code == status, done.output
    return done.output


def replay_json(house: LiveHouse, *arguments: str) -> Any:
    return json.loads(replay(house, *arguments, "--json"))


def changed(to: Path, old: str, new: str) -> Path:
    text = FLOW.read_text()
    assert text.count(old) == 1
    to.write_text(text.replace(old, new))
    return to


def test_calls_are_replayed_alone_under_another_version_and_with_the_whole_centre(house: LiveHouse, tmp_path: Path) -> None:
    with house.visit(UNKNOWN) as typed:
        house.reaches(typed, "ask_reference")
        typed.phone.wait_for("answered")
        until(lambda: typed.phone.rtp.hears_anything(), 5)
        typed.phone.rtp.press("272")
        until(lambda: sum(entry["type"] == "DigitPressed" for entry in house.timeline(typed.call)) == 3, 5, "three keys")
        house.kill()
        house.start()
        typed.phone.rtp.press("2542#")
        house.over(typed.call, 60)
    with house.visit(MAILED) as mailed:
        house.over(mailed.call, 60)

    text = replay(house, typed.call[:12])
    assert "identical: " in text
    assert "StepLeft ask_reference by match" in text
    assert "2722542" not in text
    one = replay_json(house, typed.call)
    assert (one["verdict"], one["recorded"]) == ("identical", one["replayed"])
    assert [line["what"] for line in one["replayed"] if line["what"].startswith("StepEntered")][:3] == [
        "StepEntered recognise",
        "StepEntered ask_reference",
        "StepEntered look_up_reference",
    ]

    same = replay_json(house, "--flow", str(FLOW), "--since", "1h")
    assert {row["call"]: row["verdict"] for row in same["calls"]}.items() >= {typed.call: "same way", mailed.call: "same way"}.items()
    longer = replay_json(house, "--flow", str(changed(tmp_path / "longer.yaml", "length: 7", "length: 8")), "--since", "1h")
    told = {row["call"]: row for row in longer["calls"]}
    assert told[typed.call]["undetermined"]["from"] == "ask_reference"
    assert told[mailed.call]["verdict"] == "same way"
    other = changed(
        tmp_path / "other.yaml", "exits: {sent: mail_is_sent, failed: offer_agent}", "exits: {sent: nobody_free, failed: offer_agent}"
    )
    table = replay(house, "--flow", str(other), "--since", "1h")
    assert "self_service at end -> released at away" in " ".join(table.split())

    whole = replay_json(house, "--centre")
    assert whole["verdict"] == "identical"
    assert whole["processes"] >= 2
    database = f"sqlite+aiosqlite:///{house.installation.state / 'callwright.db'}"
    assert "identical" in replay(house, "--centre", "--database", database)


def test_what_cannot_be_replayed_says_why(house: LiveHouse, tmp_path: Path) -> None:
    assert "there is no call 'nobody'" in replay(house, "nobody", status=2)
    assert "there is no database" in replay(house, "--centre", "--database", f"sqlite+aiosqlite:///{tmp_path}/no.db", status=2)
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(FLOW.read_text().replace("start: recognise", "start: regognise"))
    assert "did you mean 'recognise'?" in replay(house, "--flow", str(wrong), status=2)
    assert "'soon' is no time" in replay(house, "--flow", str(FLOW), "--since", "soon", status=2)
