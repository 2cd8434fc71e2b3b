"""The benchmark itself, with few calls: every contender handles the full call, and everything that should be measured is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(240)]
ROOT = Path(__file__).resolve().parents[2]
CONTENDERS = ("dialplan", "fastagi", "bare_ari", "callwright")
NEEDED = {
    "asterisk_cpu_s_per_1000",
    "app_cpu_s_per_1000",
    "setup_ms",
    "placement_ms",
    "answer_to_audio_ms",
    "max_rate",
    "held_kib",
    "steal_pct",
}


@pytest.mark.faults
@pytest.mark.skipif(os.geteuid() != 0, reason="listening on the wire and playing keys take root")
def test_all_three_handle_the_full_call_and_are_measured(tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "tests.load.bench", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, timeout=220, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads((tmp_path / "bench.json").read_text())
    assert set(told) == {"w2", "core"}
    assert tuple(told["w2"]) == CONTENDERS
    for contender, row in told["w2"].items():
        assert set(row) >= NEEDED
        assert (row["calls"], row["failed"]) == (20, 0), contender
        for key in ("setup_ms", "placement_ms", "answer_to_audio_ms"):
            assert 0 < row[key]["p50"] <= row[key]["p95"] <= row[key]["p99"] < 5000, (contender, key, row[key])
        assert 0 < row["asterisk_cpu_s_per_1000"] < 500
        assert 0 <= row["steal_pct"] <= 100
    spent = {contender: row["app_cpu_s_per_1000"] for contender, row in told["w2"].items()}
    assert spent["dialplan"] == 0 < spent["fastagi"] < spent["callwright"]
    assert told["w2"]["callwright"]["commits_per_call"] > 1
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
