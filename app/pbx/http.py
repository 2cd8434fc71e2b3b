"""Asterisk over HTTP: one request, its answer, and the deadline over it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import aiohttp
import orjson
from yarl import URL

from app.pbx import ari
from app.pbx.ari import Answer, AriError, AriLost, AriMalformed, AriTimeout, AriTooBig, Reply, Request, anonymous, read_answer

T = TypeVar("T")


class Http:
    """Requests over HTTP, as long as there is a `session`. `timeouts` says how many were never answered."""

    def __init__(self, base: URL) -> None:
        self._base = base
        self.session: aiohttp.ClientSession | None = None
        self.timeouts = 0

    async def ask(self, request: Request, seconds: float) -> Answer:
        """One request, and what came of it."""
        return await self._over_http(request, seconds, lambda status, raw: read_answer(status, raw, request))

    async def _over_http(self, request: Request, seconds: float, read: Callable[[int, bytes], T | AriError]) -> T | AriError:
        session = self.session
        if session is None:
            return AriLost("the line to Asterisk is closed")
        try:
            async with session.request(
                request.method,
                self._base.join(URL(request.path)),
                params=list(request.query),
                data=None if request.body is None else orjson.dumps(request.body),
                headers={"Content-Type": "application/json"} if request.body is not None else None,
                timeout=aiohttp.ClientTimeout(total=seconds),
                allow_redirects=False,
            ) as response:
                raw = await _read_bounded(response)
                if raw is None:
                    response.close()
                    return AriTooBig(f"{request.method} {anonymous(request.path)}: more than {ari.MAX_ANSWER} bytes", response.status)
                return read(response.status, raw)
        except TimeoutError:
            self.timeouts += 1
            return AriTimeout(f"{request.method} {anonymous(request.path)}: no answer in {seconds:g} s")
        except aiohttp.ClientConnectionError as error:
            return AriLost(f"{request.method} {anonymous(request.path)}: {type(error).__name__}")
        except (aiohttp.ClientError, ValueError) as error:
            return AriMalformed(f"{request.method} {anonymous(request.path)}: {type(error).__name__}")

    async def fetch(self, path: str, seconds: float = ari.DEADLINE) -> bytes:
        """A file, over HTTP; raises as `request`."""
        request = Request("GET", path)
        answer = await self._over_http(request, seconds, lambda status, raw: _file(status, raw, request))
        if isinstance(answer, AriError):
            raise answer
        return answer


def _file(status: int, raw: bytes, request: Request) -> bytes | AriError:
    """A file as it is; anything but a 200 is an error."""
    answer = raw if status == 200 else read_answer(status, raw, request)
    return (
        AriMalformed(f"{request.method} {anonymous(request.path)}: {status} without a file", status)
        if isinstance(answer, Reply)
        else answer
    )


async def _read_bounded(response: aiohttp.ClientResponse) -> bytes | None:
    """The body, or None when it is larger than we read."""
    if (response.content_length or 0) > ari.MAX_ANSWER:
        return None
    parts: list[bytes] = []
    size = 0
    async for chunk in response.content.iter_chunked(65536):
        size += len(chunk)
        if size > ari.MAX_ANSWER:
            return None
        parts.append(chunk)
    return b"".join(parts)
