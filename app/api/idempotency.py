"""`Idempotency-Key`: a write that is sent twice with the same key is done once, and answered the same both times.

Kept in memory for a day, ten thousand answers at most; a restart forgets them. Failures of ours (5xx) are not kept, so that a retry is one.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

from app.api import strict
from app.api.problems import Problem

Do = Callable[[], Awaitable[web.StreamResponse]]
HEADER = "Idempotency-Key"
KEPT, SECONDS = 10_000, 24 * 3600.0
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


@dataclass(slots=True)
class _Answered:
    body: bytes
    at: float
    done: asyncio.Event = field(default_factory=asyncio.Event)
    answer: tuple[int, bytes, dict[str, str]] | None = None
    problem: Problem | None = None


class Answers:
    """What was answered to whom."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[str, str, str, str], _Answered] = OrderedDict()

    async def once(self, request: web.Request, who: str, seconds: float, do: Do) -> web.StreamResponse:
        """Do it, or answer as the first time. Problems: 400 for a key that is none, 422 for one that came with another body."""
        key = request.headers[HEADER]
        if not _KEY.fullmatch(key):
            raise Problem(400, "malformed", f"{HEADER} is 1 to 255 visible characters")
        digest = hashlib.sha256(await strict.read(request, seconds)).digest()
        place = (who, request.method, request.path, key)
        kept = self._kept.get(place)
        if kept is None:
            return await self._first(place, digest, do)
        if kept.body != digest:
            raise Problem(422, "key-reuse", f"this {HEADER} came with another body before")
        await kept.done.wait()
        if kept.problem is not None:
            raise kept.problem
        if kept.answer is None:
            raise Problem(503, "try-again", "the first request with this key failed on our side; send it again")
        status, body, headers = kept.answer
        return web.Response(status=status, body=body, headers={**headers, "Idempotent-Replayed": "true"})

    async def _first(self, place: tuple[str, str, str, str], digest: bytes, do: Do) -> web.StreamResponse:
        self._forget_old()
        kept = self._kept[place] = _Answered(digest, time.monotonic())
        try:
            response = await do()
            if isinstance(response, web.Response) and response.status < 500 and isinstance(response.body, bytes):
                told = {name: value for name, value in response.headers.items() if name in ("Content-Type", "ETag")}
                kept.answer = (response.status, response.body, told)
        except Problem as problem:
            kept.problem = problem if problem.status < 500 else None
            raise
        finally:
            if kept.answer is None and kept.problem is None:
                self._kept.pop(place, None)
            kept.done.set()
        return response

    def _forget_old(self) -> None:
        while self._kept and (len(self._kept) >= KEPT or time.monotonic() - next(iter(self._kept.values())).at > SECONDS):
            self._kept.popitem(last=False)


ANSWERS: web.AppKey[Answers] = web.AppKey("answers", Answers)
