"""AMI on a real Asterisk, as the user that is shipped: phones, callers in the fallback, queue_log."""

from __future__ import annotations

import asyncio
import socket
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, suppress

import aiohttp
import pytest

from app.core.commands import QueueLog
from app.core.events import AgentPhoneChanged
from app.pbx.ami import Ami, NotWaiting
from app.pbx.hardening import ActionRefused
from app.pbx.local import AgentPhone as Extension
from app.pbx.local import LocalPbx, PbxError, PbxPorts, ensure_asterisk
from tests.phones import AgentPhone, Caller, free_port, register
from tests.phones import until as wait_for

pytestmark = pytest.mark.pbx

DIALPLAN = """
[from-trunk](+)
exten => 3101,1,Dial(PJSIP/101,20)
exten => 3000,1,Set(CW_DNIS=1000)
 same => n,Set(CW_QUEUE=orders)
 same => n,Set(CW_FIRST_ENQUEUE=1700000000.25)
 same => n,Set(CW_PRIORITY=3)
 same => n,Goto(callwright-fallback,s,1)
exten => 3001,1,Answer()
 same => n,Wait(30)
"""


async def until(true: Callable[[], object], within: float = 10.0) -> None:
    """Wait for a condition without holding up the loop; fail when it does not come true in time."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture(scope="module")
def pbx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalPbx]:
    rtp = free_port() % 20_000 + 20_000
    tcp = socket.SOCK_STREAM
    pbx = LocalPbx(
        ensure_asterisk(print),
        tmp_path_factory.mktemp("pbx"),
        PbxPorts(sip=free_port(), ari=free_port(tcp), ami=free_port(tcp), rtp_start=rtp, rtp_end=rtp + 200),
        agents=[Extension("Anna", "101"), Extension("Bert", "102")],
        extra={"extensions.conf": DIALPLAN},
    )
    pbx.write_config()
    try:
        pbx.start()
        up(pbx)
        yield pbx
    finally:
        pbx.stop()


def up(pbx: LocalPbx) -> None:
    """Wait until Asterisk is ready, also while its process is still on its way into the tree."""

    def ready() -> bool:
        with suppress(PbxError):
            pbx.wait_ready()
            return True
        return False

    wait_for(ready, 20, "Asterisk is ready")


@asynccontextmanager
async def running(pbx: LocalPbx) -> AsyncIterator[tuple[Ami, list[AgentPhoneChanged]]]:
    told: list[AgentPhoneChanged] = []
    ami = Ami("127.0.0.1", pbx.ports.ami, pbx.ami_user, pbx.secrets.ami, told.append, {"101": "anna", "102": "bert"})
    task = asyncio.create_task(ami.run())
    try:
        await until(lambda: ami.health()["ok"])
        yield ami, told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def phone(pbx: LocalPbx, extension: str, ring: float | None = None) -> AsyncIterator[AgentPhone]:
    made = await asyncio.to_thread(AgentPhone, pbx.ports.sip, extension, pbx.secrets.agents[extension], ring=ring)
    try:
        yield made
    finally:
        await asyncio.to_thread(made.close)
        await asyncio.to_thread(register, pbx.ports.sip, extension, pbx.secrets.agents[extension], made.sipp.port, expires=0)


@asynccontextmanager
async def caller(pbx: LocalPbx, dial: str, name: str = "") -> AsyncIterator[Caller]:
    made = await asyncio.to_thread(Caller, pbx.ports.sip, dial, name=name)
    try:
        yield made
    finally:
        if made.heard_of("answered") and not made.heard_of("released"):
            await asyncio.to_thread(made.hang_up)
        try:
            await until(lambda: "0 active channels" in pbx.cli("core show channels count"))
        finally:
            await asyncio.to_thread(made.close)


async def test_a_phone_that_registers_becomes_reachable_and_one_that_unregisters_does_not_stay_so(pbx: LocalPbx) -> None:
    async with running(pbx) as (_, told):
        assert sorted(told, key=lambda event: event.agent) == [AgentPhoneChanged("anna", False), AgentPhoneChanged("bert", False)]
        told.clear()
        async with phone(pbx, "101"):
            await until(lambda: told)
            assert told == [AgentPhoneChanged("anna", True)]
        await until(lambda: len(told) == 2)
        assert told[-1] == AgentPhoneChanged("anna", False)


async def test_a_phone_registered_before_we_connect_is_known_at_connect(pbx: LocalPbx) -> None:
    async with phone(pbx, "102"):
        await until(lambda: "Avail" in pbx.cli("pjsip show contacts"))
        async with running(pbx) as (ami, told):
            assert AgentPhoneChanged("bert", True) in told
            assert ami.health() == {"ok": True, "why": "", "phones": 2, "reachable": 1, "queue_log_lost": 0}


async def test_a_call_that_is_not_ours_makes_the_phone_in_use_until_it_ends(pbx: LocalPbx) -> None:
    async with running(pbx) as (_, told), phone(pbx, "101") as anna:
        await until(lambda: told and told[-1] == AgentPhoneChanged("anna", True))
        told.clear()
        async with caller(pbx, "3101") as calling:
            await until(lambda: told)
            assert told == [AgentPhoneChanged("anna", True, in_use=True)]  # it rings
            assert not calling.heard_of("answered")
            await asyncio.to_thread(anna.answer)
            await until(lambda: calling.heard_of("answered"))
        await until(lambda: len(told) == 2)
        assert told[-1] == AgentPhoneChanged("anna", True, in_use=False)


async def test_a_caller_in_the_fallback_comes_back_into_the_application_with_what_was_kept(pbx: LocalPbx) -> None:
    headers = {"Authorization": aiohttp.encode_basic_auth(pbx.ari_user, pbx.secrets.ari)}
    async with running(pbx) as (ami, _), caller(pbx, "3000", name="Zoë Ölmann") as calling:
        await until(lambda: calling.heard_of("answered"))
        (waiting,) = await ami.waiting_in_fallback()
        await until(lambda: "callwright-fallback has 1 calls" in pbx.cli("queue show callwright-fallback"), within=15)
        assert await ami.anybody_in_fallback()
        assert waiting["channel"].startswith("PJSIP/trunk-")
        assert (waiting["name"], waiting["dnis"]) == ("Zoë Ölmann", "1000")
        assert (waiting["queue"], waiting["first_enqueue"], waiting["priority"]) == ("orders", "1700000000.25", "3")
        events = f"{pbx.ari_url}/ari/events?app={pbx.app}"
        async with aiohttp.ClientSession(headers=headers) as http, http.ws_connect(events) as socket:
            await ami.return_caller(waiting["channel"])
            start = await socket.receive_json(timeout=5)
            while start["type"] != "StasisStart":
                start = await socket.receive_json(timeout=5)
            assert start["args"] == ["1000", "returned", "queue=orders", "first_enqueue=1700000000.25", "priority=3"]
            assert start["channel"]["name"] == waiting["channel"]
            assert start["channel"]["dialplan"]["context"] == "callwright-return"
            assert await ami.waiting_in_fallback() == []
            with pytest.raises(NotWaiting):
                await ami.return_caller(waiting["channel"])


async def test_a_caller_who_talks_to_somebody_in_the_fallback_is_left_there(pbx: LocalPbx) -> None:
    async with running(pbx) as (ami, told), phone(pbx, "101", ring=0.2):
        await until(lambda: AgentPhoneChanged("anna", True) in told)
        async with caller(pbx, "3000") as calling:
            await until(lambda: calling.rtp.hears(1300.0), within=20)
            channels = pbx.cli("core show channels concise").splitlines()
            (trunk,) = [line.split("!")[0] for line in channels if line.startswith("PJSIP/trunk")]
            assert await ami.waiting_in_fallback() == []
            with pytest.raises(NotWaiting):
                await ami.return_caller(trunk)
            await until(lambda: calling.rtp.hears(1300.0))
            assert f"{trunk}!callwright-fallback!" in pbx.cli("core show channels concise")


async def test_redirect_moves_a_channel_and_says_so_when_it_has_gone(pbx: LocalPbx) -> None:
    async with running(pbx) as (ami, _):
        async with caller(pbx, "3001") as calling:
            await until(lambda: calling.heard_of("answered"))
            (line,) = pbx.cli("core show channels concise").splitlines()
            trunk = line.split("!")[0]
            await ami.redirect(trunk, "callwright-fallback", "s")
            await until(lambda: f"{trunk}!callwright-fallback!" in pbx.cli("core show channels concise"))
        with pytest.raises(ActionRefused, match="Redirect: Channel does not exist"):
            await ami.redirect(trunk, "callwright-fallback", "s")


async def test_a_queue_log_line_arrives_in_the_file(pbx: LocalPbx) -> None:
    path = pbx.directory / "log" / "queue_log"
    async with running(pbx) as (ami, _):
        ami.carry_out(QueueLog("c1", "1700000000.7", "orders", "", "ENTERQUEUE", ("", "Zoë|x\r\ny", "1")))
        ami.carry_out(QueueLog("c1", "1700000000.7", "orders", "anna", "CONNECT", ("7", "1700000000.9", "3")))
        await until(lambda: "1700000000.9" in path.read_text())
        assert ami.health()["queue_log_lost"] == 0
    lines = [line.split("|", 1)[1] for line in path.read_text().splitlines() if "1700000000.7" in line]
    assert lines == ["1700000000.7|orders|NONE|ENTERQUEUE||Zoë x  y|1", "1700000000.7|orders|anna|CONNECT|7|1700000000.9|3"]


async def test_what_our_user_may_not_do_is_refused_by_asterisk(pbx: LocalPbx) -> None:
    async with running(pbx) as (ami, _):
        for action, fields in {
            "Originate": {"Channel": "PJSIP/101", "Context": "callwright-return", "Exten": "s", "Priority": "1"},
            "Command": {"Command_": "core show version"},
            "GetConfig": {"Filename": "manager.conf"},
            "ModuleLoad": {"LoadType": "reload"},
            "DBPut": {"Family": "x", "Key": "y", "Val": "z"},
        }.items():
            with pytest.raises(ActionRefused, match="Permission denied"):
                await ami._up().ask(action, 2.0, **fields)


async def test_an_asterisk_that_is_killed_and_returns_is_found_again_with_its_phones(pbx: LocalPbx) -> None:
    def registration_on_disk() -> bool:
        with closing(sqlite3.connect(f"file:{pbx.directory}/lib/astdb.sqlite3?mode=ro", uri=True)) as database:
            return bool(database.execute("select 1 from astdb where key like '/registrar/contact/101%'").fetchall())

    async with phone(pbx, "101"), running(pbx) as (ami, told):
        await until(lambda: AgentPhoneChanged("anna", True) in told)
        await until(registration_on_disk)
        await asyncio.to_thread(pbx.kill)
        await until(lambda: not ami.health()["ok"])
        assert "connect" in ami.health()["why"].lower()
        assert told[-1] == AgentPhoneChanged("anna", True)  # nothing is said while nothing is known
        await asyncio.to_thread(pbx.start)
        await asyncio.to_thread(up, pbx)
        await until(lambda: ami.health()["ok"])
        await until(lambda: ami.health()["reachable"] == 1, within=5)  # not after qualify_frequency's 15 s
