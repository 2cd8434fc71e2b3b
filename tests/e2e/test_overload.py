"""More calls than there is room for: those that are in keep their quality, the rest are answered by the fallback at once, and it ends."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

from tests.e2e.house import LATE, UNKNOWN, LiveHouse, Visit
from tests.e2e.variant import restarted
from tests.phones import AgentPhone, Sipp, until

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(180)]

AGENT, CALLER = 1300.0, 1900.0
ROOM = 4
RATE, HOLD = 4, 3.0
CALLS = int(os.environ.get("CALLWRIGHT_TEST_OVERLOAD", "48"))
"""Four a second for three seconds each are twelve at a time, where two more have room: six times what there is."""

RAMP = """<scenario>
<send retrans="500" start_rtd="setup"><![CDATA[

INVITE sip:1000@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:{number}@127.0.0.1>;tag=[pid]r[call_number]
To: <sip:1000@127.0.0.1>
Call-ID: [call_id]
CSeq: 1 INVITE
Contact: <sip:phone@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Type: application/sdp
Content-Length: [len]

v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio 9 RTP/AVP 0 101
a=rtpmap:101 telephone-event/8000
a=sendonly

]]></send>
<recv response="100" optional="true"/>
<recv response="180" optional="true"/>
<recv response="183" optional="true"/>
<recv response="200" rtd="setup" rrs="true"/>
<send><![CDATA[

ACK sip:1000@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:{number}@127.0.0.1>;tag=[pid]r[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 1 ACK
Contact: <sip:phone@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

]]></send>
<pause milliseconds="{hold}"/>
<send retrans="500"><![CDATA[

BYE sip:1000@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:{number}@127.0.0.1>;tag=[pid]r[call_number]
[last_To:]
Call-ID: [call_id]
CSeq: 2 BYE
Max-Forwards: 70
Content-Length: 0

]]></send>
<recv response="200"/>
</scenario>"""


@pytest.fixture(scope="module", autouse=True)
def little_room(running_house: LiveHouse) -> Iterator[None]:
    with restarted(running_house, CALLWRIGHT_MAX_CALLS=str(ROOM)):
        yield


class Watch:
    """Looks, again and again, at how many calls are in the flow."""

    def __init__(self, house: LiveHouse) -> None:
        self.house = house
        self.most = 0
        self.slowest = 0.0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._ended.wait(0.2):
            began = time.monotonic()
            rows = self.house.calls()
            self.slowest = max(self.slowest, time.monotonic() - began)
            self.most = max(self.most, sum(row["flow"] == "order-status" for row in rows))


def worst_gap(phone: Any, tone: float, since: float, until_: float) -> float:
    """The longest time, in seconds, in which a phone did not hear a tone that was there all along."""
    worst = run = 0.0
    for start in np.arange(since, until_ - 0.1, 0.1):
        run = 0.0 if phone.rtp.level(tone, start, start + 0.1) > 500 else run + 0.1
        worst = max(worst, run)
    return worst


def test_ramp_far_beyond_the_room_leaves_calls_alone_and_is_over_when_it_is_over(house: LiveHouse) -> None:
    began = time.time()
    with ExitStack() as stack:
        pairs: list[tuple[Visit, AgentPhone]] = []
        for agent in ("105", "106"):
            phone = stack.enter_context(house.agent_phone(agent, ring=0.1))
            visit = stack.enter_context(house.visit(LATE))
            house.becomes(visit, "talking")
            until(lambda: visit.phone.rtp.hears(AGENT) and phone.rtp.hears(CALLER), 5, "both to hear each other")  # noqa: B023
            pairs.append((visit, phone))
        since = time.monotonic()
        with Watch(house) as watch:
            scenario = RAMP.format(number=UNKNOWN, hold=round(HOLD * 1000))
            pace = ["-r", str(RATE), "-rp", "1000", "-l", str(CALLS), "-trace_rtt", "-rtt_freq", "1"]
            ramp = Sipp(scenario, f"127.0.0.1:{house.installation.ports.sip}", *pace, "-s", "1000", calls=CALLS)
            stack.callback(ramp.stop)
            stats = ramp.wait(60)
        over = time.monotonic()
        took = set_ups(ramp)
        for visit, phone in pairs:
            assert worst_gap(visit.phone, AGENT, since, over) < 0.35
            assert worst_gap(phone, CALLER, since, over) < 0.35
        with house.visit(UNKNOWN) as late:
            house.reaches(late, "ask_reference", 10)
            recovered = time.monotonic() - over
            late.phone.wait_for("answered")
        for visit, phone in pairs:
            phone.hang_up()
            assert house.over(visit.call)["outcome"] == "answered"
    assert (stats.status, stats.failed, stats.successful) == (0, 0, CALLS), ramp.trouble()
    assert watch.most <= ROOM
    rows = [row for row in house.api("/v1/calls?state=ended&limit=1000")["calls"] if row["arrived"] >= began]
    callers: dict[str, list[dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: row["arrived"]):
        arrival = next(entry for entry in house.timeline(row["id"]) if entry["type"] == "CallArrived")
        callers.setdefault(arrival["channel"], []).append(row)
    assert len(callers) == CALLS + 3
    for visits in callers.values():  # who finds room later comes back from the fallback, with a visit of its own
        assert [row["outcome"] for row in visits[:-1]] == ["released"] * (len(visits) - 1)
        assert all(row["outcome"] == "released" for row in visits if row["flow"] == "no-room")
    full = sum(visits[0]["flow"] == "no-room" for visits in callers.values())
    assert full > CALLS / 2
    assert len(took) == CALLS
    print(f"MEASURED {full} of {CALLS} to the fallback, {len(rows) - len(callers)} of them came back while the ramp went on")
    print(f"MEASURED set-up p50 {np.percentile(took, 50):.0f} ms, p95 {np.percentile(took, 95):.0f} ms, worst {max(took):.0f} ms")
    print(f"MEASURED room again {recovered:.2f} s after the ramp; slowest answer of the API {1000 * watch.slowest:.0f} ms")
    assert np.percentile(took, 95) < 2000
    assert recovered < 10
    log = house.installation.pbx(house.say.append).directory / "log" / "messages.log"
    assert "taskprocessor queue reached" not in log.read_text()


def set_ups(ramp: Sipp) -> list[float]:
    """Milliseconds from INVITE to 200 of each call."""
    lines = [line.split(";") for path in ramp.folder.glob("*_rtt.csv") for line in path.read_text().splitlines()[1:]]
    return [float(parts[1]) for parts in lines if len(parts) == 3]
