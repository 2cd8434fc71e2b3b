"""Agents' legs, and those to outside: asked for, joined, dialled, ended.

A leg goes on when Asterisk says that it is there: bridge with the caller in it, leg created, leg joined, leg dialled. With the leg
in the bridge before its phone rings, the two hear each other at the very answer, even if this process is gone by then.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import structlog

from app.core import commands, events
from app.pbx import requests
from app.pbx.ari import Answer, AriBroken, AriConflict, AriError, AriInvalid, AriLost, AriNotFound, AriRefused, Reply
from app.pbx.book import CANCELLED, DIALLED, ENDED, ENTERED, NORMAL, RINGING, TEMPORARY, UNREACHABLE, UP, Caller, Leg
from app.pbx.bridges import Bridges
from app.pbx.orders import Orders
from app.pbx.prompts import Prompts
from app.pbx.reconcile import Found
from app.pbx.tones import Tones

log = structlog.get_logger(__name__)

RING_AGAIN = 25.0  # seconds of ringing for a leg that an earlier process created and did not dial


class Ringing:
    """The legs of all calls."""

    def __init__(self, orders: Orders, bridges: Bridges, prompts: Prompts, tones: Tones) -> None:
        self._orders, self._bridges, self._prompts, self._tones = orders, bridges, prompts, tones

    def ring(self, caller: Caller, command: commands.RingAgent | commands.RingOutside) -> None:
        """Ask for a leg, with its bridge and the caller in it before."""
        if command.leg in self._orders.book.channels:
            return
        self._tones.before_ringing(caller)
        create = requests.create_leg(self._orders.app, caller, command)
        if caller.deserted:
            self._orders.answer_for_nothing(command)
            return
        self._orders.book.add_leg(caller, command.leg, command.bridge, command.seconds)
        self._bridges.caller_into(caller, command, command.bridge)
        self._orders.send(caller, command, create)

    def refused(self, caller: Caller, command: commands.RingAgent | commands.RingOutside, reason: str, answer: AriError | None) -> None:
        """A leg came to nothing: it ends, unless it is one that was asked for twice and is there."""
        leg = caller.legs.get(command.leg)
        if leg is None:
            if answer is None:
                log.warning("pbx_refused", command=type(command).__name__, reason=reason)
                self._orders.post(events.LegEnded(command.call, command.leg, UNREACHABLE))
            return
        if isinstance(answer, AriConflict):
            self.entered(leg.call, leg.id)
            return
        log.warning("leg_failed", reason=reason)
        cause = UNREACHABLE if isinstance(answer, AriBroken | AriInvalid | AriNotFound) else TEMPORARY
        leg.cause = cause
        self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, cause))
        self._orders.take_all(self._orders.book.leg_ended(leg, cause))

    def entered(self, call: str, ident: str) -> None:
        """The leg is there: join it to the caller, then let it ring; or end it, when nobody wants it any more."""
        caller = self._orders.book.calls.get(call)
        leg = caller.legs.get(ident) if caller is not None else None
        if caller is None or leg is None:
            return
        if leg.ending or caller.deserted:
            leg.ending = leg.ending or CANCELLED
            self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, leg.ending))
        elif leg.joined:
            self._dial(caller, leg)
        else:
            self._orders.link.send(requests.join(leg.bridge, leg.id), partial(self._leg_step, caller, leg, self._dial_joined), caller.call)

    def _dial_joined(self, caller: Caller, leg: Leg) -> None:
        leg.joined = True
        self._dial(caller, leg)

    def _dial(self, caller: Caller, leg: Leg) -> None:
        if leg.state >= DIALLED or leg.ending:
            return
        leg.state = DIALLED
        self._orders.link.send(
            requests.dial(caller, leg, leg.seconds or RING_AGAIN), partial(self._leg_step, caller, leg, None), caller.call
        )

    def _leg_step(self, caller: Caller, leg: Leg, then: Callable[[Caller, Leg], None] | None, answer: Answer) -> None:
        """A step of ringing was answered: take the next, or end the leg (its end then comes as an event)."""
        if leg.state == ENDED:
            return
        if isinstance(answer, Reply):
            if then is not None:
                then(caller, leg)
        elif isinstance(answer, AriRefused):
            self._orders.link.fail(answer)
        elif not isinstance(answer, AriLost):
            log.warning("leg_failed", reason=str(answer))
            leg.ending = leg.ending or TEMPORARY
            self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, leg.ending))

    def hang_up(self, caller: Caller, command: commands.HangUpLeg) -> None:
        """End a leg, asked for or still to be asked for."""
        if self._prompts.withdraw(command):
            return
        leg = caller.legs.get(command.leg)
        if leg is not None:
            leg.ending = command.cause if leg.state == UP else CANCELLED
            self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, leg.ending))

    def ring_on(self, caller: Caller, leg: Leg, channel: Found | None) -> None:
        """A leg that was not answered when the line broke: take it up where it was left. Nobody waits for that of a caller who left."""
        if channel is None:
            return
        if caller.deserted:
            leg.ending = leg.ending or (NORMAL if leg.state == UP else CANCELLED)
            self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, leg.ending))
        if caller.deserted or leg.state == UP:
            return
        self._bridges.caller_into(caller, None, leg.bridge)
        if leg.state < RINGING and channel.dialled:
            leg.state = DIALLED
        elif leg.state < RINGING:
            leg.state = ENTERED
            self.entered(leg.call, leg.id)
