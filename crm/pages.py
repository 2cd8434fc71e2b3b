"""The pages that people see: the record page that pops up with a call, and the order status page behind a unique link.

A record page opens with the key in its address (made for that record alone) or with the API's token; anything else is the same
"not found" as an unknown id, so that ids cannot be tried out. There is no script on any page, everything is escaped, addresses
are not passed on to other sites, and the record page may be framed by the pages of named origins only (the agent's desk).
"""

from __future__ import annotations

import hmac
from collections.abc import Awaitable, Callable
from datetime import date, datetime
from pathlib import Path
from typing import Any

import structlog
from aiohttp import web
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from crm.records import NoSuchRecord, Records, Values
from crm.texts import PAGE, STEPS
from crm.web import Guard

HERE = Path(__file__).parent
POLICY = "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors "
NOBODY = "'none'"
TIMELINE = 20
MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]

log = structlog.get_logger()


def day(text: str | None, language: str = "en") -> str:
    """Return an ISO date or time as a date for people: `22 Nov 2025`, `22.11.2025`, `22/11/2025`."""
    if not text:
        return ""
    found = date.fromisoformat(text[:10])
    if language == "de":
        return f"{found:%d.%m.%Y}"
    return f"{found:%d/%m/%Y}" if language == "es" else f"{found.day} {MONTHS[found.month - 1]} {found.year}"


def moment(text: str, language: str = "en") -> str:
    """Return an ISO time as a date with hour and minute, UTC."""
    return f"{day(text, language)} {datetime.fromisoformat(text):%H:%M} UTC"


def money(amount: float, currency: str) -> str:
    """Return an amount with two decimals and its currency."""
    return f"{amount:,.2f} {currency}"


def duration(seconds: float | None) -> str:
    """Return seconds as `m:ss`."""
    return "" if seconds is None else f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class Pages:
    """The handlers of the pages."""

    def __init__(self, records: Records, guard: Guard, framed_by: tuple[str, ...] = ()) -> None:
        self._records, self._guard = records, guard
        self._framed_by = " ".join(framed_by) or NOBODY
        self._templates = Environment(loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined)
        self._templates.filters.update(day=day, moment=moment, duration=duration)
        self._templates.globals["money"] = money

    def add_routes(self, app: web.Application) -> None:
        """Serve the pages and their style sheet."""
        app.router.add_get("/", self.home)
        app.router.add_get("/records/contacts/{id:[0-9a-f]{32}}", self.record)
        app.router.add_get("/track/{token:[A-Za-z0-9_-]{1,64}}", self.track)
        app.router.add_static("/static", HERE / "static")

    async def home(self, _request: web.Request) -> web.Response:
        """Say what this is."""
        return self._page("home.html")

    async def record(self, request: web.Request) -> web.Response:
        """Show a contact: `?key=` opens it, `?embed=1` is the narrow variant for another page's frame."""
        contact_id = request.match_info["id"]
        key = await self._records.record_key(contact_id)
        given = request.query.get("key", "").encode("utf-8", "surrogatepass")
        if not hmac.compare_digest(given, key.encode()) and not self._guard.admits(request):
            raise NoSuchRecord(contact_id)
        return self._page("record.html", frames=self._framed_by, embed=request.query.get("embed") == "1", **await self._whole(contact_id))

    async def track(self, request: web.Request) -> web.Response:
        """Show the present state of the order that an unguessable link leads to."""
        order, language = await self._records.order_of_token(request.match_info["token"])
        reached = {entry["status"]: entry["at"] for entry in order["status_history"]}
        step = STEPS.index(order["status"]) if order["status"] in STEPS else -1
        return self._page("track.html", order=order, language=language, words=PAGE[language], steps=STEPS, step=step, reached=reached)

    async def _whole(self, contact_id: str) -> Values:
        find, records = self._records.find, self._records
        return {
            "contact": await records.get(records.contacts, contact_id),
            "orders": await find(records.orders, {"contact_id": contact_id}, TIMELINE),
            "cases": await find(records.cases, {"contact_id": contact_id}, TIMELINE),
            "activities": await find(records.activities, {"contact_id": contact_id}, TIMELINE),
            "steps": STEPS,
        }

    def _page(self, template: str, status: int = 200, frames: str = NOBODY, **values: Any) -> web.Response:
        headers = {
            "Content-Security-Policy": POLICY + frames,
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "X-Robots-Tag": "noindex",
            "Cache-Control": "no-store",
        }
        text = self._templates.get_template(template).render(**values)
        return web.Response(text=text, status=status, content_type="text/html", headers=headers)

    def failures(self) -> Any:
        """Return the middleware that gives people a page where something is missing or broken."""

        @web.middleware
        async def friendly(request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]) -> web.StreamResponse:
            if request.path.startswith(("/api/", "/healthz", "/faults")):
                return await handler(request)
            try:
                return await handler(request)
            except (NoSuchRecord, web.HTTPNotFound, web.HTTPForbidden):
                return self._page("missing.html", 404, title="Nothing here", text="This address leads nowhere, or no longer does.")
            except (DBAPIError, PoolTimeoutError) as error:
                log.error("crm.storage", error=type(error).__name__, reason=str(getattr(error, "orig", "")))
                return self._page(
                    "missing.html", 503, title="One moment, please", text="This page cannot be shown right now. Try again soon."
                )

        return friendly
