"""A throwaway application for tests: takes every call of an ARI application, gives it music, and rings an agent for the numbers it is told.

    python -m tests.e2e.tiny_app ARI_URL USER PASSWORD HEALTH_PORT NUMBER=EXTENSION...

It answers `/healthz` as the real one does, and writes one line for each event to standard output.
"""

from __future__ import annotations

import asyncio
import base64
import json
import sys
from typing import Any

import aiohttp
from aiohttp import web


class TinyApp:
    """One connection, one event at a time."""

    def __init__(self, url: str, user: str, password: str, agents: dict[str, str]) -> None:
        self.url, self.agents, self.legs = url, agents, dict[str, str]()
        self.headers = {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}

    async def run(self) -> None:
        async with aiohttp.ClientSession(headers=self.headers) as self.session:
            async with self.session.ws_connect(f"{self.url}/ari/events?app=callwright") as socket:
                print("ready", flush=True)
                async for message in socket:
                    event = json.loads(message.data)
                    if event["type"] == "StasisStart":
                        await self.started(event)
                    print(event["type"], event.get("channel", {}).get("id", ""), *event.get("args", []), flush=True)

    async def ask(self, method: str, path: str, **query: str) -> Any:
        async with self.session.request(method, f"{self.url}/ari/{path}", params=query) as answer:
            return await answer.text()

    async def started(self, event: dict[str, Any]) -> None:
        channel, number = event["channel"]["id"], event["channel"]["caller"]["number"]
        if channel in self.legs:
            await self.ask("POST", f"bridges/{self.legs[channel]}/addChannel", channel=channel)
            await self.ask("POST", f"channels/{channel}/dial")
            return
        bridge = f"{channel}-br1"
        await self.ask("POST", f"channels/{channel}/answer")
        await self.ask("POST", f"bridges/{bridge}", type="mixing")
        await self.ask("POST", f"bridges/{bridge}/addChannel", channel=channel)
        await self.ask("POST", f"channels/{channel}/moh", mohClass="callwright")
        if number in self.agents:
            leg = f"{channel}-leg1"
            self.legs[leg] = bridge
            endpoint = f"PJSIP/{self.agents[number]}"
            await self.ask("POST", "channels/create", endpoint=endpoint, app="callwright", channelId=leg, originator=channel)


async def main(url: str, user: str, password: str, port: int, agents: dict[str, str]) -> None:
    async def healthy(_: web.Request) -> web.Response:
        return web.Response(text="{}")

    server = web.Application()
    server.router.add_get("/healthz", healthy)
    runner = web.AppRunner(server)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    await TinyApp(url, user, password, agents).run()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4], int(sys.argv[4]), dict(pair.split("=") for pair in sys.argv[5:])))  # type: ignore[misc]
