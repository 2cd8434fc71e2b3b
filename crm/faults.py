"""Doors for tests: the service can be told to misbehave. Only with `--faults`, only on loopback, never in production.

`POST /faults {"mode": "slow", "seconds": 3}` delays every answer under /api/v1, `down` drops the connection without an answer,
`html` answers 200 with a page, `truncated` cuts the JSON in the middle, `big` sends 50 MB of valid JSON, `limited` is a 429 with
Retry-After for as long as `seconds` say, `expired` takes no token until `off` ends it.
`GET /faults` tells the mode and how many requests have come in since it was set. The door itself asks for no token.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any, Literal

from aiohttp import web
from pydantic import Field

from crm.api import PREFIX
from crm.models import Body
from crm.web import Problem, parse_body, read_json, reply

BIG_CHUNKS = 800
CHUNK = b'"' + b"x" * (64 * 1024 - 3) + b'",'
PAGE = "<!doctype html><title>Maintenance</title><h1>We are back soon</h1>"
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Fault(Body):
    """What goes wrong; `seconds` is for `slow` and `limited`."""

    mode: Literal["slow", "down", "html", "truncated", "big", "limited", "expired", "off"]
    seconds: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)] = 3.0


class Faults:
    """The door, and the middleware that it moves."""

    def __init__(self) -> None:
        self._fault = Fault(mode="off")
        self._requests = 0
        self._until = 0.0

    def add_routes(self, app: web.Application) -> None:
        """Serve the door."""
        app.router.add_get("/faults", self._show)
        app.router.add_post("/faults", self._set)

    def middleware(self) -> Any:
        """Return the aiohttp middleware; it belongs outside of all others."""

        @web.middleware
        async def misbehave(request: web.Request, handler: Handler) -> web.StreamResponse:
            if not request.path.startswith(PREFIX):
                return await handler(request)
            self._requests += 1
            if self._fault.mode == "limited" and time.monotonic() >= self._until:
                return await handler(request)
            return await _ways[self._fault.mode](request, handler, self._fault.seconds)

        return misbehave

    async def _show(self, _request: web.Request) -> web.Response:
        return reply({**self._fault.model_dump(), "requests": self._requests})

    async def _set(self, request: web.Request) -> web.Response:
        try:
            self._fault = parse_body(Fault, await read_json(request))
        except Problem as problem:
            return problem.response()
        self._requests = 0
        self._until = time.monotonic() + self._fault.seconds
        return await self._show(request)


async def _off(request: web.Request, handler: Handler, _seconds: float) -> web.StreamResponse:
    return await handler(request)


async def _slow(request: web.Request, handler: Handler, seconds: float) -> web.StreamResponse:
    await asyncio.sleep(seconds)
    return await handler(request)


async def _down(request: web.Request, _handler: Handler, _seconds: float) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=503)


async def _html(_request: web.Request, _handler: Handler, _seconds: float) -> web.StreamResponse:
    return web.Response(text=PAGE, content_type="text/html")


async def _truncated(request: web.Request, handler: Handler, _seconds: float) -> web.StreamResponse:
    whole = await handler(request)
    body = whole.body if isinstance(whole, web.Response) and isinstance(whole.body, bytes) else b"{}"
    return web.Response(body=body[: len(body) // 2], status=whole.status, content_type="application/json")


async def _big(request: web.Request, _handler: Handler, _seconds: float) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(b'{"count": 0, "results": [')
    for _ in range(BIG_CHUNKS):
        await response.write(CHUNK)
    await response.write(b'""]}')
    await response.write_eof()
    return response


async def _limited(_request: web.Request, _handler: Handler, seconds: float) -> web.StreamResponse:
    return web.Response(status=429, headers={"Retry-After": str(math.ceil(seconds))})


async def _expired(_request: web.Request, _handler: Handler, _seconds: float) -> web.StreamResponse:
    return web.Response(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})


_ways: dict[str, Callable[[web.Request, Handler, float], Awaitable[web.StreamResponse]]] = {
    "off": _off,
    "slow": _slow,
    "down": _down,
    "html": _html,
    "truncated": _truncated,
    "big": _big,
    "limited": _limited,
    "expired": _expired,
}
