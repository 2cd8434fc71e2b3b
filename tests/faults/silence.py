"""B2: the line to Asterisk falls silent, both ways: every packet on it is dropped, no connection is closed, and nobody is told.

Meanwhile a pair talks, one caller waits and another one, who waited too, hangs up. The line comes back after three seconds, thirty, or five
minutes. Nobody is cut off, nobody hears anything of it, who waited keeps the place, and who left is known to have left.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import numpy as np

from tests.e2e.house import LATE, LiveHouse
from tests.faults.case import AGENT_TONE, CALLER_TONE, Case, ended_as, ready, start, talk
from tests.phones import Rtp, until
from tests.tcp_proxy import TcpProxy

NOTICED = 5.0
SLACK = 0.7
"""Seconds that asking over the API may add to what is measured."""
BACK = 12.0
"""Seconds within which the line is up again once packets pass: a handshake that lost its first packet is given up and begun anew."""


class CannotDrop(RuntimeError):
    """Packets cannot be dropped on this machine; says why."""


@contextmanager
def dropping(port: int) -> Iterator[None]:
    """Nothing that is sent to or from a TCP port of this machine arrives."""
    rules = [("INPUT", "-i", "lo", "-p", "tcp", end, str(port), "-j", "DROP") for end in ("--dport", "--sport")]
    with ExitStack() as stack:
        for rule in rules:
            done = subprocess.run(["iptables", "-w", "5", "-I", *rule], capture_output=True, text=True, check=False)
            if done.returncode:
                raise CannotDrop(done.stderr.strip()[:80])
            stack.callback(subprocess.run, ["iptables", "-w", "5", "-D", *rule], check=True)
        yield


def goes_silent(house: LiveHouse, seconds: float) -> dict[str, Any]:
    """The application reaches Asterisk over a line of its own, which falls silent for so long."""
    with TcpProxy(house.installation.ports.ari) as line:
        house.kill()
        start(house, CALLWRIGHT_ARI__URL=line.url)
        try:
            measured = _with_three_callers(house, line.port, seconds)
        finally:
            house.kill()
            start(house)
    house.check()
    return measured


def _with_three_callers(house: LiveHouse, port: int, seconds: float) -> dict[str, Any]:
    measured: dict[str, Any] = {}
    with house.agent_phone("105", ring=0.1) as agent, house.visit(LATE) as talking:
        house.becomes(talking, "talking")
        with house.visit(LATE) as staying, house.visit(LATE) as leaving:
            for visit in (staying, leaving):
                house.becomes(visit, "waiting")
                visit.phone.wait_for("answered")
            until(lambda: talk(talking.phone, agent) and staying.phone.rtp.hears_anything(), 5, "all to hear what they should")
            place = house.call(staying.call)["queued"]
            began = time.monotonic()
            with dropping(port):
                leaving.phone.hang_up()
                leaving.phone.wait_for("hungup")
                if seconds > NOTICED + SLACK:
                    until(lambda: not ready(house), 2 * NOTICED, "the silence to be noticed")
                    measured["noticed_after"] = round(time.monotonic() - began, 2)
                    assert measured["noticed_after"] < NOTICED + SLACK
                until(lambda: time.monotonic() - began >= seconds, seconds + 1)
                assert not ready(house) or seconds < NOTICED, "the silence was noticed, and is no more"
            back = time.monotonic()
            ended_as(house, leaving.call, "abandoned")
            until(lambda: ready(house), BACK, "the line to be back")
            measured["reconciled_after"] = round(time.monotonic() - back, 2)
            assert measured["reconciled_after"] < BACK
            assert longest_without(talking.phone.rtp, AGENT_TONE, began, back) < 1.0
            assert longest_without(agent.rtp, CALLER_TONE, began, back) < 1.0
            assert quietest(staying.phone.rtp, began, back) > 50, "the music stopped"
            assert house.call(talking.call)["state"] == "talking"
            assert house.call(staying.call)["queued"] == place
            with house.agent_phone("106", ring=0.1) as second:
                house.becomes(staying, "talking", 10)
                until(lambda: talk(staying.phone, second), 5, "the one who waited to be served")
                second.hang_up()
                ended_as(house, staying.call, "answered")
        agent.hang_up()
        ended_as(house, talking.call, "answered")
    return measured


def longest_without(rtp: Rtp, tone: float, since: float, until_: float) -> float:
    """The longest time in which a phone did not hear a tone that was there all along, in halves of a second."""
    worst = run = 0.0
    for at in np.arange(since, until_ - 0.5, 0.5):
        run = 0.0 if rtp.level(tone, at, at + 0.5) > 500 else run + 0.5
        worst = max(worst, run)
    return worst


def quietest(rtp: Rtp, since: float, until_: float) -> float:
    """How loud the quietest two seconds were: music has quiet bars of its own."""
    return min(rtp.loudness(at, at + 2.0) for at in np.arange(since, until_ - 2.0, 1.0))


CASES = [Case(f"B2/{name}", partial(goes_silent, seconds=seconds)) for name, seconds in (("3 s", 3.0), ("30 s", 30.0), ("5 min", 300.0))]
