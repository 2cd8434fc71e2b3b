"""Delivering webhooks: each target follows the feed at its own pace, and what happened on one call arrives in order.

How far a target has got is kept in the store, so that the next process goes on there; what was on its way then comes twice, with the
same id. What a target does not take is tried again with longer and longer pauses: until it is 72 hours old, for ten minutes where the
target says that the message itself is at fault (4xx), and not at all where it says that it is gone (410). Then it is put aside, where the
API finds it, and the target goes on with what came after it. While a target is away nothing is held for it in memory: the journal has it.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
import structlog

from app.actions.webhooks import Poster, Webhook
from app.feed import Feed, Place
from app.store import Store, StoreError

log = structlog.get_logger("webhooks")

FIRST_PAUSE, LONGEST_PAUSE = 1.0, 1800.0
GIVE_UP, GIVE_UP_SOON = 72 * 3600.0, 600.0
"""The age, in seconds, at which a message is put aside that was not taken; and for how long one is tried that was called wrong."""
FLOWS_KNOWN = 10_000
"""Of how many calls it is remembered which flow they run; of others the journal is asked."""
_GONE = "status 410"
_AGAIN = ("status 401", "status 403", "status 404", "status 408", "status 409", "status 425", "status 429")


class Hooks:
    """All targets. `run` is one part of the process. `now` and `sleep` are time, which a test may let pass faster."""

    def __init__(
        self,
        hooks: Mapping[str, Webhook],
        feed: Feed,
        store: Store,
        poster: Poster,
        *,
        pause: float = FIRST_PAUSE,
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._hooks, self._feed, self._store, self._poster = dict(hooks), feed, store, poster
        self._pause, self._now, self._sleep = pause, now, sleep
        self._flows: dict[str, str] = {}
        self._state = {name: {"ok": True, "why": "", "delivered": 0} for name in self._hooks}

    def targets(self) -> list[dict[str, Any]]:
        """Every target: whether its last delivery was taken, if not, why, and how many were since the start."""
        return [{"name": name, **state} for name, state in self._state.items()]

    async def run(self) -> None:
        """Deliver to every target, for ever. While the store cannot be read or written, what it is needed for waits."""
        await asyncio.gather(*(self._serve(name, hook) for name, hook in self._hooks.items()))

    async def _serve(self, name: str, hook: Webhook) -> None:
        while True:
            try:
                await self._follow(name, hook)
            except StoreError as error:
                log.warning("a webhook waits for the store", target=name, reason=str(error))
            await self._sleep(self._pause)

    async def _follow(self, name: str, hook: Webhook) -> None:
        kept = await self._store.readers.cursor(f"webhook:{name}")
        start = self._feed.now() if kept is None else Place(*kept)
        if kept is None:
            await self._move(name, start)
        async for place, message in self._feed.follow(start):
            if await self._wanted(hook, message):
                await self._deliver(name, hook, place, message)

    async def _wanted(self, hook: Webhook, message: Mapping[str, Any]) -> bool:
        """Whether the target asked for this."""
        if hook.events and message["type"] not in hook.events:
            return False
        return not hook.flows or not message["call"] or await self._flow_of(message) in hook.flows

    async def _flow_of(self, message: Mapping[str, Any]) -> str:
        """Which flow the call runs: its `FlowBegan` tells."""
        call = message["call"]
        if message["type"] == "FlowBegan":
            self._flows[call] = message["flow"]
        elif call not in self._flows:
            self._flows[call] = await self._feed.flow_of(call)
        while len(self._flows) > FLOWS_KNOWN:
            del self._flows[next(iter(self._flows))]
        return self._flows[call]

    async def _deliver(self, name: str, hook: Webhook, place: Place, message: Mapping[str, Any]) -> None:
        """Until it is taken, or given up."""
        began, pause = self._now(), self._pause
        while True:
            why = await self._post(hook, place, message)
            self._told(name, why)
            if not why:
                return await self._move(name, place)
            if _is_given_up(why, self._now() - message["at"], self._now() - began):
                log.error("a webhook was put aside", target=name, id=str(place), reason=why)
                return await self._store.readers.bury(f"webhook:{name}", *place, self._now(), why[:200])
            await self._sleep(pause * random.uniform(0.8, 1.2))
            pause = min(pause * 2, LONGEST_PAUSE)

    async def _post(self, hook: Webhook, place: Place, message: Mapping[str, Any]) -> str:
        return await self._poster.post(hook, f"msg_{place}", int(self._now()), orjson.dumps(message))

    def _told(self, name: str, why: str) -> None:
        state = self._state[name]
        if why and state["ok"]:
            log.warning("a webhook is not taken", target=name, reason=why)
        state.update(ok=not why, why=why)
        if not why:
            state["delivered"] = int(str(state["delivered"])) + 1

    async def _move(self, name: str, place: Place) -> None:
        try:
            await self._store.readers.move_cursor(f"webhook:{name}", *place)
        except StoreError as error:  # it will come twice, if this process ends before the next one is noted
            log.warning("how far a webhook has got could not be noted", target=name, reason=str(error))

    # ---- what was put aside --------------------------------------------------------------------------------------------

    async def aside(self, name: str) -> list[dict[str, Any]]:
        """What a target did not take in 72 hours: id, when it was given up, why."""
        found = await self._store.readers.buried(f"webhook:{name}")
        return [{"id": str(Place(seq, step)), "at": at, "reason": reason} for seq, step, at, reason in found]

    async def again(self, name: str) -> tuple[int, int]:
        """Try once more to deliver all that was put aside; how many were taken, and how many were not."""
        taken = left = 0
        for seq, step, _, _ in await self._store.readers.buried(f"webhook:{name}"):
            place = Place(seq, step)
            message = await self._feed.one(place)
            if message is not None and await self._post(self._hooks[name], place, message):
                left += 1
            else:
                taken += 1
                await self._store.readers.unbury(f"webhook:{name}", seq, step)
        return taken, left


def _is_given_up(why: str, age: float, tried: float) -> bool:
    """Whether a message that was not taken is put aside: too old, or said to be wrong for long enough, or nobody there any more."""
    return age > GIVE_UP or why == _GONE or (_its_own_fault(why) and tried > GIVE_UP_SOON)


def _its_own_fault(why: str) -> bool:
    """Whether the target says that the message is wrong, rather than that it cannot take any just now."""
    return why.startswith("status 4") and why not in _AGAIN
