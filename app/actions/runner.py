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
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

import structlog

from app.core.commands import Command, StartAction
from app.core.events import ActionFailed, ActionSucceeded, Event

from .breaker import Breaker
from .credentials import Credentials
from .extract import Malformed, extract
from .failures import Failed
from .files import MAX_BUDGET, ActionDef
from .guard import Guard, Origin
from .http import Http, HttpRequest
from .prepare import Prepared
from .templates import BadValue
from .tokens import Tokens
from .values import TooBig

log = structlog.get_logger()

RETRY_PAUSE: Final = 0.05
_PASSING: Final = frozenset({502, 503, 504})


class _Line:
    """One action's way out: what it is, its breaker, and what became of its requests."""

    __slots__ = ("barred", "breaker", "counts", "in_flight", "prepared", "tokens")

    def __init__(self, prepared: Prepared, breaker: Breaker, barred: str, tokens: Tokens | None) -> None:
        self.prepared, self.breaker, self.barred, self.tokens = prepared, breaker, barred, tokens
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
        self._http = Http(self._guard)
        self._tokens: dict[str, Tokens] = {}
        self._lines: dict[str, _Line] = {}
        for name, definition in definitions.items():
            prepared = Prepared(definition, credentials)
            barred = next(filter(None, map(self._guard.admit, prepared.origins)), "")
            self._lines[name] = _Line(prepared, Breaker(clock), barred, self._tokens_of(prepared))
        self._tasks: dict[str, asyncio.Task[None]] = {}

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
        await asyncio.gather(*(tokens.close() for tokens in self._tokens.values()))
        await self._http.close()
        await self._guard.resolver.close()

    def health(self) -> dict[str, dict[str, Any]]:
        """For each action: `breaker` (closed, open, half_open), `in_flight`, `barred` (why it is forbidden), `counts` by outcome."""
        return {
            name: {"breaker": line.breaker.state, "in_flight": line.in_flight, "barred": line.barred, "counts": dict(line.counts)}
            for name, line in self._lines.items()
        }

    def _tokens_of(self, prepared: Prepared) -> Tokens | None:
        """The token that all actions share which ask for it in the same way."""
        if prepared.grant is None:
            return None
        return self._tokens.setdefault(prepared.definition.auth.model_dump_json(), Tokens(prepared.grant, self._http, self._clock))

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
                outcome = await self._attempts(line, command)
        except TimeoutError:
            missing = "token" if line.tokens is not None and line.tokens.asking else "answer"
            outcome = Failed("timeout", f"no {missing} within {budget:g} s")
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

    async def _attempts(self, line: _Line, command: StartAction) -> dict[str, Any]:
        prepared = line.prepared
        try:
            request = prepared.request(command.params, command.request, command.call)
        except BadValue as error:
            raise Failed("bad_request", str(error), system_at_fault=False) from error
        for repeats_left in range(prepared.definition.run.retry, -1, -1):
            try:
                return await self._ask(line, request)
            except Failed as failure:
                if not failure.passing or not repeats_left:
                    raise
                await asyncio.sleep(RETRY_PAUSE)
        raise AssertionError("unreachable")

    async def _ask(self, line: _Line, request: HttpRequest) -> dict[str, Any]:
        if line.tokens is None:
            answer = await self._http.ask(request)
        else:
            token = await line.tokens.bearer()
            request.headers["Authorization"] = f"Bearer {token}"
            answer = await self._http.ask(request)
            if answer.status == 401:
                request.headers["Authorization"] = f"Bearer {await line.tokens.instead_of(token)}"
                answer = await self._http.ask(request)
        if answer.body is None:
            passing = answer.status in _PASSING
            at_fault = answer.status >= 500 or answer.status == 429 or answer.status < 400
            raise Failed("status", f"HTTP {answer.status}", passing, at_fault)
        try:
            return extract(answer.body, line.prepared.attributes)
        except TooBig as error:
            raise Failed("too_big", str(error)) from error
        except Malformed as error:
            raise Failed("malformed", str(error)) from error

    def _fail(self, line: _Line, command: StartAction, failure: Failed, ms: int) -> None:
        line.counts[failure.reason] += 1
        log.warning("action_failed", action=command.action, request=command.request, reason=failure.reason, detail=failure.detail, ms=ms)
        self._post(ActionFailed(command.call, command.request, failure.reason, failure.detail, ms))
