"""Everything that happens, live, for supervisors and for customers' own programs."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from app.api.models import Ask
from app.api.routes import Asked, Routes
from app.api.sockets import FEEDS, Nonsense, Socket, require_upgrade

routes = Routes("events")


class Happening(BaseModel):
    """One thing that happened, with the fields of its type.

    What happened on a call has an `id`; a program that keeps the last one goes on after it (`after`) and misses nothing for 30 days.
    Messages of type `agent` have none: they tell the whole state of one agent, as of now.
    """

    model_config = ConfigDict(extra="allow")

    type: str
    id: str = ""


class EventsQuery(Ask):
    """Where to begin."""

    after: str | None = Field(default=None, pattern=r"^[0-9]{1,18}-[0-9]{1,6}$", description="the id of the last message that was read")


@routes.add(
    "GET",
    "/v1/events",
    "What happens on calls, from now on or after a message that was read (websocket)",
    access="staff",
    query=EventsQuery,
    problems=(403, 426, 503),
    messages=(Happening,),
)
async def events(asked: Asked[EventsQuery, None]) -> web.StreamResponse:
    """Until either side closes. There is nothing to say to it."""
    require_upgrade(asked.request)
    socket = Socket(asked.settings, asked.who)
    with asked.request.app[FEEDS].opened(socket):
        follower: list[asyncio.Task[None]] = []

        def greet() -> None:
            for messages in (asked.backend.follow(asked.query.after), asked.backend.messages(None)):
                follower.append(asyncio.create_task(_follow(messages, socket)))

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
