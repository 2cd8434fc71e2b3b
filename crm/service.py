"""The service: one aiohttp application over one database, from start to a graceful stop."""

from __future__ import annotations

import asyncio
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

import structlog
from aiohttp import web
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from crm import api, demo, openapi
from crm.database import Database, open_database
from crm.faults import Faults
from crm.pages import Pages
from crm.records import Records, Settings
from crm.web import MAX_BODY, Guard, problems, reply

VERSION = "1.0.0"
STOP_SECONDS = 5.0

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Options:
    """How the service is started.

    `public_url` is what links begin with (None: the address it listens on); `framed_by` are the origins whose pages may show records.
    """

    host: str
    port: int
    database: Path
    token: str
    region: str = "DE"
    public_url: str | None = None
    framed_by: tuple[str, ...] = ()
    seed_demo: bool = False
    faults: bool = False


async def serve(options: Options) -> None:
    """Run until SIGTERM or SIGINT; raises DatabaseRefused, and OSError where the address is taken."""
    stop = asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(name, stop.set)
    with _listen(options.host, options.port) as listening:
        address = f"http://{options.host}:{listening.getsockname()[1]}"
        settings = Settings(options.public_url or address, options.region)
        database = await asyncio.to_thread(open_database, options.database)
        try:
            await _run(options, settings, database, listening, stop, address)
        finally:
            await database.close()


async def _run(
    options: Options, settings: Settings, database: Database, listening: socket.socket, stop: asyncio.Event, address: str
) -> None:
    records = Records(database, settings)
    if options.seed_demo:
        log.info("crm.seeded", people=await demo.seed(records))
    runner = web.AppRunner(application(options, records), access_log=None, shutdown_timeout=STOP_SECONDS)
    await runner.setup()
    try:
        await web.SockSite(runner, listening).start()
        print(f"crm: ready on {address}", flush=True)
        await stop.wait()
    finally:
        await runner.cleanup()
    print("crm: stopped", flush=True)


def application(options: Options, records: Records) -> web.Application:
    """Return the application with its routes."""
    guard = Guard(options.token)
    pages = Pages(records, guard, options.framed_by)
    faults = Faults() if options.faults else None
    middlewares = [problems, pages.failures()]
    app = web.Application(middlewares=[faults.middleware(), *middlewares] if faults else middlewares, client_max_size=MAX_BODY)
    described = openapi.document(records.settings.base_url, VERSION)

    async def describe(_request: web.Request) -> web.Response:
        return reply(described)

    async def health(_request: web.Request) -> web.Response:
        try:
            await records.alive()
        except (DBAPIError, PoolTimeoutError) as error:
            return reply({"status": "failing", "reason": f"database: {type(error).__name__}"}, 503)
        return reply({"status": "ok", "version": VERSION})

    async def hide_versions(_request: web.Request, response: web.StreamResponse) -> None:
        response.headers["Server"] = "callwright-crm"

    app.on_response_prepare.append(hide_versions)
    app.router.add_get("/healthz", health)
    app.router.add_get("/api/openapi.json", describe)
    api.add_routes(app, records, guard)
    pages.add_routes(app)
    if faults:
        faults.add_routes(app)
    return app


def _listen(host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), backlog=256, reuse_port=False)
