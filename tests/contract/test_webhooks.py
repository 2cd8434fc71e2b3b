"""Webhooks over deaths of ours and of the target's: nothing lost, nothing told under a second name, nobody else held up."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from pydantic import SecretStr

from app.actions.guard import Origin
from app.actions.webhooks import Poster, Webhook
from app.core import events as ev
from app.core.signing import signature
from app.feed import Feed, Place
from app.hooks import GIVE_UP, LONGEST_PAUSE, Hooks
from app.store import Batch, Store, StoreBusy
from tests.contract import hook_lives
from tests.contract.api_house import until
from tests.contract.test_engine import Hall, hall

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CALLWRIGHT_TEST_KILLS", "40"))
SECRET = hook_lives.SECRET
HOUR = 3600.0


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite+aiosqlite:///{tmp_path}/callwright.db"


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "key"


@pytest.fixture
async def engine(url: str, key_file: Path) -> AsyncIterator[Hall]:
    async with hall(url, key_file) as opened:
        yield opened


class Receiver:
    """Targets at one address, by the last part of it. `answers` has the status for each; one that is not there takes everything."""

    def __init__(self) -> None:
        self.posts: dict[str, list[tuple[str, dict[str, Any]]]] = {}
        self.asked: dict[str, list[float]] = {}
        self.answers: dict[str, Any] = {}
        self.origin = ""
        self.now = time.time

    async def take(self, request: web.Request) -> web.Response:
        name, ident, body = request.match_info["name"], request.headers["webhook-id"], await request.read()
        stamp = int(request.headers["webhook-timestamp"])
        assert request.headers["webhook-signature"] == signature(SECRET, ident, stamp, body)
        self.asked.setdefault(name, []).append(self.now())
        answer = self.answers.get(name, 204)
        status = await answer(json.loads(body)) if callable(answer) else answer
        if status < 300:
            self.posts.setdefault(name, []).append((ident, json.loads(body)))
        return web.Response(status=status)

    def taken(self, name: str) -> list[dict[str, Any]]:
        """What a target keeps that drops what it has had: each id once, in the order of coming."""
        return list(dict(self.posts.get(name, [])).values())


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    made, application = Receiver(), web.Application()
    application.router.add_post("/{name}", made.take)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.origin = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield made
    await runner.cleanup()


async def eventually(asking: Callable[[], Awaitable[Any]], within: float = 10.0) -> Any:
    """What is found, once something is."""
    deadline = time.monotonic() + within
    while not (found := await asking()):
        assert time.monotonic() < deadline, "it was not found"
        await asyncio.sleep(0.005)
    return found


async def put_aside(made: Hooks, n: int) -> list[dict[str, Any]]:
    """What was put aside, once there is so much of it."""

    async def enough() -> list[dict[str, Any]]:
        found = await made.aside("crm")
        return found if len(found) >= n else []

    return list(await eventually(enough))


class MovedClock:
    """Time that passes by being slept."""

    def __init__(self) -> None:
        self.ahead = 0.0
        self.pauses: list[float] = []

    def now(self) -> float:
        return time.time() + self.ahead

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.ahead += seconds
        await asyncio.sleep(0)


@asynccontextmanager
async def hooks(engine: Hall, receiver: Receiver, *names: str, clock: MovedClock | None = None, **more: Any) -> AsyncIterator[Hooks]:
    """The hooks at work, with these targets."""
    feed, poster = Feed(engine.store), Poster([Origin(origin=receiver.origin, allow_private=True)])
    engine.engine.listeners.append(lambda happened, agents: feed.poke())
    targets = {name: Webhook(url=f"{receiver.origin}/{name}", secret=SecretStr(SECRET), **more) for name in names}
    time_ = {"now": clock.now, "sleep": clock.sleep} if clock else {"pause": 0.01}
    made = Hooks(targets, feed, engine.store, poster, **time_)  # type: ignore[arg-type]
    running = asyncio.create_task(made.run())
    try:
        for name in names:
            await eventually(partial(engine.store.readers.cursor, f"webhook:{name}"))
        yield made
        assert not running.done(), "the hooks have ended"
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await poster.close()


async def a_call(engine: Hall, n: int) -> str:
    """A caller who hangs up at once."""
    call = f"{n:032x}"
    engine.dial(call)
    await engine.engine.submit(ev.CallerLeft(call))
    return call


# ---- our own death --------------------------------------------------------------------------------------------------------


@pytest.mark.timeout(60 + KILLS)
async def test_over_many_deaths_nothing_is_lost_and_what_comes_twice_has_the_same_id(url: str, key_file: Path, receiver: Receiver) -> None:
    chance = random.Random(7)

    async def moody(message: dict[str, Any]) -> int:
        await asyncio.sleep(chance.random() * 0.01)
        return 204 if chance.random() < 0.9 else 503

    receiver.answers["second"] = moody
    command = [sys.executable, "-m", "tests.contract.hook_lives", url, str(key_file), receiver.origin, str(KILLS)]
    lives = await asyncio.create_subprocess_exec(*command, cwd=ROOT)
    assert await lives.wait() == 0

    store = await Store.open(url, key_file)
    await store.recover()
    happened = await everything(Feed(store))
    await store.close()
    assert len(happened) > KILLS, "hardly anything has happened"
    for name in hook_lives.TARGETS:
        twice = len(receiver.posts[name]) - len(receiver.taken(name))
        assert receiver.taken(name) == happened, f"{name}: {len(receiver.taken(name))} of {len(happened)}, or in another order"
        told: dict[str, dict[str, Any]] = {}
        for ident, message in receiver.posts[name]:
            assert told.setdefault(ident, message) == message
        print(f"{name}: {len(happened)} messages over {KILLS} deaths, {twice} came twice")


async def everything(feed: Feed) -> list[dict[str, Any]]:
    """Every message of the journal."""
    found: list[dict[str, Any]] = []
    place = Place(0, 0)
    while some := await feed.after(place):
        found += [message for _, message in some if message]
        place = some[-1][0]
    return found


async def test_a_store_that_cannot_be_written_holds_a_target_up_and_ends_nothing(
    engine: Hall, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = 0

    async def busy(*_: Any) -> None:
        nonlocal refused
        refused += 1
        raise StoreBusy("locked")

    async with hooks(engine, receiver, "gone", events=["CallEnded"]) as made:
        receiver.answers["gone"] = 410
        with monkeypatch.context() as patch:
            patch.setattr(engine.store.readers, "bury", busy)
            await a_call(engine, 1)
            await until(lambda: refused > 1)
        await eventually(lambda: made.aside("gone"))
        receiver.answers["gone"] = 204
        last = await a_call(engine, 2)
        await until(lambda: [message["call"] for message in receiver.taken("gone")] == [last])


# ---- targets that are away, slow, or gone ---------------------------------------------------------------------------------


async def test_a_target_that_is_down_for_three_hours_has_everything_soon_after(engine: Hall, receiver: Receiver) -> None:
    clock = MovedClock()
    receiver.now = clock.now
    began = clock.now()

    async def down(message: dict[str, Any]) -> int:
        return 503 if clock.now() < began + 3 * HOUR else 204

    receiver.answers["crm"] = down
    async with hooks(engine, receiver, "crm", clock=clock, events=["CallEnded"]) as made:
        calls = [await a_call(engine, n) for n in range(5)]
        await until(lambda: len(receiver.taken("crm")) == 5)
        assert await made.aside("crm") == []
    assert [message["call"] for message in receiver.posts["crm"][0][1:]] == [calls[0]]
    assert [message["call"] for _, message in receiver.posts["crm"]] == calls
    assert clock.now() - began < 3 * HOUR + LONGEST_PAUSE * 1.2
    assert len(clock.pauses) < 25, "a target that is down is asked now and then"
    for n, pause in enumerate(clock.pauses):
        assert 0.8 <= pause / min(2.0**n, LONGEST_PAUSE) <= 1.2
    assert len({round(pause / min(2.0**n, LONGEST_PAUSE), 6) for n, pause in enumerate(clock.pauses)}) > 5, "no jitter"


async def test_what_is_72_hours_old_is_put_aside_and_all_of_it_replayed_when_asked(engine: Hall, receiver: Receiver) -> None:
    """All that waited behind the first is as old by then, and does not wait for another 72 hours each."""
    clock = MovedClock()
    receiver.now = clock.now
    receiver.answers["crm"] = 500
    began = clock.now()
    async with hooks(engine, receiver, "crm", clock=clock, events=["CallEnded"]) as made:
        calls = [await a_call(engine, n) for n in range(4)]
        aside = await put_aside(made, 4)
        assert all(GIVE_UP < each["at"] - began < GIVE_UP + 2 * LONGEST_PAUSE for each in aside)
        assert {each["reason"] for each in aside} == {"status 500"}
        assert await made.again("crm") == (0, 4)
        receiver.answers["crm"] = 204
        assert await made.again("crm") == (4, 0)
        assert [message["call"] for message in receiver.taken("crm")] == calls
        assert [ident for ident, _ in receiver.posts["crm"]] == [f"msg_{each['id']}" for each in aside]
        assert await made.aside("crm") == []
        fresh = await a_call(engine, 9)
        await until(lambda: receiver.taken("crm")[-1]["call"] == fresh)


async def test_the_hours_go_on_over_a_change_of_process(url: str, key_file: Path, receiver: Receiver) -> None:
    receiver.answers["crm"] = 503
    clock = MovedClock()
    receiver.now = clock.now
    async with hall(url, key_file) as first, hooks(first, receiver, "crm", events=["CallEnded"]):
        await a_call(first, 1)
        await until(lambda: receiver.asked.get("crm"))
    clock.ahead = GIVE_UP + 1
    receiver.asked.clear()
    async with hall(url, key_file) as second, hooks(second, receiver, "crm", clock=clock, events=["CallEnded"]) as made:
        await put_aside(made, 1)
        assert len(receiver.asked["crm"]) == 1, "tried once more, and not for 72 hours more"


async def test_a_target_that_is_gone_is_asked_once_for_each_message(engine: Hall, receiver: Receiver) -> None:
    receiver.answers["crm"] = 410
    async with hooks(engine, receiver, "crm", events=["CallEnded"]) as made:
        for n in range(3):
            await a_call(engine, n)
        aside = await put_aside(made, 3)
        assert [each["reason"] for each in aside] == ["status 410"] * 3
        assert len(receiver.asked["crm"]) == 3


async def test_targets_that_never_answer_hold_up_nobody_else(engine: Hall, receiver: Receiver) -> None:
    """They are all on one host, which has no more connections for the one than for the other."""
    slow = [f"slow{n}" for n in range(8)]
    released = asyncio.Event()

    async def never(message: dict[str, Any]) -> int:
        await released.wait()
        return 204

    receiver.answers |= dict.fromkeys(slow, never)
    async with hooks(engine, receiver, *slow, "quick", events=["CallEnded"]) as made:
        calls = [await a_call(engine, n) for n in range(3)]
        await until(lambda: [message["call"] for message in receiver.taken("quick")] == calls)
        await until(lambda: set(receiver.asked) == {*slow, "quick"})
        assert {each["name"]: each["delivered"] for each in made.targets()} == {**dict.fromkeys(slow, 0), "quick": 3}
        released.set()
        await until(lambda: all([message["call"] for message in receiver.taken(name)] == calls for name in slow))


async def test_a_target_too_slow_to_answer_is_told_again(engine: Hall, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.actions.webhooks.SECONDS", 0.2)
    asked = 0
    released = asyncio.Event()

    async def slow_at_first(message: dict[str, Any]) -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            await released.wait()
        return 204

    receiver.answers["crm"] = slow_at_first
    async with hooks(engine, receiver, "crm", events=["CallEnded"]) as made:
        call = await a_call(engine, 1)
        await until(lambda: made.targets()[0]["why"].startswith("no answer within"))
        await until(lambda: [message["call"] for message in receiver.taken("crm")] == [call])
        released.set()
    assert len({ident for ident, _ in receiver.posts["crm"]}) == 1


# ---- to whom, and of what -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["http://169.254.169.254/latest/meta-data", "https://169.254.169.254/", "http://[fd00:ec2::254]/"])
async def test_the_address_where_a_cloud_hands_out_its_secrets_is_never_asked(url: str) -> None:
    poster = Poster([Origin(origin=url.split("/l")[0].rstrip("/"), allow_private=True)])
    try:
        why = await poster.post(Webhook(url=url, secret=SecretStr(SECRET)), "msg_1", int(time.time()), b"{}")
        assert "is not a public address" in why
    finally:
        await poster.close()


async def test_a_redirect_to_it_is_not_followed(engine: Hall, receiver: Receiver) -> None:
    async def elsewhere(message: dict[str, Any]) -> int:
        raise web.HTTPTemporaryRedirect("http://169.254.169.254/latest/meta-data")

    receiver.answers["crm"] = elsewhere
    async with hooks(engine, receiver, "crm", events=["CallEnded"]) as made:
        await a_call(engine, 1)
        await until(lambda: made.targets()[0]["why"] == "status 307")


async def test_a_target_of_one_flow_hears_of_no_other_call_from_its_arrival_to_the_wrap_up(
    engine: Hall, receiver: Receiver, url: str, key_file: Path
) -> None:
    async with hooks(engine, receiver, "other", flows=["another-flow"]), hooks(engine, receiver, "own", flows=["order-status"]):
        call = await a_call(engine, 1)
        wrapped = [["f", "WrapUpEnded", {"call": call, "agent": "101"}, time.time()]]
        await engine.store.commit(Batch(at=time.time(), journal=[(call, wrapped)]))
        last = await a_call(engine, 2)
        await until(lambda: ("CallEnded", last) in [(message["type"], message["call"]) for message in receiver.taken("own")])
        own = [message["type"] for message in receiver.taken("own") if message["call"] == call]
        assert (own[0], own[-2:]) == ("CallArrived", ["CallEnded", "WrapUpEnded"])
        assert [message for message in receiver.taken("other") if message["call"]] == []
