"""The far side of a call that is put through or called back: a leg of ours to a number outside, or to one agent."""

from __future__ import annotations

from dataclasses import dataclass

from app.core.commands import HangUpLeg

GRACE = 5.0
"""Seconds beyond the ring time after which a leg that told nothing is given up."""
CANCELLED = 26
OUTCOMES = {17: "busy", 21: "busy", 18: "no_answer", 19: "no_answer", -2: "no_answer"}
"""What a far leg's end means that was never answered, by its cause; any other is `failed`."""
OUTSIDE = "outside"


@dataclass(slots=True)
class Far:
    """Who it is: an agent's id, or `outside`. `answered` is when it was."""

    leg: str
    at: float
    to: str
    ringing: bool = False
    answered: float = 0.0

    @property
    def agent(self) -> str:
        """The agent who is reserved for it; "" for a number outside."""
        return "" if self.to == OUTSIDE else self.to

    def answer(self, at: float, now: float) -> bool:
        """It was answered, at `at` where that is known; False when it had been."""
        if self.answered:
            return False
        self.answered = min(max(at, self.at), now) if at else now
        return True

    def hang_up(self, call: str) -> HangUpLeg:
        """The order that ends the conversation, or the ringing."""
        return HangUpLeg(call, self.leg, 16 if self.answered else CANCELLED)
