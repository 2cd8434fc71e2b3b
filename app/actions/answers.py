"""From the body of an answer to the document in which attributes are found, one function for each kind that goes over HTTP."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, TypeAlias

from app.core.events import Json

from . import soap
from .dialects import Csv, GraphQL, Request, Soap, Sql
from .extract import Malformed, parse
from .failures import Failed

Reader: TypeAlias = Callable[[bytes], Json]
_CODE: Final = re.compile(r"^[A-Za-z0-9_.-]{1,60}$")
_SYSTEM: Final = frozenset({"INTERNAL_SERVER_ERROR", "SERVICE_UNAVAILABLE", "TIMEOUT", "THROTTLED", "RATE_LIMITED"})


def reader(request: Request) -> Reader:
    """What reads the answers to such a request; it raises `Malformed`, and `Failed` for an answer that is an error."""
    if isinstance(request, GraphQL):
        return graphql
    if isinstance(request, Soap):
        return lambda body: soap.content(body, request.lists)
    if isinstance(request, Sql | Csv):
        return rows
    return parse


def graphql(body: bytes) -> Json:
    """The `data` of a GraphQL answer; `errors`, even beside data, are a failure."""
    document = parse(body)
    if not isinstance(document, dict):
        raise Malformed("the body is not a GraphQL answer")
    errors = document.get("errors")
    if errors:
        raise _graphql_failure(errors)
    if not isinstance(document.get("data"), dict):
        raise Malformed("the GraphQL answer has no data")
    return document["data"]


def rows(body: bytes) -> Json:
    """The rows of a sample of a table."""
    found = parse(body)
    if not isinstance(found, list):
        raise Malformed("expected a list of rows")
    return {"rows": found, "count": len(found), "more": False}


def _graphql_failure(errors: Json) -> Failed:
    first = errors[0] if isinstance(errors, list) else None
    extensions = first.get("extensions") if isinstance(first, dict) else None
    code = extensions.get("code") if isinstance(extensions, dict) else None
    shown = f" {code}" if isinstance(code, str) and _CODE.match(code) else ""
    return Failed("fault", f"GraphQL error{shown}", system_at_fault=code in _SYSTEM)
