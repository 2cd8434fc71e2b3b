"""Flows and their versions: what there is, what would change for callers, and publishing while calls go on."""

from __future__ import annotations

from typing import Any

from aiohttp import web

from app.api.backend import Refused
from app.api.models import (
    DiffQuery,
    FlowDiff,
    FlowList,
    FlowProgram,
    FlowVersion,
    FlowVersions,
    NewVersion,
    PictureQuery,
    Release,
)
from app.api.problems import Problem
from app.api.routes import Asked, Routes

routes = Routes("flows")
MAX_BODY = 3 << 20
CONFLICT = "version-conflict"


@routes.add("GET", "/v1/flows", "Every flow, with the version that callers get", access="staff", answer=FlowList)
async def flows(asked: Asked[None, None]) -> FlowList:
    """By name."""
    return FlowList.model_validate({"flows": asked.backend.flows.flows()})


@routes.add(
    "GET", "/v1/flows/{flow}/versions", "The versions of a flow, the newest first", access="staff", answer=FlowVersions, problems=(404,)
)
async def versions(asked: Asked[None, None]) -> web.Response:
    """The `ETag` is what `If-Match` takes when one is published."""
    flow = asked.path["flow"]
    found = FlowVersions.model_validate({"versions": asked.backend.flows.versions(flow)})
    return web.Response(
        body=found.model_dump_json().encode(), content_type="application/json", headers={"ETag": f'"{asked.backend.flows.tag(flow)}"'}
    )


@routes.add(
    "GET", "/v1/flows/{flow}/versions/{version}", "The program of a version", access="staff", answer=FlowProgram, problems=(404, 503)
)
async def program(asked: Asked[None, None]) -> FlowProgram:
    """As JSON, which can be published again."""
    return FlowProgram(program=await asked.backend.flows.program(asked.path["flow"], _number(asked)))


@routes.add(
    "POST",
    "/v1/flows/{flow}/versions",
    "Publish a flow: check it, number it, and give it to new calls; live calls end on the version they began with",
    access="staff",
    body=NewVersion,
    answer=FlowVersion,
    problems=(400, 404, 409, 412, 413, 415, 503),
    max_body=MAX_BODY,
)
async def publish(asked: Asked[None, NewVersion]) -> FlowVersion:
    """Content that is a version already keeps its number. With `If-Match`, only upon the versions of that `ETag`."""
    sent = asked.body
    content = sent.yaml if sent.yaml is not None else sent.program or {}
    return await _published(
        asked, lambda **wish: asked.backend.flows.publish(asked.path["flow"], content, sent.name, asked.who.name, **wish)
    )


@routes.add(
    "POST",
    "/v1/flows/{flow}/versions/{version}/activate",
    "Give a version to new calls again: a canary to everybody, or an older one to roll back",
    access="staff",
    body=Release,
    answer=FlowVersion,
    problems=(400, 404, 409, 412, 413, 415, 503),
)
async def activate(asked: Asked[None, Release]) -> FlowVersion:
    """It is checked against the actions and queues of today first."""
    return await _published(asked, lambda **wish: asked.backend.flows.activate(asked.path["flow"], _number(asked), asked.who.name, **wish))


@routes.add(
    "GET",
    "/v1/flows/{flow}/diff",
    "What changes for callers from one version to another",
    access="staff",
    query=DiffQuery,
    answer=FlowDiff,
    problems=(404, 503),
)
async def diff(asked: Asked[DiffQuery, None]) -> FlowDiff:
    """By what callers notice, whatever steps and prompts are called."""
    changes = await asked.backend.flows.diff(asked.path["flow"], asked.query.before, asked.query.after)
    return FlowDiff.model_validate({"changes": changes})


@routes.add(
    "GET",
    "/v1/flows/{flow}/picture",
    "A version as a picture, the active one unless `version` says which",
    access="staff",
    query=PictureQuery,
    media="image/svg+xml",
    problems=(404, 503),
)
async def picture(asked: Asked[PictureQuery, None]) -> web.Response:
    """The box of each step has its name as `data-step`, and `step-<name>` as its id. The `ETag` is the version's hash."""
    drawn, hash_ = await asked.backend.flows.picture(asked.path["flow"], asked.query.version)
    headers = {"ETag": f'"{hash_}"', "Cache-Control": "private, no-cache"}
    known = asked.request.if_none_match
    if known is not None and hash_ in {tag.value for tag in known}:
        return web.Response(status=304, headers=headers)
    return web.Response(body=drawn.encode(), content_type="image/svg+xml", charset="utf-8", headers=headers)


async def _published(asked: Asked[Any, Any], act: Any) -> FlowVersion:
    body: Release = asked.body
    match = asked.request.headers.get("If-Match", "").strip().removeprefix("W/").strip('"')
    wish: dict[str, Any] = {"note": body.note, "share": body.share, "numbers": tuple(body.numbers), "tag": "" if match == "*" else match}
    if body.guard is not None:
        wish["guard"] = body.guard.model_dump()
    try:
        return FlowVersion.model_validate(await act(**wish))
    except Refused as refused:
        if refused.kind == CONFLICT and match:
            raise Problem(412, CONFLICT, refused.detail) from None
        raise


def _number(asked: Asked[Any, Any]) -> int:
    text = asked.path["version"]
    if not text.isdecimal() or len(text) > 9:
        raise Problem(404, "unknown-version", "no such version")
    return int(text)
