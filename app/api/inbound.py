"""Signed requests of other systems about live calls: for those that answer in their own time and keep no token of ours."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Any

from aiohttp import web
from pydantic import Field, ValidationError

from app.api import strict
from app.api.models import Ask, Id, LiveSession
from app.api.problems import Problem, invalid
from app.api.routes import Asked, Routes
from app.api.sessions import go, merge
from app.core.signing import TOLERANCE, BadSignature, check

routes = Routes("sessions")
REMEMBERED = 100_000


class Report(Ask):
    """About one live call: variables to write into it, an entry of its flow to go on at, or both."""

    call: Id
    session: dict[str, Any] = Field(default_factory=dict)
    goto: str = Field(default="", max_length=40)


class Received:
    """Ids of requests that were taken. What was signed before this process began is refused: nobody remembers it. Senders sign anew."""

    def __init__(self) -> None:
        self._began = time.time()
        self._seen: OrderedDict[tuple[str, str], float] = OrderedDict()

    def take(self, source: str, ident: str, signed: float) -> None:
        """Note an id; raises a 409 for one that was taken, and a 401 for one that may have been."""
        now = time.time()
        while self._seen and (len(self._seen) >= REMEMBERED or now - next(iter(self._seen.values())) > 2 * TOLERANCE):
            self._seen.popitem(last=False)
        if (source, ident) in self._seen:
            raise Problem(409, "received-already", "a request with this id was taken already")
        if signed < self._began - 1:
            raise Problem(401, "bad-signature", "the request was signed before this process began; sign it again")
        self._seen[source, ident] = now


RECEIVED: web.AppKey[Received] = web.AppKey("received", Received)


@routes.add(
    "POST",
    "/v1/inbound/{source}",
    "Write into or steer a live call by a request signed with a shared secret",
    access="open",
    raw=Report,
    answer=LiveSession,
    problems=(400, 401, 404, 409, 412, 413, 415, 422, 503),
)
async def inbound(asked: Asked[None, None]) -> web.Response:
    """Signed as Standard Webhooks has it. An unknown source and a bad signature look alike."""
    raw = await strict.read(asked.request, asked.settings.body_seconds)
    source = asked.path["source"]
    secret = asked.settings.inbound.get(source)
    headers = asked.request.headers
    try:
        if secret is None:
            raise BadSignature("the signature is not that of this request")
        ident = check(secret.get_secret_value(), {name.lower(): value for name, value in headers.items()}, raw, time.time())
    except BadSignature as bad:
        raise Problem(401, "bad-signature", str(bad)) from None
    report = _read(raw)
    asked.request.app[RECEIVED].take(source, ident, float(headers["webhook-timestamp"]))
    by = f"inbound {source}"
    if report.session:
        await merge(asked, report.call, report.session, by)
    if report.goto:
        return await go(asked, report.call, report.goto, by)
    return await merge(asked, report.call, {}, by)


def _read(raw: bytes) -> Report:
    """The body as a report; a 400 or 422 where it is none."""
    try:
        value = strict.parse(raw)
    except ValueError as error:
        raise Problem(400, "malformed", f"the body is not valid JSON: {error}") from None
    try:
        return Report.model_validate(value)
    except ValidationError as error:
        raise invalid(error, "body") from None
