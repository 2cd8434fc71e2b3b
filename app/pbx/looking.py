"""A look at Asterisk: what is there, of that which is ours."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from app.core import events
from app.core.view import LiveCall
from app.pbx import reconcile as rec
from app.pbx import requests
from app.pbx.ari import AriError, AriInvalid, AriNotFound, Reply, Request
from app.pbx.book import LEG
from app.pbx.orders import LIST_WITHIN, Orders
from app.pbx.translate import arrival

SUBSCRIBE_AT_ONCE = 40  # channels in one request: a line may have 4096 bytes


class Look:
    """The questions whose answers make a `Snapshot`. `view` tells, once, which calls an earlier process left."""

    def __init__(self, orders: Orders, view: Callable[[], list[LiveCall]]) -> None:
        self._orders, self._view = orders, view
        self._fresh = True
        self._startup = 0.0

    async def snapshot(self) -> rec.Snapshot:
        """Asterisk as it is now, with the events of all that is in our application on their way to us. Raises `AriError`."""
        link, book, app = self._orders.link, self._orders.book, self._orders.app
        info = await link.request_http(Request("GET", "asterisk/info", (("only", "status"),)))
        startup = rec.startup_seconds(info.body)
        if self._fresh:
            for live in self._view():
                book.adopt(live)
            self._fresh = False
        restarted = startup != self._startup if self._startup else rec.older_than(book.live(), startup)
        listed = (await link.request_http(Request("GET", "channels"), LIST_WITHIN)).body
        await self._subscribe([each for each, found in rec.read_channels(app, listed).items() if found.ours])
        listed = (await link.request_http(Request("GET", "channels"), LIST_WITHIN)).body
        bridges = (await link.request_http(Request("GET", "bridges"), LIST_WITHIN)).body
        playing = await self._still_playing(sorted(book.playbacks))
        recordings = {each: await self._state_of_recording(each) for each in sorted(book.recordings)}
        channels = rec.read_channels(app, listed)
        arrivals = self._missed(channels, listed)
        self._startup = startup
        return rec.Snapshot(restarted, channels, rec.read_bridges(app, bridges), playing, arrivals, recordings)

    async def with_its_time(self, event: events.Event) -> events.Event:
        """An answer that was found, with the time at which it came, where Asterisk tells."""
        if not isinstance(event, events.LegAnswered):
            return event
        try:
            told = await self._orders.link.request(requests.answered_at(event.leg))
        except AriError:
            return event  # the leg has gone, of which there will be an event, or the line has, and everything is looked at again
        return replace(event, at=requests.read_answered_at(told.body))

    async def _subscribe(self, channels: list[str]) -> None:
        for i in range(0, len(channels), SUBSCRIBE_AT_ONCE):
            some = channels[i : i + SUBSCRIBE_AT_ONCE]
            try:
                await self._orders.link.request_http(requests.subscribe(self._orders.app, some))
            except (AriInvalid, AriNotFound):
                for one in some:
                    with contextlib.suppress(AriInvalid, AriNotFound):
                        await self._orders.link.request_http(requests.subscribe(self._orders.app, [one]))

    async def _state_of_recording(self, recording: str) -> str:
        """`live`, `stored`, or "" for one that is not there."""
        for where in ("live", "stored"):
            with contextlib.suppress(AriNotFound):
                await self._orders.link.request(requests.look_at_recording(recording, where))
                return where
        return ""

    async def _still_playing(self, playbacks: list[str]) -> frozenset[str]:
        """Those of the playbacks that are alive. All are asked after at once: the line keeps them in order."""
        answers = await asyncio.gather(
            *(self._orders.link.request(requests.look_at_playback(each)) for each in playbacks), return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, AriNotFound):
                raise answer
        return frozenset(each for each, answer in zip(playbacks, answers, strict=True) if isinstance(answer, Reply))

    def _missed(self, channels: dict[str, rec.Found], listed: Any) -> tuple[events.CallArrived, ...]:
        """Callers in our application of whom nobody knows."""
        return tuple(
            arrival(self._orders.book, channel, channels[channel["id"]].args)
            for channel in listed
            if (found := channels.get(channel.get("id", ""))) is not None
            and found.ours
            and channel["id"] not in self._orders.book.channels
            and not LEG.fullmatch(channel["id"])
        )
