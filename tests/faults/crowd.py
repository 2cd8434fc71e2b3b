"""A2: the application is killed with many calls up, spread over all steps, and every single one of them is accounted for.

The callers are one SIPp process: known and unknown ones, who listen, are asked for keys and press none, wait, are rung for, talk. They
hold the line for a time and then hang up, or are sent away by the flow with a goodbye. The agents' telephones ring, or talk.
"""

from __future__ import annotations

import socket
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from tests.e2e.house import LATE, MAILED, NO_MAIL, PREMIUM, UNKNOWN, LiveHouse
from tests.faults.case import Case, found_after, insist, start, under_control_soon
from tests.phones import Sipp, until

NUMBERS = (PREMIUM, UNKNOWN, LATE, NO_MAIL, PREMIUM, UNKNOWN, LATE, NO_MAIL, MAILED, PREMIUM)
AGENTS: dict[str, dict[str, Any]] = {
    "101": {"ring": 0.2},
    "102": {"ring": 0.4},
    "104": {"ring": None},
    "105": {"ring": 0.2},
    "106": {"ring": None},
}
"""Agents with a telephone: those who answer and talk, and those whose telephone just rings."""

_SCENARIO = """<?xml version="1.0" encoding="ISO-8859-1" ?>
<scenario>
<send retrans="500" start_txn="inv"><![CDATA[

INVITE sip:1000@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:[field0]@[local_ip]>;tag=[pid]x[call_number]
To: <sip:1000@[remote_ip]>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:crowd@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio {media} RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=sendrecv

]]></send>
<recv response="100" optional="true" response_txn="inv"/>
<recv response="180" optional="true" response_txn="inv"/>
<recv response="183" optional="true" response_txn="inv"/>
<recv response="200" response_txn="inv" rrs="true"/>
<send ack_txn="inv"><![CDATA[

ACK [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:[field0]@[local_ip]>;tag=[pid]x[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Max-Forwards: 70
Content-Length: 0

]]></send>
<nop><action><log message="answered"/></action></nop>
<recv request="BYE" timeout="{hold}" ontimeout="bye"><action><log message="released"/></action></recv>
<send next="over"><![CDATA[

SIP/2.0 200 OK
[last_Via:]
[last_From:]
[last_To:]
[last_Call-ID:]
[last_CSeq:]
Content-Length: 0

]]></send>
<label id="bye"/>
<send retrans="500" start_txn="bye"><![CDATA[

BYE [next_url] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:[field0]@[local_ip]>;tag=[pid]x[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200" response_txn="bye"><action><log message="hungup"/></action></recv>
<label id="over"/>
<nop/>
</scenario>
"""


@contextmanager
def callers(house: LiveHouse, calls: int, rate: float, hold: float, folder: Path) -> Iterator[Sipp]:
    """So many callers, who hold the line for `hold` seconds; what is said to them goes to a port that nobody reads."""
    numbers = folder / "numbers.csv"
    numbers.write_text("\n".join(["SEQUENTIAL", *(NUMBERS[n % len(NUMBERS)] + ";" for n in range(calls))]) + "\n")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as media:
        media.bind(("127.0.0.1", 0))
        text = _SCENARIO.replace("{media}", str(media.getsockname()[1])).replace("{hold}", str(round(hold * 1000)))
        pace = ["-r", str(round(rate * 10)), "-rp", "10000", "-l", str(calls)]
        target = f"127.0.0.1:{house.installation.ports.sip}"
        sipp = Sipp(text.partition("\n")[2], target, "-inf", str(numbers), *pace, calls=calls)
        try:
            yield sipp
        finally:
            sipp.stop()


def killed_with_a_crowd(house: LiveHouse, calls: int, rate: float) -> dict[str, Any]:
    """Kill it once all have arrived; afterwards each is where it was, and none was dropped by us."""
    before = set(_history(house, 1000))
    hold = calls / rate + 30.0
    measured: dict[str, Any] = {"calls": calls}
    with ExitStack() as stack:
        for agent, how in AGENTS.items():
            stack.enter_context(house.agent_phone(agent, **how))
        sipp = stack.enter_context(callers(house, calls, rate, hold, house.installation.state))
        until(lambda: len(_known(house, before)) == calls, calls / rate + 30, "all callers to arrive")
        until(lambda: _spread(house)["talking"] >= 2, 20, "somebody to talk")
        measured["spread"] = dict(_spread(house))
        states = {row["id"]: row["state"] for row in _live(house)}
        order = _order(house)
        house.kill()
        up = _callers_channels(house)
        began = start(house)
        measured["ready_after"] = round(time.time() - began, 2)
        assert up <= _callers_channels(house) | _ended_channels(house, before), "somebody was dropped"
        live = {row["id"]: row for row in _live(house)}
        ended = _history(house, 1000)
        assert states.keys() <= live.keys() | ended.keys(), "a call was lost"
        measured["regained"] = under_control_soon(found_after(house, live.keys() & states.keys(), began))
        for call in live.keys() & states.keys():
            if states[call] == "talking":
                assert live[call]["state"] in ("talking", "wrap_up"), "a pair was parted"
        assert _kept(order, _order(house)), "the order of those who wait was lost"
        sipp.wait(hold + 60)
        ends = Counter(line.split()[0] for line in sipp.log)
        until(lambda: len(_history(house, 1000).keys() - before) == calls, 20, "every call to be in the history")
        outcomes = Counter(row["outcome"] for call, row in _history(house, 1000).items() if call not in before)
        measured["outcomes"] = dict(outcomes)
        assert ends["answered"] == calls, sipp.trouble()
        assert ends["released"] == outcomes["self_service"], f"{ends['released']} callers were sent away, {outcomes}"
        assert not outcomes["lost_media_server"]
    house.check()
    return measured


def _live(house: LiveHouse) -> list[dict[str, Any]]:
    return list(insist(lambda: house.api("/v1/calls?limit=1000"))["calls"])


def _history(house: LiveHouse, limit: int) -> dict[str, dict[str, Any]]:
    return {row["id"]: row for row in insist(lambda: house.api(f"/v1/calls?state=ended&limit={limit}"))["calls"]}


def _known(house: LiveHouse, before: set[str]) -> set[str]:
    return ({row["id"] for row in _live(house)} | _history(house, 1000).keys()) - before


def _spread(house: LiveHouse) -> Counter[str]:
    """How many calls are at which step, or in which state."""
    return Counter(row["step"] if row["state"] == "flow" else row["state"] for row in _live(house))


def _order(house: LiveHouse) -> list[str]:
    return [row["call"] for queue in house.api("/v1/queues")["queues"] for row in queue["calls"]]


def _kept(before: Sequence[str], after: Sequence[str]) -> bool:
    """Whether those who wait still wait in the order in which they did."""
    still = [call for call in after if call in set(before)]
    return still == [call for call in before if call in set(still)]


def _callers_channels(house: LiveHouse) -> set[str]:
    return {row["id"] for row in house.ari("channels") if "-leg" not in row["id"] and row["caller"]["number"].startswith("+")}


def _ended_channels(house: LiveHouse, before: set[str]) -> set[str]:
    return {row["uniqueid"] for call, row in _history(house, 1000).items() if call not in before and row["outcome"] != "lost_media_server"}


CASES = [
    Case("A2/20 calls", partial(killed_with_a_crowd, calls=20, rate=5.0)),
    Case("A2/200 calls", partial(killed_with_a_crowd, calls=200, rate=8.0)),
]
