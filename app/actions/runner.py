"""Carrying out `StartAction`: one request to another system under a budget, answered by exactly one event.

Each action has a bulkhead (`run.concurrency`, beyond which it is refused as `busy`) and a circuit breaker of its own, so that one
slow system costs only its own actions. What goes over HTTP shares one session (`app.actions.http`). When the budget is spent the
request is cut off, so that a late answer is never read: the core has moved on. A system that says when to come back (429 or 503
with Retry-After) is left alone until then by all calls; one whose budget lasts as long waits, any other fails at once. A repeated
command with a request id that is still under way is the same request. On `close` what is under way is dropped without an event;
the next process asks again.
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

from . import templates
from .breaker import Breaker
from .credentials import Credentials
from .failures import Failed
from .guard import Guard, Origin
from .http import Answer, Http, HttpRequest, redirected
from .method import MAX_BUDGET, ActionDef, find_problem, finder_of
from .prepare import Prepared
from .templates import BadValue
from .tokens import Tokens

log = structlog.get_logger()

RETRY_PAUSE: Final = 0.05
LONGEST_REST: Final = 60.0
"""Seconds that a system is left alone at most, whatever it asks for."""
_ELSEWHERE: Final = frozenset({301, 302, 303, 307, 308})


class _Line:
    """One action's way out: what it is, its breaker, and what became of its requests."""

    __slots__ = ("barred", "breaker", "closed_until", "counts", "finder", "in_flight", "prepared", "tokens")

    def __init__(self, prepared: Prepared, breaker: Breaker, barred: str, tokens: Tokens | None) -> None:
        self.prepared, self.breaker, self.barred, self.tokens = prepared, breaker, barred, tokens
        self.finder: _Line | None = None
        self.closed_until = 0.0
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
        for name, definition in definitions.items():
            wrong = find_problem(definition, definitions)
            if wrong:
                raise ValueError(f"{name}: run.find: {wrong}")
            self._lines[name].finder = self._lines.get(finder_of(definition))
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
        await asyncio.gather(*(line.prepared.table.close() for line in self._lines.values() if line.prepared.table is not None))
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
                outcome = await self._attempts(line, command, asyncio.get_running_loop().time() + budget)
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

    async def _attempts(self, line: _Line, command: StartAction, until: float) -> dict[str, Any]:
        """Ask, and ask again where that may help; `until` in the loop's time."""
        repeats, again = line.prepared.definition.run.retry, 0
        while True:
            if line.closed_until:
                await self._turn(line, until)
            try:
                found = await self._find(line, command, until) if line.finder is not None else None
                return found if found is not None else await self._ask(line, command.sent, command, until)
            except Failed as failure:
                if failure.wait is not None:
                    line.closed_until = self._clock() + min(failure.wait, LONGEST_REST)
                    if again < (repeats if failure.passing else max(repeats, 1)):
                        again += 1
                        continue
                    raise
                if not failure.passing or again >= repeats:
                    raise
                again += 1
                await asyncio.sleep(RETRY_PAUSE)

    async def _turn(self, line: _Line, until: float) -> None:
        """Wait as long as the system asked to be left alone; raises `Failed` at once where the budget does not last as long."""
        rest = line.closed_until - self._clock()
        if rest <= 0:
            return
        if rest >= until - asyncio.get_running_loop().time():
            raise Failed("status", f"HTTP 429: the system asks to be left alone for {rest:.1f} s", system_at_fault=False)
        await asyncio.sleep(rest)

    async def _find(self, line: _Line, command: StartAction, until: float) -> dict[str, Any] | None:
        """What is there already of what this action would create."""
        finder, find = line.finder, line.prepared.definition.run.find
        assert finder is not None
        assert find is not None
        ours = line.prepared.values(command.sent, command.request, command.call)
        params = {name: ours[name] for name in finder.prepared.definition.parameters if name in command.sent}
        params |= {name: templates.body(source, set(ours))(ours) for name, source in find.parameters.items()}
        found = await self._ask(finder, params, command, until)
        return {name: found[name] for name in line.prepared.definition.response} if found[find.found] else None

    async def _ask(self, line: _Line, params: Mapping[str, Any], command: StartAction, until: float) -> dict[str, Any]:
        prepared = line.prepared
        try:
            if prepared.table is not None:
                left = until - asyncio.get_running_loop().time()
                return prepared.read(await prepared.table.find(prepared.values(params, command.request, command.call), left))
            answer = await self._send(line, prepared.request(params, command.request, command.call))
            return prepared.outcome(answer)
        except BadValue as error:
            raise Failed("bad_request", str(error), system_at_fault=False) from error

    async def _send(self, line: _Line, request: HttpRequest) -> Answer:
        """The answer, with a token where one is needed; a token that is refused is replaced once."""
        if line.tokens is None:
            return await self._follow(line, request)
        token = await line.tokens.bearer()
        request.headers["Authorization"] = f"Bearer {token}"
        answer = await self._follow(line, request)
        if answer.status != 401:
            return answer
        request.headers["Authorization"] = f"Bearer {await line.tokens.instead_of(token)}"
        return await self._follow(line, request)

    async def _follow(self, line: _Line, request: HttpRequest) -> Answer:
        """The answer, from another address where the action follows redirects; each is judged as the first one was."""
        answer = await self._http.ask(request, line.prepared.errors_too)
        for _ in range(line.prepared.redirects):
            if answer.status not in _ELSEWHERE:
                return answer
            request = redirected(request, answer.headers.get("Location", ""), line.prepared.proof)
            barred = self._guard.admit(request.url)
            if barred:
                raise Failed("guard", f"a redirect: {barred}", system_at_fault=False)
            answer = await self._http.ask(request, line.prepared.errors_too)
        return answer

    def _fail(self, line: _Line, command: StartAction, failure: Failed, ms: int) -> None:
        line.counts[failure.reason] += 1
        log.warning("action_failed", action=command.action, request=command.request, reason=failure.reason, detail=failure.detail, ms=ms)
        self._post(ActionFailed(command.call, command.request, failure.reason, failure.detail, ms))
