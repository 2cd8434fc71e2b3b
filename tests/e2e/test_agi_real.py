"""A PBX that keeps its own dialplan and queues: real calls that ask us by AGI where to go, on a real Asterisk."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, suppress
from ipaddress import ip_network
from typing import Any

import pytest

from app.pbx.agi import AgiServer
from app.pbx.local import AgentPhone as Extension
from app.pbx.local import LocalPbx, PbxError, PbxPorts, ensure_asterisk
from tests.phones import AgentPhone, Caller, free_port
from tests.phones import until as wait_for

pytestmark = pytest.mark.pbx

ANNA, BERT = 700.0, 1300.0
"""Each agent's voice, in Hz. Both are in the fallback's queue, only Bert is in `gold`."""
QUEUES = """
[gold]
strategy = ringall
timeout = 15
member => PJSIP/102
"""


async def until(true: Callable[[], object], within: float = 10.0) -> None:
    """Wait for a condition without holding up the loop; fail when it does not come true in time."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPbx]:
    rtp, tcp = free_port() % 20_000 + 20_000, socket.SOCK_STREAM
    ports = PbxPorts(free_port(), free_port(tcp), free_port(tcp), rtp_start=rtp, rtp_end=rtp + 200, agi=free_port(tcp))
    agents = [Extension("Anna", "101"), Extension("Bert", "102")]
    pbx = LocalPbx(ensure_asterisk(print), tmp_path_factory.mktemp("pbx"), ports, agents=agents, extra={"queues.conf": QUEUES})
    pbx.write_config()

    def ready() -> bool:
        with suppress(PbxError):
            pbx.wait_ready()
            return True
        return False

    try:
        pbx.start()
        wait_for(ready, 20, "Asterisk is ready")
        yield pbx
    finally:
        pbx.stop()


@pytest.fixture
def phones(pbx: LocalPbx) -> Iterator[dict[str, AgentPhone]]:
    """Anna's and Bert's phones, free and reachable."""
    with ExitStack() as stack:
        made = {}
        for name, extension, tone in (("anna", "101", ANNA), ("bert", "102", BERT)):
            made[name] = AgentPhone(pbx.ports.sip, extension, pbx.secrets.agents[extension], ring=0.2, tone=tone)
            stack.enter_context(made[name])
            wait_for(lambda e=extension: "Not in use" in pbx.cli(f"pjsip show endpoint {e}"), 5, f"{name}'s phone is reachable")  # type: ignore[misc]
        yield made


class Decisions:
    """What decides in place of the application: keeps what was asked, answers as told, or never."""

    def __init__(self, answer: Mapping[str, Any] | None) -> None:
        self.answer = answer
        self.asked: list[dict[str, str]] = []

    async def __call__(self, request: dict[str, str]) -> Mapping[str, Any]:
        self.asked.append(request)
        if self.answer is None:
            await asyncio.Event().wait()
        assert self.answer is not None
        return self.answer


@asynccontextmanager
async def serving(pbx: LocalPbx, decisions: Decisions, allow: str = "127.0.0.0/8") -> AsyncIterator[AgiServer]:
    server = AgiServer("127.0.0.1", pbx.ports.agi, (ip_network(allow),), decisions, budget=1.0)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def call(pbx: LocalPbx, name: str = "") -> AsyncIterator[Caller]:
    made = await asyncio.to_thread(Caller, pbx.ports.sip, "2042", number="+4930123456", name=name)
    try:
        yield made
    finally:
        if made.heard_of("answered") and not made.heard_of("released"):
            await asyncio.to_thread(made.hang_up)
        try:
            await until(lambda: "0 active channels" in pbx.cli("core show channels count"))
        finally:
            await asyncio.to_thread(made.close)


def variables(pbx: LocalPbx) -> dict[str, str]:
    """The caller's `CW_*` variables, as Asterisk has them now."""
    channels = pbx.cli("core show channels concise")
    trunks = [line.split("!")[0] for line in channels.splitlines() if line.startswith("PJSIP/trunk")]
    assert len(trunks) == 1, channels
    trunk = trunks[0]
    pairs = (line.strip().partition("=") for line in pbx.cli(f"core show channel {trunk}").splitlines())
    return {name: value for name, _, value in pairs if name.startswith("CW_")}


async def test_a_call_is_decided_by_us_and_reaches_the_agent_of_that_queue_with_its_variables(
    pbx: LocalPbx, phones: dict[str, AgentPhone]
) -> None:
    decisions = Decisions(
        {"CW_QUEUE": "gold", "CW_SKILLS": "de=3", "CW_PRIORITY": 5, "CW_CONTACT": 'Zoë "${SHELL(id)}"', "CW_TIER": "gold"}
    )
    async with serving(pbx, decisions) as server, call(pbx, name="Zoë Ölmann") as caller:
        await until(lambda: caller.rtp.hears(BERT))
        assert server.health()["answered"] == 1
        assert variables(pbx) | {"CW_DNIS": ""} == {
            "CW_DNIS": "",
            "CW_QUEUE": "gold",
            "CW_SKILLS": "de=3",
            "CW_PRIORITY": "5",
            "CW_CONTACT": "Zoë SHELL(id)",
            "CW_TIER": "gold",
            "CW_STATUS": "OK",
        }
        assert pbx.cli("queue show gold").count("has 0 calls") == 1
    (asked,) = decisions.asked
    assert (asked["ani"], asked["name"], asked["dnis"]) == ("+4930123456", "Zoë Ölmann", "2042")
    assert asked["channel"].startswith("PJSIP/trunk")
    assert phones["bert"].heard_of("invite")
    assert not phones["anna"].heard_of("invite")


@pytest.mark.parametrize("allow", ["127.0.0.0/8", "10.0.0.0/8"])
async def test_a_decision_that_never_comes_or_may_not_be_asked_leaves_the_call_to_the_fallback(pbx: LocalPbx, allow: str) -> None:
    async with serving(pbx, Decisions(None), allow), call(pbx) as caller:
        began = time.monotonic()
        await until(lambda: caller.heard_of("answered"))
        assert time.monotonic() - began < 3
        await until(lambda: "has 1 calls" in pbx.cli("queue show callwright-fallback"))
        assert "CW_QUEUE" not in variables(pbx) or variables(pbx)["CW_QUEUE"] == ""
        assert variables(pbx).get("CW_STATUS") in ("FAILED", None)


async def test_nobody_listening_leaves_the_call_to_the_fallback(pbx: LocalPbx) -> None:
    async with call(pbx) as caller:
        await until(lambda: caller.heard_of("answered"))
        await until(lambda: "has 1 calls" in pbx.cli("queue show callwright-fallback"))


async def test_a_caller_who_hangs_up_while_we_decide_harms_nobody(pbx: LocalPbx, phones: dict[str, AgentPhone]) -> None:
    decisions = Decisions(None)
    async with serving(pbx, decisions) as server:
        caller = await asyncio.to_thread(Caller, pbx.ports.sip, "2042", cancel_after=0.2)
        await until(lambda: decisions.asked)
        await until(lambda: caller.heard_of("cancelled"))
        await asyncio.to_thread(caller.close)
        await until(lambda: server.health()["now"] == 0)
        decisions.answer = {"CW_QUEUE": "gold"}
        async with call(pbx) as next_caller:
            await until(lambda: next_caller.rtp.hears(BERT))
