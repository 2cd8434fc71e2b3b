"""What must have happened while we could not see: the difference between what we believe and what Asterisk shows. Pure.

The adapter takes a `Snapshot` after every connect, while the events that come in wait; `reconcile` makes it into the events
that the core missed, in the order in which it can take them: first that the line is back, then for each call what happened
to its legs and its caller, then how it was found, then what happened to its playbacks (what follows from their end needs a channel that
is as it was ordered: answered), and last the callers whose arrival nobody saw.

| found | means |
|---|---|
| the caller's channel gone, or in our application no more | `CallerLeft` |
| a leg gone | `LegEnded` |
| a leg ringing, that was not | `LegRinging` |
| a leg up, that was not | `LegAnswered` |
| a playback gone | `PlaybackEnded`, `unseen` |
| a recording that is not live | `RecordingEnded`: it is stored, or never was |
| a caller in our application whom nobody knows | `CallArrived` |
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, TypeAlias

from app.core import events
from app.core.view import LiveCall
from app.pbx.book import BRIDGE, LEG, MEDIA, NORMAL, TEMPORARY

Json: TypeAlias = Mapping[str, Any]

NEVER_WAS = -1
"""The cause of a leg that was ordered and is not there: nobody's phone rang."""
UNSEEN = -2
"""The cause of a leg that rang and is not there: answered meanwhile or not, and ended by whom, cannot be known."""


@dataclass(frozen=True, slots=True)
class Found:
    """One channel: `state` in Asterisk's words, `ours` whether it is in our application now, `dialled` whether it was seen dialled."""

    state: str
    ours: bool
    args: tuple[str, ...] = ()
    dialled: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """Asterisk at one moment. `bridges` is bridge -> channels in it, `playbacks` those alive of the ones we asked for.

    `recordings` has those of ours that Asterisk knows: `live` or `stored`.
    """

    restarted: bool = False
    channels: Mapping[str, Found] = field(default_factory=dict)
    bridges: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    playbacks: frozenset[str] = frozenset()
    arrivals: tuple[events.CallArrived, ...] = ()
    recordings: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, str] = field(init=False)

    def __post_init__(self) -> None:
        """`where` is channel -> the bridge it is in."""
        object.__setattr__(self, "where", {channel: bridge for bridge, members in self.bridges.items() for channel in members})


def reconcile(view: Iterable[LiveCall], found: Snapshot) -> list[events.Event]:
    """The events that bring a core with this view of its calls to what was found."""
    out: list[events.Event] = [events.PbxBack(found.restarted)]
    for live in view:
        out += _one_call(live, found)
    out += found.arrivals
    return out


def _one_call(live: LiveCall, found: Snapshot) -> list[events.Event]:
    out: list[events.Event] = []
    channel = found.channels.get(live.channel)
    here = live.caller and channel is not None and channel.ours
    alive: dict[str, str] = {}
    for leg, believed in live.legs.items():
        out += _one_leg(live.call, leg, believed, found, alive)
    if live.caller and not here:
        out.append(events.CallerLeft(live.call, _lost_cause(found, NORMAL), elsewhere=channel is not None))
    if here and channel is not None:
        bridge = found.where.get(live.channel, "")
        members = found.bridges.get(bridge, ())
        out.append(
            events.CallFound(
                live.call,
                up=channel.state == "Up",
                bridge=bridge,
                legs=alive,
                bridged=tuple(leg for leg in alive if leg in members),
                playbacks=tuple(each for each in live.playbacks if each in found.playbacks),
            )
        )
        out += [events.PlaybackEnded(live.call, each, unseen=True) for each in live.playbacks if each not in found.playbacks]
    for each in live.recordings:
        state = found.recordings.get(each, "")
        if state != "live":
            out.append(events.RecordingEnded(live.call, each, "" if state == "stored" else "never_was"))
    return out


def _one_leg(call: str, leg: str, believed: str, found: Snapshot, alive: dict[str, str]) -> list[events.Event]:
    channel = found.channels.get(leg)
    if channel is None or not channel.ours:
        best = {"created": NEVER_WAS, "ringing": UNSEEN}.get(believed, NORMAL)
        return [events.LegEnded(call, leg, _lost_cause(found, best))]
    state = {"Up": "up", "Ringing": "ringing"}.get(channel.state, "down")
    alive[leg] = state
    if state == "up" and believed != "up":
        return [events.LegAnswered(call, leg)]
    if state == "ringing" and believed == "created":
        return [events.LegRinging(call, leg)]
    return []


def _lost_cause(found: Snapshot, otherwise: int) -> int:
    return TEMPORARY if found.restarted else otherwise


# ---- reading what Asterisk lists ------------------------------------------------------------------------------------------


def read_channels(app: str, listed: object) -> dict[str, Found]:
    """`GET /channels` as id -> `Found`; what has no id is left out."""
    out: dict[str, Found] = {}
    for channel in listed if isinstance(listed, list) else ():
        if not isinstance(channel, dict) or not isinstance(channel.get("id"), str):
            continue
        plan = channel.get("dialplan") or {}
        given = str(plan.get("app_data", "")).split(",")
        connected = channel.get("connected") or {}
        out[channel["id"]] = Found(
            str(channel.get("state", "")),
            plan.get("app_name") == "Stasis" and given[0] == app,
            tuple(given[1:]),
            channel.get("state") != "Down" or bool(connected.get("number") or connected.get("name")),
        )
    return out


def read_bridges(app: str, listed: object) -> dict[str, tuple[str, ...]]:
    """`GET /bridges` as id -> channels, of the bridges that this application made."""
    return {
        bridge["id"]: tuple(bridge.get("channels") or ())
        for bridge in (listed if isinstance(listed, list) else ())
        if isinstance(bridge, dict) and isinstance(bridge.get("id"), str) and bridge.get("name") == app
    }


def orphans(known: Iterable[LiveCall], found: Snapshot) -> tuple[list[str], list[str]]:
    """Legs and bridges of our making that belong to no live call: channels first to be hung up, then bridges to be destroyed."""
    calls = {live.call for live in known}
    legs = {leg for live in known for leg in live.legs}
    stray_legs = [each for each, channel in found.channels.items() if _of_ours(each, channel) and each not in legs]
    stray_bridges = [each for each in found.bridges if (made := BRIDGE.fullmatch(each)) and made[1] not in calls]
    return stray_legs, stray_bridges


def _of_ours(ident: str, channel: Found) -> bool:
    """A leg; or a channel for a bot that nobody has connected to yet: it is in no application, and would wait for ever."""
    return LEG.fullmatch(ident) is not None and (channel.ours or (channel.state == "Down" and MEDIA.fullmatch(ident) is not None))


_BEGAN = re.compile(r"(\d{9,11})\.\d+$")


def startup_seconds(info: object) -> float:
    """When Asterisk started, in seconds since the epoch, out of `GET /asterisk/info`; 0.0 when it does not say."""
    status = info.get("status") if isinstance(info, dict) else None
    text = status.get("startup_time") if isinstance(status, dict) else None
    if not isinstance(text, str):
        return 0.0
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z").timestamp()
    except ValueError:
        return 0.0


def older_than(view: Iterable[LiveCall], startup: float) -> bool:
    """Whether this Asterisk is younger than every caller's channel we know of (an id begins with the second it was made in)."""
    began = [int(stamp[1]) for live in view if live.caller and (stamp := _BEGAN.search(live.channel))]
    return bool(began) and max(began) < int(startup)
