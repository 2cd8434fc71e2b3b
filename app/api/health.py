"""Whether the process lives, and whether calls can be taken."""

from __future__ import annotations

from aiohttp import web

from app.api.models import Alive, Health
from app.api.routes import Asked, Routes

routes = Routes("health")


@routes.add("GET", "/healthz", "The process answers", access="open", answer=Alive)
async def alive(asked: Asked[None, None]) -> Alive:
    """Always."""
    return Alive()


@routes.add("GET", "/readyz", "Whether calls can be taken; 503 with the same body when not", access="open", answer=Health)
async def ready(asked: Asked[None, None]) -> web.Response:
    """Each part with its reason."""
    health = Health.model_validate(dict(asked.backend.health()))
    return web.Response(body=health.model_dump_json().encode(), content_type="application/json", status=200 if health.ready else 503)
