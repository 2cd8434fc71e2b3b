"""The OpenAPI 3.1 document of the API, made of the routes and their models.

`python -m app.api.openapi` prints it, which is what the pages' types are generated from.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Literal

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.api import agents, calls, desk, events, flows, health, inbound, metrics, people, queues, session, sessions, webhooks
from app.api.models import ProblemDocument
from app.api.problems import MEDIA_TYPE
from app.api.routes import Access, Route

VERSION = "1.0.0"
PARTS = (calls, sessions, inbound, webhooks, people, agents, queues, flows, session, desk, events, health, metrics)
ROUTES: list[Route] = [r for part in PARTS for r in part.routes.found]
_MEANS: dict[int, str] = {
    400: "Malformed",
    401: "Not signed in",
    403: "Not allowed",
    404: "No such thing",
    409: "Not possible in this state",
    412: "Changed meanwhile",
    413: "Too large",
    415: "Not JSON",
    422: "Well formed, but wrong",
    426: "Only as a websocket",
    429: "Too many failed attempts",
    503: "Not at the moment; try again",
}
_WHO: dict[Access, str] = {
    "open": "Nobody need sign in.",
    "any": "For anybody signed in; an agent sees only what is theirs.",
    "own": "For staff, and for the agent named in the path.",
    "staff": "For supervisors and administrators.",
}
Mode = Literal["validation", "serialization"]


def document() -> dict[str, Any]:
    """The document, as plain JSON values."""
    wanted: dict[tuple[type[BaseModel], Mode], None] = {(ProblemDocument, "serialization"): None}
    for route in ROUTES:
        for model in (route.query, route.body, route.raw):
            if model is not None:
                wanted[model, "validation"] = None
        for model in (route.answer, *route.messages):
            if model is not None:
                wanted[model, "serialization"] = None
    refs, definitions = models_json_schema(list(wanted), ref_template="#/components/schemas/{model}")
    paths: dict[str, dict[str, Any]] = {}
    for route in ROUTES:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, refs, definitions["$defs"])
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Callwright",
            "version": VERSION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "desk": {"type": "apiKey", "in": "cookie", "name": "callwright_desk"},
            },
        },
    }


def _operation(route: Route, refs: Any, definitions: dict[str, Any]) -> dict[str, Any]:
    words = re.findall(r"\w+", route.path.replace("/v1", "").replace("{", "by {"))
    operation: dict[str, Any] = {
        "operationId": "_".join([route.method.lower(), *words]).replace("-", "_"),
        "summary": route.summary,
        "description": _WHO[route.access],
        "tags": [route.tag],
        "security": [] if route.access == "open" else [{"token": []}, {"desk": []}],
        "responses": _responses(route, refs),
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", route.path)
    ] + _query_parameters(route, refs, definitions)
    if parameters:
        operation["parameters"] = parameters
    body = route.body or route.raw
    if body is not None and body.model_fields:
        required = any(f.is_required() for f in body.model_fields.values())
        operation["requestBody"] = {"required": required, "content": {"application/json": {"schema": refs[body, "validation"]}}}
    return operation


def _query_parameters(route: Route, refs: Any, definitions: dict[str, Any]) -> list[dict[str, Any]]:
    if route.query is None:
        return []
    schema = definitions[refs[route.query, "validation"]["$ref"].rpartition("/")[2]]
    return [{"name": n, "in": "query", "required": n in schema.get("required", []), "schema": s} for n, s in schema["properties"].items()]


def _responses(route: Route, refs: Any) -> dict[str, Any]:
    if route.websocket:
        messages = [refs[model, "serialization"]["$ref"] for model in route.messages]
        responses: dict[str, Any] = {"101": {"description": "A websocket of JSON texts: " + ", ".join(messages)}}
    else:
        schema = {"type": "string"} if route.answer is None else refs[route.answer, "serialization"]
        responses = {"200": {"description": "Done", "content": {route.media: {"schema": schema}}}}
    problem = {MEDIA_TYPE: {"schema": refs[ProblemDocument, "serialization"]}}
    codes = {*route.problems, *(() if route.access == "open" else (401, 403, 429)), *((422,) if route.query or route.body else ())}
    if route.path == "/readyz":
        responses["503"] = {**responses["200"], "description": "Not ready, and why"}
    return {**responses, **{str(code): {"description": _MEANS[code], "content": problem} for code in sorted(codes)}}


if __name__ == "__main__":
    json.dump(document(), sys.stdout, indent=1)
    sys.stdout.write("\n")
