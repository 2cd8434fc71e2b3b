"""The sound of a caller's bot: a channel of ours whose sound goes over a websocket, in a bridge with the caller."""

from __future__ import annotations

import asyncio
import secrets

from app.pbx import requests
from app.pbx.ari import AriConflict, AriError, AriInvalid
from app.pbx.book import NORMAL, UP, Leg
from app.pbx.bridges import Bridges
from app.pbx.orders import Orders

MEDIA_FROM = 100_000_000  # the numbers of bots' channels and bridges begin there, beyond those that the core gives
JOIN_AGAIN, JOIN_TRIES = 0.02, 25  # how often, in seconds, such a channel is put into its bridge, and how many times


class BotMedia:
    """The channels of bots. `url` is that of Asterisk's websockets."""

    def __init__(self, orders: Orders, bridges: Bridges, url: str) -> None:
        self._orders, self._bridges, self._url = orders, bridges, url

    async def open_media(self, call: str) -> tuple[str, str]:
        """A channel of ours for a caller's bot: its id, and the address of the websocket that carries its sound. Raises `OSError`."""
        caller = self._orders.book.calls.get(call)
        if caller is None or caller.left:
            raise ConnectionError("the caller has left")
        number = secrets.randbelow(MEDIA_FROM) + MEDIA_FROM
        media = self._orders.book.add_leg(caller, f"{call}-leg{number}", f"{call}-br{number}", 0.0)
        media.state = UP
        try:
            path = requests.media_path((await self._orders.link.request(requests.open_media(self._orders.app, media.id))).body)
        except AriError as error:
            self.close_media(call, media.id)
            raise ConnectionError(str(error)) from None
        except asyncio.CancelledError:
            self.close_media(call, media.id)
            raise
        if not path:
            self.close_media(call, media.id)
            raise ConnectionError("Asterisk did not tell where the sound is")
        return media.id, f"{self._url}{path}"

    async def join_media(self, call: str, media: str) -> None:
        """Put the caller and that channel together, once nothing plays to the caller. Raises `OSError`."""
        caller = self._orders.book.calls.get(call)
        leg = caller.legs.get(media) if caller is not None else None
        if caller is None or leg is None or caller.left:
            raise ConnectionError("the caller has left")
        quiet = asyncio.Event()
        self._orders.when_quiet(caller, quiet.set)
        await quiet.wait()
        try:
            await self._orders.link.request(requests.make_bridge(self._orders.app, leg.bridge))
            caller.bridges.add(leg.bridge)
            await self._join_leg(leg)
            await self._orders.link.request(requests.join(leg.bridge, caller.channel))
            caller.bridge = leg.bridge
        except AriError as error:
            raise ConnectionError(str(error)) from None

    async def _join_leg(self, leg: Leg) -> None:
        """Into its bridge, as soon as it is in our application: that is a moment after its websocket is connected. Raises `AriError`."""
        for n in range(1, JOIN_TRIES + 1):
            try:
                await self._orders.link.request(requests.join(leg.bridge, leg.id))
            except (AriInvalid, AriConflict):
                if n == JOIN_TRIES:
                    raise
                await asyncio.sleep(JOIN_AGAIN)
            else:
                leg.joined = True
                return

    def close_media(self, call: str, media: str) -> None:
        """End that channel, and take the caller out of its bridge. What has gone is silence."""
        caller = self._orders.book.calls.get(call)
        leg = caller.legs.get(media) if caller is not None else None
        bridge = media.replace("-leg", "-br")
        if caller is None:
            return
        if caller.bridge == bridge and not caller.left:
            caller.bridge = ""
            self._orders.send(caller, None, requests.leave(bridge, caller.channel))
        if leg is not None:
            leg.ending = leg.ending or NORMAL
            self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, leg.ending))
        self._bridges.drop_when_empty(caller, bridge)
