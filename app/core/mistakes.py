"""How the handling of an event may end other than well, live and in a replay: refused, or by a mistake of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from app.core.acd import IllegalMove, UnknownAgent
from app.core.book import AWAY
from app.core.center import Center
from app.core.commands import FOR_GOOD, Release
from app.core.session import SessionRefused
from app.core.versions import NotPublished

REFUSALS = (IllegalMove, UnknownAgent, SessionRefused, NotPublished)
"""The centre refuses what was asked of it; nothing has changed."""


def after_a_mistake(center: Center, call: str, error: Exception, now: float, nor: Callable[[str], Any] = lambda call: None) -> list[Any]:
    """A mistake of ours in the handling of one event ends in that call's error exit; where that fails too (`nor`), the call is let go."""
    try:
        return center.fail(call, f"{type(error).__name__}: {error}", now)
    except Exception:
        nor(call)
        return [Release(call, AWAY, FOR_GOOD)] if call in center.calls else []
