"""The ARI adapter on a real Asterisk with real phones: what its API serves, a call from end to end, and our own death under it."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import signal
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core.view import LiveCall
from app.pbx import requests
from app.pbx.adapter import Line, Pbx
from app.pbx.ari import OPERATIONS, AriError, AriRefused, Request
from app.pbx.local import LocalPbx
from app.pbx.local_config import TONES
from app.pbx.tones import NO_RINGING
from tests.contract.fake_ari import EVENT_SOURCES
from tests.drawn import faults_only
from tests.pbx import Ari, running_pbx
from tests.phones import EVENT_TYPE, AgentPhone, Caller

pytestmark = pytest.mark.pbx
AGENT_TONE, CALLER_TONE, RINGING_TONE = 1300.0, 1900.0, 425.0


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPbx]:
    with running_pbx(tmp_path_factory.mktemp("pbx")) as one:
        yield one


@pytest.fixture
def ari(pbx: LocalPbx) -> Iterator[Ari]:
    """A look into Asterisk; after the test nothing of it may be left there."""
    one = Ari(pbx)
    yield one
    left = [channel["id"] for channel in one.channels()], [bridge["id"] for bridge in one.ask("GET", "bridges")[1]]
    one.hang_up_all()
    assert left == ([], [])


async def until(true: Callable[[], Any], within: float = 5.0) -> Any:
    """Wait for a condition without holding up the loop; fail when it does not come true in time."""
    async with asyncio.timeout(within):
        while not (value := true()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    return value


class Desk:
    """An adapter on that PBX, and what it posted."""

    def __init__(self, pbx: LocalPbx, view: list[LiveCall], password: str = "", tones: str = TONES) -> None:
        self.posted: list[ev.Event] = []
        line = Line(pbx.ari_url, pbx.ari_user, password or pbx.secrets.ari, pbx.app, tones)
        self.pbx = Pbx(line, self.posted.append, lambda: view, self._render, lambda: secrets.token_hex(16))

    async def _render(self, text: str, language: str) -> str:
        return "sound:hello-world"

    def of(self, kind: type[Any]) -> list[Any]:
        return [each for each in self.posted if isinstance(each, kind)]

    async def next(self, kind: type[Any], n: int = 1, within: float = 5.0) -> Any:
        await until(lambda: len(self.of(kind)) >= n, within)
        return self.of(kind)[n - 1]

    async def arrival(self) -> str:
        arrived = await self.next(ev.CallArrived)
        self.pbx.carry_out(do.Answer(arrived.call))
        await until(lambda: self.pbx.book.calls[arrived.call].up)
        return str(arrived.call)

    def ring(self, call: str, n: int = 1, endpoint: str = "101", seconds: float = 20.0) -> str:
        leg = f"{call}-leg{n}"
        self.pbx.carry_out(do.RingAgent(call, leg, f"{call}-br1", endpoint, seconds))
        return leg


@asynccontextmanager
async def desk(pbx: LocalPbx, *view: LiveCall, tones: str = TONES) -> AsyncIterator[Desk]:
    one = Desk(pbx, list(view), tones=tones)
    task = asyncio.create_task(one.pbx.run())
    try:
        await one.next(ev.PbxBack)
        yield one
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, AriError):
            await task


async def over(d: Desk, call: str) -> None:
    """End the call; nothing of it is left in the book."""
    d.pbx.carry_out(do.HangUp(call))
    await d.next(ev.CallerLeft)
    for leg in list(d.pbx.book.calls[call].legs) if call in d.pbx.book.calls else ():
        d.pbx.carry_out(do.HangUpLeg(call, leg))
    await until(lambda: not d.pbx.book.calls)
    await d.pbx.link.request(Request("GET", "bridges"))


@pytest.mark.parametrize("times", [500, *faults_only(4000)])
async def test_asterisk_outlives_a_filter_that_is_set_while_the_application_is_looked_at(pbx: LocalPbx, ari: Ari, times: int) -> None:
    """Asterisk 22.10.1 dies within some thousand times where nothing keeps one from the other."""
    async with desk(pbx) as d:
        link, told = d.pbx.link, requests.event_filter(pbx.app)
        other = Request(told.method, told.path, body={"disallowed": told.body["disallowed"][1:]})

        async def set_again() -> None:
            for n in range(times):
                await link.keep_filter(other if n % 2 else told)

        async def look() -> None:
            while not setting.done():
                assert await link._probes.probe() == ""

        setting = asyncio.create_task(set_again())
        await asyncio.gather(setting, *(look() for _ in range(4)))
        await link.keep_filter(told)
        assert (await link.request(Request("GET", f"applications/{pbx.app}"))).body["events_disallowed"] == told.body["disallowed"]


def test_every_operation_we_use_is_served_by_this_asterisk(pbx: LocalPbx, ari: Ari) -> None:
    served = set()
    for page in ("applications", "asterisk", "bridges", "channels", "events", "playbacks", "recordings"):
        address = f"{pbx.ari_url}/ari/api-docs/{page}.json"
        request = urllib.request.Request(address, headers={"Authorization": authorization(pbx)})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            described = json.loads(answer.read())
        served |= {(op["httpMethod"], api["path"]) for api in described["apis"] for op in api["operations"]}
    assert served >= OPERATIONS


def authorization(pbx: LocalPbx) -> str:
    return "Basic " + base64.b64encode(f"{pbx.ari_user}:{pbx.secrets.ari}".encode()).decode()


async def test_a_call_is_greeted_keyed_rung_through_and_ended(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"], ring=None) as agent:
            with Caller(pbx.ports.sip, "1000", number="+4930555", name="Ada\u202e") as caller:
                call = await d.arrival()
                arrived = d.of(ev.CallArrived)[0]
                assert (arrived.dnis, arrived.ani, arrived.name) == ("1000", "+4930555", "Ada")
                d.pbx.carry_out(do.Play(call, f"{call}-pb1", ("text:hello", "digits:12")))
                await until(lambda: caller.rtp.hears_anything())
                await asyncio.to_thread(caller.rtp.press, "7#")
                assert (await d.next(ev.PlaybackEnded)).ok
                await until(lambda: [e.digit for e in d.of(ev.DigitPressed)] == ["7", "#"])
                d.pbx.carry_out(do.StartMusic(call))
                leg = d.ring(call)
                await d.next(ev.LegRinging)
                await until(lambda: caller.rtp.hears_anything())
                agent.answer()
                await d.next(ev.LegAnswered)
                d.pbx.carry_out(do.Talk(call, f"{call}-br1", leg))
                await until(lambda: caller.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE))
                await asyncio.to_thread(caller.hang_up)
                assert (await d.next(ev.CallerLeft)).cause == 16
                d.pbx.carry_out(do.HangUpLeg(call, leg))
                assert (await d.next(ev.LegEnded)).cause == 16
                await until(lambda: not d.pbx.book.calls)
                await d.pbx.link.request(Request("GET", "bridges"))
        assert not d.of(ev.CommandRefused)
        assert not d.pbx.book.channels


@pytest.mark.parametrize(("tones", "passed_on"), [(TONES, "native_rtp"), ("", "simple_bridge"), ("nowhere", "native_rtp")])
async def test_music_goes_on_while_it_rings_and_sound_is_passed_on_as_it_comes(pbx: LocalPbx, ari: Ari, tones: str, passed_on: str) -> None:
    async with desk(pbx, tones=tones) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"], ring=None) as agent, Caller(pbx.ports.sip, "1000") as caller:
            call = await d.arrival()
            channel, bridge = d.of(ev.CallArrived)[0].channel, f"{call}-br1"
            d.pbx.carry_out(do.MarkPlace(call, "general", time.time(), 0.0))
            d.pbx.carry_out(do.StartMusic(call))
            leg = d.ring(call)
            await d.next(ev.LegRinging)
            caller.rtp.packets.clear()
            await until(lambda: len(caller.rtp.packets) > 75)
            assert caller.rtp.hears_anything(1.0)
            assert not caller.rtp.hears(RINGING_TONE, 1.0)
            agent.answer()
            await d.next(ev.LegAnswered)
            d.pbx.carry_out(do.Talk(call, bridge, leg))
            await until(lambda: ari.ask("GET", f"bridges/{bridge}")[1]["technology"] == passed_on)
            await until(lambda: caller.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE))
            await asyncio.to_thread(caller.rtp.press, "5")
            await until(lambda: any(packet.payload_type == EVENT_TYPE for packet in list(agent.rtp.packets)))
            if tones:
                zone = ari.ask("GET", f"channels/{channel}/variable", variable="CHANNEL(tonezone)")[1]["value"]
                assert zone == {"nowhere": NO_RINGING}.get(tones, tones)
            d.pbx.carry_out(do.HangUpLeg(call, leg))
            await d.next(ev.LegEnded)
            d.pbx.carry_out(do.StartMusic(call))
            caller.rtp.packets.clear()
            await until(lambda: len(caller.rtp.packets) > 25 and caller.rtp.hears_anything(0.3))
            await over(d, call)
        assert not d.of(ev.CommandRefused)


@pytest.mark.parametrize(("refuse", "cause"), [(486, 17), (603, 21)])
async def test_an_agent_who_refuses_leaves_the_caller_with_music(pbx: LocalPbx, ari: Ari, refuse: int, cause: int) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"], refuse=refuse), Caller(pbx.ports.sip, "1000") as caller:
            call = await d.arrival()
            d.pbx.carry_out(do.StartMusic(call))
            d.ring(call)
            assert (await d.next(ev.LegEnded)).cause == cause
            caller.rtp.packets.clear()
            await until(lambda: len(caller.rtp.packets) > 25 and caller.rtp.hears_anything(0.3))
            await over(d, call)


async def test_no_answer_no_phone_and_a_cancelled_ring(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"], ring=None) as agent, Caller(pbx.ports.sip, "1000"):
            call = await d.arrival()
            d.ring(call, 1, seconds=1.0)
            assert (await d.next(ev.LegEnded, 1)).cause == 19
            d.ring(call, 2, endpoint="103")
            assert (await d.next(ev.LegEnded, 2)).cause == 20
            leg = d.ring(call, 3)
            await d.next(ev.LegRinging, 2)
            d.pbx.carry_out(do.HangUpLeg(call, leg))
            assert (await d.next(ev.LegEnded, 3)).cause == 26
            await until(lambda: len(agent.sipp.logged("cancelled")) == 2)
            await over(d, call)


async def test_a_prompt_under_way_holds_up_neither_this_call_nor_the_line(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"]) as agent, Caller(pbx.ports.sip, "1000") as caller:
            call = await d.arrival()
            d.pbx.carry_out(do.Play(call, f"{call}-pb1", tuple(f"digits:{'123456789' * 3}" for _ in range(3))))
            leg = d.ring(call)
            await d.next(ev.LegRinging)
            await d.next(ev.LegAnswered)
            d.pbx.carry_out(do.Talk(call, f"{call}-br1", leg))
            await until(lambda: caller.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE))
            assert d.pbx.link.health().timeouts == 0
            await over(d, call)


async def test_digits_that_are_read_out_can_be_broken_into(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with Caller(pbx.ports.sip, "1000") as caller:
            call = await d.arrival()
            d.pbx.carry_out(do.Play(call, f"{call}-pb1", (f"digits:{'123456789' * 3}", "characters:A7#*-")))
            await until(lambda: caller.rtp.hears_anything())
            d.pbx.carry_out(do.StopPlay(call, f"{call}-pb1"))
            await d.next(ev.PlaybackEnded, within=0.5)
            await over(d, call)


async def test_release_under_a_prompt_goes_to_the_fallback_with_its_variables(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with Caller(pbx.ports.sip, "1000", number="+4930777") as caller:
            call = await d.arrival()
            d.pbx.carry_out(do.Play(call, f"{call}-pb1", (f"digits:{'123456789' * 3}",)))
            await until(lambda: caller.rtp.hears_anything())
            d.pbx.carry_out(do.Release(call, "callwright-fallback", {"CW_QUEUE": "orders"}))
            await d.next(ev.CallerLeft)
            await until(lambda: ari.context_of("+4930777") == "callwright-fallback")
            channel = d.of(ev.CallArrived)[0].channel
            assert ari.ask("GET", f"channels/{channel}/variable", variable="CW_QUEUE")[1] == {"value": "orders"}
            await asyncio.to_thread(caller.hang_up)
            await until(lambda: not ari.channels())


async def test_an_agent_who_answers_while_we_are_dead_talks_and_is_found_talking(pbx: LocalPbx, ari: Ari) -> None:
    with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"], ring=None) as agent, Caller(pbx.ports.sip, "1000") as caller:
        async with desk(pbx) as d:
            call = await d.arrival()
            channel = d.of(ev.CallArrived)[0].channel
            d.pbx.carry_out(do.StartMusic(call))
            leg = d.ring(call)
            await d.next(ev.LegRinging)
        asked = time.time()
        agent.answer()
        agent.wait_for("answered")
        answered = time.time()
        await until(lambda: caller.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE))
        bridge = f"{call}-br1"
        async with desk(pbx, LiveCall(call, channel, True, True, bridge, {leg: "ringing"})) as d:
            await d.next(ev.CallFound)
            at = d.of(ev.LegAnswered)[0].at
            assert asked <= at <= answered + 0.5
            assert d.posted == [ev.PbxBack(False), ev.LegAnswered(call, leg, at), ev.CallFound(call, True, bridge, {leg: "up"}, (leg,))]
            await until(lambda: caller.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE), within=0.5)
            await over(d, call)


async def test_events_still_arrive_after_a_reconnect_with_live_calls(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"]), Caller(pbx.ports.sip, "1000") as caller:
            call = await d.arrival()
            leg = d.ring(call)
            await d.next(ev.LegAnswered)
            d.pbx.link.reconnect("the test says so")
            await d.next(ev.CallFound)
            await asyncio.to_thread(caller.rtp.press, "5")
            assert (await d.next(ev.DigitPressed)).digit == "5"
            await asyncio.to_thread(caller.hang_up)
            await d.next(ev.CallerLeft)
            d.pbx.carry_out(do.HangUpLeg(call, leg))
            await d.next(ev.LegEnded)
            await until(lambda: not d.pbx.book.calls)
            await d.pbx.link.request(Request("GET", "bridges"))


async def test_asterisk_refuses_the_event_sources_that_the_fake_of_the_tests_refuses(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"], ring=None), Caller(pbx.ports.sip, "1000"):
            call = await d.arrival()
            d.ring(call)
            await d.next(ev.LegRinging)
            there = {"channel": d.of(ev.CallArrived)[0].channel, "bridge": f"{call}-br1"}
            path = f"applications/{pbx.app}/subscription"
            answers = {each: ari.ask("POST", path, eventSource=each.format(**there))[0] for each in EVENT_SOURCES}
            for everything in ("channel:", "bridge:"):
                ari.ask("DELETE", path, eventSource=everything)
            assert answers == EVENT_SOURCES
            assert ari.ask("POST", "applications/nobody/subscription", eventSource=f"channel:{there['channel']}")[0] == 404
            assert ari.ask("POST", path)[0] == 400
            d.pbx.carry_out(do.HangUpLeg(call, f"{call}-leg1"))
            await over(d, call)


async def test_a_prompt_that_does_not_exist_is_told(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with Caller(pbx.ports.sip, "1000"):
            call = await d.arrival()
            d.pbx.carry_out(do.Play(call, f"{call}-pb1", ("sound:there-is-no-such-file",)))
            assert (await d.next(ev.PlaybackEnded)).ok is False
            await over(d, call)


async def test_a_wrong_password_is_refused_for_good(pbx: LocalPbx) -> None:
    with pytest.raises(AriRefused):
        await asyncio.wait_for(Desk(pbx, [], "not-the-password-of-this-pbx").pbx.run(), 5)


async def test_an_asterisk_that_freezes_is_noticed_in_time_and_its_calls_are_found_again(pbx: LocalPbx, ari: Ari) -> None:
    async with desk(pbx) as d:
        with Caller(pbx.ports.sip, "1000"):
            call = await d.arrival()
            pid = pbx.pid
            assert pid is not None
            began = time.monotonic()
            os.kill(pid, signal.SIGSTOP)
            try:
                await d.next(ev.PbxLost, within=8)
                assert time.monotonic() - began <= 5.0
            finally:
                os.kill(pid, signal.SIGCONT)
            found = await d.next(ev.CallFound, within=8)
            assert found.call == call
            assert d.of(ev.PbxBack)[1] == ev.PbxBack(False)
            await over(d, call)


async def test_an_asterisk_that_is_killed_closes_its_calls_once(pbx: LocalPbx) -> None:
    async with desk(pbx) as d:
        with AgentPhone(pbx.ports.sip, "101", pbx.secrets.agents["101"]), Caller(pbx.ports.sip, "1000"):
            call = await d.arrival()
            leg = d.ring(call)
            await d.next(ev.LegAnswered)
            pid = pbx.pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            await d.next(ev.PbxLost)
            await until(lambda: pbx.pid is None)
            pbx.start()
            await asyncio.to_thread(pbx.wait_ready)
            assert await d.next(ev.PbxBack, 2) == ev.PbxBack(True)
            await d.next(ev.CallerLeft)
            assert [e.leg for e in d.of(ev.LegEnded)] == [leg]
            assert [e.call for e in d.of(ev.CallerLeft)] == [call]
            assert not d.pbx.book.calls
