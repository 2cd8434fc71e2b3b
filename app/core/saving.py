"""A call and the whole centre as plain JSON values, and back: the live rows of the store.

A call's row holds what is believed of it now, its deadlines, and the state at the entry of its open step. Restoring drives
that step again with the events journaled since. The row is not written for events of which nothing comes (a key of several), so it says
how many there were by then (`fed`) and where the step stood (`check`). Where the flow's file has changed meanwhile, or the step
does not come out there, the call takes its flow's error exit instead of guessing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from typing import Any

from app.core import driving, facts
from app.core import events as ev
from app.core.book import NO_FLOW
from app.core.call import DIALLING, FLOW, OFFERED, QUEUED, TRANSFER, Call, Offer, Place
from app.core.center import Center
from app.core.far import Far
from app.core.offers import waiting_of

_NOT_PLAIN = {
    *("flow", "place", "offer", "far", "heard", "vars", "newest", "keys", "wait", "deadline", "play", "asking", "entry", "now"),
    *("timed", "secrets", "script", "out", "muted"),
}
_PLAIN = tuple(f.name for f in fields(Call) if f.name not in _NOT_PLAIN and not f.name.startswith("_"))
_FLOW_OWNS = (
    *("step", "steps", "minted", "waits", "events", "swallow", "swallow_until"),
    *("playing", "played_at", "unsure", "unsent", "recording", "asked_until"),
)
_CENTRE_OWNS = tuple(name for name in _PLAIN if name not in _FLOW_OWNS)
_PLACE, _OFFER, _FAR = (tuple(f.name for f in fields(kind)) for kind in (Place, Offer, Far))
_centre_owns, _of_place = attrgetter(*_CENTRE_OWNS), attrgetter(*_PLACE)
_of_offer, _of_far = attrgetter(*_OFFER), attrgetter(*_FAR)
FED = (
    ev.DigitPressed,
    ev.SecretKey,
    ev.PlaybackEnded,
    ev.ActionSucceeded,
    ev.ActionFailed,
    ev.MailSent,
    ev.MailFailed,
    ev.SmsSent,
    ev.SmsFailed,
    ev.RecordingEnded,
    ev.RecordingKept,
    ev.RecordingLost,
    ev.BotBegan,
    ev.BotEnded,
    ev.SessionWritten,
    facts.Outcome,
    facts.TakenOver,
)
"""What reaches a call's flow, besides the deadlines of its waits."""
OUTLIVING = ("wrap_up", "will", "booking", "again", "closing")
"""Deadlines that a call may have in any phase."""


def dump_call(center: Center, call: Call) -> dict[str, Any]:
    """One call's live row."""
    place, offer, far = call.place, call.offer, call.far
    return {
        **dict(zip(_CENTRE_OWNS, _centre_owns(call), strict=True)),
        "flow": call.flow.name,
        "version": call.flow.version,
        "place": None if place is None else dict(zip(_PLACE, _of_place(place), strict=True)),
        "offer": None if offer is None else dict(zip(_OFFER, _of_offer(offer), strict=True)),
        "far": None if far is None else dict(zip(_FAR, _of_far(far), strict=True)),
        "entry": call.entry,
        "fed": call.events,
        "check": call.standing,
        "timers": center.timers.of(call.id),
    }


def history_row(call: Call) -> dict[str, Any]:
    """What stays of a call that is over."""
    return {
        "call": call.id,
        "flow": call.flow.name,
        "version": call.flow.version,
        "process": call.flow.program.process,
        "queue": call.place.queue if call.place else "",
        "agent": call.served_by,
        "outcome": call.outcome,
        "cause": call.cause,
        "arrived": call.arrived,
        "answered": call.answered,
        "connected": call.connected,
        "ended": call.ended,
        "waited": call.waited,
        "talked": call.talked,
        "wrap_up": call.wrapped,
        "disposition": call.disposition,
        "remarks": call.remarks,
        "ani": call.ani,
        "dnis": call.dnis,
        "uniqueid": call.uniqueid,
        "linkedid": call.linkedid,
        "contact": str(call.vars.get("contact.id", "")),
    }


def dump_agent(center: Center, agent: str) -> dict[str, Any]:
    """One agent's row: the ACD's, and when a desk that is away is waited for no longer."""
    return {**center.acd.dump_agent(agent), "desk_until": center.timers.of(f"agent:{agent}").get("desk")}


def restore(
    center: Center,
    live: Mapping[str, Mapping[str, Any]],
    agents: Mapping[str, Mapping[str, Any]],
    journal: Mapping[str, Iterable[tuple[float, Any]]],
    now: float,
) -> list[tuple[str, str]]:
    """Bring the centre back from its rows, in any order. `journal` has for each call its (time, event or fact) pairs in order.

    Gives the calls that could not be brought back to their step, with the reason; the engine sends those to their error exit.
    One that waits for an agent or talks goes on doing so all the same, and takes that exit afterwards.
    """
    for agent, row in agents.items():
        if agent in center.book.agents:
            center.acd.load_agent(agent, {**row, "work": [work for work in row["work"] if _in_hand(live.get(work["interaction"]), agent)]})
            if row.get("desk_until") is not None:
                center.timers.set(f"agent:{agent}", "desk", row["desk_until"])
    trouble = []
    for call_id, row in sorted(live.items(), key=lambda item: float(item[1]["arrived"])):
        call, problem = _restore_call(center, row, [pair for pair in journal.get(call_id, ()) if _fed(pair[1])])
        problem = _files_changed(center, call) or problem
        if not (call.caller or call.wrapping or call.will or call.booking):
            continue
        center.calls[call_id] = call
        for name, at in row["timers"].items():
            if not name.startswith("wait ") and (name in OUTLIVING or call.phase in (QUEUED, OFFERED, TRANSFER, DIALLING)):
                center.timers.set(call_id, name, at)
        center.set_wait(call)
        if problem and call.phase == FLOW and call.caller and not call.leaving:
            trouble.append((call_id, problem))
    queued = [call for call in center.calls.values() if call.phase in (QUEUED, OFFERED)]
    center.acd.restore([waiting_of(call) for call in queued], [call.id for call in queued if call.phase == OFFERED])
    return trouble


def _in_hand(row: Mapping[str, Any] | None, agent: str) -> bool:
    """Whether a call's row agrees that the agent has it in hand."""
    return row is not None and any(row[part] is not None and row[part][key] == agent for part, key in (("offer", "agent"), ("far", "to")))


def _files_changed(center: Center, call: Call) -> str:
    """A call goes on without the queue or the agent that the project's files do not have any more; says what is wrong with it then."""
    if call.offer and call.offer.agent not in center.book.agents:
        if call.phase == OFFERED:
            call.offer, call.phase = None, QUEUED
        elif call.wrapping:
            call.offer, call.wrapping = None, False
    if call.place and call.place.queue not in center.book.queues and call.phase in (QUEUED, OFFERED):
        if call.offer:
            center.acd.work(call.offer.agent, call.id, "withdraw", call.now)
        call.offer, call.phase = None, FLOW
        return f"there is no queue {call.place.queue} any more"
    return ""


def _fed(thing: Any) -> bool:
    return isinstance(thing, FED) or (isinstance(thing, ev.TimerFired) and thing.timer.startswith("wait "))


def _drive_to_where_it_stood(call: Call, row: Mapping[str, Any], fed: list[tuple[float, Any]]) -> str:
    """Drive the open step again as far as the row knows, and on with what came afterwards; says what is wrong with the outcome."""
    driving.drive_again(call, row["entry"], fed[row["entry"]["events"] : row["fed"]])
    if call.standing != row["check"]:
        return f"the step came out at {call.standing}, not at {row['check']}"
    driving.drive_on(call, fed[row["fed"] :])
    step, steps, _, minted = row["check"]
    if (call.step, call.steps, call.minted) != (step, steps, minted):
        return f"the step went on to {call.standing} from {row['check']}, where it only waited"
    return ""


def _restore_call(center: Center, row: Mapping[str, Any], fed: list[tuple[float, Any]]) -> tuple[Call, str]:
    flow = center.book.version(row["flow"], row["version"])
    problem = "" if flow else f"version {row['version']} of flow {row['flow']} is not there any more"
    if flow is None:
        flow = next((f for f in center.book.flows.values() if f.program.flow == row["flow"]), None) or NO_FLOW
    call = Call(row["id"], row["channel"], flow)
    entry = row["entry"]
    flowing = bool(entry and row["caller"] and not row["leaving"])
    if not problem and flowing:
        try:
            problem = _drive_to_where_it_stood(call, row, fed)
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
    if problem or not flowing:
        driving.stop(call)
        if entry:
            driving.stand_at(call, entry)
        call.step, call.steps, call.waits, call.minted = row["check"]
        call.events = len(fed) if row["caller"] else row["fed"]
    for name in _CENTRE_OWNS:
        setattr(call, name, row.get(name, getattr(call, name)))
    call.place = Place(**row["place"]) if row["place"] else None
    call.offer = Offer(**row["offer"]) if row["offer"] else None
    call.far = Far(**row["far"]) if row.get("far") else None
    return call, problem
