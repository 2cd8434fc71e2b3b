"""`make call` and `callwright show call`, as somebody types them."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from app.call_cli import show_call
from tests.e2e.house import LATE, LiveHouse

pytestmark = pytest.mark.pbx


def make_call(state: Path, *scenarios: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "tests.load.call", "--state", str(state), *scenarios]
    return subprocess.run(argv, capture_output=True, text=True, timeout=110, check=False)


def told(output: str) -> list[str]:
    """The word of each line of a call."""
    return re.findall(r"^ *\d+\.\d\d s  ([a-z]+(?: [a-z]+)?)(?:  |$)", output, re.MULTILINE)


def test_calls_are_told_line_by_line_and_took_the_way_they_should(house: LiveHouse) -> None:
    done = make_call(house.installation.state, "late", "mail")
    assert done.returncode == 0, done.stdout + done.stderr
    late, mail = done.stdout.split("mail  a customer")
    assert told(late)[:8] == ["arrived", "recognised", "picked up", "queued", "music", "offered", "popped", "dialled"]
    assert told(late)[8:] == ["rang", "answered", "talked", "hung up", "ended"]
    without_music = [word for word in told(mail) if word != "music"]  # whether the caller needs any depends on how fast the mail goes
    assert without_music[-5:] == ["mailing", "mailed", "played", "hung up", "ended"]
    assert "2 of 2 calls took the way they should" in done.stdout
    assert "+49305550001" not in done.stdout
    assert {agent["presence"] for agent in house.api("/v1/agents")["agents"]} == {"signed_out"}


def test_a_call_that_took_another_way_is_an_error(house: LiveHouse) -> None:
    house.crm_fault("down")
    try:
        done = make_call(house.installation.state, "premium")
    finally:
        house.crm_fault("off")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "should have gone recognise → late_or_greet" in done.stdout
    assert "0 of 1 calls" in done.stdout
    assert house.agent("101")["presence"] == "signed_out"


def test_agents_who_are_signed_in_are_left_alone(house: LiveHouse) -> None:
    house.tell("102", "sign-in")
    try:
        done = make_call(house.installation.state, "late")
    finally:
        house.sign_out("102")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "signed in already: 102" in done.stdout


def test_without_an_installation_it_says_what_to_do_first(tmp_path: Path) -> None:
    done = make_call(tmp_path / "nothing")
    assert done.returncode == 2
    assert "run make up first" in done.stdout


def test_show_call_finds_a_call_by_how_its_id_begins(house: LiveHouse, capsys: pytest.CaptureFixture[str]) -> None:
    with house.agent_phone("105", ring=0.2, talk=0.5), house.visit(LATE) as visit:
        visit.phone.wait_for("released", 30)
        house.over(visit.call)
    show_call(visit.call[:12], house.installation.state)
    shown = told(capsys.readouterr().out)
    assert shown[0] == "arrived"
    assert shown[-1] == "wrapped up"
    assert shown[-2] == "ended"
    with pytest.raises(typer.BadParameter, match="there is no call"):
        show_call("no such call", house.installation.state)
