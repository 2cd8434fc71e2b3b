"""A PBX that keeps its own dialplan and queues asks the running application by AGI: number 2000 of the local PBX, flow of number 1000."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.drawn import one_of
from tests.e2e.house import MAILED, PREMIUM, UNKNOWN, LiveHouse
from tests.phones import AgentPhone, Caller, until

pytestmark = pytest.mark.pbx
AGENT, CALLER = 1300.0, 1900.0
NAMES = ("STATUS", "QUEUE", "SKILLS", "PRIORITY", "CONTACT", "REFERENCE", "TIER")


@contextmanager
def calling(house: LiveHouse, number: str, dial: str = "2000") -> Iterator[Caller]:
    """A caller of the PBX's own number; afterwards nothing of the call is left, and we have no part in it."""
    ours = len(house.api("/v1/calls?state=all&limit=1000")["calls"])
    mails = len(house.mails())
    with Caller(house.installation.ports.sip, dial, number=number) as caller:
        try:
            yield caller
            assert house.calls() == []
            assert [queue["waiting"] for queue in house.api("/v1/queues")["queues"]] == [0, 0, 0]
            assert len(house.api("/v1/calls?state=all&limit=1000")["calls"]) == ours, "deciding is no call of ours"
            assert len(house.mails()) == mails, "deciding sends no mail"
        finally:
            if not caller.heard_of("released"):
                caller.hang_up()
            until(lambda: house.ari("channels") == [], 10, "the call to be over")


def decided(house: LiveHouse) -> dict[str, str]:
    """The caller's variables, and the queue that the dialplan has put the caller into."""
    channel = until(lambda: next((c for c in house.ari("channels") if c["dialplan"]["app_name"] == "Queue"), None), 10, "Queue()")
    found = {name: variable(house, channel["id"], f"CW_{name}") for name in NAMES}  # type: ignore[index]
    line = channel["dialplan"]["app_data"].split(",")[0]  # type: ignore[index]
    return {**found, "prio": variable(house, channel["id"], "QUEUE_PRIO"), "line": line}  # type: ignore[index]


def variable(house: LiveHouse, channel: str, name: str) -> str:
    try:
        return str(house.ari(f"channels/{channel}/variable?variable={name}")["value"])
    except OSError:
        return "(not set)"


@contextmanager
def phone(house: LiveHouse, extension: str, **how: Any) -> Iterator[AgentPhone]:
    """A phone in the PBX's own queues; nobody is signed in with us."""
    with AgentPhone(house.installation.ports.sip, extension, house.secret(extension), **how) as made:
        until(lambda: house.agent(extension)["phone"] == "reachable", 10, f"phone {extension} to be reachable")
        yield made


def test_known_premium_caller_reaches_the_pbx_own_queue_with_skills_and_record(house: LiveHouse) -> None:
    with phone(house, "101", ring=0.2) as agent, calling(house, PREMIUM) as caller:
        agent.wait_for("answered", 10)
        until(lambda: caller.rtp.hears(AGENT) and agent.rtp.hears(CALLER), 5, "both to hear one another")
        contact = crm_contact(house)
        assert decided(house) == {
            "STATUS": "QUEUE",
            "QUEUE": "premium",
            "SKILLS": "lang.en:5,product.printers:3",
            "PRIORITY": "0",
            "CONTACT": contact["id"],
            "REFERENCE": "ASC2K41",
            "TIER": "gold",
            "prio": "0",
            "line": "callwright-premium",
        }


def crm_contact(house: LiveHouse) -> dict[str, Any]:
    from app.installation import fetch

    url = f"http://127.0.0.1:{house.installation.ports.crm}/api/v1/contacts?phone=%2B4930555000101"
    return dict(fetch(url, house.installation.keep()["crm_token"])["results"][0])


def test_unknown_caller_is_placed_behind_the_others_and_has_no_record(house: LiveHouse) -> None:
    with calling(house, UNKNOWN):
        found = decided(house)
    nobody = {"CONTACT": "", "REFERENCE": "", "TIER": "", "SKILLS": ""}
    assert found == {"STATUS": "QUEUE", "QUEUE": "general", "PRIORITY": "-3600", "prio": "-3600", "line": "callwright-general", **nobody}


def test_caller_whom_the_flow_would_serve_alone_is_told_so_and_nothing_is_mailed(house: LiveHouse) -> None:
    with calling(house, MAILED):
        found = decided(house)
    assert (found["STATUS"], found["REFERENCE"]) == ("SELF_SERVICE", "BCT7Q22")
    assert (found["QUEUE"], found["line"]) == ("", "callwright-fallback"), "the dialplan goes on as it likes"


@pytest.mark.parametrize("mode", one_of(["slow", "down", "html"]))
def test_crm_in_trouble_is_said_within_the_budget_and_the_dialplan_goes_on(house: LiveHouse, mode: str) -> None:
    house.crm_fault(mode, 6.0 if mode == "slow" else 0.0)
    try:
        began = time.monotonic()
        with phone(house, "103", ring=0.2) as agent, calling(house, PREMIUM) as caller:
            caller.wait_for("answered", 5)
            assert time.monotonic() - began < 2.5 + 2.5, "registering the phone, and the budget of a decision"
            found = decided(house)
            assert (found["STATUS"], found["QUEUE"], found["prio"]) == ("LOOKUP_FAILED", "general", "-3600")
            agent.wait_for("answered", 30)  # the PBX may try the phone of the test before first, which it does not know to be gone
            until(lambda: caller.rtp.hears(AGENT), 5, "the agent")
    finally:
        house.crm_fault("off")


def test_number_without_a_flow_goes_on_in_the_dialplan(house: LiveHouse) -> None:
    with calling(house, PREMIUM, dial="2042"):
        found = decided(house)
    assert (found["STATUS"], found["line"], found["CONTACT"]) == ("NO_FLOW", "callwright-fallback", "")


def test_application_that_is_down_leaves_the_dialplan_to_itself(house: LiveHouse) -> None:
    house.kill()
    try:
        with Caller(house.installation.ports.sip, "2000", number=PREMIUM) as caller:
            caller.wait_for("answered", 5)
            found = decided(house)
            assert (found["STATUS"], found["line"]) == ("FAILED", "callwright-fallback")
            caller.hang_up()
            until(lambda: house.ari("channels") == [], 10, "the call to be over")
    finally:
        house.start()
