"""The one loop: take what has arrived, let the core decide, write it all down in one commit, and only then carry it out.

    inbox -> center.handle(event, now) -> journal + live rows, one commit -> commands to the adapters, facts to whoever listens

What has arrived by the time a turn begins shares its commit, which the store makes at once where it can (`Store.commit_now`) and else
in its own time (`Store.commit`); what arrives during that waits for the next turn. A turn of which nothing comes and for which
nobody waits is committed with the next one, or after `LINGER` seconds. Nothing else touches the core, and there are no locks.
`now` is the wall time at start plus monotonic elapsed, never less than what was journaled last.

While the store cannot be written, or does not answer within `PATIENCE`, calls that are up go on: commands that do no harm twice
go out at once, everything else and every acknowledgement waits, new calls take the fallback, and no agent is offered a call. That
lasts 60 s or 200,000 records at most; then the loop stops handling and waits.

The lease cannot be extended then either, but nor can anybody else take it from a store that takes no writes, and the commands that
go out are harmless twice. So the engine goes on past the lease's end for as long as it has been awake all the time and the
store has refused it all the time (`_in_touch`). A process that slept, or whose store speaks again, must prove the lease first.

After a take-over, and while the link to the PBX is lost, deadlines wait until the PBX has told which channels there are, for
`BLIND` seconds at most. After a take-over so does what would drive a call on (answers of actions and mail), and nobody is offered a
call: there is no channel yet that an order could be about.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Protocol, TypeVar

import structlog

from app import failpoints
from app.core import commands
from app.core import events as ev
from app.core.book import Book
from app.core.center import Center
from app.core.defined import Staff, read_program, to_keep
from app.core.mistakes import REFUSALS, after_a_mistake
from app.core.record import TYPES, rows_of, unpack
from app.core.saving import dump_agent, dump_call, history_row, restore
from app.store import TTL, Batch, LeaseLost, Recovered, Store, StoreClash, StoreError
from app.store.lease import clock as lease_clock

log = structlog.get_logger()
T = TypeVar("T")

MEMORY_SECONDS = 60.0
MEMORY_RECORDS = 200_000
RETRY = 0.25
PATIENCE = 1.0
"""Seconds a commit may take before calls go on without it."""
BLIND = 10.0
DRIVING = (ev.ActionSucceeded, ev.ActionFailed, ev.MailSent, ev.MailFailed, ev.SmsSent, ev.SmsFailed, ev.StepFailed, ev.DeskAcknowledged)
"""What drives a call on though the PBX has told nothing."""
LINGER = 0.05
"""Seconds that what calls for no action may wait for company in a commit. A crash meanwhile is as if it had come so much earlier."""
TURN = 512
"""Events handled before a commit, at most."""
COMMIT_EDGES = tuple(round(0.00025 * 1.25**n, 6) for n in range(40))
"""Upper edges, in seconds, of the classes that commits are counted in by how long they took; one class more has the rest."""


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

    def not_before(self, floor: float) -> None:
        """From now on at least this."""
        self._base = max(self._base, floor - time.monotonic())


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
    lingers_until: float = 0.0

    def is_quiet(self) -> bool:
        """Whether nobody waits for this commit. A call that has ended is looked for in the history."""
        return not (self.commands or self.done or self.batch.history)

    def marks(self) -> tuple[int, ...]:
        """How much there is of everything, now."""
        return len(self.batch.journal), len(self.batch.history), len(self.commands), len(self.happened), len(self.done), self.records

    def cut(self, marks: tuple[int, ...]) -> Pending:
        """Everything up to `marks`, taken off; this very object where nothing was added since. Rows are the newest, and stay."""
        if marks == self.marks():
            return self
        journal, ended, orders, happened, done, records = marks
        batch = Batch(self.batch.at, _take(self.batch.journal, journal), agents=dict(self.batch.agents))
        del self.batch.history[:ended]
        self.records -= records
        return Pending(batch, _take(self.commands, orders), _take(self.happened, happened), _take(self.done, done), records=records)


class Engine:
    """Drives one centre. `run` returns when `stop` was asked for, and raises what must end the process."""

    def __init__(self, book: Book, store: Store, clock: Clock | None = None) -> None:
        self.center = Center(book)
        self.store = store
        self.clock = clock or Clock()
        self.adapters: list[Adapter] = []
        self.listeners: list[Listener] = []
        self.stats = {"events": 0, "commits": 0, "commit_seconds": 0.0, "worst_commit": 0.0, "held_back": 0}
        self.commit_times = [0] * (len(COMMIT_EDGES) + 1)
        self.storage_trouble = ""
        self.ended: dict[str, dict[str, Any]] = {}
        """Calls that have ended and of which the history may not know yet: their rows."""
        self._inbox: deque[Arrival] = deque()
        self._wake = asyncio.Event()
        self._stopping = False
        self._routes: dict[type[Any], Adapter | None] = {}
        self._gone_out: set[int] = set()
        self._writing: asyncio.Task[int] | None = None
        self._written: tuple[int, ...] = ()
        self._retry_at = 0.0
        self._in_touch = 0.0
        self._blind_until = 0.0
        self._seen_pbx = False
        self._driving: list[Arrival] = []
        self._passing = failpoints.armed()
        self._journaled = self.center.circumstances

    # ---- what others call ----------------------------------------------------------------------------------------------

    def post(self, event: ev.Event) -> None:
        """Hand in an event; never blocks and never fails."""
        self._inbox.append(Arrival(event))
        self._wake.set()

    async def submit(self, event: ev.Event) -> None:
        """Hand in an event and wait until it is durable; raises what the centre refuses it with (`Center.handle`)."""
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
        await self._bring_versions(left)
        self.clock.not_before(left.now_floor)
        now = self.clock.now()
        self._blind_until = now + BLIND if left.live else 0.0
        self.center.blind = bool(left.live)
        journal = {call: list(_handled(rows)) for call, rows in left.journal.items()}
        trouble = restore(self.center, left.live, left.agents, journal, now)
        self._journaled = self.center.circumstances
        self.post(await self._taking_over(left))
        for call, problem in trouble:
            log.warning("call not at its step", call=call, problem=problem)
            self.post(ev.StepFailed(call, problem))
        return len(left.live)

    async def _bring_versions(self, left: Recovered) -> None:
        """Every version of every flow, with the programs of those that new calls run and of those that live calls began with."""
        versions = self.center.book.published
        versions.restore(left.versions)
        running = {version.hash for line in versions.lines.values() for version in line.versions.values() if version.runs()}
        wanted = running | {str(row["version"]) for row in left.live.values()}
        for hash_, content in (await self.store.programs(wanted - versions.shelf.keys())).items():
            try:
                versions.shelf[hash_] = read_program(content, hash_)
            except ValueError as error:
                log.error("a program cannot be run by this release", version=hash_, problem=str(error)[:500])
        self.center.book.renumber()

    async def _taking_over(self, left: Recovered) -> ev.TookOver:
        """The event that says what this process begins with, after writing down what it runs, so that it can be replayed for ever."""
        book = self.center.book
        running = book.versions()
        await self.store.keep_programs(to_keep(running, Staff(book.queues, book.agents, book.transfers)), self.clock.now())
        flows = tuple(f"{flow.name} {flow.version}" for flow in running)
        return ev.TookOver(left.alive, len(left.live), self.center.blind, book.staff, flows, left.agents, made_with())

    def _note_circumstances(self, now: float, pending: Pending) -> None:
        """What was told to the centre by its attributes decides as events do, so the journal has it before the next of them."""
        if self._journaled != self.center.circumstances:
            self._journaled = self.center.circumstances
            self._write_down(ev.CircumstancesChanged(*self._journaled), [], now, pending)

    async def keep_lease(self) -> None:
        """Renew the lease where no commit has done so; raises `LeaseGone` when it is another's by now."""
        try:
            await self.store.renew()
        except LeaseLost as error:
            raise LeaseGone(str(error)) from None
        except StoreError as error:
            log.warning("the lease could not be renewed", reason=str(error))
            self._stay_in_touch()

    def _stay_in_touch(self) -> None:
        """The store has just refused us. Past the lease's end we stay the one who acts only if it has done so without a gap."""
        now = lease_clock()
        if not self.store.holds_lease() and now - self._in_touch > TTL:
            raise LeaseGone("the lease ran out, and this process was not there to see whether another took it")
        self._in_touch = now

    async def _prove_lease(self) -> None:
        """Be sure, before commands go out, that no other process has taken over."""
        if not self.store.holds_lease():
            try:
                await self.store.renew()
            except StoreError as error:
                raise LeaseGone(f"the lease ran out: {error}") from None

    # ---- the loop ------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Handle, commit, carry out, until stopped."""
        pending = Pending(Batch(at=self.clock.now()))
        try:
            while not self._stopping or self._inbox:
                await self._wait(pending)
                if not self._memory_is_full(pending):
                    self._turn(pending)
                if not _is_empty(pending) and not self._lingers(pending):
                    pending = await self._commit(pending)
            if not _is_empty(pending):
                await self._commit(pending)
        finally:
            if self._writing is not None:
                self._writing.cancel()

    def _lingers(self, pending: Pending) -> bool:
        """Whether a commit may wait a little longer."""
        if self.storage_trouble or not pending.is_quiet():
            return False
        now = self.clock.now()
        pending.lingers_until = pending.lingers_until or now + LINGER
        return now < pending.lingers_until and not self._stopping

    async def _wait(self, pending: Pending) -> None:
        """Until something has arrived, a deadline has passed, or it is time to try the store again."""
        full = self._memory_is_full(pending)
        if self._inbox and not full:
            return
        self._wake.clear()
        if full:
            await asyncio.sleep(RETRY)
            return
        seconds = self._patience(pending)
        waker = None if seconds is None else asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            if waker is not None:
                waker.cancel()

    def _patience(self, pending: Pending) -> float | None:
        """Seconds until something is to be done though nothing arrives; None: for ever."""
        deadline = self.center.next_deadline()
        now = self.clock.now()
        at = [] if deadline is None else [max(deadline, self._blind_until)]
        if self.center.blind:
            at.append(self._blind_until)
        if not _is_empty(pending):
            at.append(now + RETRY if self.storage_trouble else pending.lingers_until)
        return max(min(at) - now, 0.0) if at else None

    def _memory_is_full(self, pending: Pending) -> bool:
        return bool(self.storage_trouble) and (
            pending.records > MEMORY_RECORDS or (pending.since > 0 and self.clock.now() - pending.since > MEMORY_SECONDS)
        )

    def _turn(self, pending: Pending) -> None:
        """Handle what is there: deadlines first, in order, then what arrived."""
        now = self.clock.now()
        if now >= self._blind_until:
            self._see()
            while (due := self.center.due(now)) is not None:
                self._handle(Arrival(due), now, pending)
        for _ in range(min(len(self._inbox), TURN)):
            arrival = self._inbox.popleft()
            self._look_at_the_link(arrival.event)
            if self.center.blind and isinstance(arrival.event, DRIVING):
                self._driving.append(arrival)
            else:
                self._handle(arrival, self.clock.now(), pending)
        if self._seen_pbx and not self._inbox:
            self._blind_until = 0.0
            self._see()
        pending.batch.at = self.clock.now()
        self._note_rows(pending)

    def _see(self) -> None:
        """After a take-over the channels are known, or have been waited for long enough: what was held back goes on."""
        if self.center.blind:
            self.center.blind = False
            self._inbox.extend(self._driving)
            self._driving.clear()
            self.post(ev.TimerFired("", "acd"))

    def _look_at_the_link(self, event: ev.Event) -> None:
        """Without the PBX's events nobody knows what a deadline would mean."""
        if isinstance(event, ev.PbxLost):
            self._blind_until, self._seen_pbx = self.clock.now() + BLIND, False
        elif isinstance(event, ev.PbxBack):
            self._seen_pbx = True

    def _handle(self, arrival: Arrival, now: float, pending: Pending) -> None:
        event = self.center.veiled(arrival.event)
        self.stats["events"] += 1
        self._note_circumstances(now, pending)
        if self._passing:
            self._passing("before_handled", [event])
        try:
            out = self.center.fail(event.call, event.error, now) if isinstance(event, ev.StepFailed) else self.center.handle(event, now)
        except REFUSALS as refusal:
            if arrival.done is not None and not arrival.done.done():
                arrival.done.set_exception(refusal)
            return
        except Exception as error:
            log.exception("an event could not be handled", type=type(event).__name__, call=getattr(event, "call", ""))
            out = after_a_mistake(self.center, getattr(event, "call", ""), error, now, _nor_could_it_fail)
            if arrival.done is not None and not arrival.done.done():
                arrival.done.set_exception(error)
        self._write_down(event, out, now, pending)
        if arrival.done is not None and not arrival.done.done():
            pending.done.append(arrival.done)
            pending.batch.full = True

    def _write_down(self, event: ev.Event, out: list[Any], now: float, pending: Pending) -> None:
        """One row for each call that this event concerns: the event first, then what came of it, in order."""
        for thing in out:
            if isinstance(thing, commands.Command):
                pending.commands.append(thing)
                pending.batch.full = pending.batch.full or thing.outward
        for call, records in rows_of(event, out, now).items():
            pending.batch.journal.append((call, records))
            pending.records += len(records)
        pending.happened.append((now, event, out))
        if self._passing:
            self._passing("before_persist", [event, *out])

    def _note_rows(self, pending: Pending) -> None:
        touched = self.center.touched()
        for call_id, call in touched.calls.items():
            pending.batch.live[call_id] = None if call is None else dump_call(self.center, call)
        for call in touched.ended:
            self.ended[call.id] = row = history_row(call)
            pending.batch.history.append(row)
        pending.batch.versions.update({key: version.row() for key, version in touched.versions.items()})
        for agent in touched.agents:
            pending.batch.agents[agent] = dump_agent(self.center, agent)

    async def _commit(self, pending: Pending) -> Pending:
        """Write it all, then carry it out; what could not be written stays pending."""
        began = time.monotonic()
        if self._writing is None and began < self._retry_at:
            self._let_out(pending)
            await asyncio.sleep(0)
            return pending
        try:
            at_once = self._writing is None and self.store.commit_now(pending.batch)
            written = pending if at_once else await self._write(pending)
        except LeaseLost as error:
            raise LeaseGone(str(error)) from None
        except StoreError as error:
            if isinstance(error, StoreClash):
                await self.keep_lease()
            self._store_is_away(pending, str(error))
            return pending
        if written is None:
            self._store_is_away(pending, f"a commit takes more than {PATIENCE} s")
            return pending
        spent = time.monotonic() - began
        self.stats["commits"] += 1
        self.stats["commit_seconds"] += spent
        self.commit_times[bisect_left(COMMIT_EDGES, spent)] += 1
        self.stats["worst_commit"] = max(self.stats["worst_commit"], spent)
        await self._prove_lease()
        self._store_is_back(written)
        if written is pending:
            self.ended.clear()
        self._tell_everybody(written)
        return pending if written is not pending else Pending(Batch(at=self.clock.now()))

    async def _write(self, pending: Pending) -> Pending | None:
        """Begin a commit, or go on waiting for the one that was begun: what it wrote, or None when it takes too long.

        The store has made its bytes by the time it first waits. So what is decided meanwhile can be added behind it, and stays
        when what was written is cut off.
        """
        if self._writing is None:
            self._written = pending.marks()
            self._writing = asyncio.ensure_future(self.store.commit(pending.batch))
        done, _ = await asyncio.wait((self._writing,), timeout=RETRY if self.storage_trouble else PATIENCE)
        if not done:
            return None
        writing, self._writing = self._writing, None
        writing.result()
        return pending.cut(self._written)

    def _tell_everybody(self, written: Pending) -> None:
        """It is durable: carry out the commands, answer those who wait, tell those who listen."""
        if self._passing:
            self._passing("after_persist", [thing for _, event, out in written.happened for thing in (event, *out)])
        for command in written.commands:
            if id(command) in self._gone_out:
                self._gone_out.discard(id(command))
            elif not self._is_stale(command):
                self._carry_out(command)
        for done in written.done:
            if not done.done():
                done.set_result(None)
        agents = list(written.batch.agents)
        for listener in self.listeners:
            try:
                listener(written.happened, agents)
            except Exception:
                log.exception("a listener failed")

    def _is_stale(self, command: commands.Command) -> bool:
        """A dial that was held back for so long that its offer is over by now."""
        if not isinstance(command, commands.RingAgent | commands.RingOutside):
            return False
        call = self.center.calls.get(command.call)
        return call is None or command.leg not in [each.leg for each in (call.offer, call.far) if each]

    def _store_is_back(self, written: Pending) -> None:
        if self.storage_trouble:
            log.info("the store can be written again", held=written.records)
            self.storage_trouble, self.center.store_away, self._retry_at = "", False, 0.0
            self.stats["held_back"] = 0
            self.post(ev.TimerFired("", "acd"))

    def _store_is_away(self, pending: Pending, reason: str) -> None:
        self._stay_in_touch()
        if not self.storage_trouble:
            log.error("the store cannot be written", reason=reason)
            pending.since = self.clock.now()
        self.storage_trouble, self.center.store_away = reason, True
        self._retry_at = time.monotonic() + RETRY
        self._let_out(pending)

    def _let_out(self, pending: Pending) -> None:
        """Commands of calls that are up and that do no harm twice do not wait for the store."""
        self._stay_in_touch()
        for command in pending.commands:
            if command.repeatable and not command.outward and id(command) not in self._gone_out:
                self._gone_out.add(id(command))
                self._carry_out(command)
        self.stats["held_back"] = len(pending.commands) - len(self._gone_out)

    def _carry_out(self, command: commands.Command) -> None:
        kind = type(command)
        try:
            if kind not in self._routes:
                self._routes[kind] = next((a for a in self.adapters if a.handles(command)), None)
                if self._routes[kind] is None:
                    log.warning("nobody carries this out", command=kind.__name__)
            adapter = self._routes[kind]
            if adapter is None:
                return
            adapter.carry_out(command)
            if self._passing:
                self._passing("after_command", [command])
        except Exception as error:
            log.exception("a command could not be carried out", command=kind.__name__, call=command.call)
            self.post(ev.StepFailed(command.call, f"{kind.__name__}: {type(error).__name__}: {error}"))


def _take(things: list[T], n: int) -> list[T]:
    """The first `n` of them, taken off."""
    taken, things[:] = things[:n], things[n:]
    return taken


def _nor_could_it_fail(call: str) -> None:
    log.exception("nor could the call take its error exit", call=call)


def _is_empty(pending: Pending) -> bool:
    return not (pending.records or pending.done or pending.batch.agents)


def made_with() -> dict[str, str]:
    """The versions of all that can change what comes of the same inputs."""
    found = {}
    for name in ("callwright", "cel-expr-python", "jinja2", "tzdata"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


class LeaseGone(Exception):
    """Another process has taken over; this one must not send anything more."""


def _handled(rows: Iterable[tuple[int, float, list[list[Any]]]]) -> Iterator[tuple[float, Any]]:
    """The events and facts among a call's records, each with the time it was handled at. What only another version knows is left out."""
    for _, _, records in rows:
        for kind, name, values, at in records:
            if kind != "c" and name in TYPES:
                yield at, unpack([name, values])
