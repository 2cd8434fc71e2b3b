"""A desk's session: a cookie for an agent's PIN."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.api.auth import COOKIE, check_origin
from app.api.models import Nothing, Session, SignIn
from app.api.problems import Problem
from app.api.routes import DOORMAN, Asked, Routes
from app.api.sockets import FEEDS

routes = Routes("session")


@routes.add(
    "POST", "/v1/session", "Sign in at a desk: a cookie for a PIN", access="open", body=SignIn, answer=Session, problems=(401, 403, 429)
)
async def sign_in(asked: Asked[None, SignIn]) -> web.Response:
    """The cookie is for our own pages only: HttpOnly, SameSite=Strict."""
    check_origin(asked.request, asked.settings.origins)
    body = asked.body
    cookie = await asked.request.app[DOORMAN].sign_in(body.agent, body.pin, asked.request.remote or "")
    response = _answer(asked, body.agent)
    response.set_cookie(
        COOKIE,
        cookie,
        path="/v1",
        max_age=asked.settings.session_seconds,
        httponly=True,
        samesite="Strict",
        secure=asked.settings.secure_cookie,
    )
    return response


@routes.add("GET", "/v1/session", "Whose desk this is", access="any", answer=Session, problems=(404,))
async def session(asked: Asked[None, None]) -> web.Response:
    """For a page that was loaded anew."""
    if not asked.who.agent:
        raise Problem(404, "no-desk", "only an agent has a desk")
    return _answer(asked, asked.who.agent)


@routes.add("DELETE", "/v1/session", "End the desk's session", access="any", body=Nothing, answer=Session)
async def sign_out(asked: Asked[None, Nothing]) -> web.Response:
    """The cookie is worth nothing afterwards, and its open websockets are closed."""
    if asked.who.session:
        asked.request.app[DOORMAN].end(asked.who.session)
        asked.request.app[FEEDS].end_session(asked.who.session)
    response = _answer(asked, asked.who.agent)
    response.del_cookie(COOKIE, path="/v1")
    return response


def _answer(asked: Asked[Any, Any], agent: str) -> web.Response:
    body = Session(agent=agent, record_origins=list(asked.settings.record_origins))
    return web.Response(body=body.model_dump_json().encode(), content_type="application/json")
