"""HTTP below our handlers: what cannot be read as a request gets a problem document too, and no header ends up in a log."""

from __future__ import annotations

import sys
import uuid
from typing import Any

import structlog
from aiohttp import web

from app.api.problems import Problem

log = structlog.get_logger("api.wire")


class Connection(web.RequestHandler):
    """One client's connection."""

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        """The answer to what could not be read; then the connection is closed."""
        if request.writer.output_size > 0:
            raise ConnectionError("an answer was begun already")
        problem = Problem(400, "malformed", "this is not a readable HTTP request") if status < 500 else Problem(500, "internal", "failed")
        request_id = uuid.uuid4().hex
        log.info("unreadable request", request_id=request_id, error=type(exc).__name__)
        response = problem.response(request_id)
        response.headers.update({"X-Request-Id": request_id, "Server": "callwright"})
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Name the kind of failure alone: its text quotes what the client sent."""
        given = kw.get("exc_info")
        kind = type(given) if isinstance(given, BaseException) else sys.exc_info()[0]
        log.warning("connection failed", error=kind.__name__ if kind is not None else str(args[:1]))


async def expect(request: web.Request) -> web.StreamResponse | None:
    """Tell a client that waits for it to go on with its body; nothing else can be expected of us."""
    if request.headers.get("Expect", "").lower() == "100-continue":
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0
        return None
    request_id = uuid.uuid4().hex
    response = Problem(417, "expectation-failed", "only 100-continue can be expected").response(request_id)
    response.headers["X-Request-Id"] = request_id
    return response
