"""An Asterisk that is not there: ARI over real sockets, with doors through which a test makes it misbehave.

What it does by itself is what Asterisk 22 was seen to do with our requests: the statuses, the order of events, ids that are taken,
a channel that cannot be joined before its `StasisStart`. Requests over the event socket are carried out strictly in order; over
HTTP they run side by side. Nothing is timed, except where a door says so.

Doors: `rules` (first match wins: a status, raw bytes, a delay, silence), `inject` (any event), `drop` (clean, rst, half_open),
`requests` (all that was asked), `arrive`, `answer_leg`, `ring_leg`, `end`, `restart`, `reset`.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import struct
from collections.abc import AsyncIterator, Container
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from aiohttp import WSMsgType, web

USER, PASSWORD, APP = "callwright", "a-password-of-many-letters", "callwright"
EVENT_SOURCES = {
    "channel:{channel}": 200,
    "channel:{channel},channel:{channel}": 200,
    "bridge:{bridge}": 200,
    "channel:": 200,
    "bridge:": 200,
    "channel:nobody": 422,
    "bridge:{channel}": 422,
    "channel:{bridge}": 422,
    "endpoint:PJSIP/nobody": 422,
    "channel:{channel},channel:nobody": 422,
    "channel:nobody,nonsense:{channel}": 422,
    "channel:{channel},nonsense:{channel}": 400,
    "channel:{channel},": 400,
    "nonsense:{channel}": 400,
    "Channel:{channel}": 400,
    " channel:{channel}": 400,
    "{channel}": 400,
    "": 400,
}
"""What a subscription to event sources is answered with, where that channel and that bridge are there and nothing else is."""


@dataclass
class Rule:
    """What to answer instead. `path` is a regular expression on the path under /ari/; `times` None is for ever."""

    method: str
    path: str
    status: int = 200
    body: bytes = b""
    delay: float = 0.0
    silent: bool = False
    only: str = ""
    times: int | None = None

    def fits(self, method: str, path: str, way: str) -> bool:
        """Whether this rule is about that request; `way` is ws or http."""
        return self.method in (method, "*") and (not self.only or self.only == way) and re.fullmatch(self.path, path) is not None


@dataclass
class Asked:
    """One request that came in, and which way: `ws` or `http`."""

    way: str
    method: str
    path: str
    query: dict[str, str]
    body: Any


@dataclass
class FakeAri:
    """The server's state and its doors."""

    port: int = 0
    channels: dict[str, dict[str, Any]] = field(default_factory=dict)
    bridges: dict[str, dict[str, Any]] = field(default_factory=dict)
    playbacks: dict[str, str] = field(default_factory=dict)
    recordings: dict[str, str] = field(default_factory=dict)
    stored: dict[str, bytes] = field(default_factory=dict)
    variables: dict[tuple[str, str], str] = field(default_factory=dict)
    in_stasis: set[str] = field(default_factory=set)
    rules: list[Rule] = field(default_factory=list)
    requests: list[Asked] = field(default_factory=list)
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    filters: list[dict[str, Any]] = field(default_factory=list)
    opened: int = 0
    refuse: int = 0
    password: str = PASSWORD
    frozen: bool = False
    deaf: bool = False
    hold_stasis_start: bool = False
    startup: datetime = field(default_factory=lambda: datetime(2026, 1, 1, tzinfo=UTC))
    clock: int = 0

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.port}"

    # ---- doors -------------------------------------------------------------------------------------------------------

    def reset(self) -> None:
        """No rules, nothing asked."""
        self.rules.clear()
        self.requests.clear()
        self.frozen = self.deaf = self.hold_stasis_start = False
        self.refuse = 0

    def asked(self, method: str, path: str, way: str = "") -> list[Asked]:
        """The requests like this so far."""
        return [r for r in self.requests if r.method == method and re.fullmatch(path, r.path) and way in ("", r.way)]

    def stamp(self) -> str:
        """A time, later than the one before."""
        self.clock += 1
        return (self.startup + timedelta(milliseconds=self.clock)).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"

    async def inject(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Send one event."""
        event = {"type": kind, "timestamp": self.stamp(), "application": APP, "asterisk_id": "fake", **fields}
        await self.send_raw(json.dumps(event).encode())
        return event

    async def send_raw(self, raw: bytes) -> None:
        """Send these bytes as one text message."""
        if not self.frozen:
            for ws in self.sockets:
                await ws.send_frame(raw, WSMsgType.TEXT)

    async def drop(self, how: str) -> None:
        """End the event socket: `clean` (close handshake), `rst`, or `half_open` (open, and never a word again)."""
        if how == "half_open":
            self.frozen = True
            return
        for ws in list(self.sockets):
            if how == "clean":
                await ws.close()
            else:
                self._abort(ws)

    def _abort(self, ws: web.WebSocketResponse) -> None:
        transport = ws._req.transport if ws._req is not None else None  # type: ignore[attr-defined]
        assert transport is not None
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()

    async def arrive(self, channel: str, *args: str, tell: bool = True, state: str = "Ring") -> dict[str, Any]:
        """A caller enters the application; `tell` False: nobody is told."""
        body = self._channel(channel, state, APP, *args)
        self.channels[channel] = body
        self.in_stasis.add(channel)
        if tell:
            await self.inject("StasisStart", args=list(args), channel=dict(body))
        return body

    async def ring_leg(self, leg: str) -> None:
        """The agent's phone rings."""
        self.channels[leg]["state"] = "Ringing"
        await self.inject("ChannelStateChange", channel=dict(self.channels[leg]))
        await self.inject("Dial", peer=dict(self.channels[leg]), dialstatus="RINGING")

    async def answer_leg(self, leg: str) -> None:
        """The agent answers."""
        self.channels[leg]["state"] = "Up"
        await self.inject("ChannelStateChange", channel=dict(self.channels[leg]))
        await self.inject("Dial", peer=dict(self.channels[leg]), dialstatus="ANSWER")

    async def end(self, channel: str, cause: int = 16, soft: bool = False, tell: bool = True) -> None:
        """A channel is hung up, by its own side or (`soft`) by a request."""
        body = self.channels.pop(channel)
        self.in_stasis.discard(channel)
        for bridge in self.bridges.values():
            if channel in bridge["channels"]:
                bridge["channels"].remove(channel)
        if not tell:
            return
        request: dict[str, Any] = {"cause": 32, "soft": True} if soft else {"cause": cause}
        await self.inject("ChannelHangupRequest", channel=body, **request)
        for recording in [each for each, of in self.recordings.items() if of == channel]:
            await self.recorded(recording)
        await self.inject("StasisEnd", channel=body)
        await self.inject("ChannelDestroyed", channel=body, cause=cause, cause_txt="")

    async def finish(self, playback: str, state: str = "done") -> None:
        """A playback ends."""
        channel = self.playbacks.pop(playback)
        await self.inject("PlaybackFinished", playback={"id": playback, "state": state, "target_uri": f"channel:{channel}"})

    async def recorded(self, recording: str, content: bytes = b"RIFF", failed: bool = False) -> None:
        """A recording ends, and is stored unless it failed."""
        channel = self.recordings.pop(recording)
        told = {"name": recording, "format": "wav", "target_uri": f"channel:{channel}"}
        if failed:
            await self.inject("RecordingFailed", recording={**told, "state": "failed", "cause": "disk"})
            return
        self.stored[recording] = content
        await self.inject(
            "RecordingFinished", recording={**told, "state": "done", "duration": 3, "talking_duration": 2, "silence_duration": 1}
        )

    def restart(self) -> None:
        """Asterisk began anew: nothing of before is left."""
        self.channels.clear()
        self.bridges.clear()
        self.playbacks.clear()
        self.in_stasis.clear()
        self.startup += timedelta(days=1)

    # ---- what it does by itself ----------------------------------------------------------------------------------------

    def _channel(self, ident: str, state: str, app: str, *args: str) -> dict[str, Any]:
        return {
            "id": ident,
            "name": f"PJSIP/trunk-{ident}",
            "state": state,
            "caller": {"name": "Ada", "number": "4930123456"},
            "connected": {"name": "", "number": ""},
            "dialplan": {"context": "in", "exten": "1000", "priority": 2, "app_name": "Stasis", "app_data": ",".join((app, *args))},
            "creationtime": self.stamp(),
            "language": "en",
        }

    async def carry_out(self, asked: Asked) -> tuple[int, Any]:
        """Status and body of one request, and what follows from it."""
        parts = asked.path.split("/")
        match asked.method, parts:
            case "GET", ["asterisk", "info"]:
                return 200, {"status": {"startup_time": self.startup.strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "+0000"}}
            case "GET", ["channels"]:
                return 200, list(self.channels.values())
            case "GET", ["bridges"]:
                return 200, list(self.bridges.values())
            case "GET", ["applications", name]:
                silenced = self.filters[-1]["disallowed"] if self.filters else []
                return 200, {"name": name, "channel_ids": sorted(self.in_stasis), "events_allowed": [], "events_disallowed": silenced}
            case "PUT", ["applications", name, "eventFilter"]:
                self.filters.append(asked.body)
                return 200, {"name": name}
            case "POST", ["applications", name, "subscription"]:
                return self._on_subscription(name, asked.query.get("eventSource"))
            case "POST", ["events", "user", name]:
                if not self.deaf:
                    await self.inject("ChannelUserevent", eventname=name, userevent=asked.body["variables"])
                return 204, None
            case "GET" | "DELETE", ["playbacks", ident]:
                return await self._on_playback(asked.method, ident)
            case "GET", ["recordings", "stored"]:
                return 200, [{"name": name, "format": "wav"} for name in self.stored]
            case _, ["recordings", where, ident, *rest]:
                return await self._on_recording(asked.method, where, ident, rest)
            case _, ["bridges", *rest]:
                return await self._on_bridge(asked, rest)
            case "POST", ["channels", "externalMedia"]:
                return await self._on_media(asked.query)
            case "POST", ["channels", "create"]:
                return await self._create(asked.query)
            case _, ["channels", ident, *rest]:
                return await self._on_channel(asked, ident, rest)
        return 404, {"message": "Resource not found"}

    def _on_subscription(self, name: str, wanted: str | None) -> tuple[int, Any]:
        """All or none: the first event source that is refused is the answer."""
        if wanted is None:
            return 400, {"message": "Missing parameter eventSource"}
        if name != APP:
            return 404, {"message": "Application not found"}
        there: dict[str, Container[str]] = {"channel": self.channels, "bridge": self.bridges, "endpoint": ()}
        for source in wanted.split(","):
            scheme, colon, ident = source.partition(":")
            if not colon or scheme not in there:
                return 400, {"message": "Invalid event source URI scheme"}
            if ident and ident not in there[scheme]:
                return 422, {"message": "Event source does not exist"}
        return 200, {"name": name}

    async def _on_playback(self, method: str, ident: str) -> tuple[int, Any]:
        if ident not in self.playbacks:
            return 404, {"message": "Playback not found"}
        if method == "DELETE":
            await self.finish(ident)
            return 204, None
        return 200, {"id": ident, "state": "playing"}

    async def _on_recording(self, method: str, where: str, ident: str, rest: list[str]) -> tuple[int, Any]:
        known: Container[str] = self.recordings if where == "live" else self.stored
        if ident not in known:
            return 404, {"message": "Recording not found"}
        match method, where, rest:
            case "GET", _, []:
                return 200, {"name": ident, "format": "wav"}
            case "GET", "stored", ["file"]:
                return 200, self.stored[ident]
            case "DELETE", "stored", []:
                del self.stored[ident]
                return 204, None
            case "POST", "live", ["stop"]:
                await self.recorded(ident)
                return 204, None
        return 404, {"message": "Resource not found"}

    async def _on_media(self, query: dict[str, str]) -> tuple[int, Any]:
        """A channel that is in no application until somebody connects to its websocket (`connect_media`)."""
        body = self._channel(query["channelId"], "Down", "")
        body["dialplan"] |= {"app_name": "AppDial2", "app_data": "(Outgoing Line)"}
        self.channels[body["id"]] = body
        return 200, {**body, "channelvars": {"MEDIA_WEBSOCKET_CONNECTION_ID": f"of-{body['id'][-9:]}"}}

    async def connect_media(self, channel: str) -> None:
        """Somebody has connected to its websocket."""
        body = self._channel(channel, "Up", APP)
        self.channels[channel] = body
        self.in_stasis.add(channel)
        await self.inject("StasisStart", args=[], channel=dict(body))

    async def _on_bridge(self, asked: Asked, rest: list[str]) -> tuple[int, Any]:
        ident = rest[0]
        match asked.method, rest[1:]:
            case "POST", []:
                if ident in self.bridges:
                    return 409, {"message": "Bridge already exists"}
                self.bridges[ident] = {"id": ident, "name": asked.query["name"], "channels": []}
                return 200, self.bridges[ident]
            case _ if ident not in self.bridges:
                return 404, {"message": "Bridge not found"}
            case "DELETE", []:
                del self.bridges[ident]
                return 204, None
            case "POST", ["addChannel"]:
                channel = asked.query["channel"]
                if channel not in self.channels:
                    return 400, {"message": "Channel not found"}
                if channel not in self.in_stasis:
                    return 422, {"message": "Channel not in Stasis application"}
                self.bridges[ident]["channels"].append(channel)
                return 204, None
            case "POST", ["removeChannel"]:
                if asked.query["channel"] not in self.bridges[ident]["channels"]:
                    return 422, {"message": "Channel not in this bridge"}
                self.bridges[ident]["channels"].remove(asked.query["channel"])
                return 204, None
        return 404, {"message": "Resource not found"}

    async def _create(self, query: dict[str, str]) -> tuple[int, Any]:
        ident = query["channelId"]
        if ident in self.channels:
            return 409, {"message": "Channel with given unique ID already exists"}
        if query["endpoint"] == "PJSIP/nowhere":
            return 500, {"message": "Allocation failed"}
        self.channels[ident] = self._channel(ident, "Down", query["app"], query["appArgs"])
        if not self.hold_stasis_start:
            await self.enter(ident)
        return 200, self.channels[ident]

    async def enter(self, leg: str) -> None:
        """A created leg enters the application (by itself, unless `hold_stasis_start`)."""
        self.in_stasis.add(leg)
        await self.inject("StasisStart", args=["leg"], channel=dict(self.channels[leg]))

    async def _on_channel(self, asked: Asked, ident: str, rest: list[str]) -> tuple[int, Any]:
        if ident not in self.channels:
            return 404, {"message": "Channel not found"}
        channel = self.channels[ident]
        match asked.method, rest:
            case "GET", []:
                return 200, channel
            case "DELETE", []:
                await self.end(ident, int(asked.query.get("reason_code", "16")), soft=True)
                return 204, None
            case _ if ident not in self.in_stasis:
                return 409, {"message": "Channel not in Stasis application"}
            case "POST", ["answer"]:
                if channel["state"] != "Up":
                    channel["state"] = "Up"
                    await self.inject("ChannelStateChange", channel=dict(channel))
                return 204, None
            case "POST", ["play", playback]:
                self.playbacks[playback] = ident
                return 201, {"id": playback, "state": "queued"}
            case "POST", ["record"]:
                name = asked.query["name"]
                if name in self.recordings or name in self.stored or any(ident in each["channels"] for each in self.bridges.values()):
                    return 409, {"message": "Recording already exists, or the channel is in a bridge"}
                self.recordings[name] = ident
                await self.inject("RecordingStarted", recording={"name": name, "state": "recording", "target_uri": f"channel:{ident}"})
                return 201, {"name": name, "format": "wav", "state": "queued", "target_uri": f"channel:{ident}"}
            case "POST", ["dial"]:
                if channel["state"] != "Down":
                    return 409, {"message": "Channel cannot be dialed."}
                channel["connected"] = {"name": "", "number": "4930123456"}
                await self.inject("Dial", peer=dict(channel), dialstatus="")
                return 204, None
            case "POST", ["continue"]:
                self.in_stasis.discard(ident)
                channel["dialplan"] = {**channel["dialplan"], "app_name": "Wait", "app_data": "60"}
                await self.inject("StasisEnd", channel=dict(channel))
                return 204, None
            case "GET", ["variable"]:
                return 200, {"value": self.variables.get((ident, asked.query.get("variable", "")), "")}
            case ("POST", ["variables"]) | ("POST" | "DELETE", ["moh"]):
                return 204, None
        return 404, {"message": "Resource not found"}

    # ---- sockets -----------------------------------------------------------------------------------------------------------

    def _rule(self, asked: Asked) -> Rule | None:
        for rule in self.rules:
            if rule.fits(asked.method, asked.path, asked.way) and rule.times != 0:
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None

    async def _answer(self, asked: Asked) -> tuple[int, bytes]:
        self.requests.append(asked)
        rule = self._rule(asked)
        if rule is not None:
            if rule.silent:
                await asyncio.Event().wait()
            await asyncio.sleep(rule.delay)
            if rule.status or rule.body:
                return rule.status, rule.body
        status, body = await self.carry_out(asked)
        return status, body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()

    def _authorised(self, request: web.Request) -> bool:
        expected = base64.b64encode(f"{USER}:{self.password}".encode()).decode()
        return request.headers.get("Authorization") == f"Basic {expected}"

    async def _http(self, request: web.Request) -> web.StreamResponse:
        if not self._authorised(request):
            return web.json_response({"message": "Authentication required"}, status=401)
        if self.refuse:
            return web.json_response({"message": "Asterisk not booted"}, status=self.refuse)
        if self.frozen:
            await asyncio.Event().wait()
        raw = await request.read()
        asked = Asked("http", request.method, request.match_info["path"], dict(request.query), json.loads(raw) if raw else None)
        status, body = await self._answer(asked)
        return web.Response(status=status, body=body, content_type="application/json")

    async def _events(self, request: web.Request) -> web.StreamResponse:
        if not self._authorised(request):
            return web.json_response({"message": "Authentication required"}, status=401)
        if self.refuse:
            return web.json_response({"message": "Asterisk not booted"}, status=self.refuse)
        ws = web.WebSocketResponse(autoping=False, autoclose=True)
        await ws.prepare(request)
        self.opened += 1
        self.frozen = False
        self.sockets = [ws]
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        worker = asyncio.create_task(self._serve(ws, queue))
        try:
            async for message in ws:
                if message.type is WSMsgType.PING and not self.frozen:
                    await ws.pong(message.data)
                elif message.type is WSMsgType.TEXT:
                    queue.put_nowait(json.loads(message.data))
        finally:
            worker.cancel()
            if ws in self.sockets:
                self.sockets.remove(ws)
        return ws

    async def _serve(self, ws: web.WebSocketResponse, queue: asyncio.Queue[dict[str, Any]]) -> None:
        """Requests over the event socket, one after another."""
        while True:
            frame = await queue.get()
            query = {each["name"]: each["value"] for each in frame.get("query_strings", ())}
            body = json.loads(frame["message_body"]) if "message_body" in frame else None
            status, raw = await self._answer(Asked("ws", frame["method"], frame["uri"], query, body))
            answer = {"type": "RESTResponse", "request_id": frame["request_id"], "status_code": status, "reason_phrase": ""}
            out = (
                json.dumps({**answer, "message_body": "@"})
                .encode()
                .replace(b'"@"', json.dumps(raw.decode("utf-8", "surrogateescape"), ensure_ascii=False).encode("utf-8", "surrogateescape"))
            )
            if not self.frozen:
                await ws.send_frame(out, WSMsgType.TEXT)


@asynccontextmanager
async def fake_ari() -> AsyncIterator[FakeAri]:
    """A server on a port of its own, for the time of the block."""
    fake = FakeAri()
    app = web.Application(client_max_size=2**20)
    app.router.add_get("/ari/events", fake._events)
    app.router.add_route("*", "/ari/{path:.+}", fake._http)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    fake.port = runner.addresses[0][1]
    try:
        yield fake
    finally:
        await runner.cleanup()
