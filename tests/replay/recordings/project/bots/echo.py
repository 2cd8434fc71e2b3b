"""A bot that repeats what it hears, and does what keys tell it: `python -m app.demo.bots.echo PORT`.

Key 1 ends it by `agent`, where the step has that answer, key 2 by `done`, key 3 writes `ivr.echo`, key 4 drops what is still to be heard.
It stands alone, as a bot of your own begins: a websocket server that makes one object for each call and hands it what comes.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections.abc import Callable
from typing import Any, Protocol, TypeAlias

from aiohttp import WSMsgType, web

Say: TypeAlias = Callable[[bytes | dict[str, Any]], None]
"""Sends sound, or a message, to the other end, in order."""
WISHES: dict[str, dict[str, Any]] = {
    "1": {"type": "done", "exit": "agent"},
    "2": {"type": "done"},
    "3": {"type": "set", "values": {"ivr.echo": "heard you"}},
    "4": {"type": "flush"},
}


class Conversation(Protocol):
    """One call, as a bot sees it."""

    def told(self, message: dict[str, Any]) -> None:
        """A message of the application: `start`, `key`, `session`, `refused` or `end`."""

    def heard(self, sound: bytes) -> None:
        """Some of the caller's sound: 16 bit samples, 8000 a second."""


class Echo:
    """One call."""

    def __init__(self, say: Say) -> None:
        self._say = say

    def told(self, message: dict[str, Any]) -> None:
        wish = WISHES.get(message.get("digit", ""))
        if wish:
            self._say(wish)

    def heard(self, sound: bytes) -> None:
        self._say(sound)


def application(make: Callable[[Say], Conversation]) -> web.Application:
    """A server that answers every websocket with a conversation of its own."""

    async def meet(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(max_msg_size=1 << 20)
        await socket.prepare(request)
        outbox: asyncio.Queue[bytes | dict[str, Any]] = asyncio.Queue()
        sending = asyncio.create_task(_send(socket, outbox))
        conversation = make(outbox.put_nowait)
        try:
            async for message in socket:
                if message.type is WSMsgType.BINARY:
                    conversation.heard(message.data)
                elif message.type is WSMsgType.TEXT:
                    conversation.told(json.loads(message.data))
        finally:
            sending.cancel()
        return socket

    app = web.Application()
    app.router.add_get("/", meet)
    return app


async def _send(socket: web.WebSocketResponse, outbox: asyncio.Queue[bytes | dict[str, Any]]) -> None:
    while True:
        item = await outbox.get()
        if isinstance(item, bytes):
            await socket.send_bytes(item)
        else:
            await socket.send_str(json.dumps(item))


def main() -> None:
    """Serve on 127.0.0.1, on the port that the command line names."""
    parser = argparse.ArgumentParser(description="Repeats what it hears.")
    parser.add_argument("port", type=int)
    web.run_app(application(Echo), host="127.0.0.1", port=parser.parse_args().port, print=None)


if __name__ == "__main__":
    main()
