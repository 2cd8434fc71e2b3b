"""FastAGI against a small Asterisk over real sockets: what it sends, where packets end, when it goes."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from ipaddress import ip_network
from typing import Any

import pytest

from app.pbx import agi as agi_module
from app.pbx.agi import AgiServer, BadDecision, request_of, variable_value, variables_of
from app.pbx.hardening import HEADER_BYTES, FastAgi

LOOPBACK = (ip_network("127.0.0.0/8"),)
ENVIRONMENT = {
    "agi_network": "yes",
    "agi_network_script": "route",
    "agi_request": "agi://127.0.0.1/route",
    "agi_channel": "PJSIP/trunk-1",
    "agi_language": "en",
    "agi_uniqueid": "5.1",
    "agi_callerid": "+4930123",
    "agi_calleridname": "Zoë 😀",
    "agi_dnid": "2000",
    "agi_context": "from-agi",
    "agi_extension": "s",
    "agi_arg_1": "shop",
}


async def until(true: Callable[[], object], within: float = 5.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def said(environment: Mapping[str, str] = ENVIRONMENT) -> bytes:
    return "".join(f"{key}: {value}\n" for key, value in environment.items()).encode() + b"\n"


class Asterisk:
    """One channel that visits: it sends bytes as told, and answers every command in the same way."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def commands(self, answer: bytes = b"200 result=1\n") -> list[str]:
        """Answer commands until the server closes; what they were."""
        heard = []
        async with asyncio.timeout(5):
            try:
                while line := await self.reader.readline():
                    heard.append(line.decode().rstrip("\n"))
                    self.writer.write(answer)
            except ConnectionError:
                pass
        return heard


class Desk:
    """What decides: keeps what it was asked, answers as told."""

    def __init__(self) -> None:
        self.asked: list[dict[str, str]] = []
        self.answer: Mapping[str, Any] = {"CW_QUEUE": "orders", "CW_PRIORITY": 3}
        self.gate = asyncio.Event()
        self.gate.set()

    async def decide(self, request: dict[str, str]) -> Mapping[str, Any]:
        self.asked.append(request)
        await self.gate.wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@asynccontextmanager
async def serving(desk: Desk, budget: float = 2.5, allow: Any = LOOPBACK) -> AsyncIterator[AgiServer]:
    server = AgiServer("127.0.0.1", 0, allow, desk.decide, budget)
    await server.start()
    try:
        yield server
    finally:
        await server.close()


@asynccontextmanager
async def visiting(server: AgiServer) -> AsyncIterator[Asterisk]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    yield Asterisk(reader, writer)
    writer.close()


async def visit(server: AgiServer, environment: bytes | None = None) -> list[str]:
    async with visiting(server) as asterisk:
        asterisk.writer.write(said() if environment is None else environment)
        return await asterisk.commands()


# ---- a decision -----------------------------------------------------------------------------------------------------------


async def test_a_call_is_decided_and_its_variables_are_set_with_the_status_last() -> None:
    desk = Desk()
    async with serving(desk) as server:
        assert await visit(server) == ['SET VARIABLE CW_QUEUE "orders"', 'SET VARIABLE CW_PRIORITY "3"', 'SET VARIABLE CW_STATUS "OK"']
        await until(lambda: server.health()["answered"] == 1)
    assert desk.asked == [
        {
            "ani": "+4930123",
            "name": "Zoë 😀",
            "dnis": "2000",
            "extension": "s",
            "context": "from-agi",
            "channel": "PJSIP/trunk-1",
            "uniqueid": "5.1",
            "language": "en",
            "arg_1": "shop",
        }
    ]


def test_what_asterisk_does_not_know_is_empty_and_the_extension_stands_for_the_dialled_number() -> None:
    request = request_of({"agi_callerid": "unknown", "agi_calleridname": "unknown", "agi_dnid": "unknown", "agi_extension": "2001"})
    assert (request["ani"], request["name"], request["dnis"], request["uniqueid"]) == ("", "", "2001", "")


async def test_a_decision_that_fails_sets_failed_and_lets_the_dialplan_go_on() -> None:
    desk = Desk()
    desk.answer = RuntimeError("the caller +4930123 is unknown")  # type: ignore[assignment]
    async with serving(desk) as server:
        assert await visit(server) == ['SET VARIABLE CW_STATUS "FAILED"']
        await until(lambda: server.health()["failed"] == 1)


async def test_a_decision_that_takes_too_long_sets_failed_within_the_budget() -> None:
    desk = Desk()
    desk.gate.clear()
    async with serving(desk, budget=0.2) as server:
        began = time.monotonic()
        assert await visit(server) == ['SET VARIABLE CW_STATUS "FAILED"']
        assert time.monotonic() - began < 1.0


async def test_a_decision_with_a_name_that_is_not_ours_sets_none_of_its_variables() -> None:
    desk = Desk()
    desk.answer = {"CW_QUEUE": "orders", "SHELL(id)": "x"}
    async with serving(desk) as server:
        assert await visit(server) == ['SET VARIABLE CW_STATUS "FAILED"']


async def test_a_status_of_the_decision_is_set_last_too() -> None:
    desk = Desk()
    desk.answer = {"CW_STATUS": "SELF_SERVICE", "CW_TIER": "gold"}
    async with serving(desk) as server:
        assert await visit(server) == ['SET VARIABLE CW_TIER "gold"', 'SET VARIABLE CW_STATUS "SELF_SERVICE"']
        await until(lambda: server.health()["answered"] == 1)


@pytest.mark.parametrize(
    "name", ["CW_", "CW_x", "cw_QUEUE", "QUEUE", "__CW_QUEUE", "CW_A B", 'CW_A"', "CW_A\n", "CW_" + "A" * 41, "CW_FILE(x)", ""]
)
def test_a_name_that_is_not_ours_is_refused_by_name(name: str) -> None:
    with pytest.raises(BadDecision, match="only CW_"):
        variables_of({name: "x"})


def test_too_many_variables_are_refused() -> None:
    with pytest.raises(BadDecision, match="at most 32"):
        variables_of({f"CW_V{n}": "x" for n in range(33)})


@pytest.mark.parametrize(
    ("value", "set_to"),
    [
        ("language=de,product=3", "language=de,product=3"),
        ("Zoë O'Neil 😀", "Zoë O'Neil 😀"),
        ('a"b', "ab"),
        ("a\\", "a"),
        ("${SHELL(id)}", "SHELL(id)"),
        ("$[1+1]", "[1+1]"),
        ("`id`", "id"),
        ("a\r\nSET VARIABLE X 1", "a  SET VARIABLE X 1"),
        ("a\0b\u2028c\x85d\ud800e", "a b c d e"),
        ("x" * 1000, "x" * 200),
        (None, ""),
        (True, "true"),
        (3, "3"),
    ],
)
def test_a_value_loses_what_a_dialplan_could_evaluate(value: object, set_to: str) -> None:
    assert variable_value(value) == set_to


# ---- peers ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sent", [b"", b"\n", b"agi_network: yes", said()[:-1], said()[:-1] + b"agi_x"])
async def test_a_peer_that_closes_early_freezes_nobody(sent: bytes) -> None:
    desk = Desk()
    async with serving(desk) as server:
        async with visiting(server) as asterisk:
            asterisk.writer.write(sent)
            await until(lambda: server.health()["now"] == 1)
        await until(lambda: server.health()["now"] == 0)
        assert len(await visit(server)) == 3
    assert len(desk.asked) == 1


async def test_a_caller_who_hangs_up_while_we_decide_harms_nobody() -> None:
    desk = Desk()
    desk.gate.clear()
    async with serving(desk) as server:
        async with visiting(server) as asterisk:
            asterisk.writer.write(said())
            await until(lambda: desk.asked)
        desk.gate.set()
        await until(lambda: server.health()["failed"] == 1)
        assert len(await visit(server)) == 3


async def test_a_peer_that_resets_the_connection_harms_nobody() -> None:
    desk = Desk()
    async with serving(desk) as server:
        async with visiting(server) as asterisk:
            asterisk.writer.write(b"agi_network: yes\n")
            await until(lambda: server.health()["now"] == 1)
            asterisk.writer.transport.abort()
        await until(lambda: server.health()["now"] == 0)
        assert len(await visit(server)) == 3


async def test_a_peer_that_dribbles_is_let_go_at_the_header_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agi_module, "PEER_SECONDS", 0.3)
    async with serving(Desk()) as server, visiting(server) as asterisk:
        began = time.monotonic()
        for byte in itertools.cycle(b"agi_network: yes\n"):
            asterisk.writer.write(bytes([byte]))
            try:
                async with asyncio.timeout(0.02):
                    assert await asterisk.reader.read() == b""
                    break
            except TimeoutError:
                assert time.monotonic() - began < 3
            except ConnectionError:
                break
        assert time.monotonic() - began >= 0.3


async def test_a_peer_that_sends_without_end_is_let_go_at_the_size_limit() -> None:
    desk = Desk()
    async with serving(desk) as server, visiting(server) as asterisk:
        asterisk.writer.write(b"agi_network_script: route\nagi_x: " + b"x" * HEADER_BYTES + b"\n\n")
        assert await asterisk.commands() == []
        await until(lambda: server.health()["now"] == 0)
    assert not desk.asked


async def test_a_peer_that_never_answers_a_command_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agi_module, "PEER_SECONDS", 0.2)
    async with serving(Desk()) as server, visiting(server) as asterisk:
        asterisk.writer.write(said())
        assert await asterisk.reader.read() == b'SET VARIABLE CW_QUEUE "orders"\n'
        await until(lambda: server.health()["failed"] == 1)


@pytest.mark.parametrize(
    "answer",
    [b"HANGUP\n", b"510 Invalid or unknown command\n", b"511 Command Not Permitted\n", b"garbage\n", b"\xff\xfe\n", b"x" * 99_999 + b"\n"],
)
async def test_an_answer_that_is_no_success_ends_the_visit(answer: bytes) -> None:
    async with serving(Desk()) as server:
        async with visiting(server) as asterisk:
            asterisk.writer.write(said())
            assert await asterisk.commands(answer) == ['SET VARIABLE CW_QUEUE "orders"']
        await until(lambda: server.health()["failed"] == 1)
        assert len(await visit(server)) == 3


async def test_a_peer_that_says_trying_for_ever_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agi_module, "PEER_SECONDS", 0.1)
    async with serving(Desk(), budget=0.1) as server, visiting(server) as asterisk:
        asterisk.writer.write(said())
        await until(lambda: server.health()["now"] == 1)

        def let_go() -> bool:
            asterisk.writer.write(b"100 result=0 Trying...\n")
            return server.health()["now"] == 0

        await until(let_go)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
async def test_a_letter_cut_by_a_packet_border_arrives(size: int) -> None:
    desk = Desk()
    async with serving(desk) as server, visiting(server) as asterisk:
        for at in range(0, len(said()), size):
            asterisk.writer.write(said()[at : at + size])
            await asyncio.sleep(0)
        assert len(await asterisk.commands()) == 3
    assert desk.asked[0]["name"] == "Zoë 😀"


async def test_a_name_that_is_no_utf8_is_read_with_marks_in_place_of_its_letters() -> None:
    desk = Desk()
    async with serving(desk) as server:
        await visit(server, said().replace("Zoë 😀".encode(), b"Zo\xeb"))
    assert desk.asked[0]["name"] == "Zo\ufffd"


async def test_another_script_path_is_hung_up_on() -> None:
    desk = Desk()
    async with serving(desk) as server:
        assert await visit(server, said(ENVIRONMENT | {"agi_network_script": "other"})) == []
        assert await visit(server, b"agi_network: yes\n\n") == []
    assert not desk.asked


async def test_a_peer_outside_the_allow_list_is_hung_up_on_unread() -> None:
    desk = Desk()
    async with serving(desk, allow=(ip_network("10.0.0.0/8"), ip_network("::1/128"))) as server:
        assert await visit(server) == []
        assert server.health()["refused"] == 1
    assert not desk.asked


async def test_more_visits_than_the_limit_are_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agi_module, "VISITS", 2)
    async with serving(Desk()) as server, visiting(server), visiting(server):
        await until(lambda: server.health()["now"] == 2)
        assert await visit(server) == []


async def test_closing_ends_the_visits_under_way() -> None:
    desk = Desk()
    desk.gate.clear()
    server = AgiServer("127.0.0.1", 0, LOOPBACK, desk.decide)
    await server.start()
    async with visiting(server) as asterisk:
        asterisk.writer.write(said())
        await until(lambda: desk.asked)
        async with asyncio.timeout(1):
            await server.close()
            assert await asterisk.reader.read() == b""
    assert server.health()["ok"] is False


async def test_a_route_must_be_an_async_def() -> None:
    with pytest.raises(TypeError, match=r"'route' must be an async def"):
        FastAgi(1.0, 1.0).add_route("route", lambda request: asyncio.sleep(0))


async def test_no_number_and_no_name_reaches_a_log(caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk()
    with caplog.at_level("DEBUG"):
        async with serving(desk) as server:
            await visit(server)
            desk.answer = RuntimeError("+4930123")  # type: ignore[assignment]
            await visit(server)
            desk.answer = {"x": "+4930123"}
            await visit(server)
            async with visiting(server) as asterisk:
                asterisk.writer.write(said()[:-1])
    logged = caplog.text + "".join(capsys.readouterr())
    assert "agi_decision_failed" in logged
    assert "agi_decision_bad" in logged
    assert "30123" not in logged
    assert "Zo" not in logged
