"""The routing decision for a PBX that keeps its own dialplan: the same flow, run without a caller to talk to.

The flow of the number is driven with its lookups done for real; prompts are over at once, keys are those that the dialplan collected
(if any), and nothing is written, mailed or queued. Where the flow would queue the call, that is the decision.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Mapping
from typing import Any

from app.actions.files import ActionDef
from app.core import commands as do
from app.core import events as ev
from app.core.call import Call
from app.core.center import Book, call_variables
from app.core.flow.script import Enqueue
from app.engine import Adapter

SAFE = ("GET", "HEAD")
MAX_MOVES = 500


class Decider:
    """Answers `decide(request)`; `actions` must post what comes of its requests to `post` here."""

    def __init__(self, book: Book, definitions: Mapping[str, ActionDef]) -> None:
        self._book, self._definitions = book, definitions
        self._answers: dict[str, asyncio.Future[ev.Event]] = {}
        self.actions: Adapter | None = None

    def post(self, event: ev.Event) -> None:
        """An action's answer."""
        future = self._answers.pop(getattr(event, "request", ""), None)
        if future is not None and not future.done():
            future.set_result(event)

    async def decide(self, request: Mapping[str, str]) -> dict[str, Any]:
        """Channel variables: CW_STATUS is QUEUE, SELF_SERVICE or NO_FLOW; with QUEUE the place that the flow chose."""
        flow = self._book.flows.get(request.get("arg_2") or request.get("dnis", ""))
        if flow is None:
            return {"CW_STATUS": "NO_FLOW"}
        call = Call(secrets.token_hex(16), request.get("channel", ""), flow, ani=request.get("ani", ""), dnis=request.get("dnis", ""))
        call.vars.update(call_variables(call, returned=False))
        call.answered, call.keys = time.time(), request.get("arg_1", "")
        out = call.begin(time.time())
        for _ in range(MAX_MOVES):
            decided, event = await self._follow(call, out)
            if decided is not None:
                return decided
            out = self._next(call, event)
        return {"CW_STATUS": "FAILED"}

    async def _follow(self, call: Call, out: list[Any]) -> tuple[dict[str, Any] | None, ev.Event | None]:
        """The decision that these orders are, or the event that comes of them."""
        event: ev.Event | None = None
        for order in out:
            if isinstance(order, Enqueue):
                return self._place(call, order), None
            if isinstance(order, do.HangUp | do.Release | do.SendMail):
                return {"CW_STATUS": "SELF_SERVICE", **_who(call)}, None
            if isinstance(order, do.Play):
                event = ev.PlaybackEnded(call.id, order.playback)
            elif isinstance(order, do.StartAction):
                if self._definitions[order.action].request.method not in SAFE:
                    return {"CW_STATUS": "SELF_SERVICE", **_who(call)}, None
                event = await self._ask(order)
        return None, event

    async def _ask(self, order: do.StartAction) -> ev.Event:
        assert self.actions is not None
        future: asyncio.Future[ev.Event] = asyncio.get_running_loop().create_future()
        self._answers[order.request] = future
        self.actions.carry_out(order)
        return await future

    def _next(self, call: Call, event: ev.Event | None) -> list[Any]:
        """Feed what happened, or let the open wait run out at once."""
        if event is not None and call.wait is not None and isinstance(event, call.wait.kinds):
            return call.feed(event, call.now)
        return call.feed(ev.TimerFired(call.id, f"wait {call.waits}"), max(call.deadline or call.now, call.now))

    def _place(self, call: Call, order: Enqueue) -> dict[str, Any]:
        credit = self._book.queues[order.queue].credit(order.place)
        skills = ",".join(f"{name}:{level}" for name, level in sorted(order.skills.items()))
        return {"CW_STATUS": "QUEUE", "CW_QUEUE": order.queue, "CW_SKILLS": skills, "CW_PRIORITY": int(credit), **_who(call)}


def _who(call: Call) -> dict[str, Any]:
    found = bool(call.vars.get("contact.found"))
    names = {"CW_CONTACT": "contact.id", "CW_REFERENCE": "contact.reference", "CW_TIER": "contact.tier"}
    return {key: str(call.vars.get(name, "")) if found else "" for key, name in names.items()}
