"""The collection of requests that ships is what the routes say, and runs from top to bottom against a real API with a call up."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.api.collection import SHIPPED, collection
from app.core import commands as do
from app.house import House
from tests.contract.api_house import TOKENS, served
from tests.contract.test_engine import hall

HERE = Path(__file__).parents[1] / "collection"
RUNNER = Path(__file__).parents[2] / "build" / "collection"
CALL = "c" * 32
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


def test_what_ships_is_what_the_routes_say() -> None:
    assert json.loads(SHIPPED.read_text()) == collection(), "run: python -m app.api.collection > app/api/callwright.postman_collection.json"


@pytest.fixture
async def newman() -> Path:
    """Postman's own runner, installed once from its lock file."""
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("there is no npm on this machine to install the runner with")
    made = RUNNER / "node_modules" / ".bin" / "newman"
    lock = RUNNER / "package-lock.json"
    if not made.exists() or lock.read_bytes() != (HERE / "package-lock.json").read_bytes():
        shutil.rmtree(RUNNER, ignore_errors=True)
        shutil.copytree(HERE, RUNNER)
        installing = await asyncio.create_subprocess_exec(npm, "ci", "--no-audit", "--no-fund", "--loglevel=error", cwd=RUNNER)
        assert await installing.wait() == 0
    return made


async def test_it_runs_from_top_to_bottom_on_a_live_call(newman: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    async with hall(f"sqlite+aiosqlite:///{tmp_path}/callwright.db", tmp_path / "key") as engine:
        engine.dial(CALL)
        await engine.given(do.StartAction, CALL)
        async with served(House(engine.engine, {}), inbound={"crm": SecretStr(SECRET)}) as base:
            given = {"base": base, "token": TOKENS["supervisor"], "entry": "agent", "source": "crm", "secret": SECRET}
            variables = [word for name, value in given.items() for word in ("--env-var", f"{name}={value}")]
            reporting = ["--reporters", "json", "--reporter-json-export", str(report)]
            run = await asyncio.create_subprocess_exec(str(newman), "run", str(SHIPPED), *variables, *reporting)
            await run.wait()
        assert engine.engine.center.calls[CALL].step == "to_general"
    told = json.loads(report.read_text())["run"]
    assert told["failures"] == []
    assert told["stats"]["requests"]["total"] == len(collection()["item"])
    assert told["stats"]["assertions"]["total"] >= 12
