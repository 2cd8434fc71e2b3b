"""The adapter against an ARI server over real sockets that misbehaves on demand."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from app.core import commands as do
from app.core import events as ev
from app.core.view import LiveCall
from app.pbx import ari as ari_module
from app.pbx import probes as probes_module
from app.pbx.adapter import Line, Pbx
from app.pbx.ari import (
    AriBroken,
    AriConflict,
    AriError,
    AriInvalid,
    AriMalformed,
    AriNotFound,
    AriRefused,
    AriReplaced,
    AriTimeout,
    AriTooBig,
    Request,
)
from app.pbx.link import AriLink
from tests.contract.fake_ari import APP, EVENT_SOURCES, PASSWORD, USER, Asked, FakeAri, Rule, fake_ari

CHANNEL = "1767225600.7"


async def until(true: Callable[[], Any], within: float = 5.0) -> Any:
    """Wait for a condition; fail when it does not come true in time."""
    async with asyncio.timeout(within):
        while not (value := true()):  # noqa: ASYNC110
            await asyncio.sleep(0.002)
    return value


class House:
    """An adapter, what it posted, and when."""

    def __init__(self, fake: FakeAri, view: list[LiveCall], password: str = PASSWORD) -> None:
        self.fake = fake
        self.posted: list[ev.Event] = []
        self.times: list[float] = []
        self.words: asyncio.Event = asyncio.Event()
        self.words.set()
        ids = itertools.count(1)
        self.pbx = Pbx(Line(fake.url, USER, password, APP), self._post, lambda: view, self._render, lambda: f"{next(ids):032x}")
        self.task: asyncio.Task[None] | None = None

    def _post(self, event: ev.Event) -> None:
        self.posted.append(event)
        self.times.append(time.monotonic())

    async def _render(self, text: str, language: str) -> str:
        await self.words.wait()
        if text == "unspeakable":
            raise RuntimeError("no such voice")
        return f"sound:/spoken/{language}/{len(text)}"

    def of(self, kind: type[Any]) -> list[Any]:
        """The posted events of a kind."""
        return [each for each in self.posted if isinstance(each, kind)]

    async def next(self, kind: type[Any], n: int = 1, within: float = 5.0) -> Any:
        """The n-th event of a kind, once it is there."""
        await until(lambda: len(self.of(kind)) >= n, within)
        return self.of(kind)[n - 1]

    async def caller(self, channel: str = CHANNEL, *args: str) -> str:
        """A caller arrives and is answered; the call's id."""
        await self.fake.arrive(channel, *args)
        arrived = await self.next(ev.CallArrived, len(self.of(ev.CallArrived)) + 1)
        self.pbx.carry_out(do.Answer(arrived.call))
        await until(lambda: self.pbx.book.calls[arrived.call].up)
        return str(arrived.call)

    async def ringing(self) -> tuple[str, str]:
        """A caller whose agent's phone rings; call and leg."""
        call = await self.caller()
        leg = f"{call}-leg1"
        self.pbx.carry_out(do.RingAgent(call, leg, f"{call}-br1", "101", 20.0))
        await until(lambda: self.fake.asked("POST", f"channels/{leg}/dial"))
        await self.fake.ring_leg(leg)
        await self.next(ev.LegRinging)
        return call, leg


@asynccontextmanager
async def house(fake: FakeAri, *view: LiveCall, connected: bool = True) -> AsyncIterator[House]:
    """An adapter that is connected and has looked."""
    one = House(fake, list(view))
    one.task = asyncio.create_task(one.pbx.run())
    try:
        if connected:
            await one.next(ev.PbxBack)
        yield one
    finally:
        one.task.cancel()
        with suppress(asyncio.CancelledError, AriError):
            await one.task


@pytest.fixture
async def fake() -> AsyncIterator[FakeAri]:
    async with fake_ari() as server:
        yield server


async def test_words_in_a_language_of_their_own_are_spoken_in_that(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller(CHANNEL, "1000")
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("text:hello", "de:Guten Tag", "sound:beep"), "es"))
        await until(lambda: f"{call}-pb1" in fake.playbacks)
        assert fake.asked("POST", "channels/.*/play/.*")[0].query["media"] == "sound:/spoken/es/5,sound:/spoken/de/9,sound:beep"


# ---- calls ---------------------------------------------------------------------------------------------------------------


async def test_a_caller_is_greeted_rung_through_and_hung_up(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller(CHANNEL, "1000")
        arrived = h.of(ev.CallArrived)[0]
        assert (arrived.dnis, arrived.ani, arrived.name, arrived.up) == ("1000", "4930123456", "Ada", False)
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("text:hello", "digits:12")))
        await until(lambda: f"{call}-pb1" in fake.playbacks)
        assert fake.asked("POST", "channels/.*/play/.*")[0].query == {
            "media": "sound:/spoken/en/5,sound:digits/1,sound:digits/2",
            "lang": "en",
        }
        await fake.inject("ChannelDtmfReceived", channel={"id": CHANNEL}, digit="5", duration_ms=80)
        await fake.finish(f"{call}-pb1")
        assert (await h.next(ev.PlaybackEnded)).ok
        assert (await h.next(ev.DigitPressed)).digit == "5"
        leg, bridge = f"{call}-leg1", f"{call}-br1"
        h.pbx.carry_out(do.StartMusic(call))
        h.pbx.carry_out(do.RingAgent(call, leg, bridge, "101", 19.2))
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        assert fake.bridges[bridge]["channels"] == [CHANNEL, leg]
        assert fake.asked("POST", f"channels/{leg}/dial")[0].query["timeout"] == "20"
        await fake.ring_leg(leg)
        await fake.answer_leg(leg)
        await h.next(ev.LegAnswered)
        h.pbx.carry_out(do.Talk(call, bridge, leg))
        await fake.end(CHANNEL, 16)
        assert (await h.next(ev.CallerLeft)).cause == 16
        h.pbx.carry_out(do.HangUpLeg(call, leg))
        assert (await h.next(ev.LegEnded)).cause == 16
        await until(lambda: not fake.bridges)
        assert not h.pbx.book.calls
        assert not h.pbx.book.channels
        assert len(h.of(ev.LegRinging)) == len(h.of(ev.LegAnswered)) == len(h.of(ev.CallerLeft)) == 1
        assert not h.of(ev.CommandRefused)
        assert all(r.way == "ws" for r in fake.requests if r.method == "POST" and r.path.startswith("channels/"))


async def test_stasis_start_of_a_leg_before_and_after_the_answer_to_create(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.hold_stasis_start = True
        h.pbx.carry_out(do.RingAgent(call, f"{call}-leg1", f"{call}-br1", "101", 20.0))
        await until(lambda: fake.asked("POST", "channels/create"))
        await h.pbx.link.request(Request("GET", "channels"))
        assert not fake.asked("POST", "channels/.*/dial")
        await fake.enter(f"{call}-leg1")
        await until(lambda: fake.asked("POST", f"channels/{call}-leg1/dial"))
        fake.hold_stasis_start = False
        h.pbx.carry_out(do.RingAgent(call, f"{call}-leg2", f"{call}-br1", "102", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{call}-leg2/dial"))
        assert fake.bridges[f"{call}-br1"]["channels"] == [CHANNEL, f"{call}-leg1", f"{call}-leg2"]


async def test_a_leg_that_is_cancelled_before_it_is_there_does_not_ring(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.hold_stasis_start = True
        h.pbx.carry_out(do.RingAgent(call, f"{call}-leg1", f"{call}-br1", "101", 20.0))
        h.pbx.carry_out(do.HangUpLeg(call, f"{call}-leg1"))
        assert (await h.next(ev.LegEnded)).cause == 26
        assert not fake.asked("POST", "channels/.*/dial")
        assert list(fake.channels) == [CHANNEL]


@pytest.mark.parametrize(("endpoint", "cause"), [("nowhere", 20), ("101&102", 20), ("", 20), ("../x", 20)])
async def test_a_phone_that_cannot_be_reached_ends_the_leg(fake: FakeAri, endpoint: str, cause: int) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.RingAgent(call, f"{call}-leg1", f"{call}-br1", endpoint, 20.0))
        ended = await h.next(ev.LegEnded)
        assert (ended.leg, ended.cause) == (f"{call}-leg1", cause)


@pytest.mark.parametrize(
    ("cause", "soft", "rings", "expected"), [(17, False, True, 17), (21, False, True, 21), (19, True, True, 19), (19, True, False, 20)]
)
async def test_how_a_leg_failed_is_told_once(fake: FakeAri, cause: int, soft: bool, rings: bool, expected: int) -> None:
    async with house(fake) as h:
        call = await h.caller()
        leg = f"{call}-leg1"
        h.pbx.carry_out(do.RingAgent(call, leg, f"{call}-br1", "101", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        if rings:
            await fake.ring_leg(leg)
        await fake.end(leg, cause, soft=soft)
        assert (await h.next(ev.LegEnded)).cause == expected
        await h.pbx.link.request(Request("GET", "channels"))
        assert len(h.of(ev.LegEnded)) == 1


async def test_create_of_a_leg_that_exists_already_adopts_it(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        leg = f"{call}-leg1"
        await fake.arrive(leg, "leg", tell=False, state="Down")
        h.pbx.carry_out(do.RingAgent(call, leg, f"{call}-br1", "101", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        assert not h.of(ev.LegEnded)


async def test_what_follows_a_prompt_waits_for_its_words_but_an_ending_does_not(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.words.clear()
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("text:one",)))
        h.pbx.carry_out(do.Play(call, f"{call}-pb2", ("sound:two",)))
        h.pbx.carry_out(do.StartMusic(call))
        h.pbx.carry_out(do.StopPlay(call, f"{call}-pb1"))
        assert h.of(ev.PlaybackEnded) == [ev.PlaybackEnded(call, f"{call}-pb1", True)]
        await until(lambda: fake.asked("POST", "channels/.*/moh"))
        done = [r.path.split("/", 2)[2] for r in fake.requests if r.method == "POST" and r.path.startswith(f"channels/{CHANNEL}")]
        assert done == ["answer", f"play/{call}-pb2", "moh"]
        h.pbx.carry_out(do.Play(call, f"{call}-pb3", ("text:three",)))
        h.pbx.carry_out(do.Play(call, f"{call}-pb4", ("text:four",)))
        h.pbx.carry_out(do.RingAgent(call, f"{call}-leg1", f"{call}-br1", "101", 20.0))
        h.pbx.carry_out(do.HangUp(call, 31))
        assert (await h.next(ev.CallerLeft)).cause == 31
        assert {e.playback: e.ok for e in h.of(ev.PlaybackEnded)[1:]} == {f"{call}-pb3": False, f"{call}-pb4": False}
        assert h.of(ev.LegEnded) == [ev.LegEnded(call, f"{call}-leg1", 26)]
        await until(lambda: not h.pbx.book.calls)


async def test_one_call_whose_words_take_long_holds_up_no_other(fake: FakeAri) -> None:
    async with house(fake) as h:
        slow, quick = await h.caller("1767225600.1"), await h.caller("1767225600.2")
        h.words.clear()
        h.pbx.carry_out(do.Play(slow, f"{slow}-pb1", ("text:long",)))
        h.pbx.carry_out(do.Play(quick, f"{quick}-pb1", ("sound:short",)))
        await until(lambda: f"{quick}-pb1" in fake.playbacks)
        assert f"{slow}-pb1" not in fake.playbacks
        h.words.set()
        await until(lambda: f"{slow}-pb1" in fake.playbacks)


@pytest.mark.parametrize("media", [("text:unspeakable",), ("file:/etc/passwd",), ("sound:a&b",), ()])
async def test_a_prompt_that_cannot_be_played_ends_not_ok(fake: FakeAri, media: tuple[str, ...]) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", media))
        assert (await h.next(ev.PlaybackEnded)).ok is False
        assert not fake.asked("POST", "channels/.*/play/.*")


async def test_a_caller_who_hears_a_prompt_enters_the_bridge_after_it(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        leg, bridge = f"{call}-leg1", f"{call}-br1"
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("sound:position",)))
        h.pbx.carry_out(do.RingAgent(call, leg, bridge, "101", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        assert fake.bridges[bridge]["channels"] == [leg]
        await fake.finish(f"{call}-pb1")
        await until(lambda: CHANNEL in fake.bridges[bridge]["channels"])


async def test_an_agent_who_answers_into_a_prompt_stops_it(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        leg, bridge = f"{call}-leg1", f"{call}-br1"
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("sound:position",)))
        h.pbx.carry_out(do.RingAgent(call, leg, bridge, "101", 20.0))
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        await fake.answer_leg(leg)
        await until(lambda: CHANNEL in fake.bridges[bridge]["channels"])
        assert not fake.playbacks


async def test_release_stops_the_prompt_sets_variables_and_lets_go(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.Play(call, f"{call}-pb1", ("sound:sorry",)))
        h.pbx.carry_out(do.Release(call, "callwright-fallback", {"CW_QUEUE": "orders\r\n", "CW_PRIORITY": "1"}))
        assert not fake.asked("POST", ".*/variables")
        await h.next(ev.CallerLeft)
        paths = [(r.method, r.path) for r in fake.requests if r.way == "ws"][-3:]
        assert paths == [
            ("DELETE", f"playbacks/{call}-pb1"),
            ("POST", f"channels/{CHANNEL}/variables"),
            ("POST", f"channels/{CHANNEL}/continue"),
        ]
        assert fake.asked("POST", ".*/variables")[0].body == {"variables": {"CW_QUEUE": "orders", "CW_PRIORITY": "1"}}
        await fake.inject(
            "StasisStart", args=["1000", "queue=orders", "first_enqueue=12.5", "priority=front"], channel=fake.channels[CHANNEL]
        )
        back = await h.next(ev.CallArrived, 2)
        assert back.call != call
        assert back.returning == {"queue": "orders", "first_enqueue": 12.5, "priority": "front"}


@pytest.mark.parametrize("variables", [{"SHELL(id)": "x"}, {"CW_a": "x"}, {"__CW_X": "x"}])
async def test_a_variable_that_is_not_ours_never_reaches_asterisk(fake: FakeAri, variables: dict[str, str]) -> None:
    async with house(fake) as h:
        call = await h.caller()
        h.pbx.carry_out(do.Release(call, "callwright-fallback", variables))
        assert (await h.next(ev.CommandRefused)).command == "Release"
        assert not fake.asked("POST", ".*/(variables|continue)")


async def test_what_has_gone_is_silence(fake: FakeAri) -> None:
    async with house(fake) as h:
        call, leg = await h.ringing()
        await fake.end(leg, tell=False)
        h.pbx.carry_out(do.HangUpLeg(call, leg))
        assert (await h.next(ev.LegEnded)).cause == 26
        await fake.end(CHANNEL, tell=False)
        h.pbx.carry_out(do.StopMusic(call))
        h.pbx.carry_out(do.HangUp(call))
        await h.next(ev.CallerLeft)
        h.pbx.carry_out(do.HangUp(call))
        h.pbx.carry_out(do.DropBridge(call, f"{call}-br1"))
        h.pbx.carry_out(do.RingAgent("f" * 32, "f" * 32 + "-leg1", "f" * 32 + "-br1", "101", 5.0))
        assert (await h.next(ev.LegEnded, 2)).cause == 26
        assert not h.of(ev.CommandRefused)


async def test_a_refused_command_is_told(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.rules.append(Rule("POST", ".*/moh", 412, b'{"message":"Channel in invalid state"}'))
        h.pbx.carry_out(do.StartMusic(call))
        refused = await h.next(ev.CommandRefused)
        assert (refused.command, "412" in refused.reason, CHANNEL in refused.reason) == ("StartMusic", True, False)


async def test_a_bridge_goes_after_its_legs(fake: FakeAri) -> None:
    async with house(fake) as h:
        call, leg = await h.ringing()
        h.pbx.carry_out(do.HangUpLeg(call, leg))
        h.pbx.carry_out(do.DropBridge(call, f"{call}-br1"))
        await until(lambda: not fake.bridges)
        order = [r.path for r in fake.requests if r.method == "DELETE"]
        assert order == [f"channels/{leg}", f"bridges/{call}-br1"]


# ---- the line --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["clean", "rst"])
async def test_a_lost_socket_is_back_within_a_second_with_what_was_missed(fake: FakeAri, how: str) -> None:
    async with house(fake) as h:
        call, leg = await h.ringing()
        other = await h.caller("1767225600.8")
        began = time.monotonic()
        fake.channels[leg]["state"] = "Up"
        fake.variables[leg, "CDR(answer,u)"] = "1767225605.250000"
        await fake.end("1767225600.8", tell=False)
        await fake.arrive("1767225600.9", "1000", tell=False)
        await fake.drop(how)
        await h.next(ev.PbxBack, 2)
        assert time.monotonic() - began < 1.0
        await h.next(ev.CallArrived, 3)
        since = h.posted[h.posted.index(h.of(ev.PbxLost)[0]) + 1 :]
        bridge = f"{call}-br1"
        assert since[:4] == [
            ev.PbxBack(False),
            ev.LegAnswered(call, leg, 1767225605.25),
            ev.CallFound(call, True, bridge, {leg: "up"}, (leg,), ()),
            ev.CallerLeft(other, 16),
        ]
        assert since[4].channel == "1767225600.9"
        assert fake.asked("POST", f"applications/{APP}/subscription")


async def test_a_silent_socket_is_noticed_within_five_seconds(fake: FakeAri) -> None:
    async with house(fake) as h:
        began = time.monotonic()
        await fake.drop("half_open")
        await h.next(ev.PbxLost, within=7)
        assert time.monotonic() - began <= 5.0
        assert not h.pbx.health()["up"] or fake.opened == 2
        await h.next(ev.PbxBack, 2)


async def test_events_that_stop_coming_are_noticed_although_the_socket_answers(fake: FakeAri, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes_module, "PROBE_EVERY", 0.1)
    monkeypatch.setattr(probes_module, "ECHO_WITHIN", 0.3)
    async with house(fake) as h:
        fake.deaf = True
        lost = await h.next(ev.PbxLost)
        assert "did not come back" in lost.reason


async def test_a_request_that_is_never_answered_times_out_and_other_calls_pass_it(fake: FakeAri) -> None:
    async with house(fake) as h:
        first, second = await h.caller("1767225600.1"), await h.caller("1767225600.2")
        fake.rules.append(Rule("POST", "channels/1767225600.1/moh", silent=True, only="ws"))
        h.pbx.carry_out(do.StartMusic(first))
        began = time.monotonic()
        await until(lambda: h.pbx.link._stuck)
        h.pbx.carry_out(do.StartMusic(second))
        await until(lambda: fake.asked("POST", "channels/1767225600.2/moh", "http"))
        assert time.monotonic() - began < 1.0
        refused = await h.next(ev.CommandRefused)
        assert refused.call == first
        assert 1.9 < time.monotonic() - began < 2.6


async def test_http_that_hangs_makes_the_probe_red_and_holds_up_no_call(fake: FakeAri) -> None:
    async with house(fake) as h:
        fake.rules.append(Rule("GET", f"applications/{APP}", silent=True))
        call = await h.caller()
        said = await h.pbx.link._probes.probe()
        assert "applications" in said
        assert "no answer" in said
        h.pbx.carry_out(do.StartMusic(call))
        await until(lambda: fake.asked("POST", ".*/moh", "ws"))
        assert h.pbx.link.up


async def test_commands_go_over_http_in_order_while_there_is_no_socket(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.rules.append(Rule("POST", "channels/.*/moh", delay=0.05, status=204))
        await fake.drop("rst")
        await until(lambda: not h.pbx.link.up)
        h.pbx.carry_out(do.StartMusic(call))
        h.pbx.carry_out(do.StopMusic(call))
        h.pbx.carry_out(do.StartMusic(call))
        await until(lambda: len(fake.asked("POST", ".*/moh")) == 2)
        paths = [(r.method, r.way) for r in fake.requests if r.path.endswith("/moh")]
        assert [method for method, _ in paths] == ["POST", "DELETE", "POST"]
        assert paths[0][1] == "http"


async def test_an_order_to_hang_up_is_given_again_when_its_answer_was_lost(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.rules.append(Rule("DELETE", f"channels/{CHANNEL}", silent=True, times=1))
        h.pbx.carry_out(do.HangUp(call, 17))
        await until(lambda: fake.asked("DELETE", f"channels/{CHANNEL}"))
        await fake.drop("rst")
        assert (await h.next(ev.CallerLeft)).cause == 17
        assert len(fake.asked("DELETE", f"channels/{CHANNEL}")) == 2


async def test_asterisk_that_boots_after_us_is_waited_for(fake: FakeAri) -> None:
    fake.refuse = 503
    async with house(fake, connected=False) as h:
        await until(lambda: "503" in h.pbx.health()["reason"])
        assert not h.posted
        fake.refuse = 0
        assert await h.next(ev.PbxBack) == ev.PbxBack(False)


@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_password_is_fatal(fake: FakeAri, status: int) -> None:
    fake.refuse = status
    async with house(fake, connected=False) as h:
        assert h.task is not None
        with pytest.raises(AriRefused) as error:
            await asyncio.wait_for(asyncio.shield(h.task), 5)
        assert PASSWORD not in str(error.value)


async def test_a_user_who_may_only_read_is_fatal(fake: FakeAri) -> None:
    fake.rules.append(Rule("PUT", ".*eventFilter", 403, b'{"message":"Write access denied"}'))
    async with house(fake, connected=False) as h:
        assert h.task is not None
        with pytest.raises(AriRefused):
            await asyncio.wait_for(asyncio.shield(h.task), 5)


async def test_another_process_under_our_name_stops_us(fake: FakeAri) -> None:
    async with house(fake) as h:
        await fake.inject("ApplicationReplaced")
        assert h.task is not None
        with pytest.raises(AriReplaced):
            await asyncio.wait_for(asyncio.shield(h.task), 5)


@pytest.mark.parametrize("password", ["asterisk", "short", "fifteen-letters"])
def test_a_weak_password_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="weak"):
        AriLink("http://127.0.0.1:1", USER, password, APP, lambda event: None, lambda: None, lambda reason: None)


ANSWERS: list[tuple[int, bytes, type[AriError]]] = [
    (404, b'{"message":"Channel not found"}', AriNotFound),
    (409, b'{"message":"Channel not in Stasis application"}', AriConflict),
    (412, b"", AriInvalid),
    (422, b"not json", AriInvalid),
    (500, b'{"error":"Allocation failed"}', AriBroken),
    (503, b"<html>busy</html>", AriBroken),
    (200, b"", AriMalformed),
    (200, b"<html><body>hello</body></html>", AriMalformed),
    (200, b'{"id": "\xff\xfe"}', AriMalformed),
    (200, b'{"id": ', AriMalformed),
]


@pytest.mark.parametrize("way", ["ws", "http"])
@pytest.mark.parametrize(("status", "body", "kind"), ANSWERS, ids=[f"{s}-{k.__name__}-{len(b)}" for s, b, k in ANSWERS])
async def test_every_bad_answer_is_a_typed_error(fake: FakeAri, way: str, status: int, body: bytes, kind: type[AriError]) -> None:
    async with house(fake) as h:
        fake.rules.append(Rule("GET", "channels/x", status, body))
        ask = h.pbx.link.request if way == "ws" else h.pbx.link.request_http
        if way == "ws" and b"\xff" in body:
            kind = AriTimeout
        with pytest.raises(kind):
            await ask(Request("GET", "channels/x"))
        assert h.pbx.link.up


@pytest.mark.parametrize("way", ["ws", "http"])
async def test_an_answer_that_is_too_big_is_not_read(fake: FakeAri, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ari_module, "MAX_ANSWER", 100_000)
    async with house(fake) as h:
        fake.rules.append(Rule("GET", "channels/x", 200, b'"' + b"x" * 200_000 + b'"'))
        ask = h.pbx.link.request if way == "ws" else h.pbx.link.request_http
        with pytest.raises(AriTooBig):
            await ask(Request("GET", "channels/x"))
        fake.rules.clear()
        await until(lambda: h.pbx.health()["up"])


async def test_junk_on_the_event_socket_is_counted_and_harms_nothing(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        for raw in (b"", b"null", b"[]", b"{}", b'{"type":5}', b"\xff\xfe", b'{"type":"StasisStart"}', b'{"type":"Dial","peer":null}'):
            await fake.send_raw(raw)
        await fake.inject("SomethingNew", channel={"id": CHANNEL})
        await fake.inject("ChannelDtmfReceived", channel={"id": "elsewhere"}, digit="1")
        await fake.inject("ChannelDtmfReceived", channel={"id": CHANNEL}, digit="9")
        await h.next(ev.DigitPressed)
        assert h.of(ev.DigitPressed) == [ev.DigitPressed(call, "9")]
        assert h.pbx.link.malformed >= 5
        assert h.pbx.health()["ignored"]["unknown:SomethingNew"] == 1


# ---- taking over -----------------------------------------------------------------------------------------------------------


async def test_a_new_process_finds_the_calls_of_the_old_one(fake: FakeAri) -> None:
    call, gone, left = "a" * 32, "b" * 32, "c" * 32
    leg = f"{call}-leg1"
    await fake.arrive(CHANNEL, "1000", tell=False, state="Up")
    await fake.arrive(leg, "leg", tell=False, state="Ringing")
    fake.bridges[f"{call}-br1"] = {"id": f"{call}-br1", "name": APP, "channels": [CHANNEL, leg]}
    fake.playbacks[f"{call}-pb2"] = CHANNEL
    await fake.arrive("1767225600.5", "1000", tell=False, state="Up")
    fake.channels["1767225600.5"]["dialplan"]["app_name"] = "Queue"
    view = [
        LiveCall(call, CHANNEL, True, True, f"{call}-br1", {leg: "created"}, (f"{call}-pb1", f"{call}-pb2")),
        LiveCall(gone, "1767225600.3", True, True, f"{gone}-br1", {f"{gone}-leg1": "ringing"}, ()),
        LiveCall(left, "1767225600.5", True),
    ]
    async with house(fake, *view) as h:
        await until(lambda: len(h.of(ev.CallerLeft)) == 2)
        assert h.posted == [
            ev.PbxBack(False),
            ev.LegRinging(call, leg),
            ev.CallFound(call, True, f"{call}-br1", {leg: "ringing"}, (leg,), (f"{call}-pb2",)),
            ev.PlaybackEnded(call, f"{call}-pb1", unseen=True),
            ev.LegEnded(gone, f"{gone}-leg1", -2),
            ev.CallerLeft(gone, 16),
            ev.CallerLeft(left, 16, elsewhere=True),
        ]
        await fake.answer_leg(leg)
        await h.next(ev.LegAnswered)


async def test_a_leg_that_was_created_and_not_dialled_rings_after_all(fake: FakeAri) -> None:
    call = "a" * 32
    leg = f"{call}-leg1"
    await fake.arrive(CHANNEL, "1000", tell=False, state="Up")
    await fake.arrive(leg, "leg", tell=False, state="Down")
    fake.bridges[f"{call}-br1"] = {"id": f"{call}-br1", "name": APP, "channels": []}
    async with house(fake, LiveCall(call, CHANNEL, True, True, f"{call}-br1", {leg: "created"})) as h:
        await until(lambda: fake.asked("POST", f"channels/{leg}/dial"))
        assert fake.bridges[f"{call}-br1"]["channels"] == [CHANNEL, leg]
        assert not h.of(ev.LegEnded)


async def test_what_belongs_to_no_call_is_removed_channels_first(fake: FakeAri) -> None:
    dead = "d" * 32
    await fake.arrive(f"{dead}-leg1", "leg", tell=False, state="Up")
    fake.bridges[f"{dead}-br1"] = {"id": f"{dead}-br1", "name": APP, "channels": [f"{dead}-leg1"]}
    fake.bridges["elsewhere"] = {"id": "elsewhere", "name": "other", "channels": []}
    async with house(fake) as h:
        await until(lambda: not fake.channels and list(fake.bridges) == ["elsewhere"])
        assert [r.path for r in fake.requests if r.method == "DELETE"] == [f"channels/{dead}-leg1", f"bridges/{dead}-br1"]
        assert h.posted == [ev.PbxBack(False)]


async def test_a_restarted_asterisk_closes_every_call_once(fake: FakeAri) -> None:
    async with house(fake) as h:
        call, leg = await h.ringing()
        fake.restart()
        await fake.drop("rst")
        assert await h.next(ev.PbxBack, 2) == ev.PbxBack(True)
        assert (await h.next(ev.LegEnded)).leg == leg
        assert (await h.next(ev.CallerLeft)).call == call
        await h.pbx.link.request(Request("GET", "channels"))
        assert len(h.of(ev.CallerLeft)) == len(h.of(ev.LegEnded)) == 1
        assert not h.pbx.book.calls


async def test_events_during_the_look_come_after_it_and_count_once(fake: FakeAri) -> None:
    async with house(fake) as h:
        call = await h.caller()
        fake.rules.append(Rule("GET", "bridges", 0, delay=0.3, times=1))
        await fake.drop("clean")
        await until(lambda: fake.opened == 2)
        await until(lambda: len(fake.asked("GET", "bridges")) == 2)
        await fake.inject("ChannelDtmfReceived", channel={"id": CHANNEL}, digit="7")
        await fake.end(CHANNEL)
        await h.next(ev.CallerLeft)
        since = h.posted[h.posted.index(h.of(ev.PbxLost)[0]) + 1 :]
        assert [type(e) for e in since] == [ev.PbxBack, ev.CallFound, ev.DigitPressed, ev.CallerLeft]
        assert since[-1].call == call  # type: ignore[attr-defined]


async def test_a_look_that_fails_is_tried_again(fake: FakeAri) -> None:
    fake.rules.append(Rule("GET", "channels", 500, b"", times=1))
    async with house(fake) as h:
        assert fake.opened == 2
        assert h.posted == [ev.PbxBack(False)]


async def test_a_filter_that_is_there_is_not_set_again_after_a_reconnect(fake: FakeAri) -> None:
    async with house(fake) as h:
        assert len(fake.filters) == 1
        await fake.drop("clean")
        await h.next(ev.PbxBack, 2)
        assert len(fake.filters) == 1
        fake.filters.append({"disallowed": []})  # somebody else's doing
        await fake.drop("clean")
        await h.next(ev.PbxBack, 3)
        assert fake.filters[-1] == fake.filters[0]


async def test_an_application_that_cannot_be_looked_at_keeps_its_filter_and_serves(fake: FakeAri) -> None:
    fake.rules.append(Rule("GET", f"applications/{APP}", 500, b'{"message":"no"}'))
    async with house(fake) as h:
        await h.caller()
        assert fake.filters == []


async def test_the_event_filter_never_silences_what_we_need(fake: FakeAri) -> None:
    async with house(fake):
        silenced = {each["type"] for each in fake.filters[0]["disallowed"]}
        assert not silenced & {"RESTResponse", "ApplicationReplaced", "StasisStart", "StasisEnd", "ChannelUserevent", "Dial"}
        assert "allowed" not in fake.filters[0]
        assert isinstance(fake.requests[0], Asked)


async def test_the_fake_refuses_the_event_sources_that_asterisk_refuses() -> None:
    fake, bridge = FakeAri(), f"{1:032x}-br1"
    await fake.arrive(CHANNEL, tell=False)
    fake.bridges[bridge] = {}

    async def subscribe(app: str, **query: str) -> int:
        return (await fake.carry_out(Asked("http", "POST", f"applications/{app}/subscription", query, None)))[0]

    answers = {each: await subscribe(APP, eventSource=each.format(channel=CHANNEL, bridge=bridge)) for each in EVENT_SOURCES}
    assert answers == EVENT_SOURCES
    assert await subscribe("nobody", eventSource=f"channel:{CHANNEL}") == 404
    assert await subscribe(APP) == 400
