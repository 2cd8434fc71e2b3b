"""The way of somebody new: a project made from a template is brought up, called, changed, and brought up again, all by the command line."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import pytest

from app.up import Installation
from tests.e2e.house import MAILED, PREMIUM, LiveHouse, free_ports
from tests.e2e.test_hotline_real import heard

pytestmark = [pytest.mark.pbx, pytest.mark.faults]


def callwright(folder: Path, *words: str) -> str:
    """What the command says; it has to succeed."""
    argv = [sys.executable, "-m", "app.cli", *words]
    done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Where it is done, with a state directory whose ports are free."""
    state = tmp_path / "build" / "up"
    state.mkdir(parents=True)
    (state / "ports.json").write_text(json.dumps(asdict(free_ports())))
    yield tmp_path
    callwright(tmp_path, "down")


def running(folder: Path) -> LiveHouse:
    """The doors of what runs there."""
    house = LiveHouse(folder / "build" / "up")
    house.installation = Installation(folder / "build" / "up", folder / "acme")
    house.up()
    return house


def sign_in(house: LiveHouse, agent: str, pin: str) -> None:
    """As the desk does it; it has to succeed."""
    base = f"http://127.0.0.1:{house.installation.ports.api}"
    headers = {"Content-Type": "application/json", "Origin": base}
    request = urllib.request.Request(f"{base}/v1/session", json.dumps({"agent": agent, "pin": pin}).encode(), headers)
    with urllib.request.urlopen(request, timeout=5) as answer:
        assert json.load(answer)["agent"] == agent


def test_a_project_of_ones_own_takes_calls_and_an_agent_who_is_added_answers_them(folder: Path) -> None:
    callwright(folder, "new", "acme")
    told = callwright(folder, "up", "--project", "acme")
    assert "call 1000 as one of these numbers" in told
    assert "make call" not in told
    house = running(folder)
    with house.visit(MAILED) as visit:
        heard(house, visit, "To reach a person, press 0.")
        house.reaches(visit, "which_order")
        visit.phone.rtp.press("1")
        house.reaches(visit, "more")
        visit.phone.rtp.press("2")
        heard(house, visit, "Thank you for calling. Goodbye.", 20)
        assert house.over(visit.call)["outcome"] == "self_service"

    centre = folder / "acme" / "centre.yaml"
    centre.write_text(centre.read_text() + '  "201": {name: Zoe, queues: [orders], skills: {}}\n')
    assert "centre.yaml: changed since" in callwright(folder, "up", "--project", "acme").replace("\n", " ")
    callwright(folder, "down")
    pin = next(line.split()[1] for line in callwright(folder, "up", "--project", "acme").splitlines() if line.split()[:1] == ["201"])
    house = running(folder)
    sign_in(house, "201", pin)
    with house.agent_phone("201", ring=0.2, talk=0.5), house.visit(PREMIUM) as visit:
        heard(house, visit, "Thank you for calling. You are next to be served.")
        assert house.over(visit.call, 30)["outcome"] == "answered"
    house.check()
