"""The core alone: matching at full size, and events through the whole flow, each in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from rich.console import Console

HERE = Path(__file__).parent
LIMIT = 150.0
"""Seconds for each."""


def core(out: Console) -> dict[str, Any]:
    """What `bench.json` holds under `core`."""
    out.print("[dim]the core alone[/dim]")
    matching = _rows("bench_matching.py", "--decisions", "800")
    told: dict[str, Any] = {"matching": [{key: _short(value) for key, value in row.items()} for row in matching]}
    told["matching_decisions_per_second"] = round(min(row["per_second"] for row in matching))
    return told


def _rows(program: str, *arguments: str) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "result.json"
        subprocess.run(
            [sys.executable, str(HERE / program), *arguments, "--json", str(file)], check=True, timeout=LIMIT, stdout=subprocess.DEVNULL
        )
        return list(json.loads(file.read_text()))


def _short(value: Any) -> Any:
    return round(value, 1) if isinstance(value, float) else value
