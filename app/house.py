"""The house as the public API sees it: reads from the centre's memory and the store's history, writes as events.

Everything here is a copy, made when it is asked for. Messages to desks and feeds go out after the commit of the turn that caused
them; each reader has a bounded queue of its own, and one that is too slow is cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from typing import Any

from app.actions.sensitive import Sensitive, veiled
from app.api.backend import Archive, Flows, Refused, StorageBusy
from app.core import commands
from app.core.acd import IllegalMove, UnknownAgent
from app.core.call import DIALLING, OFFERED, QUEUED, TALKING, Call
from app.core.events import CallArrived, DigitPressed, Event, LegRinging, SessionWritten
from app.core.facts import Noticed, Queued, Transferred, WrapUpEnded
from app.core.flow.texts import nested
from app.core.session import SessionRefused
from app.core.versions import NotPublished
from app.core.view import card_of
from app.engine import COMMIT_EDGES, Engine
from app.feed import Feed, Place
from app.hooks import Hooks
from app.store import Forgotten

PATIENCE = 5.0
"""Seconds a write waits for the store before it is told to come back later."""
FEED = 1000
_STATES = {QUEUED: "waiting", OFFERED: "offered", TALKING: "talking"}
_CALLED_BACK = {OFFERED: "offered", DIALLING: "dialling", TALKING: "talking"}
_SAYS_MORE = frozenset(kind.__name__ for kind in (CallArrived, SessionWritten, Noticed, Queued, Transferred, WrapUpEnded))
"""The messages in which there is more than the centre's own words and numbers."""
Health = Callable[[], Mapping[str, Any]]


class House:
    """`app.api.backend.Backend` over an engine; also the adapter of what goes to desks. `flows` and `archive` are set from outside."""

    flows: Flows
    archive: Archive

    def __init__(
        self,
        engine: Engine,
        parts: Mapping[str, Health],
        sensitive: Sensitive | None = None,
        feed: Feed | None = None,
        hooks: Hooks | None = None,
    ) -> None:
        self._engine = engine
        self._sensitive = sensitive or Sensitive({})
        self._feed = feed or Feed(engine.store)
        self._feed.veil = self._veiled
        self._hooks = hooks
        self._parts = dict(parts)
        self._secrets: dict[str, tuple[frozenset[str], tuple[Any, ...]]] = {}
        """What was sensitive in calls that have ended, and of which something is still to be told."""
        self._readers: dict[asyncio.Queue[dict[str, Any] | None], str | None] = {}
        self.closing = ""
        engine.listeners.append(self._happened)
        engine.listeners.append(lambda happened, agents: self._feed.poke())

    # ---- writing -------------------------------------------------------------------------------------------------------

    async def submit(self, event: Event) -> None:
        if self._engine.storage_trouble:
            raise StorageBusy
        try:
            await asyncio.wait_for(self._engine.submit(event), PATIENCE)
        except TimeoutError:
            raise StorageBusy from None
        except (IllegalMove, UnknownAgent, NotPublished) as refusal:
            raise Refused(refusal.kind, str(refusal)) from None
        except SessionRefused as refusal:
            raise Refused(refusal.kind, str(refusal), refusal.errors) from None

    # ---- calls ---------------------------------------------------------------------------------------------------------

    def calls(self) -> list[dict[str, Any]]:
        return sorted((self._call(call) for call in self._engine.center.calls.values()), key=lambda row: (row["arrived"], row["id"]))

    def call(self, call: str) -> dict[str, Any] | None:
        found = self._engine.center.calls.get(call)
        return None if found is None else self._call(found)

    def _call(self, call: Call) -> dict[str, Any]:
        return self._shown(call, self._row(call))

    def _shown(self, call: Call, thing: dict[str, Any]) -> dict[str, Any]:
        """The same without what the actions of this call's flow call sensitive."""
        shown: dict[str, Any] = self._sensitive.shown(thing, call.flow.program, call.vars)
        return shown

    async def _veiled(self, message: dict[str, Any]) -> dict[str, Any]:
        """A message about a call without what is sensitive: what that is, of a call that has ended its own journal tells."""
        if not self._sensitive or not message["call"]:
            return message
        call = self._engine.center.calls.get(message["call"])
        if call is not None:
            return self._shown(call, message)
        if message["type"] not in _SAYS_MORE:
            return message
        try:
            shown: dict[str, Any] = veiled(message, *await self._secrets_of(message["call"]))
        except Forgotten:
            return {name: message[name] for name in ("id", "type", "at", "call")}
        return shown

    async def _secrets_of(self, call: str) -> tuple[frozenset[str], tuple[Any, ...]]:
        """Names and values; raises `Forgotten`."""
        if call not in self._secrets:
            records = await self._engine.store.history.timeline(call) or []
            self._secrets[call] = self._sensitive.found_in(_entry(record) for _, record in records)
            if len(self._secrets) > FEED:
                self._secrets.pop(next(iter(self._secrets)))
        return self._secrets[call]

    def _row(self, call: Call) -> dict[str, Any]:
        place, known = call.place, self._sensitive.known(call.flow.program, call.vars)
        return {
            "id": call.id,
            "state": _state(call),
            "flow": call.flow.program.flow,
            "version": call.flow.program.version,
            "step": call.step,
            "ani": call.ani,
            "dnis": call.dnis,
            "name": call.name,
            "tier": known.get("contact.tier", ""),
            "reference": (place.attach.get("reference", "") if place else "") or known.get("contact.reference", ""),
            "contact": known.get("contact.id", ""),
            "queue": place.queue if place else "",
            "position": self._engine.center.acd.position(call.id) or None,
            "skills": dict(place.skills) if place else {},
            "agent": call.offer.agent if call.offer else call.served_by,
            "arrived": call.arrived,
            "entered": call.entry.get("at"),
            "queued": place.first if place else None,
            "connected": call.connected or None,
            "ended": call.ended or None,
            "outcome": call.outcome,
            "cause": call.cause if call.ended else None,
            "channel": call.channel,
            "uniqueid": call.uniqueid,
            "linkedid": call.linkedid,
        }

    def session(self, call: str) -> dict[str, Any] | None:
        found = self._engine.center.calls.get(call)
        if found is None or not found.caller:
            return None
        spaces = {"call": {}, "ivr": {}, **nested(dict(sorted(found.vars.items())))}
        return self._shown(found, {"call": found.id, "version": found.written, "step": found.step, "variables": spaces})

    async def ended_calls(self, limit: int, before: float | None = None) -> list[dict[str, Any]]:
        rows = await self._engine.store.history.ended_calls(limit, before)
        return [_ended(self._sensitive.ended(row)) for row in rows]

    async def ended_call(self, call: str) -> dict[str, Any] | None:
        row = await self._engine.store.history.ended_call(call) or self._engine.ended.get(call)
        return None if row is None else _ended(self._sensitive.ended(row))

    async def timeline(self, call: str) -> list[dict[str, Any]] | None:
        try:
            records = await self._engine.store.history.timeline(call)
        except Forgotten:
            raise Refused("forgotten", f"call {call} was forgotten") from None
        if records is None:
            return [] if call in self._engine.center.calls else None
        return [_digits_hidden(entry) for entry in self._sensitive.timeline([_entry(record) for _, record in records])]

    # ---- agents and queues ---------------------------------------------------------------------------------------------

    def agents(self) -> list[dict[str, Any]]:
        return [self._agent(state) for state in self._engine.center.acd.states()]

    def _agent(self, state: dict[str, Any]) -> dict[str, Any]:
        work = state["work"][0] if state["work"] else {"interaction": "", "state": "", "since": None}
        definition = self._engine.center.book.agents[state["id"]]
        phone = state["phone"]
        return {
            "id": state["id"],
            "name": state["name"],
            "presence": state["presence"],
            "reason": state["reason"],
            "pending": state["pending"],
            "work": work["state"],
            "call": work["interaction"],
            "skills": dict(definition.skills),
            "phone": "unreachable" if not phone["reachable"] else "in_use" if phone["in_use"] else "reachable",
            "since": state["since"],
            "hand": self._hand(state["id"], work),
        }

    def _hand(self, agent: str, work: Mapping[str, Any]) -> dict[str, Any] | None:
        call = self._engine.center.calls.get(work["interaction"])
        if call is None or call.offer is None or call.offer.agent != agent:
            return None
        return {
            "phase": work["state"],
            "call": call.id,
            "offer": call.offer.id,
            "card": self._card(call),
            "ringing": call.offer.ringing and work["state"] == "offered",
            "since": work["since"],
            "until": self._engine.center.timers.of(call.id).get("wrap_up"),
        }

    def _card(self, call: Call) -> dict[str, Any]:
        card = card_of(call, self._engine.center.book)
        waited = (call.connected or self._engine.clock.now()) - (card["first_enqueue"] or call.arrived)
        tier = self._sensitive.known(call.flow.program, call.vars).get("contact.tier", card["tier"])
        return self._shown(
            call, {**card, "tier": tier, "contact": card["contact"] or None, "collected": card["vars"], "waited": max(waited, 0.0)}
        )

    def queues(self) -> list[dict[str, Any]]:
        center, now = self._engine.center, self._engine.clock.now()
        rows = []
        for name, queue in center.book.queues.items():
            waiting = center.acd.waiting(name)
            rows.append(
                {
                    "name": name,
                    "title": queue.title,
                    "waiting": len(waiting),
                    "longest_wait": max((now - item.first for item in waiting), default=0.0),
                    "agents": self._agents_of(name),
                    "calls": [
                        {"call": item.interaction, "position": n, "since": item.first, "skills": dict(item.skills)}
                        for n, item in enumerate(waiting, 1)
                    ],
                }
            )
        return rows

    def _agents_of(self, queue: str) -> dict[str, int]:
        counts: dict[str, int] = {}
        for state in self._engine.center.acd.states():
            if queue in self._engine.center.book.agents[state["id"]].queues:
                key = state["work"][0]["state"] if state["work"] else state["presence"]
                counts[key] = counts.get(key, 0) + 1
        return counts

    # ---- health --------------------------------------------------------------------------------------------------------

    def health(self) -> Mapping[str, Any]:
        parts = {name: _part(ask()) for name, ask in self._parts.items()}
        parts["store"] = {"ok": not self._engine.storage_trouble, "why": self._engine.storage_trouble}
        if self.closing:
            parts["shutdown"] = {"ok": False, "why": self.closing}
        needed = ("store", "asterisk", "shutdown")
        return {"ready": all(parts[name]["ok"] for name in needed if name in parts), "parts": parts}

    def stats(self) -> Mapping[str, Any]:
        stats, edges = self._engine.stats, (*COMMIT_EDGES, float("inf"))
        times = list(zip(edges, self._engine.commit_times, strict=True))
        return {"events": stats["events"], "commit_seconds": stats["commit_seconds"], "commit_times": times}

    # ---- what happens --------------------------------------------------------------------------------------------------

    def follow(self, after: str | None) -> AsyncIterator[dict[str, Any]]:
        place = self._feed.now() if after is None else Place.read(after)
        if place is None:
            raise Refused("invalid", "after is not the id of a message")
        return (message async for _, message in self._feed.follow(place))

    # ---- webhooks ------------------------------------------------------------------------------------------------------

    def webhooks(self) -> list[dict[str, Any]]:
        return self._hooks.targets() if self._hooks else []

    async def undelivered(self, webhook: str) -> list[dict[str, Any]]:
        return await self._hooks.aside(webhook) if self._hooks else []

    async def redeliver(self, webhook: str) -> tuple[int, int]:
        return await self._hooks.again(webhook) if self._hooks else (0, 0)

    def messages(self, agent: str | None) -> AsyncIterator[dict[str, Any]]:
        queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue(FEED)
        self._readers[queue] = agent
        return self._read(queue)

    async def _read(self, queue: asyncio.Queue[dict[str, Any] | None]) -> AsyncIterator[dict[str, Any]]:
        try:
            while (message := await queue.get()) is not None:
                yield message
        finally:
            self._readers.pop(queue, None)

    def handles(self, command: commands.Command) -> bool:
        return isinstance(command, commands.Pop | commands.WithdrawPop)

    def carry_out(self, command: commands.Command) -> None:
        """Show an offer on the agent's desk, or take it away."""
        if isinstance(command, commands.Pop):
            call = self._engine.center.calls.get(command.call)
            card = self._card(call) if call else dict(command.card)
            self._tell(command.agent, {"type": "offer", "offer": command.offer, "call": command.call, "card": card})
        elif isinstance(command, commands.WithdrawPop):
            self._tell(command.agent, {"type": "withdrawn", "offer": command.offer, "call": command.call, "reason": command.reason})

    def _happened(self, happened: list[tuple[float, Event, list[Any]]], agents: list[str]) -> None:
        if not self._readers:
            return
        for agent in agents:
            state = self._agent(self._engine.center.acd.state(agent))
            hand = state["hand"]
            kind = {"talking": "talking", "wrap_up": "wrap_up"}.get(state["work"], "state")
            if kind != "state" and hand is not None:
                self._tell(agent, {**hand, "type": kind})
            self._tell(agent, {"type": "state", "agent": state})
            self._tell(None, {"type": "agent", "agent": {**state, "hand": None}})
        for _, event, _ in happened:
            if isinstance(event, LegRinging):
                self._rings(event)

    def _rings(self, event: LegRinging) -> None:
        """The agent's phone rings; a leg of an offer that is over by now is nobody's business."""
        call = self._engine.center.calls.get(event.call)
        if call is not None and call.offer is not None and call.offer.leg == event.leg and not call.offer.answered:
            self._tell(call.offer.agent, {"type": "ringing", "call": call.id, "offer": call.offer.id})

    def _tell(self, agent: str | None, message: dict[str, Any]) -> None:
        for queue, reader in list(self._readers.items()):
            if reader != agent:
                continue
            try:
                queue.put_nowait(message)
            except asyncio.QueueFull:
                self._readers.pop(queue, None)
                while not queue.empty():
                    queue.get_nowait()
                queue.put_nowait(None)


def _state(call: Call) -> str:
    if call.caller:
        return _STATES.get(call.phase, "flow")
    return _CALLED_BACK.get(call.phase, "booked") if call.booking else "wrap_up"


def _part(health: Any) -> dict[str, Any]:
    told = health if isinstance(health, Mapping) else asdict(health)
    return {"ok": bool(told.get("ok")), "why": str(told.get("why", ""))}


def _ended(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the history as the API tells it; of a forgotten call nothing is said that was forgotten."""
    return {key: value for key, value in row.items() if value is not None} | {"id": row["call"], "state": "ended"}


def _entry(record: list[Any]) -> dict[str, Any]:
    """One record of the journal as a line of a timeline."""
    kind, name, values, at = record
    return {**values, "at": at, "kind": {"e": "event", "f": "fact", "c": "command"}[kind], "type": name}


def _digits_hidden(entry: dict[str, Any]) -> dict[str, Any]:
    """A line of a timeline without the digits that were pressed or asked for, and the numbers that were dialled."""
    if entry["type"] == DigitPressed.__name__:
        entry["digit"] = "•"
    elif entry["type"] in (commands.SendSms.__name__, commands.RingOutside.__name__):
        entry |= {key: masked(str(entry[key])) for key in ("to", "number") if key in entry}
    elif entry["type"] == commands.TellBot.__name__:
        entry.pop("values", None)
    elif entry["type"] == commands.StartAction.__name__:
        entry["params"] = {key: masked(str(value)) for key, value in entry.get("params", {}).items()}
    return entry


def masked(text: str) -> str:
    """A number or reference with all but its last two characters hidden."""
    return "•" * max(len(text) - 2, 0) + text[-2:]
