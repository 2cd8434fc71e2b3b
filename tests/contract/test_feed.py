"""What happens on calls, told to others: the feed, resumed by sequence, and signed webhooks both ways. A real engine, store and sockets."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr, ValidationError

from app.actions.guard import Origin
from app.actions.webhooks import Poster, Webhook
from app.core import commands as do
from app.core import events as ev
from app.core.signing import signature
from app.feed import Feed
from app.hooks import Hooks
from app.house import House
from tests.contract.api_house import served, until
from tests.contract.test_api import bearer, problem
from tests.contract.test_engine import Hall, hall

CALL = "c" * 32
SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/callwright.db"


@pytest.fixture
async def engine(url: str, key_file: Path) -> AsyncIterator[Hall]:
    async with hall(url, key_file) as opened:
        yield opened


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key"


@asynccontextmanager
async def api(engine: Hall, **settings: Any) -> AsyncIterator[aiohttp.ClientSession]:
    async with served(House(engine.engine, {}), **settings) as base, aiohttp.ClientSession(base, headers=bearer("supervisor")) as session:
        yield session


class Target:
    """Somebody's webhook receiver."""

    def __init__(self) -> None:
        self.taken: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.answers: Callable[[dict[str, Any]], int] = lambda message: 204
        self.seen = 0

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        message = json.loads(body)
        self.seen += 1
        status = self.answers(message)
        headers = {k.lower(): v for k, v in request.headers.items()}
        assert headers["webhook-signature"] == signature(SECRET, headers["webhook-id"], int(headers["webhook-timestamp"]), body)
        assert abs(time.time() - int(headers["webhook-timestamp"])) < 5
        if status == 302:
            raise web.HTTPFound("http://169.254.169.254/latest/meta-data")
        if status < 300:
            self.taken.append(message)
            self.headers.append(headers)
        return web.Response(status=status)


@pytest.fixture
async def target() -> AsyncIterator[tuple[Target, str]]:
    taker, application = Target(), web.Application()
    application.router.add_post("/hook", taker.take)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    yield taker, f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@asynccontextmanager
async def hooks(engine: Hall, origin: str, **more: Any) -> AsyncIterator[Hooks]:
    feed, poster = Feed(engine.store), Poster([Origin(origin=origin, allow_private=True)])
    engine.engine.listeners.append(lambda happened, agents: feed.poke())
    hook = Webhook(url=f"{origin}/hook", secret=SecretStr(SECRET), **more)
    made = Hooks({"crm": hook}, feed, engine.store, poster, pause=0.01)
    running = asyncio.create_task(made.run())
    try:
        await until(lambda: engine.store.readers.cursor("webhook:crm"))
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await poster.close()


async def a_call(engine: Hall, call: str) -> None:
    engine.dial(call)
    await engine.given(do.StartAction, call)
    await engine.engine.submit(ev.CallerLeft(call))


# ---- the feed -------------------------------------------------------------------------------------------------------------


async def test_a_program_that_lost_its_line_goes_on_where_it_stopped(engine: Hall) -> None:
    async with api(engine) as http:
        async with http.ws_connect("/v1/events") as ws:
            await until(lambda: len(engine.engine.listeners) > 2)
            await asyncio.wait_for(http.get("/healthz"), 5)
            await a_call(engine, CALL)
            first = [await _next(ws) for _ in range(3)]
        await a_call(engine, "d" * 32)
        async with http.ws_connect(f"/v1/events?after={first[-1]['id']}") as ws:
            rest = await _until_the_end_of(ws, "d" * 32)
        async with http.ws_connect("/v1/events?after=0-0") as ws:
            whole = await _until_the_end_of(ws, "d" * 32)
    told = first + rest
    assert len({message["id"] for message in told}) == len(told)
    assert [message["type"] for message in told if message["call"] == CALL][:3] == ["CallArrived", "FlowBegan", "StepEntered"]
    assert told == whole[-len(told) :]
    assert told[-1]["outcome"] == "hung_up"


async def _until_the_end_of(ws: aiohttp.ClientWebSocketResponse, call: str) -> list[dict[str, Any]]:
    messages = [await _next(ws)]
    while (messages[-1]["type"], messages[-1]["call"]) != ("CallEnded", call):
        messages.append(await _next(ws))
    return messages


async def _next(ws: aiohttp.ClientWebSocketResponse) -> dict[str, Any]:
    """The next message of the feed; states of agents are passed over."""
    while True:
        message: dict[str, Any] = json.loads(await asyncio.wait_for(ws.receive_str(), 5))
        if message.get("id"):
            return message


async def test_no_key_and_no_answer_of_a_system_of_record_is_told(engine: Hall) -> None:
    async with api(engine) as http, http.ws_connect("/v1/events?after=0-0") as ws:
        await engine.sign_in("101")
        await engine.to_the_queue(CALL)
        await engine.engine.submit(ev.DigitPressed(CALL, "7"))
        await engine.engine.submit(ev.CallerLeft(CALL))
        types = set()
        while "CallEnded" not in types:
            message = await _next(ws)
            types.add(message["type"])
            assert "decision" not in message
            assert "anna@example.com" not in json.dumps(message)
    assert not types & {"DigitPressed", "ActionSucceeded"}


async def test_what_is_no_id_is_refused(engine: Hall) -> None:
    async with api(engine) as http, http.get("/v1/events?after=yesterday", headers={"Upgrade": "websocket"}) as answer:
        await problem(answer, 422, "invalid")


async def test_a_forgotten_call_is_told_to_nobody(engine: Hall) -> None:
    await a_call(engine, CALL)
    await engine.store.forget(CALL)
    feed = Feed(engine.store)
    rows = [message async for message in _all(feed)]
    assert all(message["call"] != CALL for message in rows)


async def _all(feed: Feed) -> AsyncIterator[dict[str, Any]]:
    place = feed.now()._replace(seq=0, step=0)
    while found := await feed.after(place):
        for _, message in found:
            if message:
                yield message
        place = found[-1][0]


# ---- webhooks, outgoing ---------------------------------------------------------------------------------------------------


async def test_a_target_hears_of_what_it_asked_for_signed_and_in_order(engine: Hall, target: tuple[Target, str]) -> None:
    taker, origin = target
    async with hooks(engine, origin, events=["CallArrived", "CallEnded"]):
        for call in (CALL, "d" * 32):
            await a_call(engine, call)
        await until(lambda: len(taker.taken) == 4)
    assert [(m["type"], m["call"][0]) for m in taker.taken] == [
        ("CallArrived", "c"),
        ("CallEnded", "c"),
        ("CallArrived", "d"),
        ("CallEnded", "d"),
    ]
    assert taker.taken[0]["ani"] == "+4930555000101"
    assert [headers["webhook-id"] for headers in taker.headers] == [f"msg_{m['id']}" for m in taker.taken]


async def test_a_target_that_fails_gets_everything_later_and_once(engine: Hall, target: tuple[Target, str]) -> None:
    taker, origin = target
    statuses = iter([500, 302, 503, 429])
    taker.answers = lambda message: next(statuses, 204)
    async with hooks(engine, origin, events=["CallArrived", "CallEnded"]) as made:
        await a_call(engine, CALL)
        await until(lambda: len(taker.taken) == 2)
        assert taker.seen == 6
        await until(lambda: made.targets() == [{"name": "crm", "ok": True, "why": "", "delivered": 2}])
    assert [message["type"] for message in taker.taken] == ["CallArrived", "CallEnded"]


async def test_the_next_process_goes_on_where_the_last_one_stopped(url: str, key_file: Path, target: tuple[Target, str]) -> None:
    taker, origin = target
    async with hall(url, key_file) as first, hooks(first, origin, events=["CallEnded"]):
        await a_call(first, CALL)
        await until(lambda: len(taker.taken) == 1)
        taker.answers = lambda message: 500
        await a_call(first, "d" * 32)
        await until(lambda: taker.seen >= 2)
    taker.answers = lambda message: 204
    async with hall(url, key_file) as second, hooks(second, origin, events=["CallEnded"]):
        await a_call(second, "e" * 32)
        await until(lambda: len(taker.taken) == 3)
    assert [message["call"][0] for message in taker.taken] == ["c", "d", "e"]


async def test_what_was_never_taken_is_put_aside_and_delivered_when_asked(
    engine: Hall, target: tuple[Target, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    taker, origin = target
    monkeypatch.setattr("app.hooks.GIVE_UP_SOON", 0.05)
    taker.answers = lambda message: 422 if message["call"] == CALL else 204
    async with hooks(engine, origin, events=["CallEnded"]) as made:
        await a_call(engine, CALL)
        await a_call(engine, "d" * 32)
        await until(lambda: [m["call"][0] for m in taker.taken] == ["d"])
        aside = await made.aside("crm")
        assert [each["reason"] for each in aside] == ["status 422"]
        assert await made.again("crm") == (0, 1)
        taker.answers = lambda message: 204
        assert await made.again("crm") == (1, 0)
        assert taker.taken[-1]["id"] == aside[0]["id"]
        assert await made.aside("crm") == []


async def test_a_target_that_is_not_on_the_list_of_origins_is_never_asked(engine: Hall, target: tuple[Target, str]) -> None:
    taker, origin = target
    poster = Poster([])
    hook = Webhook(url=f"{origin}/hook", secret=SecretStr(SECRET))
    assert "not on the list" in await poster.post(hook, "msg_1", int(time.time()), b"{}")
    assert taker.seen == 0
    await poster.close()


@pytest.mark.parametrize("secret", ["short", "whsec_", "whsec_c2hvcnQ=", "whsec_" + "!" * 44, base64.b64encode(b"s" * 32).decode()])
def test_a_weak_secret_is_refused(secret: str) -> None:
    with pytest.raises(ValidationError, match="whsec_"):
        Webhook(url="https://example.com", secret=SecretStr(secret))


# ---- webhooks, incoming ---------------------------------------------------------------------------------------------------


def signed(body: bytes, ident: str = "m1", at: float | None = None, secret: str = SECRET) -> dict[str, str]:
    when = int(time.time() if at is None else at)
    return {
        "Content-Type": "application/json",
        "webhook-id": ident,
        "webhook-timestamp": str(when),
        "webhook-signature": signature(secret, ident, when, body),
    }


@asynccontextmanager
async def inbound(engine: Hall) -> AsyncIterator[aiohttp.ClientSession]:
    async with api(engine, inbound={"crm": SecretStr(SECRET)}) as http:
        engine.dial(CALL)
        await engine.given(do.StartAction, CALL)
        yield http


async def test_a_signed_request_writes_into_a_live_call(engine: Hall) -> None:
    body = json.dumps({"call": CALL, "session": {"ivr.email": "a@example.com"}}).encode()
    async with inbound(engine) as http, http.post("/v1/inbound/crm", data=body, headers=signed(body)) as answer:
        assert answer.status == 200
    assert engine.engine.center.calls[CALL].vars["ivr.email"] == "a@example.com"
    timeline = await engine.store.history.timeline(CALL)
    assert timeline is not None
    assert [values["by"] for _, (_, name, values, _) in timeline if name == "SessionWritten"] == ["inbound crm"]


async def test_bad_old_and_repeated_signatures_are_refused_and_change_nothing(engine: Hall) -> None:
    body = json.dumps({"call": CALL, "session": {"ivr.email": "a@example.com"}}).encode()
    other = "whsec_" + base64.b64encode(b"t" * 32).decode()
    now = time.time()
    async with inbound(engine) as http:
        for headers, source in (
            (signed(body, secret=other), "crm"),
            (signed(b"{}"), "crm"),
            ({**signed(body), "webhook-id": "another"}, "crm"),
            (signed(body, at=now - 302), "crm"),
            (signed(body, at=now + 302), "crm"),
            (signed(body), "nobody"),
            ({"Content-Type": "application/json"}, "crm"),
        ):
            async with http.post(f"/v1/inbound/{source}", data=body, headers=headers) as answer:
                await problem(answer, 401, "bad-signature")
        assert "ivr.email" not in engine.engine.center.calls[CALL].vars
        async with http.post("/v1/inbound/crm", data=body, headers=signed(body, at=now + 297)) as answer:
            assert answer.status == 200
        async with http.post("/v1/inbound/crm", data=body, headers=signed(body, at=now + 297)) as answer:
            await problem(answer, 409, "received-already")


async def test_a_signed_request_that_makes_no_sense_says_where(engine: Hall) -> None:
    async with inbound(engine) as http:
        for n, (body, status) in enumerate(((b"{", 400), (b'{"session": {}}', 422), (b'{"call": "x", "sesion": {}}', 422))):
            async with http.post("/v1/inbound/crm", data=body, headers=signed(body, f"m{n}")) as answer:
                assert answer.status == status


# ---- the same request twice -----------------------------------------------------------------------------------------------


async def test_one_key_is_one_effect_and_one_answer(engine: Hall) -> None:
    async with inbound(engine) as http:

        async def write(value: int) -> tuple[int, str, bytes]:
            async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": value}, headers={"Idempotency-Key": "k1"}) as answer:
                return answer.status, answer.headers.get("ETag", ""), await answer.read()

        answers = await asyncio.gather(*(write(1) for _ in range(50)))
        assert set(answers) == {answers[0]}
        assert answers[0][:2] == (200, '"1"')
        assert engine.engine.center.calls[CALL].written == 1
        async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": 2}, headers={"Idempotency-Key": "k1"}) as answer:
            await problem(answer, 422, "key-reuse")
        async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": 2}, headers={"Idempotency-Key": "k 1"}) as answer:
            await problem(answer, 400, "malformed")


async def test_a_refusal_is_kept_too_and_a_failure_of_ours_is_not(engine: Hall) -> None:
    async with inbound(engine) as http:
        for _ in range(2):
            async with http.post(f"/v1/sessions/{CALL}/goto", json={"entry": "x"}, headers={"Idempotency-Key": "k2"}) as answer:
                await problem(answer, 422, "unknown-entry")
        engine.engine.storage_trouble = "full"
        async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": 1}, headers={"Idempotency-Key": "k3"}) as answer:
            await problem(answer, 503, "storage_busy")
        engine.engine.storage_trouble = ""
        async with http.post(f"/v1/sessions/{CALL}", json={"ivr.n": 1}, headers={"Idempotency-Key": "k3"}) as answer:
            assert answer.status == 200
