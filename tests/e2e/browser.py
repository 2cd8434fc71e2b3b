"""What tests of the agent's page share: a Chromium, and the desk as it is now, built when it is older than its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
ROOT = Path(__file__).resolve().parents[2]
DESK = ROOT / "app" / "desk"


def built_desk(folder: Path) -> Path:
    """The folder of the built desk; `folder` is for what the build needs besides."""
    index = DESK / "dist" / "index.html"
    sources = [
        *DESK.glob("src/**/*"),
        *DESK.glob("*.html"),
        DESK / "vite.config.ts",
        DESK / "package-lock.json",
        ROOT / "app" / "api" / "models.py",
    ]
    if index.is_file() and index.stat().st_mtime > max(s.stat().st_mtime for s in sources if s.name != "api.gen.ts"):
        return index.parent
    openapi = folder / "openapi.json"
    openapi.write_text(
        subprocess.run([sys.executable, "-m", "app.api.openapi"], cwd=ROOT, check=True, capture_output=True, text=True).stdout
    )
    npm = shutil.which("npm")
    assert npm, "npm builds the desk"
    if not (DESK / "node_modules" / ".package-lock.json").is_file():
        subprocess.run([npm, "ci"], cwd=DESK, check=True, capture_output=True)
    subprocess.run([npm, "run", "build"], cwd=DESK, check=True, capture_output=True, env={**os.environ, "OPENAPI": str(openapi)})
    return index.parent
