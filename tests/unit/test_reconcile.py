"""Reconciling: each row of the table, and that whatever was found, every call is either found or closed, once."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import events as ev
from app.core.view import LiveCall
from app.pbx.reconcile import Found, Snapshot, older_than, orphans, read_bridges, read_channels, reconcile, startup_seconds

CALL = "a" * 32
CHANNEL = "1767225600.7"
LEG, BRIDGE = f"{CALL}-leg1", f"{CALL}-br1"
UP, RINGING, DOWN = Found("Up", True), Found("Ringing", True), Found("Down", True)


def call(**fields: Any) -> LiveCall:
    return LiveCall(**{"call": CALL, "channel": CHANNEL, "up": True, **fields})


def test_nothing_known_and_nothing_found() -> None:
    assert reconcile([], Snapshot()) == [ev.PbxBack(False)]


def test_a_waiting_caller_is_found() -> None:
    assert reconcile([call()], Snapshot(channels={CHANNEL: UP})) == [ev.PbxBack(False), ev.CallFound(CALL, True)]


def test_a_caller_not_answered_yet_is_found_so() -> None:
    assert reconcile([call()], Snapshot(channels={CHANNEL: Found("Ring", True)}))[1] == ev.CallFound(CALL, False)


@pytest.mark.parametrize("channels", [{}, {CHANNEL: Found("Up", False)}])
def test_a_caller_who_hung_up_or_was_let_go_has_left_once(channels: dict[str, Found]) -> None:
    assert reconcile([call()], Snapshot(channels=channels)) == [ev.PbxBack(False), ev.CallerLeft(CALL, 16, elsewhere=bool(channels))]


def test_after_a_restart_every_call_is_closed_with_another_cause() -> None:
    out = reconcile([call(legs={LEG: "up"})], Snapshot(restarted=True))
    assert out == [ev.PbxBack(True), ev.LegEnded(CALL, LEG, 41), ev.CallerLeft(CALL, 41)]


def test_an_agent_who_answered_meanwhile_is_talking() -> None:
    found = Snapshot(channels={CHANNEL: UP, LEG: UP}, bridges={BRIDGE: (CHANNEL, LEG)})
    assert reconcile([call(bridge=BRIDGE, legs={LEG: "ringing"})], found) == [
        ev.PbxBack(False),
        ev.LegAnswered(CALL, LEG),
        ev.CallFound(CALL, True, BRIDGE, {LEG: "up"}, (LEG,)),
    ]


def test_an_agent_who_answered_outside_the_bridge_is_told_so() -> None:
    found = Snapshot(channels={CHANNEL: UP, LEG: UP}, bridges={BRIDGE: (CHANNEL,)})
    assert reconcile([call(legs={LEG: "up"})], found)[-1] == ev.CallFound(CALL, True, BRIDGE, {LEG: "up"}, ())


def test_a_leg_that_began_to_ring_is_told_once() -> None:
    found = Snapshot(channels={CHANNEL: UP, LEG: RINGING})
    assert ev.LegRinging(CALL, LEG) in reconcile([call(legs={LEG: "created"})], found)
    assert ev.LegRinging(CALL, LEG) not in reconcile([call(legs={LEG: "ringing"})], found)


@pytest.mark.parametrize(("believed", "cause"), [("created", -1), ("ringing", -2), ("up", 16)])
def test_a_leg_that_is_gone_ended_as_it_best_may(believed: str, cause: int) -> None:
    out = reconcile([call(legs={LEG: believed})], Snapshot(channels={CHANNEL: UP}))
    assert out[1:] == [ev.LegEnded(CALL, LEG, cause), ev.CallFound(CALL, True)]


def test_a_playback_that_is_gone_has_ended_and_one_alive_is_waited_for() -> None:
    out = reconcile([call(playbacks=("p1", "p2"))], Snapshot(channels={CHANNEL: UP}, playbacks=frozenset({"p2"})))
    assert out[1:] == [ev.CallFound(CALL, True, playbacks=("p2",)), ev.PlaybackEnded(CALL, "p1", unseen=True)]


def test_a_call_in_wrap_up_is_not_closed_again() -> None:
    assert reconcile([call(caller=False)], Snapshot()) == [ev.PbxBack(False)]


def test_an_arrival_that_nobody_saw_comes_last() -> None:
    new = ev.CallArrived("b" * 32, "9.9")
    assert reconcile([call()], Snapshot(channels={CHANNEL: UP, "9.9": UP}, arrivals=(new,)))[-1] == new


IDS = st.integers(0, 5)
CALLS = st.builds(
    lambda i, caller, legs, playbacks: LiveCall(
        f"{i:032x}", f"1767225600.{i}", True, caller, "", {f"{i:032x}-leg{n}": s for n, s in legs.items()}, tuple(playbacks)
    ),
    IDS,
    st.booleans(),
    st.dictionaries(st.integers(1, 2), st.sampled_from(["created", "ringing", "up"])),
    st.sets(st.sampled_from(["p1", "p2"])),
)
STATES = st.builds(Found, st.sampled_from(["Ring", "Down", "Ringing", "Up"]), st.booleans())


@given(st.lists(CALLS, unique_by=lambda live: live.call), st.data(), st.booleans())
def test_every_call_is_found_or_closed_once_and_every_leg_found_or_ended_once(
    view: list[LiveCall], data: st.DataObject, restarted: bool
) -> None:
    names = [live.channel for live in view] + [leg for live in view for leg in live.legs]
    channels = data.draw(st.dictionaries(st.sampled_from(names), STATES)) if names else {}
    out = reconcile(view, Snapshot(restarted, channels, {}, frozenset(data.draw(st.sets(st.sampled_from(["p1", "p2"]))))))
    assert out[0] == ev.PbxBack(restarted)
    closed = Counter(e.call for e in out if isinstance(e, ev.CallerLeft))
    found = {e.call: e for e in out if isinstance(e, ev.CallFound)}
    ended = Counter(e.leg for e in out if isinstance(e, ev.LegEnded))
    for live in view:
        assert closed[live.call] + (live.call in found) == (1 if live.caller else 0)
        for leg in live.legs:
            alive = leg in channels and channels[leg].ours
            assert ended[leg] == (0 if alive else 1)
            if live.call in found:
                assert (leg in found[live.call].legs) == alive


# ---- reading what Asterisk lists ------------------------------------------------------------------------------------------------


def listed(ident: str, state: str = "Up", app: str = "Stasis", data: str = "callwright,1000", number: str = "") -> dict[str, Any]:
    return {"id": ident, "state": state, "dialplan": {"app_name": app, "app_data": data}, "connected": {"name": "", "number": number}}


def test_a_channel_is_ours_while_it_is_in_our_application() -> None:
    channels = read_channels(
        "callwright",
        [listed("1"), listed("2", data="callwright"), listed("3", app="Queue"), listed("4", data="callwright2,1"), {"id": 5}, None, {}],
    )
    assert {ident: found.ours for ident, found in channels.items()} == {"1": True, "2": True, "3": False, "4": False}
    assert channels["1"].args == ("1000",)


@pytest.mark.parametrize(("state", "number", "dialled"), [("Down", "", False), ("Down", "030", True), ("Ringing", "", True)])
def test_a_leg_was_dialled_when_it_rings_or_knows_its_caller(state: str, number: str, dialled: bool) -> None:
    assert read_channels("callwright", [listed("1", state, number=number)])["1"].dialled is dialled


@pytest.mark.parametrize("nonsense", [None, {}, "x", [1, None, {"name": "callwright"}]])
def test_a_list_that_is_none_is_empty(nonsense: object) -> None:
    assert read_channels("callwright", nonsense) == {}
    assert read_bridges("callwright", nonsense) == {}


def test_only_what_we_made_and_nobody_needs_is_removed() -> None:
    dead = "d" * 32
    found = Snapshot(
        channels={CHANNEL: UP, LEG: UP, f"{CALL}-leg2": UP, f"{dead}-leg1": DOWN, f"{dead}-leg2": Found("Up", False), "7.7": UP},
        bridges={BRIDGE: (CHANNEL,), f"{dead}-br1": (), "theirs": ()},
    )
    assert orphans([call(legs={LEG: "up"})], found) == ([f"{CALL}-leg2", f"{dead}-leg1"], [f"{dead}-br1"])


@pytest.mark.parametrize("info", [None, {}, {"status": None}, {"status": {"startup_time": 5}}, {"status": {"startup_time": "yesterday"}}])
def test_a_start_that_is_not_told_is_nought(info: object) -> None:
    assert startup_seconds(info) == 0.0


def test_a_restart_is_seen_by_a_new_process_too() -> None:
    startup = startup_seconds({"status": {"startup_time": "2026-01-01T01:00:00.500+0100"}})
    assert startup == 1767225600.5
    assert older_than([call(channel="1767225599.1")], startup)
    assert older_than([call(channel="node-1767225599.1")], startup)
    assert not older_than([call(channel="1767225599.1"), call(channel="1767225601.1")], startup)
    assert not older_than([call(channel="1767225599.1", caller=False)], startup)
    assert not older_than([call(channel="strange")], startup)
