"""The dialect: ARI's JSON into events of the core, commands of the core into requests. Pure: no I/O, no clock, no chance.

`Book` is the only map between Asterisk's channels and our calls, legs and playbacks; it is also what makes events idempotent.
A caller leaves once, a leg only moves forward (asked, entered, dialled, ringing, up, ended), a playback ends once, a digit
counts once; whatever comes twice, late or out of order changes nothing and yields nothing. Each handler reads one type of
ARI event; types without a handler, events about channels that are not ours and events that lack a field are counted and ignored.

Asterisk says of an inbound channel that was hung up by a request `soft: true` and the flag of that request as its "cause"; only
the cause of a hang-up without `soft`, and that of `ChannelDestroyed`, are Q.850.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from app.core import commands, events
from app.core.frozen import frozen
from app.core.view import LiveCall
from app.pbx.ari import Request
from app.pbx.keys import Keys

Json: TypeAlias = Mapping[str, Any]

NORMAL, BUSY, NO_ANSWER, UNREACHABLE, DECLINED, CANCELLED, TEMPORARY = 16, 17, 19, 20, 21, 26, 41
MUSIC = "callwright"
ASKED, ENTERED, DIALLED, RINGING, UP, ENDED = range(6)  # how far a leg has come

LEG = re.compile(r"([0-9a-f]{32})-leg\d{1,9}")
MEDIA = re.compile(r"[0-9a-f]{32}-leg[1-9]\d{8}")
"""A leg that is no telephone but a bot's sound; its number and its bridge's are beyond those that the core gives."""
BRIDGE = re.compile(r"([0-9a-f]{32})-br\d{1,9}")
PLAYBACK = re.compile(r"([0-9a-f]{32})-pb\d{1,9}")
RECORDING = re.compile(r"([0-9a-f]{32})-rc\d{1,9}")
_ENDPOINT = re.compile(r"[A-Za-z0-9_-]{1,40}")
_WORD = re.compile(r"[A-Za-z0-9_-]{1,40}")
_NUMBER = re.compile(r"\+?[0-9*#]{1,40}")
_OUTSIDE = re.compile(r"\+?[0-9]{2,20}")
_LANGUAGE = re.compile(r"[A-Za-z]{2,3}([_-][A-Za-z0-9]{2,8})?")
_EPOCH = re.compile(r"\d{9,11}\.\d{1,9}")
_VARIABLE = re.compile(r"CW_[A-Z0-9_]{1,40}")
_MEDIA = re.compile(
    r"(sound:[A-Za-z0-9_./-]{1,255}|digits:[0-9*#]{1,80}|number:-?\d{1,15}|characters:[A-Za-z0-9*#@. +/-]{1,80}"
    r"|recording:[0-9a-f]{32}-rc\d{1,9})"
)
_SPOKEN = {
    "*": "digits/star",
    "#": "digits/pound",
    "@": "letters/at",
    ".": "letters/dot",
    "+": "letters/plus",
    "/": "letters/slash",
    "-": "letters/dash",
    " ": "letters/space",
}
_UNSAFE = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]")
_DIGITS = frozenset("0123456789*#ABCD")
_FORGOTTEN = 8192  # channels whose end is remembered, against late duplicates

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


class BadCommand(ValueError):
    """A command holds something that must not reach Asterisk; says what."""


@frozen
class LegEntered(events.CallEvent):
    """A leg of ours is in our application and can be joined and dialled. For the adapter alone; never posted."""

    leg: str


@frozen
class ChannelLeft(events.CallEvent):
    """The caller's channel is out of our application and of its bridge. For the adapter alone; never posted."""


@dataclass(slots=True, eq=False)
class Leg:
    """One of our channels to an agent. `ending` is the cause with which we asked for its end, or 0; `cause` as Asterisk gave it."""

    id: str
    call: str
    bridge: str
    seconds: float = 0.0
    state: int = ASKED
    rang: bool = False
    joined: bool = False
    ending: int = 0
    cause: int = 0


@dataclass(slots=True, eq=False)
class Caller:
    """One call: its caller's channel, its legs, and what plays.

    `left` is what the core was told, `gone` that the channel is out of our application. `bridge` is the bridge the caller is in,
    `joins` the one to be joined when nothing plays any more, `bridges` those we made; `playbacks` are awaited, `playing` those that
    Asterisk has; `recordings` are those whose end is awaited, `cause` is the one with which we asked for the end. `alone` says that its
    legs are there without a caller.
    """

    call: str
    channel: str
    up: bool = False
    left: bool = False
    gone: bool = False
    alone: bool = False
    bridge: str = ""
    joins: str = ""
    cause: int = 0
    digits: deque[str] = field(default_factory=lambda: deque(maxlen=16))
    keys: Keys = field(default_factory=Keys)
    legs: dict[str, Leg] = field(default_factory=dict)
    bridges: set[str] = field(default_factory=set)
    playbacks: set[str] = field(default_factory=set)
    playing: set[str] = field(default_factory=set)
    recordings: set[str] = field(default_factory=set)

    @property
    def deserted(self) -> bool:
        """The caller has left, and with the caller the reason for every leg."""
        return self.left and not self.alone

    @property
    def over(self) -> bool:
        """Nothing of the call is left in Asterisk but a bridge."""
        return self.gone and not self.legs


class Book:
    """All calls of ours, by call, by channel and by playback. `counts` says what was ignored, and why."""

    def __init__(self, app: str, mint: Callable[[], str]) -> None:
        self.app = app
        self.mint = mint
        self.calls: dict[str, Caller] = {}
        self.channels: dict[str, Caller | Leg] = {}
        self.playbacks: dict[str, Caller] = {}
        self.recordings: dict[str, Caller] = {}
        self.ended: dict[str, str] = {}
        self.counts: Counter[str] = Counter()

    # ---- taking on and letting go --------------------------------------------------------------------------------------

    def adopt(self, live: LiveCall) -> None:
        """Take on a call that an earlier process left; one that is known already stays as it is. Its bridge may never have been made."""
        if live.call in self.calls or not (live.caller or live.legs):
            return
        caller = Caller(live.call, live.channel, up=live.up, left=not live.caller, gone=not live.caller, alone=live.alone)
        self.calls[live.call] = caller
        if live.caller:
            self.channels[live.channel] = caller
            for playback in live.playbacks:
                self.add_playback(caller, playback)
                caller.playing.add(playback)
            for recording in live.recordings:
                self.add_recording(caller, recording)
        for leg, state in live.legs.items():
            known = self.add_leg(caller, leg, live.bridge, 0.0)
            known.state = {"ringing": RINGING, "up": UP}.get(state, ASKED)
            known.rang = known.state >= RINGING

    def add_caller(self, call: str, channel: str, up: bool) -> Caller:
        """A new call."""
        caller = Caller(call, channel, up=up)
        self.calls[call] = caller
        self.channels[channel] = caller
        return caller

    def alone(self, call: str) -> Caller:
        """A call that is to have legs without a caller; new, unless something of it is still there."""
        caller = self.calls.setdefault(call, Caller(call, "", left=True, gone=True))
        caller.alone = caller.left
        return caller

    def add_leg(self, caller: Caller, leg: str, bridge: str, seconds: float) -> Leg:
        """A new leg, before anything is asked of Asterisk."""
        known = Leg(leg, caller.call, bridge, seconds)
        caller.legs[leg] = known
        self.channels[leg] = known
        return known

    def add_playback(self, caller: Caller, playback: str) -> None:
        """A playback whose end is awaited."""
        caller.playbacks.add(playback)
        self.playbacks[playback] = caller

    def add_recording(self, caller: Caller, recording: str) -> None:
        """A recording whose end is awaited, also after that of its caller."""
        caller.recordings.add(recording)
        self.recordings[recording] = caller

    def recording_ended(self, recording: str, reason: str = "", seconds: int = -1) -> list[events.Event]:
        """The recording is over: one `RecordingEnded`."""
        caller = self.recordings.pop(recording, None)
        if caller is None:
            return []
        caller.recordings.discard(recording)
        return [events.RecordingEnded(caller.call, recording, reason, seconds)]

    def caller_left(self, caller: Caller, cause: int, elsewhere: bool = False) -> list[events.Event]:
        """The caller is gone: one `CallerLeft`, and nothing more about the caller after it."""
        if caller.left:
            return []
        caller.left = True
        caller.bridge = ""
        for playback in caller.playbacks:
            self.playbacks.pop(playback, None)
        caller.playbacks.clear()
        caller.playing.clear()
        return [events.CallerLeft(caller.call, caller.cause or cause or NORMAL, elsewhere)]

    def leg_ended(self, leg: Leg, cause: int) -> list[events.Event]:
        """The leg is gone: one `LegEnded`."""
        if leg.state == ENDED:
            return []
        answered = leg.state == UP
        leg.state = ENDED
        self.channels.pop(leg.id, None)
        caller = self.calls.get(leg.call)
        if caller is not None:
            caller.legs.pop(leg.id, None)
        return [events.LegEnded(leg.call, leg.id, _leg_cause(leg, answered, cause))]

    def playback_ended(self, playback: str, ok: bool) -> list[events.Event]:
        """The playback is over: one `PlaybackEnded`."""
        caller = self.playbacks.pop(playback, None)
        if caller is None:
            return []
        caller.playbacks.discard(playback)
        caller.playing.discard(playback)
        return [events.PlaybackEnded(caller.call, playback, ok)]

    def remember_end(self, channel: str, stamp: str) -> None:
        """Remember when a channel ended, for events that come late."""
        self.ended[channel] = stamp
        if len(self.ended) > _FORGOTTEN:
            del self.ended[next(iter(self.ended))]

    def forget(self, caller: Caller) -> None:
        """The call is over and nothing of it is left in Asterisk."""
        self.calls.pop(caller.call, None)
        for recording in caller.recordings:
            self.recordings.pop(recording, None)
        if self.channels.get(caller.channel) is caller:
            del self.channels[caller.channel]

    def live(self) -> list[LiveCall]:
        """The calls with a caller or a leg, as reconciliation wants them."""
        return [
            LiveCall(
                caller.call,
                caller.channel,
                caller.up,
                caller=not caller.left,
                bridge=caller.bridge,
                legs={leg.id: _STATE_WORDS[leg.state] for leg in caller.legs.values()},
                playbacks=tuple(sorted(caller.playbacks)),
                recordings=tuple(sorted(caller.recordings)),
            )
            for caller in self.calls.values()
            if not caller.over
        ]


_STATE_WORDS = {ASKED: "created", ENTERED: "created", DIALLED: "created", RINGING: "ringing", UP: "up"}


def _leg_cause(leg: Leg, answered: bool, cause: int) -> int:
    """The cause of a leg's end: what we wanted, else what Asterisk said, else what it must have been."""
    if leg.ending:
        return NORMAL if answered and leg.ending == CANCELLED else leg.ending
    known = leg.cause or cause
    if answered:
        return known or NORMAL
    if known in (0, NO_ANSWER):
        return NO_ANSWER if leg.rang else UNREACHABLE
    return known


# ---- events in ----------------------------------------------------------------------------------------------------------


def translate(book: Book, message: Json) -> Sequence[events.Event]:
    """The events of the core that one ARI event amounts to: often none. Never raises."""
    kind = message.get("type")
    handler = HANDLERS.get(kind) if isinstance(kind, str) else None
    if handler is None:
        book.counts[f"unknown:{kind}" if isinstance(kind, str) and _WORD.fullmatch(kind) else "unknown"] += 1
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
        if name == "queue" and _WORD.fullmatch(value):
            kept[name] = value
        elif name == "first_enqueue" and re.fullmatch(r"\d{1,11}(\.\d{1,9})?", value):
            kept[name] = float(value)
        elif name == "priority" and re.fullmatch(r"-?\d{1,6}", value):
            kept[name] = int(value)
        elif name == "priority" and _WORD.fullmatch(value):
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


# ---- commands out -------------------------------------------------------------------------------------------------------


def dial_string(endpoint: str, number: str = "") -> str:
    """The one place where a dial string is built: a phone of ours, or a number through a trunk."""
    if not _ENDPOINT.fullmatch(endpoint):
        raise BadCommand("an endpoint's name is letters, digits, - and _, at most 40")
    if number and not _OUTSIDE.fullmatch(number):
        raise BadCommand("a number to dial is 2 to 20 digits, with a plus before them or not")
    return f"PJSIP/{number}@{endpoint}" if number else f"PJSIP/{endpoint}"


def subscribe(app: str, channels: Sequence[str]) -> Request:
    """Events of these channels for us, whatever subscription there was before."""
    return Request("POST", f"applications/{app}/subscription", (("eventSource", ",".join(f"channel:{each}" for each in channels)),))


def event_filter(app: str) -> Request:
    """Spare both sides the events that nobody reads."""
    return Request("PUT", f"applications/{app}/eventFilter", body={"disallowed": [{"type": kind} for kind in UNWANTED]})


def make_bridge(app: str, bridge: str) -> Request:
    """A mixing bridge with our id; 409 when it is there already. Its name says whose it is."""
    return Request("POST", f"bridges/{_ours(BRIDGE, bridge)}", (("type", "mixing"), ("name", app)))


def drop_bridge(bridge: str) -> Request:
    """Destroy a bridge."""
    return Request("DELETE", f"bridges/{_ours(BRIDGE, bridge)}")


def join(bridge: str, channel: str) -> Request:
    """Put a channel into a bridge. One that is in it already would leave it for a moment: ask the book first."""
    return Request("POST", f"bridges/{_ours(BRIDGE, bridge)}/addChannel", (("channel", channel),))


def leave(bridge: str, channel: str) -> Request:
    """Take a channel out of a bridge: in one it cannot be recorded."""
    return Request("POST", f"bridges/{_ours(BRIDGE, bridge)}/removeChannel", (("channel", channel),))


def create_leg(app: str, caller: Caller, command: commands.RingAgent | commands.RingOutside) -> Request:
    """A channel to the agent's phone, or through a trunk, in our application at once, not dialled yet.

    That its ringing is dropped is what keeps the music on in the bridge until the very answer, and after a leg that failed. An agent who
    waits there for a customer is to hear it, and sees whom the call is for.
    """
    target = (command.trunk, command.number) if isinstance(command, commands.RingOutside) else (command.endpoint,)
    query = (
        ("endpoint", dial_string(*target)),
        ("app", app),
        ("appArgs", "leg"),
        ("channelId", _ours(LEG, command.leg)),
        *(() if caller.left else (("originator", caller.channel),)),
    )
    variables = {} if caller.left and isinstance(command, commands.RingOutside) else {"FRAME_DROP(RX)": "RINGING"}
    if caller.left and isinstance(command, commands.RingAgent) and _OUTSIDE.fullmatch(command.ani):
        variables["CONNECTEDLINE(num,i)"] = command.ani
    return Request("POST", "channels/create", query, {"variables": variables})


def dial(caller: Caller, leg: Leg, seconds: float) -> Request:
    """Let the agent's phone ring, for whole seconds. Doing it twice would end the leg."""
    on_behalf_of = () if caller.left else (("caller", caller.channel),)
    return Request("POST", f"channels/{leg.id}/dial", (*on_behalf_of, ("timeout", str(max(1, -int(-seconds // 1))))))


def open_media(app: str, media: str) -> Request:
    """A channel whose sound goes over a websocket to whoever connects to `media_path`: 16 bit samples, 8000 a second."""
    query = (
        ("app", app),
        ("channelId", _ours(LEG, media)),
        ("external_host", "INCOMING"),
        ("transport", "websocket"),
        ("encapsulation", "none"),
        ("connection_type", "server"),
        ("format", "slin"),
    )
    return Request("POST", "channels/externalMedia", query)


def media_path(body: Any) -> str:
    """The path of the websocket of a channel that `open_media` made; "" where Asterisk did not tell."""
    told = body.get("channelvars") if isinstance(body, dict) else None
    ident = told.get("MEDIA_WEBSOCKET_CONNECTION_ID") if isinstance(told, dict) else None
    return f"/media/{ident}" if isinstance(ident, str) and _WORD.fullmatch(ident) else ""


def answered_at(leg: str) -> Request:
    """When a leg was answered, by Asterisk's call record: `{"value": epoch seconds with their fraction, or ""}`."""
    return Request("GET", f"channels/{_ours(LEG, leg)}/variable", (("variable", "CDR(answer,u)"),))


def read_answered_at(body: Any) -> float:
    """What comes of `answered_at`; 0.0 where the record does not say."""
    value = body.get("value") if isinstance(body, dict) else None
    return float(value) if isinstance(value, str) and _EPOCH.fullmatch(value) else 0.0


def answer(caller: Caller) -> Request:
    """Answer the caller."""
    return Request("POST", f"channels/{caller.channel}/answer")


def play(caller: Caller, command: commands.Play, media: Sequence[str]) -> Request:
    """Play media, all of it under one id; `media` has no `text:` left."""
    for item in media:
        if not _MEDIA.fullmatch(item):
            raise BadCommand("media is not one of sound:, digits:, number: and characters: with a plain value")
    if not media:
        raise BadCommand("no media to play")
    if not _LANGUAGE.fullmatch(command.language):
        raise BadCommand("the language is not a language code")
    query = (("media", ",".join(recording for item in media for recording in recordings(item))), ("lang", command.language))
    return Request("POST", f"channels/{caller.channel}/play/{_ours(PLAYBACK, command.playback)}", query)


def recordings(item: str) -> list[str]:
    """Digits and characters as the recordings of each: what Asterisk says by itself (`digits:`) cannot be stopped, these can."""
    scheme, _, text = item.partition(":")
    if scheme not in ("digits", "characters"):
        return [item]
    return [f"sound:{_SPOKEN.get(each) or ('digits/' if each.isdigit() else 'letters/') + each}" for each in text.lower()]


def stop_play(playback: str) -> Request:
    """Stop a playback."""
    return Request("DELETE", f"playbacks/{_ours(PLAYBACK, playback)}")


def look_at_playback(playback: str) -> Request:
    """Whether a playback is alive: 404 when it is not."""
    return Request("GET", f"playbacks/{_ours(PLAYBACK, playback)}")


def start_record(caller: Caller, command: commands.StartRecord) -> Request:
    """Record the caller after a beep, as a WAV file with our id; one of that name that is there is not written over (409)."""
    if command.terminator not in ("#", "*", "any", "none"):
        raise BadCommand("a recording ends by #, *, any key or none")
    query = (
        ("name", _ours(RECORDING, command.recording)),
        ("format", "wav"),
        ("maxDurationSeconds", str(max(1, int(command.seconds)))),
        ("maxSilenceSeconds", str(max(1, int(command.silence)))),
        ("ifExists", "fail"),
        ("beep", "true"),
        ("terminateOn", command.terminator),
    )
    return Request("POST", f"channels/{caller.channel}/record", query)


def stop_record(recording: str) -> Request:
    """End a recording, which is then stored."""
    return Request("POST", f"recordings/live/{_ours(RECORDING, recording)}/stop")


def look_at_recording(recording: str, where: str) -> Request:
    """Whether a recording is `live`, or `stored`: 404 when it is not."""
    return Request("GET", f"recordings/{where}/{_ours(RECORDING, recording)}")


def recording_file(recording: str) -> str:
    """The path of a stored recording's own bytes."""
    return f"recordings/stored/{_ours(RECORDING, recording)}/file"


def drop_recording(recording: str) -> Request:
    """Delete a stored recording."""
    return Request("DELETE", f"recordings/stored/{_ours(RECORDING, recording)}")


def start_music(caller: Caller, music: str = "default") -> Request:
    """Music on hold for one channel; `default` is the class that our configuration ships."""
    if not _WORD.fullmatch(music):
        raise BadCommand("a music class is letters, digits, - and _, at most 40")
    return Request("POST", f"channels/{caller.channel}/moh", (("mohClass", MUSIC if music == "default" else music),))


def stop_music(caller: Caller) -> Request:
    """No more music on hold for one channel; harmless when there is none."""
    return Request("DELETE", f"channels/{caller.channel}/moh")


def hang_up(channel: str, cause: int) -> Request:
    """End a channel with a Q.850 cause."""
    return Request("DELETE", f"channels/{channel}", (("reason_code", str(cause if 0 < cause < 128 else NORMAL)),))


def variables(caller: Caller, values: Mapping[str, str]) -> Request:
    """Variables of ours on the caller's channel."""
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise BadCommand("a channel variable of ours is CW_ and capitals, digits and _")
    body = {"variables": {name: clean(value, 255) for name, value in values.items()}}
    return Request("POST", f"channels/{caller.channel}/variables", body=body)


def mark_place(caller: Caller, command: commands.MarkPlace) -> Request:
    """The caller's place in the line, where the fallback and `callwright-return` find it. Whole seconds of credit."""
    place = {"CW_QUEUE": command.queue, "CW_FIRST_ENQUEUE": f"{command.first:.6f}", "CW_PRIORITY": str(round(command.priority))}
    return variables(caller, place)


def release(caller: Caller, command: commands.Release) -> list[Request]:
    """Variables of ours, and back into the dialplan."""
    if not _WORD.fullmatch(command.context):
        raise BadCommand("a context is letters, digits, - and _, at most 40")
    out = [variables(caller, command.variables)] if command.variables else []
    query = (("context", command.context), ("extension", "s"), ("priority", "1"))
    out.append(Request("POST", f"channels/{caller.channel}/continue", query))
    return out


def _ours(shape: re.Pattern[str], ident: str) -> str:
    if not shape.fullmatch(ident):
        raise BadCommand("an id is not of our making")
    return ident
