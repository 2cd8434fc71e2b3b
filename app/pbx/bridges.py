"""Who hears whom: callers and legs into their bridge, and bridges gone when those in them have left.

A caller to whom a prompt plays goes into the bridge when the prompt has ended, at most when the agent answers.
"""

from __future__ import annotations

from functools import partial

import structlog

from app.core import commands
from app.pbx import requests
from app.pbx.ari import Answer, AriError, AriLost, AriRefused
from app.pbx.book import TEMPORARY, Caller, Leg
from app.pbx.orders import Orders, now
from app.pbx.tones import Tones

log = structlog.get_logger(__name__)

DROP_AFTER = 2.0  # seconds a bridge waits for its channels to leave


class Bridges:
    """The bridges of all calls."""

    def __init__(self, orders: Orders, tones: Tones) -> None:
        self._orders, self._tones = orders, tones
        self._drops: dict[str, tuple[str, float]] = {}

    def talk(self, caller: Caller, command: commands.Talk) -> None:
        """Nothing plays to the caller any more."""
        self._orders.silence(caller)
        if not caller.left:
            self._orders.send(caller, command, requests.stop_music(caller))
            self._tones.talk(caller)

    def join(self, caller: Caller, command: commands.JoinBridge) -> None:
        """The caller and a leg together; what plays is stopped."""
        leg = caller.legs.get(command.leg)
        self.caller_into(caller, command, command.bridge)
        self._orders.silence(caller)
        if leg is not None and not (leg.joined and leg.bridge == command.bridge):
            self._orders.send(caller, command, requests.join(command.bridge, leg.id), partial(_joined, leg, command.bridge))

    def caller_into(self, caller: Caller, command: commands.Command | None, bridge: str) -> None:
        """The caller into a bridge, made when it is not there: at once, or when nothing plays any more."""
        if bridge not in caller.bridges:
            self._orders.send(caller, command, requests.make_bridge(self._orders.app, bridge))
            caller.bridges.add(bridge)
        if caller.bridge == bridge or caller.left:
            return
        if caller.playing:
            caller.joins = bridge
        else:
            self.join_caller(caller, bridge)

    def join_caller(self, caller: Caller, bridge: str) -> None:
        """The caller into a bridge, at once."""
        caller.bridge, caller.joins = bridge, ""
        self._orders.link.send(requests.join(bridge, caller.channel), partial(self._caller_joined, caller, bridge), caller.call)

    def _caller_joined(self, caller: Caller, bridge: str, answer: Answer) -> None:
        """A caller who cannot be joined cannot be connected: the legs that wait there end. Unless the line broke: then we look."""
        if isinstance(answer, AriRefused):
            self._orders.link.fail(answer)
        elif isinstance(answer, AriError) and not isinstance(answer, AriLost):
            caller.bridge = ""
            log.warning("caller_not_joined", reason=str(answer))
            for leg in list(caller.legs.values()):
                if leg.bridge == bridge:
                    leg.ending = leg.ending or TEMPORARY
                    self._orders.order_end(caller, leg.id, requests.hang_up(leg.id, leg.ending))

    def drop(self, caller: Caller, command: commands.DropBridge) -> None:
        """A bridge is not needed any more."""
        if command.bridge not in caller.bridges:
            return
        if caller.joins == command.bridge:
            caller.joins = ""
        self.drop_when_empty(caller, command.bridge)

    def drop_when_empty(self, caller: Caller, bridge: str) -> None:
        """Destroy a bridge once its legs have left it."""
        self._drops[bridge] = (caller.call, now() + DROP_AFTER)
        self.drop_due(caller)

    def drop_due(self, caller: Caller, at: float = 0.0) -> None:
        """Destroy the call's bridges that are to go, once their legs have left (or have had the time to)."""
        for bridge, (call, deadline) in list(self._drops.items()):
            if call != caller.call or (at < deadline and any(leg.bridge == bridge for leg in caller.legs.values())):
                continue
            del self._drops[bridge]
            if bridge in caller.bridges:
                caller.bridges.discard(bridge)
                if caller.bridge == bridge:
                    caller.bridge = ""
                self._orders.send(caller, None, requests.drop_bridge(bridge))

    def drop_overdue(self, at: float) -> None:
        """Destroy the bridges that have waited long enough."""
        for call in {call for call, _ in self._drops.values()}:
            if (caller := self._orders.book.calls.get(call)) is not None:
                self.drop_due(caller, at)


def _joined(leg: Leg, bridge: str) -> None:
    leg.joined, leg.bridge = True, bridge
