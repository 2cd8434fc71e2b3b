"""Everything that happens, live, for supervisors and for customers' own programs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict

from app.api.routes import Asked, Routes
from app.api.sockets import FEEDS, Nonsense, Socket, require_upgrade

routes = Routes("events")


class Happening(BaseModel):
    """One thing that happened anywhere, with the fields of its type."""

    model_config = ConfigDict(extra="allow")

    type: str


@routes.add(
    "GET",
    "/v1/events",
    "Everything that happens from now on (websocket)",
    access="staff",
    problems=(403, 426, 503),
    messages=(Happening,),
)
async def events(asked: Asked[None, None]) -> web.StreamResponse:
    """Until either side closes. There is nothing to say to it."""
    require_upgrade(asked.request)
    socket = Socket(asked.settings, asked.who)
    with asked.request.app[FEEDS].opened(socket):
        follower: list[asyncio.Task[None]] = []

        def greet() -> None:
            follower.append(asyncio.create_task(_follow(asked.backend.messages(None), socket)))

        try:
            return await socket.run(asked.request, greet, _deaf)
        finally:
            for task in follower:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task


async def _follow(messages: AsyncIterator[dict[str, Any]], socket: Socket) -> None:
    async for message in messages:
        socket.send(message)
    socket.close(1011, "connect again")


def _deaf(_: Any) -> None:
    raise Nonsense("nothing may be said here")
