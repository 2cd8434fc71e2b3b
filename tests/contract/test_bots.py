"""Bots that behave and bots that do not, over real websockets: what is relayed, what is refused, and how a conversation ends."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import WSMsgType, web
from pydantic import ValidationError
from yarl import URL

from app.actions.guard import Guard, Origin
from app.channels.bots import FRAME, Bots, BotSettings
from app.core.commands import StartBot, StopBot, TellBot
from app.core.events import BotBegan, BotEnded, Event, SessionWritten
from app.core.session import SessionRefused
from app.demo.bots.echo import Echo, application
from tests.contract.doors import Posted, until

CALL, REQUEST = "c1", "c1-bt1"
Meet = Callable[[web.WebSocketResponse], Awaitable[None]]


@asynccontextmanager
async def serving(app: web.Application) -> AsyncIterator[str]:
    """The application on a free port; its address without the scheme."""
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


def sockets(meet: Meet, headers: dict[str, str] | None = None) -> web.Application:
    """A server that meets every websocket so."""

    async def handle(request: web.Request) -> web.WebSocketResponse:
        if headers is not None:
            headers.update(request.headers)
        socket = web.WebSocketResponse(protocols=("media",))
        await socket.prepare(request)
        await meet(socket)
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    return app


class Asterisk:
    """The sound's side: one websocket, what came over it, and whether it was joined and closed."""

    def __init__(self) -> None:
        self.url = ""
        self.socket: web.WebSocketResponse | None = None
        self.sound, self.texts, self.did = b"", [], []  # type: ignore[var-annotated]

    async def meet(self, socket: web.WebSocketResponse) -> None:
        self.socket = socket
        async for message in socket:
            if message.type is WSMsgType.BINARY:
                self.sound += message.data
            else:
                self.texts.append(message.data)

    async def open_media(self, call: str) -> tuple[str, str]:
        if not self.url:
            raise ConnectionError("not now")
        return "m1", self.url

    async def join_media(self, call: str, media: str) -> None:
        self.did.append(f"join {media}")

    def close_media(self, call: str, media: str) -> None:
        self.did.append(f"close {media}")


class House:
    """The adapter between a bot and Asterisk's side."""

    def __init__(self, bot: str, asterisk: Asterisk, origins: tuple[Origin, ...], **settings: Any) -> None:
        self.posted, self.asterisk, self.written = Posted(), asterisk, []  # type: ignore[var-annotated]
        guard = Guard(origins)
        self.bots = Bots(
            {"helper": BotSettings(url=bot, **settings)} if bot else {}, self.posted, self._submit, asterisk, guard.admit, guard.resolver
        )

    async def _submit(self, event: Event) -> None:
        assert isinstance(event, SessionWritten)
        if "ivr.no" in event.values:
            raise SessionRefused("invalid", "the call's flow declares no ivr.no")
        self.written.append(event)

    def start(self) -> None:
        self.bots.carry_out(StartBot(CALL, REQUEST, "helper"))

    async def began(self) -> None:
        assert await self.posted.event() == BotBegan(CALL, REQUEST)

    async def ended(self) -> tuple[str, str]:
        event = await self.posted.event()
        assert isinstance(event, BotEnded), event
        return event.exit, event.reason


@asynccontextmanager
async def talking(app: web.Application, *, allowed: bool = True, sound: bool = True, **settings: Any) -> AsyncIterator[House]:
    asterisk = Asterisk()
    async with serving(app) as bot, serving(sockets(asterisk.meet)) as media:
        asterisk.url = f"ws://{media}/" if sound else ""
        origins = (Origin(origin=f"http://{bot}", allow_private=True),) if allowed else ()
        house = House(f"ws://{bot}/", asterisk, origins, **settings)
        house.start()
        try:
            yield house
        finally:
            await house.bots.close()


def echo() -> web.Application:
    return application(Echo)


async def test_sound_goes_both_ways_and_is_framed() -> None:
    async with talking(echo()) as house:
        await house.began()
        assert house.asterisk.did == ["join m1"]
        assert house.asterisk.socket is not None
        said = bytes(range(256)) * 3
        await house.asterisk.socket.send_bytes(said)
        whole = 3 * FRAME
        await until(lambda: len(house.asterisk.sound) >= whole)
        assert house.asterisk.sound == said.ljust(whole, b"\0"), "what is left of a frame is filled with silence"


async def test_a_bot_says_what_it_wants_and_is_told_what_it_should_know() -> None:
    heard: list[dict[str, Any]] = []

    async def meet(socket: web.WebSocketResponse) -> None:
        heard.append(await socket.receive_json())
        await socket.send_json({"type": "set", "values": {"ivr.word": "yes"}})
        for bad in ('{"type": "set", "values": {"ivr.no": 1}}', '{"type": "set", "values": {"call.ani": "1"}}', "nonsense", "[1]"):
            await socket.send_str(bad)
            heard.append(await socket.receive_json())
        heard.append(await socket.receive_json())
        await socket.send_json({"type": "done", "exit": "agent"})
        heard.append(await socket.receive_json())

    headers: dict[str, str] = {}
    async with talking(sockets(meet, headers), token="a secret") as house:
        await house.began()
        house.bots.carry_out(TellBot(CALL, REQUEST, "start", {"session": {"ivr.a": 1}}))
        await until(lambda: len(heard) == 5)
        house.bots.carry_out(TellBot(CALL, REQUEST, "key", {"digit": "5"}))
        assert await house.ended() == ("agent", "")
        await until(lambda: len(heard) == 7)
        assert headers["Authorization"] == "Bearer a secret"
        assert heard[0] == {"type": "start", "call": CALL, "format": "slin", "session": {"ivr.a": 1}}
        assert [each["type"] for each in heard] == ["start", *["refused"] * 4, "key", "end"]
        assert house.written == [SessionWritten(CALL, {"ivr.word": "yes"}, "bot helper")]
        assert house.asterisk.did == ["join m1", "close m1"]


async def test_what_is_queued_can_be_dropped() -> None:
    async def meet(socket: web.WebSocketResponse) -> None:
        for _ in range(20):
            await socket.send_bytes(bytes(16_000))
        await socket.send_json({"type": "flush"})
        await socket.send_bytes(b"\1" * FRAME)
        await socket.receive()

    async with talking(sockets(meet)) as house:
        await house.began()
        await until(lambda: b"\1" in house.asterisk.sound)
        assert house.asterisk.texts == ["FLUSH_MEDIA"]
        assert len(house.asterisk.sound) < 4 * 16_000, "ten seconds were sent, of which a little more than one had gone on"


async def test_a_goodbye_is_heard_to_its_end() -> None:
    async def meet(socket: web.WebSocketResponse) -> None:
        for _ in range(4):
            await socket.send_bytes(b"\1" * 10 * FRAME)
        await socket.send_json({"type": "done"})
        await socket.receive()

    async with talking(sockets(meet)) as house:
        await house.began()
        began = time.monotonic()
        assert await house.ended() == ("done", "")
        assert time.monotonic() - began > 0.7, "0.8 seconds of sound"
        assert house.asterisk.sound == b"\1" * 40 * FRAME


async def test_the_call_is_taken_back() -> None:
    heard: list[Any] = []

    async def meet(socket: web.WebSocketResponse) -> None:
        heard.append(json.loads((await socket.receive()).data))

    async with talking(sockets(meet)) as house:
        await house.began()
        house.bots.carry_out(StartBot(CALL, REQUEST, "helper", again=True))
        house.bots.carry_out(StopBot(CALL, REQUEST))
        assert await house.ended() == ("done", "")
        await until(lambda: heard == [{"type": "end"}])
        assert house.asterisk.did == ["join m1", "close m1"]


async def test_a_bot_that_closes_is_lost() -> None:
    async def meet(socket: web.WebSocketResponse) -> None:
        await socket.receive()

    async with talking(sockets(meet)) as house:
        await house.began()
        house.bots.carry_out(TellBot(CALL, REQUEST, "start"))
        assert await house.ended() == ("failed", "closed")


async def test_a_bot_that_answers_no_ping_is_lost_within_two_seconds() -> None:
    released = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        socket = web.WebSocketResponse(autoping=False)
        await socket.prepare(request)
        await released.wait()
        return socket

    app = web.Application()
    app.router.add_get("/", handle)
    async with talking(app) as house:
        await house.began()
        began = time.monotonic()
        assert await house.ended() == ("failed", "silent")
        assert time.monotonic() - began < 2.0
        released.set()


async def test_asterisk_that_hangs_up_ends_it() -> None:
    async with talking(echo()) as house:
        await house.began()
        await until(lambda: house.asterisk.socket is not None)
        assert house.asterisk.socket is not None
        await house.asterisk.socket.close()
        assert await house.ended() == ("failed", "media")


async def test_a_bot_that_cannot_be_had_says_why() -> None:
    async with talking(echo(), allowed=False) as house:
        assert await house.ended() == ("failed", "forbidden")
    async with talking(web.Application()) as house:
        assert await house.ended() == ("failed", "unreachable")
    async with talking(echo(), sound=False) as house:
        assert await house.ended() == ("failed", "media")
    house = House("", Asterisk(), ())
    house.start()
    assert await house.ended() == ("failed", "not_set_up")
    house = House("ws://127.0.0.1:9/", Asterisk(), (Origin(origin="http://127.0.0.1:9", allow_private=True),))
    house.start()
    assert await house.ended() == ("failed", "unreachable")


@pytest.mark.parametrize("url", ["http://bot.example/", "bot.example", "ws://user@bot.example/", ""])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValidationError, match="expected an address that begins with wss"):
        BotSettings(url=url)


def test_a_plain_address_is_for_private_networks_only() -> None:
    assert Guard([Origin(origin="https://bot.example")]).admit(URL("http://bot.example")) != ""
