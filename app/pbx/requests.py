"""What is asked of Asterisk: the core's commands, and the adapter's own questions, as requests. Pure.

Nothing from outside gets into a path or a dial string unless it has the shape that it must have.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from app.core import commands
from app.pbx.ari import Request
from app.pbx.book import BRIDGE, LEG, NORMAL, PLAYBACK, RECORDING, Caller, Leg
from app.pbx.translate import UNWANTED, WORD, clean

MUSIC = "callwright"
_ENDPOINT = re.compile(r"[A-Za-z0-9_-]{1,40}")
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


class BadCommand(ValueError):
    """A command holds something that must not reach Asterisk; says what."""


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

    Its ringing must not reach a caller, or it would end the music in the bridge: it is dropped here, unless the caller is deaf
    to it (`Tones`). An agent who waits there for a customer is to hear it, and sees whom the call is for.
    """
    target = (command.trunk, command.number) if isinstance(command, commands.RingOutside) else (command.endpoint,)
    query = (
        ("endpoint", dial_string(*target)),
        ("app", app),
        ("appArgs", "leg"),
        ("channelId", _ours(LEG, command.leg)),
        *(() if caller.left else (("originator", caller.channel),)),
    )
    heard = caller.hushed or (caller.left and isinstance(command, commands.RingOutside))
    variables = {} if heard else {"FRAME_DROP(RX)": "RINGING"}
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
    return f"/media/{ident}" if isinstance(ident, str) and WORD.fullmatch(ident) else ""


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
    """Play media, all of it under one id; `media` has no texts left."""
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


def stored_recordings() -> Request:
    """All recordings that Asterisk has stored, ours and others'."""
    return Request("GET", "recordings/stored")


def recording_file(recording: str) -> str:
    """The path of a stored recording's own bytes."""
    return f"recordings/stored/{_ours(RECORDING, recording)}/file"


def drop_recording(recording: str) -> Request:
    """Delete a stored recording."""
    return Request("DELETE", f"recordings/stored/{_ours(RECORDING, recording)}")


def start_music(caller: Caller, music: str = "default") -> Request:
    """Music on hold for one channel; `default` is the class that our configuration ships."""
    if not WORD.fullmatch(music):
        raise BadCommand("a music class is letters, digits, - and _, at most 40")
    return Request("POST", f"channels/{caller.channel}/moh", (("mohClass", MUSIC if music == "default" else music),))


def stop_music(caller: Caller) -> Request:
    """No more music on hold for one channel; harmless when there is none."""
    return Request("DELETE", f"channels/{caller.channel}/moh")


def hang_up(channel: str, cause: int) -> Request:
    """End a channel with a Q.850 cause."""
    return Request("DELETE", f"channels/{channel}", (("reason_code", str(cause if 0 < cause < 128 else NORMAL)),))


def place(command: commands.MarkPlace) -> dict[str, str]:
    """Variables with the caller's place in the line, where the fallback and `callwright-return` find it. Whole seconds of credit."""
    return {"CW_QUEUE": command.queue, "CW_FIRST_ENQUEUE": f"{command.first:.6f}", "CW_PRIORITY": str(round(command.priority))}


def variables(caller: Caller, values: Mapping[str, str], country: str = "", look_again: bool = False) -> Request:
    """Variables of ours on the caller's channel; with a country, its tones from now on.

    `look_again` lets Asterisk look again at how two who talk are bridged, which it does when somebody joins, and when something that
    listens on a channel comes or goes: so something comes and goes at once.
    """
    for name in values:
        if not _VARIABLE.fullmatch(name):
            raise BadCommand("a channel variable of ours is CW_ and capitals, digits and _")
    those = {name: clean(value, 255) for name, value in values.items()}
    if country:
        those["CHANNEL(tonezone)"] = country
    if look_again:
        those |= {"TALK_DETECT(set)": "", "TALK_DETECT(remove)": ""}
    return Request("POST", f"channels/{caller.channel}/variables", body={"variables": those})


def release(caller: Caller, command: commands.Release, country: str = "") -> list[Request]:
    """Variables of ours, and the tones of a country where one is given; then back into the dialplan."""
    if not WORD.fullmatch(command.context):
        raise BadCommand("a context is letters, digits, - and _, at most 40")
    out = [variables(caller, command.variables, country)] if command.variables or country else []
    query = (("context", command.context), ("extension", "s"), ("priority", "1"))
    out.append(Request("POST", f"channels/{caller.channel}/continue", query))
    return out


def _ours(shape: re.Pattern[str], ident: str) -> str:
    if not shape.fullmatch(ident):
        raise BadCommand("an id is not of our making")
    return ident
