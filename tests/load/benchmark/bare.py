"""The full call as a bare ARI script: a loop over events, and nothing of a call centre. No journal, no skills, no recovery, no records.

It marks what controlling a call through ARI takes by itself, on the machine and in the run in which the others are measured, in the way
that was found to take least: the two are joined when the agent has answered, so that Asterisk bridges them natively at once. (An agent who
answers while this script is away hears nobody.)

python -m tests.load.benchmark.bare ARI_URL USER PASSWORD CRM_ADDRESS AGENTS
"""

from __future__ import annotations

import asyncio
import base64
import sys
from collections import deque
from collections.abc import Coroutine
from typing import Any

import aiohttp
import orjson
import uvloop

APP = "callwright-bench"
HEARD = ("RESTResponse", "StasisStart", "ChannelStateChange", "ChannelDtmfReceived", "ChannelDestroyed")


class Script:
    """One connection, all calls."""

    def __init__(self, url: str, crm: str, agents: int) -> None:
        self._url, self._crm = url, crm
        self._free = deque(f"w{number:03}" for number in range(1, agents + 1))
        self._waiting: deque[str] = deque()
        self._typed: dict[str, str] = {}
        self._legs: dict[str, tuple[str, str]] = {}
        self._there: dict[str, asyncio.Event] = {}
        self._answers: dict[str, asyncio.Future[Any]] = {}
        self._working: set[asyncio.Task[None]] = set()
        self._n = 0

    async def run(self, user: str, password: str) -> None:
        """Until the connection ends."""
        line = base64.b64encode(f"{user}:{password}".encode()).decode()
        async with aiohttp.ClientSession() as session, aiohttp.ClientSession(headers={"Authorization": f"Basic {line}"}) as ari:
            self._session = session
            async with ari.ws_connect(f"{self._url}/ari/events?app={APP}") as self._socket:
                allowed = {"allowed": [{"type": kind} for kind in HEARD]}
                async with ari.put(f"{self._url}/ari/applications/{APP}/eventFilter", json=allowed) as answer:
                    answer.raise_for_status()
                async for message in self._socket:
                    self._hear(orjson.loads(message.data))

    def _hear(self, event: dict[str, Any]) -> None:
        kind = event["type"]

        if kind == "RESTResponse":
            self._answers.pop(event["request_id"]).set_result(event)
        elif kind == "StasisStart" and (there := self._there.pop(event["channel"]["id"], None)) is not None:
            there.set()
        elif kind == "StasisStart":
            self._begin(self._arrived(event["channel"]["id"], event["channel"]["caller"]["number"]))
        elif kind == "ChannelStateChange" and event["channel"]["state"] == "Up":
            self._up(event["channel"]["id"])
        elif kind == "ChannelDtmfReceived":
            self._key(event["channel"]["id"], event["digit"])
        elif kind == "ChannelDestroyed":
            self._gone(event["channel"]["id"])

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._working.add(task)
        task.add_done_callback(self._working.discard)

    async def _ask(self, method: str, path: str, **query: str) -> Any:
        self._n += 1
        key = str(self._n)
        frame = {"type": "RESTRequest", "transaction_id": key, "request_id": key, "method": method, "uri": path}
        if query:
            frame["query_strings"] = [{"name": name, "value": value} for name, value in query.items()]
        self._answers[key] = answer = asyncio.get_running_loop().create_future()
        await self._socket.send_str(orjson.dumps(frame).decode())
        return await answer

    async def _look_up(self, **query: str) -> dict[str, Any]:
        async with self._session.get(f"http://{self._crm}/api/v1/contacts", params={**query, "limit": "2"}) as answer:
            found: dict[str, Any] = orjson.loads(await answer.read())
            return found["results"][0]

    async def _arrived(self, caller: str, number: str) -> None:
        await self._look_up(phone=number)
        self._typed[caller] = ""
        await self._ask("POST", f"channels/{caller}/answer")
        await self._ask("POST", f"channels/{caller}/play/{caller}-p", media="sound:queue-thankyou")

    def _key(self, caller: str, digit: str) -> None:
        if caller not in self._typed:
            return
        typed = self._typed[caller]
        if not typed:
            self._begin(self._ask("DELETE", f"playbacks/{caller}-p"))
        self._typed[caller] = typed = typed + digit
        if len(typed) == 7:
            del self._typed[caller]
            self._begin(self._queue(caller, typed))

    async def _queue(self, caller: str, reference: str) -> None:
        await self._look_up(reference_digits=reference)
        self._waiting.append(caller)
        await self._ask("POST", f"channels/{caller}/moh")
        if self._free:
            await self._ring(self._waiting.popleft(), self._free.popleft())

    async def _ring(self, caller: str, agent: str) -> None:
        leg = f"{caller}-l"
        self._legs[leg] = caller, agent
        self._there[leg] = there = asyncio.Event()
        await self._ask("POST", "channels/create", endpoint=f"PJSIP/{agent}", app=APP, channelId=leg, originator=caller)
        await there.wait()  # before it is in the application it cannot be dialled
        await self._ask("POST", f"channels/{leg}/dial", caller=caller, timeout="15")

    def _up(self, channel: str) -> None:
        caller, agent = self._legs.get(channel, (channel, ""))
        if agent:
            self._begin(self._join(caller, channel))

    async def _join(self, caller: str, leg: str) -> None:
        await asyncio.gather(
            self._ask("DELETE", f"channels/{caller}/moh"),
            self._ask("POST", f"bridges/{caller}-b", type="mixing"),
            self._ask("POST", f"bridges/{caller}-b/addChannel", channel=f"{caller},{leg}"),
        )

    def _gone(self, channel: str) -> None:
        self._typed.pop(channel, None)
        caller, agent = self._legs.pop(channel, (channel, ""))
        if agent:
            self._free.append(agent)
            self._begin(self._over(caller))

    async def _over(self, caller: str) -> None:
        await self._ask("DELETE", f"bridges/{caller}-b")
        await self._ask("DELETE", f"channels/{caller}")
        if self._waiting and self._free:
            await self._ring(self._waiting.popleft(), self._free.popleft())


if __name__ == "__main__":
    url, user, password, crm, agents = sys.argv[1:]
    uvloop.run(Script(url, crm, int(agents)).run(user, password))
