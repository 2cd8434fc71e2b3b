"""Bots: programs that talk to callers over a websocket, each message of it relayed between the program and Asterisk.

Binary messages are sound, 16 bit samples (little-endian), 8000 a second, both ways. Text messages are JSON objects with a `type`:

| to the bot | |
|---|---|
| `start` | the call begins: `call`, `format`, `with`, `session`, `language`, `answers`, and `again`: it was connected to this call before |
| `key` | the caller pressed `digit` |
| `session` | another system wrote these variables: `session` |
| `refused` | what the bot said could not be done; `why` says it |
| `end` | the call is taken back |

| from the bot | |
|---|---|
| `set` | write `values` (`{"ivr.x": ..}`) into the session |
| `flush` | do not play what is still queued |
| `done` | give the call back, by `exit` (one of `answers`; `done` unless said), once what is queued has been played |

Whatever ends it, `BotEnded` is posted once: a bot that refuses, closes or does not answer a ping within a second is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Protocol, TypeAlias

import aiohttp
import structlog
from aiohttp.abc import AbstractResolver
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from yarl import URL

from app.core.commands import Command, StartBot, StopBot, TellBot
from app.core.events import BotBegan, BotEnded, Event, SessionWritten
from app.core.session import SessionRefused, flat

log = structlog.get_logger()

CONNECT: Final = 1.5
"""Seconds in which both sides must be connected."""
HEARTBEAT: Final = 1.0
"""Seconds between pings; one that is not answered within half of that ends the connection."""
GOODBYE: Final = 0.5
"""Seconds that closing may take."""
LARGEST: Final = 256 * 1024
"""Bytes of one message from a bot: 16 seconds of sound."""
FORMAT: Final = "slin"
SECOND: Final = 16_000
FRAME: Final = 320
"""Bytes of sound in a second, and in what Asterisk plays at once; of a message that ends within a frame it would drop the end."""
PART: Final = 10 * FRAME
AHEAD: Final = 1.0
PAUSE: Final = 0.06
"""Seconds after which the rest of a frame is not waited for any more, and filled with silence."""
MOST: Final = 4 * 1024 * 1024
"""Bytes of sound that wait here, four minutes; a bot that sends more is not read for a while."""
WHO: Final = {"User-Agent": "callwright"}
Socket: TypeAlias = aiohttp.ClientWebSocketResponse


def _websocket(url: str) -> str:
    address = URL(url)
    if address.scheme not in ("ws", "wss") or not address.host or address.user:
        raise ValueError(f"expected an address that begins with wss:// (or ws://), without a user in it, found {url!r}")
    return url


class BotSettings(BaseModel):
    """Where a bot is, and the token by which it knows us (`Authorization: Bearer`), if it wants one."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_websocket)]
    token: SecretStr = SecretStr("")


class Media(Protocol):
    """The PBX's side: a channel whose sound goes over a websocket. Everything raises `OSError`."""

    async def open_media(self, call: str) -> tuple[str, str]: ...
    async def join_media(self, call: str, media: str) -> None: ...
    def close_media(self, call: str, media: str) -> None: ...


class Lost(Exception):
    """The bot cannot be had, or is gone; the text is the reason, as in `BotEnded`."""


@dataclass(slots=True)
class _Talk:
    """One caller with one bot."""

    order: StartBot
    task: asyncio.Task[None] | None = None
    bot: Socket | None = None
    media: Socket | None = None
    channel: str = ""
    begun: bool = False
    outbox: asyncio.Queue[dict[str, Any] | None] = field(default_factory=asyncio.Queue)
    sound: asyncio.Queue[bytes] = field(default_factory=asyncio.Queue)
    waiting: int = 0
    heard_until: float = 0.0
    flushes: int = 0


class Bots:
    """The adapter of `StartBot`, `TellBot` and `StopBot`; use within a running loop.

    `submit` takes an event and raises `SessionRefused`; `admit` says why an http(s) address may not be connected to, or "".
    """

    def __init__(
        self,
        settings: Mapping[str, BotSettings],
        post: Callable[[Event], None],
        submit: Callable[[Event], Awaitable[None]],
        pbx: Media,
        admit: Callable[[URL], str],
        resolver: AbstractResolver | None,
    ) -> None:
        self._settings, self._post, self._submit, self._pbx, self._admit = settings, post, submit, pbx, admit
        self._resolver = resolver
        self._talks: dict[str, _Talk] = {}

    def handles(self, command: Command) -> bool:
        """Whether the command is one of ours."""
        return isinstance(command, StartBot | TellBot | StopBot)

    def carry_out(self, command: StartBot | TellBot | StopBot) -> None:
        """Begin; returns at once. A bot that has the call already is not connected twice."""
        talk = self._talks.get(command.request)
        if isinstance(command, StartBot) and talk is None:
            self._talks[command.request] = talk = _Talk(command)
            talk.task = asyncio.get_running_loop().create_task(self._run(talk))
        elif isinstance(command, TellBot) and talk is not None:
            first = {"call": command.call, "format": FORMAT} if command.type == "start" else {}
            talk.outbox.put_nowait({"type": command.type, **first, **command.values})
        elif isinstance(command, StopBot) and talk is not None:
            talk.outbox.put_nowait(None)
            if not talk.begun and talk.task is not None:
                talk.task.cancel()

    async def close(self) -> None:
        """Drop every connection, without events: the next process connects anew."""
        tasks = [talk.task for talk in self._talks.values() if talk.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # ---- one conversation ----------------------------------------------------------------------------------------------

    async def _run(self, talk: _Talk) -> None:
        order, exit_, reason = talk.order, "failed", ""
        async with self._session() as session, aiohttp.ClientSession(trust_env=False) as line:
            try:
                exit_ = await self._talk(talk, session, line)
            except Lost as lost:
                reason = str(lost)
            except Exception as error:  # one event in every case: the caller waits for it
                reason = "broken"
                log.warning("bot_broken", bot=order.bot, call=order.call, error=type(error).__name__)
            finally:
                del self._talks[order.request]
                if talk.channel:
                    self._pbx.close_media(order.call, talk.channel)
            if reason:
                log.warning("bot_lost", bot=order.bot, call=order.call, reason=reason)
            self._post(BotEnded(order.call, order.request, exit_, reason))
            await _part(talk)

    def _session(self) -> aiohttp.ClientSession:
        """Connections to bots: to addresses that are allowed, without cookies and proxies."""
        connector = aiohttp.TCPConnector(resolver=self._resolver, use_dns_cache=False)
        return aiohttp.ClientSession(connector=connector, trust_env=False, cookie_jar=aiohttp.DummyCookieJar(), headers=WHO)

    async def _talk(self, talk: _Talk, session: aiohttp.ClientSession, line: aiohttp.ClientSession) -> str:
        """Connect both sides and relay until one ends it; the exit. Raises `Lost`."""
        try:
            async with asyncio.timeout(CONNECT):
                talk.bot = await self._connect_bot(talk.order, session)
                talk.media = await self._connect_media(talk, line)
        except TimeoutError:
            raise Lost("media" if talk.bot else "unreachable") from None
        talk.begun = True
        self._post(BotBegan(talk.order.call, talk.order.request))
        sides = (talk, talk.bot, talk.media)
        relays = [asyncio.create_task(part(*sides)) for part in (self._from_bot, self._from_media, self._to_bot, self._to_media)]
        try:
            done, _ = await asyncio.wait(relays, return_when=asyncio.FIRST_COMPLETED)
            return next(each for each in relays if each in done).result()
        except (aiohttp.ClientError, OSError):  # a bot that is gone raises nothing here, `_from_bot` notices
            raise Lost("media") from None
        finally:
            for relay in relays:
                relay.cancel()
            await asyncio.gather(*relays, return_exceptions=True)

    async def _connect_bot(self, order: StartBot, session: aiohttp.ClientSession) -> Socket:
        settings = self._settings.get(order.bot)
        if settings is None:
            raise Lost("not_set_up")
        url = URL(settings.url)
        if why := self._admit(url.with_scheme("https" if url.scheme == "wss" else "http")):
            log.warning("bot_forbidden", bot=order.bot, why=why)
            raise Lost("forbidden")
        token = settings.token.get_secret_value()
        headers = {"Authorization": f"Bearer {token}"} if token else None
        try:
            return await session.ws_connect(url, heartbeat=HEARTBEAT, max_msg_size=LARGEST, headers=headers)
        except (aiohttp.ClientError, OSError):
            raise Lost("unreachable") from None

    async def _connect_media(self, talk: _Talk, line: aiohttp.ClientSession) -> Socket:
        try:
            talk.channel, url = await self._pbx.open_media(talk.order.call)
            media = await line.ws_connect(url, protocols=("media",))
            await self._pbx.join_media(talk.order.call, talk.channel)
        except (aiohttp.ClientError, OSError) as error:
            log.warning("bot_without_sound", call=talk.order.call, reason=f"{type(error).__name__}: {error}"[:200])
            raise Lost("media") from None
        return media

    # ---- relaying ------------------------------------------------------------------------------------------------------

    async def _from_bot(self, talk: _Talk, bot: Socket, media: Socket) -> str:
        """Sound goes to the caller, wishes are done; the exit that the bot takes. Raises `Lost`."""
        async for message in bot:
            if message.type is aiohttp.WSMsgType.BINARY and message.data:
                talk.waiting += len(message.data)
                talk.sound.put_nowait(message.data)
                while talk.waiting > MOST:  # noqa: ASYNC110
                    await asyncio.sleep(PAUSE)
            elif message.type is aiohttp.WSMsgType.TEXT:
                wish = _read(message.data)
                if wish.get("type") == "done":
                    await talk.sound.join()
                    await asyncio.sleep(talk.heard_until - asyncio.get_running_loop().time())
                    return str(wish.get("exit") or "done")
                await self._grant(talk, media, wish)
        raise Lost("silent" if bot.exception() else "closed")

    async def _grant(self, talk: _Talk, media: Socket, wish: dict[str, Any]) -> None:
        kind, values, why = wish.get("type"), wish.get("values"), ""
        if kind == "flush":
            while not talk.sound.empty():
                talk.waiting -= len(talk.sound.get_nowait())
                talk.sound.task_done()
            talk.flushes, talk.heard_until = talk.flushes + 1, 0.0
            await media.send_str("FLUSH_MEDIA")
        elif kind == "set" and isinstance(values, dict):
            try:
                await self._submit(SessionWritten(talk.order.call, flat(values), f"bot {talk.order.bot}"))
            except SessionRefused as refusal:
                why = str(refusal)
        else:
            why = "expected a JSON object whose type is set (with values), flush or done"
        if why:
            talk.outbox.put_nowait({"type": "refused", "why": why})

    async def _from_media(self, talk: _Talk, bot: Socket, media: Socket) -> str:
        """The caller's sound goes to the bot, while there is a caller. Raises `Lost`."""
        async for message in media:
            if message.type is aiohttp.WSMsgType.BINARY:
                with contextlib.suppress(aiohttp.ClientError, OSError):  # a bot that is gone is noticed by `_from_bot`
                    await bot.send_bytes(message.data)
        raise Lost("media")

    async def _to_media(self, talk: _Talk, bot: Socket, media: Socket) -> str:
        """The bot's sound goes to the caller in whole frames, no more than `AHEAD` before it is to be heard: Asterisk drops the rest."""
        now, rest = asyncio.get_running_loop().time, b""
        while True:
            taken = b""
            try:
                async with asyncio.timeout(PAUSE if rest else None):
                    taken = await talk.sound.get()
                sound = rest + taken
            except TimeoutError:
                sound = rest.ljust(FRAME, b"\0")
            talk.waiting -= len(taken)
            whole = len(sound) - len(sound) % FRAME
            rest = sound[whole:]
            for at in range(0, whole, PART):
                flushed = talk.flushes
                await asyncio.sleep(max(talk.heard_until - now() - AHEAD, 0.0))
                if talk.flushes != flushed:
                    rest = b""
                    break
                part = sound[at : min(at + PART, whole)]
                talk.heard_until = max(talk.heard_until, now()) + len(part) / SECOND
                await media.send_bytes(part)
            if taken:
                talk.sound.task_done()

    async def _to_bot(self, talk: _Talk, bot: Socket, media: Socket) -> str:
        """What the bot is told, in order; ends when the call is taken back."""
        while (message := await talk.outbox.get()) is not None:
            with contextlib.suppress(aiohttp.ClientError, OSError):
                await bot.send_str(json.dumps(message))
        return "done"


def _read(text: str) -> dict[str, Any]:
    """What a bot says; nothing where it is no JSON object."""
    try:
        wish = json.loads(text)
    except ValueError:
        return {}
    return wish if isinstance(wish, dict) else {}


async def _part(talk: _Talk) -> None:
    """Say goodbye to the bot, shortly, and close both sides."""
    with contextlib.suppress(Exception):
        async with asyncio.timeout(GOODBYE):
            if talk.bot is not None and not talk.bot.closed:
                await talk.bot.send_str(json.dumps({"type": "end"}))
                await talk.bot.close()
    with contextlib.suppress(Exception):
        async with asyncio.timeout(GOODBYE):
            if talk.media is not None and not talk.media.closed:
                await talk.media.close()
