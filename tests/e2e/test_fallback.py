"""Nobody behind the door: what a caller hears from the dialplan alone. A real Asterisk, real calls, no application."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from app.pbx.local import LocalPbx
from tests.pbx import Ari, ami_action
from tests.phones import AgentPhone, Caller, Phone, free_port, register, until

pytestmark = pytest.mark.pbx


def silent_seconds(phone: Phone, start: float, end: float) -> list[float]:
    """Offsets of the whole seconds in which the phone heard nothing."""
    return [second - start for second in (start + n for n in range(int(end - start))) if phone.rtp.loudness(second, second + 1) < 100]


@contextlib.asynccontextmanager
async def application(pbx: LocalPbx) -> AsyncIterator[asyncio.Queue[dict[str, Any]]]:
    """Somebody behind the door: the events of the application."""
    events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    token = base64.b64encode(f"{pbx.ari_user}:{pbx.secrets.ari}".encode()).decode()
    session = aiohttp.ClientSession(headers={"Authorization": f"Basic {token}"})
    async with session, session.ws_connect(f"{pbx.ari_url}/ari/events?app=callwright") as socket:

        async def read() -> None:
            async for message in socket:
                await events.put(message.json())

        reading = asyncio.create_task(read())
        yield events
        reading.cancel()


async def arrival(events: asyncio.Queue[dict[str, Any]], within: float) -> dict[str, Any]:
    """The next StasisStart."""
    async with asyncio.timeout(within):
        while True:
            event = await events.get()
            if event["type"] == "StasisStart":
                return event


def test_application_away_prompt_knocks_then_an_agent_of_the_local_queue_with_sound_all_the_way(bare_pbx: LocalPbx, ari: Ari) -> None:
    number = "+15550101"
    with (
        AgentPhone(bare_pbx.ports.sip, "101", bare_pbx.secrets.agents["101"]) as agent,
        Caller(bare_pbx.ports.sip, "1000", number) as caller,
    ):
        caller.wait_for("answered", 3)
        answered = time.monotonic()
        until(lambda: caller.rtp.loudness(answered, answered + 1.5) > 500, 3, "the prompt")
        until(lambda: ari.context_of(number) == "callwright-fallback", 20, "the local queue")
        knocked_until = time.monotonic()
        assert 13 < knocked_until - answered < 18
        agent.wait_for("answered", 10)
        talking = time.monotonic()
        assert silent_seconds(caller, answered, talking) == []
        until(lambda: caller.rtp.hears(1300.0) and agent.rtp.hears(1900.0), 3, "both hear one another")
        caller.hang_up()
        agent.wait_for("released")
    knocks = (bare_pbx.directory / "log" / "messages.log").read_text().count("Stasis app 'callwright' doesn't exist")
    assert knocks >= 8


async def test_application_that_comes_back_meanwhile_has_the_caller_at_the_next_knock(bare_pbx: LocalPbx, ari: Ari) -> None:
    number = "+15550102"
    with Caller(bare_pbx.ports.sip, "1000", number) as caller:
        await asyncio.to_thread(caller.wait_for, "answered", 3)
        assert ari.context_of(number) == "callwright-away"
        async with application(bare_pbx) as events:
            event = await arrival(events, 6)
            assert event["args"] == ["1000"]
            assert event["channel"]["caller"]["number"] == number
            assert event["channel"]["state"] == "Up"


async def test_redirect_brings_a_caller_back_from_the_local_queue_with_its_place(bare_pbx: LocalPbx, ari: Ari) -> None:
    number = "+15550103"
    with Caller(bare_pbx.ports.sip, "1000", number) as caller:
        await asyncio.to_thread(caller.wait_for, "answered", 3)
        channel = next(c for c in ari.channels() if c["caller"]["number"] == number)
        for name, value in (("CW_QUEUE", "orders"), ("CW_PRIORITY", "5"), ("CW_FIRST_ENQUEUE", "1700000000.5")):
            bare_pbx.cli(f"dialplan set chanvar {channel['name']} {name} {value}")
        ami_action(bare_pbx, "Redirect", Channel=channel["name"], Context="callwright-fallback", Exten="s", Priority="queue")
        await asyncio.to_thread(until, lambda: "prio: 5" in bare_pbx.cli("queue show callwright-fallback"), 5)
        async with application(bare_pbx) as events:
            ami_action(bare_pbx, "Redirect", Channel=channel["name"], Context="callwright-return", Exten="s", Priority="1")
            event = await arrival(events, 5)
            assert event["args"] == ["1000", "returned", "queue=orders", "first_enqueue=1700000000.5", "priority=5"]
            for name, value in (("CW_QUEUE", "orders"), ("CW_PRIORITY", "5"), ("CW_FIRST_ENQUEUE", "1700000000.5"), ("CW_FALLBACK", "")):
                assert ari.ask("GET", f"channels/{channel['id']}/variable", variable=name) == (200, {"value": value})


async def test_frozen_application_is_skipped_while_the_watchdog_says_so(bare_pbx: LocalPbx, ari: Ari) -> None:
    number = "+15550104"
    async with application(bare_pbx) as events:
        epoch = int(ari.ask("GET", "asterisk/variable", variable="EPOCH")[1]["value"])
        ari.ask("POST", "asterisk/variable", variable="CALLWRIGHT_AWAY_UNTIL", value=str(epoch + 5))
        with Caller(bare_pbx.ports.sip, "1000", number) as caller:
            await asyncio.to_thread(caller.wait_for, "answered", 2)
            assert ari.context_of(number) == "callwright-away"
            assert events.empty()
            event = await arrival(events, 10)
            assert event["args"] == ["1000"]


def test_agi_that_nobody_answers_leaves_the_caller_in_the_local_queue(bare_pbx: LocalPbx, ari: Ari) -> None:
    number = "+15550105"
    with Caller(bare_pbx.ports.sip, "2000", number) as caller:
        caller.wait_for("answered", 5)
        until(lambda: number in str(ari.channels()) and caller.rtp.hears_anything(), 5)
        until(lambda: "has 1 calls" in bare_pbx.cli("queue show callwright-fallback"), 5)


def test_ami_user_may_not_do_more_than_the_call_centre_needs(bare_pbx: LocalPbx) -> None:
    assert "Response: Success" in ami_action(bare_pbx, "QueueLog", Queue="orders", Event="TEST", Uniqueid="1").split("\r\n\r\n", 2)[1]
    for action in ("Originate", "Command", "GetConfig", "UpdateConfig", "DialplanExtensionAdd", "Reload"):
        assert "Permission denied" in ami_action(bare_pbx, action), action


def test_number_that_is_not_ours_is_refused(bare_pbx: LocalPbx) -> None:
    with Caller(bare_pbx.ports.sip, "9123") as caller:
        assert caller.wait_for("refused", 5) == ["404"]


def test_phone_with_a_wrong_password_cannot_register(bare_pbx: LocalPbx) -> None:
    with pytest.raises(AssertionError, match="cannot register"):
        register(bare_pbx.ports.sip, "101", "not-the-password-at-all", free_port())


def test_call_that_claims_to_be_an_agent_is_asked_for_the_password(bare_pbx: LocalPbx) -> None:
    with Caller(bare_pbx.ports.sip, "1000", number="101") as caller:
        assert caller.wait_for("refused", 5) == ["401"]
