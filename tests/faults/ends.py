"""A6 and A7: a process that is asked to end, and one that has been replaced without knowing it."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from app.installation import fetch
from tests.e2e.house import LATE, PREMIUM, LiveHouse, low_port
from tests.faults.case import AGENT_TONE, Case, ended_as, exit_code, ready, send, start
from tests.faults.tap import Tap
from tests.phones import Caller, until

ECHO = "POST events/user/cw-echo"
"""How the line is probed; it orders nothing."""
PROMPTLY = 5.0
"""Seconds that a process may take to end once nothing keeps it."""


def _again(house: LiveHouse, **environment: str) -> int:
    """The application, started anew with these variables."""
    house.kill()
    start(house, **environment)
    return house.pid


def drain_lets_calls_finish(house: LiveHouse) -> dict[str, Any]:
    """Not ready at once, new calls to the fallback, the pair talks to its end, and then the process ends."""
    pid = _again(house, CALLWRIGHT_DRAIN_SECONDS="60")
    with house.agent_phone("101", ring=0.2) as agent:
        with house.visit(PREMIUM) as visit:
            house.becomes(visit, "talking")
            send(pid, signal.SIGTERM)
            until(lambda: not ready(house), 1, "not to be ready")
            with Caller(house.installation.ports.sip, "1000", number=LATE) as late:
                late.wait_for("answered", 5)
                until(lambda: _in_context(house, LATE, "callwright-fallback"), 5, "the new call in the fallback")
                until(lambda: visit.phone.rtp.hears(AGENT_TONE), 3, "the pair to talk")
                assert house.call(visit.call)["state"] == "talking"
                late.hang_up()
                late.wait_for("hungup")
            agent.hang_up()
            asked = time.monotonic()
            visit.phone.wait_for("released", 10)
            assert exit_code(pid, 15) == 0
            took = time.monotonic() - asked
            assert took < PROMPTLY * 2, f"{took:.0f} s after the last caller left"
        start(house)
        ended_as(house, visit.call, "answered")
        until(lambda: house.agent("101")["work"] == "wrap_up", 5, "the wrap-up to go on")
    house.check()
    return {"ended_after": round(took, 1)}


def _in_context(house: LiveHouse, number: str, context: str) -> bool:
    return any(row["caller"]["number"] == number and row["dialplan"]["context"] == context for row in house.ari("channels"))


def drain_limit_leaves_calls(house: LiveHouse, twice: bool) -> dict[str, Any]:
    """At the limit, or at a second SIGTERM, the process ends and hangs up nobody; the next one has the calls."""
    pid = _again(house, CALLWRIGHT_DRAIN_SECONDS="60" if twice else "2")
    with house.agent_phone("101", ring=0.2) as agent, house.visit(PREMIUM) as talking:
        house.becomes(talking, "talking")
        with house.visit(PREMIUM) as waiting:
            house.becomes(waiting, "waiting")
            asked = time.monotonic()
            send(pid, signal.SIGTERM)
            until(lambda: not ready(house), 1, "not to be ready")
            if twice:
                send(pid, signal.SIGTERM)
            assert exit_code(pid, 15) == 0
            took = time.monotonic() - asked
            assert (0 if twice else 1.9) < took < 2 + PROMPTLY
            until(lambda: talking.phone.rtp.hears(AGENT_TONE) and waiting.phone.rtp.hears_anything(), 3, "both to hear what they heard")
            start(house)
            house.becomes(talking, "talking", 5)
            house.becomes(waiting, "waiting", 5)
            for visit in (talking, waiting):
                assert not visit.phone.heard_of("released")
            waiting.phone.hang_up()
            ended_as(house, waiting.call, "abandoned")
        agent.hang_up()
        talking.phone.wait_for("released", 10)
        ended_as(house, talking.call, "answered")
    house.check()
    return {"ended_after": round(took, 1)}


# ---- A7 --------------------------------------------------------------------------------------------------------------------


@contextmanager
def _without_watchdog(house: LiveHouse) -> Iterator[None]:
    """It watches the first of the two only, and would let callers go who are served by the second."""
    house.installation.end("watchdog", house.say.append)
    try:
        yield
    finally:
        house.installation.launch(next(part for part in house.installation.parts() if part.name == "watchdog"))


def _free() -> int:
    with socket.socket() as probe:
        return low_port(probe)


@contextmanager
def _second(house: LiveHouse) -> Iterator[tuple[subprocess.Popen[bytes], Callable[[str], Any], Path]]:
    """Another process of the same application, on other ports; how to ask it, and its log."""
    port, agi, log = _free(), _free(), house.installation.state / "log" / "second.log"
    part = next(part for part in house.installation.parts() if part.name == "application")
    other = {"CALLWRIGHT_API__PORT": str(port), "CALLWRIGHT_AGI__PORT": str(agi)}
    with log.open("wb") as out:
        process = subprocess.Popen(part.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env={**os.environ, **other})
    token = house.installation.keep()["admin_token"]
    try:
        yield process, lambda path: fetch(f"http://127.0.0.1:{port}{path}", token), log
    finally:
        process.kill()
        process.wait()


def two_processes(house: LiveHouse, frozen: float = 0.0) -> dict[str, Any]:
    """The second waits for the lease, and takes over from one that is frozen; the frozen one wakes, says nothing more, and ends."""
    tap = Tap(house.installation.ports.ari)
    pid = _again(house, CALLWRIGHT_ARI__URL=f"http://127.0.0.1:{tap.port}")
    with _without_watchdog(house), house.agent_phone("101", ring=0.2) as agent, house.visit(PREMIUM) as talking:
        house.becomes(talking, "talking")
        with house.visit(PREMIUM) as waiting:
            house.becomes(waiting, "waiting")
            with _second(house) as (second, ask, log):
                until(lambda: "waiting for another process" in log.read_text(), 15, "the second to wait")
                assert house.call(talking.call)["state"] == "talking", "the first lost its work to one that only waits"
                send(pid, signal.SIGSTOP)
                stopped = time.monotonic()
                until(lambda: _states(ask, talking.call, waiting.call) == ["talking", "waiting"], 30, "the second to take over")
                took = time.monotonic() - stopped
                until(lambda: time.monotonic() - stopped >= frozen, frozen + 1, "the time")
                woken = time.monotonic()
                send(pid, signal.SIGCONT)
                assert exit_code(pid, 10) == 75
                orders = [order for order in tap.orders_since(woken) if not order.startswith("GET ") and order != ECHO]
                assert orders == [], f"the stale process gave orders: {orders}"
                assert [order for order in tap.orders_since(0.0) if order.startswith("POST channels/")], "nothing was overheard"
                assert _states(ask, talking.call, waiting.call) == ["talking", "waiting"]
                assert second.poll() is None
                waiting.phone.hang_up()
                until(lambda: _outcomes(ask, waiting.call) == ["abandoned"], 5, "the second to be in control")
                until(lambda: talking.phone.rtp.hears(AGENT_TONE), 3, "the pair to talk")
            start(house)
        agent.hang_up()
        talking.phone.wait_for("released", 10)
        ended_as(house, talking.call, "answered")
    tap.close()
    house.check()
    return {"taken_over_after": round(took, 1)}


def _states(ask: Callable[[str], Any], *calls: str) -> list[str]:
    try:
        return [ask(f"/v1/calls/{call}")["state"] for call in calls]
    except OSError:
        return []


def _outcomes(ask: Callable[[str], Any], *calls: str) -> list[str]:
    """How calls ended, as the history has it."""
    rows = {row["id"]: row["outcome"] for row in ask("/v1/calls?state=ended&limit=1000")["calls"]}
    return [rows[call] for call in calls if call in rows]


CASES = [
    Case("A6/live calls finish", drain_lets_calls_finish),
    Case("A6/limit", partial(drain_limit_leaves_calls, twice=False)),
    Case("A6/second signal", partial(drain_limit_leaves_calls, twice=True)),
    Case("A7/stale process", two_processes),
    Case("A7/stale process, 30 s", partial(two_processes, frozen=30.0)),
]
