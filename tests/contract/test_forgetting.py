"""A person is forgotten by the number they called from: engine, store, shelf, prompts, the API and the command line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import structlog
from typer.testing import CliRunner

from app.archive import Archive, spellings
from app.channels.shelf import Shelf
from app.channels.speech import Speech
from app.cli import app
from app.core import commands as do
from app.core import events as ev
from app.house import House
from tests.contract.api_house import TOKENS, served
from tests.contract.doors import Posted
from tests.contract.test_api import bearer, problem
from tests.contract.test_engine import Hall, hall, until
from tests.contract.test_recordings import Asterisk, sound
from tests.contract.test_speech import Counting, needs_engine
from tests.unit.centre import ANNA

pytestmark = needs_engine
NUMBER, SAID = "+4930555000101", sound((0.5, 3000))
FIRST, SECOND, OTHER = "a" * 32, "b" * 32, "c" * 32


class Kept:
    """An installation with a shelf and prompts, and its API."""

    def __init__(self, tmp_path: Path, engine: Hall) -> None:
        self.hall, self.asterisk, self.home = engine, Asterisk(SAID), tmp_path
        self.shelf = Shelf(
            tmp_path / "recordings", Posted(), self.asterisk.fetch, self.asterisk.forget, self.asterisk.strays, engine.store.vault
        )
        voice = Counting()
        voice.go.set()
        self.speech = Speech(voice, tmp_path / "sounds")
        self.house = House(engine.engine, {})
        self.house.archive = Archive(engine.engine, self.shelf, self.speech)
        self.session: aiohttp.ClientSession

    async def comes(self, call: str, ani: str = NUMBER, stays: bool = False) -> None:
        """A call that is greeted by name, recorded, and over unless it stays."""
        self.hall.dial(call, ani)
        asked = await self.hall.given(do.StartAction, call)
        self.hall.engine.post(ev.ActionSucceeded(call, asked.request, dict(ANNA)))
        for n in (1, 2):
            play = await self.hall.given(do.Play, call, n)
            for item in play.media:
                await self.speech.render(item.partition(":")[2], play.language)
            self.hall.engine.post(ev.PlaybackEnded(call, play.playback))
        await self.shelf.read(f"{call}-rc1")
        if not stays:
            await self.leaves(call)

    async def leaves(self, call: str) -> None:
        self.hall.engine.post(ev.CallerLeft(call))
        await until(lambda: call not in self.hall.engine.center.calls and not self.hall.engine.ended)

    async def forget(self, number: str = NUMBER) -> dict[str, Any]:
        async with self.session.delete(f"/v1/subjects/{number.replace('+', '%2B')}") as answer:
            assert answer.status == 200, await answer.text()
            return dict(await answer.json())

    async def status(self, path: str) -> int:
        async with self.session.get(path) as answer:
            return answer.status

    def files(self) -> list[str]:
        return sorted(path.name for folder in ("recordings", "sounds") for path in (self.home / folder).iterdir())


@asynccontextmanager
async def keeping(tmp_path: Path) -> AsyncIterator[Kept]:
    async with hall(f"sqlite+aiosqlite:///{tmp_path}/callwright.db", tmp_path / "callwright.key") as engine:
        kept = Kept(tmp_path, engine)
        async with served(kept.house) as base, aiohttp.ClientSession(base, headers=bearer("admin")) as kept.session:
            yield kept


async def test_all_that_is_known_of_a_person_is_gone_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with keeping(tmp_path) as kept:
        await kept.comes(FIRST)
        await kept.comes(SECOND, "4930555000101")
        await kept.comes(OTHER, "+49301")
        kept.asterisk.stored = [f"{SECOND}-rc2", f"{OTHER}-rc2"]
        async with kept.session.get(f"/v1/recordings/{FIRST}-rc1") as answer:
            assert (answer.status, answer.content_type, await answer.read()) == (200, "audio/wav", SAID)
        sealed = (tmp_path / "recordings" / f"{FIRST}-rc1.sealed").read_bytes()
        before = kept.files()

        report = await kept.forget()
        assert [call["call"] for call in report["calls"]] == [FIRST, SECOND]
        assert (report["number"], report["recordings"], report["kept"], report["left"]) == ("••••••••••••01", 3, [], [])
        assert kept.asterisk.stored == [f"{OTHER}-rc2"]
        gone = set(before) - set(kept.files())
        assert {name for name in gone if name.endswith(".sealed")} == {f"{FIRST}-rc1.sealed", f"{SECOND}-rc1.sealed"}
        assert len(gone) - 2 == report["prompts"] == 1, "the greeting by name; what every caller hears stays"

        (tmp_path / "recordings" / f"{FIRST}-rc1.sealed").write_bytes(sealed)
        assert await kept.status(f"/v1/recordings/{FIRST}-rc1") == 404, "nor does a copy of the file open"
        assert await kept.status(f"/v1/calls/{FIRST}/timeline") == 409
        assert await kept.status(f"/v1/recordings/{OTHER}-rc1") == 200
        async with kept.session.get("/v1/calls?state=ended") as answer:
            rows = {row["id"]: row for row in (await answer.json())["calls"]}
        assert [(rows[call]["ani"], rows[call]["contact"], rows[call]["outcome"]) for call in (FIRST, SECOND)] == [("", "", "hung_up")] * 2
        assert rows[OTHER]["ani"] == "+49301"
        again = await kept.forget()
        assert (again["calls"], again["recordings"], again["left"]) == ([], 0, [])
    assert NUMBER[1:] not in "".join(capsys.readouterr())


async def test_a_call_that_is_up_is_kept_and_said_and_what_asterisk_does_not_say_is_left(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        await kept.comes(FIRST)
        await kept.comes(SECOND, stays=True)
        kept.asterisk.content = OSError("no line")
        report = await kept.forget("030 555".replace(" ", ""))
        assert (report["calls"], report["kept"]) == ([], []), "another number"
        report = await kept.forget()
        assert [call["call"] for call in report["calls"]] == [FIRST]
        assert report["kept"] == [{"call": SECOND, "why": "the call is up"}]
        assert report["left"] == ["recordings in Asterisk could not be looked for; they are deleted as soon as it answers"]
        kept.asterisk.content = SAID
        await kept.leaves(SECOND)
        assert [call["call"] for call in (await kept.forget())["calls"]] == [SECOND]


async def test_only_an_administrator_may_and_only_while_the_store_can_be_written(tmp_path: Path) -> None:
    async with keeping(tmp_path) as kept:
        await kept.comes(FIRST)
        async with kept.session.delete(f"/v1/subjects/{NUMBER[1:]}", headers=bearer("supervisor")) as answer:
            await problem(answer, 403, "forbidden")
        async with kept.session.get(f"/v1/recordings/{FIRST}-rc1", headers=bearer("anna")) as answer:
            await problem(answer, 403, "forbidden")
        async with kept.session.delete("/v1/subjects/..%2f") as answer:
            await problem(answer, 404, "unknown-subject")
        assert kept.files()
        await kept.hall.stop()
        await kept.hall.store.close()
        async with kept.session.delete(f"/v1/subjects/{NUMBER[1:]}") as answer:
            await problem(answer, 503, "storage_busy")


async def test_the_command_line_tells_what_there_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with keeping(tmp_path) as kept:
        await kept.comes(FIRST)
        await kept.comes(SECOND, stays=True)
        monkeypatch.setenv("CALLWRIGHT_URL", str(kept.session._base_url))
        monkeypatch.setenv("CALLWRIGHT_TOKEN", TOKENS["admin"])
        with structlog.testing.capture_logs():
            done = await asyncio.to_thread(CliRunner().invoke, app, ["forget", "+49 (30) 555-000101"])
            assert done.output == (
                f"••••••••••••01: 1 calls forgotten, 1 recordings and 1 prompts deleted\ncall {SECOND[:8]} is kept: the call is up\n"
            )
            assert done.exit_code == 1
            await kept.leaves(SECOND)
            done = await asyncio.to_thread(CliRunner().invoke, app, ["forget", NUMBER, "--json"])
            assert (done.exit_code, [each["call"] for each in json.loads(done.output)["calls"]]) == (0, [SECOND])
            assert (await asyncio.to_thread(CliRunner().invoke, app, ["forget", "12;34"])).exit_code == 2


def test_a_number_is_the_same_however_it_is_written() -> None:
    assert spellings("+49 (30) 123-45") >= {"+493012345", "493012345", "00493012345"}
    assert spellings("00493012345") >= {"+493012345", "493012345"}
    assert spellings("anonymous") == {"anonymous"}
