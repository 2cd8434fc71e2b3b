"""A system that misbehaves on request: an HTTP server on raw sockets whose path says what it does."""

from __future__ import annotations

import asyncio
import gzip
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from app.core.events import Event

Door = Callable[["Doors", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
GOOD = b'{"name": "Ada", "level": 3, "ok": true, "ratio": 0.5, "tags": ["a", "b"], "more": {"x": 1}}'


def reply(body: bytes, status: str = "200 OK", *headers: str) -> bytes:
    """A whole response that keeps the connection."""
    lines = [f"HTTP/1.1 {status}", "Content-Type: application/json", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def until(predicate: Callable[[], object], within: float = 5.0) -> None:
    """Let everything else run until the predicate holds; fails when it does not in time."""
    async with asyncio.timeout(within):
        while not predicate():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


class Posted:
    """Where events arrive: `await posted.event()` is the next one."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[Event] = asyncio.Queue()
        self.count = 0

    def __call__(self, event: Event) -> None:
        self.count += 1
        self._queue.put_nowait(event)

    async def event(self, within: float = 5.0) -> Any:
        async with asyncio.timeout(within):
            return await self._queue.get()


class Doors:
    """`async with Doors() as doors`; `doors.open(name, door)` decides what happens behind `/name`; `doors.asked` is what came."""

    def __init__(self, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0) -> None:
        self._tls, self._host, self.port = tls, host, port
        self._doors: dict[str, Door] = {}
        self._release = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self.asked: list[str] = []
        self.heads: list[bytes] = []
        self.bodies: list[bytes] = []
        self.connections = 0
        self.left = asyncio.Event()
        self.origin = ""

    async def __aenter__(self) -> Doors:
        self._server = await asyncio.start_server(self._serve, self._host, self.port, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        self.origin = f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._release.set()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def open(self, name: str, door: Door | bytes) -> None:
        """Behind `/name`, do this, or answer so."""
        self._doors[name] = _answers(door) if isinstance(door, bytes) else door

    def release(self) -> None:
        """Let the silent ones answer."""
        self._release.set()

    async def silent(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the request and say nothing until released, or until the other side has gone."""
        release, gone = asyncio.ensure_future(self._release.wait()), asyncio.ensure_future(reader.read(1))
        try:
            await asyncio.wait({release, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            release.cancel()
            gone.cancel()
            await asyncio.gather(gone, return_exceptions=True)
        writer.write(reply(GOOD))

    async def drip(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """The header, then a byte now and then, for ever."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    async def flood(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Fifty megabytes without saying so before."""
        writer.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n[")
        for _ in range(800):
            writer.write(b"1," * 32_768)
            await writer.drain()
        writer.close()

    async def cut(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Half of what was promised, then the end."""
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + GOOD)
        await writer.drain()
        writer.close()

    async def reset(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Nothing at all, and the connection is gone."""
        writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                line = head.split(b"\r\n", 1)[0].decode().rsplit(" ", 1)[0]
                self.asked.append(line)
                self.heads.append(head)
                length = next((int(row[15:]) for row in head.decode().split("\r\n") if row.lower().startswith("content-length:")), 0)
                self.bodies.append(await reader.readexactly(length))
                name = line.split(" ", 1)[1].strip("/").split("?")[0].split("/")[0]
                await self._doors[name](self, reader, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.left.set()
            self._tasks.discard(task)
            writer.close()


def _answers(response: bytes) -> Door:
    async def door(doors: Doors, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(response)

    return door


def bomb(size: int) -> bytes:
    """Zeros by the megabyte in a small packet."""
    return gzip.compress(b"0" * size)
