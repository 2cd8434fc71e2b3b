"""The session of a live call: how other systems talk to a call in progress, with nothing but its id."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from app.api.models import Goto, LiveSession, SessionWrite
from app.api.problems import Problem
from app.api.routes import Asked, Routes
from app.core.events import CallSteered, SessionWritten
from app.core.session import SessionRefused, flat

routes = Routes("sessions")
_ETAG = re.compile(r'(?:W/)?"([0-9]{1,9})"')
_WRITING = (400, 404, 409, 412, 413, 415, 503)


@routes.add("GET", "/v1/sessions/{call}", "The variables of a live call", access="staff", answer=LiveSession, problems=(404, 409))
async def session(asked: Asked[None, None]) -> web.Response:
    """A call that has ended has a timeline, and no session."""
    return await _answer(asked, asked.path["call"])


async def write(asked: Asked[None, SessionWrite]) -> web.Response:
    """The same merge by POST and by PATCH. With `If-Match` it is done only if nobody has written since."""
    return await merge(asked, asked.path["call"], asked.body.root, asked.who.name)


for _method in ("POST", "PATCH"):
    routes.add(
        _method,
        "/v1/sessions/{call}",
        "Write variables into a live call",
        access="staff",
        body=SessionWrite,
        answer=LiveSession,
        problems=_WRITING,
    )(write)


@routes.add(
    "POST",
    "/v1/sessions/{call}/goto",
    "Send a live call to a named entry of its flow",
    access="staff",
    body=Goto,
    answer=LiveSession,
    problems=_WRITING,
)
async def goto(asked: Asked[None, Goto]) -> web.Response:
    """Whatever the caller hears or waits for is left; a conversation with an agent is not."""
    return await go(asked, asked.path["call"], asked.body.entry, asked.who.name)


async def merge(asked: Asked[Any, Any], call: str, given: Mapping[str, Any], by: str) -> web.Response:
    """Write variables into a live call's session; the session afterwards."""
    try:
        values = flat(given)
    except SessionRefused as wrong:
        errors = [{"at": f"body.{place}", "why": why} for place, why in wrong.errors]
        raise Problem(422, wrong.kind, str(wrong), errors=errors) from None
    await _known(asked, call)
    if values:
        await asked.backend.submit(SessionWritten(call, values, by, _expected(asked.request)))
    return await _answer(asked, call)


async def go(asked: Asked[Any, Any], call: str, entry: str, by: str) -> web.Response:
    """Send a live call to an entry of its flow; the session afterwards."""
    await _known(asked, call)
    await asked.backend.submit(CallSteered(call, entry, by))
    return await _answer(asked, call)


def _expected(request: web.Request) -> int | None:
    given = request.headers.get("If-Match")
    if given is None or given.strip() == "*":
        return None
    match = _ETAG.fullmatch(given.strip())
    if match is None:
        raise Problem(412, "stale", "If-Match is not the ETag of a session")
    return int(match[1])


async def _known(asked: Asked[Any, Any], call: str) -> dict[str, Any]:
    """The session as it is; raises a 404, or a 409 for a call that has ended."""
    found = asked.backend.session(call)
    if found is None:
        if asked.backend.call(call) is not None or await asked.backend.ended_call(call) is not None:
            raise Problem(409, "ended-call", "the call has ended")
        raise Problem(404, "unknown-call", "no such call")
    return found


async def _answer(asked: Asked[Any, Any], call: str) -> web.Response:
    found = LiveSession.model_validate(await _known(asked, call))
    return web.Response(body=found.model_dump_json().encode(), content_type="application/json", headers={"ETag": f'"{found.version}"'})
