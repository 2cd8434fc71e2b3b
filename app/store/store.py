"""The store: what happened is written down here before anything is done about it.

One process commits, one commit at a time (the engine sees to that; the lease sees to it across processes). Reads, history
and forgetting go on beside it.

**A commit** turns its batch into bytes before it first waits, so the caller may go on changing what it handed over. Journal
rows are numbered here, not by the database: the number is part of what a row is sealed for. A commit whose outcome is unknown
(cancelled, or the connection broke in it) is undone by the next one, which is handed the same content again.

A commit that clashes meets a call whose key is in the database already: the key is read, and the commit run once more.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import exists, select

from app.store import lease
from app.store import statements as sql
from app.store.backend import Backend
from app.store.batch import Batch, Record, Recovered
from app.store.codec import loads
from app.store.draft import Draft
from app.store.errors import LeaseHeld, LeaseLost, StoreBusy, StoreClash, StoreError
from app.store.history import History
from app.store.keyring import CENTRE, IN_ONE_QUERY, KEYS_AT_HAND, KeyRing, journal_place, portions
from app.store.lease import TTL, Holder, Tenure
from app.store.opening import open_backend, open_keys
from app.store.readers import Readers
from app.store.schema import agents, call_keys, flow_versions, history, journal, live, programs, writer
from app.store.seal import Keys
from app.store.statements import Plan, Row, Step
from app.store.vault import Vault

log = structlog.get_logger()

DAY = 86400.0
FACTS_DAYS = 396
_PRUNED_AT_ONCE = 100


class Store:
    """One open database and its keys."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self._backend = backend
        self._ring = KeyRing(backend, keys)
        self._centre = keys.centre
        self.history = History(backend, self._ring)
        self.readers = Readers(backend)
        self.vault = Vault(backend, self._ring)
        self._seq = 0
        self._at = 0.0
        self._unsure = False
        self._tenure = Tenure()
        self._alive = 0.0  # when the holder of the lease before us last extended it
        self._seen: tuple[int, float, float] | None = None  # token and expiry of somebody else's lease, and when first seen

    @classmethod
    async def open(cls, url: str, key_file: Path) -> Store:
        """Open, and migrate, the database at `url`; make it and its key file when there is neither.

        Raises StoreRefused with a clear text when it is damaged, newer, of another program, or not opened by the key.
        """
        backend = await open_backend(url)
        try:
            store = cls(backend, await open_keys(backend, key_file))
            await store._catch_up()
        except BaseException:
            await backend.close()
            raise
        return store

    async def close(self) -> None:
        """Give the lease back when it is ours, and close every connection."""
        try:
            if self._tenure.token:
                await self._backend.run([(sql.LEASE_END, [(0, 0.0, self._tenure.token)])], full=False)
        except StoreError as e:
            log.warning("store.lease_not_given_back", reason=str(e))
        finally:
            self._tenure = Tenure()
            await self._backend.close()

    # ---- writing ------------------------------------------------------------------------------------------------------

    async def commit(self, batch: Batch) -> int:
        """Write all of `batch`, or nothing of it, and return the last journal number.

        Raises StoreBusy, StoreFull, LeaseLost or StoreError; hand the same content in again then (with more, if there is more).
        """
        draft = Draft(batch)
        unsure, self._unsure = self._unsure, True
        try:
            seq = await self._write(draft, batch.full, unsure)
        except (StoreBusy, LeaseLost):
            self._unsure = unsure
            raise
        self._unsure = False
        return seq

    def commit_now(self, batch: Batch) -> bool:
        """As `commit`, done when this returns, where that costs next to nothing; False when it was not, and `commit` is to be asked.

        Raises LeaseLost as `commit` does.
        """
        if batch.full or self._unsure or not self._backend.can_run_now():
            return False
        began, draft = lease.clock(), Draft(batch)
        done = self._backend.run_now(self._plan(draft, undo=False))
        if done:
            self._written(draft, began)
        return done

    async def _write(self, draft: Draft, full: bool, unsure: bool) -> int:
        began = lease.clock()
        try:
            await self._backend.run(self._plan(draft, unsure), full)
        except StoreClash:
            await self._ring.fetch(draft.calls())
            await self._backend.run(self._plan(draft, unsure), full)
        return self._written(draft, began)

    def _written(self, draft: Draft, began: float) -> int:
        """Note that a commit is done, and with it the lease extended from when it began."""
        self._seq += len(draft.journal)
        self._at = max(self._at, draft.at)
        self._ring.unsaved.clear()
        if self._tenure.token:
            self._tenure.until = began + TTL
        if len(self._ring.seals) > KEYS_AT_HAND:
            self._ring.drop_old()
        return self._seq

    def _plan(self, draft: Draft, undo: bool) -> Plan:
        rows = self._journal_rows(draft)
        lives = [(call, self._ring.close(call, f"live:{call}", plain)) for call, plain in draft.live_put]
        ended = [self._history_row(*row) for row in draft.history]
        steps: Plan = [
            (sql.JOURNAL_UNDO, [(self._seq,)] if undo else []),
            (sql.KEY_ADD, list(self._ring.unsaved.items())),
            (sql.JOURNAL_ADD, rows),
            (sql.LIVE_PUT, [row for row in lives if row[1] is not None]),
            (sql.LIVE_DROP, draft.live_drop),
            (sql.AGENT_PUT, [(agent, self._centre.close(f"agent:{agent}", plain)) for agent, plain in draft.agent_put]),
            (sql.AGENT_DROP, draft.agent_drop),
            (sql.HISTORY_PUT, ended),
            (sql.VERSION_PUT, [self._version_row(*row) for row in draft.versions]),
            self._advance(self._seq + len(draft.journal), max(self._at, draft.at)),
        ]
        return [step for step in steps if step[1]]

    def _journal_rows(self, draft: Draft) -> list[Row]:
        rows = []
        for seq, (call, plain) in enumerate(draft.journal, self._seq + 1):
            sealed = self._ring.close(call, journal_place(call, seq, draft.at), plain)
            if sealed is not None:
                rows.append((seq, call, draft.at, sealed))
        return rows

    def _history_row(self, call: str, clear: Sequence[Any], ani: str | None, personal: bytes) -> Row:
        sealed = self._ring.close(call, f"history:{call}", personal)
        number = self._ring.keys.hash_number(ani) if ani and sealed is not None else None
        return (call, *clear, number, sealed)

    def _version_row(self, clear: Mapping[str, Any], numbers: bytes) -> Row:
        sealed = {**clear, "numbers": self._centre.close(_version_place(clear), numbers)}
        return tuple(sealed[name] for name in sql.VERSION_PUT.names)

    def _advance(self, seq: int, at: float) -> Step:
        token = self._tenure.token
        if token:
            return sql.ADVANCE_AND_EXTEND, [(seq, at, time.time() + TTL, token)]
        return sql.ADVANCE, [(seq, at, 0)]

    # ---- taking over --------------------------------------------------------------------------------------------------

    async def recover(self) -> Recovered:
        """What the last process left: call it once, after `acquire_lease` and before the first commit."""
        await self._catch_up()
        keys = await self._backend.rows(select(call_keys.c.call, call_keys.c.wrapped).join(live, live.c.call == call_keys.c.call))
        lives = await self._backend.rows(select(live.c.call, live.c.snapshot))
        those = await self._backend.rows(select(agents.c.agent, agents.c.snapshot))
        whole = select(journal.c.seq, journal.c.call, journal.c.at, journal.c.payload).join(live, live.c.call == journal.c.call)
        records = await self._backend.rows(whole.order_by(journal.c.seq))
        with _without_collections():
            for call, wrapped in keys:
                self._ring.add(call, bytes(wrapped))
            found = Recovered(self._at, {}, {}, {}, alive=max(self._at, self._alive))
            for call, sealed in lives:
                found.live[call] = loads(self._ring.open(call, f"live:{call}", sealed))
                found.journal[call] = []
            for agent, sealed in those:
                found.agents[agent] = loads(self._centre.open(f"agent:{agent}", bytes(sealed)))
            for seq, call, at, payload in records:
                found.journal[call].append((seq, at, loads(self._ring.open(call, journal_place(call, seq, at), payload))))
        found.versions = [
            self._version(row._mapping)
            for row in await self._backend.rows(select(flow_versions).order_by(flow_versions.c.flow, flow_versions.c.number))
        ]
        return found

    def _version(self, row: Mapping[str, Any]) -> dict[str, Any]:
        numbers = loads(self._centre.open(_version_place(row), bytes(row["numbers"])))
        return {**row, "numbers": numbers, "guard": loads(row["guard"]), "figures": loads(row["figures"])}

    async def _catch_up(self) -> None:
        row = (await self._backend.rows(select(writer.c.seq, writer.c.at)))[0]
        self._seq, self._at = row.seq, row.at

    # ---- the lease ----------------------------------------------------------------------------------------------------

    async def acquire_lease(self, holder: Holder) -> None:
        """Become the writer; raises LeaseHeld when another process is, and may still be alive. Ask again then."""
        row = (await self._backend.rows(select(writer)))[0]
        if row.token and row.token != self._tenure.token:
            self._refuse_while_alive(row)
        started, token = lease.clock(), lease.new_token()
        mine = (token, holder.id, holder.host, holder.pid, holder.started, time.time() + TTL, row.token, row.expires)
        try:
            await self._backend.run([(sql.LEASE_TAKE, [mine])], full=False)
        except LeaseLost:  # the row changed since we looked: its holder lives, or somebody else was faster
            raise LeaseHeld("a process that has just written", TTL) from None
        self._tenure = Tenure(token, started + TTL)
        self._alive = row.expires - TTL if row.token else 0.0
        await self._catch_up()

    def _refuse_while_alive(self, row: Any) -> None:
        now = lease.clock()
        if self._seen is None or self._seen[:2] != (row.token, row.expires):
            self._seen = (row.token, row.expires, now)
        left = min(row.expires - time.time(), self._seen[2] + TTL - now)
        if left > 0 and not Holder(row.holder, row.pid, row.host, row.started).is_dead():
            raise LeaseHeld(row.holder, left)

    async def renew(self) -> None:
        """Extend the lease, when no commit has done so for a while; raises LeaseLost when it is another's by now."""
        if not self._tenure.token:
            raise LeaseLost("no lease was acquired")
        started = lease.clock()
        await self._backend.run([(sql.LEASE_EXTEND, [(time.time() + TTL, self._tenure.token)])], full=False)
        self._tenure.until = started + TTL

    def holds_lease(self) -> bool:
        """True while nobody else can have the lease; asks no database, so it can be asked before each batch of commands."""
        return self._tenure.held()

    # ---- the feed -----------------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The number of the last journal row that is committed."""
        return self._seq

    async def journal_after(self, seq: int, limit: int) -> list[tuple[int, str, list[Record]]]:
        """Committed journal rows after a number, in order: (number, call, records). A forgotten call's have no records."""
        query = select(journal.c.seq, journal.c.call, journal.c.at, journal.c.payload).where(journal.c.seq > seq)
        rows = await self._backend.rows(query.where(journal.c.seq <= self._seq).order_by(journal.c.seq).limit(limit))
        found = await self._ring.missing(call for _, call, _, _ in rows)
        told: list[tuple[int, str, list[Record]]] = []
        for number, call, at, payload in rows:
            seal = found.get(call) if call in found else self._ring.seals.get(call)
            told.append((number, call, [] if seal is None else loads(seal.open(journal_place(call, number, at), bytes(payload)))))
        return told

    # ---- programs of flows --------------------------------------------------------------------------------------------

    async def keep_programs(self, wanted: Mapping[str, tuple[str, Any]], at: float) -> None:
        """Keep what is run, (flow, plain JSON) by hash, to outlive a power cut; what is kept already stays as it is."""
        kept = {row.hash for row in await self._backend.rows(select(programs.c.hash).where(programs.c.hash.in_(wanted)))}
        rows: list[Row] = [(key, flow, json.dumps(plain), at) for key, (flow, plain) in wanted.items() if key not in kept]
        if rows:
            await self._backend.run([(sql.PROGRAM_PUT, rows)], full=True)

    async def programs(self, hashes: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Programs by their hash, as `keep_programs` was given them; one that is not there is left out."""
        found: dict[str, dict[str, Any]] = {}
        for some in portions(sorted(set(hashes)), IN_ONE_QUERY):
            for hash_, program in await self._backend.rows(select(programs.c.hash, programs.c.program).where(programs.c.hash.in_(some))):
                found[hash_] = json.loads(program)
        return found

    # ---- forgetting ---------------------------------------------------------------------------------------------------

    async def forget(self, *calls: str) -> bool:
        """Delete the calls' keys, and what tells who it was; facts for reports stay. Refused while one is live. Gives what `scrub` does."""
        known = set(await self._ring.stored(calls))
        for some in portions(calls, IN_ONE_QUERY):
            if up := await self._backend.rows(select(live.c.call).where(live.c.call.in_(some))):
                raise StoreError(f"call {up[0].call} is live; it can be forgotten when it has ended")
            known |= {row.call for row in await self._backend.rows(select(history.c.call).where(history.c.call.in_(some)))}
        if unknown := [call for call in calls if call not in known]:
            raise StoreError(f"there is no call {unknown[0]}")
        self._ring.seals.update(dict.fromkeys(calls))  # first: a commit begun from now on must not write about them
        try:
            rows: list[Row] = [(call,) for call in calls]
            await self._backend.run([(sql.KEY_FORGET, rows), (sql.HISTORY_CLEAN, rows)], full=True)
        except BaseException:
            for call in calls:
                del self._ring.seals[call]  # read again when it is needed
            raise
        return await self.scrub()

    async def scrub(self) -> bool:
        """Leave nothing of what was deleted in the database's files; False while somebody who reads keeps old pages alive."""
        try:
            await self._backend.scrub()
        except StoreBusy as busy:
            log.warning("store.not_scrubbed", reason=str(busy))
            return False
        return True

    async def prune(self, journal_days: float = 30, facts_days: float = FACTS_DAYS, spared: Container[str] = ()) -> int:
        """Drop what is too old, by the time of the last commit, and return the number of calls pruned.

        A call goes when nothing was journaled for it in `journal_days`: its records and its key. Its facts stay for `facts_days`. The
        keys of those that are `spared` stay: something else is sealed with them.
        """
        row = (await self._backend.rows(select(writer.c.at)))[0]
        cutoff = row.at - journal_days * DAY
        alive = exists().where(live.c.call == call_keys.c.call)
        recent = exists().where(journal.c.call == call_keys.c.call, journal.c.at >= cutoff)
        old = [r[0] for r in await self._backend.rows(select(call_keys.c.call).where(~alive, ~recent))]
        for some in portions(old, _PRUNED_AT_ONCE):
            rows: list[Row] = [(call,) for call in some]
            unused: list[Row] = [(call,) for call in some if call not in spared]
            dropped = [(sql.JOURNAL_DROP, rows), (sql.HISTORY_SEAL_OFF, rows), (sql.KEY_DROP, unused)]
            await self._backend.run([step for step in dropped if step[1]], full=False)
        await self._backend.run(
            [(sql.JOURNAL_DROP_CENTRE, [(CENTRE, cutoff)]), (sql.HISTORY_DROP_OLD, [(row.at - facts_days * DAY,)])], full=False
        )
        for call in old:
            self._ring.seals.pop(call, None)
        return len(old)


def _version_place(row: Mapping[str, Any]) -> str:
    return f"version:{row['flow']}:{row['number']}"


@contextmanager
def _without_collections() -> Iterator[None]:
    """No garbage collections meanwhile: they would look at every record read so far, again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
