"""A stand-in for a CRM that costs next to nothing: one fixed contact, whoever is asked for, over HTTP/1.1 with keep-alive.

python -m tests.load.benchmark.crm PORT
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import cast

import uvloop

CONTACT = {
    "type": "contact",
    "id": "5d1c6a0f9b0e4c7d8a2b3c4d5e6f7a8b",
    "reference": "4424778",
    "first_name": "Gina",
    "last_name": "Sample",
    "phone": "+4930555000100",
    "email": "gina@example.com",
    "language": "en",
    "premium": True,
    "tier": "gold",
    "late_payment": False,
    "customer_value": 1250.5,
    "product": "printers",
    "skills": {"lang.en": 5, "product.printers": 3},
    "account": None,
    "open_cases": 1,
    "last_order": {"id": "0a1b2c3d4e5f60718293a4b5c6d7e8f9", "number": "O-1001", "status": "shipped", "status_text": "is on its way"},
    "record_url": "http://127.0.0.1/records/sample",
}


def answer(body: dict[str, object]) -> bytes:
    """A whole HTTP answer."""
    text = json.dumps(body).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)


FOUND = answer({"results": [CONTACT], "count": 1})


class Answers(asyncio.Protocol):
    """One connection: an answer for each request head; requests here have no body."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep it to answer on."""
        self._transport = cast(asyncio.Transport, transport)
        self._text = b""

    def data_received(self, data: bytes) -> None:
        """Count the heads that are whole."""
        *heads, self._text = (self._text + data).split(b"\r\n\r\n")
        self._transport.write(FOUND * len(heads))


async def serve(port: int) -> None:
    """Until cancelled."""
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
