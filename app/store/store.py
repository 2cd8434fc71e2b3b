"""The store: what happened is written down here before anything is done about it.

One process commits, one commit at a time (the engine sees to that; the lease sees to it across processes). Reads, history
and forgetting go on beside it.

**A commit** turns its batch into bytes before it first waits, so the caller may go on changing what it handed over. Journal
rows are numbered here, not by the database: the number is part of what a row is sealed for. A commit whose outcome is unknown
(cancelled, or the connection broke in it) is undone by the next one, which is handed the same content again.

**A new call's key** is minted without asking the database. If the call turns out to have one already (it ended before this
process started), the insert clashes, the key is read and the commit is run once more.
"""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import exists, or_, select

from app.store import lease
from app.store import statements as sql
from app.store.backend import Backend
from app.store.batch import Batch, Record, Recovered
from app.store.codec import dumps, loads
from app.store.errors import Forgotten, LeaseHeld, LeaseLost, StoreBusy, StoreClash, StoreError, StoreRefused
from app.store.lease import TTL, Holder, Tenure
from app.store.opening import open_backend, open_keys
from app.store.schema import PERSONAL, agents, call_keys, cursors, flow_versions, history, journal, live, programs, undelivered, writer
from app.store.seal import Keys, Seal
from app.store.statements import Plan, Row, Statement, Step

log = structlog.get_logger()

CENTRE = ""
DAY = 86400.0
KEYS_AT_HAND = 8192
FOUND_AT_MOST = 50
_IN_ONE_QUERY = 500
_PRUNED_AT_ONCE = 100

_CLEAR_TEXTS = ("flow", "version", "process", "queue", "agent", "outcome", "disposition", "uniqueid", "linkedid")
_CLEAR_SECONDS = ("arrived", "answered", "connected", "ended", "waited", "talked", "wrap_up")
_FACTS = frozenset({"call", "cause", *_CLEAR_TEXTS, *_CLEAR_SECONDS, *PERSONAL})
_HISTORY = select(history, call_keys.c.wrapped, call_keys.c.call.label("keyed")).outerjoin(call_keys, call_keys.c.call == history.c.call)


class Store:
    """One open database and its keys."""

    def __init__(self, backend: Backend, keys: Keys) -> None:
        self._backend = backend
        self._keys = keys
        self._seals: dict[str, Seal | None] = {CENTRE: keys.centre}  # None: the call was forgotten
        self._unsaved: dict[str, bytes] = {}  # wrapped keys that no acknowledged commit holds yet
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
        draft = _Draft(batch)
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
        began, draft = lease.clock(), _Draft(batch)
        done = self._backend.run_now(self._plan(draft, undo=False))
        if done:
            self._written(draft, began)
        return done

    async def _write(self, draft: _Draft, full: bool, unsure: bool) -> int:
        began = lease.clock()
        try:
            await self._backend.run(self._plan(draft, unsure), full)
        except StoreClash:
            await self._fetch_keys(draft.calls())
            await self._backend.run(self._plan(draft, unsure), full)
        return self._written(draft, began)

    def _written(self, draft: _Draft, began: float) -> int:
        """Note that a commit is done, and with it the lease extended from when it began."""
        self._seq += len(draft.journal)
        self._at = max(self._at, draft.at)
        self._unsaved.clear()
        if self._tenure.token:
            self._tenure.until = began + TTL
        if len(self._seals) > KEYS_AT_HAND:
            self._drop_old_seals()
        return self._seq

    def _plan(self, draft: _Draft, undo: bool) -> Plan:
        rows = self._journal_rows(draft)
        lives = [(call, self._close(call, f"live:{call}", plain)) for call, plain in draft.live_put]
        ended = [self._history_row(*row) for row in draft.history]
        steps: Plan = [
            (sql.JOURNAL_UNDO, [(self._seq,)] if undo else []),
            (sql.KEY_ADD, list(self._unsaved.items())),
            (sql.JOURNAL_ADD, rows),
            (sql.LIVE_PUT, [row for row in lives if row[1] is not None]),
            (sql.LIVE_DROP, draft.live_drop),
            (sql.AGENT_PUT, [(agent, self._keys.centre.close(f"agent:{agent}", plain)) for agent, plain in draft.agent_put]),
            (sql.AGENT_DROP, draft.agent_drop),
            (sql.HISTORY_PUT, ended),
            (sql.VERSION_PUT, [self._version_row(*row) for row in draft.versions]),
            self._advance(self._seq + len(draft.journal), max(self._at, draft.at)),
        ]
        return [step for step in steps if step[1]]

    def _journal_rows(self, draft: _Draft) -> list[Row]:
        rows = []
        for seq, (call, plain) in enumerate(draft.journal, self._seq + 1):
            sealed = self._close(call, journal_place(call, seq, draft.at), plain)
            if sealed is not None:
                rows.append((seq, call, draft.at, sealed))
        return rows

    def _history_row(self, call: str, clear: Sequence[Any], ani: str | None, personal: bytes) -> Row:
        sealed = self._close(call, f"history:{call}", personal)
        number = self._keys.hash_number(ani) if ani and sealed is not None else None
        return (call, *clear, number, sealed)

    def _version_row(self, clear: Mapping[str, Any], numbers: bytes) -> Row:
        sealed = {**clear, "numbers": self._keys.centre.close(_version_place(clear), numbers)}
        return tuple(sealed[name] for name in sql.VERSION_PUT.names)

    def _advance(self, seq: int, at: float) -> Step:
        token = self._tenure.token
        if token:
            return sql.ADVANCE_AND_EXTEND, [(seq, at, time.time() + TTL, token)]
        return sql.ADVANCE, [(seq, at, 0)]

    def _close(self, call: str, place: str, plain: bytes) -> bytes | None:
        """`plain` sealed with the call's key, minted when the call is new; None when the call was forgotten."""
        if call not in self._seals:
            self._seals[call], self._unsaved[call] = self._keys.mint(call)
        seal = self._seals[call]
        return None if seal is None else seal.close(place, plain)

    def _drop_old_seals(self) -> None:
        for call in list(self._seals)[1 : KEYS_AT_HAND // 4]:
            del self._seals[call]

    async def _fetch_keys(self, calls: Iterable[str]) -> None:
        """Take the keys that the database has in place of those minted for the same calls."""
        for call, seal in (await self._stored_seals(calls)).items():
            self._seals[call] = seal
            self._unsaved.pop(call, None)

    async def _stored_seals(self, calls: Iterable[str]) -> dict[str, Seal | None]:
        wanted = [call for call in dict.fromkeys(calls) if call != CENTRE]
        found: dict[str, Seal | None] = {}
        for some in _portions(wanted, _IN_ONE_QUERY):
            for call, wrapped in await self._backend.rows(select(call_keys.c.call, call_keys.c.wrapped).where(call_keys.c.call.in_(some))):
                found[call] = None if wrapped is None else self._keys.unwrap(call, bytes(wrapped))
        return found

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
                self._seals[call] = self._keys.unwrap(call, bytes(wrapped))
            found = Recovered(self._at, {}, {}, {}, alive=max(self._at, self._alive))
            for call, sealed in lives:
                found.live[call] = loads(self._open(call, f"live:{call}", sealed))
                found.journal[call] = []
            for agent, sealed in those:
                found.agents[agent] = loads(self._keys.centre.open(f"agent:{agent}", bytes(sealed)))
            for seq, call, at, payload in records:
                found.journal[call].append((seq, at, loads(self._open(call, journal_place(call, seq, at), payload))))
        found.versions = [
            self._version(row._mapping)
            for row in await self._backend.rows(select(flow_versions).order_by(flow_versions.c.flow, flow_versions.c.number))
        ]
        return found

    def _version(self, row: Mapping[str, Any]) -> dict[str, Any]:
        numbers = loads(self._keys.centre.open(_version_place(row), bytes(row["numbers"])))
        return {**row, "numbers": numbers, "guard": loads(row["guard"]), "figures": loads(row["figures"])}

    def _open(self, call: str, place: str, sealed: bytes) -> bytes:
        seal = self._seals.get(call)
        if seal is None:
            raise StoreRefused(f"{place}: the key of a live call is missing; keep the database, and restore a backup")
        return seal.open(place, bytes(sealed))

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

    # ---- reading ------------------------------------------------------------------------------------------------------

    async def ended_calls(self, limit: int, before: float | None = None, process: str | None = None) -> list[dict[str, Any]]:
        """Calls that ended, the latest first, at most `limit`, ended before `before`: the dicts that `Batch.history` took.

        Of a forgotten call `ani`, `dnis`, `remarks` and `contact` are None, and `forgotten` is True.
        """
        query = _HISTORY
        if before is not None:
            query = query.where(history.c.ended < before)
        if process is not None:
            query = query.where(history.c.process == process)
        rows = await self._backend.rows(
            query.where(history.c.ended.is_not(None)).order_by(history.c.ended.desc(), history.c.call).limit(limit)
        )
        return [self._told(row._mapping) for row in rows]

    async def ended_call(self, call: str) -> dict[str, Any] | None:
        """One call that ended, as in `ended_calls`; None when there is none of that id."""
        rows = await self._backend.rows(_HISTORY.where(history.c.call == call, history.c.ended.is_not(None)))
        return self._told(rows[0]._mapping) if rows else None

    def _told(self, row: Mapping[str, Any]) -> dict[str, Any]:
        call = row["call"]
        personal: list[Any] = [None] * len(PERSONAL)
        if row["wrapped"] is not None and row["personal"] is not None:
            personal = loads(self._keys.unwrap(call, bytes(row["wrapped"])).open(f"history:{call}", bytes(row["personal"])))
        facts = {name: row[name] for name in ("call", "cause", *_CLEAR_TEXTS, *_CLEAR_SECONDS)}
        return {**facts, **dict(zip(PERSONAL, personal, strict=True)), "forgotten": row["keyed"] is not None and row["wrapped"] is None}

    async def timeline(self, call: str) -> list[tuple[float, Record]] | None:
        """Every record of a call with its time, live or ended; None when the call is unknown. Raises Forgotten."""
        if not call:
            return None
        seals = await self._stored_seals([call])
        if call not in seals:
            return None
        seal = seals[call]
        if seal is None:
            raise Forgotten(call)
        query = select(journal.c.seq, journal.c.at, journal.c.payload).where(journal.c.call == call).order_by(journal.c.seq)
        told: list[tuple[float, Record]] = []
        for seq, at, payload in await self._backend.rows(query):
            told += [(at, record) for record in loads(seal.open(journal_place(call, seq, at), bytes(payload)))]
        return told

    async def find_call(self, prefix_or_uniqueid: str) -> list[str]:
        """Ids of calls, live or ended, that begin with the text, or whose uniqueid or linkedid it is; sorted, 50 at most."""
        text = prefix_or_uniqueid
        if not text or "\x00" in text:
            return []
        found = set()
        after = text[:-1] + chr(ord(text[-1]) + 1)
        pbx = select(history.c.call).where(or_(history.c.uniqueid == text, history.c.linkedid == text))
        for column in (call_keys.c.call, history.c.call):
            prefix = select(column).where(column >= text, column < after).order_by(column)
            found |= {row[0] for row in await self._backend.rows(prefix.limit(FOUND_AT_MOST))}
        found |= {row[0] for row in await self._backend.rows(pbx.limit(FOUND_AT_MOST))}
        return sorted(found)[:FOUND_AT_MOST]

    # ---- the feed -----------------------------------------------------------------------------------------------------

    @property
    def last_seq(self) -> int:
        """The number of the last journal row that is committed."""
        return self._seq

    async def journal_after(self, seq: int, limit: int) -> list[tuple[int, str, list[Record]]]:
        """Committed journal rows after a number, in order: (number, call, records). A forgotten call's have no records."""
        query = select(journal.c.seq, journal.c.call, journal.c.at, journal.c.payload).where(journal.c.seq > seq)
        rows = await self._backend.rows(query.where(journal.c.seq <= self._seq).order_by(journal.c.seq).limit(limit))
        missing = {call for _, call, _, _ in rows if call not in self._seals}
        found = await self._stored_seals(missing) if missing else {}
        told: list[tuple[int, str, list[Record]]] = []
        for number, call, at, payload in rows:
            seal = found.get(call) if call in found else self._seals.get(call)
            told.append((number, call, [] if seal is None else loads(seal.open(journal_place(call, number, at), bytes(payload)))))
        return told

    async def cursor(self, reader: str) -> tuple[int, int] | None:
        """How far a reader of the feed has got: a journal row and a record in it; None for a new reader."""
        rows = await self._backend.rows(select(cursors.c.seq, cursors.c.step).where(cursors.c.reader == reader))
        return (rows[0].seq, rows[0].step) if rows else None

    async def move_cursor(self, reader: str, seq: int, step: int) -> None:
        """A reader has got this far."""
        await self._backend.run([(sql.CURSOR_PUT, [(reader, seq, step)])], full=False)

    async def bury(self, reader: str, seq: int, step: int, at: float, reason: str) -> None:
        """Note that a reader did not take a record, and move past it."""
        await self._backend.run([(sql.BURY, [(reader, seq, step, at, reason)]), (sql.CURSOR_PUT, [(reader, seq, step)])], full=True)

    async def unbury(self, reader: str, seq: int, step: int) -> None:
        """A record that was not taken has been taken after all."""
        await self._backend.run([(sql.UNBURY, [(reader, seq, step)])], full=True)

    async def buried(self, reader: str, limit: int = 1000) -> list[tuple[int, int, float, str]]:
        """What a reader did not take: (journal row, record, when, why), in order."""
        query = select(undelivered).where(undelivered.c.reader == reader).order_by(undelivered.c.seq, undelivered.c.step)
        return [(row.seq, row.step, row.at, row.reason) for row in await self._backend.rows(query.limit(limit))]

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
        for some in _portions(sorted(set(hashes)), _IN_ONE_QUERY):
            for hash_, program in await self._backend.rows(select(programs.c.hash, programs.c.program).where(programs.c.hash.in_(some))):
                found[hash_] = json.loads(program)
        return found

    # ---- forgetting ---------------------------------------------------------------------------------------------------

    async def forget(self, call: str) -> None:
        """Delete the call's key, and what tells who it was; facts for reports stay. Refused while the call is live."""
        if await self._backend.rows(select(live.c.call).where(live.c.call == call)):
            raise StoreError(f"call {call} is live; it can be forgotten when it has ended")
        if call not in await self._stored_seals([call]):
            raise StoreError(f"there is no call {call}")
        self._seals[call] = None  # first: a commit begun from now on must not write about it
        try:
            await self._backend.run([(sql.KEY_FORGET, [(call,)]), (sql.HISTORY_CLEAN, [(call,)])], full=True)
        except BaseException:
            del self._seals[call]  # read again when it is needed
            raise
        await self._backend.scrub()

    async def prune(self, journal_days: float = 30, facts_days: float = 396) -> int:
        """Drop what is too old, by the time of the last commit, and return the number of calls pruned.

        A call goes when nothing was journaled for it in `journal_days`: its records and its key. Its facts stay for `facts_days`.
        """
        row = (await self._backend.rows(select(writer.c.at)))[0]
        cutoff = row.at - journal_days * DAY
        alive = exists().where(live.c.call == call_keys.c.call)
        recent = exists().where(journal.c.call == call_keys.c.call, journal.c.at >= cutoff)
        old = [r[0] for r in await self._backend.rows(select(call_keys.c.call).where(~alive, ~recent))]
        for some in _portions(old, _PRUNED_AT_ONCE):
            rows: list[Row] = [(call,) for call in some]
            await self._backend.run([(s, rows) for s in _PRUNED], full=False)
        await self._backend.run(
            [(sql.JOURNAL_DROP_CENTRE, [(CENTRE, cutoff)]), (sql.HISTORY_DROP_OLD, [(row.at - facts_days * DAY,)])], full=False
        )
        for call in old:
            self._seals.pop(call, None)
        return len(old)


_PRUNED: tuple[Statement, ...] = (sql.JOURNAL_DROP, sql.HISTORY_SEAL_OFF, sql.KEY_DROP)


class _Draft:
    """A batch as bytes: nothing in it is shared with the caller any more."""

    __slots__ = ("agent_drop", "agent_put", "at", "history", "journal", "live_drop", "live_put", "versions")

    def __init__(self, batch: Batch) -> None:
        self.at = float(batch.at)
        self.journal = [(call, dumps(records)) for call, records in batch.journal]
        self.live_put = [(call, dumps(snapshot)) for call, snapshot in batch.live.items() if snapshot is not None]
        self.live_drop: list[Row] = [(call,) for call, snapshot in batch.live.items() if snapshot is None]
        self.agent_put = [(agent, dumps(snapshot)) for agent, snapshot in batch.agents.items() if snapshot is not None]
        self.agent_drop: list[Row] = [(agent,) for agent, snapshot in batch.agents.items() if snapshot is None]
        self.history = [_facts(ended) for ended in batch.history]
        self.versions = [_version(row) for row in batch.versions.values()]

    def calls(self) -> list[str]:
        """Every call that the batch has something to seal for."""
        return [row[0] for row in (*self.journal, *self.live_put)] + [row[0] for row in self.history]


def _facts(ended: Mapping[str, Any]) -> tuple[str, list[Any], str | None, bytes]:
    """Call id, the clear columns in order, the caller's number, and the personal part as bytes."""
    unknown = ended.keys() - _FACTS
    if unknown or not ended.get("call"):
        raise ValueError(f"history: unknown {sorted(unknown)}" if unknown else "history: `call` is missing")
    get = ended.get
    clear = [
        *(_text(get(name)) for name in _CLEAR_TEXTS[:6]),
        None if get("cause") is None else int(ended["cause"]),
        *(None if get(name) is None else float(ended[name]) for name in _CLEAR_SECONDS),
        *(_text(get(name)) for name in _CLEAR_TEXTS[6:]),
    ]
    return ended["call"], clear, _text(get("ani")), dumps([get(name) for name in PERSONAL])


def _version(row: Mapping[str, Any]) -> tuple[dict[str, Any], bytes]:
    """The clear columns of a flow's version, and the callers' numbers as bytes."""
    clear = {name: _text(value) if isinstance(value, str) else value for name, value in row.items()}
    return {**clear, "guard": _json_text(row["guard"]), "figures": _json_text(row["figures"])}, dumps(row["numbers"])


def _json_text(value: Any) -> str:
    """JSON that a text column of either database takes, whatever the strings in it."""
    return json.dumps(value, separators=(",", ":"))


def _version_place(row: Mapping[str, Any]) -> str:
    return f"version:{row['flow']}:{row['number']}"


def _text(value: Any) -> str | None:
    """A value as a text column of either database takes it: no NUL, no lone surrogates."""
    if value is None:
        return None
    return str(value).replace("\x00", "").encode("utf-8", "replace").decode("utf-8")


def journal_place(call: str, seq: int, at: float) -> str:
    """What a row of the journal is sealed for."""
    return f"journal:{call}:{seq}:{at!r}"


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


def _portions(things: Sequence[str], size: int) -> Iterable[Sequence[str]]:
    return (things[i : i + size] for i in range(0, len(things), size))
