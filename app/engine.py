"""The one loop: take what has arrived, let the core decide, write it all down in one commit, and only then carry it out.

    inbox -> center.handle(event, now) -> journal + live rows, one commit -> commands to the adapters, facts to whoever listens

What arrives during a commit waits for the next turn, so that a busy moment shares one commit. Nothing else touches the core, and
there are no locks. `now` is the wall time at start plus monotonic elapsed, never less than what was journaled last.

While the store cannot be written, calls that are up go on: commands that do no harm twice go out at once, everything else and every
acknowledgement waits, new calls take the fallback. That lasts 60 s or 64 MiB at most; then the loop stops handling and waits.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

import structlog

from app.core import commands
from app.core import events as ev
from app.core.acd import IllegalMove, UnknownAgent
from app.core.center import Book, Center
from app.core.record import pack, unpack
from app.core.saving import dump_call, history_row, restore
from app.store import Batch, LeaseLost, Store, StoreError

log = structlog.get_logger()

MEMORY_SECONDS = 60.0
MEMORY_RECORDS = 200_000
RETRY = 0.25
TURN = 512
"""Events handled before a commit, at most."""


class Adapter(Protocol):
    """Whoever carries out commands. It never answers one; what comes of it comes back as an event."""

    def handles(self, command: commands.Command) -> bool:
        """Whether this adapter is the one for it."""

    def carry_out(self, command: Any) -> None:
        """Begin carrying it out; returns at once."""


class Listener(Protocol):
    """Whoever wants to know what happened, after it is durable: (time, event, what came of it) in order, and which agents changed."""

    def __call__(self, happened: list[tuple[float, ev.Event, list[Any]]], agents: list[str]) -> None: ...


class Clock:
    """Seconds since the epoch that never go back: wall time at start plus monotonic elapsed."""

    def __init__(self, floor: float = 0.0) -> None:
        self._base = max(time.time(), floor) - time.monotonic()

    def now(self) -> float:
        return self._base + time.monotonic()


@dataclass(slots=True)
class Arrival:
    """An event in the inbox; `done` is answered once the event is durable, or refused."""

    event: ev.Event
    done: asyncio.Future[None] | None = None


@dataclass(slots=True)
class Pending:
    """What was decided and not yet committed."""

    batch: Batch
    commands: list[commands.Command] = field(default_factory=list)
    happened: list[tuple[float, ev.Event, list[Any]]] = field(default_factory=list)
    done: list[asyncio.Future[None]] = field(default_factory=list)
    since: float = 0.0
    records: int = 0


class Engine:
    """Drives one centre. `run` returns when `stop` was asked for, and raises what must end the process."""

    def __init__(self, book: Book, store: Store, clock: Clock | None = None) -> None:
        self.center = Center(book)
        self.store = store
        self.clock = clock or Clock()
        self.adapters: list[Adapter] = []
        self.listeners: list[Listener] = []
        self.stats = {"events": 0, "commits": 0, "commit_seconds": 0.0, "worst_commit": 0.0, "held_back": 0}
        self.storage_trouble = ""
        self._inbox: deque[Arrival] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._routes: dict[type[Any], Adapter | None] = {}
        self._gone_out: set[int] = set()

    # ---- what others call ----------------------------------------------------------------------------------------------

    def post(self, event: ev.Event) -> None:
        """Hand in an event; never blocks and never fails."""
        self._inbox.append(Arrival(event))
        self._wake.set()

    async def submit(self, event: ev.Event) -> None:
        """Hand in an event and wait until it is durable; raises `IllegalMove` or `UnknownAgent` where the centre refuses it."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._inbox.append(Arrival(event, done))
        self._wake.set()
        await done

    def stop(self) -> None:
        """Finish the turn at hand and return from `run`."""
        self._stopping = True
        self._wake.set()

    async def take_over(self) -> int:
        """Bring the centre back from the store's rows; gives how many calls were live. Before `run`, once."""
        left = await self.store.recover()
        self.clock = Clock(left.now_floor)
        now = self.clock.now()
        journal = {call: list(_handled(rows)) for call, rows in left.journal.items()}
        trouble = restore(self.center, left.live, left.agents, journal, now)
        self.post(ev.TookOver(left.now_floor, len(left.live)))
        for call, problem in trouble:
            log.warning("call not at its step", call=call, problem=problem)
            self.post(ev.StepFailed(call, problem))
        return len(left.live)

    async def keep_lease(self) -> None:
        """Renew the lease where no commit has done so; raises `LeaseGone` when it is another's by now."""
        try:
            await self.store.renew()
        except LeaseLost as error:
            raise LeaseGone(str(error)) from None
        except StoreError as error:
            log.warning("the lease could not be renewed", reason=str(error))
        if not self.store.holds_lease():
            raise LeaseGone("the lease ran out")

    # ---- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle, commit, carry out, until stopped."""
        pending = Pending(Batch(at=self.clock.now()))
        while not self._stopping or self._inbox:
            await self._wait(pending)
            if not self._memory_is_full(pending):
                self._turn(pending)
            if pending.records or pending.done or pending.batch.agents:
                pending = await self._commit(pending)

    async def _wait(self, pending: Pending) -> None:
        """Until something has arrived, a deadline has passed, or it is time to try the store again."""
        if self._inbox and not self._memory_is_full(pending):
            return
        self._wake.clear()
        deadline = self.center.next_deadline()
        seconds = None if deadline is None else max(deadline - self.clock.now(), 0.0)
        if pending.records:
            seconds = RETRY if seconds is None else min(seconds, RETRY)
        if self._memory_is_full(pending):
            await asyncio.sleep(RETRY)
            return
        try:
            await asyncio.wait_for(self._wake.wait(), seconds)
        except TimeoutError:
            pass

    def _memory_is_full(self, pending: Pending) -> bool:
        return bool(self.storage_trouble) and (
            pending.records > MEMORY_RECORDS or (pending.since > 0 and self.clock.now() - pending.since > MEMORY_SECONDS)
        )

    def _turn(self, pending: Pending) -> None:
        """Handle what is there: deadlines first, in order, then what arrived."""
        pending.batch.at = now = self.clock.now()
        while (due := self.center.due(now)) is not None:
            self._handle(Arrival(due), now, pending)
        for _ in range(min(len(self._inbox), TURN)):
            self._handle(self._inbox.popleft(), self.clock.now(), pending)
        self._note_rows(pending)

    def _handle(self, arrival: Arrival, now: float, pending: Pending) -> None:
        event = arrival.event
        self.stats["events"] += 1
        try:
            out = self.center.fail(event.call, event.error, now) if isinstance(event, ev.StepFailed) else self.center.handle(event, now)
        except (IllegalMove, UnknownAgent) as refusal:
            if arrival.done is not None and not arrival.done.done():
                arrival.done.set_exception(refusal)
            return
        except Exception as error:
            log.exception("an event could not be handled", type=type(event).__name__, call=getattr(event, "call", ""))
            out = self.center.fail(getattr(event, "call", ""), f"{type(error).__name__}: {error}", now)
        self._write_down(event, out, now, pending)
        if arrival.done is not None:
            pending.done.append(arrival.done)
            pending.batch.full = True

    def _write_down(self, event: ev.Event, out: list[Any], now: float, pending: Pending) -> None:
        """One row for each call that this event concerns: the event first, then what came of it, in order."""
        home = _home(event)
        rows: dict[str, list[list[Any]]] = {home: [["e", *pack(event), now]]}
        for thing in out:
            is_command = isinstance(thing, commands.Command)
            rows.setdefault(thing.call, []).append(["c" if is_command else "f", *pack(thing), now])
            if is_command:
                pending.commands.append(thing)
                pending.batch.full = pending.batch.full or thing.outward
        for call, records in rows.items():
            pending.batch.journal.append((call, records))
            pending.records += len(records)
        pending.happened.append((now, event, out))

    def _note_rows(self, pending: Pending) -> None:
        touched = self.center.touched()
        for call_id, call in touched.calls.items():
            pending.batch.live[call_id] = None if call is None else dump_call(self.center, call)
        pending.batch.history.extend(history_row(call) for call in touched.ended)
        for agent in self.center.acd.changed():
            pending.batch.agents[agent] = self.center.acd.dump_agent(agent)

    async def _commit(self, pending: Pending) -> Pending:
        """Write it all, then carry it out; what could not be written stays pending."""
        began = time.monotonic()
        try:
            await self.store.commit(pending.batch)
        except LeaseLost as error:
            raise LeaseGone(str(error)) from None
        except StoreError as error:
            self._store_is_away(pending, error)
            return pending
        spent = time.monotonic() - began
        self.stats["commits"] += 1
        self.stats["commit_seconds"] += spent
        self.stats["worst_commit"] = max(self.stats["worst_commit"], spent)
        if self.storage_trouble:
            log.info("the store can be written again", held=pending.records)
        self.storage_trouble, self.center.admitting = "", True
        if not self.store.holds_lease():
            raise LeaseGone("the lease ran out")
        for command in pending.commands:
            if id(command) not in self._gone_out:
                self._carry_out(command)
        self._gone_out.clear()
        for done in pending.done:
            if not done.done():
                done.set_result(None)
        for listener in self.listeners:
            listener(pending.happened, list(pending.batch.agents))
        return Pending(Batch(at=self.clock.now()))

    def _store_is_away(self, pending: Pending, error: StoreError) -> None:
        if not self.storage_trouble:
            log.error("the store cannot be written", reason=str(error))
            pending.since = self.clock.now()
        self.storage_trouble, self.center.admitting = str(error), False
        for command in pending.commands:
            if command.repeatable and not command.outward and id(command) not in self._gone_out:
                self._gone_out.add(id(command))
                self._carry_out(command)
        self.stats["held_back"] = len(pending.commands) - len(self._gone_out)

    def _carry_out(self, command: commands.Command) -> None:
        kind = type(command)
        if kind not in self._routes:
            self._routes[kind] = next((a for a in self.adapters if a.handles(command)), None)
        adapter = self._routes[kind]
        if adapter is None:
            log.warning("nobody carries this out", command=kind.__name__)
            return
        try:
            adapter.carry_out(command)
        except Exception as error:
            log.exception("a command could not be carried out", command=kind.__name__, call=command.call)
            self.post(ev.StepFailed(command.call, f"{kind.__name__}: {type(error).__name__}: {error}"))


class LeaseGone(Exception):
    """Another process has taken over; this one must not send anything more."""


def _handled(rows: Iterable[tuple[int, float, list[list[Any]]]]) -> Iterator[tuple[float, Any]]:
    """The events and facts among a call's records, each with the time it was handled at."""
    for _, _, records in rows:
        for kind, name, values, at in records:
            if kind != "c":
                yield at, unpack([name, values])


def _home(event: ev.Event) -> str:
    """The call in whose journal an event belongs; "" for the centre's own."""
    if isinstance(event, ev.TimerFired):
        return "" if event.owner.startswith("agent:") else event.owner
    return getattr(event, "call", "")
