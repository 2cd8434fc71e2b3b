"""The watchdog between an application that comes back and an Asterisk that tells what there is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from app.watchdog import AWAY, Watchdog, WatchdogSettings
from tests.contract.test_engine import until

CALL = "a" * 32


class Both:
    """The application and Asterisk, on one port. The application is back once Asterisk has told its channels, `back` permitting."""

    def __init__(self, *, back: bool) -> None:
        self.back, self.alive = back, False
        self.asked: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        asked = f"{request.method} {request.path.removeprefix('/ari/')}"
        if request.path == "/healthz":
            return web.Response(status=200 if self.alive else 503)
        if asked == "POST asterisk/variable":
            asked = f"{asked} {request.query['variable']}={request.query['value']}"
        self.asked.append(asked)
        if asked == "GET channels":
            self.alive = self.back
            stasis = {"app_name": "Stasis", "app_data": "callwright,1000"}
            leg = {"id": f"{CALL}-leg7", "state": "Ringing", "dialplan": {"app_name": "", "app_data": ""}}
            return web.json_response([{"id": "1.1", "state": "Up", "dialplan": stasis}, leg])
        if asked == "GET bridges":
            return web.json_response([{"id": f"{CALL}-br1", "channels": ["1.1", f"{CALL}-leg7"]}])
        return web.json_response({"value": "1767225600"})

    def changes(self) -> list[str]:
        """What was done to a channel."""
        return [asked for asked in self.asked if asked.startswith(("DELETE", "POST channels"))]


@asynccontextmanager
async def watched(both: Both) -> AsyncIterator[None]:
    """A watchdog that asks for signs of life so seldom that it has heard nothing of a return by itself."""
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", both.answer)
    runner = web.AppRunner(application)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    settings = WatchdogSettings(ari_url=url, ari_password="x", health_url=f"{url}/healthz", patience=0.2, poll=60.0, pause=0.05)
    watching = asyncio.create_task(Watchdog(settings).run())
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await runner.cleanup()


async def test_an_application_that_has_just_come_back_keeps_the_phone_that_it_rings() -> None:
    both = Both(back=True)
    async with watched(both):
        await until(lambda: f"POST asterisk/variable {AWAY}=0" in both.asked)
    assert both.changes() == []


async def test_one_that_stays_away_does_not() -> None:
    both = Both(back=False)
    async with watched(both):
        await until(lambda: len(both.changes()) >= 2)
    assert both.changes()[:2] == [f"DELETE channels/{CALL}-leg7", "POST channels/1.1/continue"]
