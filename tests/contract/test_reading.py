"""A journal read beside its writer, on either database: replays of what an engine wrote, crashes and a store that was away included."""

from __future__ import annotations

import json
import os
import sqlite3
from pathlib import Path

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core.call import TALKING
from app.core.defined import Kept
from app.core.flow.compiled import compile_program
from app.core.flow.program import Program
from app.core.flow.replay import Replayed, replay_call
from app.core.replay_centre import CentreReplayed, replay_centre
from app.replaying import Place, calls_under, one_call, whole_centre
from app.store import Forgotten, Journal, StoreBusy, StoreRefused
from tests.contract.test_engine import Hall, dead_process, hall, until
from tests.unit.centre import book

pytest_plugins = ("tests.databases",)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "callwright.key"


async def talks(house: Hall, call: str, agent: str = "101") -> str:
    """A premium caller talks to an agent."""
    await house.to_the_queue(call)
    leg = (await house.given(do.RingAgent, call)).leg
    house.engine.post(ev.LegAnswered(call, leg))
    await until(lambda: house.engine.center.calls[call].phase == TALKING)
    return str(leg)


async def leaves(house: Hall, call: str) -> None:
    house.engine.post(ev.CallerLeft(call))
    await until(lambda: call not in house.engine.center.calls or not house.engine.center.calls[call].caller)
    await until(lambda: any(isinstance(event, ev.CallerLeft) and event.call == call for _, event, _ in house.told))


async def read(url: str, key_file: Path, call: str) -> tuple[Replayed, CentreReplayed]:
    """A call and the whole centre, replayed."""
    journal = await Journal.open(url, key_file)
    try:
        kept = Kept(await journal.programs())
        rows = [row async for row in journal.everything(1, float("inf"))]
        return replay_call(call, await journal.call(call), kept), replay_centre(rows, kept)
    finally:
        await journal.close()


async def test_what_an_engine_wrote_is_replayed_while_it_runs(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file) as house:
        await house.sign_in("101")
        await talks(house, "one")
        house.dial("two", "anonymous")
        await house.given(do.Play, "two")
        await leaves(house, "one")
        one, whole = await read(store_url, key_file, "one")
        assert one.identical, one
        assert whole.identical, whole
        assert one.replayed == one.recorded
        assert any(record[1] == "Connected" for record in one.replayed)
        assert whole.calls == 2
        again, hint = await one_call(Place(store_url, key_file), "on")
        assert (again.call, again.identical, hint) == ("one", True, "")
        found = await calls_under(Place(store_url, key_file), book().flows["1000"], 0.0, float("inf"))
        assert [(what.call, what.verdict) for what in found] == [("one", "same way")]


async def test_a_crash_and_a_store_that_was_away_are_part_of_the_replay(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file, dead_process()) as house:
        await house.sign_in("101")
        await house.to_the_queue("one")
        leg = (await house.given(do.RingAgent, "one")).leg
        house.dial("two", "anonymous")
        await house.given(do.Play, "two")
        house.trouble = StoreBusy("locked")
        house.engine.post(ev.DigitPressed("two", "2"))
        house.engine.post(ev.LegRinging("one", leg))
        await until(lambda: house.engine.storage_trouble)
        house.dial("three")
        await house.given(do.Release, "three")
        house.trouble = None
        await until(lambda: not house.engine.storage_trouble)
        house.engine.post(ev.LegAnswered("one", leg))
        await house.given(do.Talk, "one")
    async with hall(store_url, key_file) as house:
        assert house.engine.center.blind
        house.engine.post(ev.CallFound("two", up=True))
        house.engine.post(ev.CallFound("one", up=True, legs={leg: "up"}, bridged=(leg,)))
        house.engine.post(ev.PbxBack(restarted=False))
        await until(lambda: not house.engine.center.blind)
        for call in ("one", "two", "three"):
            await leaves(house, call)
        for call in ("one", "two", "three"):
            again, whole = await read(store_url, key_file, call)
            assert again.identical, again
            assert again.replayed == again.recorded
        assert whole.identical, whole
        assert whole.takeovers == 2


async def test_an_offer_that_died_with_the_process_is_made_anew_once_the_channels_are_known(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file, dead_process()) as house:
        await house.sign_in("101")
        await house.to_the_queue("one")
        leg = (await house.given(do.RingAgent, "one")).leg
    async with hall(store_url, key_file) as house:
        house.engine.post(ev.LegEnded("one", leg, -1))
        house.engine.post(ev.CallFound("one", up=True))
        house.engine.post(ev.PbxBack(restarted=False))
        assert (await house.given(do.RingAgent, "one")).leg != leg
        await leaves(house, "one")
        again, whole = await read(store_url, key_file, "one")
        assert again.identical, again
        assert whole.identical, whole


async def test_a_forgotten_call_says_so(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file) as house:
        house.dial("one", "anonymous")
        await house.given(do.Play, "one")
        await leaves(house, "one")
        await house.store.forget("one")
        with pytest.raises(Forgotten):
            await read(store_url, key_file, "one")
        whole = await whole_centre(Place(store_url, key_file), None, float("inf"))
        assert "one" in whole.unknown
        assert "forgotten" in whole.unknown
        found = await calls_under(Place(store_url, key_file), book().flows["1000"], 0.0, float("inf"))
        assert [(what.verdict, what.undetermined) for what in found] == [("undetermined", "it was forgotten")]


async def test_an_old_version_is_replayed_after_the_files_have_changed(store_url: str, key_file: Path) -> None:
    async with hall(store_url, key_file) as house:
        house.dial("one", "anonymous")
        await house.given(do.Play, "one")
        await leaves(house, "one")
        flow = house.engine.center.book.flows["1000"]
    async with hall(store_url, key_file, start=False) as house:
        changed = json.loads(flow.program.model_dump_json())
        changed["prompts"]["ask_reference"] = {language: ["Your reference, please."] for language in ("en", "de", "es")}
        house.engine.center.book.flows = {"1000": compile_program(Program.model_validate(changed), book().queues)}
        await house.start()
        house.dial("two", "anonymous")
        play = await house.given(do.Play, "two")
        assert play.media == ("text:Your reference, please.",)
        await leaves(house, "two")
        for call in ("one", "two"):
            again, whole = await read(store_url, key_file, call)
            assert again.identical, again
        assert whole.identical, whole
        journal = await Journal.open(store_url, key_file)
        versions = [key for key, (name, _) in (await journal.programs()).items() if name == "order-status"]
        await journal.close()
        assert len(versions) == 2


async def test_replays_begin_at_the_last_process_that_found_no_calls(store_url: str, key_file: Path) -> None:
    for name in ("one", "two"):
        async with hall(store_url, key_file, dead_process()) as house:
            if name == "one":
                await house.sign_in("101")
            await talks(house, name)
            await leaves(house, name)
            await house.engine.submit(ev.AgentFinishedWrapUp("101", name, "done"))
            last = house.told[-1][0]
    place = Place(store_url, key_file)
    everything, since = await whole_centre(place, None, float("inf")), await whole_centre(place, last, float("inf"))
    assert (everything.identical, everything.takeovers, everything.calls) == (True, 2, 2)
    assert (since.identical, since.takeovers, since.calls) == (True, 1, 1)
    assert "nothing from which to start" in (await whole_centre(place, 5.0, float("inf"))).unknown


async def test_nothing_is_made_or_migrated_by_reading(tmp_path: Path, key_file: Path) -> None:
    url = f"sqlite+aiosqlite:///{tmp_path}/callwright.db"
    with pytest.raises(StoreRefused, match="there is no database"):
        await Journal.open(url, key_file)
    assert os.listdir(tmp_path) == []
    async with hall(url, key_file, start=False):
        pass
    file = tmp_path / "callwright.db"
    with sqlite3.connect(file) as db:
        db.execute("UPDATE alembic_version SET version_num = '0001'")
    with pytest.raises(StoreRefused, match="has the schema 0001, and this version reads"):
        await Journal.open(url, key_file)
    with sqlite3.connect(file) as db:
        assert db.execute("SELECT version_num FROM alembic_version").fetchone() == ("0001",)
    with pytest.raises(StoreRefused, match=r"key file .* is not there"):
        await Journal.open(url, tmp_path / "other.key")
    with pytest.raises(StoreRefused, match="does not begin a database's address"):
        await Journal.open("callwright.db", key_file)
    with pytest.raises(StoreRefused, match="use sqlite"):
        await Journal.open("mysql+x://host/db", key_file)
