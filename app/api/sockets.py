"""Websockets that cannot hurt us: a bounded queue each, pings, a cap on messages and on their number.

A reader that is too slow is closed with 1013 (try again later), one that talks nonsense with 1008, one that says too much with
1009, all of them with 1001 when we go away, and those of a session that ended with 4401.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import orjson
from aiohttp import WSCloseCode, WSMsgType, web

from app.api import strict
from app.api.auth import Principal
from app.api.problems import Problem
from app.api.settings import ApiSettings

SIGNED_OUT = 4401
_CLOSING_SECONDS = 2.0


class Nonsense(ValueError):
    """A client sent something that has no meaning here."""


class Socket:
    """One open websocket. `send` never waits."""

    def __init__(self, settings: ApiSettings, who: Principal) -> None:
        self.session = who.session
        self._expires = who.expires
        self._ws = web.WebSocketResponse(
            heartbeat=settings.heartbeat, max_msg_size=settings.socket_message, timeout=_CLOSING_SECONDS, compress=False
        )
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(settings.socket_queue)
        self._request: web.Request | None = None
        self._closing: asyncio.Task[None] | None = None

    async def run(self, request: web.Request, greet: Callable[[], None], heard: Callable[[Any], None]) -> web.WebSocketResponse:
        """Serve until either side closes: `greet` once it is open, `heard` for each JSON value that comes (`Nonsense` closes)."""
        self._request = request
        await self._ws.prepare(request)
        sender = asyncio.create_task(self._send_all())
        expiry = asyncio.get_running_loop().call_later(max(0, self._expires - time.time()), self._expire)
        try:
            greet()
            await self._hear(heard)
        finally:
            expiry.cancel()
            sender.cancel()
            with contextlib.suppress(asyncio.CancelledError, ConnectionError):
                await sender
            if self._closing is not None:
                await self._closing
        return self._ws

    def send(self, message: dict[str, Any]) -> None:
        """Queue a message; a reader that has let too many pile up is closed."""
        try:
            self._waiting.put_nowait(orjson.dumps(message))
        except asyncio.QueueFull:
            self.close(WSCloseCode.TRY_AGAIN_LATER, "too slow")

    def close(self, code: int, why: str) -> None:
        """Begin to close; cut the connection when the peer does not take part within two seconds."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code, why))

    def _expire(self) -> None:
        if self._expires:
            self.close(SIGNED_OUT, "expired")

    async def closed(self) -> None:
        """Wait until a close that was begun is over."""
        if self._closing is not None:
            await self._closing

    async def _close(self, code: int, why: str) -> None:
        with contextlib.suppress(TimeoutError, ConnectionError, RuntimeError):
            async with asyncio.timeout(_CLOSING_SECONDS):
                await self._ws.close(code=code, message=why.encode())
        if self._request is not None and self._request.transport is not None:
            self._request.transport.abort()

    async def _send_all(self) -> None:
        while True:
            await self._ws.send_str((await self._waiting.get()).decode())

    async def _hear(self, heard: Callable[[Any], None]) -> None:
        async for message in self._ws:
            try:
                if message.type is not WSMsgType.TEXT:
                    raise Nonsense("text only")
                heard(strict.parse(message.data))
            except ValueError as error:
                self.close(WSCloseCode.POLICY_VIOLATION, str(error)[:100])
                return


class Feeds:
    """Every open websocket of the application."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._open: set[Socket] = set()
        self.leaving = False

    def __len__(self) -> int:
        return len(self._open)

    @contextlib.contextmanager
    def opened(self, socket: Socket) -> Any:
        """Count a websocket while it is served; a 503 when there are too many."""
        if self.leaving or len(self._open) >= self._limit:
            raise Problem(503, "too-many-sockets", "too many websockets are open", headers={"Retry-After": "5"})
        self._open.add(socket)
        try:
            yield
        finally:
            self._open.discard(socket)

    def end_session(self, session: str) -> None:
        """Close what was opened with a session that has ended."""
        for socket in self._open:
            if socket.session == session:
                socket.close(SIGNED_OUT, "signed out")

    async def leave(self) -> None:
        """Close everything, because we go away."""
        self.leaving = True
        sockets = list(self._open)
        for socket in sockets:
            socket.close(WSCloseCode.GOING_AWAY, "restarting")
        await asyncio.gather(*(socket.closed() for socket in sockets))


FEEDS: web.AppKey[Feeds] = web.AppKey("feeds", Feeds)


def require_upgrade(request: web.Request) -> None:
    """A 426 for a plain request."""
    if request.headers.get("Upgrade", "").lower() != "websocket":
        raise Problem(426, "upgrade-required", "this is a websocket", headers={"Upgrade": "websocket"})
