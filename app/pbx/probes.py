"""What is watched of Asterisk beside the socket: the flow of events, and the lookups that a call needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import aiohttp
import structlog

from app.pbx.ari import DEADLINE, Answer, AriError, AriLost, AriNotFound, AriRefused, AriTimeout, Done, Request
from app.pbx.http import Http

log = structlog.get_logger(__name__)

PROBE_EVERY = 5.0
ECHO_WITHIN = 3.0
ECHO = "cw-echo"


class Probes:
    """Asks what a call needs over HTTP, so that a lookup that hangs blocks no call; and sends an event of ours round over the socket.

    `says` is what is wrong with the lookups, or ""; `looking` is held while our application is looked at. `send` goes over the
    socket, `fail` ends the line for good, `channel()` gives a live channel's id to probe with, or "".
    """

    def __init__(
        self, app: str, http: Http, send: Callable[[Request, Done], None], fail: Callable[[AriError], None], channel: Callable[[], str]
    ) -> None:
        self._app, self._http, self._send, self._fail, self._channel = app, http, send, fail, channel
        self.says = ""
        self.looking = asyncio.Lock()
        self._echo_sent = ""
        self._echo_at = 0.0

    def begin(self) -> None:
        """A new socket: nothing of ours is on its way."""
        self._echo_sent = ""

    def echo_lost(self, now: float) -> bool:
        """Whether an event of our own should have come back by now."""
        return bool(self._echo_sent) and now - self._echo_at > ECHO_WITHIN

    async def echo_round(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> str:
        """Send an event of our own round through Asterisk: its coming back is what proves that events reach us."""
        n = 0
        while True:
            await asyncio.sleep(PROBE_EVERY)
            if self._echo_sent:
                continue
            n += 1
            self._echo_sent, self._echo_at = str(n), time.monotonic()
            request = Request("POST", f"events/user/{ECHO}", (("application", self._app),), {"variables": {"n": self._echo_sent}})
            self._send(request, self._echo_answered)

    def _echo_answered(self, answer: Answer) -> None:
        if isinstance(answer, AriRefused):
            self._fail(answer)
        elif isinstance(answer, AriError) and not isinstance(answer, AriTimeout | AriLost):
            self.says = f"echo: {answer}"
            self._echo_sent = ""

    def echo_back(self, message: dict[str, Any]) -> None:
        """An event of our own has come."""
        said = message.get("userevent")
        if isinstance(said, dict) and said.get("n") == self._echo_sent:
            self._echo_sent = ""

    async def round(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> str:
        """Ask for what a call needs, apart from the calls' own way."""
        while True:
            self.says = await self.probe()
            await asyncio.sleep(PROBE_EVERY)

    async def probe(self) -> str:
        """What is wrong with the lookups that a call needs, or ""."""
        channel = self._channel() or "cw-probe"
        for request in (Request("GET", f"applications/{self._app}"), Request("GET", f"channels/{channel}")):
            async with self.looking:
                answer = await self._http.ask(request, DEADLINE)
            if isinstance(answer, AriRefused):
                self._fail(answer)
            if isinstance(answer, AriError) and not (isinstance(answer, AriNotFound) and request.path.startswith("channels/")):
                log.warning("ari_probe_failed", reason=str(answer))
                return str(answer)
        return ""
