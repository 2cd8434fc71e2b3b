"""A small house in memory behind the real API, for the tests of the API and of the pages.

It knows agents with the two tables of presence and work, plays one call at a time to a desk, and remembers every event. The
tests drive it as the centre would be driven: `offer`, `answered`, `caller_left`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

from app.api.auth import Credentials, Principal, hash_pin, hash_token
from app.api.backend import Refused, StorageBusy
from app.api.server import make_app, serve
from app.api.settings import ApiSettings
from app.core import events as ev

PIN = "4711-anna"
TOKENS = {"admin": "admin-token-0123456789", "supervisor": "supervisor-token-0123456789", "anna": "annas-own-token-0123456789"}
PRESENCE = {
    ("signed_out", ev.AgentSignedIn): "not_ready",
    ("not_ready", ev.AgentBecameReady): "ready",
    ("not_ready", ev.AgentSignedOut): "signed_out",
    ("ready", ev.AgentBecameNotReady): "not_ready",
    ("ready", ev.AgentSignedOut): "signed_out",
}


class House:
    """The backend."""

    def __init__(self) -> None:
        self.events: list[ev.Event] = []
        self.busy = False
        self.ready = True
        self._calls: dict[str, dict[str, Any]] = {}
        self._ended: list[dict[str, Any]] = []
        self._agents = {name: self._agent(name, title) for name, title in (("anna", "Anna Berg"), ("boris", "Boris Ott"))}
        self._listeners: list[tuple[str | None, asyncio.Queue[dict[str, Any] | None]]] = []

    @staticmethod
    def _agent(name: str, title: str) -> dict[str, Any]:
        skills = {"order_status": 8, "german": 7, "english": 5}
        state = {"id": name, "name": title, "presence": "signed_out", "work": "", "reason": "", "call": ""}
        return {**state, "skills": skills, "phone": "reachable", "since": time.time()}

    # ---- what the API needs -----------------------------------------------------------------------------------------

    async def submit(self, event: ev.Event) -> None:
        if self.busy:
            raise StorageBusy
        if isinstance(event, ev.AgentEvent) and event.agent not in self._agents:
            raise Refused("unknown-agent", "no such agent")
        self._move(event)
        self.events.append(event)

    def calls(self) -> list[dict[str, Any]]:
        return list(self._calls.values())

    def call(self, call: str) -> dict[str, Any] | None:
        return self._calls.get(call)

    def session(self, call: str) -> dict[str, Any] | None:
        return {"call": call, "version": 0, "step": "ask", "variables": {"ivr": {}}} if call in self._calls else None

    async def ended_calls(self, limit: int, before: float | None = None) -> list[dict[str, Any]]:
        return [c for c in reversed(self._ended) if before is None or c["ended"] < before][:limit]

    async def ended_call(self, call: str) -> dict[str, Any] | None:
        return next((c for c in self._ended if c["id"] == call), None)

    async def timeline(self, call: str) -> list[dict[str, Any]] | None:
        if call not in self._calls and all(c["id"] != call for c in self._ended):
            return None
        return [{"at": 1.0, "kind": "event", "type": "CallArrived", "dnis": "1000"}, {"at": 2.0, "kind": "command", "type": "Answer"}]

    def agents(self) -> list[dict[str, Any]]:
        return [dict(a) for a in self._agents.values()]

    def queues(self) -> list[dict[str, Any]]:
        waiting = [c for c in self._calls.values() if c["state"] == "waiting"]
        rows = [{"call": c["id"], "position": i} for i, c in enumerate(waiting, 1)]
        return [{"name": "orders", "title": "Orders", "waiting": len(rows), "longest_wait": 3.5, "agents": {"ready": 1}, "calls": rows}]

    def health(self) -> dict[str, Any]:
        return {"ready": self.ready, "parts": {"asterisk": {"ok": self.ready, "why": "" if self.ready else "no link"}}}

    def stats(self) -> dict[str, Any]:
        return {"events": len(self.events), "commit_seconds": 0.003, "commit_times": [(0.001, 2), (0.002, 1), (float("inf"), 0)]}

    def follow(self, after: str | None) -> AsyncIterator[dict[str, Any]]:
        async def nothing() -> AsyncIterator[dict[str, Any]]:
            await asyncio.Event().wait()
            yield {}

        return nothing()

    def webhooks(self) -> list[dict[str, Any]]:
        return [{"name": "crm", "ok": True, "why": "", "delivered": 2}]

    async def undelivered(self, webhook: str) -> list[dict[str, Any]]:
        return [{"id": "7-0", "at": 1.0, "reason": "status 500"}]

    async def redeliver(self, webhook: str) -> tuple[int, int]:
        return (1, 0)

    def messages(self, agent: str | None) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
        self._listeners.append((agent, queue))

        async def follow() -> AsyncIterator[dict[str, Any]]:
            while (message := await queue.get()) is not None:
                yield message

        return follow()

    # ---- what happens -----------------------------------------------------------------------------------------------

    def arrive(self, call: str, **more: Any) -> None:
        self._calls[call] = {"id": call, "state": "waiting", "arrived": time.time(), "ani": "+4915112345678", "dnis": "1000", **more}

    def end(self, call: str) -> None:
        self._ended.append({**self._calls.pop(call), "state": "ended", "ended": time.time(), "outcome": "answered", "cause": 16})

    def offer(self, agent: str, call: str, card: dict[str, Any], offer: str = "o1") -> None:
        self.arrive(call, agent=agent)
        self._work(agent, "offered", call)
        self.say(agent, {"type": "offer", "offer": offer, "call": call, "card": card})

    def say_hand(self, agent: str, call: str, card: dict[str, Any], offer: str = "o1") -> None:
        """What is in the agent's hand is part of the agent's state from now on, as after a take-over."""
        self._change(agent, hand={"phase": "offered", "call": call, "offer": offer, "card": card, "since": time.time()})

    def answered(self, agent: str, call: str) -> None:
        self._work(agent, "talking", call)
        self.say(agent, {"type": "talking", "call": call, "since": time.time()})

    def caller_left(self, agent: str, call: str, seconds: float = 30) -> None:
        self._work(agent, "wrap_up", call)
        self.say(agent, {"type": "wrap_up", "call": call, "since": time.time(), "until": time.time() + seconds})

    def withdraw(self, agent: str, offer: str, reason: str) -> None:
        self._work(agent, "", "")
        self.say(agent, {"type": "withdrawn", "offer": offer, "reason": reason})

    def say(self, agent: str, message: dict[str, Any]) -> None:
        for whose, queue in self._listeners:
            if whose in (None, agent):
                queue.put_nowait(message)

    def cut_off(self, agent: str) -> None:
        """The feed of this agent ends, as that of a reader that is too slow does."""
        ended = [listener for listener in self._listeners if listener[0] == agent]
        self._listeners = [listener for listener in self._listeners if listener not in ended]
        for _, queue in ended:
            queue.put_nowait(None)

    def of(self, kind: type[ev.Event]) -> list[Any]:
        return [e for e in self.events if isinstance(e, kind)]

    def _move(self, event: ev.Event) -> None:
        match event:
            case ev.AgentSignedIn() | ev.AgentBecameReady() | ev.AgentBecameNotReady() | ev.AgentSignedOut():
                agent = self._agents[event.agent]
                to = PRESENCE.get((agent["presence"], type(event)))
                if to is None:
                    raise Refused("illegal-move", f"{event.agent} is {agent['presence']}: {type(event).__name__} is not possible")
                self._change(event.agent, presence=to, reason=getattr(event, "reason", ""))
            case ev.AgentHungUp():
                self._has(event.agent, event.call, "talking")
                self.caller_left(event.agent, event.call)
            case ev.AgentRejected():
                self._has(event.agent, event.call, "offered")
                self.withdraw(event.agent, "o1", "rejected")
            case ev.AgentFinishedWrapUp():
                self._has(event.agent, event.call, "wrap_up")
                self._work(event.agent, "", "")
                self.say(event.agent, {"type": "ended", "call": event.call})
                self.end(event.call)

    def _has(self, agent: str, call: str, work: str) -> None:
        if call not in self._calls:
            raise Refused("unknown-call", "no such call")
        if (self._agents[agent]["call"], self._agents[agent]["work"]) != (call, work):
            raise Refused("illegal-move", f"{agent} has no call that is {work}")

    def _work(self, agent: str, work: str, call: str) -> None:
        self._change(agent, work=work, call=call)

    def _change(self, agent: str, **changes: Any) -> None:
        self._agents[agent] = {**self._agents[agent], **changes, "since": time.time()}
        self.say(agent, {"type": "state", "agent": dict(self._agents[agent])})


@cache
def credentials() -> Credentials:
    """Three tokens and two agents with the same PIN."""
    who = {
        "admin": Principal("ops", "admin"),
        "supervisor": Principal("lead", "supervisor"),
        "anna": Principal("annas-program", "agent", agent="anna"),
    }
    return Credentials({hash_token(TOKENS[k]): p for k, p in who.items()}, {"anna": hash_pin(PIN), "boris": hash_pin(PIN)})


@asynccontextmanager
async def served(house: House, *, who: Credentials | None = None, **settings: Any) -> AsyncIterator[str]:
    """The API over this house on a free port of loopback; yields the base URL."""
    async with serve(make_app(house, ApiSettings(**{"port": 0, "credentials": who or credentials(), **settings}))) as url:
        yield url


async def until(true: Callable[[], Any] | Callable[[], Awaitable[Any]], within: float = 5.0) -> Any:
    """What the predicate gives once it is true; fails after `within` seconds."""
    deadline = time.monotonic() + within
    while True:
        value = true()
        value = await value if isinstance(value, Awaitable) else value
        if value:
            return value
        assert time.monotonic() < deadline, f"did not come true within {within} s"
        await asyncio.sleep(0.01)
