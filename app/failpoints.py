"""Where the fault tests let this process die: `CALLWRIGHT_FAILPOINT=<point>:<type>[:<n>]`, and nothing at all without it.

The process kills itself with SIGKILL when the n-th event, fact or command of that type (its class name) passes that point:

    before_handled   it was taken from the inbox, and the core has not seen it
    before_persist   the core has decided, and nothing is written
    after_persist    the commit is done, and none of its commands has gone out
    after_command    the command was handed to its adapter, and has had `SOON` to reach the other side
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

VARIABLE = "CALLWRIGHT_FAILPOINT"
POINTS = ("before_handled", "before_persist", "after_persist", "after_command")
SOON = 0.02
"""Seconds in which what was handed to an adapter goes out."""

Pass: TypeAlias = Callable[[str, Iterable[object]], None]


def armed(environment: Mapping[str, str] = os.environ) -> Pass | None:
    """What the engine calls at each point with the things that pass it; None unless the variable is set. Raises `ValueError`."""
    text = environment.get(VARIABLE, "")
    if not text:
        return None
    point, _, rest = text.partition(":")
    kind, _, count = rest.partition(":")
    if point not in POINTS or not kind or not (count or "1").isdecimal() or count == "0":
        raise ValueError(f"{VARIABLE} is {text!r}: write <point>:<type>[:<n>], with n from 1 and one of {', '.join(POINTS)}")
    left = int(count or 1)

    def passing(at: str, things: Iterable[object]) -> None:
        nonlocal left
        if at != point:
            return
        for thing in things:
            left -= type(thing).__name__ == kind
            if left == 0:
                left = -1
                _die(point)

    return passing


def _die(point: str) -> None:
    if point == "after_command":
        asyncio.get_running_loop().call_later(SOON, os.kill, os.getpid(), signal.SIGKILL)
    else:
        os.kill(os.getpid(), signal.SIGKILL)
