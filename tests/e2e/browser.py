"""What tests of the agent's page share: a Chromium, and the desk as it is now, built when it is older than its sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from playwright.async_api import Browser, Page, async_playwright

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


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A browser without a window."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        await browser.close()


@asynccontextmanager
async def watched(browser: Browser, width: int, height: int) -> AsyncIterator[Page]:
    """A page that fails its test when a script breaks or something breaks the content security policy."""
    context = await browser.new_context(viewport={"width": width, "height": height})
    page = await context.new_page()
    page.set_default_timeout(5000)
    wrong: list[str] = []
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("console", lambda message: wrong.append(message.text) if "Content Security Policy" in message.text else None)
    yield page
    await context.close()
    assert wrong == []
