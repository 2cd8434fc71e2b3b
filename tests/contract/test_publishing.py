"""Flows published over the API of a running engine with its store: what new calls get, what is refused, and what a crash leaves."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import aiohttp
import pytest
import structlog
from sqlalchemy import text as sql_text
from sqlalchemy.ext.asyncio import create_async_engine

from app.core import commands as do
from app.core import events as ev
from app.core.acd import AgentDef, QueueDef
from app.core.book import Book
from app.core.flow.compiled import Compiled
from app.engine import Engine, LeaseGone
from app.flows import Flows, Unspeakable
from app.house import House
from app.proving import Reader
from app.publish.drawing import svg
from app.publish.flowfile import load_flow
from app.publish.meaning import Context
from app.publish.release import as_document
from app.store import Batch, Holder, Store, StoreFull
from tests.contract.api_house import TOKENS, served
from tests.contract.test_engine import dead_process, until

pytest_plugins = ("tests.databases",)

FLOW = """
flow: greeting
title: A greeting
dnis: ["2000"]
start: hello
on_error: end
prompts:
  hello: {says}
  ask: Press one.
steps:
  hello: {{do: say, prompt: hello, exits: {{done: ask}}}}
  ask: {{do: menu, prompt: ask, choices: {{"1": {then}, "2": wait}}, retry_no_match: ask, retry_no_input: ask,
        exits: {{no_match: end, no_input: end}}}}
  wait: {{do: queue, queue: {queue}, exits: {{talked: end, no_agents: end, too_long: end, failed: end}}}}
  end: {{do: release}}
"""
QUEUES = {name: QueueDef(name) for name in ("sales", "service")}
AGENTS = {"ann": AgentDef("ann", "Ann", "ann", {}, ("sales", "service"))}


def flow(says: str, *, then: str = "end", queue: str = "sales") -> str:
    return FLOW.format(says=says, then=then, queue=queue)


ONE, TWO, THREE = flow("This is one."), flow("This is two."), flow("This is three.")


def compiled(text: str) -> Compiled:
    return load_flow(Path("greeting.yaml"), {}, QUEUES, as_document("greeting.yaml", text))


class Hands:
    """Carries out nothing, and notes it."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def handles(self, command: do.Command) -> bool:
        return True

    def carry_out(self, command: Any) -> None:
        self.given.append(command)

    def plays(self, call: str) -> list[do.Play]:
        return [command for command in self.given if isinstance(command, do.Play) and command.call == call]


class Shop:
    """A running engine behind the real API."""

    def __init__(self, store: Store, queues: dict[str, QueueDef], files: dict[str, str]) -> None:
        self.store = store
        self.files = [load_flow(Path(name), {}, queues, as_document(name, text)) for name, text in files.items()]
        self.engine = Engine(Book({number: one for one in self.files for number in one.program.dnis}, queues, {}), store)
        self.hands = Hands()
        self.engine.adapters = [self.hands]
        self.spoken: list[str] = []
        self.gate: asyncio.Event | None = None
        self.speaking = 0
        self.house = House(self.engine, {})
        self.house.flows = self.flows = Flows(self.engine, Reader(Path("."), {}, queues, AGENTS), self.speak, self.house.submit)
        self.http: aiohttp.ClientSession

    async def speak(self, texts: Iterable[tuple[str, str]]) -> object:
        wanted = [text for text, _ in texts]
        if any("unspeakable" in text for text in wanted):
            raise Unspeakable("too long")
        if self.gate is not None:
            self.speaking += 1
            await self.gate.wait()
        self.spoken += wanted
        return len(wanted)

    async def ask(self, method: str, path: str, status: int = 200, headers: dict[str, str] | None = None, **body: Any) -> Any:
        sent = {"Authorization": f"Bearer {TOKENS['admin']}", **(headers or {})}
        async with self.http.request(method, path, json=body if method == "POST" else None, headers=sent) as answer:
            content = await answer.json(content_type=None)
            assert answer.status == status, content
            self.etag = answer.headers.get("ETag", "")
            return content

    async def try_to_publish(self, text: str, headers: dict[str, str]) -> tuple[int, Any]:
        sent = {"Authorization": f"Bearer {TOKENS['admin']}", **headers}
        async with self.http.post("/v1/flows/greeting/versions", json={"yaml": text}, headers=sent) as answer:
            return answer.status, await answer.json(content_type=None)

    async def publish(self, text: str, status: int = 200, headers: dict[str, str] | None = None, **wish: Any) -> Any:
        return await self.ask("POST", "/v1/flows/greeting/versions", status, headers, yaml=text, name="greeting.yaml", **wish)

    async def picture(self, query: str) -> str:
        async with self.http.get(f"/v1/flows/greeting/picture{query}", headers={"Authorization": f"Bearer {TOKENS['admin']}"}) as answer:
            assert (answer.status, answer.content_type) == (200, "image/svg+xml")
            self.etag = answer.headers["ETag"]
            return await answer.text()

    async def states(self) -> dict[int, str]:
        return {v["number"]: v["state"] for v in (await self.ask("GET", "/v1/flows/greeting/versions"))["versions"]}

    async def hears(self, call: str, ani: str = "+4930111") -> str:
        """What a new caller hears first."""
        self.engine.post(ev.CallArrived(call, f"channel-{call}", ani=ani, dnis="2000"))
        await until(lambda: self.hands.plays(call))
        return str(self.hands.plays(call)[0].media[0].removeprefix("text:"))

    async def goes_on(self, call: str) -> str:
        """The prompt is over: what comes next."""
        before = len(self.hands.plays(call))
        self.engine.post(ev.PlaybackEnded(call, self.engine.center.calls[call].playing))
        await until(lambda: len(self.hands.plays(call)) > before)
        return self.engine.center.calls[call].step


@asynccontextmanager
async def shop_at(
    url: str, key_file: Path, holder: Holder | None = None, queues: dict[str, QueueDef] = QUEUES, **files: str
) -> AsyncIterator[Shop]:
    store = await Store.open(url, key_file)
    await store.acquire_lease(holder or Holder.current())
    shop = Shop(store, queues, files or {"greeting": ONE})
    await shop.engine.take_over()
    await shop.flows.read_files(shop.files)
    running = asyncio.create_task(shop.engine.run())
    try:
        async with served(shop.house) as base, aiohttp.ClientSession(base) as shop.http:
            await until(lambda: shop.engine.center.book.published.lines)
            yield shop
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, LeaseGone):
            await running
        await store.close()


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "callwright.key"


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/callwright.db"


@pytest.fixture
async def shop(sqlite_url: str, key_file: Path) -> AsyncIterator[Shop]:
    async with shop_at(sqlite_url, key_file) as opened:
        yield opened


# ---- publishing ---------------------------------------------------------------------------------------------------------


async def test_a_new_call_runs_what_was_published_and_a_live_one_what_it_began_with(shop: Shop) -> None:
    assert await shop.hears("old") == "This is one."
    version = await shop.publish(TWO, note="friendlier")
    assert (version["number"], version["state"], version["by"], version["note"]) == (2, "active", "ops", "friendlier")
    assert await shop.hears("new") == "This is two."
    assert await shop.goes_on("old") == "ask"
    entered = {each["id"]: each["entered"] for each in (await shop.ask("GET", "/v1/calls"))["calls"]}
    assert shop.engine.center.calls["old"].arrived <= entered["new"] <= entered["old"] <= shop.engine.clock.now()
    rows = {v["number"]: v for v in (await shop.ask("GET", "/v1/flows/greeting/versions"))["versions"]}
    assert (rows[1]["calls"], rows[2]["calls"]) == (1, 1)
    assert (rows[1]["by"], rows[1]["state"]) == ("files", "retired")
    shop.engine.post(ev.CallerLeft("old"))
    await until(lambda: "old" not in shop.engine.center.calls)
    ended = await shop.store.history.ended_call("old")
    assert ended is not None
    assert ended["version"] == rows[1]["hash"]


async def test_rolling_back_and_forth(shop: Shop) -> None:
    await shop.publish(TWO)
    back = await shop.ask("POST", "/v1/flows/greeting/versions/1/activate", note="it was better")
    assert (back["number"], back["state"]) == (1, "active")
    assert await shop.hears("call1") == "This is one."
    assert (await shop.publish(TWO))["number"] == 2
    assert await shop.hears("call2") == "This is two."
    assert await shop.states() == {1: "retired", 2: "active"}
    assert await shop.ask("GET", "/v1/flows") == {
        "flows": [{"name": "greeting", "title": "A greeting", "numbers": ["2000"], "active": 2, "canary": None, "versions": 2}]
    }


async def test_a_flow_can_be_sent_as_json_and_what_is_given_can_be_sent_again(shop: Shop) -> None:
    program = (await shop.ask("GET", "/v1/flows/greeting/versions/1"))["program"]
    assert not program.keys() & {"outputs", "tables"}
    assert (await shop.ask("POST", "/v1/flows/greeting/versions", program=program))["number"] == 1
    program["prompts"]["hello"] = ["This is JSON."]
    assert (await shop.ask("POST", "/v1/flows/greeting/versions", program=program))["number"] == 2
    assert await shop.hears("call1") == "This is JSON."


async def test_a_canary_is_for_some_callers_until_it_is_activated(shop: Shop) -> None:
    version = await shop.publish(TWO, numbers=["+49 30 222"], guard={"calls": 9, "margin": 0.3})
    assert (version["state"], version["numbers"], version["guard"]) == ("canary", ["+49 30 222"], {"calls": 9, "margin": 0.3})
    assert await shop.hears("theirs", "+4930222") == "This is two."
    assert await shop.hears("others") == "This is one."
    await shop.ask("POST", "/v1/flows/greeting/versions/2/activate")
    assert await shop.hears("all") == "This is two."


async def test_a_canary_that_does_worse_is_taken_back_and_says_why(shop: Shop) -> None:
    await shop.publish(TWO, share=100, guard={"calls": 3, "margin": 0.5})
    for n in range(3):
        assert await shop.hears(f"call{n}") == "This is two."
        shop.engine.post(ev.CallerLeft(f"call{n}"))
        await until(lambda n=n: f"call{n}" not in shop.engine.center.calls)
    assert await shop.hears("after") == "This is one."
    assert await shop.states() == {1: "active", 2: "taken_back"}
    version = (await shop.ask("GET", "/v1/flows/greeting/versions"))["versions"][0]
    assert version["why"] == "abandons: 100% of the last 3 calls, 0% under version 1, margin 50%"
    assert version["figures"] == {"abandons": 1.0, "failures": 0.0, "defaults": 0.0}


async def test_what_changes_for_callers_is_told_for_two_versions(shop: Shop) -> None:
    await shop.publish(TWO)
    (change,) = (await shop.ask("GET", "/v1/flows/greeting/diff?from=1&to=2"))["changes"]
    assert change["text"] == "A caller now hears “This is two.”; before: hears “This is one.”."
    assert (await shop.ask("GET", "/v1/flows/greeting/diff?from=2&to=2"))["changes"] == []


async def test_a_flow_is_drawn_as_callers_get_it_and_every_version_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[str] = []

    def draws(context: Context) -> str:
        threads.append(threading.current_thread().name)
        return svg(context)

    monkeypatch.setattr("app.flows.svg", draws)
    first = await shop.picture("")
    await shop.publish(flow("This is two.", then="wait"))
    rows = (await shop.ask("GET", "/v1/flows/greeting/versions"))["versions"]
    second = await shop.picture("")
    assert shop.etag == f'"{rows[0]["hash"]}"'
    assert (await shop.picture("?version=1"), await shop.picture("?version=2")) == (first, second)
    del shop.engine.center.book.published.shelf[rows[1]["hash"]]
    shop.flows._pictures.clear()
    assert await asyncio.gather(*(shop.picture("?version=1") for _ in range(3))) == [first] * 3
    assert len(threads) == 3
    assert threading.main_thread().name not in threads
    drawn = ElementTree.fromstring(second)
    boxes = {each.get("data-step"): each for each in drawn.iter("{http://www.w3.org/2000/svg}g") if each.get("data-step")}
    assert boxes.keys() == {"hello", "ask", "wait", "end"}
    assert boxes["ask"].get("id") == "step-ask"
    assert "This is two." in "".join(boxes["hello"].itertext())


async def test_a_picture_that_is_known_is_not_sent_again(shop: Shop) -> None:
    await shop.picture("")
    known = {"Authorization": f"Bearer {TOKENS['supervisor']}", "If-None-Match": shop.etag}
    async with shop.http.get("/v1/flows/greeting/picture", headers=known) as answer:
        assert (answer.status, await answer.read()) == (304, b"")
    await shop.publish(TWO)
    async with shop.http.get("/v1/flows/greeting/picture", headers=known) as answer:
        assert answer.status == 200


async def test_nobody_gets_a_version_before_all_of_it_is_spoken(shop: Shop) -> None:
    assert shop.spoken == ["This is one.", "Press one."]
    shop.gate = asyncio.Event()
    publishing = asyncio.create_task(shop.publish(TWO))
    await until(lambda: shop.speaking)
    assert await shop.hears("meanwhile") == "This is one."
    assert not publishing.done()
    shop.gate.set()
    assert (await publishing)["number"] == 2
    assert shop.spoken[2:] == ["This is two.", "Press one."]
    assert await shop.hears("then") == "This is two."


# ---- what is refused ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_etag", [False, True])
async def test_two_who_publish_at_once_do_not_mix(shop: Shop, with_etag: bool) -> None:
    await shop.states()
    headers = {"If-Match": shop.etag} if with_etag else {}
    shop.gate = asyncio.Event()
    both = [asyncio.create_task(shop.try_to_publish(text, headers)) for text in (TWO, THREE)]
    await until(lambda: shop.speaking == 2)
    shop.gate.set()
    (status, won), (refused, problem) = sorted(await asyncio.gather(*both), key=lambda answer: answer[0])
    assert (status, won["number"]) == (200, 2)
    assert (refused, problem["type"]) == (412 if with_etag else 409, "urn:callwright:version-conflict")
    assert await shop.states() == {1: "retired", 2: "active"}
    heard = await shop.hears("call1")
    assert shop.engine.center.calls["call1"].flow.version == won["hash"]
    assert heard in ("This is two.", "This is three.")


async def test_a_stale_etag_is_refused_and_any_and_the_right_one_are_not(shop: Shop) -> None:
    await shop.states()
    stale = shop.etag
    await shop.publish(TWO, headers={"If-Match": stale})
    await shop.publish(THREE, 412, {"If-Match": stale})
    await shop.publish(THREE, 200, {"If-Match": "*"})
    await shop.states()
    await shop.publish(ONE, 200, {"If-Match": shop.etag})
    assert await shop.states() == {1: "active", 2: "retired", 3: "retired"}


@pytest.mark.parametrize(
    ("text", "at", "why"),
    [
        ("flow: [", "greeting.yaml:1", "not YAML"),
        (ONE.replace("exits: {done: ask}", "exits: {done: nowhere}"), "greeting.yaml:11", "there is no step 'nowhere'"),
        (ONE.replace("do: say", "do: sing"), "greeting.yaml:11", "there is no kind of step 'sing'"),
        (ONE.replace("queue: sales", "queue: sails"), "greeting.yaml:14", "there is no queue 'sails' (did you mean 'sales'?)"),
        (ONE.replace("flow: greeting", "flow: greetings"), "greeting.yaml", "this is flow 'greetings', published as 'greeting'"),
        (flow("This is unspeakable."), "greeting", "a prompt cannot be spoken: too long"),
        ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "greeting.yaml:1", ""),
    ],
)
async def test_a_flow_that_is_wrong_is_refused_with_file_and_line(shop: Shop, text: str, at: str, why: str) -> None:
    problem = await shop.publish(text, 422)
    assert problem["type"] == "urn:callwright:bad-flow"
    assert problem["errors"][0]["at"] == at
    assert why in problem["errors"][0]["why"]
    assert await shop.states() == {1: "active"}
    assert await shop.hears("call1") == "This is one."


@pytest.mark.parametrize(
    ("method", "path", "status", "body"),
    [
        ("GET", "/v1/flows/nothing/versions", 404, {}),
        ("GET", "/v1/flows/greeting/versions/9", 404, {}),
        ("GET", "/v1/flows/greeting/versions/x", 404, {}),
        ("GET", "/v1/flows/greeting/diff?from=1&to=9", 404, {}),
        ("GET", "/v1/flows/greeting/diff?from=1", 422, {}),
        ("GET", "/v1/flows/nothing/picture", 404, {}),
        ("GET", "/v1/flows/greeting/picture?version=9", 404, {}),
        ("GET", "/v1/flows/greeting/picture?version=0", 422, {}),
        ("POST", "/v1/flows/greeting/versions/9/activate", 404, {}),
        ("POST", "/v1/flows/greeting/versions/1/activate", 409, {"share": 5}),
        ("POST", "/v1/flows/greeting/versions", 422, {}),
        ("POST", "/v1/flows/greeting/versions", 422, {"yaml": ONE, "program": {}}),
        ("POST", "/v1/flows/greeting/versions", 422, {"program": {"flow": ["deep"]}}),
        ("POST", "/v1/flows/greeting/versions", 422, {"yaml": TWO, "share": 101}),
        ("POST", "/v1/flows/greeting/versions", 422, {"yaml": TWO, "numbers": ["someone"]}),
        ("POST", "/v1/flows/greeting/versions", 422, {"yaml": TWO, "guard": {"calls": 0}}),
        ("POST", "/v1/flows/other/versions", 409, {"yaml": TWO.replace("flow: greeting", "flow: other")}),
        ("POST", "/v1/flows/greeting/versions", 413, {"yaml": "#" * (4 << 20)}),
    ],
)
async def test_what_cannot_be_asked_is_refused(shop: Shop, method: str, path: str, status: int, body: dict[str, Any]) -> None:
    problem = await shop.ask(method, path, status, **body)
    assert problem["type"].startswith("urn:callwright:")
    assert await shop.states() == {1: "active"}


async def test_an_agent_may_not_publish_and_a_long_flow_may_be_sent(shop: Shop) -> None:
    agent = {"Authorization": f"Bearer {TOKENS['anna']}"}
    await shop.publish(TWO, 403, agent)
    await shop.ask("GET", "/v1/flows", 403, agent)
    await shop.ask("GET", "/v1/flows/greeting/picture", 403, agent)
    assert (await shop.publish(TWO + "# " + "x" * 500_000))["number"] == 2


async def test_nothing_is_published_while_the_store_is_away(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def full(*given: Any) -> None:
        raise StoreFull("no room")

    monkeypatch.setattr(shop.store, "keep_programs", full)
    await shop.publish(TWO, 503)
    monkeypatch.undo()
    assert await shop.states() == {1: "active"}
    assert (await shop.publish(TWO))["number"] == 2


# ---- the next process ---------------------------------------------------------------------------------------------------


async def test_calls_of_three_versions_go_on_in_the_next_process_though_no_file_has_theirs(store_url: str, key_file: Path) -> None:
    async with shop_at(store_url, key_file, dead_process()) as first:
        assert await first.hears("one") == "This is one."
        await first.publish(TWO)
        assert await first.hears("two") == "This is two."
        await first.publish(THREE, numbers=["+4930333"])
        assert await first.hears("three", "+4930333") == "This is three."
    async with shop_at(store_url, key_file, greeting=flow("This is four.")) as second:
        calls = second.engine.center.calls
        assert {name: calls[name].step for name in calls} == {"one": "hello", "two": "hello", "three": "hello"}
        assert await second.hears("new") == "This is four."
        second.engine.post(ev.PbxBack(False))
        for call in ("one", "two", "three"):
            for _ in range(2):  # one that is over as soon as there is a new process was never begun, and is played again
                second.engine.post(ev.PlaybackEnded(call, calls[call].playing))
        await until(lambda: {calls[name].step for name in ("one", "two", "three")} == {"ask"})
        assert not [call for call in ("one", "two", "three") if calls[call].failed]
        hashes = {v["number"]: v["hash"] for v in (await second.ask("GET", "/v1/flows/greeting/versions"))["versions"]}
        assert [calls[name].flow.version for name in ("one", "two", "three", "new")] == [hashes[n] for n in (1, 2, 3, 4)]
        assert await second.states() == {1: "retired", 2: "retired", 3: "retired", 4: "active"}


async def test_versions_canary_figures_and_numbers_outlive_the_process(store_url: str, key_file: Path) -> None:
    async with shop_at(store_url, key_file, dead_process()) as first:
        await first.publish(TWO, numbers=["+4930333"], note="a trial", guard={"calls": 2, "margin": 0.1})
        await first.hears("call1", "+4930333")
        await first.engine.submit(ev.CallerLeft("call1"))
        before = await first.ask("GET", "/v1/flows/greeting/versions")
    async with shop_at(store_url, key_file) as second:
        assert await second.ask("GET", "/v1/flows/greeting/versions") == before
        assert before["versions"][0]["ended"] == 1
        assert await second.hears("call2", "+4930333") == "This is two."
        second.engine.post(ev.CallerLeft("call2"))
        await until(lambda: "call2" not in second.engine.center.calls)
        assert await second.states() == {1: "active", 2: "taken_back"}


async def test_callers_numbers_are_not_in_the_clear_in_the_database(sqlite_url: str, key_file: Path, tmp_path: Path) -> None:
    async with shop_at(sqlite_url, key_file) as shop:
        await shop.publish(TWO, numbers=["+4930987654321"])
        content = b"".join((tmp_path / name).read_bytes() for name in ("callwright.db", "callwright.db-wal"))
    assert b"greeting" in content
    assert b"4930987654321" not in content


async def test_an_older_version_is_checked_against_the_queues_of_today(sqlite_url: str, key_file: Path) -> None:
    async with shop_at(sqlite_url, key_file, dead_process()) as first:
        await first.publish(flow("This is two.", queue="service"))
    async with shop_at(sqlite_url, key_file, None, {"service": QUEUES["service"]}, greeting=flow("Three.", queue="service")) as second:
        problem = await second.ask("POST", "/v1/flows/greeting/versions/1/activate", 422)
        assert "there is no queue 'sales'" in problem["errors"][0]["why"]
        assert (await second.ask("POST", "/v1/flows/greeting/versions/2/activate"))["state"] == "active"
        assert await second.hears("call1") == "This is two."


async def test_a_database_from_before_there_were_versions_is_brought_up_to_date(store_url: str, key_file: Path) -> None:
    store = await Store.open(store_url, key_file)
    await store.commit(Batch(at=1.0, journal=[("a", [["e", "DigitPressed", {"call": "a", "digit": "1"}, 1.0]])]))
    await store.close()
    engine = create_async_engine(store_url)
    async with engine.begin() as connection:
        later = [f"DROP TABLE {name}" for name in ("flow_versions", "programs", "cursors", "undelivered")]
        for change in (*later, "UPDATE alembic_version SET version_num = '0001'"):
            await connection.execute(sql_text(change))
    await engine.dispose()
    async with shop_at(store_url, key_file) as shop:
        assert await shop.states() == {1: "active"}
        assert await shop.store.history.timeline("a") is not None


async def test_a_release_that_hashes_programs_otherwise_makes_no_version_of_the_same_program(store_url: str, key_file: Path) -> None:
    async with shop_at(store_url, key_file, dead_process()) as first:
        assert await first.hears("call1") == "This is one."
        hash_ = first.engine.center.calls["call1"].flow.version
        await first.engine.submit(ev.CallerLeft("call1"))
    engine = create_async_engine(store_url)
    async with engine.begin() as connection:
        for table in ("flow_versions", "programs"):
            await connection.execute(sql_text(f"UPDATE {table} SET hash = 'of another release' WHERE hash = :hash"), {"hash": hash_})  # noqa: S608
    await engine.dispose()
    async with shop_at(store_url, key_file) as second:
        assert await second.states() == {1: "active"}
        assert await second.hears("call2") == "This is one."
        assert second.engine.center.calls["call2"].flow.version == "of another release"


async def test_programs_come_back_as_they_were_kept(store_url: str, key_file: Path) -> None:
    store = await Store.open(store_url, key_file)
    odd = {"prompts": {"a": ["\x00 \U0001f600 'DROP TABLE programs'"]}}
    await store.keep_programs({"h1": ("a", odd), "h2": ("b", {"n": 2})}, 5.0)
    await store.keep_programs({"h1": ("a", odd), "h3": ("c", {})}, 6.0)
    assert await store.programs(["h1", "h2", "h3", "h4"]) == {"h1": odd, "h2": {"n": 2}, "h3": {}}
    assert await store.programs([]) == {}
    await store.close()


# ---- the command line ---------------------------------------------------------------------------------------------------


@pytest.fixture
def cli(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Runs `callwright flow ...` against the application; gives exit status and output."""
    monkeypatch.setenv("CALLWRIGHT_URL", str(shop.http._base_url))
    monkeypatch.setenv("CALLWRIGHT_TOKEN", TOKENS["admin"])
    monkeypatch.setenv("COLUMNS", "200")

    async def run(*argv: str) -> tuple[int, str]:
        from typer.testing import CliRunner

        from app.cli import app

        done = await asyncio.to_thread(CliRunner().invoke, app, ["flow", *argv])
        return done.exit_code, done.output

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))  # it writes to the same output
    yield run
    structlog.reset_defaults()


async def test_publish_diff_versions_and_roll_back_as_somebody_types_them(shop: Shop, cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "greeting.yaml"
    file.write_text(TWO)
    assert await cli("diff", "greeting", str(file)) == (
        1,
        "A caller now hears “This is two.”; before: hears “This is one.”.  (7 ways through the flow)\n",
    )
    assert await cli("publish", str(file), "--note", "friendlier") == (0, "flow greeting: version 2 is active for every new call\n")
    assert await cli("diff", "greeting@2", str(file)) == (0, "nothing changes for callers\n")
    code, listed = await cli("versions", "greeting")
    assert code == 0
    assert "friendlier" in listed
    code, rows = await cli("versions", "greeting", "--json")
    assert [row["state"] for row in json.loads(rows)] == ["active", "retired"]
    assert await cli("activate", "greeting", "1") == (0, "flow greeting: version 1 is active for every new call\n")
    assert await cli("publish", str(file), "--share", "10", "--number", "+4930222") == (
        0,
        "flow greeting: version 2 is canary for 10 % of calls and 1 number\n",
    )
    code, listed = await cli("list")
    assert code == 0
    assert listed.splitlines()[1].split() == ["greeting", "A", "greeting", "2000", "1", "2", "2"]


async def test_a_flow_that_is_wrong_is_told_with_file_and_line_at_the_terminal(shop: Shop, cli: Callable[..., Any], tmp_path: Path) -> None:
    file = tmp_path / "greeting.yaml"
    file.write_text(ONE.replace("exits: {done: ask}", "exits: {done: nowhere}"))
    code, output = await cli("publish", str(file))
    assert code == 1
    assert output.startswith(f"{str(file)[-200:]}:11: steps.hello.exits.done: there is no step 'nowhere'")
    file.write_text("flow: [")
    assert (await cli("publish", str(file)))[0] == 1
    assert await cli("publish", str(tmp_path / "none.yaml")) == (
        1,
        f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory\n",
    )
    assert await cli("activate", "greeting", "7") == (1, "flow greeting has no version 7\n")
    assert await shop.states() == {1: "active"}
