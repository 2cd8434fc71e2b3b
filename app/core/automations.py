"""Automations: what a flow does beside its steps when something happens on a call, and what becomes of the answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING

from app.core import commands, facts
from app.core.call import Call
from app.core.events import ActionFailed, ActionSucceeded, Event, SessionWritten
from app.core.flow.conditions import ConditionFailed
from app.core.flow.part import around
from app.core.flow.texts import BadText

if TYPE_CHECKING:
    from app.core.center import Center

AUTOMATION = "au"
"""The kind of an automation's request: its id is `<call>-au<n>.<its number in the flow>`."""


def start(center: Center, call: Call, on: str) -> None:
    """Start what a flow does beside its steps when this happens on a call."""
    for thing in orders(call, on):
        center.emit(call, thing)


def orders(call: Call, on: str, step: str = "") -> Iterator[commands.StartAction | facts.Noticed]:
    """What a flow does beside its steps when this happens on a call, or at this step. What cannot be started is noted, and nothing else."""
    for n, automation in call.flow.beside.get(on, ()):
        if automation.at is not None and automation.at not in ((step,) if step else around(call.step)):
            continue
        try:
            order = order_of(call, n, partial(call.mint_for_centre, AUTOMATION))
        except (ConditionFailed, BadText) as error:
            yield facts.Noticed(call.id, "automation not started", f"{automation.action} on {on}: {error}")
            continue
        if order is None:
            continue
        if automation.into and on != "ended":
            if step:
                _ask_anew(call, n, automation.into, order.request)
            hidden = [list(order.hidden)] if order.hidden else []
            call.automated[order.request] = [order.action, dict(order.params), order.budget, *hidden]
        yield order


def _ask_anew(call: Call, n: int, into: str, request: str) -> None:
    """Of what two visits bring nothing may be mixed: what came of the earlier one is forgotten, and what still comes is too late."""
    call.forget(into)
    call.set(f"{into}.found", False)
    call.set(f"{into}.answered", False)
    for earlier in [earlier for earlier in call.automated if earlier.endswith(f".{n}")]:
        del call.automated[earlier]
    call.newest[str(n)] = request


def order_of(call: Call, n: int, mint: Callable[[], str]) -> commands.StartAction | None:
    """The order of the flow's automation `n`, or None where its condition does not hold; raises `ConditionFailed` and `BadText`.

    An id is minted only for an order that there is.
    """
    automation = call.flow.program.automations[n]
    with call.knowing({"call.agent": call.served_by, "call.outcome": call.outcome}):
        if automation.when and not call.test(automation.when):
            return None
        return call.order(lambda: f"{mint()}.{n}", automation.action, automation.parameters, automation.budget)


def into_of(call: Call, request: str) -> str | None:
    """The name under which an automation's answer is kept, "" for nowhere; None for a request of a step."""
    kind, dot, n = request.removeprefix(call.id).rpartition(".")
    automations = call.flow.program.automations
    if not (dot and kind.startswith(f"-{AUTOMATION}") and n.isdecimal() and int(n) < len(automations)):
        return None
    return automations[int(n)].into or ""


def keep(call: Call, into: str, event: ActionSucceeded | ActionFailed) -> Event:
    """Keep what an automation brought; for a step that waits for variables it is as if somebody had written them."""
    call.automated.pop(event.request, None)
    n = event.request.rpartition(".")[2]
    if not into or call.newest.get(n, event.request) != event.request:
        return SessionWritten(call.id, {})
    call.keep_found(into, event)
    call.set(f"{into}.answered", True)
    return SessionWritten(call.id, {f"{into}.answered": True})
