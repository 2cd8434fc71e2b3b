"""A small load, as `make load` places it: an installation of its own, all shipped scenarios, tables and a picture."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.load.load import FLOWS, asked
from tests.load.sipp import split


@pytest.mark.pbx
@pytest.mark.timeout(240)
def test_twenty_calls_of_every_kind_come_out_as_they_should(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.load.load", "--rate", "5", "--calls", "20", "--flow", "mix", "--out", str(tmp_path)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=230, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads((tmp_path / "load.json").read_text())
    assert sum(part["good"] for part in result["parts"].values()) == 20
    assert result["wrong"] == []
    assert result["outcomes"]["answered"] >= result["parts"]["unknown"]["placed"] + result["parts"]["premium"]["placed"]
    assert result["outcomes"]["self_service"] >= result["parts"]["known"]["placed"]
    assert 0 < result["setup_ms"]["p50"] <= result["setup_ms"]["p99"]
    assert (tmp_path / "setup.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("given", "complaint"),
    [
        (["--rate", "101"], "RATE must be from"),
        (["--rate", "0"], "RATE must be from"),
        (["--calls", "20001", "--rate", "100"], "CALLS must be from"),
        (["--calls", "10000", "--rate", "1"], "is the limit"),
        (["--flow", "everything"], "invalid choice"),
    ],
)
def test_limits_are_kept(given: list[str], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        asked(given)
    assert end.value.code == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("total", [1, 5, 20, 333])
@pytest.mark.parametrize("flow", FLOWS)
def test_every_call_belongs_to_a_part_and_every_part_has_calls_when_there_are_enough(total: int, flow: str) -> None:
    shares = [part.share for part in FLOWS[flow].parts]
    numbers = split(total, shares)
    assert sum(numbers) == total
    assert all(numbers) or total < 20
