"""Which of Asterisk's channels is which: the only map between them and our calls, legs, playbacks and recordings. Pure.

It is also what makes events idempotent: a caller leaves once, a leg only moves forward (asked, entered, dialled, ringing, up,
ended), a playback and a recording end once; whatever comes twice, late or out of order changes nothing and yields nothing.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from app.core import events
from app.core.view import LiveCall
from app.pbx.keys import Keys

NORMAL, NO_ANSWER, UNREACHABLE, CANCELLED, TEMPORARY = 16, 19, 20, 26, 41
ASKED, ENTERED, DIALLED, RINGING, UP, ENDED = range(6)  # how far a leg has come
_STATE_WORDS = {ASKED: "created", ENTERED: "created", DIALLED: "created", RINGING: "ringing", UP: "up"}
_FORGOTTEN = 8192  # channels whose end is remembered, against late duplicates

LEG = re.compile(r"([0-9a-f]{32})-leg\d{1,9}")
MEDIA = re.compile(r"[0-9a-f]{32}-leg[1-9]\d{8}")
"""A leg that is no telephone but a bot's sound; its number and its bridge's are beyond those that the core gives."""
BRIDGE = re.compile(r"([0-9a-f]{32})-br\d{1,9}")
PLAYBACK = re.compile(r"([0-9a-f]{32})-pb\d{1,9}")
RECORDING = re.compile(r"([0-9a-f]{32})-rc\d{1,9}")


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
    Asterisk has; `recordings` are those whose end is awaited, `begins` the one that begins when nothing plays any more; `cause` is the one
    with which we asked for the end. `alone` says that its legs are there without a caller, `hushed` that no leg's ringing makes a tone.
    """

    call: str
    channel: str
    up: bool = False
    left: bool = False
    gone: bool = False
    alone: bool = False
    hushed: bool = False
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
    begins: str = ""

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

    def inferred(self, event: events.Event) -> None:
        """Something that nobody saw must have happened: what it means here."""
        if isinstance(event, events.CallerLeft):
            caller = self.calls[event.call]
            self.caller_left(caller, event.cause)
            self.channels.pop(caller.channel, None)
            caller.gone = True
        elif isinstance(event, events.LegEnded):
            self.leg_ended(self.calls[event.call].legs[event.leg], event.cause)
        elif isinstance(event, events.LegAnswered | events.LegRinging):
            leg = self.calls[event.call].legs[event.leg]
            leg.state = UP if isinstance(event, events.LegAnswered) else RINGING
            leg.rang = True
        elif isinstance(event, events.PlaybackEnded):
            self.playback_ended(event.playback, event.ok)
        elif isinstance(event, events.RecordingEnded):
            self.recording_ended(event.recording)
        elif isinstance(event, events.CallFound):
            self.calls[event.call].up = event.up

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
