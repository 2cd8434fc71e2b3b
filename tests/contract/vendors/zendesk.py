"""Zendesk Support: users, tickets and the search over both, after its API reference."""

from __future__ import annotations

import itertools
from base64 import b64decode
from pathlib import Path
from typing import Any

from aiohttp import web

from .vendor import Person, Refused, Vendor, digits

AGENT = "agent@acme.example"


class Zendesk(Vendor):
    """Basic access with `<e-mail>/token` and an API token, or a bearer token."""

    include = """
preset: zendesk
settings: {site: "https://acme.zendesk.com"}
fields: {gold: {field: tier, equals: gold}, tier: {field: tier}}
"""

    def __init__(self, directory: Path, tls: bool = False) -> None:
        self.users: dict[int, dict[str, Any]] = {1: {"id": 1, "name": "Agent", "email": AGENT, "role": "agent", "phone": "+14155559999"}}
        self.tickets: dict[int, dict[str, Any]] = {}
        self._ids = itertools.count(35436)
        self._keys: dict[str, tuple[Any, web.Response]] = {}
        super().__init__(directory, tls)

    def systems(self) -> dict[str, str]:
        return {"base_url": self.base_url, "username": f"{AGENT}/token", "password": self.token}

    def add(self, person: Person) -> str:
        number = next(self._ids)
        self.users[number] = {
            "id": number,
            "url": f"{self.base_url}/api/v2/users/{number}.json",
            "name": f"{person.first} {person.last}",
            "email": person.email or None,
            "phone": person.phone or person.mobile or None,
            "locale": "en-US",
            "role": "end-user",
            "external_id": person.reference or None,
            "active": True,
            "tags": [],
            "user_fields": {"tier": person.tier or None},
            "created_at": "2025-03-01T09:00:00Z",
            "updated_at": "2025-03-01T09:00:00Z",
        }
        return str(number)

    def activities(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": str(ticket["requester_id"]),
                "subject": ticket["subject"],
                "text": ticket["description"].split("\n")[0],
                "call": ticket["external_id"],
                "direction": "inbound" if "inbound" in ticket["description"] else "outbound",
            }
            for ticket in self.tickets.values()
            if ticket["external_id"]
        ]

    def cases(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": str(ticket["requester_id"]),
                "subject": ticket["subject"],
                "text": ticket["description"],
                "number": str(ticket["id"]),
                "urgent": ticket["priority"] == "urgent",
            }
            for ticket in self.tickets.values()
            if not ticket["external_id"]
        ]

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get("/api/v2/search.json", self._search)
        router.add_get("/api/v2/users/{id}.json", self._show)
        router.add_put("/api/v2/users/{id}.json", self._update)
        router.add_post("/api/v2/tickets.json", self._create)

    def open_to_all(self, request: web.Request) -> bool:
        return False

    def authorised(self, request: web.Request) -> bool:
        scheme, _, value = request.headers.get("Authorization", "").partition(" ")
        if scheme == "Basic":
            return b64decode(value).decode() == f"{AGENT}/token:{self.token}"
        return super().authorised(request)

    def unauthorised(self) -> Refused:
        return Refused(401, {"error": "Couldn't authenticate you"})

    def too_many(self) -> Refused:
        body = {"description": "Number of allowed API requests per minute exceeded", "error": "TooManyRequests"}
        return Refused(429, body, Retry_After="12", X_Rate_Limit="700", X_Rate_Limit_Remaining="0")

    async def _search(self, request: web.Request) -> web.Response:
        found = [user for user in self.users.values() if all(_matches(user, word) for word in request.query["query"].split())]
        size = int(request.query.get("per_page", "100"))
        more = f"{self.base_url}/api/v2/search.json?page=2" if len(found) > size else None
        results = [{**user, "result_type": "user"} for user in found[:size]]
        return web.json_response({"results": results, "facets": None, "next_page": more, "previous_page": None, "count": len(found)})

    async def _show(self, request: web.Request) -> web.Response:
        return web.json_response({"user": self._user(request)})

    async def _update(self, request: web.Request) -> web.Response:
        user, changes = self._user(request), (await request.json())["user"]
        if "@" not in changes.get("email", "@"):
            fault = {"description": f"Email: {changes['email']} is not properly formatted", "error": "InvalidFormat"}
            details = {"email": [fault]}
            raise Refused(422, {"error": "RecordInvalid", "description": "Record validation errors", "details": details})
        fields = user["user_fields"] | changes.pop("user_fields", {})
        user.update(changes, user_fields=fields)
        return web.json_response({"user": user})

    async def _create(self, request: web.Request) -> web.Response:
        key, body = request.headers.get("Idempotency-Key", ""), await request.json()
        if key in self._keys:
            asked, answer = self._keys[key]
            if asked != body:
                raise Refused(400, {"error": "IdempotentRequestError", "description": "The key was used with other parameters"})
            return web.Response(status=201, body=answer.body, content_type="application/json", headers={"x-idempotency-lookup": "hit"})
        given = body["ticket"]
        if not given.get("comment") and not given.get("description"):
            raise Refused(422, {"error": "RecordInvalid", "description": "Record validation errors", "details": {"base": []}})
        if given.get("requester_id", 1) not in self.users:
            raise Refused(422, {"error": "RecordInvalid", "description": "Record validation errors", "details": {"requester": []}})
        number = next(self._ids)
        text = (given.get("comment") or {}).get("body") or given.get("description")
        self.tickets[number] = {
            "url": f"{self.base_url}/api/v2/tickets/{number}.json",
            "id": number,
            "external_id": given.get("external_id"),
            "via": {"channel": "api", "source": {"from": {}, "to": {}, "rel": None}},
            "subject": given.get("subject"),
            "description": text,
            "priority": given.get("priority"),
            "status": given.get("status", "new"),
            "requester_id": given.get("requester_id", 1),
            "submitter_id": 1,
            "tags": given.get("tags", []),
            "created_at": "2026-01-05T10:02:00Z",
        }
        audit = {"id": next(self._ids), "ticket_id": number, "author_id": 1, "events": []}
        answer = web.json_response({"ticket": self.tickets[number], "audit": audit}, status=201, headers={"x-idempotency-lookup": "miss"})
        if key:
            self._keys[key] = (body, answer)
        return answer

    def _user(self, request: web.Request) -> dict[str, Any]:
        number = request.match_info["id"]
        if not number.isdigit() or int(number) not in self.users:
            raise Refused(404, {"error": "RecordNotFound", "description": "Not found"})
        return self.users[int(number)]


def _matches(user: dict[str, Any], word: str) -> bool:
    key, colon, value = word.partition(":")
    if not colon:
        return word.lower() in f"{user['name']} {user['email']}".lower()
    if key == "type":
        return value == "user"
    if key == "phone":
        stored = digits(user["phone"] or "")
        return stored.endswith(value[1:]) if value.startswith("*") else stored == value
    found = user.get(key, user.get("user_fields", {}).get(key))
    return str(found).lower() == value.lower() if found else False
