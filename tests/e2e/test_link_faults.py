"""The line between the application and Asterisk breaks, and Asterisk itself dies, with real calls up.

The application reaches Asterisk through a fault proxy; Asterisk, the phones and the test's own look into Asterisk do not.
"""

from __future__ import annotations

import time
import urllib.error
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from app.installation import fetch
from tests.drawn import one_of
from tests.e2e.house import LATE, PREMIUM, UNKNOWN, LiveHouse, Visit
from tests.e2e.variant import restarted
from tests.faults.silence import CannotDrop, dropping
from tests.phones import AgentPhone, Caller, until
from tests.tcp_proxy import DOWN, HTTP, UP, WS, TcpProxy

pytestmark = pytest.mark.pbx

AGENT, CALLER = 1300.0, 1900.0  # the tones that they speak
NOTICED = 5.0
BACK = 1.0
SLACK = 0.7
"""Seconds that a busy machine may add to what is measured from outside, by asking over the API."""


@pytest.fixture(scope="module")
def line(running_house: LiveHouse) -> Iterator[TcpProxy]:
    """The proxy that the application goes through in this file."""
    with TcpProxy(running_house.installation.ports.ari) as proxy:
        with restarted(running_house, CALLWRIGHT_ARI__URL=proxy.url):
            yield proxy
            proxy.release()


@pytest.fixture
def proxy(line: TcpProxy, house: LiveHouse) -> Iterator[TcpProxy]:
    yield line
    line.release()
    until(lambda: ready(house), 15, "the application to be ready")


def ready(house: LiveHouse) -> bool:
    return not why_not(house)


def why_not(house: LiveHouse) -> str:
    """Why `/readyz` is not 200; empty when it is."""
    try:
        fetch(f"http://127.0.0.1:{house.installation.ports.api}/readyz")
    except urllib.error.HTTPError as error:
        return error.read().decode() or str(error.code)
    return ""


def back(house: LiveHouse, proxy: TcpProxy, before: int, within: float = 10.0) -> None:
    """Wait for another event socket than the first `before`, and for what follows."""
    until(lambda: proxy.sockets > before, within, "a new event socket")
    until_ready(house, within)


def until_ready(house: LiveHouse, within: float = 10.0) -> None:
    deadline = time.monotonic() + within
    while why := why_not(house):
        assert time.monotonic() < deadline, f"not ready within {within} s: {why}"


def seconds(began: float) -> float:
    return time.monotonic() - began


@contextmanager
def talking(house: LiveHouse) -> Iterator[tuple[Visit, AgentPhone]]:
    """A caller who talks to agent 105, both heard."""
    with house.agent_phone("105", ring=0.1) as phone, house.visit(LATE) as visit:
        house.becomes(visit, "talking")
        until(lambda: visit.phone.rtp.hears(AGENT) and phone.rtp.hears(CALLER), 5, "both to hear each other")
        connected = house.call(visit.call)["connected"]
        until(lambda: time.time() > connected + 0.3, 3, "a conversation, and not a phone that was hung up at once")
        yield visit, phone


def both_hear(visit: Visit, phone: AgentPhone) -> None:
    until(lambda: visit.phone.rtp.hears(AGENT) and phone.rtp.hears(CALLER), 2, "both to hear each other still")


# ---- B1: the event socket is cut ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", one_of(["clean", "rst", "mid_frame"]))
def test_event_socket_is_cut_and_is_back_within_a_second_while_calls_go_on(house: LiveHouse, proxy: TcpProxy, how: str) -> None:
    with talking(house) as (visit, phone), house.visit(UNKNOWN) as other:
        house.reaches(other, "ask_reference")
        other.phone.wait_for("answered")
        before = proxy.sockets
        proxy.cut(how)
        until(lambda: not proxy.links(WS) or proxy.sockets > before, 3, "the socket to be gone")
        began = time.monotonic()
        back(house, proxy, before)
        assert seconds(began) < BACK + SLACK
        until(lambda: other.phone.rtp.to, 5)
        other.phone.rtp.press("272#")
        until(lambda: sum(e["type"] == "DigitPressed" for e in house.timeline(other.call)) >= 3, 5, "keys to arrive over the new socket")
        both_hear(visit, phone)
        phone.hang_up()
        assert house.over(visit.call)["outcome"] == "answered"
        other.phone.hang_up()
        assert house.over(other.call)["outcome"] == "hung_up"


@pytest.mark.parametrize("who", one_of(["caller", "agent", "waiting"]))
def test_hang_up_that_nobody_could_see_is_found_on_return(house: LiveHouse, proxy: TcpProxy, who: str) -> None:
    with talking(house) as (visit, phone), house.agent_phone("106", ready=False), house.visit(LATE) as waiting:
        house.becomes(waiting, "waiting")
        waiting.phone.wait_for("answered")
        proxy.refuse = True
        proxy.cut("rst")
        until(lambda: not ready(house), 3, "the loss to be noticed")
        phones: dict[str, Caller | AgentPhone] = {"caller": visit.phone, "agent": phone, "waiting": waiting.phone}
        gone = phones[who]
        gone.hang_up()
        gone.wait_for("hungup")
        proxy.refuse = False
        ended = waiting if who == "waiting" else visit
        assert house.over(ended.call, 6)["outcome"] == ("abandoned" if who == "waiting" else "answered")
        if who == "waiting":
            both_hear(visit, phone)
        else:
            until(lambda: house.agent("105")["work"] == "wrap_up", 3, "wrap-up")
            until(lambda: waiting.phone.rtp.hears_anything(), 3, "the one who waits to hear music")
        for each in (visit, waiting):
            if not house.ended(each.call):
                each.phone.hang_up()
                house.over(each.call)


# ---- B2: nothing comes through any more, and nobody says so --------------------------------------------------------------------


@contextmanager
def dropped(proxy: TcpProxy, way: str) -> Iterator[None]:
    """No byte passes in either direction, and no connection is closed."""
    with ExitStack() as stack:
        if way == "proxy":
            proxy.hold()
            stack.callback(proxy.release)
        else:
            try:
                stack.enter_context(dropping(proxy.port))
            except CannotDrop as error:
                pytest.skip(f"iptables cannot be used here: {error}")
        yield


@pytest.mark.parametrize("way", one_of(["proxy", "iptables"]))
def test_silent_drop_is_noticed_within_five_seconds_and_reconciled_on_return(house: LiveHouse, proxy: TcpProxy, way: str) -> None:
    with talking(house) as (visit, phone), house.agent_phone("106", ready=False), house.visit(LATE) as waiting:
        house.becomes(waiting, "waiting")
        waiting.phone.wait_for("answered")
        began = time.monotonic()
        with dropped(proxy, way):
            until(lambda: not ready(house), 10, "the silence to be noticed")
            noticed = seconds(began)
            assert "asterisk" in why_not(house)
            both_hear(visit, phone)
            waiting.phone.hang_up()
            waiting.phone.wait_for("hungup")
        began = time.monotonic()
        until(lambda: ready(house), 12, f"the line to be back: {why_not(house)}")
        assert house.over(waiting.call, 5)["outcome"] == "abandoned"
        back = seconds(began)
        both_hear(visit, phone)
        phone.hang_up()
        assert house.over(visit.call)["outcome"] == "answered"
        print(f"noticed after {noticed:.2f} s, reconciled after {back:.2f} s")
        assert noticed < NOTICED + SLACK


# ---- B3: one of the two ways hangs ----------------------------------------------------------------------------------------------


def test_requests_hang_while_events_come_and_calls_are_served(house: LiveHouse, proxy: TcpProxy) -> None:
    with house.agent_phone("105", ring=0.1) as phone:
        proxy.hold(HTTP)
        began = time.monotonic()
        until(lambda: "applications/callwright: no answer" in why_not(house), 10, "the probe to say what hangs")
        noticed = seconds(began)
        with house.visit(LATE) as visit:
            house.becomes(visit, "talking", 10)
            both_hear(visit, phone)
            phone.hang_up()
            assert house.over(visit.call)["outcome"] == "answered"
        assert proxy.links(HTTP) < 20, "requests pile up"
        proxy.release()
        until(lambda: ready(house), 10, "the probe to be well again")
        print(f"probe red after {noticed:.2f} s")


@pytest.mark.parametrize("way", one_of([UP, DOWN]))
def test_event_socket_hangs_in_one_direction_while_requests_are_answered(house: LiveHouse, proxy: TcpProxy, way: str) -> None:
    with talking(house) as (visit, phone):
        before = proxy.sockets
        began = time.monotonic()
        proxy.hold(WS, way)
        until(lambda: not ready(house), 10, "the dead socket to be noticed")
        noticed = seconds(began)
        visit.phone.hang_up()
        proxy.release()
        until(lambda: proxy.sockets > before, 6, "a new event socket")
        assert house.over(visit.call, 5)["outcome"] == "answered"
        phone.wait_for("released", 3)
        print(f"noticed after {noticed:.2f} s")
        assert noticed < NOTICED + SLACK


def test_events_that_stop_coming_over_a_living_socket_are_noticed(house: LiveHouse, proxy: TcpProxy) -> None:
    with talking(house) as (visit, phone):
        before = proxy.sockets
        proxy.swallow = b'"cw-echo"'
        began = time.monotonic()
        until(lambda: proxy.sockets > before, 12, "a new event socket")
        assert proxy.swallowed
        print(f"noticed after {seconds(began):.2f} s")
        proxy.release()
        both_hear(visit, phone)
        phone.hang_up()
        assert house.over(visit.call)["outcome"] == "answered"


def test_line_that_is_slow_costs_time_and_no_call(house: LiveHouse, proxy: TcpProxy) -> None:
    proxy.delay = 0.15
    with talking(house) as (visit, phone):
        assert ready(house)
        visit.phone.hang_up()
        phone.wait_for("released", 3)
        assert house.over(visit.call)["outcome"] == "answered"


# ---- B5: subscriptions -----------------------------------------------------------------------------------------------------------


def test_events_of_live_calls_arrive_over_the_new_socket(house: LiveHouse, proxy: TcpProxy) -> None:
    with talking(house) as (visit, phone), house.agent_phone("106", ready=False) as second, house.visit(LATE) as waiting:
        house.becomes(waiting, "waiting")
        waiting.phone.wait_for("answered")
        for _ in range(2):
            before = proxy.sockets
            proxy.cut("rst")
            until(lambda: proxy.sockets > before and ready(house), 6, "a new event socket")  # noqa: B023
        channels = {row["channel"] for row in house.calls()}
        subscribed = set(house.ari("applications/callwright")["channel_ids"])
        assert channels <= subscribed
        assert any("-leg" in each for each in subscribed)
        phone.hang_up()
        until(lambda: house.agent("105")["work"] == "wrap_up", 2, "the agent's hang-up to arrive")
        assert house.over(visit.call, 3)["outcome"] == "answered"
        house.tell("106", "ready")
        house.becomes(waiting, "talking", 5)
        assert second.heard_of("answered")
        waiting.phone.hang_up()
        assert house.over(waiting.call, 3)["outcome"] == "answered"


@contextmanager
def cut_off(house: LiveHouse, number: str) -> Iterator[Visit]:
    """A caller whose PBX will be gone: nobody will answer the BYE."""
    before = {row["id"] for row in house.calls()}
    with Caller(house.installation.ports.sip, "1000", number=number) as phone:
        until(lambda: {row["id"] for row in house.calls()} - before, 10, "the call to arrive")
        yield Visit(phone, ({row["id"] for row in house.calls()} - before).pop(), number)


# ---- B7: Asterisk dies -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", one_of(["kill", "restart now"]))
def test_asterisk_dies_with_calls_in_all_states_and_the_next_call_works(house: LiveHouse, proxy: TcpProxy, how: str) -> None:
    pbx = house.installation.pbx(house.say.append)
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(house.agent_phone("105", ring=0.1))
        enter(house.agent_phone("106", ring=0.1, talk=0.5))
        wrapping = enter(cut_off(house, LATE))  # 105 is ready for longer, but busy first: one of the two wraps up
        house.becomes(wrapping, "talking")
        enter(house.agent_phone("101", ring=None))
        calls = {"talking": wrapping, "collecting": enter(cut_off(house, UNKNOWN)), "offered": enter(cut_off(house, PREMIUM))}
        calls["wrapping"] = enter(cut_off(house, LATE))
        house.becomes(calls["wrapping"], "talking")
        house.over(calls["wrapping"].call)
        calls["waiting"] = enter(cut_off(house, LATE))
        house.becomes(calls["waiting"], "waiting")
        house.reaches(calls["collecting"], "ask_reference")
        house.becomes(calls["offered"], "offered")
        calls["playing"] = enter(cut_off(house, PREMIUM))
        house.reaches(calls["playing"], "greet")
        assert house.agent("106")["work"] == "wrap_up"

        if how == "kill":
            pbx.kill()
            until(lambda: not ready(house), 5, "the loss to be noticed")
            pbx.start()
        else:
            pbx.cli("core restart now")
        pbx.wait_ready()
        until(lambda: ready(house), 10, f"the application to be ready again: {why_not(house)}")
        began = time.monotonic()
        until(lambda: not [row for row in house.calls() if row["state"] != "wrap_up"], 5, "every call to be closed")
        until(lambda: not [a for a in ("101", "105") if house.agent(a)["work"] in ("offered", "connecting", "talking")], 5, "free agents")
        freed = seconds(began)
        outcomes = {name: house.over(visit.call, 2)["outcome"] for name, visit in calls.items()}
        assert outcomes.pop("wrapping") == "answered"
        if how == "kill":
            assert set(outcomes.values()) == {"lost_media_server"}, outcomes
        for visit in calls.values():
            assert sum(entry["type"] == "CallEnded" for entry in house.timeline(visit.call)) == 1
        assert house.agent("101")["presence"] == "ready", "a phone that could not be answered any more is no fault of the agent's"
        assert house.agent("106")["work"] == "wrap_up", "what the agent writes down about a call that had ended is not lost"
        print(f"closed and freed {freed:.2f} s after the reconnect; {outcomes}")
    with talking(house) as (visit, phone):
        phone.hang_up()
        assert house.over(visit.call)["outcome"] == "answered"
