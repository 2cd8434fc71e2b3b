"""The shipped actions against the real reference CRM, well and in every bad mood: what a caller gets, and how long it takes at most."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest

from app.actions.credentials import Credentials
from app.actions.files import load_actions
from app.actions.guard import Origin
from app.actions.runner import Actions
from app.core.commands import StartAction
from app.core.events import ActionFailed, ActionSucceeded
from app.installation import DEMO
from tests.contract.doors import Posted
from tests.contract.test_crm import ANNA, BEARER, TOKEN, Service

BUDGET = 1.5
SPARE = 1.0
"""Seconds that a busy machine may add."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    running = Service(tmp_path_factory.mktemp("crm") / "crm.db", "--seed", "demo", "--faults")
    yield running
    assert running.end() == 0


@asynccontextmanager
async def mood(service: Service, mode: str, **more: float):
    """The CRM misbehaves; gives what counts the requests since then."""
    async with aiohttp.ClientSession(service.url, headers=BEARER) as http:

        async def requests() -> int:
            async with http.get("/faults") as answer:
                return int((await answer.json())["requests"])

        async def change(mode: str, **more: float) -> None:
            async with http.post("/faults", json={"mode": mode, **more}) as answer:
                assert answer.status == 200

        await change(mode, **more)
        try:
            yield requests
        finally:
            await change("off")


@asynccontextmanager
async def lookups(service: Service):
    posted = Posted()
    systems = {"crm": Credentials(base_url=service.url, token=TOKEN)}
    actions = Actions(load_actions(DEMO / "actions"), systems, posted, [Origin(origin=service.url, allow_private=True)])
    try:
        yield actions, posted
    finally:
        await actions.close()


async def look_up(service: Service, budget: float = BUDGET) -> tuple[Any, float]:
    async with lookups(service) as (actions, posted):
        began = time.monotonic()
        actions.carry_out(StartAction("c1", "c1-rq1", "crm.contact_by_phone", {"phone": ANNA}, budget))
        event = await posted.event(budget + 5)
        took = time.monotonic() - began
        await asyncio.sleep(0)
        assert posted.count == 1
        return event, took


async def test_a_caller_is_found(service):
    event, _ = await look_up(service)
    assert isinstance(event, ActionSucceeded)
    assert (event.values["found"], event.values["first_name"]) == (True, "Anna")


@pytest.mark.parametrize(
    ("mode", "seconds", "reason", "detail", "asked"),
    [
        # a connection that is cut is tried again by the HTTP client itself, and once more by `retry: 1`
        ("slow", 5, "timeout", "no answer within 1.5 s", 1),
        ("down", 0, "refused", "ServerDisconnectedError", 4),
        ("html", 0, "malformed", "the body is not JSON", 1),
        ("truncated", 0, "malformed", "the body is not JSON", 1),
        ("big", 0, "too_big", "the body has more than 262144 bytes", 1),
        ("limited", 60, "status", "HTTP 429", 1),
        ("expired", 0, "status", "HTTP 401", 1),
    ],
)
async def test_a_bad_mood_of_the_crm_is_a_failure_within_the_budget(service, mode, seconds, reason, detail, asked):
    async with mood(service, mode, seconds=seconds) as requests:
        event, took = await look_up(service)
        assert isinstance(event, ActionFailed)
        assert (event.reason, event.detail[: len(detail)]) == (reason, detail)
        assert took < BUDGET + SPARE
        assert await requests() == asked
    event, _ = await look_up(service)
    assert isinstance(event, ActionSucceeded), "and it is well again"


async def test_a_slow_crm_that_answers_in_time_is_waited_for(service):
    async with mood(service, "slow", seconds=0.5):
        event, took = await look_up(service)
    assert isinstance(event, ActionSucceeded)
    assert 0.5 <= took < BUDGET


async def test_a_crm_that_limits_its_callers_is_asked_again_when_it_says_so(service):
    async with mood(service, "limited", seconds=1) as requests:
        event, took = await look_up(service, budget=4.0)
        assert isinstance(event, ActionSucceeded)
        assert 0.9 <= took < 4.0
        assert await requests() == 2


async def test_a_crm_that_is_gone_costs_no_caller_the_budget_and_is_used_again_once_it_is_back(service):
    """E3: the breaker opens after a few failures and answers at once."""
    async with lookups(service) as (actions, posted):
        async with mood(service, "down") as requests:
            reasons = []
            for n in range(20):
                began = time.monotonic()
                actions.carry_out(StartAction(f"c{n}", f"c{n}-rq1", "crm.contact_by_phone", {"phone": ANNA}, BUDGET))
                reasons.append((await posted.event()).reason)
                assert time.monotonic() - began < BUDGET
            assert reasons[0] == "refused"
            assert reasons[10:] == ["breaker_open"] * 10
            assert await requests() <= 20
        actions.carry_out(StartAction("other", "other-rq1", "crm.contact_by_reference", {"digits": "2722541"}, BUDGET))
        assert isinstance(await posted.event(), ActionSucceeded), "another action of the same system has a breaker of its own"
