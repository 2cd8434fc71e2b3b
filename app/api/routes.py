"""The route decorator: one declaration says how to serve an operation and how to document it.

A handler gets an `Asked` with everything checked already (who asks, path, query, body) and gives a model back. `access` is
`open` (nobody need sign in), `any` (anybody signed in), `own` (staff, or the agent named in the path) or `staff`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Literal, TypeVar

from aiohttp import web
from pydantic import BaseModel, ValidationError

from app.api import strict
from app.api.auth import Doorman, Principal, check_origin
from app.api.backend import Backend
from app.api.idempotency import ANSWERS, HEADER
from app.api.problems import Problem, invalid
from app.api.settings import ApiSettings
from app.api.wire import expect

Access = Literal["open", "any", "own", "staff"]
BACKEND: web.AppKey[Backend] = web.AppKey("backend")
SETTINGS: web.AppKey[ApiSettings] = web.AppKey("settings", ApiSettings)
DOORMAN: web.AppKey[Doorman] = web.AppKey("doorman", Doorman)
ANYBODY = Principal("anybody", "agent")
Q = TypeVar("Q")
B = TypeVar("B")
_ID = re.compile(r"\+?[A-Za-z0-9][A-Za-z0-9._:-]{0,63}")


@dataclass(frozen=True, slots=True)
class Asked(Generic[Q, B]):
    """One request, checked. `query` and `body` are the models that the route declares, or None."""

    request: web.Request
    backend: Backend
    settings: ApiSettings
    who: Principal
    path: dict[str, str]
    query: Q
    body: B


Handler = Callable[[Asked[Any, Any]], Awaitable[BaseModel | web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """An operation of the API: how it is served and what its documentation says."""

    method: str
    path: str
    summary: str
    tag: str
    handler: Handler
    access: Access
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    raw: type[BaseModel] | None = None
    """As `body`, where the handler reads the bytes itself, because they are signed."""
    answer: type[BaseModel] | None = None
    media: str = "application/json"
    problems: tuple[int, ...] = ()
    messages: tuple[type[BaseModel], ...] = ()
    max_body: int = 0
    """Bytes that a body may have, where that is more than elsewhere."""

    @property
    def websocket(self) -> bool:
        """The operation becomes a websocket."""
        return bool(self.messages)


@dataclass
class Routes:
    """The operations of one resource."""

    tag: str
    found: list[Route] = field(default_factory=list)

    def add(self, method: str, path: str, summary: str, *, access: Access, **more: Any) -> Callable[[Handler], Handler]:
        """Declare the decorated handler; `more` are further fields of `Route`."""

        def declare(handler: Handler) -> Handler:
            self.found.append(Route(method, path, summary, self.tag, handler, access, **more))
            return handler

        return declare


def serve(app: web.Application, routes: list[Route]) -> None:
    """Put the operations into the application."""
    for route in routes:
        app.router.add_route(route.method, route.path, _adapter(route), expect_handler=expect)


def _adapter(route: Route) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        settings = request.app[SETTINGS]
        path = dict(request.match_info)
        who = admit(request, route.access, path.get("agent", ""))
        for name, value in path.items():
            if not _ID.fullmatch(value):
                raise Problem(404, f"unknown-{name}", f"no such {name}")
        if HEADER in request.headers and request.method != "GET":
            return await request.app[ANSWERS].once(request, who.name, settings.body_seconds, lambda: answer(request, who, path))
        return await answer(request, who, path)

    async def answer(request: web.Request, who: Principal, path: dict[str, str]) -> web.StreamResponse:
        settings = request.app[SETTINGS]
        body = None if route.raw else await _body(request, route, settings)
        asked = Asked(request, request.app[BACKEND], settings, who, path, _query(request, route.query), body)
        told = await route.handler(asked)
        if isinstance(told, BaseModel):
            return web.Response(body=told.model_dump_json().encode(), content_type="application/json")
        return told

    return handle


def admit(request: web.Request, access: Access, agent: str) -> Principal:
    """Who may do this; raises a 401 or 403. What a cookie proves must come from our own pages."""
    if access == "open":
        return ANYBODY
    who = request.app[DOORMAN].ask(request)
    if who.session and (request.method != "GET" or "Upgrade" in request.headers):
        check_origin(request, request.app[SETTINGS].origins)
    if (access == "staff" and not who.staff) or (access == "own" and not who.owns(agent)):
        raise Problem(403, "forbidden", "this is not yours to see or do")
    return who


def _query(request: web.Request, model: type[BaseModel] | None) -> BaseModel | None:
    given = dict(request.query)
    if len(given) != len(request.query):
        raise Problem(400, "malformed", "a query parameter occurs twice")
    return _check(model, given, "query")


async def _body(request: web.Request, route: Route, settings: ApiSettings) -> BaseModel | None:
    if route.method == "GET":
        return None
    roomy = request.clone(client_max_size=route.max_body) if route.max_body > settings.max_body else request
    value = await strict.body(roomy, settings.body_seconds)
    return _check(route.body, {} if value is None else value, "body")


def _check(model: type[BaseModel] | None, given: Any, where: str) -> BaseModel | None:
    if model is None:
        if given:
            raise Problem(422, "invalid", f"{where}: nothing may be given here")
        return None
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise invalid(error, where) from None
