"""A3 to A5: what happens while nobody is in control, and what the next process makes of it.

A3: callers leave and agents answer, decline or hang up meanwhile. A4: new calls come. A5: the application stays away, dead or frozen, and
the installation's watchdog lets those go who wait; whoever talks goes on talking. All come back to their place.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from typing import Any

from tests.e2e.house import PREMIUM, UNKNOWN, LiveHouse, Visit
from tests.faults.case import Case, dies, ended_as, send, start, start_armed, talk
from tests.phones import AgentPhone, Caller, until

RELEASED_WITHIN = 15.5
"""Seconds of silence after which those who wait are in the fallback; half a second is for looking."""


# ---- A3 --------------------------------------------------------------------------------------------------------------------


def caller_leaves_while_ringing(house: LiveHouse) -> dict[str, Any]:
    """The first deadline of a call is the end of its ringing; the application dies over it."""
    start_armed(house, "before_handled:TimerFired")
    before = {row["id"] for row in house.calls()}
    house.crm_fault("slow", 3.0)
    try:
        with Caller(house.installation.ports.sip, "1000", number=PREMIUM, cancel_after=2.5) as phone:
            dies(house)
            phone.wait_for("cancelled", 10)
            assert not phone.heard_of("answered")
            start(house)
    finally:
        house.crm_fault("off")
    ended = [row for row in house.api("/v1/calls?state=ended&limit=5")["calls"] if row["id"] not in before]
    assert ended[0]["outcome"] == "hung_up"
    return _checked(house)


def caller_leaves(house: LiveHouse, state: str, outcome: str) -> dict[str, Any]:
    """The caller leaves at a step or in a state while nobody is in control."""
    with ExitStack() as stack:
        agent = _agent_for(house, state, stack)
        visit = stack.enter_context(house.visit(UNKNOWN if state == "ask_reference" else PREMIUM))
        if state in ("waiting", "offered", "talking"):
            house.becomes(visit, state)
        else:
            house.reaches(visit, state)
        visit.phone.wait_for("answered")
        if state == "offered":
            agent.wait_for("invite")
        house.kill()
        visit.phone.hang_up()
        visit.phone.wait_for("hungup")
        start(house)
        ended_as(house, visit.call, outcome)
        if state == "offered":
            agent.wait_for("cancelled", 5)
            until(lambda: house.agent("101")["work"] == "" and house.agent("101")["presence"] == "ready", 5, "the agent to be free")
        if state == "talking":
            agent.wait_for("released", 5)
            until(lambda: house.agent("101")["work"] == "wrap_up", 5, "wrap-up")
    return _checked(house)


def _agent_for(house: LiveHouse, state: str, stack: ExitStack) -> AgentPhone:
    return stack.enter_context(house.agent_phone("101", ready=state != "waiting", ring=None if state == "offered" else 0.2))


def agent_answers(house: LiveHouse) -> dict[str, Any]:
    """Caller and agent hear one another although nobody is in control, and are a pair for the next process."""
    with house.agent_phone("101", ring=None) as agent, house.visit(PREMIUM) as visit:
        house.becomes(visit, "offered")
        agent.wait_for("invite")
        house.kill()
        agent.answer()
        agent.wait_for("answered")
        answered = time.time()
        until(lambda: talk(visit.phone, agent), 5, "both to hear one another")
        start(house)
        house.becomes(visit, "talking", 5)
        assert abs(house.call(visit.call)["connected"] - answered) < 0.7, "connected when the phone was answered, not when it was found"
        until(lambda: talk(visit.phone, agent), 3, "both to hear one another")
        agent.hang_up()
        visit.phone.wait_for("released", 10)
        ended_as(house, visit.call, "answered")
    return _checked(house)


def agent_declines(house: LiveHouse) -> dict[str, Any]:
    """The phone is busy when it is rung; the caller keeps the place and the music, the agent is not stuck."""
    start_armed(house, "before_handled:LegRinging")
    with house.agent_phone("101", refuse=486) as agent:
        known = {row["id"] for row in house.calls()}
        with Caller(house.installation.ports.sip, "1000", number=PREMIUM) as phone:
            dies(house)
            agent.wait_for("refused")
            start(house)
            row = next(row for row in house.calls() if row["id"] not in known)
            visit = Visit(phone, row["id"], PREMIUM)
            house.becomes(visit, "waiting", 5)
            until(phone.rtp.hears_anything, 5, "music")
            assert house.agent("101")["work"] == ""
            phone.hang_up()
            ended_as(house, visit.call, "abandoned")
    return _checked(house)


def agent_hangs_up(house: LiveHouse) -> dict[str, Any]:
    with house.agent_phone("101", ring=0.2) as agent, house.visit(PREMIUM) as visit:
        house.becomes(visit, "talking")
        house.kill()
        agent.hang_up()
        agent.wait_for("hungup")
        start(house)
        visit.phone.wait_for("released", 10)
        ended_as(house, visit.call, "answered")
        until(lambda: house.agent("101")["work"] == "wrap_up", 5, "wrap-up")
    return _checked(house)


def both_hang_up(house: LiveHouse) -> dict[str, Any]:
    with house.agent_phone("101", ring=0.2) as agent, house.visit(PREMIUM) as visit:
        house.becomes(visit, "talking")
        house.kill()
        agent.hang_up()
        visit.phone.hang_up()
        agent.wait_for("hungup")
        visit.phone.wait_for("hungup")
        start(house)
        ended_as(house, visit.call, "answered")
        until(lambda: house.agent("101")["work"] == "wrap_up", 5, "wrap-up")
    return _checked(house)


# ---- A4 --------------------------------------------------------------------------------------------------------------------


def new_call_while_away(house: LiveHouse) -> dict[str, Any]:
    """The dialplan answers and knocks; the application that comes back has the caller at the next knock."""
    house.kill()
    with Caller(house.installation.ports.sip, "1000", number=PREMIUM) as phone:
        phone.wait_for("answered", 5)
        until(phone.rtp.hears_anything, 5, "the announcement")
        start(house)
        back = time.monotonic()
        row = until(lambda: [row for row in house.calls() if row["state"] != "wrap_up"], 10, "the caller at a knock")
        assert isinstance(row, list)
        waited = time.monotonic() - back
        until(phone.rtp.hears_anything, 5, "the flow")
        assert house.steps(row[0]["id"])[0] == "recognise"
        phone.hang_up()
        assert house.over(row[0]["id"])["outcome"] in ("hung_up", "abandoned")
    return _checked(house) | {"knocked_after": round(waited, 1)}


# ---- A5 --------------------------------------------------------------------------------------------------------------------


def stays_away(house: LiveHouse, how: signal.Signals) -> dict[str, Any]:
    """Two who wait, a pair that talks, and one who calls meanwhile, over an application that is gone or frozen."""
    _watchdog_runs(house)
    measured: dict[str, Any] = {}
    with ExitStack() as stack:
        agent = stack.enter_context(house.agent_phone("101", ring=0.2))
        talking = stack.enter_context(house.visit(PREMIUM))
        house.becomes(talking, "talking")
        waiting = [stack.enter_context(house.visit(PREMIUM)) for _ in range(2)]
        for visit in waiting:
            house.becomes(visit, "waiting")
        place = [(_channel(house, row["call"]), row["since"]) for row in _queue(house)]
        assert len(place) == 2

        pid = house.pid
        send(pid, how)
        silent = time.monotonic()
        for channel, _ in place:
            until(lambda channel=channel: _context(house, channel) == "callwright-fallback", 20, f"{channel} in the fallback")  # type: ignore[misc]
        measured["released_after"] = round(time.monotonic() - silent, 1)
        assert measured["released_after"] < RELEASED_WITHIN
        for visit in waiting:
            until(visit.phone.rtp.hears_anything, 5, "the fallback")
        until(lambda: talk(talking.phone, agent), 3, "the pair to talk")
        late = stack.enter_context(Caller(house.installation.ports.sip, "1000", number=PREMIUM))
        late.wait_for("answered", 3)

        if how is signal.SIGSTOP:
            send(pid, signal.SIGCONT)
        else:
            start(house)
        back = time.monotonic()
        until(lambda: [_channel_of(row) for row in _queue_calls(house)][:2] == [channel for channel, _ in place], 20, "both at their place")
        measured["at_their_place_after"] = round(time.monotonic() - back, 1)
        for row, (_, since) in zip(_queue(house), place, strict=False):
            assert abs(row["since"] - since) < 0.01, "the time at which the wait began was lost"
        until(lambda: len(_queue(house)) == 3, 30, "the one who called meanwhile")
        if how is signal.SIGSTOP:
            assert house.pid == pid, "the process that was frozen ended"
        assert house.call(talking.call)["state"] == "talking"
        until(lambda: talk(talking.phone, agent), 3, "the pair to talk")
        agent.hang_up()
        talking.phone.wait_for("released", 10)
        for phone in (*(visit.phone for visit in waiting), late):
            assert not phone.heard_of("released"), "a caller was cut off"
            phone.hang_up()
            phone.wait_for("hungup")
    return _checked(house) | measured


def _watchdog_runs(house: LiveHouse) -> None:
    """`callwright status` says that the watchdog runs, and it runs with the application's settings."""
    argv = [sys.executable, "-m", "app.cli", "status", "--json", "--state", str(house.installation.state)]
    rows = json.loads(subprocess.run(argv, capture_output=True, text=True, check=False).stdout)
    watchdog = next(row for row in rows if row["name"] == "watchdog")
    assert watchdog["state"] == "running", watchdog
    with open(f"/proc/{watchdog['pid']}/cmdline", encoding="utf-8") as command:
        assert command.read().split("\0")[-3:-1] == ["--config", str(house.installation.config)]


def _queue(house: LiveHouse) -> list[dict[str, Any]]:
    return next(list(row["calls"]) for row in house.api("/v1/queues")["queues"] if row["name"] == "premium")


def _queue_calls(house: LiveHouse) -> list[dict[str, Any]]:
    try:
        known = {row["id"]: row for row in house.calls()}
        return [known[row["call"]] for row in _queue(house) if row["call"] in known]
    except OSError:
        return []


def _channel_of(row: dict[str, Any]) -> str:
    return str(row["channel"])


def _channel(house: LiveHouse, call: str) -> str:
    return str(house.call(call)["channel"])


def _context(house: LiveHouse, channel: str) -> str:
    return next((str(row["dialplan"]["context"]) for row in house.ari("channels") if row["id"] == channel), "")


def _checked(house: LiveHouse) -> dict[str, Any]:
    house.check()
    return {}


def _leaves(state: str, outcome: str) -> Case:
    return Case(f"A3/caller leaves at {state}", partial(caller_leaves, state=state, outcome=outcome))


_PLAIN: dict[str, Callable[[LiveHouse], dict[str, Any]]] = {
    "A3/caller leaves while ringing": caller_leaves_while_ringing,
    "A3/agent answers": agent_answers,
    "A3/agent declines": agent_declines,
    "A3/agent hangs up": agent_hangs_up,
    "A3/both hang up": both_hang_up,
    "A4/new call": new_call_while_away,
}
CASES = [
    *(Case(name, run) for name, run in _PLAIN.items()),
    _leaves("greet", "hung_up"),
    _leaves("ask_reference", "hung_up"),
    _leaves("waiting", "abandoned"),
    _leaves("offered", "abandoned"),
    _leaves("talking", "answered"),
    Case("A5/dead", partial(stays_away, how=signal.SIGKILL)),
    Case("A5/frozen", partial(stays_away, how=signal.SIGSTOP)),
]
