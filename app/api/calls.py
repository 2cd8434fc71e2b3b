"""Calls, live and ended, and what happened in them."""

from __future__ import annotations

from typing import Any

from app.api.models import Call, CallList, CallsQuery, Timeline
from app.api.problems import Problem
from app.api.routes import Asked, Routes

routes = Routes("calls")


@routes.add(
    "GET", "/v1/calls", "Calls: live ones oldest first, then ended ones newest first", access="staff", query=CallsQuery, answer=CallList
)
async def calls(asked: Asked[CallsQuery, None]) -> CallList:
    """At most `limit` of them."""
    wanted = asked.query
    found: list[dict[str, Any]] = [] if wanted.state == "ended" else asked.backend.calls()[: wanted.limit]
    if wanted.state != "active" and len(found) < wanted.limit:
        found = found + await asked.backend.ended_calls(wanted.limit - len(found), wanted.before)
    return CallList.model_validate({"calls": found})


@routes.add("GET", "/v1/calls/{call}", "One call", access="any", answer=Call, problems=(404,))
async def one_call(asked: Asked[None, None]) -> Call:
    """A live call, or one that has ended."""
    return Call.model_validate(await _visible(asked))


@routes.add(
    "GET", "/v1/calls/{call}/timeline", "What happened in a call, in order, digits masked", access="any", answer=Timeline, problems=(404,)
)
async def timeline(asked: Asked[None, None]) -> Timeline:
    """The journal of a call; an agent sees those of their own calls only."""
    call = asked.path["call"]
    if not asked.who.staff:
        await _visible(asked)
    entries = await asked.backend.timeline(call)
    if entries is None:
        raise _unknown()
    return Timeline.model_validate({"call": call, "entries": entries})


async def _visible(asked: Asked[None, None]) -> dict[str, Any]:
    wanted = asked.path["call"]
    call = asked.backend.call(wanted)
    if call is None:
        call = await asked.backend.ended_call(wanted)
    if call is None or not (asked.who.staff or call.get("agent") == asked.who.agent):
        raise _unknown()
    return call


def _unknown() -> Problem:
    return Problem(404, "unknown-call", "no such call")
