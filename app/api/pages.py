"""The pages that we serve ourselves: the built desk, and the API's documentation.

Nothing inline and nothing from elsewhere: the content security policy allows our own files, and frames from the CRM's origins.
"""

from __future__ import annotations

from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

from aiohttp import web
from jinja2 import Environment, StrictUndefined

from app.api.collection import collection
from app.api.openapi import document
from app.api.problems import Problem
from app.api.routes import SETTINGS

_STATIC = resources.files("app.api") / "static"
_TEMPLATES = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
NOT_BUILT = "The desk is not built yet. Run: make desk\n"


def policy(frames: tuple[str, ...]) -> str:
    """The content security policy of every answer."""
    frame = " ".join(frames) or "'none'"
    return f"default-src 'self'; frame-src {frame}; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"


async def desk_file(request: web.Request) -> web.StreamResponse:
    """A file of the built desk; its page for the folder itself."""
    return _built(request, request.match_info["name"] or "index.html")


async def flows_page(request: web.Request) -> web.StreamResponse:
    """The page of the flows; what belongs to it lies beside the desk's files."""
    return _built(request, "flows.html")


def _built(request: web.Request, name: str) -> web.StreamResponse:
    dist = request.app[SETTINGS].dist.resolve()
    if not (dist / "index.html").is_file():
        return web.Response(status=503, text=NOT_BUILT, headers={"Retry-After": "60"})
    path = _inside(dist, name)
    kept = "public, max-age=31536000, immutable" if name.startswith("assets/") else "no-cache"
    return web.FileResponse(path, headers={"Cache-Control": kept})


def _inside(folder: Path, name: str) -> Path:
    path = (folder / name).resolve() if "\0" not in name else folder
    if not path.is_relative_to(folder) or not path.is_file():
        raise Problem(404, "not-found", "no such file")
    return path


async def to_desk(request: web.Request) -> web.StreamResponse:
    """The desk is what people look for."""
    raise web.HTTPFound("/desk/")


async def to_flows(request: web.Request) -> web.StreamResponse:
    """The page's own address ends with a slash."""
    raise web.HTTPFound("/flows/")


class Docs:
    """The documentation: the document itself, and a page that a person can read; made when first asked for."""

    @cached_property
    def _document(self) -> dict[str, Any]:
        return document()

    @cached_property
    def _page(self) -> str:
        operations = [
            {"path": path, "method": method, **operation}
            for path, methods in self._document["paths"].items()
            for method, operation in methods.items()
        ]
        template = _TEMPLATES.from_string((_STATIC / "docs.html").read_text("utf-8"))
        return template.render(info=self._document["info"], operations=operations, schemas=self._document["components"]["schemas"])

    async def json(self, request: web.Request) -> web.Response:
        """`/v1/openapi.json`."""
        return web.json_response(self._document)

    async def collection(self, request: web.Request) -> web.Response:
        """`/v1/collection.json`."""
        return web.json_response(collection())

    async def page(self, request: web.Request) -> web.Response:
        """`/docs`."""
        return web.Response(text=self._page, content_type="text/html")

    async def style(self, request: web.Request) -> web.Response:
        """`/docs.css`."""
        return web.Response(text=(_STATIC / "docs.css").read_text("utf-8"), content_type="text/css")


def serve_pages(app: web.Application) -> None:
    """Put the pages into the application."""
    docs = Docs()
    app.router.add_get("/", to_desk)
    app.router.add_get("/desk", to_desk)
    app.router.add_get("/desk/{name:.*}", desk_file)
    app.router.add_get("/flows", to_flows)
    app.router.add_get("/flows/", flows_page)
    app.router.add_get("/v1/openapi.json", docs.json)
    app.router.add_get("/v1/collection.json", docs.collection)
    app.router.add_get("/docs", docs.page)
    app.router.add_get("/docs.css", docs.style)
