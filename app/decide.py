"""The routing decision for a PBX that keeps its own dialplan: the same flow, run without a caller to talk to.

The flow of a number is driven with its lookups done for real. Prompts are over at once, keys are those that the dialplan has
collected already (if any), every other wait runs out. Nothing is written, mailed or queued: where the flow would do that, it has decided.

The PBX asks with arguments: `agi://<us>/route,<keys>,<number>`. `number` is the one whose flow decides, since a PBX that keeps its own
numbers rarely dials ours; without it the number dialled is taken. What it gets, always all of it:

    CW_STATUS      QUEUE           the flow would queue the call; the place follows
                   LOOKUP_FAILED   the same, but a system of record did not answer: this is the flow's way out of that
                   SELF_SERVICE    the flow would serve the caller without an agent
                   RELEASE         the flow would give the caller back to the dialplan
                   NO_FLOW         no flow has this number
                   FAILED          the flow comes to no end
    CW_QUEUE, CW_SKILLS (`lang.en:5,printers:3`), CW_PRIORITY (seconds in front of the others, negative: behind them)
    CW_CONTACT, CW_REFERENCE, CW_TIER              of the record that was found; CW_CONTACT is "" for a caller who is not recognised
"""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import structlog

from app.actions.method import ActionDef
from app.core import automations, driving, facts
from app.core import commands as do
from app.core import events as ev
from app.core.book import Book
from app.core.call import KEYS, MAX_KEYS, Call, call_variables
from app.core.flow.script import BookCallback, Enqueue, Transfer, Wait
from app.engine import Adapter
from app.pbx.agi import BUDGET

log = structlog.get_logger()

MAX_MOVES = 500
RESERVE = 0.4
"""Seconds of the budget that no lookup gets: the answer has to reach the PBX in time."""
NOTHING: Mapping[str, Any] = dict.fromkeys(("CW_QUEUE", "CW_SKILLS", "CW_PRIORITY", "CW_CONTACT", "CW_REFERENCE", "CW_TIER"), "")
Decision = dict[str, Any]
_ANSWERS = (ev.ActionSucceeded, ev.ActionFailed)


class Decider:
    """Answers `decide(request)` within `budget` seconds; `actions` must post what comes of its requests to `post` here."""

    def __init__(self, book: Book, definitions: Mapping[str, ActionDef], budget: float = BUDGET) -> None:
        self._book, self._definitions, self._budget = book, definitions, budget
        self._answers: dict[str, asyncio.Future[ev.Event]] = {}
        self.actions: Adapter | None = None

    def post(self, event: ev.Event) -> None:
        """An action's answer. One that nobody waits for any more is silence."""
        future = self._answers.get(getattr(event, "request", ""))
        if future is not None and not future.done():
            future.set_result(event)

    async def decide(self, request: Mapping[str, str]) -> Decision:
        """What becomes of this call, as channel variables; `request` is as `app.pbx.agi.request_of` makes it."""
        number = request.get("arg_2") or request.get("dnis", "")
        flow = self._book.flows.get(number)
        if flow is None:
            return {**NOTHING, "CW_STATUS": "NO_FLOW"}
        call = Call(
            secrets.token_hex(16),
            request.get("channel", ""),
            flow,
            ani=request.get("ani", ""),
            name=request.get("name", ""),
            dnis=number,
            answered=time.time(),
            keys="".join(key for key in request.get("arg_1", "") if key in KEYS)[:MAX_KEYS],
        )
        call.vars.update(call_variables(call, returned=False))
        until = asyncio.get_running_loop().time() + self._budget - RESERVE
        return await _Drive(call, self._book, self._writes, lambda order: self._ask(order, until)).to_its_decision()

    def _writes(self, action: str) -> bool:
        """Whether an action may change something."""
        return not self._definitions[action].reads

    async def _ask(self, order: do.StartAction, until: float) -> ev.Event:
        """What comes of a lookup, in the time that is left."""
        assert self.actions is not None
        loop = asyncio.get_running_loop()
        left = min(order.budget, until - loop.time())
        if left <= 0:
            return ev.ActionFailed(order.call, order.request, "timeout", "no time was left for it")
        future: asyncio.Future[ev.Event] = loop.create_future()
        self._answers[order.request] = future
        try:
            self.actions.carry_out(replace(order, budget=left))
            return await future
        finally:
            del self._answers[order.request]


class _Drive:
    """One call on its way through its flow, on a clock of its own that only waiting moves."""

    def __init__(self, call: Call, book: Book, writes: Callable[[str], bool], ask: Callable[[do.StartAction], Awaitable[ev.Event]]) -> None:
        self._call, self._book, self._writes, self._ask = call, book, writes, ask
        self._asked: list[do.StartAction] = []
        self._beside: list[do.StartAction] = []
        """What the flow asks beside its steps and keeps; what it does there that changes something is left undone."""
        self._playing = ""
        self._lookup_failed = False

    async def to_its_decision(self) -> Decision:
        """Drive it until the flow does what only a call can have done."""
        for thing in automations.orders(self._call, "arrival"):
            self._decided(thing)
        while self._beside:
            driving.feed(self._call, await self._ask(self._beside.pop(0)), self._call.answered)
        out = self._step(partial(driving.begin, self._call, "", self._call.answered))
        for _ in range(MAX_MOVES):
            for thing in out:
                decision = self._decided(thing)
                if decision is not None:
                    return decision
            if self._beside:
                event, at = await self._ask(self._beside.pop(0)), self._call.now
            elif self._call.wait is not None:
                event, at = await self._next(self._call.wait)
            else:
                break
            out = self._step(partial(driving.feed, self._call, event, at))
        return self._decision("FAILED")

    def _step(self, step: Callable[[], list[Any]]) -> list[Any]:
        """One step of the flow. A mistake in it ends this decision and nothing else."""
        try:
            return step()
        except Exception as error:
            log.warning("a flow failed while deciding", flow=self._call.flow.program.flow, step=self._call.step, error=type(error).__name__)
            driving.stop(self._call)
            return []

    def _decided(self, thing: Any) -> Decision | None:
        """The decision that one order is; others are noted."""
        match thing:
            case Enqueue():
                return self._placed(thing)
            case do.HangUp() | do.SendMail() | do.SendSms() | do.StartRecord() | do.StartBot() | Transfer() | BookCallback():
                return self._decision("SELF_SERVICE")
            case do.Release():
                return self._decision("RELEASE")
            case do.StartAction() if (into := automations.into_of(self._call, thing.request)) is not None:
                self._beside += [thing] if into and not self._writes(thing.action) else []
            case do.StartAction() if self._does(self._call.step) != "lookup" and self._writes(thing.action):
                return self._decision("SELF_SERVICE")
            case do.StartAction():
                self._asked.append(thing)
            case do.Play():
                self._playing = thing.playback
            case facts.StepLeft() if self._does(thing.step) in ("lookup", "gather"):
                self._lookup_failed = thing.exit == "failed"
        return None

    def _does(self, step: str) -> str:
        return str(self._call.flow.program.steps[step].do)

    async def _next(self, wait: Wait) -> tuple[ev.Event, float]:
        """What happens next, and when: the answer that is waited for, the end of the prompt, or the end of the wait."""
        call, kinds, asked = self._call, wait.kinds, self._asked
        if asked and any(kind in kinds for kind in _ANSWERS):
            return await self._ask(asked.pop(0)), call.now
        if self._playing and ev.PlaybackEnded in kinds:
            playback, self._playing = self._playing, ""
            return ev.PlaybackEnded(call.id, playback), call.now
        return ev.TimerFired(call.id, f"wait {call.waits}"), max(call.deadline or call.now, call.now)

    def _placed(self, order: Enqueue) -> Decision:
        skills = ",".join(f"{name}:{level}" for name, level in sorted(order.skills.items()))
        place = {"CW_QUEUE": order.queue, "CW_SKILLS": skills, "CW_PRIORITY": int(self._book.queues[order.queue].credit(order.place))}
        decision = self._decision("LOOKUP_FAILED" if self._lookup_failed else "QUEUE") | place
        return decision | {"CW_REFERENCE": decision["CW_REFERENCE"] or order.attach.get("reference", "")}

    def _decision(self, status: str) -> Decision:
        known, found = self._call.vars, bool(self._call.vars.get("contact.found"))
        names = {"CW_CONTACT": "contact.id", "CW_REFERENCE": "contact.reference", "CW_TIER": "contact.tier"}
        return {**NOTHING, "CW_STATUS": status, **{key: str(known.get(name, "")) if found else "" for key, name in names.items()}}
