"""What Asterisk says, as events of the core. Pure: no I/O, no clock, no chance.

Each handler reads one type of ARI event; types without a handler, events about channels that are not ours and events that lack
a field are counted and ignored. What comes twice or late the `Book` knows.

Asterisk says of an inbound channel that was hung up by a request `soft: true` and the flag of that request as its "cause"; only
the cause of a hang-up without `soft`, and that of `ChannelDestroyed`, are Q.850.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from app.core import events
from app.core.frozen import frozen
from app.pbx.book import ASKED, ENTERED, LEG, RINGING, UP, Book, Caller, Leg

Json: TypeAlias = Mapping[str, Any]

WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NUMBER = re.compile(r"\+?[0-9*#]{1,40}")
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_DIGITS = frozenset("0123456789*#ABCD")

# What Asterisk need not tell us. `allowed` instead would silence the answers to our own requests as well.
UNWANTED: tuple[str, ...] = (
    "BridgeCreated",
    "BridgeDestroyed",
    "BridgeMerged",
    "BridgeVideoSourceChanged",
    "ChannelCallerId",
    "ChannelConnectedLine",
    "ChannelCreated",
    "ChannelDialplan",
    "ChannelEnteredBridge",
    "ChannelHold",
    "ChannelLeftBridge",
    "ChannelTalkingFinished",
    "ChannelTalkingStarted",
    "ChannelUnhold",
    "ChannelVarset",
    "PlaybackContinuing",
    "PlaybackStarted",
)


@frozen
class LegEntered(events.CallEvent):
    """A leg of ours is in our application and can be joined and dialled. For the adapter alone; never posted."""

    leg: str


@frozen
class ChannelLeft(events.CallEvent):
    """The caller's channel is out of our application and of its bridge. For the adapter alone; never posted."""


def translate(book: Book, message: Json) -> Sequence[events.Event]:
    """The events of the core that one ARI event amounts to: often none. Never raises."""
    kind = message.get("type")
    handler = HANDLERS.get(kind) if isinstance(kind, str) else None
    if handler is None:
        book.counts[f"unknown:{kind}" if isinstance(kind, str) and WORD.fullmatch(kind) else "unknown"] += 1
        return ()
    try:
        return handler(book, message)
    except (KeyError, TypeError, AttributeError, ValueError):
        book.counts[f"malformed:{kind}"] += 1
        return ()


def clean(text: object, limit: int = 80) -> str:
    """Text from outside without control and direction characters, cut to `limit`."""
    return _UNSAFE.sub("", text)[:limit] if isinstance(text, str) else ""


def arrival(book: Book, channel: Json, args: Sequence[str]) -> events.CallArrived:
    """A caller's channel, new to us, as a call; it is in the book afterwards."""
    caller = channel.get("caller") or {}
    call = book.mint()
    up = channel.get("state") == "Up"
    book.add_caller(call, channel["id"], up)
    return events.CallArrived(
        call,
        channel["id"],
        ani=clean(caller.get("number")),
        name=clean(caller.get("name")),
        dnis=_dialled(channel, args),
        uniqueid=channel["id"],
        linkedid=channel["id"],
        up=up,
        returning=returning(args),
    )


def _dialled(channel: Json, args: Sequence[str]) -> str:
    """The number that was dialled: the first argument of `Stasis()` without a name, else the extension."""
    given = next((arg for arg in args if _NUMBER.fullmatch(arg)), "")
    return given or clean((channel.get("dialplan") or {}).get("exten"))


def returning(args: Sequence[str]) -> dict[str, Any]:
    """What the fallback kept for us, out of `Stasis()`'s arguments: `queue`, `first_enqueue`, `priority`."""
    kept: dict[str, Any] = {}
    for arg in args:
        name, _, value = arg.partition("=")
        if name == "queue" and WORD.fullmatch(value):
            kept[name] = value
        elif name == "first_enqueue" and re.fullmatch(r"\d{1,11}(\.\d{1,9})?", value):
            kept[name] = float(value)
        elif name == "priority" and re.fullmatch(r"-?\d{1,6}", value):
            kept[name] = int(value)
        elif name == "priority" and WORD.fullmatch(value):
            kept[name] = value
    return kept


def _stasis_start(book: Book, message: Json) -> Sequence[events.Event]:
    channel = message["channel"]
    ident: str = channel["id"]
    known = book.channels.get(ident)
    if isinstance(known, Leg):
        return _leg_entered(known)
    if known is not None:
        book.counts["duplicate:StasisStart"] += 1
        return ()
    if _happened_before_end(book, ident, message):
        return ()
    if LEG.fullmatch(ident):
        book.counts["orphan_leg"] += 1
        return ()
    replaced = message.get("replace_channel")
    if isinstance(replaced, dict) and _replace(book, replaced["id"], ident):
        return ()
    book.ended.pop(ident, None)
    return (arrival(book, channel, [arg for arg in message.get("args") or () if isinstance(arg, str)]),)


def _leg_entered(leg: Leg) -> Sequence[events.Event]:
    if leg.state != ASKED:
        return ()
    leg.state = ENTERED
    return (LegEntered(leg.call, leg.id),)


def _happened_before_end(book: Book, ident: str, message: Json) -> bool:
    """Whether this is about a visit whose end we have seen already (Asterisk's stamps sort as text)."""
    end = book.ended.get(ident)
    if end is None or str(message.get("timestamp", "")) > end:
        return False
    book.counts["late:StasisStart"] += 1
    return True


def _replace(book: Book, old: str, new: str) -> bool:
    """A masquerade put another channel into a caller's place."""
    known = book.channels.get(old)
    if not isinstance(known, Caller) or known.left:
        return False
    del book.channels[old]
    known.channel = new
    book.channels[new] = known
    return True


def _stasis_end(book: Book, message: Json) -> Sequence[events.Event]:
    return _gone(book, message, 0)


def _channel_destroyed(book: Book, message: Json) -> Sequence[events.Event]:
    return _gone(book, message, _cause(message))


def _gone(book: Book, message: Json, cause: int) -> Sequence[events.Event]:
    ident: str = message["channel"]["id"]
    known = book.channels.get(ident)
    stamp = str(message.get("timestamp", ""))
    if known is None:
        book.counts["unknown_channel"] += 1
        if message["type"] == "StasisEnd" and not LEG.fullmatch(ident):
            book.remember_end(ident, stamp)
        return ()
    if isinstance(known, Leg):
        return book.leg_ended(known, cause)
    out = book.caller_left(known, cause, elsewhere=message["type"] == "StasisEnd" and not known.cause)
    known.gone = True
    del book.channels[ident]
    book.remember_end(ident, stamp)
    return [*out, ChannelLeft(known.call)]


def _hangup_request(book: Book, message: Json) -> Sequence[events.Event]:
    known = book.channels.get(message["channel"]["id"])
    cause = 0 if message.get("soft") else _cause(message)
    if isinstance(known, Leg):
        known.cause = known.cause or cause
        return ()
    if known is None:
        book.counts["unknown_channel"] += 1
        return ()
    return book.caller_left(known, cause)


def _cause(message: Json) -> int:
    cause = message.get("cause")
    return cause if isinstance(cause, int) and 0 < cause < 128 else 0


def _state_change(book: Book, message: Json) -> Sequence[events.Event]:
    channel = message["channel"]
    known = book.channels.get(channel["id"])
    if isinstance(known, Leg):
        return _leg_state(known, channel["state"])
    if known is not None and channel["state"] == "Up":
        known.up = True
    return ()


def _dial(book: Book, message: Json) -> Sequence[events.Event]:
    known = book.channels.get(message["peer"]["id"])
    if not isinstance(known, Leg):
        return ()
    return _leg_state(known, _DIAL_STATES.get(message["dialstatus"], ""))


_DIAL_STATES = {"RINGING": "Ringing", "PROGRESS": "Ringing", "ANSWER": "Up"}


def _leg_state(leg: Leg, state: str) -> Sequence[events.Event]:
    if leg.ending:
        return ()
    if state == "Ringing" and leg.state < RINGING:
        leg.state, leg.rang = RINGING, True
        return (events.LegRinging(leg.call, leg.id),)
    if state == "Up" and leg.state < UP:
        leg.state = UP
        return (events.LegAnswered(leg.call, leg.id),)
    return ()


def _digit(book: Book, message: Json) -> Sequence[events.Event]:
    known = book.channels.get(message["channel"]["id"])
    digit = message["digit"]
    if not isinstance(known, Caller) or known.left:
        return ()
    stamp, length = message.get("timestamp"), message.get("duration_ms")
    if digit not in _DIGITS or f"{stamp} {digit} {length}" in known.digits:
        book.counts["ignored_digit"] += 1
        return ()
    if isinstance(stamp, str):
        known.digits.append(f"{stamp} {digit} {length}")
    at = _time(stamp)
    if at and isinstance(length, int) and not known.keys.counts(digit, length / 1000, at, playing=bool(known.playing)):
        book.counts["repeated_digit"] += 1
        return ()
    return (events.DigitPressed(known.call, digit),)


def _time(stamp: object) -> float:
    """One of Asterisk's timestamps in seconds since the epoch; 0.0 for what is none."""
    try:
        return datetime.fromisoformat(stamp).timestamp() if isinstance(stamp, str) else 0.0
    except ValueError:
        return 0.0


def _playback_finished(book: Book, message: Json) -> Sequence[events.Event]:
    playback = message["playback"]
    caller = book.playbacks.get(playback["id"])
    if caller is not None:
        caller.keys.prompt_ended(_time(message.get("timestamp")))
    return book.playback_ended(playback["id"], playback.get("state") != "failed")


def _recording_finished(book: Book, message: Json) -> Sequence[events.Event]:
    told = message["recording"]
    seconds = told.get("duration")
    return book.recording_ended(told["name"], "", seconds if isinstance(seconds, int) and seconds >= 0 else -1)


def _recording_failed(book: Book, message: Json) -> Sequence[events.Event]:
    return book.recording_ended(message["recording"]["name"], "failed")


def _nothing(book: Book, message: Json) -> Sequence[events.Event]:
    return ()


HANDLERS: dict[str, Callable[[Book, Json], Sequence[events.Event]]] = {
    "StasisStart": _stasis_start,
    "StasisEnd": _stasis_end,
    "ChannelDestroyed": _channel_destroyed,
    "ChannelHangupRequest": _hangup_request,
    "ChannelStateChange": _state_change,
    "ChannelDtmfReceived": _digit,
    "Dial": _dial,
    "PlaybackFinished": _playback_finished,
    "RecordingStarted": _nothing,
    "RecordingFinished": _recording_finished,
    "RecordingFailed": _recording_failed,
    **dict.fromkeys(UNWANTED, _nothing),
}
