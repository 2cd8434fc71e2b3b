"""The application that serves the public API and the pages: `make_app` builds it, `serve` runs it on a socket."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from app.api.auth import Doorman
from app.api.backend import Backend
from app.api.desk import DESKS, Desks
from app.api.idempotency import ANSWERS, Answers
from app.api.inbound import RECEIVED, Received
from app.api.metrics import METRICS, House, Metrics
from app.api.openapi import ROUTES
from app.api.pages import policy, serve_pages
from app.api.problems import REQUEST_ID, Handler, problems
from app.api.routes import BACKEND, DOORMAN, SETTINGS
from app.api.routes import serve as serve_routes
from app.api.settings import ApiSettings
from app.api.sockets import FEEDS, Feeds
from app.api.wire import Connection

log = structlog.get_logger("api")
SILENT = logging.getLogger("callwright.access")
SILENT.disabled = True


@web.middleware
async def account(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Count and log each request by its route, never by what was asked with it."""
    began = time.perf_counter()
    status = 500
    try:
        response = await handler(request)
        status = response.status
        return response
    except web.HTTPException as answer:
        status = answer.status
        raise
    finally:
        seconds = time.perf_counter() - began
        resource = request.match_info.route.resource
        route = resource.canonical if resource is not None else "unknown"
        metrics = request.app[METRICS]
        metrics.count("api_requests", "Requests answered", method=request.method, route=route, status=str(status))
        if status != 101:
            metrics.observe("api_seconds", "Time to answer a request", seconds, route=route)
        log.debug(
            "request", request_id=request.get(REQUEST_ID), method=request.method, route=route, status=status, ms=round(seconds * 1000, 1)
        )


def _headers(app: web.Application) -> None:
    fixed = {
        "Content-Security-Policy": policy(app[SETTINGS].record_origins),
        "X-Content-Type-Options": "nosniff",
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
        "Cross-Origin-Opener-Policy": "same-origin",
        "Cross-Origin-Resource-Policy": "same-origin",
        "Server": "callwright",
    }

    async def prepare(request: web.Request, response: web.StreamResponse) -> None:
        response.headers.update(fixed)
        response.headers.setdefault("Cache-Control", "no-store")

    app.on_response_prepare.append(prepare)


def make_app(backend: Backend, settings: ApiSettings, metrics: Metrics | None = None) -> web.Application:
    """The whole API over this backend. `metrics` is what other parts count with, when they do."""
    app = web.Application(middlewares=[account, problems], client_max_size=settings.max_body)
    app[BACKEND] = backend
    app[SETTINGS] = settings
    app[METRICS] = metrics or Metrics()
    app[METRICS].registry.register(House(backend))
    key = settings.session_key.get_secret_value() if settings.session_key else None
    app[DOORMAN] = Doorman(settings.credentials, key, settings.session_seconds)
    app[FEEDS] = Feeds(settings.max_sockets)
    app[DESKS] = Desks(backend, settings.heartbeat)
    app[RECEIVED] = Received()
    app[ANSWERS] = Answers()
    _headers(app)
    serve_routes(app, ROUTES)
    serve_pages(app)
    app.on_shutdown.append(_leave)
    return app


async def _leave(app: web.Application) -> None:
    await app[DESKS].stop()
    await app[FEEDS].leave()


@asynccontextmanager
async def serve(app: web.Application) -> AsyncIterator[str]:
    """Serve on the settings' host and port (0: any free one) as long as the context lasts; yields the base URL."""
    settings, loop = app[SETTINGS], asyncio.get_running_loop()
    runner = web.AppRunner(app, shutdown_timeout=5.0)
    await runner.setup()
    manager = runner.server
    assert manager is not None

    def connection() -> Connection:
        return Connection(manager, loop=loop, access_log=SILENT, keepalive_timeout=15.0, lingering_time=1.0)

    try:
        listening = await loop.create_server(connection, settings.host, settings.port, backlog=128)
        try:
            host, port = listening.sockets[0].getsockname()[:2]
            yield f"http://{host}:{port}"
        finally:
            listening.close()
    finally:
        await runner.cleanup()
