"""Failures as RFC 9457 `application/problem+json`.

A `Problem` is raised anywhere below a handler and becomes the answer. `type` is `urn:callwright:<kind>` and never changes its
meaning; `detail` is for people; `request_id` is in the log beside what really happened. What nobody foresaw is a 500 that says
nothing but its id.
"""

from __future__ import annotations

import http
import traceback
import uuid
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from aiohttp import web
from multidict import CIMultiDict
from pydantic import ValidationError

from app.api.backend import BadFlow, Refused, StorageBusy

log = structlog.get_logger("api")
MEDIA_TYPE = "application/problem+json"
PREFIX = "urn:callwright:"
REQUEST_ID: web.RequestKey[str] = web.RequestKey("request_id", str)
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REFUSALS = {"stale": 412, "invalid": 422, "unknown-entry": 422}
_KINDS = {404: "not-found", 405: "method-not-allowed", 413: "too-large", 417: "expectation-failed"}


class Problem(Exception):
    """A failure with its status, its stable kind (`illegal-move`), and a sentence for whoever reads it."""

    def __init__(
        self, status: int, kind: str, detail: str, *, headers: Mapping[str, str] | None = None, errors: list[dict[str, str]] | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.kind, self.detail = status, kind, detail
        self.headers = dict(headers or {})
        self.errors = errors

    def body(self, request_id: str) -> dict[str, Any]:
        """The members of the problem document."""
        title = self.kind.replace("-", " ").replace("_", " ").capitalize()
        members = {"type": PREFIX + self.kind, "title": title, "status": self.status, "detail": self.detail, "request_id": request_id}
        return members if self.errors is None else {**members, "errors": self.errors}

    def response(self, request_id: str) -> web.Response:
        """The answer itself."""
        headers = CIMultiDict({**self.headers, "Content-Type": MEDIA_TYPE})
        return web.Response(status=self.status, text=web.json_response(self.body(request_id)).text, headers=headers)


def invalid(error: ValidationError, where: str) -> Problem:
    """A 422 that names each wrong place, as `body.call` or `query.limit`, without repeating the value."""
    errors = [{"at": ".".join([where, *map(str, e["loc"])]), "why": e["msg"]} for e in error.errors(include_url=False, include_input=False)]
    return Problem(422, "invalid", f"{errors[0]['at']}: {errors[0]['why']}", errors=errors[:20])


def from_exception(error: Exception) -> Problem | None:
    """The problem that a foreseen exception stands for; None for one that nobody foresaw."""
    match error:
        case Problem():
            return error
        case Refused():
            status = _REFUSALS.get(error.kind, 404 if error.kind.startswith("unknown") else 409)
            errors = [{"at": f"body.{place}", "why": why} for place, why in error.errors] or None
            return Problem(status, error.kind, error.detail, errors=errors)
        case BadFlow():
            errors = [{"at": at, "why": why} for at, _, why in (problem.partition(": ") for problem in error.problems)]
            return Problem(422, "bad-flow", error.problems[0], errors=errors[:100])
        case StorageBusy():
            return Problem(
                503, "storage_busy", "nothing can be written at the moment; try again", headers={"Retry-After": str(error.retry_after)}
            )
        case web.HTTPException() if error.status >= 400:
            kind = _KINDS.get(error.status, http.HTTPStatus(error.status).phrase.lower().replace(" ", "-"))
            keep = {k: v for k, v in error.headers.items() if k == "Allow"}
            return Problem(error.status, kind, error.reason, headers=keep)
        case _:
            return None


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Give each request an id, and every failure its document."""
    request_id = request[REQUEST_ID] = uuid.uuid4().hex
    try:
        response = await handler(request)
    except Exception as error:
        if isinstance(error, web.HTTPException) and error.status < 400:
            raise
        problem = from_exception(error)
        if problem is None:
            log.error("request failed", request_id=request_id, method=request.method, trace="".join(traceback.format_exception(error)))
            problem = Problem(500, "internal", "something went wrong on our side; the log knows it by this request id")
        response = problem.response(request_id)
    if not response.prepared:
        response.headers["X-Request-Id"] = request_id
    return response
