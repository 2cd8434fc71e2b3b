"""After every connect: look before we speak, tell the core what it missed, and remove what belongs to nobody.

Orders to end something whose answer was lost are given again then; orders that would do harm twice are not. See `reconcile`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import structlog

from app.core import events
from app.pbx import reconcile as rec
from app.pbx import requests
from app.pbx.ari import AriError, AriRefused
from app.pbx.book import NORMAL
from app.pbx.looking import Look
from app.pbx.orders import Orders
from app.pbx.ringing import Ringing

log = structlog.get_logger(__name__)

CLEAN_EVERY = 0.05  # seconds between the requests of a clean-up: 20 a second


class Takeover:
    """Takes Asterisk over once the line is up. `done` says that it has; meanwhile its events wait in `buffer`, None at other times."""

    def __init__(
        self,
        orders: Orders,
        ringing: Ringing,
        asks: Look,
        on_event: Callable[[dict[str, Any]], None],
        something_left: Callable[[str], None],
        prompt_over: Callable[[events.PlaybackEnded], None],
    ) -> None:
        self._orders, self._ringing, self._asks = orders, ringing, asks
        self._on_event, self._something_left, self._prompt_over = on_event, something_left, prompt_over
        self.done = False
        self.buffer: list[dict[str, Any]] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """The line is up: look, and let events wait meanwhile."""
        self.buffer = []
        self._looking = asyncio.create_task(self._look())

    def stop(self, reason: str) -> None:
        """The line is down."""
        self.buffer = None
        self.cancel()
        if self.done:
            self.done = False
            self._orders.post(events.PbxLost(reason))

    def cancel(self) -> None:
        """Stop what is under way."""
        for task in (self._looking, self._cleaning):
            if task is not None:
                task.cancel()

    async def _look(self) -> None:
        """See what there is, tell the core, and let the events through again; a failure gives this connection up."""
        try:
            await self._orders.link.keep_filter(requests.event_filter(self._orders.app))
            found = await self._asks.snapshot()
        except AriRefused as error:
            self._orders.link.fail(error)
            return
        except AriError as error:
            self._orders.link.reconnect(f"could not look at Asterisk: {error}")
            return
        believed = self._orders.book.live()
        happened = rec.reconcile([live for live in believed if live.call not in {a.call for a in found.arrivals}], found)
        happened = [await self._asks.with_its_time(event) for event in happened]
        stray = rec.orphans(self._orders.book.live(), found)
        self.done = True
        self._apply(found, happened)
        buffered, self.buffer = self.buffer or [], None
        for message in buffered:
            self._on_event(message)
        if any(stray):
            self._cleaning = asyncio.create_task(self._clean(*stray))

    def _apply(self, found: rec.Snapshot, happened: list[events.Event]) -> None:
        """Bring the book to what was found, and post what the core missed."""
        for caller in self._orders.book.calls.values():
            caller.bridge = found.where.get(caller.channel, "")
            caller.bridges.update(each for each in found.bridges if each.startswith(caller.call))
            for leg in caller.legs.values():
                leg.joined = leg.id in found.bridges.get(leg.bridge, ())
        for event in happened:
            self._orders.book.inferred(event)
            self._orders.post(event)
            if isinstance(event, events.CallerLeft | events.LegEnded):
                self._something_left(event.call)
            elif isinstance(event, events.PlaybackEnded):
                self._prompt_over(event)
        for caller in list(self._orders.book.calls.values()):
            for leg in list(caller.legs.values()):
                self._ringing.ring_on(caller, leg, found.channels.get(leg.id))
        for channel, (call, request, command) in list(self._orders.endings.items()):
            if channel in found.channels and call in self._orders.book.calls:
                self._orders.order_end(self._orders.book.calls[call], channel, request, command)
            else:
                del self._orders.endings[channel]

    async def _clean(self, legs: list[str], bridges: list[str]) -> None:
        """Remove what belongs to no call: channels before bridges, one by one, slowly."""
        log.info("pbx_cleaning", legs=len(legs), bridges=len(bridges))
        for request in [requests.hang_up(leg, NORMAL) for leg in legs] + [requests.drop_bridge(bridge) for bridge in bridges]:
            with contextlib.suppress(AriError):
                await self._orders.link.request(request)
            await asyncio.sleep(CLEAN_EVERY)
