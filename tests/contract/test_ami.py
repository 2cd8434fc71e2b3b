"""AMI against a small server over real sockets, which a test holds in its hand: what it answers, where packets end, when it goes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from app.core.commands import Answer, QueueLog
from app.core.events import AgentPhoneChanged
from app.pbx import ami as ami_module
from app.pbx.ami import Ami, NotWaiting
from app.pbx.hardening import VALUE_BYTES, ActionRefused, AmiLink, LinkLost, one_line

Action = dict[str, str]
Replies = Callable[[Action], "list[bytes] | None"]
SECRET = "a secret of the test"
WAITING = (
    "Event: Status\r\nChannel: PJSIP/trunk-1\r\nContext: callwright-fallback\r\nBridgeID: \r\n"
    "Uniqueid: 5.1\r\nLinkedid: 5.1\r\nSeconds: 7\r\n"
    "CallerIDNum: 0301\r\nCallerIDName: Zoë\r\nVariable: CW_QUEUE=orders\r\nVariable: CW_FIRST_ENQUEUE=12.5\r\nVariable: CW_DNIS=(null)\r\n"
)


async def until(true: Callable[[], object], within: float = 5.0) -> None:
    """Wait for a condition; fail when it does not come true in time."""
    async with asyncio.timeout(within):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def message(text: str, action: Action) -> bytes:
    return f"{text.rstrip()}\r\nActionID: {action['ActionID']}\r\n\r\n".encode()


class FakeAsterisk:
    """An AMI server. `replies(action)` may answer an action itself; None leaves it to the usual answer, [] is silence."""

    def __init__(self) -> None:
        self.states = {"PJSIP/agent-101": "UNAVAILABLE", "PJSIP/agent-102": "NOT_INUSE"}
        self.channels: list[str] = []
        self.actions: list[Action] = []
        self.raw = b""
        self.replies: Replies = lambda action: None
        self.writers: list[asyncio.StreamWriter] = []
        self.greeting = b"Asterisk Call Manager/11.0.0\r\n"
        self.port = 0

    def usual(self, action: Action) -> list[bytes]:
        match action["Action"]:
            case "Login" if action["Secret"] != SECRET:
                return [message("Response: Error\r\nMessage: Authentication failed", action)]
            case "DeviceStateList":
                return self.listed(action, [f"Event: DeviceStateChange\r\nDevice: {d}\r\nState: {s}" for d, s in self.states.items()])
            case "Status" if "Channel" in action and not any(f"Channel: {action['Channel']}\r\n" in item for item in self.channels):
                return [message("Response: Error\r\nMessage: No such channel", action)]
            case "Status":
                return self.listed(action, self.channels)
            case "Getvar":
                return [message(f"Response: Success\r\nVariable: {action['Variable']}\r\nValue: INVALID", action)]
            case _:
                return [message("Response: Success\r\nMessage: done", action)]

    def listed(self, action: Action, items: list[str]) -> list[bytes]:
        first = message("Response: Success\r\nEventList: start\r\nMessage: a list will follow", action)
        last = message("Event: ListComplete\r\nEventList: Complete", action)
        return [first, *(message(item, action) for item in items), last]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        writer.write(self.greeting)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                raw = await reader.readuntil(b"\r\n\r\n")
                self.raw += raw
                action = dict(line.split(": ", 1) for line in raw.decode().strip().split("\r\n"))
                self.actions.append(action)
                replies = self.replies(action)
                writer.write(b"".join(self.usual(action) if replies is None else replies))
        writer.close()

    def say(self, text: str) -> None:
        """An event to whoever is connected."""
        self.writers[-1].write(f"{text}\r\n\r\n".encode())

    def names(self) -> list[str]:
        return [action["Action"] for action in self.actions]


@pytest.fixture
async def asterisk() -> AsyncIterator[FakeAsterisk]:
    fake = FakeAsterisk()
    server = await asyncio.start_server(fake.serve, "127.0.0.1", 0)
    fake.port = server.sockets[0].getsockname()[1]
    yield fake
    server.close()
    for writer in fake.writers:
        writer.close()


@asynccontextmanager
async def running(asterisk: FakeAsterisk, secret: str = SECRET) -> AsyncIterator[tuple[Ami, list[AgentPhoneChanged]]]:
    told: list[AgentPhoneChanged] = []
    ami = Ami("127.0.0.1", asterisk.port, "callwright", secret, told.append, {"agent-101": "anna", "agent-102": "bert"})
    task = asyncio.create_task(ami.run())
    try:
        yield ami, told
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def link_to(asterisk: FakeAsterisk, heard: list[str] | None = None) -> AsyncIterator[AmiLink]:
    take = (lambda event: None) if heard is None else (lambda event: heard.append(event["Text"]))
    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: AmiLink(take, lambda: None), "127.0.0.1", asterisk.port)
    await until(lambda: link.version)
    yield link
    link.end("the test is over")


# ---- panoramisk's faults ------------------------------------------------------------------------------------------------


async def test_a_single_answer_that_sounds_like_a_list_resolves(asterisk: FakeAsterisk) -> None:
    asterisk.replies = lambda action: [message("Response: Success\r\nMessage: Added interface to queue", action)]
    async with link_to(asterisk) as link:
        (answer,) = await link.ask("QueueAdd", 2.0, Queue="orders", Interface="PJSIP/agent-101")
        assert answer.message == "Added interface to queue"


async def test_an_error_in_place_of_a_list_is_raised_with_asterisks_words(asterisk: FakeAsterisk) -> None:
    asterisk.replies = lambda action: [message("Response: Error\r\nMessage: Permission denied", action)]
    async with link_to(asterisk) as link:
        with pytest.raises(ActionRefused, match="DeviceStateList: Permission denied"):
            await link.ask("DeviceStateList", 2.0, many=True)


async def test_a_list_comes_whole_and_an_empty_one_too(asterisk: FakeAsterisk) -> None:
    async with link_to(asterisk) as link:
        whole = await link.ask("DeviceStateList", 2.0, many=True)
        asterisk.states = {}
        empty = await link.ask("DeviceStateList", 2.0, many=True)
    assert [item.device for item in whole[1:-1]] == ["PJSIP/agent-101", "PJSIP/agent-102"]
    assert len(empty) == 2


@pytest.mark.parametrize("cut", range(1, 30))
async def test_a_letter_cut_by_a_packet_border_arrives(asterisk: FakeAsterisk, cut: int) -> None:
    heard: list[str] = []
    raw = "Event: X\r\nText: é€😀é€😀\r\n\r\n".encode()
    async with link_to(asterisk, heard) as link:
        link.data_received(raw[:cut])
        link.data_received(raw[cut:])
    assert heard == ["é€😀é€😀"]


async def test_bytes_that_are_no_utf8_cost_only_themselves(asterisk: FakeAsterisk) -> None:
    heard: list[str] = []
    async with link_to(asterisk, heard) as link:
        asterisk.writers[-1].write(b"Event: X\r\nText: caf\xe9\r\n\r\nEvent: X\r\nText: next\r\n\r\n")
        await until(lambda: len(heard) == 2)
        assert heard == ["caf\ufffd", "next"]
        assert not link.closed


@pytest.mark.parametrize(
    "bad", ["a\r\nAction: Originate", "a\nb", "a\rb", "a\0b", "a\x85b", "a\u2028b", "a\ud800b", "\x1b[2J", "x" * (VALUE_BYTES + 1)]
)
async def test_a_value_that_is_not_one_line_is_refused_and_nothing_is_sent(asterisk: FakeAsterisk, bad: str) -> None:
    async with link_to(asterisk) as link:
        with pytest.raises(ValueError, match="AMI Redirect, Channel: "):
            await link.ask("Redirect", 2.0, Context="callwright-return", Channel=bad)
        with pytest.raises(ValueError, match="AMI Status, Variables: "):
            await link.ask("Status", 2.0, Variables=["good", bad])
        await link.ask("Ping", 2.0)
        assert asterisk.names() == ["Ping"]


def test_an_ordinary_value_passes_unchanged() -> None:
    assert one_line('Zoë ${x} "q" 😀', "name") == 'Zoë ${x} "q" 😀'


async def test_an_action_without_answer_ends_at_its_deadline_and_leaves_nothing_behind(asterisk: FakeAsterisk) -> None:
    asterisk.replies = lambda action: [] if action["Action"] == "Slow" else None
    async with link_to(asterisk) as link:
        with pytest.raises(TimeoutError, match=r"Slow: no answer within 0\.05 s"):
            await link.ask("Slow", 0.05)
        assert not link.responses
        (late,) = [action for action in asterisk.actions if action["Action"] == "Slow"]
        asterisk.writers[-1].write(message("Response: Success", late))
        assert (await link.ask("Ping", 2.0))[0].success


async def test_actions_under_way_fail_at_once_when_the_link_breaks_and_are_not_sent_again(asterisk: FakeAsterisk) -> None:
    asterisk.replies = lambda action: [] if action["Action"] == "Redirect" else None
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        redirect = asyncio.create_task(ami.redirect("PJSIP/trunk-1", "callwright-return", "s"))
        await until(lambda: "Redirect" in asterisk.names())
        asterisk.writers[-1].transport.abort()
        with pytest.raises(LinkLost):
            await asyncio.wait_for(redirect, 1.0)
        await until(lambda: asterisk.names().count("Login") == 2 and ami.health()["ok"])
        await until(lambda: asterisk.names().count("Ping") >= 2)
        assert asterisk.names().count("Redirect") == 1


async def test_a_message_without_end_ends_the_link(asterisk: FakeAsterisk) -> None:
    async with link_to(asterisk) as link:
        asterisk.writers[-1].write(b"Event: X\r\nText: " + b"x" * 400_000)
        await until(lambda: link.closed)
        assert "longer than" in link.reason


async def test_a_handler_that_raises_costs_one_event_and_not_the_link(asterisk: FakeAsterisk) -> None:
    heard: list[str] = []

    def take(event: object) -> None:
        heard.append("x")
        raise RuntimeError

    loop = asyncio.get_running_loop()
    _, link = await loop.create_connection(lambda: AmiLink(take, lambda: None), "127.0.0.1", asterisk.port)
    await until(lambda: asterisk.writers)
    asterisk.say("Event: One")
    asterisk.say("Event: Two")
    await until(lambda: len(heard) == 2)
    assert not link.closed
    link.end("the test is over")


# ---- phones -------------------------------------------------------------------------------------------------------------


async def test_phones_are_told_once_at_connect_and_then_only_when_they_change(asterisk: FakeAsterisk) -> None:
    async with running(asterisk) as (ami, told):
        await until(lambda: ami.health()["ok"])
        assert told == [AgentPhoneChanged("anna", False, False), AgentPhoneChanged("bert", True, False)]
        told.clear()
        for state in ("NOT_INUSE", "NOT_INUSE", "RINGING", "INUSE", "ONHOLD", "BUSY", "NOT_INUSE", "UNAVAILABLE"):
            asterisk.say(f"Event: DeviceStateChange\r\nDevice: PJSIP/agent-101\r\nState: {state}")
        asterisk.say("Event: DeviceStateChange\r\nDevice: PJSIP/somebody-else\r\nState: INUSE")
        asterisk.say("Event: DeviceStateChange\r\nDevice: PJSIP/agent-102\r\nState: INUSE")
        await until(lambda: told and told[-1].agent == "bert")
        assert told == [
            AgentPhoneChanged("anna", True, False),
            AgentPhoneChanged("anna", True, True),
            AgentPhoneChanged("anna", True, False),
            AgentPhoneChanged("anna", False, False),
            AgentPhoneChanged("bert", True, True),
        ]
        assert ami.health()["reachable"] == 1


async def test_a_phone_that_asterisk_does_not_list_is_asked_for_by_itself(asterisk: FakeAsterisk) -> None:
    del asterisk.states["PJSIP/agent-101"]
    asked = "Response: Success\r\nVariable: DEVICE_STATE(PJSIP/agent-101)\r\nValue: INUSE"
    asterisk.replies = lambda action: [message(asked, action)] if action["Action"] == "Getvar" else None
    async with running(asterisk) as (ami, told):
        await until(lambda: ami.health()["ok"])
        assert AgentPhoneChanged("anna", True, True) in told


async def test_phones_that_are_not_reachable_are_asked_at_connect(asterisk: FakeAsterisk) -> None:
    asterisk.replies = lambda action: (
        [message("Response: Error\r\nMessage: No such endpoint", action)] if action["Action"] == "PJSIPQualify" else None
    )
    async with running(asterisk) as (ami, _):
        await until(lambda: "Ping" in asterisk.names())
        assert ami.health()["ok"]  # a refusal is no reason to be down
    assert [action["Endpoint"] for action in asterisk.actions if action["Action"] == "PJSIPQualify"] == ["agent-101"]


async def test_a_change_beside_the_list_is_neither_lost_nor_undone_by_it(asterisk: FakeAsterisk) -> None:
    def replies(action: Action) -> list[bytes] | None:
        if action["Action"] != "DeviceStateList":
            return None
        change = b"Event: DeviceStateChange\r\nDevice: PJSIP/agent-101\r\nState: RINGING\r\n\r\n"
        return [*asterisk.usual(action), change]  # in one packet with the end of the list

    asterisk.replies = replies
    async with running(asterisk) as (_, told):
        await until(lambda: AgentPhoneChanged("anna", True, True) in told)
        assert [event for event in told if event.agent == "anna"][-1] == AgentPhoneChanged("anna", True, True)


async def test_after_a_reconnect_only_differences_are_told(asterisk: FakeAsterisk) -> None:
    async with running(asterisk) as (ami, told):
        await until(lambda: ami.health()["ok"])
        told.clear()
        asterisk.states["PJSIP/agent-102"] = "UNAVAILABLE"
        asterisk.writers[-1].close()
        await until(lambda: told)
        assert told == [AgentPhoneChanged("bert", False, False)]


async def test_while_the_link_is_down_phones_keep_their_state_and_health_says_why(asterisk: FakeAsterisk) -> None:
    async with running(asterisk) as (ami, told):
        await until(lambda: ami.health()["ok"])
        told.clear()
        asterisk.replies = lambda action: [message("Response: Error\r\nMessage: Permission denied", action)]
        asterisk.say("Event: Shutdown\r\nShutdown: Cleanly")
        await until(lambda: not ami.health()["ok"] and "Permission denied" in ami.health()["why"])
        assert told == []


# ---- the link -----------------------------------------------------------------------------------------------------------


async def test_a_wrong_secret_is_named_and_tried_again(asterisk: FakeAsterisk) -> None:
    async with running(asterisk, secret="wrong") as (ami, _):
        await until(lambda: asterisk.names().count("Login") >= 2)
        assert ami.health() == {"ok": False, "why": "Login: Authentication failed", "phones": 2, "reachable": 0, "queue_log_lost": 0}


async def test_a_port_where_nobody_listens_is_named_and_found_when_somebody_does(asterisk: FakeAsterisk) -> None:
    gone = await asyncio.start_server(asterisk.serve, "127.0.0.1", 0)
    asterisk.port = gone.sockets[0].getsockname()[1]
    gone.close()
    await gone.wait_closed()
    async with running(asterisk) as (ami, _):
        await until(lambda: "refused" in ami.health()["why"].lower() or "connect call failed" in ami.health()["why"].lower())
        back = await asyncio.start_server(asterisk.serve, "127.0.0.1", asterisk.port)
        await until(lambda: ami.health()["ok"])
        back.close()


async def test_a_peer_that_is_silent_after_the_login_is_noticed(asterisk: FakeAsterisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ami_module, "DEADLINE", 0.2)
    monkeypatch.setattr(ami_module, "PROBE_EVERY", 0.1)
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        asterisk.replies = lambda action: [] if action["Action"] == "Ping" else None
        await until(lambda: not ami.health()["ok"])
        assert ami.health()["why"] == "Ping: no answer within 0.2 s"


# ---- the fallback -------------------------------------------------------------------------------------------------------


async def test_who_waits_in_the_fallback_is_told_with_what_the_channel_carries(asterisk: FakeAsterisk) -> None:
    talking = WAITING.replace("trunk-1", "trunk-2").replace("BridgeID: ", "BridgeID: 77")
    elsewhere = WAITING.replace("trunk-1", "trunk-3").replace("callwright-fallback", "from-trunk")
    longer = WAITING.replace("trunk-1", "trunk-4").replace("Seconds: 7", "Seconds: 70")
    asterisk.channels = [WAITING, talking, elsewhere, longer]
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        waiting = await ami.waiting_in_fallback()
    assert [caller["channel"] for caller in waiting] == ["PJSIP/trunk-4", "PJSIP/trunk-1"]
    assert waiting[1] == {
        "channel": "PJSIP/trunk-1",
        "uniqueid": "5.1",
        "linkedid": "5.1",
        "ani": "0301",
        "name": "Zoë",
        "dnis": "",
        "queue": "orders",
        "first_enqueue": "12.5",
        "priority": "",
    }


async def test_a_caller_whose_name_looks_like_a_line_of_ours_is_told_like_any_other(asterisk: FakeAsterisk) -> None:
    asterisk.channels = [WAITING.replace("Zoë", "ActionID: told")]
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        (waiting,) = await ami.waiting_in_fallback()
        assert waiting["name"] == "ActionID: told"
        assert ami.health()["queue_log_lost"] == 0


@pytest.mark.parametrize(("count", "anybody"), [("0", False), ("", False), ("2", True)])
async def test_whether_anybody_waits_in_the_fallback_is_one_question(asterisk: FakeAsterisk, count: str, anybody: bool) -> None:
    asked = "QUEUE_WAITING_COUNT(callwright-fallback)"
    answer = f"Response: Success\r\nVariable: {asked}\r\nValue: {count}"
    asterisk.replies = lambda action: [message(answer, action)] if action.get("Variable") == asked else None
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        assert await ami.anybody_in_fallback() is anybody
    assert "Status" not in asterisk.names()


async def test_a_waiting_caller_is_returned(asterisk: FakeAsterisk) -> None:
    asterisk.channels = [WAITING]
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        await ami.return_caller("PJSIP/trunk-1")
    (redirect,) = [action for action in asterisk.actions if action["Action"] == "Redirect"]
    assert redirect | {"ActionID": ""} == {
        "Action": "Redirect",
        "ActionID": "",
        "Channel": "PJSIP/trunk-1",
        "Context": "callwright-return",
        "Exten": "s",
        "Priority": "1",
    }


@pytest.mark.parametrize("seen", ["", WAITING.replace("BridgeID: ", "BridgeID: 77"), WAITING.replace("callwright-fallback", "from-trunk")])
async def test_a_caller_who_has_gone_or_talks_or_is_elsewhere_is_left_alone(asterisk: FakeAsterisk, seen: str) -> None:
    asterisk.channels = [seen] if seen else []
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        with pytest.raises(NotWaiting):
            await ami.return_caller("PJSIP/trunk-1")
    assert "Redirect" not in asterisk.names()


@pytest.mark.parametrize(
    ("channel", "context", "exten", "priority"),
    [
        ("PJSIP/a-1", "from-trunk", "s", 1),
        ("PJSIP/a-1", "callwright-return\r\nAction: Originate", "s", 1),
        ("PJSIP/a-1", "callwright-", "s", 1),
        ("PJSIP/a-1", "callwright-return", "s,1", 1),
        ("PJSIP/a-1", "callwright-return", "", 1),
        ("PJSIP/a-1", "callwright-return", "s", 0),
        ("PJSIP/a-1\r\nContext: x", "callwright-return", "s", 1),
        ("PJSIP/a-1 b", "callwright-return", "s", 1),
        ("nothing", "callwright-return", "s", 1),
    ],
)
async def test_a_redirect_to_or_of_anything_else_is_refused(
    asterisk: FakeAsterisk, channel: str, context: str, exten: str, priority: int
) -> None:
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        with pytest.raises(ValueError):
            await ami.redirect(channel, context, exten, priority)
    assert "Redirect" not in asterisk.names()


# ---- queue_log ----------------------------------------------------------------------------------------------------------


async def test_a_queue_log_line_is_written_and_cannot_grow_columns_or_lines(asterisk: FakeAsterisk) -> None:
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        ami.carry_out(QueueLog("c1", "5.1", "orders", "", "ENTERQUEUE", ("", "03|01\r\nAction: Originate", "1")))
        await until(lambda: "QueueLog" in asterisk.names())
    (line,) = [action for action in asterisk.actions if action["Action"] == "QueueLog"]
    assert (line["Queue"], line["Event"], line["Uniqueid"], line["Interface"]) == ("orders", "ENTERQUEUE", "5.1", "NONE")
    assert line["Message"] == "|03 01  Action: Originate|1"
    assert b"\r\nAction: Originate" not in asterisk.raw


async def test_a_queue_log_line_that_cannot_be_written_is_counted_and_raises_nothing(asterisk: FakeAsterisk) -> None:
    ami = Ami("127.0.0.1", asterisk.port, "callwright", SECRET, lambda event: None, {})
    ami.carry_out(QueueLog("c1", "5.1", "orders", "anna", "CONNECT", ("7",)))
    ami.carry_out(QueueLog("c1", "5.1", "orders", "anna", "not an event"))
    assert ami.health()["queue_log_lost"] == 2


async def test_queue_log_lines_go_out_together_and_those_refused_or_never_answered_are_counted(asterisk: FakeAsterisk) -> None:
    def replies(action: Action) -> list[bytes] | None:
        if action["Action"] != "QueueLog" or action["Event"] == "ENTERQUEUE":
            return None
        return [] if action["Event"] == "ABANDON" else [message("Response: Error\r\nMessage: no", action)]

    asterisk.replies = replies
    async with running(asterisk) as (ami, _):
        await until(lambda: ami.health()["ok"])
        for event in ("ENTERQUEUE", "CONNECT", "ABANDON"):
            ami.carry_out(QueueLog("c1", "5.1", "orders", "anna", event, ("1",)))
        await until(lambda: ami.health()["queue_log_lost"] == 1)
        assert asterisk.names().count("QueueLog") == 3
        ami.carry_out(QueueLog("c1", "5.1", "orders", "anna", "ENTERQUEUE", ("1",)))
        asterisk.writers[-1].transport.abort()
        await until(lambda: asterisk.names().count("Login") == 2)
        await until(lambda: ami.health()["ok"])
        assert ami.health()["queue_log_lost"] in (2, 3)  # the last one may have been on its way


async def test_orders_for_ami_are_lines_of_queue_log() -> None:
    ami = Ami("127.0.0.1", 1, "", "", lambda event: None, {})
    assert ami.handles(QueueLog("c", "1.1", "q", "a", "CONNECT"))
    assert not ami.handles(Answer("c"))


async def test_neither_secret_nor_number_reaches_a_log(
    asterisk: FakeAsterisk, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    asterisk.channels = [WAITING]
    asterisk.replies = lambda action: [] if action["Action"] == "Redirect" else None
    with caplog.at_level("DEBUG"):
        async with running(asterisk) as (ami, _):
            await until(lambda: ami.health()["ok"])
            await ami.waiting_in_fallback()
            redirect: Awaitable[None] = asyncio.create_task(ami.redirect("PJSIP/trunk-0301", "callwright-return", "s"))
            await until(lambda: "Redirect" in asterisk.names())
            asterisk.writers[-1].transport.abort()
            with pytest.raises(LinkLost):
                await redirect
            await until(lambda: asterisk.names().count("Login") == 2)
    said = caplog.text + "".join(capsys.readouterr())
    assert "ami_" in said
    assert SECRET not in said
    assert "0301" not in said
