"""The REST API: one table of operations, from which the routes and the OpenAPI document are made.

An operation reads its input by the models it names, so that a handler only ever sees what is valid. Creating is repeatable:
with the header `Idempotency-Key` (or an activity's `external_id`) the same request gives the same record, 201 the first time and
200 after; the same key with another body is a 422 `key-reused`.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from crm import models
from crm.records import FIELD, Collection, Records, track_url
from crm.web import Guard, Problem, digest_of, parse_body, parse_query, read_json, reply

PREFIX = "/api/v1"
KEY_HEADER = "Idempotency-Key"
_KEY = re.compile(r"[\x21-\x7e]{1,200}")
ID = "{id:[0-9a-f]{32}}"
TYPE = "{type:[a-z][a-z0-9_]{0,39}}"


@dataclass(slots=True)
class Call:
    """One request with its input validated; `digest` is the fingerprint of its body."""

    request: web.Request
    records: Records
    query: Any = None
    body: Any = None
    digest: str = ""

    @property
    def id(self) -> str:
        """The id in the path."""
        return self.request.match_info["id"]

    @property
    def object_type(self) -> str:
        """The type of custom object in the path."""
        return self.request.match_info["type"]

    def wanted(self) -> dict[str, Any]:
        """Return what a list is asked for, without its window."""
        found: dict[str, Any] = self.query.model_dump(exclude_none=True, exclude={"limit", "offset"})
        found.update({FIELD + name: value for name, value in found.pop("fields", {}).items()})
        return found


Handler = Callable[[Call], Awaitable[web.Response]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path; `answer` is the model of its success."""

    method: str
    path: str
    summary: str
    handler: Handler
    answer: type[BaseModel]
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    body_optional: bool = False
    statuses: tuple[int, ...] = (200,)
    problems: tuple[int, ...] = field(default=(401, 422, 503))


@dataclass(frozen=True, slots=True)
class Resource:
    """A collection with its models and the path it is served under."""

    path: str
    collection: str
    one: type[BaseModel]
    create: type[BaseModel]
    change: type[BaseModel]
    query: type[BaseModel]
    noun: str


RESOURCES = (
    Resource("contacts", "contacts", models.Contact, models.ContactCreate, models.ContactChange, models.ContactQuery, "contact"),
    Resource("accounts", "accounts", models.Account, models.AccountCreate, models.AccountChange, models.AccountQuery, "account"),
    Resource("orders", "orders", models.Order, models.OrderCreate, models.OrderChange, models.OrderQuery, "order"),
    Resource("cases", "cases", models.Case, models.CaseCreate, models.CaseChange, models.CaseQuery, "case"),
    Resource("activities", "activities", models.Activity, models.ActivityCreate, models.ActivityChange, models.ActivityQuery, "activity"),
    Resource(
        f"objects/{TYPE}", "objects", models.CustomObject, models.ObjectCreate, models.ObjectChange, models.ObjectQuery, "custom object"
    ),
)
_RESERVED = {resource.noun for resource in RESOURCES} | {resource.path for resource in RESOURCES}


def operations() -> list[Operation]:
    """Return every operation of the API."""
    found = [operation for resource in RESOURCES for operation in _crud(resource)]
    found.append(
        Operation(
            "GET",
            f"/contacts/{ID}/activities",
            "The latest activities of a contact",
            _activities_of_contact,
            models.list_of(models.Activity),
            query=models.Page,
            problems=(401, 404, 422, 503),
        )
    )
    found.append(
        Operation(
            "POST",
            f"/orders/{ID}/links",
            "A new unguessable link to the status page of an order",
            _create_link,
            models.Link,
            body=models.LinkCreate,
            body_optional=True,
            statuses=(200, 201),
            problems=(400, 401, 404, 413, 415, 422, 503),
        )
    )
    return found


def add_routes(app: web.Application, records: Records, guard: Guard) -> None:
    """Serve every operation."""
    for operation in operations():
        app.router.add_route(operation.method, PREFIX + operation.path, _serve(operation, records, guard))


def _serve(operation: Operation, records: Records, guard: Guard) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def handle(request: web.Request) -> web.Response:
        guard.require(request)
        call = Call(request, records)
        if operation.query is not None:
            call.query = parse_query(operation.query, request)
        elif request.query_string:
            raise Problem("invalid", "this operation takes no query parameters")
        if operation.body is not None:
            value = await read_json(request, operation.body_optional)
            call.body, call.digest = parse_body(operation.body, value), digest_of(value)
        return await operation.handler(call)

    return handle


def _crud(resource: Resource) -> list[Operation]:
    def collection(call: Call) -> Collection:
        found: Collection = getattr(call.records, resource.collection)
        return found

    async def find(call: Call) -> web.Response:
        chosen = collection(call)
        return _listing(await call.records.find(chosen, {**call.wanted(), **_of_type(call)}, call.query.limit, call.query.offset))

    async def get(call: Call) -> web.Response:
        return reply(await call.records.get(collection(call), call.id, **_of_type(call)))

    async def create(call: Call) -> web.Response:
        chosen = collection(call)
        given = {**call.body.model_dump(exclude={"type"}), **_of_type(call)}
        operation = "/".join(("POST", chosen.table.name, *_of_type(call).values()))

        async def make(connection: AsyncConnection) -> str:
            return await call.records.insert(connection, chosen, given)

        record_id, made = await call.records.create_once(_keys(call, operation), call.digest, make)
        record = await call.records.get(chosen, record_id)
        return reply(record, 201 if made else 200)

    async def change(call: Call) -> web.Response:
        await call.records.change(collection(call), call.id, call.body.model_dump(exclude_unset=True), **_of_type(call))
        return await get(call)

    path, noun = f"/{resource.path}", resource.noun
    one = f"{path}/{ID}"
    return [
        Operation("GET", path, f"Find: {noun}", find, models.list_of(resource.one), query=resource.query),
        Operation(
            "POST",
            path,
            f"Create: {noun}",
            create,
            resource.one,
            body=resource.create,
            statuses=(200, 201),
            problems=(400, 401, 409, 413, 415, 422, 503),
        ),
        Operation("GET", one, f"Read: {noun}", get, resource.one, problems=(401, 404, 503)),
        Operation(
            "PATCH", one, f"Change: {noun}", change, resource.one, body=resource.change, problems=(400, 401, 404, 409, 413, 415, 422, 503)
        ),
    ]


def _listing(results: list[dict[str, Any]]) -> web.Response:
    return reply({"results": results, "count": len(results)})


def _of_type(call: Call) -> dict[str, str]:
    """Return the column that a custom object's path fixes; refuses types that are named like records of our own."""
    if "type" not in call.request.match_info:
        return {}
    if call.object_type in _RESERVED:
        raise Problem("invalid", f"{call.object_type!r} is no custom type: its records have a path of their own under {PREFIX}")
    return {"type": call.object_type}


def _keys(call: Call, operation: str) -> list[tuple[str, str]]:
    """Return the (operation, key) pairs under which this request is to happen only once."""
    found = []
    header = call.request.headers.get(KEY_HEADER)
    if header is not None:
        if not _KEY.fullmatch(header):
            raise Problem("invalid", f"the header {KEY_HEADER} must be 1 to 200 visible ASCII characters")
        found.append((operation, header))
    external = getattr(call.body, "external_id", None)
    if external is not None:
        found.append((f"{operation}#external_id", external))
    return found


async def _activities_of_contact(call: Call) -> web.Response:
    records = call.records
    await records.record_key(call.id)
    return _listing(await records.find(records.activities, {"contact_id": call.id}, call.query.limit, call.query.offset))


async def _create_link(call: Call) -> web.Response:
    async def make(connection: AsyncConnection) -> str:
        return await call.records.add_link(connection, call.id)

    token, made = await call.records.create_once(_keys(call, f"POST/orders/{call.id}/links"), call.digest, make)
    link = {"type": "order_link", "id": token, "order_id": call.id, "url": track_url(call.records.settings, token), "token": token}
    return reply(link, 201 if made else 200)
