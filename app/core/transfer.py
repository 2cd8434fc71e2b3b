"""Transfers: a caller is put through to a number outside, or to one agent, by a flow, and comes back to it afterwards.

Numbers cost money, so that nothing can be dialled unless the project says so: `Rules` hold what is allowed, and are asked at the
very moment of dialling. The far leg is made, joined and dialled as an agent's; the caller hears music until it answers. A dial of which
nobody knows whether it went out (a take-over that finds no leg) is not repeated: the step leaves by `failed`.

An agent has the transfer in hand as one has a call of a queue, and is offered nothing else meanwhile; who does not answer is not ready
afterwards. It belongs to no queue, so that no wrap-up follows it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.call import FLOW, TRANSFER, Call
from app.core.far import DECLINED, GRACE, OUTCOMES, Far
from app.core.flow.script import Transfer
from app.core.offers import REASONS, VERBS

if TYPE_CHECKING:
    from app.core.center import Center

_NUMBER = re.compile(r"\+?[0-9]{2,20}")
_DRESSING = str.maketrans("", "", " -./()")
NOT_RUNG = {
    "signed_out": ("no_answer", "agent {} is not signed in"),
    "unreachable": ("no_answer", "the phone of agent {} cannot be reached"),
    "busy": ("busy", "agent {} is busy"),
    "not_ready": ("busy", "agent {} is not ready"),
}
"""The outcome of a transfer to an agent who cannot have it, and why."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What transfers may dial. A pattern is a number, or its beginning and a `*`; `denied` goes before `allowed`.

    A number that begins with `00` goes abroad: only a pattern that begins so allows it. `at_once` is how many may be up together.
    """

    allowed: tuple[str, ...] = ()
    denied: tuple[str, ...] = ()
    trunks: tuple[str, ...] = ()
    at_once: int = 10

    def dialled(self, text: str) -> str:
        """The number as it is dialled, or "" where it is none, or must not be."""
        number = text.translate(_DRESSING)
        if not _NUMBER.fullmatch(number) or any(_fits(number, pattern) for pattern in self.denied):
            return ""
        return number if any(_fits(number, pattern) for pattern in self.allowed) else ""

    def trunk(self, wanted: str) -> str:
        """The trunk that is asked for, or the first."""
        return wanted or next(iter(self.trunks), "")

    def refusal(self, number: str, trunk: str) -> str:
        """Why a number (as `dialled` gives it) may not be dialled through a trunk; "" where it may."""
        if not number:
            return "this number is not one that transfers may dial"
        return "" if trunk in self.trunks else f"there is no trunk {trunk!r} for transfers"

    def full(self, up: int) -> str:
        """Why one more may not be dialled while so many are up; "" where it may."""
        return f"{self.at_once} transfers are up already" if up >= self.at_once else ""


def _fits(number: str, pattern: str) -> bool:
    if number.startswith("00") and not pattern.startswith("00"):
        return False
    return number.startswith(pattern[:-1]) if pattern.endswith("*") else number == pattern


class Transfers:
    """The centre's part that knows far legs."""

    def __init__(self, center: Center) -> None:
        self._center = center

    def order(self, call: Call, order: Transfer, now: float) -> None:
        """Ring the far side, unless the rules or its phone forbid it."""
        center, rules = self._center, self._center.book.transfers
        number = rules.dialled(order.number) if order.number else ""
        trunk = rules.trunk(order.trunk)
        refusal = self._agent(call, order.agent, now) if order.agent else self._refusal(number, trunk)
        if refusal:
            outcome, why = refusal
            center.emit(call, facts.Noticed(call.id, "not transferred", why))
            center.tell_soon(call, outcome)
            return
        call.bridge = call.bridge or call.mint_for_centre("br")
        leg = call.mint_for_centre("leg")
        call.phase, call.far, call.music = TRANSFER, Far(leg, now, order.agent), True
        if order.agent:
            endpoint = center.book.agents[order.agent].endpoint
            center.emit(call, do.RingAgent(call.id, leg, call.bridge, endpoint, order.seconds, call.ani, call.name))
        else:
            center.emit(call, do.RingOutside(call.id, leg, call.bridge, trunk, number, order.seconds))
        center.emit(call, do.StartMusic(call.id))
        center.timers.set(call.id, "far", now + order.seconds + GRACE)

    def _agent(self, call: Call, agent: str, now: float) -> tuple[str, str] | None:
        """Reserve an agent; or the outcome of a transfer that is not tried, and why. Wrap-up of this very call ends."""
        center = self._center
        if agent not in center.book.agents:
            return "failed", f"there is no agent {agent} any more"
        if call.wrapping and call.offer and call.offer.agent == agent:
            center.talks.end_wrap_up(call, "expire", now)
        why_not = center.acd.reserve(agent, call.id, now)
        if not why_not:
            return None
        outcome, why = NOT_RUNG[why_not]
        return outcome, why.format(agent)

    def _refusal(self, number: str, trunk: str) -> tuple[str, str] | None:
        """The outcome of a transfer to a number that is not tried, and why; None for one that is."""
        rules = self._center.book.transfers
        if why := rules.refusal(number, trunk):
            return "failed", why
        why = rules.full(self._center.transfers_up())
        return ("busy", why) if why else None

    def answered(self, call: Call, now: float) -> None:
        """The two hear one another."""
        far = call.far
        assert far is not None
        call.passed_on, call.music = far.answered, False
        self._agent_does(call, "answer", "joined", at=far.answered)
        self._center.emit(call, do.Talk(call.id, call.bridge, far.leg))
        self._center.emit(call, facts.Transferred(call.id, far.to or "outside"))

    def ended(self, call: Call, cause: int, now: float) -> None:
        """The far leg is gone: the flow goes on by the exit that says how it was."""
        assert call.far is not None
        verb = VERBS.get(REASONS.get(cause, "no_answer"), "no_answer")
        self._over(call, "talked" if call.far.answered else OUTCOMES.get(cause, "failed"), verb, now)

    def too_long(self, call: Call, now: float) -> None:
        """Nobody answered, and no leg told of its end."""
        assert call.far is not None
        self._center.emit(call, call.far.hang_up(call.id))
        never_dialled = self._center.store_away and not call.far.ringing
        self._over(call, "no_answer", "withdraw" if never_dialled else "no_answer", now)

    def declined(self, call: Call, now: float) -> None:
        """The agent does not want it; the phone stops ringing."""
        assert call.far is not None
        self._center.emit(call, do.HangUpLeg(call.id, call.far.leg, DECLINED))
        self._over(call, OUTCOMES[DECLINED], VERBS[REASONS[DECLINED]], now)

    def refused(self, call: Call, now: float) -> None:
        """Asterisk would not do it."""
        self._over(call, "failed", "reject", now)

    def leave(self, call: Call, now: float) -> None:
        """The caller has gone, or goes elsewhere: the far phone stops ringing, or the conversation ends."""
        far = call.far
        assert far is not None
        self._center.emit(call, far.hang_up(call.id))
        self._close(call, "talked" if far.answered else "abandoned", "withdraw", now)
        call.phase = FLOW

    def found(self, call: Call, event: ev.CallFound, now: float) -> None:
        """After a gap: talking goes on, ringing goes on."""
        far = call.far
        assert far is not None
        if far.answered:
            joined = far.leg in event.bridged
            self._center.emit(call, (do.Talk if joined else do.JoinBridge)(call.id, call.bridge, far.leg))
        else:
            self._center.emit(call, do.StartMusic(call.id))

    def _over(self, call: Call, outcome: str, verb: str, now: float) -> None:
        self._close(call, outcome, verb, now)
        call.phase = FLOW
        self._center.tell_flow(call, outcome, now)

    def _close(self, call: Call, outcome: str, verb: str, now: float) -> None:
        """It is over; `verb` is what that is for an agent who did not answer."""
        far = call.far
        assert far is not None
        self._center.timers.cancel(call.id, "far")
        self._agent_does(call, *(("hangup", "expire") if far.answered else (verb,)), at=now)
        call.far = None
        talked = round(now - far.answered, 3) if far.answered else 0.0
        self._center.emit(call, facts.TransferEnded(call.id, outcome, talked))

    def _agent_does(self, call: Call, *verbs: str, at: float) -> None:
        """What the agent who is reserved does, if there is one."""
        center, far = self._center, call.far
        assert far is not None
        for verb in verbs if far.to else ():
            center.agents.work(far.to, call, verb, at)
        center.settle()
