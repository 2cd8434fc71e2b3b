"""The store on real databases: what goes in comes out, and every fault leaves it whole."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import random
import select as waiting
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import create_async_engine

from app.store import (
    TTL,
    Batch,
    Forgotten,
    Holder,
    LeaseHeld,
    LeaseLost,
    Store,
    StoreBusy,
    StoreError,
    StoreFull,
    StoreRefused,
    lease,
    sqlite,
)
from app.store.keyring import KEYS_AT_HAND
from app.store.schema import HEAD
from app.store.seal import read_key

pytest_plugins = ("tests.databases",)

ROOT = Path(__file__).parents[2]
NUMBER, SECRET = "+4930987654321", "mother's maiden name Quux"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "callwright.key"


@pytest.fixture
async def store(store_url: str, key_file: Path) -> AsyncIterator[Store]:
    opened = await Store.open(store_url, key_file)
    yield opened
    await opened.close()


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/callwright.db"


@asynccontextmanager
async def opened(url: str, key_file: Path) -> AsyncIterator[Store]:
    store = await Store.open(url, key_file)
    try:
        yield store
    finally:
        await store.close()


def digit(call: str, key: str) -> list[Any]:
    return ["e", "DigitPressed", {"call": call, "digit": key}, 17.25]


def ended(call: str, at: float, **more: Any) -> dict[str, Any]:
    return {
        "call": call,
        "flow": "order-status",
        "version": "3",
        "process": "orders",
        "queue": "premium",
        "agent": "anna",
        "outcome": "talked",
        "cause": 16,
        "arrived": at - 90.0,
        "answered": at - 89.5,
        "connected": at - 60.0,
        "ended": at,
        "waited": 29.5,
        "talked": 60.0,
        "wrap_up": 0.0,
        "disposition": "",
        "remarks": "",
        "ani": NUMBER,
        "dnis": "1000",
        "uniqueid": f"17.{call}",
        "linkedid": f"18.{call}",
        "contact": "crm-77",
        **more,
    }


async def rows(url: str, query: str) -> list[Any]:
    """Read beside the store, as another program would."""
    engine = create_async_engine(url)
    try:
        async with engine.connect() as connection:
            return list(await connection.execute(text(query)))
    finally:
        await engine.dispose()


# ---- at once ----------------------------------------------------------------------------------------------------------


async def test_what_was_committed_at_once_is_there_for_everybody_when_it_returns(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])], live={"a": {"n": 1}}))
        assert store.commit_now(Batch(at=2.0, journal=[("a", [digit("a", "2")])], live={"a": {"n": 2}}))
        with sqlite3.connect(make_url(sqlite_url).database or "") as beside:
            assert beside.execute("SELECT seq FROM journal WHERE call = 'a'").fetchall() == [(1,), (2,)]
        assert await store.commit(Batch(at=3.0, journal=[("a", [digit("a", "3")])])) == 3
        assert await store.history.timeline("a") == [(1.0, digit("a", "1")), (2.0, digit("a", "2")), (3.0, digit("a", "3"))]


async def test_nothing_is_committed_at_once_that_must_outlive_a_power_cut_or_waits_for_a_lock(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))
        batch = Batch(at=2.0, journal=[("a", [digit("a", "2")])], full=True)
        assert not store.commit_now(batch)
        batch.full = False
        async with locked(sqlite_url):
            began = time.monotonic()
            assert not store.commit_now(batch)
            assert time.monotonic() - began < 0.1
        assert store.commit_now(batch)
        assert await store.history.timeline("a") == [(1.0, digit("a", "1")), (2.0, digit("a", "2"))]


async def test_nothing_is_committed_at_once_while_the_thread_is_at_work_even_for_somebody_who_has_gone(
    sqlite_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, usual = threading.Event(), sqlite._carry_out

    def when_let(*given: Any) -> None:
        held.wait(10)
        usual(*given)

    async with opened(sqlite_url, key_file) as store:
        await store.acquire_lease(Holder.current())
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))
        monkeypatch.setattr(sqlite, "_carry_out", when_let)
        renewing = asyncio.create_task(store.renew())
        await asyncio.sleep(0)
        renewing.cancel()
        await asyncio.gather(renewing, return_exceptions=True)
        monkeypatch.setattr(sqlite, "_carry_out", usual)
        batch = Batch(at=2.0, journal=[("a", [digit("a", "2")])])
        assert not store.commit_now(batch)
        held.set()
        await store.renew()
        assert store.commit_now(batch)


async def test_a_slow_disk_gets_its_commits_in_the_thread(sqlite_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "SLOW", -1.0)
    async with opened(sqlite_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))
        assert store.commit_now(Batch(at=2.0, journal=[("a", [digit("a", "2")])]))
        assert not store.commit_now(Batch(at=3.0, journal=[("a", [digit("a", "3")])]))
        assert await store.commit(Batch(at=3.0, journal=[("a", [digit("a", "3")])])) == 3


async def test_the_log_is_brought_into_the_file_again_and_again_and_does_not_grow(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        file = make_url(sqlite_url).database or ""
        pad = "x" * 3000
        for n in range(4 * sqlite.LOG_COMMITS):
            batch = Batch(at=float(n), journal=[("a", [digit("a", pad)])], live={"a": {"n": n}})
            if not store.commit_now(batch):
                await store.commit(batch)
        assert os.stat(file).st_size > 2 * sqlite.LOG_COMMITS * len(pad)
        assert os.stat(f"{file}-wal").st_size < 2 * sqlite.LOG_COMMITS * 10 * 4096
        assert len(await store.history.timeline("a") or []) == 4 * sqlite.LOG_COMMITS


# ---- in and out -------------------------------------------------------------------------------------------------------


async def test_an_empty_store_recovers_nothing(store: Store) -> None:
    left = await store.recover()
    assert (left.now_floor, left.live, left.agents, left.journal) == (0.0, {}, {}, {})


async def test_a_new_process_finds_live_rows_agents_and_the_whole_journal_of_live_calls(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        first = await store.commit(
            Batch(
                at=100.5,
                journal=[("a", [digit("a", "1"), digit("a", "2")]), ("", [["e", "Tick", {}]]), ("b", [digit("b", "9")])],
                live={"a": {"step": "menu"}, "b": {"step": "x"}},
                agents={"anna": {"presence": "ready"}, "ben": {"presence": "not_ready"}},
            )
        )
        second = await store.commit(
            Batch(at=101.25, journal=[("a", [digit("a", "3")])], live={"a": {"step": "queue"}, "b": None}, agents={"ben": None})
        )
    async with opened(store_url, key_file) as store:
        left = await store.recover()
    assert (first, second) == (3, 4)
    assert left.now_floor == 101.25
    assert left.live == {"a": {"step": "queue"}}
    assert left.agents == {"anna": {"presence": "ready"}}
    assert left.journal == {"a": [(1, 100.5, [digit("a", "1"), digit("a", "2")]), (4, 101.25, [digit("a", "3")])]}


async def test_two_turns_of_one_call_in_one_commit_keep_their_order(store: Store) -> None:
    await store.commit(Batch(at=5.0, journal=[("a", [digit("a", "1")]), ("a", [digit("a", "2")])], live={"a": {}}))
    assert await store.history.timeline("a") == [(5.0, digit("a", "1")), (5.0, digit("a", "2"))]
    assert [seq for seq, _, _ in (await store.recover()).journal["a"]] == [1, 2]


async def test_the_clock_never_goes_back_below_what_was_committed(store: Store) -> None:
    await store.commit(Batch(at=50.0))
    await store.commit(Batch(at=40.0))
    assert (await store.recover()).now_floor == 50.0


async def test_what_the_caller_changes_during_a_commit_is_not_what_is_written(store: Store) -> None:
    snapshot, records = {"tries": 1}, [digit("a", "1")]
    writing = asyncio.ensure_future(store.commit(Batch(at=1.0, journal=[("a", records)], live={"a": snapshot})))
    await asyncio.sleep(0)
    snapshot["tries"] = 2
    records.clear()
    await writing
    left = await store.recover()
    assert left.live == {"a": {"tries": 1}}
    assert left.journal["a"] == [(1, 1.0, [digit("a", "1")])]


async def test_texts_that_no_database_likes_are_stored(store: Store) -> None:
    odd = "a\x00b\ud800c\U0001f600'; DROP TABLE live; --"
    await store.commit(
        Batch(
            at=1.0,
            journal=[("a", [["e", "CallArrived", {"name": odd, "n": 2**80}]])],
            history=[ended("a", 1.0, disposition=odd, uniqueid=odd, remarks=odd)],
        )
    )
    [told] = await store.history.ended_calls(10, None)
    assert told["remarks"] == "a\x00b?c\U0001f600'; DROP TABLE live; --"
    assert told["disposition"] == told["uniqueid"] == "ab?c\U0001f600'; DROP TABLE live; --"
    assert await store.history.timeline("a") == [(1.0, ["e", "CallArrived", {"name": told["remarks"], "n": 2**80}])]


async def test_history_is_told_latest_first_by_page_and_by_process(store: Store) -> None:
    calls = [ended(f"c{i}", 100.0 + i, process="orders" if i % 2 else "billing") for i in range(5)]
    await store.commit(Batch(at=200.0, journal=[(c["call"], [digit(c["call"], "1")]) for c in calls], history=calls))
    assert [c["call"] for c in await store.history.ended_calls(3, None)] == ["c4", "c3", "c2"]
    assert [c["call"] for c in await store.history.ended_calls(3, 102.0)] == ["c1", "c0"]
    assert [c["call"] for c in await store.history.ended_calls(9, None, "billing")] == ["c4", "c2", "c0"]
    assert (await store.history.ended_calls(1, None))[0] == {**calls[4], "forgotten": False}
    assert await store.history.ended_call("c1") == {**calls[1], "forgotten": False}
    assert await store.history.ended_call("c") is None


async def test_a_call_is_written_again_after_its_wrap_up_by_a_process_that_never_saw_it(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        await store.commit(Batch(at=9.0, journal=[("a", [digit("a", "1")])], live={"a": {}}))
        await store.commit(Batch(at=10.0, journal=[("a", [digit("a", "2")])], live={"a": None}, history=[ended("a", 10.0)]))
    async with opened(store_url, key_file) as store:
        again = ended("a", 10.0, wrap_up=12.5, disposition="sold", remarks="will call back")
        await store.commit(Batch(at=22.5, journal=[("a", [["e", "Disposed", {}]]), ("new", [digit("new", "1")])], history=[again]))
        assert await store.history.ended_calls(5, None) == [{**again, "forgotten": False}]
        assert await store.history.timeline("a") == [(9.0, digit("a", "1")), (10.0, digit("a", "2")), (22.5, ["e", "Disposed", {}])]
        assert await store.history.timeline("new") == [(22.5, digit("new", "1"))]


async def test_a_history_field_that_nobody_knows_is_named(store: Store) -> None:
    with pytest.raises(ValueError, match=r"unknown .*moood"):
        await store.commit(Batch(at=1.0, history=[ended("a", 1.0, moood="x")]))


async def test_calls_are_found_by_prefix_uniqueid_and_linkedid_live_or_ended(store: Store) -> None:
    await store.commit(
        Batch(
            at=1.0,
            journal=[(c, [digit(c, "1")]) for c in ("ab12", "ab34", "cd56", "a_%x")],
            live={"ab12": {}},
            history=[ended("ab34", 1.0), ended("cd56", 1.0, uniqueid="99.1", linkedid="99.0")],
        )
    )
    assert await store.history.find_call("ab") == ["ab12", "ab34"]
    assert await store.history.find_call("99.1") == await store.history.find_call("99.0") == ["cd56"]
    assert await store.history.find_call("a_%") == ["a_%x"]
    for nothing in ("", "zz", "%", "\x00", "AB"):
        assert await store.history.find_call(nothing) == []


async def test_an_unknown_call_has_no_timeline_and_the_centre_is_none(store: Store) -> None:
    await store.commit(Batch(at=1.0, journal=[("", [["e", "Tick", {}]])]))
    assert await store.history.timeline("nobody") is None
    assert await store.history.timeline("") is None


async def test_more_calls_than_keys_are_kept_at_hand(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("early", [digit("early", "1")])], live={"early": {}}))
        for n in range(9):
            calls = [f"c{n}-{i}" for i in range(KEYS_AT_HAND // 8)]
            await store.commit(Batch(at=2.0 + n, journal=[(c, [digit(c, "1")]) for c in calls]))
        await store.commit(Batch(at=20.0, journal=[("early", [digit("early", "2")])], live={"early": {"n": 2}}))
        assert await store.history.timeline("early") == [(1.0, digit("early", "1")), (20.0, digit("early", "2"))]
        assert (await store.recover()).live == {"early": {"n": 2}}


# ---- sealing and forgetting -------------------------------------------------------------------------------------------


def said(call: str) -> Batch:
    return Batch(
        at=10.0,
        journal=[(call, [["e", "CallArrived", {"ani": NUMBER, "said": SECRET}]]), ("", [["e", "Note", {"text": SECRET, "ani": NUMBER}]])],
        live={call: {"ani": NUMBER, "said": SECRET}},
        agents={"anna": {"with": NUMBER}},
        history=[ended(call, 10.0, remarks=SECRET, contact=SECRET)],
    )


async def test_neither_numbers_nor_what_was_said_stand_in_the_files(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(said("a"))
        await store.commit(Batch(at=11.0, live={"a": None}))
        files = [p for p in key_file.parent.iterdir() if p.name.startswith("callwright.db")]
        assert {p.name for p in files} >= {"callwright.db", "callwright.db-wal"}
        raw = b"".join(p.read_bytes() for p in files)
        assert b"order-status" in raw  # what is in clear is seen: the search itself works
        for canary in (NUMBER, NUMBER[1:], NUMBER[-8:], SECRET, "Quux"):
            assert canary.encode() not in raw
            assert canary.encode("utf-16-le") not in raw
        assert (await store.history.ended_calls(1, None))[0]["ani"] == NUMBER


async def test_no_number_stands_in_the_tables(store: Store, store_url: str) -> None:
    await store.commit(said("a"))
    for table in ("journal", "live", "agents", "history", "call_keys"):
        found = await rows(store_url, f"SELECT * FROM {table}")  # noqa: S608
        cells = [bytes(c) if isinstance(c, bytes | memoryview) else str(c).encode() for row in found for c in row]
        assert cells
        for canary in (NUMBER, SECRET):
            assert not any(canary.encode() in cell for cell in cells)


async def test_a_forgotten_call_cannot_be_read_and_its_key_is_in_no_file(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(said("a"))
        await store.commit(said("b"))
        await store.commit(Batch(at=11.0, live={"a": None, "b": None}))
        keys = dict(await rows(sqlite_url, "SELECT call, wrapped FROM call_keys"))
        [(number_hash,)] = await rows(sqlite_url, "SELECT ani_hash FROM history WHERE call = 'a'")
        assert await store.forget("a")
        raw = b"".join(p.read_bytes() for p in key_file.parent.iterdir() if p.name.startswith("callwright.db"))
        assert bytes(keys["a"]) not in raw
        assert bytes(keys["b"]) in raw
        assert bytes(number_hash) in raw  # b is of the same caller, and was not forgotten
        assert await rows(sqlite_url, "SELECT ani_hash FROM history WHERE call = 'a'") == [(None,)]


async def test_a_forgotten_call_says_so_keeps_its_facts_and_stays_forgotten(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        await store.commit(said("a"))
        with pytest.raises(StoreError, match="live"):
            await store.forget("a")
        await store.commit(Batch(at=11.0, live={"a": None}))
        await store.forget("a")
        with pytest.raises(StoreError, match="no call"):
            await store.forget("nobody")
    async with opened(store_url, key_file) as store:
        with pytest.raises(Forgotten):
            await store.history.timeline("a")
        late = Batch(
            at=12.0, journal=[("a", [["e", "Disposed", {"remarks": SECRET}]])], history=[ended("a", 10.0, wrap_up=2.0, remarks=SECRET)]
        )
        await store.commit(late)
        [told] = await store.history.ended_calls(5, None)
        assert (told["outcome"], told["wrap_up"], told["forgotten"]) == ("talked", 2.0, True)
        assert [told[name] for name in ("ani", "dnis", "remarks", "contact")] == [None] * 4
        with pytest.raises(Forgotten):
            await store.history.timeline("a")
        assert await store.history.find_call("a") == ["a"]
        assert (await store.recover()).live == {}


async def test_the_calls_of_a_number_are_found_and_forgotten_together(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        for call in ("a", "b"):
            await store.commit(said(call))
        await store.commit(Batch(at=11.0, live={"a": None, "b": None}, history=[ended("c", 11.0, ani="+4930999")]))
        assert await store.history.calls_of(["+49", NUMBER]) == [("a", -80.0), ("b", -80.0)]
        await store.prune(journal_days=0)
        assert [call for call, _ in await store.history.calls_of([NUMBER])] == ["a", "b"], (
            "of calls whose journal is too old the number is known"
        )
        await store.forget("a", "b")
        assert await store.history.calls_of([NUMBER]) == []
        assert [call for call, _ in await store.history.calls_of(["+4930999"])] == ["c"]


async def test_what_is_kept_elsewhere_opens_with_the_call_s_key_until_it_is_forgotten(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        await store.commit(said("a"))
        sealed = await store.vault.seal("a", "recording:1", SECRET.encode())
        assert SECRET.encode() not in sealed
        await store.commit(Batch(at=11.0, live={"a": None}))
    async with opened(store_url, key_file) as store:
        assert await store.vault.unseal("a", "recording:1", sealed) == SECRET.encode()
        with pytest.raises(StoreError, match="does not open"):
            await store.vault.unseal("a", "recording:2", sealed)
        await store.commit(Batch(at=12.0 + 40 * 86400))
        assert await store.prune(spared={"a"}) == 1
        assert await store.prune(spared={"a"}) == 0, "there is nothing more of it to drop"
        assert await store.history.timeline("a") == []
        assert await store.vault.unseal("a", "recording:1", sealed) == SECRET.encode(), "its key outlives its journal"
        await store.forget("a")
        for each in (store.vault.unseal("a", "recording:1", sealed), store.vault.seal("a", "recording:1", b"")):
            with pytest.raises(Forgotten):
                await each


async def test_that_a_call_was_forgotten_is_known_as_long_as_its_facts(store_url: str, key_file: Path) -> None:
    """What is still found of it elsewhere, such as a recording in Asterisk, must not be sealed anew."""
    async with opened(store_url, key_file) as store:
        await store.commit(said("a"))
        await store.commit(Batch(at=11.0, live={"a": None}))
        await store.forget("a")
        await store.commit(Batch(at=12.0 + 40 * 86400))
        assert await store.prune() == 1
    async with opened(store_url, key_file) as store:
        assert await store.vault.forgotten(["a"]) == {"a"}
        with pytest.raises(Forgotten):
            await store.vault.seal("a", "recording:1", b"")
        await store.commit(Batch(at=12.0 + 400 * 86400))
        assert await store.prune() == 0
        assert await store.prune() == 1
        assert await rows(store_url, "SELECT call FROM call_keys") == []


async def test_a_call_without_a_key_gets_one_that_lasts(store_url: str, key_file: Path) -> None:
    """One that was pruned, and one whose first commit is not there yet."""
    async with opened(store_url, key_file) as store:
        sealed = await store.vault.seal("a", "here", b"said")
        await store.commit(said("a"))
        assert await store.vault.unseal("a", "here", sealed) == b"said"
        with pytest.raises(Forgotten):
            await store.vault.unseal("nobody", "here", sealed)
    async with opened(store_url, key_file) as store:
        assert (await store.recover()).live == {"a": {"ani": NUMBER, "said": SECRET}}
        assert await store.vault.unseal("a", "here", sealed) == b"said"


async def test_a_row_moved_to_another_call_is_not_believed(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")]), ("b", [digit("b", "2")])], live={"a": {}, "b": {}}))
        await write(store_url, "UPDATE journal SET call = 'b' WHERE seq = 1")
        with pytest.raises(StoreError, match=r"journal:b:1.*does not open"):
            await store.recover()


async def test_old_journals_go_and_facts_stay_until_they_are_old_too(store: Store, store_url: str) -> None:
    day = 86400.0
    await store.commit(
        Batch(at=1 * day, journal=[("", [["e", "Tick", {}]]), ("old", [digit("old", "1")])], history=[ended("old", 1 * day)])
    )
    await store.commit(Batch(at=1 * day, journal=[("lasting", [digit("lasting", "1")])], live={"lasting": {}}))
    await store.commit(
        Batch(at=40 * day, journal=[("", [["e", "Tick", {}]]), ("new", [digit("new", "1")])], history=[ended("new", 40 * day)])
    )
    assert await store.prune(journal_days=30) == 1
    assert await store.history.timeline("old") is None
    assert [(c["call"], c["ani"], c["forgotten"]) for c in await store.history.ended_calls(9, None)] == [
        ("new", NUMBER, False),
        ("old", None, False),
    ]
    assert await store.history.timeline("new") == [(40 * day, digit("new", "1"))]
    assert await store.history.timeline("lasting") == [(1 * day, digit("lasting", "1"))]
    assert await rows(store_url, "SELECT seq FROM journal ORDER BY seq") == [(3,), (4,), (5,)]
    assert await store.prune(journal_days=30, facts_days=20) == 0
    assert [c["call"] for c in await store.history.ended_calls(9, None)] == ["new"]
    assert await store.commit(Batch(at=41 * day, journal=[("x", [digit("x", "1")])])) == 6


# ---- the lease --------------------------------------------------------------------------------------------------------

ELSEWHERE = Holder(id="elsewhere", pid=1, host="another boot", started=1)


async def write(url: str, change: str, **values: Any) -> None:
    """Change something beside the store, as another program would."""
    engine = create_async_engine(url)
    try:
        async with engine.begin() as connection:
            await connection.execute(text(change), values)
    finally:
        await engine.dispose()


async def test_a_second_process_waits_while_the_first_lives(store: Store, store_url: str, key_file: Path) -> None:
    await store.acquire_lease(Holder.current())
    assert store.holds_lease()
    async with opened(store_url, key_file) as second:
        with pytest.raises(LeaseHeld) as refusal:
            await second.acquire_lease(Holder.current())
        assert 0 < refusal.value.seconds <= TTL
        assert not second.holds_lease()
        with pytest.raises(LeaseLost):
            await second.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))
        with pytest.raises(LeaseLost):
            await second.renew()
    await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))


def start_time(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])


async def until(predicate: Callable[[], bool], within: float = 5.0) -> None:
    """Return as soon as it holds."""
    end = time.monotonic() + within
    while not predicate():
        assert time.monotonic() < end, "it did not come about"
        await asyncio.sleep(0.01)


async def test_a_dead_process_is_followed_at_once(store_url: str, key_file: Path) -> None:
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=subprocess.PIPE)
    holder = dataclasses.replace(Holder.current(), id="child", pid=child.pid, started=start_time(child.pid))
    async with opened(store_url, key_file) as first, opened(store_url, key_file) as second:
        await first.acquire_lease(holder)
        with pytest.raises(LeaseHeld):
            await second.acquire_lease(Holder.current())
        child.kill()
        await until(lambda: holder.is_dead())
        await second.acquire_lease(Holder.current())
        await child.wait()
        assert second.holds_lease()
        with pytest.raises(LeaseLost):
            await first.commit(Batch(at=1.0))


def test_a_killed_process_that_nobody_has_reaped_is_dead() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    holder = dataclasses.replace(Holder.current(), pid=child.pid, started=start_time(child.pid))
    assert not holder.is_dead()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert holder.is_dead()
    child.communicate()


def test_another_process_under_the_same_number_is_not_the_holder() -> None:
    me = Holder.current()
    assert not me.is_dead()
    assert dataclasses.replace(me, started=me.started + 1).is_dead()
    assert dataclasses.replace(me, pid=2**22 + 1).is_dead()
    assert not dataclasses.replace(me, pid=2**22 + 1, host="elsewhere").is_dead()


async def test_the_old_writer_can_write_nothing_once_another_has_taken_over(
    store_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(store_url, key_file) as old, opened(store_url, key_file) as new:
        await old.acquire_lease(ELSEWHERE)
        await old.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])], live={"a": {"n": 1}}))
        with pytest.raises(LeaseHeld):
            await new.acquire_lease(Holder.current())
        later = lease.clock() + TTL + 0.001
        monkeypatch.setattr(lease, "clock", lambda: later)
        assert not old.holds_lease()
        await new.acquire_lease(Holder.current())
        assert (await new.recover()).live == {"a": {"n": 1}}
        with pytest.raises(LeaseLost):
            await old.commit(Batch(at=2.0, journal=[("a", [digit("a", "x")])], live={"a": {"n": 2}}))
        with pytest.raises(LeaseLost):
            await old.renew()
        assert not old.holds_lease()
        assert await new.commit(Batch(at=3.0, journal=[("a", [digit("a", "2")])], live={"a": {"n": 3}})) == 2
        assert await new.history.timeline("a") == [(1.0, digit("a", "1")), (3.0, digit("a", "2"))]


async def test_a_lease_that_is_extended_is_not_taken_however_long_one_looks(
    store_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [lease.clock()]
    monkeypatch.setattr(lease, "clock", lambda: now[0])
    async with opened(store_url, key_file) as first, opened(store_url, key_file) as second:
        await first.acquire_lease(ELSEWHERE)
        for n in range(6):
            with pytest.raises(LeaseHeld):
                await second.acquire_lease(Holder.current())
            now[0] += TTL / 2
            if n % 2:
                await first.renew()
            else:
                await first.commit(Batch(at=float(n)))
            assert first.holds_lease()


async def test_a_lease_given_back_is_free_at_once(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as first:
        await first.acquire_lease(ELSEWHERE)
    async with opened(store_url, key_file) as second:
        await second.acquire_lease(Holder.current())
        await second.acquire_lease(Holder.current())  # again, by the one who has it
        assert await second.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])])) == 1


# ---- faults -----------------------------------------------------------------------------------------------------------

LOCKS = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "LOCK TABLE writer IN ACCESS EXCLUSIVE MODE"}


@asynccontextmanager
async def locked(url: str) -> AsyncIterator[None]:
    """Another connection holds the database for as long as this lasts."""
    engine = create_async_engine(url, isolation_level="AUTOCOMMIT" if url.startswith("sqlite") else "READ COMMITTED")
    try:
        async with engine.connect() as connection:
            await connection.execute(text(LOCKS[make_url(url).get_backend_name()]))
            yield
            await connection.exec_driver_sql("ROLLBACK")
    finally:
        await engine.dispose()


async def test_a_locked_database_is_busy_soon_and_loses_nothing(store: Store, store_url: str) -> None:
    await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])], live={"a": {"n": 1}}))
    batch = Batch(at=2.0, journal=[("a", [digit("a", "2")]), ("b", [digit("b", "1")])], live={"a": {"n": 2}, "b": {}})
    async with locked(store_url):
        for _ in range(2):
            began = time.monotonic()
            with pytest.raises(StoreBusy):
                await store.commit(batch)
            assert time.monotonic() - began < 2.0
        assert [row.call for row in await rows(store_url, "SELECT call FROM live")] == ["a"] if "sqlite" in store_url else True
    batch.journal.append(("b", [digit("b", "2")]))
    assert await store.commit(batch) == 4
    assert await store.history.timeline("a") == [(1.0, digit("a", "1")), (2.0, digit("a", "2"))]
    assert await store.history.timeline("b") == [(2.0, digit("b", "1")), (2.0, digit("b", "2"))]


async def test_history_is_read_while_the_writer_is_locked_out(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])], history=[ended("a", 1.0)]))
        async with locked(sqlite_url):
            assert len(await store.history.ended_calls(5, None)) == 1
            assert await store.history.timeline("a") == [(1.0, digit("a", "1"))]


async def test_a_commit_cancelled_half_way_is_not_written_twice(store: Store) -> None:
    batch = Batch(at=1.0, journal=[("a", [digit("a", "1")])], live={"a": {"n": 1}})
    for turns in range(6):
        writing = asyncio.ensure_future(store.commit(batch))
        for _ in range(turns):
            await asyncio.sleep(0)
        writing.cancel()
        await asyncio.gather(writing, return_exceptions=True)
    assert await store.commit(batch) >= 1
    assert await store.history.timeline("a") == [(1.0, digit("a", "1"))]


END_OUR_CONNECTIONS = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


async def test_the_server_ends_our_connections_and_the_next_commit_gets_through(
    postgres_cluster: Any, key_file: Path, store_url: str
) -> None:
    if store_url.startswith("sqlite"):
        pytest.skip("a file has no server")
    async with opened(store_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])], live={"a": {}}))
        await write(store_url, END_OUR_CONNECTIONS)
        batch = Batch(at=2.0, journal=[("a", [digit("a", "2")])], live={"a": {}})
        for attempt in range(3):
            try:
                await store.commit(batch)
                break
            except StoreError:
                assert attempt < 2
        assert await store.history.timeline("a") == [(1.0, digit("a", "1")), (2.0, digit("a", "2"))]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no small disk can be mounted here: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


async def test_a_full_disk_says_so_and_goes_on_once_there_is_room(small_disk: Path, tmp_path: Path, key_file: Path) -> None:
    async with opened(f"sqlite+aiosqlite:///{small_disk}/callwright.db", key_file) as store:
        filler = small_disk / "filler"
        room = os.statvfs(small_disk)
        filler.write_bytes(b"x" * (room.f_bavail * room.f_frsize - 48 * 1024))
        written, full = 0, False
        while not full:
            batch = Batch(at=float(written), journal=[("a", [digit("a", str(written))])], live={"a": {"n": written, "pad": "y" * 3000}})
            try:
                await store.commit(batch)
                written += 1
            except StoreFull:
                full = True
        assert written > 0
        for _ in range(3):
            with pytest.raises(StoreFull, match="no space left"):
                await store.commit(batch)
        assert len(await store.history.timeline("a") or []) == written
        filler.unlink()
        assert await store.commit(batch) == written + 1
        left = await store.recover()
        assert left.live["a"]["n"] == written
        assert [records for _, _, records in left.journal["a"]] == [[digit("a", str(n))] for n in range(written + 1)]


def _killed(command: list[str], environment: dict[str, str], enough: int, then: float) -> list[int]:
    """Start a writer, read `enough` acknowledgements and those of `then` seconds more, kill it, and give all that it sent."""
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE)
    assert process.stdout is not None
    pipe, text, end = process.stdout.fileno(), b"", None
    while end is None or time.monotonic() < end:
        left = 20.0 if end is None else max(end - time.monotonic(), 0)
        ready, _, _ = waiting.select([pipe], [], [], left)
        chunk = os.read(pipe, 65536) if ready else b""
        assert chunk or end is not None, "the writer ended, or said nothing, by itself"
        text += chunk
        if end is None and text.count(b"\n") >= enough:
            end = time.monotonic() + then
    process.send_signal(signal.SIGKILL)
    text += process.stdout.read()
    process.wait()
    return [int(line) for line in text.split(b"\n")[:-1]]


KILLS = 30


@pytest.mark.timeout(180)
async def test_a_writer_killed_at_any_moment_loses_no_acknowledged_batch_and_leaves_no_half_one(
    sqlite_url: str, key_file: Path, tmp_path: Path
) -> None:
    random_moments = random.Random(20)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONPYCACHEPREFIX": str(tmp_path / "pycache"), "PYTHONDONTWRITEBYTECODE": ""}
    command = [sys.executable, "-m", "tests.contract.journal_writer", sqlite_url, str(key_file)]
    last = 0
    for _ in range(KILLS):
        numbers = await asyncio.to_thread(_killed, command, environment, random_moments.randint(1, 20), random_moments.random() * 0.02)
        assert numbers[0] in (last + 1, last + 2)  # one batch may have been written and not acknowledged any more
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
        last = numbers[-1]
        with sqlite3.connect(key_file.parent / "callwright.db") as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    async with opened(sqlite_url, key_file) as store:
        left = await store.recover()
        written = [records[0][2]["n"] for _, _, records in left.journal["steady"]]
        assert written == list(range(1, len(written) + 1))
        assert len(written) in (last, last + 1)
        assert left.live["steady"] == left.agents["anna"] == {"n": len(written)}
        assert left.now_floor == 1000.0 + len(written)
    assert [row[0] for row in await rows(sqlite_url, "SELECT seq FROM journal ORDER BY seq")] == list(range(1, 3 * len(written) + 1))


# ---- opening ----------------------------------------------------------------------------------------------------------


async def a_database(url: str, key_file: Path) -> Path:
    async with opened(url, key_file) as store:
        for n in range(20):
            await store.commit(Batch(at=float(n), journal=[("a", [digit("a", "1" * 500)])], live={"a": {"n": n}}))
    return Path(make_url(url).database or "")


def fill(start: int, size: int) -> Callable[[bytes], bytes]:
    return lambda raw: raw[:start] + b"\xa5" * size + raw[start + size :]


DAMAGE = {
    "not a database": lambda raw: b"these are not the bytes you are looking for" * 200,
    "header": fill(0, 100),
    "first page": fill(100, 3000),
    "middle": lambda raw: fill(len(raw) // 2 - len(raw) // 2 % 4096, 4096)(raw),
    "cut in half": lambda raw: raw[: len(raw) // 2],
    "cut to nothing": lambda raw: b"",
}


@pytest.mark.parametrize("damage", DAMAGE)
async def test_a_damaged_file_is_refused_and_left_as_it_is(sqlite_url: str, key_file: Path, damage: str) -> None:
    file = await a_database(sqlite_url, key_file)
    file.write_bytes(DAMAGE[damage](file.read_bytes()))
    before = file.read_bytes()
    with pytest.raises(StoreRefused, match=r"callwright\.db (is|has|cannot)"):
        await Store.open(sqlite_url, key_file)
    assert file.read_bytes() == before


def file_of(url: str) -> bytes | None:
    """The bytes of the database file, where there is one."""
    return Path(make_url(url).database or "").read_bytes() if url.startswith("sqlite") else None


def is_there(file: Path) -> bool:
    return file.exists()


def replace_key(file: Path, key: bytes) -> None:
    """Write a key; `file` may be there or not."""
    file.touch(0o600)
    file.write_bytes(key)


async def test_a_newer_schema_is_refused_and_left_as_it_is(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))
    await write(store_url, "UPDATE alembic_version SET version_num = '9999'")
    before = file_of(store_url)
    with pytest.raises(StoreRefused, match="schema 9999 of a newer version"):
        await Store.open(store_url, key_file)
    assert file_of(store_url) == before
    await write(store_url, "UPDATE alembic_version SET version_num = :head", head=HEAD)
    async with opened(store_url, key_file) as store:
        assert await store.history.timeline("a") == [(1.0, digit("a", "1"))]


async def test_a_file_of_another_program_is_refused(sqlite_url: str, key_file: Path, tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "callwright.db") as db:
        db.execute("CREATE TABLE recipes (name TEXT)")
    with pytest.raises(StoreRefused, match="another program"):
        await Store.open(sqlite_url, key_file)


async def test_a_log_without_its_file_is_refused(sqlite_url: str, key_file: Path, tmp_path: Path) -> None:
    (tmp_path / "callwright.db-wal").write_bytes(b"committed, not yet brought in")
    with pytest.raises(StoreRefused, match="is missing, but its log"):
        await Store.open(sqlite_url, key_file)
    assert not (tmp_path / "callwright.db").exists()


async def test_another_key_and_a_lost_key_are_refused_and_no_new_one_is_made(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file) as store:
        await store.commit(Batch(at=1.0, journal=[("a", [digit("a", "1")])]))
    key = read_key(key_file)
    replace_key(key_file, bytes(32))
    with pytest.raises(StoreRefused, match="not the key of this database"):
        await Store.open(store_url, key_file)
    os.unlink(key_file)
    with pytest.raises(StoreRefused, match="cannot be read"):
        await Store.open(store_url, key_file)
    assert not is_there(key_file)
    replace_key(key_file, key)
    async with opened(store_url, key_file) as store:
        assert await store.history.timeline("a") == [(1.0, digit("a", "1"))]


async def test_database_and_key_are_private_files(sqlite_url: str, key_file: Path) -> None:
    async with opened(sqlite_url, key_file) as store:
        await store.commit(Batch(at=1.0))
        assert {p.name: oct(p.stat().st_mode & 0o777) for p in key_file.parent.iterdir() if p.is_file()} == dict.fromkeys(
            ("callwright.db", "callwright.db-wal", "callwright.db-shm", "callwright.key"), "0o600"
        )


@pytest.mark.parametrize("url", ["sqlite+aiosqlite:///:memory:", "sqlite+aiosqlite://", "mysql+aiomysql://127.0.0.1/x", "sqlite:///x.db"])
async def test_a_database_we_cannot_use_is_refused(url: str, key_file: Path) -> None:
    with pytest.raises(StoreRefused, match="sqlite"):
        await Store.open(url, key_file)


async def test_a_server_that_is_not_there_is_an_error_without_the_password(key_file: Path) -> None:
    with pytest.raises(StoreError, match="cannot be reached") as refusal:
        await Store.open("postgresql+asyncpg://someone:hunter2@127.0.0.1:1/x", key_file)
    assert "hunter2" not in str(refusal.value)


OPEN_AND_COMMIT = """
import asyncio, sys
from pathlib import Path
from app.store import Batch, Store
async def main():
    store = await Store.open(sys.argv[1], Path(sys.argv[2]))
    await store.commit(Batch(at=1.0))
    await store.close()
asyncio.run(main())
"""


async def test_two_processes_may_open_a_new_database_at_once(store_url: str, key_file: Path) -> None:
    both = [
        await asyncio.create_subprocess_exec(sys.executable, "-c", OPEN_AND_COMMIT, store_url, str(key_file), cwd=ROOT) for _ in range(2)
    ]
    assert [await process.wait() for process in both] == [0, 0]
    async with opened(store_url, key_file) as store:
        assert (await store.recover()).now_floor == 1.0


async def test_the_tables_are_what_the_migrations_make(store_url: str, key_file: Path) -> None:
    async with opened(store_url, key_file):
        pass
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from sqlalchemy import Connection

    from app.store.schema import metadata

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    engine = create_async_engine(store_url)
    async with engine.connect() as connection:
        assert await connection.run_sync(differences) == []
    await engine.dispose()


def test_head_is_the_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "app" / "store" / "migrations"))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD
