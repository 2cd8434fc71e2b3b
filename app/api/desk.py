"""The websocket of an agent's desk.

All open pages of one agent share a `Desk`: it reads the backend's messages for that agent once, keeps what they add up to (the
agent's state and what is in hand), numbers them, and sends every page each message together with the whole state after it. A
page therefore never has to add up anything, and one that comes late or comes back is whole again with its first message. The
backend's feed must listen from the moment it is asked for, so that nothing falls between it and the state that is read next.

The centre is told when the first page opens and the last one closes; while it cannot be told (the store is busy) it is told
again, and only how it stands by then. When we ourselves go away, nothing is told: the next process finds out.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from aiohttp import web
from pydantic import ValidationError

from app.api.backend import Backend, Refused, StorageBusy
from app.api.models import Agent, DeskMessage, Hand, Shown
from app.api.problems import Problem
from app.api.routes import SETTINGS, Asked, Routes
from app.api.sockets import FEEDS, Nonsense, Socket, require_upgrade
from app.core.events import DeskAcknowledged, DeskFound, DeskLost, Event

log = structlog.get_logger("api.desk")
routes = Routes("desk")
_AGAIN = 1.0
_RESUME = 0.1
_PHASES = {"offer": "offered", "ringing": "offered", "talking": "talking", "wrap_up": "wrap_up"}


class Desk:
    """One agent's pages."""

    def __init__(self, agent: str, backend: Backend, beat: float) -> None:
        self._agent, self._backend, self._beat_seconds = agent, backend, beat
        self._pages: set[Socket] = set()
        self._seq = 0
        self._state: dict[str, Any] | None = None
        self._hand: dict[str, Any] | None = None
        self._shown: Event | None = None
        self._acknowledged = ""
        self._told = False
        self._changed = asyncio.Event()
        self._tasks = [asyncio.create_task(work()) for work in (self._follow, self._tell, self._beat)]

    @property
    def pages(self) -> int:
        """How many are open."""
        return len(self._pages)

    def opened(self, page: Socket) -> None:
        """A page is there: it gets the whole state."""
        self._pages.add(page)
        self._changed.set()
        self._read()
        page.send(self._message("snapshot"))

    def closed(self, page: Socket) -> None:
        """A page is gone."""
        self._pages.discard(page)
        self._changed.set()

    def heard(self, value: Any) -> None:
        """A page says something; the only thing it can say is that it shows the offer in hand. Raises `Nonsense`."""
        try:
            shown = Shown.model_validate(value)
        except ValidationError as error:
            raise Nonsense("no such message") from error
        hand = self._hand
        if hand is None or (hand["offer"], hand["call"]) != (shown.offer, shown.call) or shown.offer == self._acknowledged:
            return
        self._acknowledged = shown.offer
        self._shown = DeskAcknowledged(self._agent, shown.call, shown.offer)
        self._changed.set()

    async def stop(self) -> None:
        """No more following and telling."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    # ---- from the centre --------------------------------------------------------------------------------------------

    async def _follow(self) -> None:
        """Listen for ever. A feed that was cut off is begun anew, and what was missed is made good by a snapshot."""
        while True:
            feed = self._backend.messages(self._agent)
            self._read()
            self._say(self._message("snapshot"))
            try:
                async for message in feed:
                    self._take(message)
            except Exception as error:
                log.error("the messages of a desk broke off", agent=self._agent, error=repr(error))
            await asyncio.sleep(_RESUME)

    def _take(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        if kind in _PHASES:
            self._hand = self._advance(_PHASES[kind], message)
        elif kind == "ended" or (kind == "withdrawn" and self._hand is not None and self._hand["offer"] == message["offer"]):
            self._hand = None
        elif kind == "state":
            self._set(message["agent"])
        self._seq += 1
        self._say(self._message(kind, str(message.get("reason", ""))))

    def _advance(self, phase: str, message: dict[str, Any]) -> dict[str, Any]:
        before = self._hand if self._hand is not None and self._hand["call"] == message["call"] else {}
        known = {name: message[name] for name in ("call", "offer", "card", "until") if name in message}
        ringing = message["type"] == "ringing"
        since = before["since"] if ringing and before else message.get("since", time.time())
        return {"offer": "", **before, **known, "phase": phase, "ringing": ringing, "since": since}

    def _read(self) -> None:
        found = next((a for a in self._backend.agents() if a["id"] == self._agent), None)
        if found is not None:
            self._set(found)

    def _set(self, state: dict[str, Any]) -> None:
        self._state = state
        if "hand" in state:
            self._hand = state["hand"]

    def _message(self, kind: str, reason: str = "") -> dict[str, Any]:
        agent = None if self._state is None else Agent.model_validate(self._state)
        hand = None if self._hand is None else Hand.model_validate(self._hand)
        message = DeskMessage.model_validate(
            {"type": kind, "seq": self._seq, "now": time.time(), "agent": agent, "hand": hand, "reason": reason}
        )
        return message.model_dump(mode="json")

    def _say(self, message: dict[str, Any]) -> None:
        for page in list(self._pages):
            page.send(message)

    async def _beat(self) -> None:
        while True:
            await asyncio.sleep(self._beat_seconds)
            self._say(self._message("beat"))

    # ---- to the centre ----------------------------------------------------------------------------------------------

    async def _tell(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            if not (await self._tell_presence() and await self._tell_shown()):
                await asyncio.sleep(_AGAIN)
                self._changed.set()

    async def _tell_presence(self) -> bool:
        there = bool(self._pages)
        if there == self._told:
            return True
        done = await self._submit(DeskFound(self._agent) if there else DeskLost(self._agent))
        self._told = there if done else self._told
        return done

    async def _tell_shown(self) -> bool:
        shown, self._shown = self._shown, None
        if shown is None or await self._submit(shown):
            return True
        self._shown = self._shown or shown
        return False

    async def _submit(self, event: Event) -> bool:
        """Whether the centre has taken note; what it refuses for good is noted too."""
        try:
            await self._backend.submit(event)
        except StorageBusy:
            return False
        except Refused as error:
            log.info("the centre refused", agent=self._agent, event=type(event).__name__, kind=error.kind)
        return True


class Desks:
    """The desk of each agent that ever had a page open."""

    def __init__(self, backend: Backend, beat: float) -> None:
        self._backend, self._beat = backend, beat
        self._desks: dict[str, Desk] = {}

    def of(self, agent: str) -> Desk:
        """This agent's, made at the first call."""
        if agent not in self._desks:
            self._desks[agent] = Desk(agent, self._backend, self._beat)
        return self._desks[agent]

    async def stop(self) -> None:
        """The application goes away."""
        await asyncio.gather(*(desk.stop() for desk in self._desks.values()))


DESKS: web.AppKey[Desks] = web.AppKey("desks", Desks)


@routes.add(
    "GET",
    "/v1/desk",
    "The agent's desk, live (websocket): a snapshot first, then a message at each change; answer an offer with `shown`",
    access="any",
    problems=(403, 426, 503),
    messages=(DeskMessage, Shown),
)
async def open_desk(asked: Asked[None, None]) -> web.StreamResponse:
    """Until either side closes."""
    app, who = asked.request.app, asked.who
    if not who.agent:
        raise Problem(403, "no-desk", "only an agent has a desk")
    require_upgrade(asked.request)
    desk = app[DESKS].of(who.agent)
    await asyncio.sleep(0)  # a desk made just now begins to listen before its first snapshot is read
    if desk.pages >= app[SETTINGS].sockets_per_desk:
        raise Problem(503, "too-many-sockets", "this desk is open too many times")
    page = Socket(app[SETTINGS], who)
    with app[FEEDS].opened(page):
        try:
            return await page.run(asked.request, lambda: desk.opened(page), desk.heard)
        finally:
            desk.closed(page)
