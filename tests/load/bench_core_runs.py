"""The core alone: events through the whole flow, and matching at full size, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).parent
LIMIT = 180.0
"""Seconds for each."""


def core(out: Console) -> dict[str, Any]:
    """What `bench.json` holds under `core`."""
    out.print("[dim]the core alone: whole calls on virtual time[/dim]")
    told: dict[str, Any] = dict(_result("bench_core.py", "--calls", "1000")["core"])
    out.print("[dim]the core alone: matching, 10,000 agents and 10,000 waiting[/dim]")
    matching: list[dict[str, Any]] = _result("bench_matching.py", "--decisions", "800")
    told["matching_decisions_per_s"] = round(min(row["per_second"] for row in matching))
    told["matching_p99_9_us"] = round(max(row["p99.9"] for row in matching), 1)
    told["matching"] = [{key: round(value, 1) if isinstance(value, float) else value for key, value in row.items()} for row in matching]
    return told


def _result(program: str, *arguments: str) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        argv = [sys.executable, str(HERE / program), *arguments, "--json", str(file)]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=LIMIT, check=False)
        if done.returncode:
            raise RuntimeError(f"{program} failed:\n{done.stderr[-800:]}")
        return json.loads(file.read_text())
