"""What the core tells others about itself: plain values, copied out, never a handle to its own state."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.core.call import DIALLING, OFFERED, TALKING, Call

if TYPE_CHECKING:
    from app.core.book import Book


@dataclass(frozen=True, slots=True)
class LiveCall:
    """What of a live call the PBX adapter has to look for when it reconciles.

    `legs` are ids of ours that the core believes alive, each with its state ("created", "ringing", "up"); `playbacks` those
    it waits for, `recordings` those under way; `bridge` the caller's bridge or "". `caller` is False once the caller has left
    (wrap-up goes on). `alone` says that its legs are to go on without a caller.
    """

    call: str
    channel: str
    up: bool
    caller: bool = True
    bridge: str = ""
    legs: dict[str, str] = field(default_factory=dict)
    playbacks: tuple[str, ...] = ()
    recordings: tuple[str, ...] = ()
    alone: bool = False


def live_view(call: Call) -> LiveCall:
    """What of one call the PBX adapter has to look for."""
    legs = {}
    if call.offer and call.offer.leg and call.phase in (OFFERED, DIALLING, TALKING):
        legs[call.offer.leg] = "up" if call.offer.answered else "ringing" if call.offer.ringing else "created"
    if call.far:
        legs[call.far.leg] = "up" if call.far.answered else "ringing" if call.far.ringing else "created"
    playing = (call.playing,) if call.playing and not call.leaving else ()
    recordings = (call.recording,) if call.recording and not call.leaving else ()
    alone = bool(call.booking) and not call.caller
    return LiveCall(call.id, call.channel, bool(call.answered), call.caller, call.bridge, legs, playing, recordings, alone)


def card_of(call: Call, book: Book) -> dict[str, Any]:
    """What the agent is shown of a call: the very record that the flow used."""
    place = call.place
    queue = book.queues.get(place.queue) if place else None
    contact = call.spaces.get("contact", {})
    return {
        "call": call.id,
        "queue": place.queue if place else "",
        "queue_title": (queue.title or queue.name) if queue else "",
        "skills": dict(place.skills) if place else {},
        "tier": contact.get("tier", ""),
        "caller": call.ani,
        "callback": call.booking.get("number", ""),
        "name": call.name,
        "contact": dict(contact) if contact.get("found") else {},
        "reference": (place.attach if place else {}).get("reference", ""),
        "attached": dict(place.attach) if place else {},
        "vars": dict(call.spaces.get("vars", {})),
        "first_enqueue": place.first if place else 0.0,
        "flow": call.flow.program.flow,
        "wrap_up": queue.wrap_up if queue else 0.0,
    }
