"""Carrying out `StartAction`: one request to another system under a budget, answered by exactly one event.

Each action has a bulkhead (`run.concurrency`, beyond which it is refused as `busy`) and a circuit breaker of its own, so that
one slow system costs only its own actions. All share one HTTP session that follows no redirect, keeps no cookie, trusts no
proxy from the environment and connects only where the guard lets it. When the budget is spent the request is cut off, so
that a late answer is never read: the core has moved on. A repeated command with a request id that is still under way is
the same request. On `close` what is under way is dropped without an event; the next process asks again.
"""

from __future__ import annotations

import asyncio
import time
import traceback
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import aiohttp
import structlog

from app.core.commands import Command, StartAction
from app.core.events import ActionFailed, ActionSucceeded, Event

from .breaker import Breaker
from .credentials import Credentials
from .extract import MAX_BODY, Malformed, extract
from .files import MAX_BUDGET, ActionDef
from .guard import Forbidden, Guard, Origin
from .prepare import HttpRequest, Prepared
from .templates import BadValue
from .values import TooBig

log = structlog.get_logger()

KEEP_ALIVE: Final = 15.0
RETRY_PAUSE: Final = 0.05
_PASSING: Final = frozenset({502, 503, 504})


class Failed(Exception):
    """The request failed; `reason` as in `ActionFailed`. `passing`: asking again may help; `system_at_fault`: the breaker counts it."""

    def __init__(self, reason: str, detail: str = "", passing: bool = False, system_at_fault: bool = True) -> None:
        super().__init__(detail)
        self.reason, self.detail, self.passing, self.system_at_fault = reason, detail, passing, system_at_fault


class _Line:
    """One action's way out: what it is, its breaker, and what became of its requests."""

    __slots__ = ("barred", "breaker", "counts", "in_flight", "prepared")

    def __init__(self, prepared: Prepared, breaker: Breaker, barred: str) -> None:
        self.prepared, self.breaker, self.barred = prepared, breaker, barred
        self.in_flight = 0
        self.counts: Counter[str] = Counter()


class Actions:
    """The adapter of `StartAction`. Raises `ValueError` at once for credentials that are missing; use within a running loop."""

    def __init__(
        self,
        definitions: Mapping[str, ActionDef],
        credentials: Mapping[str, Credentials],
        post: Callable[[Event], None],
        origins: Iterable[Origin] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._post, self._clock = post, clock
        self._guard = Guard(origins)
        self._lines: dict[str, _Line] = {}
        for name, definition in definitions.items():
            prepared = Prepared(definition, credentials)
            self._lines[name] = _Line(prepared, Breaker(clock), self._guard.admit(prepared.origin))
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._session: aiohttp.ClientSession | None = None

    def handles(self, command: Command) -> bool:
        """Whether the command is one of ours."""
        return isinstance(command, StartAction)

    def carry_out(self, command: StartAction) -> None:
        """Begin; returns at once. The event comes through `post`, also for what is refused here."""
        if command.request in self._tasks:
            return
        line = self._lines.get(command.action)
        if line is None:
            self._post(ActionFailed(command.call, command.request, "bad_request", f"there is no action {command.action!r}"))
            return
        refusal = self._refusal(line)
        if refusal is not None:
            self._fail(line, command, refusal, 0)
            return
        line.in_flight += 1
        self._tasks[command.request] = asyncio.get_running_loop().create_task(self._run(line, command))

    async def close(self) -> None:
        """Drop what is under way and close all connections."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
            self._session = None
        await self._guard.resolver.close()

    def health(self) -> dict[str, dict[str, Any]]:
        """For each action: `breaker` (closed, open, half_open), `in_flight`, `barred` (why it is forbidden), `counts` by outcome."""
        return {
            name: {"breaker": line.breaker.state, "in_flight": line.in_flight, "barred": line.barred, "counts": dict(line.counts)}
            for name, line in self._lines.items()
        }

    def _refusal(self, line: _Line) -> Failed | None:
        if line.barred:
            return Failed("guard", line.barred)
        if line.in_flight >= line.prepared.definition.run.concurrency:
            return Failed("busy", f"{line.in_flight} requests are under way")
        if not line.breaker.admit():
            return Failed("breaker_open", "the system failed repeatedly and is left alone for a while")
        return None

    async def _run(self, line: _Line, command: StartAction) -> None:
        began = self._clock()
        budget = min(command.budget, MAX_BUDGET)
        outcome: Failed | dict[str, Any]
        try:
            async with asyncio.timeout(budget):
                outcome = await self._attempts(line.prepared, command)
        except TimeoutError:
            outcome = Failed("timeout", f"no answer within {budget:g} s")
        except Failed as failure:
            outcome = failure
        except asyncio.CancelledError:
            line.breaker.abandoned()
            raise
        except Exception as error:  # one event in every case: the caller waits for it
            place = traceback.extract_tb(error.__traceback__)[-1]  # no locals: they hold the caller's data and our secrets
            log.error("action_broke", action=command.action, request=command.request, error=type(error).__name__, at=str(place))
            outcome = Failed("malformed", type(error).__name__)
        finally:
            line.in_flight -= 1
            del self._tasks[command.request]
        ms = round((self._clock() - began) * 1000)
        if isinstance(outcome, Failed):
            line.breaker.failed() if outcome.system_at_fault else line.breaker.abandoned()
            self._fail(line, command, outcome, ms)
        else:
            line.breaker.succeeded()
            line.counts["succeeded"] += 1
            self._post(ActionSucceeded(command.call, command.request, outcome, ms))

    async def _attempts(self, prepared: Prepared, command: StartAction) -> dict[str, Any]:
        try:
            request = prepared.request(command.sent, command.request)
        except BadValue as error:
            raise Failed("bad_request", str(error), system_at_fault=False) from error
        for repeats_left in range(prepared.definition.run.retry, -1, -1):
            try:
                return await self._ask(prepared, request)
            except Failed as failure:
                if not failure.passing or not repeats_left:
                    raise
                await asyncio.sleep(RETRY_PAUSE)
        raise AssertionError("unreachable")

    async def _ask(self, prepared: Prepared, request: HttpRequest) -> dict[str, Any]:
        try:
            async with self._http().request(
                request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
            ) as response:
                if not 200 <= response.status < 300:
                    response.close()
                    passing = response.status in _PASSING
                    at_fault = response.status >= 500 or response.status == 429 or response.status < 400
                    raise Failed("status", f"HTTP {response.status}", passing, at_fault)
                body = await _read(response)
        except aiohttp.InvalidURL as error:
            raise Failed("guard", "the host is written in a way that hides its address", system_at_fault=False) from error
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, Forbidden):
                raise Failed("guard", str(error.os_error), system_at_fault=False) from error
            raise Failed("refused", "the name of the host is not known", passing=True) from error
        except aiohttp.ClientPayloadError as error:
            raise Failed("malformed", "the body broke off") from error
        except aiohttp.ClientResponseError as error:
            raise Failed("malformed", "not HTTP") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed("refused", type(error).__name__, passing=True) from error
        except TooBig as error:
            raise Failed("too_big", str(error)) from error
        except Malformed as error:
            raise Failed("malformed", str(error)) from error
        try:
            return extract(body, prepared.attributes)
        except TooBig as error:
            raise Failed("too_big", str(error)) from error
        except Malformed as error:
            raise Failed("malformed", str(error)) from error

    def _http(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._guard.resolver, limit=0, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=30, enable_cleanup_closed=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": "callwright"},
            )
        return self._session

    def _fail(self, line: _Line, command: StartAction, failure: Failed, ms: int) -> None:
        line.counts[failure.reason] += 1
        log.warning("action_failed", action=command.action, request=command.request, reason=failure.reason, detail=failure.detail, ms=ms)
        self._post(ActionFailed(command.call, command.request, failure.reason, failure.detail, ms))


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, at most `MAX_BODY` bytes both on the wire and unpacked; raises `TooBig` or `Malformed`."""
    if (response.content_length or 0) > MAX_BODY:
        response.close()
        raise TooBig(f"the body has more than {MAX_BODY} bytes")
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            response.close()
            raise TooBig(f"the body has more than {MAX_BODY} bytes")
    body = b"".join(chunks)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    return body if encoding == "identity" else _unpack(body, encoding)


def _unpack(body: bytes, encoding: str) -> bytes:
    """A body that was packed although we asked for it plain."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Malformed("the body is packed in a way that was not asked for")
    unpacker = zlib.decompressobj(wbits=47)
    try:
        plain = unpacker.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise Malformed("the packed body is damaged") from error
    if len(plain) > MAX_BODY:
        raise TooBig(f"the unpacked body has more than {MAX_BODY} bytes")
    if not unpacker.eof:
        raise Malformed("the packed body breaks off")
    return plain
