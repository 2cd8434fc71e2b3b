"""The full call as a FastAGI script on panoramisk, as a user would write it; the queue is Asterisk's own.

python -m tests.load.benchmark.agi PORT CRM_ADDRESS
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import aiohttp
from panoramisk import fast_agi


async def serve(port: int, crm: str) -> None:
    """Until cancelled."""
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=2.5)) as session:

        async def look_up(**query: str) -> dict[str, Any]:
            async with session.get(f"http://{crm}/api/v1/contacts", params={**query, "limit": "2"}) as answer:
                found: dict[str, Any] = await answer.json()
                return found["results"][0] if found["count"] == 1 else {}

        async def w2(request: Any) -> None:
            await look_up(phone=request.headers["agi_callerid"])
            await request.send_command("ANSWER")
            typed = await request.send_command("GET DATA queue-thankyou 6000 7")
            contact = await look_up(reference_digits=typed["result"][0])
            await request.send_command(f"SET VARIABLE PRODUCT {contact['product']}")

        application = fast_agi.Application(loop=asyncio.get_running_loop())
        application.add_route("w2", w2)
        server = await asyncio.start_server(application.handler, "127.0.0.1", port)
        async with server:
            await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), sys.argv[2]))
