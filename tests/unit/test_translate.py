"""The dialect: whatever Asterisk says, in whatever order and however often, each thing happens once."""

from __future__ import annotations

import itertools
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core import events as ev
from app.core.view import LiveCall
from app.pbx.book import Book, Leg
from app.pbx.translate import HANDLERS, ChannelLeft, LegEntered, translate

CALL = f"{1:032x}"
CHANNEL = "1767225600.7"
LEG, BRIDGE, PLAYBACK = f"{CALL}-leg1", f"{CALL}-br1", f"{CALL}-pb1"
STAMPS = itertools.count()


def book() -> Book:
    ids = itertools.count(1)
    return Book("callwright", lambda: f"{next(ids):032x}")


def said(kind: str, **fields: Any) -> dict[str, Any]:
    return {"type": kind, "timestamp": f"2026-01-01T00:00:{next(STAMPS):09d}", **fields}


def channel(ident: str = CHANNEL, state: str = "Ring", **fields: Any) -> dict[str, Any]:
    plan = {"context": "callwright-door", "exten": "s", "priority": 4, "app_name": "Stasis", "app_data": "callwright,1000"}
    return {"id": ident, "state": state, "caller": {"name": "Ada", "number": "+4930123456"}, "dialplan": plan, **fields}


def arrived(b: Book, *args: str) -> ev.CallArrived:
    (event,) = translate(b, said("StasisStart", args=list(args), channel=channel()))
    assert isinstance(event, ev.CallArrived)
    return event


def with_leg(b: Book) -> Leg:
    arrived(b)
    return b.add_leg(b.calls[CALL], LEG, BRIDGE, 20.0)


def test_a_caller_arrives_with_number_name_and_dialled_number() -> None:
    event = arrived(book(), "1000")
    assert event == ev.CallArrived(CALL, CHANNEL, "+4930123456", "Ada", "1000", CHANNEL, CHANNEL)


def test_the_dialled_number_is_the_extension_when_stasis_got_none() -> None:
    (event,) = translate(book(), said("StasisStart", args=[], channel=channel(dialplan={"exten": "4711"})))
    assert isinstance(event, ev.CallArrived)
    assert event.dnis == "4711"


def test_what_the_fallback_kept_comes_back_typed_and_nothing_else_does() -> None:
    args = ["1000", "returned", "queue=orders", "first_enqueue=1700000000.5", "priority=-2", "evil=1", "queue=", "first_enqueue=nan"]
    assert arrived(book(), *args).returning == {"queue": "orders", "first_enqueue": 1700000000.5, "priority": -2}


@pytest.mark.parametrize(
    ("name", "expected"),
    [("A\x00B\x1b[2J", "AB[2J"), ("a\u202eb\u2066c", "abc"), ("x" * 300, "x" * 80), ("Zoë 李", "Zoë 李"), (None, ""), (5, "")],
)
def test_a_name_is_stripped_of_control_and_direction(name: object, expected: str) -> None:
    (event,) = translate(book(), said("StasisStart", args=[], channel=channel(caller={"name": name, "number": name})))
    assert isinstance(event, ev.CallArrived)
    assert event.name == event.ani == expected


def test_the_same_events_twice_are_counted_once() -> None:
    b = book()
    story = [
        said("StasisStart", args=[], channel=channel()),
        said("ChannelStateChange", channel=channel(state="Up")),
        said("ChannelDtmfReceived", channel=channel(), digit="5"),
        said("ChannelHangupRequest", channel=channel(), cause=16),
        said("StasisEnd", channel=channel()),
        said("ChannelDestroyed", channel=channel(), cause=16),
    ]
    events = [event for message in story for _ in range(2) for event in translate(b, message)]
    assert [type(e) for e in events] == [ev.CallArrived, ev.DigitPressed, ev.CallerLeft, ChannelLeft]
    assert not [event for message in story for event in translate(b, message)]


def test_the_same_channel_may_come_back_later() -> None:
    b = book()
    first = arrived(b)
    translate(b, said("StasisEnd", channel=channel()))
    assert arrived(b).call != first.call


def test_an_end_that_overtakes_its_start_leaves_no_call() -> None:
    b = book()
    start, end = said("StasisStart", args=[], channel=channel()), said("StasisEnd", channel=channel())
    assert [*translate(b, end), *translate(b, start)] == []
    assert not b.calls


@pytest.mark.parametrize(
    ("fields", "cause"), [({"cause": 16}, 16), ({"cause": 127}, 127), ({"cause": 32, "soft": True}, 16), ({}, 16), ({"cause": "x"}, 16)]
)
def test_the_flag_of_a_soft_hang_up_is_not_taken_for_a_cause(fields: dict[str, Any], cause: int) -> None:
    b = book()
    arrived(b)
    assert translate(b, said("ChannelHangupRequest", channel=channel(), **fields)) == [ev.CallerLeft(CALL, cause)]


def test_a_masquerade_puts_another_channel_in_the_callers_place() -> None:
    b = book()
    arrived(b)
    assert not translate(b, said("StasisStart", args=[], channel=channel("new.1"), replace_channel={"id": CHANNEL}))
    assert translate(b, said("StasisEnd", channel=channel())) == ()
    assert translate(b, said("ChannelHangupRequest", channel=channel("new.1"), cause=16)) == [ev.CallerLeft(CALL, 16)]


@pytest.mark.parametrize("digit", ["", "E", "12", "f", " "])
def test_what_is_no_key_is_ignored(digit: str) -> None:
    b = book()
    arrived(b)
    assert not translate(b, said("ChannelDtmfReceived", channel=channel(), digit=digit))


HELD_THEN_TYPED = [(1, 14632, 5000)]
"""A key that was held past the prompt's end at 11283 and those typed after it, as Asterisk told them: key, milliseconds, length."""
HELD_THEN_TYPED += [(key, at, 100) for key, at in ((5, 14817), (5, 19683), (9, 19683), (9, 19829), (7, 19832), (7, 19976), (7, 19976))]
HELD_THEN_TYPED += [(key, at, 100) for key, at in ((7, 20122), (3, 20126), (3, 20271), (0, 20275), (0, 20419))]


def test_key_that_is_told_again_in_the_millisecond_of_the_next_press_of_it_leaves_that_press_alone() -> None:
    b = book()
    arrived(b)
    b.add_playback(b.calls[CALL], PLAYBACK)
    translate(b, said("PlaybackFinished", playback={"id": PLAYBACK, "state": "done"}, timestamp=moment(11283)))
    pressed = [
        event
        for key, at, length in HELD_THEN_TYPED
        for event in translate(b, said("ChannelDtmfReceived", channel=channel(), digit=str(key), timestamp=moment(at), duration_ms=length))
    ]
    assert "".join(event.digit for event in pressed if isinstance(event, ev.DigitPressed)) == "1597730"


def moment(milliseconds: int) -> str:
    """A timestamp in Asterisk's words."""
    return f"2026-01-01T00:00:{milliseconds // 1000:02d}.{milliseconds % 1000:03d}+0000"


def test_a_digit_of_the_agent_is_not_the_callers() -> None:
    b = book()
    with_leg(b)
    assert not translate(b, said("ChannelDtmfReceived", channel=channel(LEG), digit="1"))


LEG_STORY = [
    ("StasisStart", {"channel": channel(LEG, "Down"), "args": ["leg"]}),
    ("ChannelStateChange", {"channel": channel(LEG, "Ringing")}),
    ("Dial", {"peer": channel(LEG, "Ringing"), "dialstatus": "RINGING"}),
    ("ChannelStateChange", {"channel": channel(LEG, "Up")}),
    ("Dial", {"peer": channel(LEG, "Up"), "dialstatus": "ANSWER"}),
    ("ChannelHangupRequest", {"channel": channel(LEG, "Up"), "cause": 16}),
    ("StasisEnd", {"channel": channel(LEG, "Up")}),
    ("ChannelDestroyed", {"channel": channel(LEG, "Up"), "cause": 16}),
]


def test_a_leg_is_entered_rings_answers_and_ends() -> None:
    b = book()
    with_leg(b)
    events = [event for kind, fields in LEG_STORY for event in translate(b, said(kind, **fields))]
    assert events == [LegEntered(CALL, LEG), ev.LegRinging(CALL, LEG), ev.LegAnswered(CALL, LEG), ev.LegEnded(CALL, LEG, 16)]


@given(st.lists(st.integers(0, len(LEG_STORY) - 1), max_size=40))
def test_a_leg_only_goes_forward_and_ends_once_whatever_the_order(order: list[int]) -> None:
    b = book()
    with_leg(b)
    events = [event for i in order for event in translate(b, said(LEG_STORY[i][0], **LEG_STORY[i][1]))]
    kinds = [type(e) for e in events]
    rank = {LegEntered: 0, ev.LegRinging: 1, ev.LegAnswered: 2, ev.LegEnded: 3}
    assert len(kinds) == len(set(kinds))
    assert [rank[kind] for kind in kinds] == sorted(rank[kind] for kind in kinds)
    assert (ev.LegEnded in kinds) == any(i >= 6 for i in order)


@pytest.mark.parametrize("rang", [True, False])
@pytest.mark.parametrize("ending", [0, 26])
@pytest.mark.parametrize("cause", [0, 17, 19, 21, 1, 34])
def test_why_a_leg_that_was_not_answered_ended(rang: bool, ending: int, cause: int) -> None:
    b = book()
    leg = with_leg(b)
    if rang:
        translate(b, said("ChannelStateChange", channel=channel(LEG, "Ringing")))
    leg.ending = ending
    (ended,) = translate(b, said("ChannelDestroyed", channel=channel(LEG), cause=cause))
    assert isinstance(ended, ev.LegEnded)
    expected = {0: 19 if rang else 20, 19: 19 if rang else 20}.get(cause, cause)
    assert ended.cause == (26 if ending else expected)


def test_an_answer_after_the_order_to_end_the_leg_does_not_count() -> None:
    b = book()
    with_leg(b).ending = 26
    assert not translate(b, said("ChannelStateChange", channel=channel(LEG, "Up")))
    assert translate(b, said("StasisEnd", channel=channel(LEG))) == [ev.LegEnded(CALL, LEG, 26)]


def test_a_playback_ends_once_and_says_whether_it_played() -> None:
    b = book()
    arrived(b)
    for n, state in ((1, "done"), (2, "failed")):
        b.add_playback(b.calls[CALL], f"{CALL}-pb{n}")
        finished = said("PlaybackFinished", playback={"id": f"{CALL}-pb{n}", "state": state})
        assert translate(b, finished) == [ev.PlaybackEnded(CALL, f"{CALL}-pb{n}", state == "done")]
        assert not translate(b, finished)


def test_nothing_of_the_caller_follows_the_end() -> None:
    b = book()
    arrived(b)
    b.add_playback(b.calls[CALL], PLAYBACK)
    translate(b, said("ChannelHangupRequest", channel=channel(), cause=16))
    assert not translate(b, said("PlaybackFinished", playback={"id": PLAYBACK, "state": "failed"}))
    assert not translate(b, said("ChannelDtmfReceived", channel=channel(), digit="1"))


SCALARS = st.none() | st.booleans() | st.integers() | st.text(max_size=8)
JSON = st.recursive(SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=8), each, max_size=3), max_leaves=8)
FIELDS = st.sampled_from(["channel", "peer", "playback", "digit", "args", "dialstatus", "cause"])


@given(st.sampled_from([*HANDLERS, "Nonsense"]), st.dictionaries(FIELDS, JSON))
def test_no_event_whatever_its_shape_raises(kind: str, fields: dict[str, Any]) -> None:
    b = book()
    with_leg(b)
    translate(b, {"type": kind, **fields})


def test_any_order_of_two_calls_events_leaves_an_empty_book() -> None:
    seed = random.Random(7)
    for _ in range(300):
        b = book()
        stories = [
            [
                said("StasisStart", args=[], channel=channel(ident)),
                said("ChannelDtmfReceived", channel=channel(ident), digit="1"),
                said("ChannelHangupRequest", channel=channel(ident), cause=16),
                said("StasisEnd", channel=channel(ident)),
                said("ChannelDestroyed", channel=channel(ident), cause=16),
            ]
            for ident in ("1.1", "1.2")
        ]
        messages = stories[0] + stories[1]
        seed.shuffle(messages)
        events = [event for message in messages for event in translate(b, message)]
        for call in {e.call for e in events if isinstance(e, ev.CallArrived)}:
            assert sum(isinstance(e, ev.CallerLeft) and e.call == call for e in events) == 1
        assert all(caller.gone for caller in b.calls.values())


def test_taking_over_knows_channels_legs_and_playbacks() -> None:
    b = book()
    b.adopt(LiveCall(CALL, CHANNEL, True, True, BRIDGE, {LEG: "ringing"}, (PLAYBACK,)))
    assert translate(b, said("ChannelStateChange", channel=channel(LEG, "Ringing"))) == ()
    assert translate(b, said("ChannelStateChange", channel=channel(LEG, "Up"))) == (ev.LegAnswered(CALL, LEG),)
    assert translate(b, said("PlaybackFinished", playback={"id": PLAYBACK})) == [ev.PlaybackEnded(CALL, PLAYBACK)]
    assert b.live() == [LiveCall(CALL, CHANNEL, True, True, "", {LEG: "up"}, ())]
