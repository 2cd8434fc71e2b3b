"""What the core tells others about itself: plain values, copied out, never a handle to its own state."""

from __future__ import annotations

from dataclasses import dataclass, field


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
