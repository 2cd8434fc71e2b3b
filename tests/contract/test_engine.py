"""The one loop over a real store: first written down, then carried out; and what happens when the store or the lease is away."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from app import engine as engine_module
from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.acd import IllegalMove, UnknownAgent
from app.core.flow.compiled import Compiled, compile_program
from app.core.flow.program import Program
from app.core.record import pack
from app.engine import Clock, Engine, LeaseGone
from app.store import Batch, Holder, Store, StoreBusy, StoreFull
from app.store import lease as lease_module
from app.store import store as store_module
from tests.unit.centre import ANNA, book

pytest_plugins = ("tests.databases",)

KNOWN = "+4930555000101"


async def until(true: Callable[[], Any], within: float = 5.0) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + within
    while not true():
        assert time.monotonic() < deadline, "it did not come true"
        await asyncio.sleep(0.005)


class Hands:
    """An adapter that notes what it is given, and whether each order was durable by then."""

    def __init__(self, house: Hall) -> None:
        self.house = house
        self.given: list[do.Command] = []
        self.too_early: list[do.Command] = []
        self.fail_on: type[do.Command] | None = None

    def handles(self, command: do.Command) -> bool:
        return True

    def carry_out(self, command: Any) -> None:
        if str(pack(command)) not in self.house.durable:
            self.too_early.append(command)
        self.given.append(command)
        if type(command) is self.fail_on:
            raise RuntimeError("the adapter fell over")

    def all(self, kind: type[Any], call: str | None = None) -> list[Any]:
        return [command for command in self.given if isinstance(command, kind) and (call is None or command.call == call)]


def _content(batch: Batch) -> list[str]:
    return [str(record[1:3]) for _, records in batch.journal for record in records]


class Hall:
    """One engine at work on a store, with an eye on what is durable."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.engine = Engine(book(), store)
        self.durable: set[str] = set()
        self.hands = Hands(self)
        self.engine.adapters = [self.hands]
        self.told: list[tuple[float, ev.Event, list[Any]]] = []
        self.engine.listeners.append(lambda happened, agents: self.told.extend(happened))
        self.running: asyncio.Task[None] | None = None
        self.gate: asyncio.Event | None = None
        self.trouble: Exception | None = None
        self._commit, self._commit_now = store.commit, store.commit_now
        store.commit = self._watched  # type: ignore[method-assign]
        store.commit_now = self._watched_now  # type: ignore[method-assign]

    def _watched_now(self, batch: Batch) -> bool:
        if self.trouble is not None or self.gate is not None or not self._commit_now(batch):
            return False
        self.durable.update(_content(batch))
        return True

    async def _watched(self, batch: Batch) -> int:
        content = _content(batch)
        if self.trouble is not None:
            raise self.trouble
        if self.gate is not None:
            writing = asyncio.ensure_future(self._commit(batch))
            await self.gate.wait()
            seq = await writing
        else:
            seq = await self._commit(batch)
        self.durable.update(content)
        return seq

    async def start(self) -> None:
        await self.engine.take_over()
        self.running = asyncio.create_task(self.engine.run())

    async def stop(self) -> None:
        self.engine.stop()
        if self.running is not None:
            await asyncio.wait_for(self.running, 5)

    def dial(self, call: str, ani: str = KNOWN) -> None:
        self.engine.post(ev.CallArrived(call, f"channel-{call}", ani=ani, dnis="1000", uniqueid=f"u-{call}"))

    async def sign_in(self, agent: str) -> None:
        await self.engine.submit(ev.AgentPhoneChanged(agent, True))
        await self.engine.submit(ev.AgentSignedIn(agent))
        await self.engine.submit(ev.AgentBecameReady(agent))

    async def given(self, kind: type[Any], call: str | None = None, n: int = 1) -> Any:
        await until(lambda: len(self.hands.all(kind, call)) >= n)
        return self.hands.all(kind, call)[-1]

    async def to_the_queue(self, call: str) -> None:
        """A premium caller, greeted and queued."""
        self.dial(call)
        self.engine.post(ev.ActionSucceeded(call, (await self.given(do.StartAction, call)).request, ANNA))
        for n in (1, 2):
            self.engine.post(ev.PlaybackEnded(call, (await self.given(do.Play, call, n)).playback))
        await self.given(do.StartMusic, call)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "callwright.key"


def dead_process() -> Holder:
    """A holder whose process has ended: another may take its lease at once."""
    mine = Holder.current()
    done = subprocess.Popen(["true"])
    done.wait()
    return Holder("the-one-before", done.pid, mine.host, 1)


@asynccontextmanager
async def hall(url: str, key_file: Path, holder: Holder | None = None, *, start: bool = True) -> AsyncIterator[Hall]:
    store = await Store.open(url, key_file)
    await store.acquire_lease(holder or Holder.current())
    house = Hall(store)
    try:
        if start:
            await house.start()
        yield house
    finally:
        if house.running is not None and not house.running.done():
            house.running.cancel()
        if house.running is not None:
            with suppress(asyncio.CancelledError, LeaseGone):
                await house.running
        await store.close()


@pytest.fixture
async def house(store_url: str, key_file: Path) -> AsyncIterator[Hall]:
    async with hall(store_url, key_file) as opened:
        yield opened


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/callwright.db"


def locked(url: str) -> sqlite3.Connection:
    """Somebody else's program holds the whole database."""
    connection = sqlite3.connect(url.partition("///")[2], isolation_level=None, check_same_thread=False)
    connection.execute("BEGIN IMMEDIATE")
    return connection


def secret_flow(length: int) -> Compiled:
    """A flow that asks for digits nobody may know, and hands them to a system of record."""
    ask = {
        "do": "collect",
        "into": "pin",
        "sensitive": True,
        "length": length,
        "prompt": "ask",
        "retry_no_match": "ask",
        "retry_no_input": "ask",
    }
    check = {
        "do": "action",
        "into": "found",
        "action": "find",
        "with": {"pin": "{{ vars.pin }}"},
        "exits": {"done": "end", "failed": "end"},
    }
    steps = {
        "welcome": {"do": "say", "prompt": "welcome", "exits": {"done": "ask"}},
        "ask": {**ask, "exits": {"match": "check", "no_match": "end", "no_input": "end"}},
        "check": check,
        "end": {"do": "hangup"},
    }
    content = {
        "flow": "secret",
        "start": "welcome",
        "on_error": "end",
        "prompts": {"welcome": "Welcome.", "ask": "Your number."},
        "steps": steps,
        "outputs": {"find": {}},
    }
    return compile_program(Program.model_validate(content), {})


# ---- the order of things ------------------------------------------------------------------------------------------------


async def test_every_command_is_in_the_journal_before_it_is_carried_out(house: Hall) -> None:
    await house.sign_in("101")
    await house.to_the_queue("call1")
    ring = await house.given(do.RingAgent, "call1")
    house.engine.post(ev.LegAnswered("call1", ring.leg))
    await house.given(do.Talk, "call1")
    house.engine.post(ev.CallerLeft("call1"))
    await house.given(do.DropBridge, "call1")
    assert house.hands.too_early == []
    timeline = await house.store.history.timeline("call1")
    assert timeline is not None
    told = [name for _, (_, name, *_) in timeline]
    assert told[:2] == ["CallArrived", "FlowBegan"]
    assert told.index("LegAnswered") < told.index("Talk") < told.index("CallerLeft") < told.index("CallEnded")


async def test_what_is_typed_into_a_sensitive_input_is_in_no_row(sqlite_url: str, key_file: Path) -> None:
    """Typed ahead and then when it is asked for: the journal, the live rows and the file itself."""
    pin = "739152"
    async with hall(sqlite_url, key_file, start=False) as house:
        house.engine.center.book.flows = {"1000": secret_flow(len(pin))}
        await house.start()
        house.dial("call1")
        for playback in range(2):
            played = await house.given(do.Play, "call1", playback + 1)
            for key in pin:
                house.engine.post(ev.DigitPressed("call1", key))
            house.engine.post(ev.PlaybackEnded("call1", played.playback))
        order = await house.given(do.StartAction, "call1")
        assert order.sent == {"pin": pin}
        assert house.hands.too_early == []
        await until(lambda: not house.engine._inbox)
        left = await house.store.recover()
        timeline = await house.store.history.timeline("call1")
        assert timeline is not None
        assert [record[2]["count"] for _, record in timeline if record[1] == "SecretKey"] == [*[0] * 6, 1, 2, 3, 4, 5, 6]
        kept = json.dumps([left.live, [record for _, record in timeline]]) + repr(left.journal) + repr(house.told)
        assert set(left.live) == {"call1"}
        assert pin not in kept
        assert "DigitPressed" not in kept
    files = b"".join(file.read_bytes() for file in key_file.parent.iterdir() if file.name.startswith("callwright.db"))
    assert files
    assert pin.encode() not in files


async def test_a_listener_hears_of_it_only_when_it_is_durable(house: Hall) -> None:
    house.gate = asyncio.Event()
    house.dial("call1")
    await until(lambda: house.engine._writing is not None)
    assert not any(isinstance(event, ev.CallArrived) for _, event, _ in house.told)
    house.gate.set()
    await until(lambda: any(isinstance(event, ev.CallArrived) for _, event, _ in house.told))


async def test_a_write_is_acknowledged_only_when_it_is_durable_and_refused_where_the_tables_forbid_it(house: Hall) -> None:
    house.gate = asyncio.Event()
    asked = asyncio.create_task(house.engine.submit(ev.AgentSignedIn("101")))
    await until(lambda: house.engine._writing is not None)
    assert not asked.done()
    house.gate.set()
    await asyncio.wait_for(asked, 5)
    assert house.store.holds_lease()
    with pytest.raises(IllegalMove):
        await house.engine.submit(ev.AgentSignedIn("101"))
    with pytest.raises(UnknownAgent):
        await house.engine.submit(ev.AgentSignedIn("nobody"))


async def test_a_busy_moment_shares_its_commits(house: Hall) -> None:
    await until(lambda: house.engine.stats["commits"] >= 1)
    before = house.engine.stats["commits"]
    for n in range(300):
        house.dial(f"call{n}", ani="")
    await until(lambda: len(house.hands.all(do.Play)) == 300)
    assert house.engine.stats["commits"] - before <= 3
    assert house.engine.stats["events"] >= 300
    assert house.engine.stats["worst_commit"] > 0


# ---- taking over --------------------------------------------------------------------------------------------------------


async def test_the_next_process_goes_on_where_the_last_one_stood(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file, dead_process()) as first:
        await first.sign_in("101")
        await first.engine.submit(ev.AgentBecameNotReady("101", "lunch"))
        await first.to_the_queue("waits")
        first.dial("asks")
        asked = await first.given(do.StartAction, "asks")
        first.dial("types", ani="")
        await first.given(do.Play, "types")
        for key in "27":
            await first.engine.submit(ev.DigitPressed("types", key))
        running = first.running
        assert running is not None
        running.cancel()
        left = {call.id: (call.step, call.place and call.place.first) for call in first.engine.center.calls.values()}
    async with hall(store_url, key_file) as second:
        center = second.engine.center
        assert {call.id: (call.step, call.place and call.place.first) for call in center.calls.values()} == left
        assert (await second.given(do.StartAction, "asks")).request == asked.request
        second.engine.post(ev.PbxBack(False))
        for key in "22541":
            second.engine.post(ev.DigitPressed("types", key))
        assert (await second.given(do.StartAction, "types")).params == {"digits": "2722541"}
        await second.engine.submit(ev.AgentBecameReady("101"))
        assert (await second.given(do.RingAgent, "waits")).endpoint == "101"


async def test_expired_deadlines_fire_after_the_channels_are_known(sqlite_url: str, key_file: Path) -> None:
    async with hall(sqlite_url, key_file, dead_process()) as first:
        first.dial("gone", ani="")
        first.dial("here", ani="")
        await first.given(do.Play, "here")
    async with hall(sqlite_url, key_file, start=False) as second:
        clock = second.engine.clock
        clock.not_before(clock.now() + 60)
        await second.start()
        await until(lambda: any(isinstance(event, ev.TookOver) for _, event, _ in second.told))
        assert second.engine.center.next_deadline() is not None
        assert not any(isinstance(event, ev.TimerFired) for _, event, _ in second.told)
        second.engine.post(ev.PbxBack(False))
        second.engine.post(ev.CallerLeft("gone"))
        await until(lambda: any(isinstance(event, ev.TimerFired) and event.owner == "here" for _, event, _ in second.told))
        kinds = [(type(event), getattr(event, "owner", getattr(event, "call", ""))) for _, event, _ in second.told]
        assert kinds.index((ev.CallerLeft, "gone")) < kinds.index((ev.TimerFired, "here"))
        assert (ev.TimerFired, "gone") not in kinds


async def test_without_a_pbx_deadlines_wait_only_so_long(sqlite_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with hall(sqlite_url, key_file, dead_process()) as first:
        first.dial("here", ani="")
        await first.given(do.Play, "here")
    monkeypatch.setattr(engine_module, "BLIND", 0.1)
    async with hall(sqlite_url, key_file, start=False) as second:
        second.engine.clock.not_before(second.engine.clock.now() + 60)
        await second.start()
        await until(lambda: any(isinstance(event, ev.TimerFired) for _, event, _ in second.told))


async def test_a_call_whose_flow_has_changed_takes_its_error_exit_with_ids_of_its_own(sqlite_url: str, key_file: Path) -> None:
    async with hall(sqlite_url, key_file, dead_process()) as first:
        first.dial("call1", ani="")
        old = await first.given(do.Play, "call1")
    async with hall(sqlite_url, key_file, start=False) as second:
        second.engine.center.book.flows["1000"].version = "another"
        await second.start()
        second.engine.post(ev.PbxBack(False))
        new = await second.given(do.Play, "call1")
        assert "Something went wrong" in new.media[0]
        assert new.playback != old.playback
        second.engine.post(ev.PlaybackEnded("call1", new.playback))
        assert (await second.given(do.Release, "call1")).variables == do.FOR_GOOD


# ---- the store is away --------------------------------------------------------------------------------------------------


async def test_while_the_database_is_locked_calls_go_on_and_nothing_is_lost(sqlite_url: str, key_file: Path) -> None:
    async with hall(sqlite_url, key_file) as house:
        await house.sign_in("101")
        house.dial("up", ani="")
        await house.given(do.Play, "up")
        other = locked(sqlite_url)
        house.engine.post(ev.DigitPressed("up", "2"))
        await house.given(do.StopPlay, "up")
        assert house.engine.storage_trouble
        house.dial("new")
        await house.given(do.Release, "new")
        asked = asyncio.create_task(house.engine.submit(ev.AgentBecameNotReady("101", "lunch")))
        for key in "722541":
            house.engine.post(ev.DigitPressed("up", key))
        found = await house.given(do.StartAction, "up")
        house.engine.post(ev.ActionSucceeded("up", found.request, ANNA))
        house.engine.post(ev.PlaybackEnded("up", (await house.given(do.Play, "up", 2)).playback))
        await house.given(do.StartMusic, "up")
        assert house.hands.all(do.RingAgent) == [], "no dial goes out, and nobody is offered a call whose phone cannot be rung"
        assert not asked.done()
        assert not any(isinstance(event, ev.ActionSucceeded) for _, event, _ in house.told)
        other.rollback()
        await asyncio.wait_for(asked, 5)
        assert house.engine.storage_trouble == ""
        assert house.engine.stats["held_back"] == 0
        timeline = await house.store.history.timeline("up")
        assert timeline is not None
        assert [v["digit"] for _, (_, name, v, _) in timeline if name == "DigitPressed"] == list("2722541")
        await house.engine.submit(ev.AgentBecameReady("101"))
        await house.given(do.RingAgent, "up")
        sent = [str(command) for command in house.hands.given]
        assert len(sent) == len(set(sent)), "nothing went out twice"
        house.dial("later")
        await house.given(do.StartAction, "later")


async def test_waiting_callers_are_offered_as_soon_as_the_store_is_back(sqlite_url: str, key_file: Path) -> None:
    async with hall(sqlite_url, key_file) as house:
        await house.sign_in("101")
        await house.engine.submit(ev.AgentBecameNotReady("101"))
        await house.to_the_queue("call1")
        other = locked(sqlite_url)
        house.engine.post(ev.AgentPhoneChanged("102", True))
        await until(lambda: house.engine.storage_trouble)
        ready = asyncio.create_task(house.engine.submit(ev.AgentBecameReady("101")))
        await until(lambda: house.engine.center.acd.state("101")["presence"] == "ready")
        assert house.hands.all(do.Pop) == []
        other.rollback()
        await ready
        await house.given(do.RingAgent, "call1")


async def test_a_dial_held_back_until_its_offer_is_over_never_goes_out(sqlite_url: str, key_file: Path) -> None:
    async with hall(sqlite_url, key_file) as house:
        await house.sign_in("101")
        await house.engine.submit(ev.AgentBecameNotReady("101"))
        await house.to_the_queue("call1")
        house.trouble = StoreBusy("locked")
        ready = asyncio.create_task(house.engine.submit(ev.AgentBecameReady("101")))
        await house.given(do.Pop, "call1")
        house.engine.post(ev.CallerLeft("call1"))
        await house.given(do.WithdrawPop, "call1")
        house.trouble = None
        await ready
        await until(lambda: any(isinstance(event, ev.CallerLeft) for _, event, _ in house.told))
        assert house.hands.all(do.RingAgent) == []


async def test_a_full_disk_holds_mail_back_and_frees_it_when_there_is_room(house: Hall) -> None:
    house.dial("call1")
    found = await house.given(do.StartAction, "call1")
    values = {**ANNA, "premium": False}
    house.engine.post(ev.ActionSucceeded("call1", found.request, values))
    for n in (1, 2):
        house.engine.post(ev.PlaybackEnded("call1", (await house.given(do.Play, "call1", n)).playback))
    link = await house.given(do.StartAction, "call1", 2)
    house.trouble = StoreFull("no space left")
    house.engine.post(ev.ActionSucceeded("call1", link.request, {"url": "http://127.0.0.1/x"}))
    await house.given(do.StartMusic, "call1")
    assert house.hands.all(do.SendMail) == []
    assert house.engine.stats["held_back"] >= 1
    house.trouble = None
    assert (await house.given(do.SendMail, "call1")).to == "anna@example.com"


async def test_a_commit_that_hangs_does_not_hold_up_the_calls(house: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "PATIENCE", 0.05)
    house.dial("call1", ani="")
    await house.given(do.Play, "call1")
    house.gate = asyncio.Event()
    house.engine.post(ev.DigitPressed("call1", "2"))
    await house.given(do.StopPlay, "call1")
    for key in "722541":
        house.engine.post(ev.DigitPressed("call1", key))
    await house.given(do.StartAction, "call1")
    asked = asyncio.create_task(house.engine.submit(ev.AgentSignedIn("101")))
    assert len(house.hands.too_early) >= 2
    house.gate.set()
    await asyncio.wait_for(asked, 5)
    timeline = await house.store.history.timeline("call1")
    assert timeline is not None
    assert [v["digit"] for _, (_, name, v, _) in timeline if name == "DigitPressed"] == list("2722541")
    sent = [str(command) for command in house.hands.given]
    assert len(sent) == len(set(sent))
    assert house.engine.storage_trouble == ""


async def test_when_memory_is_full_the_loop_waits_and_then_catches_up(
    sqlite_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "MEMORY_RECORDS", 2)
    async with hall(sqlite_url, key_file) as house:
        house.dial("call1", ani="")
        await house.given(do.Play, "call1")
        house.trouble = StoreBusy("locked")
        for key in "272":
            house.engine.post(ev.DigitPressed("call1", key))
        await until(lambda: house.engine.storage_trouble)
        handled = house.engine.stats["events"]
        for key in "2541":
            house.engine.post(ev.DigitPressed("call1", key))
        await until(lambda: house.engine._inbox)
        assert house.engine.stats["events"] == handled
        assert house.hands.all(do.StartAction) == []
        house.trouble = None
        assert (await house.given(do.StartAction, "call1")).params == {"digits": "2722541"}


# ---- the lease ------------------------------------------------------------------------------------------------------------


async def test_the_process_that_lost_its_lease_sends_nothing_more(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file, dead_process()) as old:
        old.dial("call1", ani="")
        await old.given(do.Play, "call1")
        async with hall(store_url, key_file) as new:
            before = len(old.hands.given)
            old.engine.post(ev.DigitPressed("call1", "2"))
            assert old.running is not None
            with pytest.raises(LeaseGone):
                await asyncio.wait_for(asyncio.shield(old.running), 5)
            assert len(old.hands.given) == before
            with pytest.raises(LeaseGone):
                await old.engine.keep_lease()
            new.engine.post(ev.PbxBack(False))
            new.engine.post(ev.DigitPressed("call1", "2"))
            await new.given(do.StopPlay, "call1")


@pytest.fixture
def short_lease(monkeypatch: pytest.MonkeyPatch) -> float:
    for module in (lease_module, store_module, engine_module):
        monkeypatch.setattr(module, "TTL", 0.6)
    return 0.6


async def test_a_store_locked_for_longer_than_the_lease_does_not_end_the_process(
    sqlite_url: str, key_file: Path, short_lease: float
) -> None:
    async with hall(sqlite_url, key_file) as house:
        house.dial("call1", ani="")
        await house.given(do.Play, "call1")
        other = locked(sqlite_url)
        house.engine.post(ev.DigitPressed("call1", "2"))
        await house.given(do.StopPlay, "call1")
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 2 * short_lease and not house.store.holds_lease())
        await house.engine.keep_lease()
        assert house.running is not None
        assert not house.running.done()
        for key in "722541":
            house.engine.post(ev.DigitPressed("call1", key))
        await house.given(do.StartAction, "call1")
        other.rollback()
        await asyncio.wait_for(house.engine.submit(ev.AgentSignedIn("101")), 5)
        assert house.store.holds_lease()


async def test_who_slept_while_the_store_was_away_does_not_go_on(
    sqlite_url: str, key_file: Path, short_lease: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hall(sqlite_url, key_file) as house:
        house.dial("call1", ani="")
        await house.given(do.Play, "call1")
        other = locked(sqlite_url)
        house.engine.post(ev.DigitPressed("call1", "2"))
        await house.given(do.StopPlay, "call1")
        real = lease_module.clock
        for module, name in ((lease_module, "clock"), (engine_module, "lease_clock")):
            monkeypatch.setattr(module, name, lambda: real() + 30)
        assert house.running is not None
        with pytest.raises(LeaseGone):
            await asyncio.wait_for(asyncio.shield(house.running), 5)
        other.rollback()


async def test_a_lease_that_ran_out_unseen_is_proved_before_anything_is_sent(
    sqlite_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hall(sqlite_url, key_file) as house:
        house.dial("call1", ani="")
        await house.given(do.Play, "call1")
        real = lease_module.clock
        monkeypatch.setattr(lease_module, "clock", lambda: real() + 30)
        assert not house.store.holds_lease()
        house.engine.post(ev.DigitPressed("call1", "2"))
        await house.given(do.StopPlay, "call1")
        assert house.store.holds_lease()


# ---- mistakes of ours -------------------------------------------------------------------------------------------------------


async def test_a_listener_that_raises_stops_nothing(house: Hall) -> None:
    def broken(happened: list[Any], agents: list[str]) -> None:
        raise RuntimeError("broken")

    house.engine.listeners.insert(0, broken)
    house.dial("call1", ani="")
    await house.given(do.Play, "call1")
    await until(lambda: any(isinstance(event, ev.CallArrived) for _, event, _ in house.told))


async def test_an_adapter_that_raises_sends_that_call_to_its_error_exit_and_no_other(house: Hall) -> None:
    house.dial("other", ani="")
    await house.given(do.Play, "other")
    house.hands.fail_on = do.StartAction
    house.dial("call1")
    await house.given(do.StartAction, "call1")
    house.hands.fail_on = None
    await until(lambda: house.engine.center.calls["call1"].step == "apologise")
    assert house.engine.center.calls["other"].step == "ask_reference"


async def test_an_event_that_cannot_be_handled_does_not_end_the_loop(house: Hall, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(event: Any, now: float) -> None:
        raise RuntimeError("a mistake of ours")

    house.dial("call1", ani="")
    await house.given(do.Play, "call1")
    monkeypatch.setitem(house.engine.center._handlers, ev.AgentPhoneChanged, broken)
    monkeypatch.setitem(house.engine.center._handlers, ev.CallFound, broken)
    with pytest.raises(RuntimeError):
        await house.engine.submit(ev.AgentPhoneChanged("101", True))
    house.engine.post(ev.CallFound("call1", True))
    await until(lambda: house.engine.center.calls["call1"].step == "apologise")
    await house.engine.submit(ev.AgentSignedIn("101"))


async def test_stop_finishes_what_has_arrived(house: Hall) -> None:
    house.dial("call1", ani="")
    house.engine.stop()
    assert house.running is not None
    await asyncio.wait_for(house.running, 5)
    assert house.hands.all(do.Play, "call1")


async def test_no_new_calls_are_taken_while_shutting_down(house: Hall) -> None:
    house.engine.center.admitting = False
    house.dial("call1", ani="")
    await house.given(do.Release, "call1")
    house.dial("call2", ani="")
    await house.given(do.Release, "call2")


# ---- time ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", [3600.0, -3600.0])
def test_a_wall_clock_that_is_set_disturbs_nothing(step: float, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    before = clock.now()
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + step)
    assert 0 <= clock.now() - before < 1


def test_time_never_goes_back_behind_what_was_written_last(monkeypatch: pytest.MonkeyPatch) -> None:
    floor = time.time() + 3600
    assert 0 <= Clock(floor).now() - floor < 1
    clock = Clock()
    clock.not_before(floor)
    assert 0 <= clock.now() - floor < 1
    clock.not_before(0.0)
    assert 0 <= clock.now() - floor < 1


async def test_after_a_restart_with_the_clock_set_back_time_goes_on(
    sqlite_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with hall(sqlite_url, key_file, dead_process()) as first:
        first.dial("call1", ani="")
        await first.given(do.Play, "call1")
        arrived = first.engine.center.calls["call1"].arrived
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    async with hall(sqlite_url, key_file) as second:
        second.engine.post(ev.CallerLeft("call1"))
        await until(lambda: any(isinstance(event, ev.CallerLeft) for _, event, _ in second.told))
        ended = next(thing for _, _, out in second.told for thing in out if isinstance(thing, facts.CallEnded))
        assert 0 <= ended.seconds < 5
        assert second.engine.clock.now() >= arrived
        rows = await second.store.history.ended_calls(5)
        assert rows[0]["ended"] >= rows[0]["arrived"]
