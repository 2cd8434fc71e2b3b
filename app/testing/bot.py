"""Programs that talk to callers, as a test has them: what each does with a call is said beforehand, in order."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from app.core import commands as do
from app.core import events as ev

if TYPE_CHECKING:
    from app.testing.centre import VirtualCentre

BEGINS = 0.2
TALKS = 3.0
"""Seconds until a bot has the call, and how long it keeps it unless a test says otherwise."""


@dataclass(frozen=True, slots=True)
class _Conversation:
    exit_: str
    seconds: float
    writes: Mapping[str, Any]


class VirtualBot:
    """One bot. With nothing (more) said of it, it cannot be had."""

    def __init__(self, centre: VirtualCentre, name: str) -> None:
        self._centre, self.name = centre, name
        self._to_come: list[_Conversation] = []

    def leaves(self, exit_: str = "done", *, after: float = TALKS, writes: Mapping[str, Any] | None = None) -> VirtualBot:
        """It gives the next call back by that exit, and writes those variables (`ivr.*`) just before."""
        self._to_come.append(_Conversation(exit_, after, writes or {}))
        return self

    def hangs(self) -> VirtualBot:
        """It keeps the next call, and never gives it back."""
        return self.leaves("")

    def begin(self, order: do.StartBot) -> None:
        """A call comes."""
        later, call = self._centre.later, order.call
        if not self._to_come:
            later(BEGINS, ev.BotEnded(call, order.request, "failed", "not_set_up"))
            return
        conversation = self._to_come.pop(0)
        later(BEGINS, ev.BotBegan(call, order.request))
        if conversation.writes:
            later(BEGINS + conversation.seconds, ev.SessionWritten(call, conversation.writes, f"bot {self.name}"))
        if conversation.exit_:
            later(BEGINS + conversation.seconds, ev.BotEnded(call, order.request, conversation.exit_))
