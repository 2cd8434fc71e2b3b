"""The line to Asterisk: ARI's events and requests over one websocket, with HTTP behind it. Nothing about calls in here.

Requests travel over the event websocket (`RESTRequest` out, `RESTResponse` back), where Asterisk carries them out strictly in
order at a fifth of what HTTP costs us. While there is no websocket they go out over HTTP, one at a time in each `lane`
(the caller's name for a thread of things that must keep their order), so that order holds across both ways. Strictly in order has a price:
one request that Asterisk cannot finish (a channel that is busy playing, say) holds up all behind it. A line that has not
answered for `STUCK_AFTER` is passed by over HTTP, lane by lane, until it answers again.

Three things are watched, because each fails without the others: the socket (a ping every 2 s, silence for 4.5 s ends it), the
flow of events (an event of our own, sent round through Asterisk every 5 s, has to come back over this very socket), and what a
call needs (`GET` of our application and of a channel, over HTTP, so that a lookup that hangs blocks no call).

Every request has a deadline, kept by one sweep rather than by a timer each. What comes back is a `Reply` or an `AriError`; the
errors' classes are what a caller can act on.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import re
import socket
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import structlog
from yarl import URL

from app.pbx import ari
from app.pbx.ari import (
    DEADLINE,
    Answer,
    AriError,
    AriLost,
    AriMalformed,
    AriRefused,
    AriReplaced,
    AriTimeout,
    AriTooBig,
    Done,
    Json,
    Reply,
    Request,
    anonymous,
    read_answer,
)
from app.pbx.http import Http
from app.pbx.probes import ECHO, ECHO_WITHIN, Probes

log = structlog.get_logger(__name__)

PING_EVERY = 2.0
SILENCE = 4.5  # seconds without a frame after which the socket is dead: a ping, and more than 2 s for its answer
SWEEP_EVERY = 0.25
STUCK_AFTER = 0.4  # seconds
TIMEOUTS_IN_A_ROW = 3  # after so many the socket is given up
BACKOFF = (0.05, 0.25, 0.5, 1.0, 1.5, 2.0)  # seconds before each attempt, with up to as much again by chance
STEADY_AFTER = 5.0  # seconds after which a connection counts as good
LATE_HANDSHAKE = 120.0  # seconds in which a handshake that we gave up on may still reach Asterisk
MAX_PENDING = 20_000
MIN_PASSWORD = 16


@dataclass(slots=True)
class _Pending:
    request: Request
    done: Done
    lane: str
    deadline: float


@dataclass(slots=True)
class LinkHealth:
    """How the line is: `up` the event socket, `reason` why not; `probe` what is wrong with the application's lookups, or "".

    `silent` is seconds since anything was heard, `pending` requests under way, `timeouts` how many were never answered.
    """

    up: bool
    reason: str
    probe: str
    silent: float
    pending: int
    timeouts: int
    reconnects: int


def weak_password(user: str, password: str) -> bool:
    """Whether a password is too short or a default."""
    return password in (user, "asterisk") or len(password) < MIN_PASSWORD


class AriLink:
    """One application's line to one Asterisk. `run()` keeps it up until it is cancelled or refused.

    `url` is that of Asterisk's HTTP server (`http://127.0.0.1:8088`). `on_event` gets each event as a dict, in order; `on_up` and
    `on_down(reason)` tell of the event socket; `probe_channel()` gives a live channel's id to probe with, or "".
    Raises `ValueError` for a weak password, `AriRefused` and `AriReplaced` out of `run()`.
    """

    def __init__(
        self,
        url: str,
        user: str,
        password: str,
        app: str,
        on_event: Callable[[dict[str, Any]], None],
        on_up: Callable[[], None],
        on_down: Callable[[str], None],
        probe_channel: Callable[[], str] = lambda: "",
    ) -> None:
        if weak_password(user, password):
            raise ValueError(f"the ARI password is weak: it must have {MIN_PASSWORD} characters or more and not be a default")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,40}", app):
            raise ValueError("the ARI application's name must be letters, digits, - and _, at most 40")
        self.app = app
        self._base = URL(url.rstrip("/") + "/ari/")
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {token}"}
        self._on_event, self._on_up, self._on_down = on_event, on_up, on_down
        self._http = Http(self._base)
        self._probes = Probes(app, self._http, self._send_ws, self.fail, probe_channel)
        self._ws: aiohttp.ClientWebSocketResponse[bool] | None = None
        self._pending: dict[str, _Pending] = {}
        self._out: deque[bytes] = deque()
        self._wake = asyncio.Event()
        self._lanes: dict[str, deque[tuple[Request, Done]]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._n = 0
        self._heard = 0.0
        self._stuck = False
        self._row = 0
        self._timeouts = 0
        self._reconnects = 0
        self._reason = "not connected yet"
        self._fatal: AriError | None = None
        self._given_up, self._given_up_at = 0, 0.0
        self.malformed = 0

    # ---- asking ------------------------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether the event socket is there."""
        return self._ws is not None

    def send(self, request: Request, done: Done, lane: str = "") -> None:
        """Send, and call `done` with what came of it, exactly once; order holds within a lane. Never blocks, never raises."""
        queue = self._lanes.get(lane)
        if queue is not None:
            queue.append((request, done))
        elif self._ws is not None and not (self._stuck and self._passes(lane)):
            self._send_ws(request, done, lane)
        elif self._http.session is None:
            done(AriLost("the line to Asterisk is closed"))
        else:
            self._lanes[lane] = deque(((request, done),))
            self._spawn(self._run_lane(lane))

    async def request(self, request: Request, lane: str = "") -> Reply:
        """As `send`, and wait for it: the reply, or the `AriError` raised."""
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.send(request, lambda answer: None if future.done() else future.set_result(answer), lane)
        answer = await future
        if isinstance(answer, AriError):
            raise answer
        return answer

    async def request_http(self, request: Request, seconds: float = DEADLINE) -> Reply:
        """A request over HTTP although the socket is up: for long answers, and for what may hang."""
        answer = await self._http.ask(request, seconds)
        if isinstance(answer, AriError):
            raise answer
        return answer

    async def fetch(self, path: str, seconds: float = DEADLINE) -> bytes:
        """A file, over HTTP; raises as `request`."""
        return await self._http.fetch(path, seconds)

    async def keep_filter(self, request: Request) -> None:
        """Set our application's event filter, unless it is so already; raises as `request`.

        Asterisk 22.10.1 frees the filter that is replaced although a GET of the application may just be reading it, and dies of that
        (within seconds, where both go on all the time). So it is replaced only where it differs, and never beside a probe of ours.
        Where the application cannot be looked at it stays as it is: the filter saves work, and nothing depends on it.
        """
        async with self._probes.looking:
            there = await self._http.ask(Request("GET", f"applications/{self.app}"), DEADLINE)
            if isinstance(there, AriRefused):
                raise there
            if isinstance(there, AriError) or _kinds(there.body, "events_disallowed") == _kinds(request.body, "disallowed"):
                return
            await self.request(request)

    def _passes(self, lane: str) -> bool:
        """Whether a lane may pass the stuck line: nothing of its own waits there."""
        return all(each.lane != lane for each in self._pending.values())

    def _send_ws(self, request: Request, done: Done, lane: str = "") -> None:
        if len(self._pending) >= MAX_PENDING:
            done(AriLost("too many requests under way"))
            return
        self._n += 1
        key = str(self._n)
        frame: dict[str, Any] = {
            "type": "RESTRequest",
            "transaction_id": key,
            "request_id": key,
            "method": request.method,
            "uri": request.path,
        }
        if request.query:
            frame["query_strings"] = [{"name": name, "value": value} for name, value in request.query]
        if request.body is not None:
            frame["content_type"] = "application/json"
            frame["message_body"] = orjson.dumps(request.body).decode()
        self._pending[key] = _Pending(request, done, lane, time.monotonic() + DEADLINE)
        self._out.append(orjson.dumps(frame))
        self._wake.set()

    async def _run_lane(self, lane: str) -> None:
        queue = self._lanes[lane]
        try:
            while queue:
                request, done = queue[0]
                answer = await self._http.ask(request, DEADLINE)
                queue.popleft()
                self._finish(done, answer)
        finally:
            del self._lanes[lane]
            for _, done in queue:
                self._finish(done, AriLost("the line to Asterisk is closed"))

    def _finish(self, done: Done, answer: Answer) -> None:
        try:
            done(answer)
        except Exception:
            log.exception("ari_answer_handler_failed")

    # ---- staying connected -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Connect, and connect again for ever; returns only by `AriRefused`, `AriReplaced` or cancellation."""
        connector = aiohttp.TCPConnector(limit=40, keepalive_timeout=10)
        timeout = aiohttp.ClientTimeout(total=DEADLINE)
        alone = aiohttp.TCPConnector(force_close=True)
        try:
            async with (
                aiohttp.ClientSession(headers=self._headers, connector=connector, timeout=timeout, trust_env=False) as session,
                aiohttp.ClientSession(headers=self._headers, connector=alone, timeout=timeout, trust_env=False) as events,
            ):
                self._http.session = session
                await self._keep_connected(events)
        finally:
            self._http.session = None
            self._drop_pending("the line to Asterisk is closed")
            for task in list(self._tasks):
                task.cancel()

    async def _keep_connected(self, session: aiohttp.ClientSession) -> None:
        attempt = 0
        while True:
            try:
                began = time.monotonic()
                await self._one_connection(session)
                if time.monotonic() - began > STEADY_AFTER:
                    attempt = 0
            except AriError as error:
                if isinstance(error, AriRefused | AriReplaced):
                    raise
                if str(error) != self._reason:
                    log.warning("ari_not_connected", reason=str(error), attempt=attempt)
                self._reason = str(error)
            pause = BACKOFF[min(attempt, len(BACKOFF) - 1)]
            attempt += 1
            await asyncio.sleep(pause * (1 + random.random()))

    async def _one_connection(self, session: aiohttp.ClientSession) -> None:
        """One life of the socket; raises `AriError` when it could not be opened, returns when it ended."""
        ws = await self._open(session)
        self._ws, self._reason, self._heard, self._row = ws, "", time.monotonic(), 0
        self._probes.begin()
        self._stuck = False
        self._out.clear()
        reason = "the connection was closed"
        helpers = [asyncio.create_task(job(ws)) for job in (self._write, self._watch, self._probes.echo_round, self._probes.round)]
        try:
            log.info("ari_connected", app=self.app)
            self._on_up()
            reader = asyncio.create_task(self._read(ws))
            helpers.append(reader)
            done, _ = await asyncio.wait(helpers, return_when=asyncio.FIRST_COMPLETED)
            reason = next((str(t.exception() or t.result()) for t in done if not t.cancelled()), reason)
        finally:
            self._ws = None
            for task in helpers:
                task.cancel()
            await asyncio.gather(*helpers, return_exceptions=True)
            self._reconnects += 1
            self._reason = reason
            self._drop_pending(reason)
            self._on_down(reason)
            with contextlib.suppress(Exception):
                await ws.close()
        log.warning("ari_lost", reason=reason)
        if self._fatal is not None:
            raise self._fatal

    async def _open(self, session: aiohttp.ClientSession) -> aiohttp.ClientWebSocketResponse[bool]:
        address = (self._base / "events").with_query(app=self.app, subscribeAll="false")
        try:
            async with asyncio.timeout(DEADLINE):
                return await session.ws_connect(
                    address.with_scheme("wss" if address.scheme == "https" else "ws"),
                    autoping=False,
                    autoclose=False,
                    timeout=aiohttp.ClientWSTimeout(ws_close=0.3),
                    max_msg_size=ari.MAX_ANSWER,
                    decode_text=False,
                )
        except aiohttp.WSServerHandshakeError as error:
            if error.status in (401, 403):
                raise AriRefused(f"Asterisk refuses our ARI user ({error.status}): check user, password and rights", error.status) from None
            raise AriLost(f"Asterisk answers {error.status} instead of opening the event socket", error.status) from None
        except TimeoutError:
            self._given_up, self._given_up_at = self._given_up + 1, time.monotonic()
            raise AriLost("Asterisk does not answer") from None
        except (aiohttp.ClientError, OSError) as error:
            raise AriLost(f"cannot connect to Asterisk: {type(error).__name__}") from None

    def fail(self, error: AriError) -> None:
        """End the line for good: `run()` raises this error."""
        self._fatal = error
        self.reconnect(str(error))

    def reconnect(self, reason: str) -> None:
        """Give this socket up; the next one is opened at once."""
        self._give_up = reason
        self._wake.set()

    _give_up = ""

    # ---- the jobs of one socket: each returns the reason for which it ended the socket -----------------------------------

    async def _write(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> str:
        self._give_up = ""
        while True:
            await self._wake.wait()
            self._wake.clear()
            if self._give_up:
                return self._give_up
            with _as_one_packet(ws) if len(self._out) > 1 else contextlib.nullcontext():
                while self._out:
                    await ws.send_frame(self._out.popleft(), aiohttp.WSMsgType.TEXT)

    async def _read(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> str:
        while True:
            message = await ws.receive()
            self._heard = time.monotonic()
            kind = message.type
            if kind is aiohttp.WSMsgType.TEXT:
                self._take(message.data)
            elif kind is aiohttp.WSMsgType.PING:
                await ws.pong(message.data)
            elif kind is aiohttp.WSMsgType.PONG:
                continue
            elif kind is aiohttp.WSMsgType.ERROR:
                return self._reading_failed(message.data)
            else:
                return "Asterisk closed the event socket"

    def _reading_failed(self, error: object) -> str:
        too_big = isinstance(error, aiohttp.WebSocketError) and error.code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
        if too_big and self._pending:
            first = self._pending.pop(next(iter(self._pending)))
            self._finish(first.done, AriTooBig(f"{first.request.method} {anonymous(first.request.path)}: more than {ari.MAX_ANSWER} bytes"))
        return "a message larger than we read" if too_big else f"the event socket broke: {type(error).__name__}"

    def _take(self, raw: Any) -> None:
        try:
            message = orjson.loads(raw)
            kind = message["type"]
        except (orjson.JSONDecodeError, TypeError, KeyError):
            self.malformed += 1
            return
        if kind == "RESTResponse":
            self._take_answer(message)
        elif kind == "ApplicationReplaced" and message.get("application") == self.app:
            self._replaced()
        elif kind == "ChannelUserevent" and message.get("eventname") == ECHO:
            self._probes.echo_back(message)
        else:
            try:
                self._on_event(message)
            except Exception:
                log.exception("ari_event_handler_failed", kind=kind)

    def _replaced(self) -> None:
        """Somebody registered under our name: a handshake of ours that we gave up on and that came through late, or else another."""
        if self._given_up and time.monotonic() - self._given_up_at < LATE_HANDSHAKE:
            self._given_up -= 1
            self.reconnect("a handshake that we had given up on took our place")
        else:
            self.fail(AriReplaced("another process took our ARI application"))

    def _take_answer(self, message: dict[str, Any]) -> None:
        self._stuck = False
        pending = self._pending.pop(str(message.get("request_id")), None)
        if pending is None:
            return
        self._row = 0
        status = message.get("status_code")
        raw = message.get("message_body")
        if not isinstance(status, int) or not (raw is None or isinstance(raw, str)):
            self._finish(pending.done, AriMalformed(f"{pending.request.method} {anonymous(pending.request.path)}: not an ARI answer"))
            return
        self._finish(pending.done, read_answer(status, raw, pending.request))

    async def _watch(self, ws: aiohttp.ClientWebSocketResponse[bool]) -> str:
        """Pings, silence and deadlines, in one loop."""
        next_ping = 0.0
        while True:
            now = time.monotonic()
            if now - self._heard > SILENCE:
                return f"nothing heard from Asterisk for {now - self._heard:.1f} s"
            if self._expire(now) >= TIMEOUTS_IN_A_ROW:
                return f"{self._row} requests in a row without an answer"
            if self._probes.echo_lost(now):
                return f"an event of our own did not come back in {ECHO_WITHIN:g} s"
            if now >= next_ping:
                next_ping = now + PING_EVERY
                await ws.ping()
            await asyncio.sleep(SWEEP_EVERY)

    def _expire(self, now: float) -> int:
        """Fail what is past its deadline (the oldest come first); how many requests in a row had no answer."""
        while self._pending:
            key = next(iter(self._pending))
            pending = self._pending[key]
            if pending.deadline > now:
                self._stuck = self._stuck or now > pending.deadline - DEADLINE + STUCK_AFTER
                break
            del self._pending[key]
            self._stuck = True
            self._timeouts += 1
            self._row += 1
            where = f"{pending.request.method} {anonymous(pending.request.path)}"
            self._finish(pending.done, AriTimeout(f"{where}: no answer in {DEADLINE:g} s"))
        return self._row

    # ---- the rest ----------------------------------------------------------------------------------------------------

    def health(self) -> LinkHealth:
        """How the line is just now."""
        silent = time.monotonic() - self._heard if self._heard else 0.0
        return LinkHealth(
            self.up, self._reason, self._probes.says, silent, len(self._pending), self._timeouts + self._http.timeouts, self._reconnects
        )

    def _drop_pending(self, reason: str) -> None:
        pending, self._pending = self._pending, {}
        self._out.clear()
        for each in pending.values():
            self._finish(each.done, AriLost(reason))

    def _spawn(self, job: Any) -> None:
        task = asyncio.create_task(job)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _kinds(body: Json, name: str) -> set[str] | None:
    """The types of events in one part of a filter; None where there is no such part."""
    part = body.get(name) if isinstance(body, dict) else None
    return {str(each.get("type")) for each in part if isinstance(each, dict)} if isinstance(part, list) else None


@contextlib.contextmanager
def _as_one_packet(ws: aiohttp.ClientWebSocketResponse[bool]) -> Iterator[None]:
    """Let frames leave together: each packet on its own costs both sides a wake-up."""
    line = ws.get_extra_info("socket")
    if line is None or not hasattr(socket, "TCP_CORK"):
        yield
        return
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 1)
    try:
        yield
    finally:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_CORK, 0)
