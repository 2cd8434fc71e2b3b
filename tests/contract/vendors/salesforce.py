"""Salesforce: SOQL queries, rows, composite requests and the token endpoint, after the REST API Developer Guide."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path
from typing import Any

from aiohttp import web

from .query import Reader, Record, Test, Unreadable
from .vendor import Person, Refused, Vendor

_TOKEN = r"'(?:\\.|[^'\\])*'|[A-Za-z_][A-Za-z0-9_.]*|!=|[=(),]"
_QUERY = re.compile(
    r"SELECT\s+(?P<fields>.+?)\s+FROM\s+(?P<kind>\w+)(?:\s+WHERE\s+(?P<where>.+?))?(?:\s+LIMIT\s+(?P<limit>\d+))?\s*$", re.S | re.I
)
COLUMNS = {
    "Contact": {"Id", "Name", "FirstName", "LastName", "Phone", "MobilePhone", "Email", "Customer_Number__c", "Tier__c"},
    "Task": {"WhoId", "Subject", "Description", "Status", "TaskSubtype", "CallType", "CallDurationInSeconds", "CallObject", "ActivityDate"},
    "Case": {"ContactId", "Subject", "Description", "Origin", "Priority", "CaseNumber"},
}
PREFIX = {"Contact": "003", "Task": "00T", "Case": "500"}
VERSION = "/services/data/{version:v\\d\\d\\.0}"


class Salesforce(Vendor):
    """Bearer tokens, from the token endpoint by client credentials too."""

    include = """
preset: salesforce
settings: {site: "https://acme.lightning.force.com", reference_field: Customer_Number__c}
fields: {gold: {field: Tier__c, equals: gold}, tier: {field: Tier__c}, mail: {field: Email}}
"""
    client = ("consumer-key", "consumer-secret")

    def __init__(self, directory: Path, tls: bool = False) -> None:
        self.rows: dict[str, dict[str, Record]] = {kind: {} for kind in COLUMNS}
        self._ids = itertools.count(1)
        super().__init__(directory, tls)

    def add(self, person: Person) -> str:
        row = {
            "Name": f"{person.first} {person.last}",
            "FirstName": person.first,
            "LastName": person.last,
            "Phone": person.phone or None,
            "MobilePhone": person.mobile or None,
            "Email": person.email or None,
            "Customer_Number__c": person.reference or None,
            "Tier__c": person.tier or None,
        }
        return self._keep("Contact", row)

    def activities(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": row["WhoId"],
                "subject": row["Subject"],
                "text": row["Description"],
                "call": row["CallObject"],
                "direction": row["CallType"].lower(),
            }
            for row in self.rows["Task"].values()
        ]

    def cases(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": row["ContactId"],
                "subject": row["Subject"],
                "text": row["Description"],
                "number": row["CaseNumber"],
                "urgent": row["Priority"] == "High",
            }
            for row in self.rows["Case"].values()
        ]

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_post("/services/oauth2/token", self._token)
        router.add_get(f"{VERSION}/query", self._query)
        router.add_get(f"{VERSION}/query/", self._query)
        router.add_post(f"{VERSION}/composite", self._composite)
        router.add_route("*", f"{VERSION}/sobjects/{{path:.+}}", self._row)

    def open_to_all(self, request: web.Request) -> bool:
        return request.path == "/services/oauth2/token"

    def unauthorised(self) -> Refused:
        return Refused(401, [{"message": "Session expired or invalid", "errorCode": "INVALID_SESSION_ID"}], WWW_Authenticate="Token")

    def too_many(self) -> Refused:
        return Refused(403, [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}])

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        if form.get("grant_type") != "client_credentials" or (form.get("client_id"), form.get("client_secret")) != self.client:
            raise Refused(400, {"error": "invalid_client_id", "error_description": "client identifier invalid"})
        self.expire()
        answer = {
            "access_token": self.token,
            "signature": "c2lnbmF0dXJl",
            "scope": "api",
            "instance_url": self.base_url,
            "id": f"{self.base_url}/id/00Dxx0000001gEREAY/005xx000001SwiUAAS",
            "token_type": "Bearer",
            "issued_at": "1767607200000",
        }
        return web.json_response(answer)

    async def _query(self, request: web.Request) -> web.Response:
        found = _QUERY.match(request.query["q"])
        if found is None or found["kind"] not in self.rows:
            raise Refused(400, [{"message": "unexpected token", "errorCode": "MALFORMED_QUERY"}])
        kind, names = found["kind"], [name.strip() for name in found["fields"].split(",")]
        _columns(kind, names)
        twice = [name for n, name in enumerate(names) if name in names[:n]]
        if twice:
            raise Refused(400, [{"message": f"duplicate field selected: {twice[0]}", "errorCode": "MALFORMED_QUERY"}])
        try:
            test = Reader(found["where"], _TOKEN, _condition).whole() if found["where"] else lambda row: True
        except Unreadable as error:
            raise Refused(400, [{"message": str(error), "errorCode": "MALFORMED_QUERY"}]) from None
        rows = [row for row in self.rows[kind].values() if test(row)][: int(found["limit"] or 2000)]
        return web.json_response({"totalSize": len(rows), "done": True, "records": [_shown(kind, row, names) for row in rows]})

    async def _composite(self, request: web.Request) -> web.Response:
        """The requests in order, each able to name what an earlier one made; with `allOrNone` all is undone when one fails."""
        body = await request.json()
        before = {kind: dict(rows) for kind, rows in self.rows.items()}
        results: list[dict[str, Any]] = []
        made: dict[str, Any] = {}
        for asked in body["compositeRequest"]:
            url = re.sub(r"@\{(\w+)\.(\w+)\}", lambda m: str(made.get(m[1], {}).get(m[2], "")), asked["url"])
            path, _, query = url.partition("?")
            fields = query.removeprefix("fields=").split(",") if query else []
            status, answer = self._carry_out(asked["method"], path.split("/sobjects/", 1)[1].split("/"), fields, asked.get("body"))
            made[asked["referenceId"]] = answer if isinstance(answer, dict) else {}
            results.append({"body": answer, "httpHeaders": {}, "httpStatusCode": status, "referenceId": asked["referenceId"]})
        if body.get("allOrNone") and any(each["httpStatusCode"] >= 400 for each in results):
            self.rows = before
            halted = [{"errorCode": "PROCESSING_HALTED", "message": "The transaction was rolled back since another operation failed."}]
            results = [each if each["httpStatusCode"] >= 400 else {**each, "body": halted, "httpStatusCode": 400} for each in results]
        return web.json_response({"compositeResponse": results})

    async def _row(self, request: web.Request) -> web.Response:
        body = json.loads(await request.text() or "null")
        names = request.query.get("fields", "")
        status, answer = self._carry_out(
            request.method, request.match_info["path"].rstrip("/").split("/"), names.split(",") if names else [], body
        )
        return web.Response(status=204) if answer is None else web.json_response(answer, status=status)

    def _carry_out(self, method: str, path: list[str], fields: list[str], body: Any) -> tuple[int, Any]:
        kind, number = path[0], path[1] if len(path) > 1 else ""
        try:
            if kind not in self.rows:
                return 404, [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
            if method == "POST":
                _columns(kind, body)
                who = body.get("WhoId", body.get("ContactId"))
                if who is not None and who not in self.rows["Contact"]:
                    return 400, [{"message": f"id value of incorrect type: {who}", "errorCode": "MALFORMED_ID", "fields": []}]
                own = {"CaseNumber": f"{next(self._ids) + 1041:08}"} if kind == "Case" else {}
                return 201, {"id": self._keep(kind, {**body, **own}), "success": True, "errors": []}
            if number not in self.rows[kind]:
                return 404, [{"errorCode": "NOT_FOUND", "message": "The requested resource does not exist"}]
            if method == "PATCH":
                _columns(kind, body)
                self.rows[kind][number].update(body)
                return 204, None
            _columns(kind, fields)
            return 200, _shown(kind, self.rows[kind][number], fields or list(COLUMNS[kind]))
        except Refused as refused:
            return refused.response.status, json.loads(refused.response.text or "null")

    def _keep(self, kind: str, row: Record) -> str:
        number = f"{PREFIX[kind]}D000000{next(self._ids):06}IAD"
        self.rows[kind][number] = {"Id": number, **row}
        return number


def _columns(kind: str, names: Any) -> None:
    unknown = [name for name in names if name not in COLUMNS[kind] and name != "Id"]
    if unknown:
        message = f"No such column '{unknown[0]}' on sobject of type {kind}"
        raise Refused(400, [{"message": message, "errorCode": "INVALID_FIELD"}])


def _shown(kind: str, row: Record, names: list[str]) -> Record:
    number = row["Id"]
    attributes = {"type": kind, "url": f"/services/data/v62.0/sobjects/{kind}/{number}"}
    return {"attributes": attributes, **{name: row.get(name) for name in names}, "Id": number}


def _condition(reader: Reader) -> Test:
    field, comparison = reader.take(), reader.take().upper()
    if comparison == "IN":
        values = reader.items("(", ")", _text)
        return lambda row: row.get(field) in values
    value = _text(reader.take())
    return (lambda row: row.get(field) == value) if comparison == "=" else (lambda row: row.get(field) != value)


def _text(token: str) -> str:
    if not token.startswith("'"):
        raise Unreadable(f"expected a text in quotes, found {token!r}")
    return re.sub(r"\\(.)", r"\1", token[1:-1])
