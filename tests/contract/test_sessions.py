"""Other systems and a live call: the public API over real sockets, before a real engine and store."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from app.core import commands as do
from app.core import events as ev
from app.house import House
from tests.contract.api_house import served
from tests.contract.test_api import bearer, problem
from tests.contract.test_engine import Hall, hall, until

CALL = "c" * 32


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[Hall]:
    async with hall(f"sqlite+aiosqlite:///{tmp_path}/callwright.db", tmp_path / "key") as opened:
        yield opened


@pytest.fixture
async def http(engine: Hall) -> AsyncIterator[aiohttp.ClientSession]:
    async with served(House(engine.engine, {})) as base, aiohttp.ClientSession(base, headers=bearer("supervisor")) as session:
        engine.dial(CALL)
        await engine.given(do.StartAction, CALL)
        yield session


async def test_a_session_is_read_with_its_version(http: aiohttp.ClientSession) -> None:
    async with http.get(f"/v1/sessions/{CALL}") as answer:
        told = await answer.json()
        assert answer.headers["ETag"] == '"0"'
    assert (told["call"], told["version"], told["step"]) == (CALL, 0, "recognise")
    assert told["variables"]["call"]["ani"] == "+4930555000101"
    assert told["variables"]["ivr"] == {}


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("body", [{"ivr.email": "a@example.com"}, {"ivr": {"email": "a@example.com"}}])
async def test_a_write_is_merged_at_once_journaled_and_says_by_whom(
    http: aiohttp.ClientSession, engine: Hall, method: str, body: dict[str, Any]
) -> None:
    async with http.post(f"/v1/sessions/{CALL}", json={"ivr.track_id": 7}) as answer:
        assert answer.status == 200
    async with http.request(method, f"/v1/sessions/{CALL}", json=body) as answer:
        told = await answer.json()
        assert answer.headers["ETag"] == '"2"'
    assert told["variables"]["ivr"] == {"email": "a@example.com", "track_id": 7}
    timeline = await engine.store.history.timeline(CALL)
    assert timeline is not None
    written = [values for _, (_, name, values, _) in timeline if name == "SessionWritten"]
    assert written[-1] == {"call": CALL, "values": {"ivr.email": "a@example.com"}, "by": "lead"}


async def test_if_match_lets_one_of_many_writers_through(http: aiohttp.ClientSession) -> None:
    async def write(n: int) -> int:
        async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": n}, headers={"If-Match": '"0"'}) as answer:
            if answer.status != 200:
                await problem(answer, 412, "stale")
            return answer.status

    assert sorted(await asyncio.gather(*(write(n) for n in range(20)))) == [200] + [412] * 19
    async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": 1}, headers={"If-Match": "yesterday's"}) as answer:
        await problem(answer, 412, "stale")


async def test_without_if_match_all_writers_are_merged(http: aiohttp.ClientSession) -> None:
    async def write(n: int) -> None:
        async with http.post(f"/v1/sessions/{CALL}", json={f"ivr.v{n}": n}) as answer:
            assert answer.status == 200

    await asyncio.gather(*(write(n) for n in range(50)))
    async with http.get(f"/v1/sessions/{CALL}") as answer:
        told = await answer.json()
    assert told["version"] == 50
    assert told["variables"]["ivr"] == {f"v{n}": n for n in range(50)}


async def test_what_cannot_be_written_is_a_422_that_names_each_place(http: aiohttp.ClientSession, engine: Hall) -> None:
    async with http.post(f"/v1/sessions/{CALL}", json={"ivr.ok": 1, "call.ani": "x", "ivr.FILE(x)": "y", "ivr.l": []}) as answer:
        told = await problem(answer, 422, "invalid")
    assert [error["at"] for error in told["errors"]] == ["body.call.ani", "body.ivr.FILE(x)", "body.ivr.l"]
    assert "ivr.ok" not in engine.engine.center.calls[CALL].vars


async def test_a_call_nobody_knows_is_a_404_and_one_that_has_ended_a_409(http: aiohttp.ClientSession, engine: Hall) -> None:
    requests = [("GET", "", None), ("POST", "", {"ivr.a": 1}), ("PATCH", "", {"ivr.a": 1}), ("POST", "/goto", {"entry": "x"})]
    for method, tail, body in requests:
        async with http.request(method, f"/v1/sessions/{'f' * 32}{tail}", json=body) as answer:
            await problem(answer, 404, "unknown-call")
    await engine.engine.submit(ev.CallerLeft(CALL))
    for method, tail, body in requests:
        async with http.request(method, f"/v1/sessions/{CALL}{tail}", json=body) as answer:
            await problem(answer, 409, "ended-call")


async def test_a_call_is_known_between_its_end_and_the_commit_of_it(http: aiohttp.ClientSession, engine: Hall) -> None:
    engine.gate = asyncio.Event()
    engine.engine.post(ev.CallerLeft(CALL))
    await until(lambda: CALL not in engine.engine.center.calls)
    async with http.get(f"/v1/calls/{CALL}") as answer:
        assert ((await answer.json())["state"], answer.status) == ("ended", 200)
    async with http.get(f"/v1/sessions/{CALL}") as answer:
        await problem(answer, 409, "ended-call")
    engine.gate.set()
    await until(lambda: not engine.engine.ended)
    async with http.get(f"/v1/calls/{CALL}") as answer:
        assert (await answer.json())["outcome"] == "hung_up"


async def test_an_entry_that_the_flow_does_not_name_is_a_422(http: aiohttp.ClientSession) -> None:
    async with http.post(f"/v1/sessions/{CALL}/goto", json={"entry": "somewhere"}) as answer:
        await problem(answer, 422, "unknown-entry")


async def test_an_agents_token_reads_and_writes_no_session(http: aiohttp.ClientSession) -> None:
    for method, tail in (("GET", ""), ("POST", ""), ("PATCH", ""), ("POST", "/goto")):
        async with http.request(method, f"/v1/sessions/{CALL}{tail}", json={"entry": "x"}, headers=bearer("anna")) as answer:
            assert answer.status == 403
