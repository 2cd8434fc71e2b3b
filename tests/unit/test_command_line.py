"""The command line as a program: who only wants help or the status does not wait for what is not needed."""

from __future__ import annotations

import subprocess
import sys

HEAVY = ("aiohttp", "asyncio", "jinja2", "pydantic", "sqlalchemy", "structlog", "yaml")


def test_no_command_waits_for_what_others_need() -> None:
    script = f"import sys, app.cli; print(*sorted(set(sys.modules) & set({HEAVY!r})))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []
