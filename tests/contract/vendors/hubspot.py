"""HubSpot's CRM: contacts, calls, tickets, the search and the token endpoint, after its developer docs."""

from __future__ import annotations

import itertools
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

from .vendor import Person, Refused, Vendor, area_and_local

KNOWN = {"firstname", "lastname", "email", "phone", "mobilephone", "hs_language", "customer_number", "tier", "hs_object_id"}
ALWAYS = ("createdate", "hs_object_id", "lastmodifieddate")
WHEN = "2025-01-17T19:55:04.281Z"


class HubSpot(Vendor):
    """Bearer tokens of a private app, or from the token endpoint."""

    include = """
preset: hubspot
settings: {portal: "123456", reference_field: customer_number}
fields: {gold: {field: tier, equals: gold}, tier: {field: tier}}
"""
    client = ("app", "app-secret", "refresh-me")

    def __init__(self, directory: Path, tls: bool = False) -> None:
        self.objects: dict[str, dict[str, dict[str, Any]]] = {"contacts": {}, "calls": {}, "tickets": {}}
        self._ids = itertools.count(100451)
        super().__init__(directory, tls)

    def add(self, person: Person) -> str:
        given = {
            "firstname": person.first,
            "lastname": person.last,
            "email": person.email or None,
            "phone": person.phone or None,
            "mobilephone": person.mobile or None,
            "hs_language": "en",
            "customer_number": person.reference or None,
            "tier": person.tier or None,
        }
        return self._keep("contacts", given, [])

    def activities(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": call["associations"][0]["to"]["id"],
                "subject": call["properties"]["hs_call_title"],
                "text": call["properties"]["hs_call_body"].split("\n")[0],
                "call": call["properties"]["hs_call_body"].split(" ")[-1],
                "direction": call["properties"]["hs_call_direction"].lower(),
            }
            for call in self.objects["calls"].values()
        ]

    def cases(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": ticket["associations"][0]["to"]["id"],
                "subject": ticket["properties"]["subject"],
                "text": ticket["properties"]["content"],
                "number": ticket["id"],
                "urgent": ticket["properties"]["hs_ticket_priority"] == "URGENT",
            }
            for ticket in self.objects["tickets"].values()
        ]

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/oauth/v1/token", self._token)
        router.add_post("/crm/v3/objects/contacts/search", self._search)
        router.add_get("/crm/v3/objects/{kind}/{id}", self._read)
        router.add_patch("/crm/v3/objects/{kind}/{id}", self._update)
        router.add_post("/crm/v3/objects/{kind}", self._create)

    def open_to_all(self, request: web.Request) -> bool:
        return request.path == "/oauth/v1/token"

    def unauthorised(self) -> Refused:
        message = "Authentication credentials not found or expired."
        return Refused(401, _error(message, category="EXPIRED_AUTHENTICATION"))

    def too_many(self) -> Refused:
        return Refused(429, _error("You have reached your secondly limit.", errorType="RATE_LIMIT", policyName="SECONDLY"))

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = (form.get("client_id"), form.get("client_secret"), form.get("refresh_token"))
        if form.get("grant_type") != "refresh_token" or given != self.client:
            raise Refused(400, _error("missing or unknown refresh token", status="BAD_REFRESH_TOKEN"))
        self.expire()
        answer = {"token_type": "bearer", "refresh_token": self.client[2], "access_token": self.token, "expires_in": 1800}
        return web.json_response(answer)

    async def _search(self, request: web.Request) -> web.Response:
        body = await request.json()
        groups, limit = body.get("filterGroups", []), body.get("limit", 10)
        if len(groups) > 5 or not isinstance(limit, int):
            raise Refused(400, _error("There was a problem with the request.", category="VALIDATION_ERROR"))
        found = [c for c in self.objects["contacts"].values() if not groups or any(_in_group(c["properties"], group) for group in groups)]
        answer: dict[str, Any] = {"total": len(found), "results": [_shown(contact, body.get("properties")) for contact in found[:limit]]}
        if len(found) > limit:
            answer["paging"] = {"next": {"after": str(limit)}}
        return web.json_response(answer)

    async def _read(self, request: web.Request) -> web.Response:
        asked = request.query.getall("properties", [])
        return web.json_response(_shown(self._object(request), [name for names in asked for name in names.split(",")]))

    async def _update(self, request: web.Request) -> web.Response:
        contact, changes = self._object(request), (await request.json())["properties"]
        _known(request.match_info["kind"], changes)
        contact["properties"].update(changes)
        return web.json_response(_shown(contact, list(changes)))

    async def _create(self, request: web.Request) -> web.Response:
        kind, body = request.match_info["kind"], await request.json()
        properties, associations = body["properties"], body.get("associations", [])
        _known(kind, properties)
        needed = {"calls": "hs_timestamp", "tickets": "hs_pipeline_stage"}.get(kind)
        if needed and not properties.get(needed):
            raise Refused(400, _error(f"Some required properties were not set: {needed}", category="VALIDATION_ERROR"))
        for each in associations:
            if each["to"]["id"] not in self.objects["contacts"]:
                raise Refused(404, _error("Resource not found", category="OBJECT_NOT_FOUND"))
            if [type_["associationTypeId"] for type_ in each["types"]] != [{"calls": 194, "tickets": 16}[kind]]:
                raise Refused(400, _error("One or more associations are not valid", category="VALIDATION_ERROR"))
        made = self.objects[kind][self._keep(kind, properties, associations)]
        return web.json_response(_shown(made, list(properties)), status=201)

    def _keep(self, kind: str, properties: dict[str, Any], associations: list[Any]) -> str:
        number = str(next(self._ids))
        own = {"hs_object_id": number, "createdate": WHEN, "lastmodifieddate": WHEN}
        self.objects[kind][number] = {"id": number, "properties": {**properties, **own}, "associations": associations}
        return number

    def _object(self, request: web.Request) -> dict[str, Any]:
        found = self.objects.get(request.match_info["kind"], {}).get(request.match_info["id"])
        if found is None:
            raise Refused(404, _error("Object not found. objectId are usually numeric.", category="OBJECT_NOT_FOUND"))
        return found


def _in_group(properties: dict[str, Any], group: dict[str, Any]) -> bool:
    return all(each["operator"] == "EQ" and _value(properties, each["propertyName"]) == each["value"] for each in group["filters"])


def _value(properties: dict[str, Any], name: str) -> str:
    calculated = {"hs_searchable_calculated_phone_number": "phone", "hs_searchable_calculated_mobile_number": "mobilephone"}
    if name in calculated:
        return area_and_local(properties.get(calculated[name]) or "")
    if name not in KNOWN:
        raise Refused(400, _error(f"There was a problem with the request. {name} does not exist", category="VALIDATION_ERROR"))
    return str(properties.get(name) or "")


def _known(kind: str, properties: dict[str, Any]) -> None:
    if kind == "contacts" and not properties.keys() <= KNOWN:
        raise Refused(400, _error("Property values were not valid", category="VALIDATION_ERROR"))


def _shown(record: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    asked = {name: record["properties"].get(name) for name in (*ALWAYS, *(names or ("firstname", "lastname", "email")))}
    return {"id": record["id"], "properties": asked, "createdAt": WHEN, "updatedAt": WHEN, "archived": False}


def _error(message: str, **more: str) -> dict[str, str]:
    return {"status": "error", "message": message, "correlationId": str(uuid.uuid4()), **more}
