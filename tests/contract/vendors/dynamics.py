"""Dynamics 365: the Dataverse Web API (OData 4.0) and the token endpoint of Microsoft Entra, after Microsoft Learn."""

from __future__ import annotations

import itertools
import re
import uuid
from pathlib import Path
from typing import Any

from aiohttp import web

from .query import Reader, Record, Test, Unreadable
from .vendor import Person, Refused, Vendor

_TOKEN = r"'(?:''|[^'])*'|[A-Za-z_][A-Za-z0-9_.]*|\d+|[=(),\[\]]"
TENANT = "0f2f4b7c-5f0b-4f0e-9d3c-6f1f6a0f1a11"
KEYS = {"contacts": "contactid", "phonecalls": "activityid", "incidents": "incidentid"}
COLUMNS = {
    "contacts": {
        "contactid",
        "fullname",
        "firstname",
        "lastname",
        "telephone1",
        "mobilephone",
        "emailaddress1",
        "statecode",
        "externaluseridentifier",
        "new_tier",
    },
    "phonecalls": {"activityid", "subject", "description", "directioncode", "actualstart", "actualdurationminutes", "statecode"},
    "incidents": {"incidentid", "title", "description", "caseorigincode", "prioritycode", "ticketnumber", "statecode"},
}
LINKS = {"regardingobjectid_contact_phonecall": "_regardingobjectid_value", "customerid_contact": "_customerid_value"}


class Dynamics(Vendor):
    """Bearer tokens, from the tenant's token endpoint by client credentials too."""

    include = """
preset: dynamics
settings: {site: "https://acme.crm4.dynamics.com"}
fields: {gold: {field: new_tier, equals: gold}, tier: {field: new_tier}}
"""
    client = ("11111111-2222-3333-4444-555555555555", "client-secret")

    def __init__(self, directory: Path, tls: bool = False) -> None:
        self.tables: dict[str, dict[str, Record]] = {table: {} for table in KEYS}
        self._numbers = itertools.count(1042)
        super().__init__(directory, tls)

    def add(self, person: Person) -> str:
        row = {
            "fullname": f"{person.first} {person.last}",
            "firstname": person.first,
            "lastname": person.last,
            "telephone1": person.phone or None,
            "mobilephone": person.mobile or None,
            "emailaddress1": person.email or None,
            "externaluseridentifier": person.reference or None,
            "new_tier": person.tier or None,
        }
        return self._keep("contacts", str(uuid.uuid4()), row)

    def activities(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": row["_regardingobjectid_value"],
                "subject": row["subject"],
                "text": row["description"],
                "call": row["activityid"].replace("-", ""),
                "direction": "outbound" if row["directioncode"] else "inbound",
            }
            for row in self.tables["phonecalls"].values()
        ]

    def cases(self) -> list[dict[str, Any]]:
        return [
            {
                "contact": row["_customerid_value"],
                "subject": row["title"],
                "text": row["description"],
                "number": row["ticketnumber"],
                "urgent": row["prioritycode"] == 1,
            }
            for row in self.tables["incidents"].values()
        ]

    def routes(self, router: web.UrlDispatcher) -> None:
        router.add_get(f"/{TENANT}/v2.0/.well-known/openid-configuration", self._discovery)
        router.add_post(f"/{TENANT}/oauth2/v2.0/token", self._token)
        router.add_get("/api/data/v9.2/WhoAmI", self._who)
        router.add_get("/api/data/v9.2/{table:[a-z]+}", self._query)
        router.add_post("/api/data/v9.2/{table:[a-z]+}", self._create)
        router.add_get(r"/api/data/v9.2/{table:[a-z]+}({id})", self._read)
        router.add_patch(r"/api/data/v9.2/{table:[a-z]+}({id})", self._upsert)

    def open_to_all(self, request: web.Request) -> bool:
        return request.path.startswith(f"/{TENANT}/")

    def unauthorised(self) -> Refused:
        return Refused(
            401, {"error": {"code": "0x80072560", "message": "The token is not valid or has expired."}}, WWW_Authenticate="Bearer"
        )

    def too_many(self) -> Refused:
        message = "Number of requests exceeded the limit of 6000 over time window of 300 seconds."
        return Refused(429, _error("0x80072322", message), Retry_After="30")

    async def _discovery(self, request: web.Request) -> web.Response:
        own = f"{request.scheme}://{request.host}/{TENANT}"
        answer = {
            "issuer": f"{own}/v2.0",
            "token_endpoint": f"{own}/oauth2/v2.0/token",
            "authorization_endpoint": f"{own}/oauth2/v2.0/authorize",
        }
        return web.json_response(answer)

    async def _token(self, request: web.Request) -> web.Response:
        form = await request.post()
        given = (form.get("client_id"), form.get("client_secret"))
        if form.get("grant_type") != "client_credentials" or given != self.client:
            raise Refused(401, {"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."})
        if not str(form.get("scope", "")).endswith("/.default"):
            raise Refused(400, {"error": "invalid_scope", "error_description": "AADSTS70011: The provided value for scope is not valid."})
        self.expire()
        return web.json_response({"token_type": "Bearer", "expires_in": 3599, "ext_expires_in": 3599, "access_token": self.token})

    async def _who(self, request: web.Request) -> web.Response:
        return web.json_response({"BusinessUnitId": str(uuid.UUID(int=1)), "UserId": str(uuid.UUID(int=2)), "OrganizationId": TENANT})

    async def _query(self, request: web.Request) -> web.Response:
        table = _table(request)
        names = _selected(request, table)
        try:
            filtered = request.query.get("$filter")
            test = Reader(filtered, _TOKEN, _condition).whole() if filtered else lambda row: True
        except Unreadable as error:
            raise Refused(400, _error("0x80060888", str(error))) from None
        rows = [row for row in self.tables[table].values() if test(row)][: int(request.query.get("$top", "5000"))]
        context = f"{self.base_url}/api/data/v9.2/$metadata#{table}({','.join(names)})"
        return web.json_response({"@odata.context": context, "value": [_shown(table, row, names) for row in rows]})

    async def _read(self, request: web.Request) -> web.Response:
        table = _table(request)
        return web.json_response(_shown(table, self._row(request), _selected(request, table)))

    async def _create(self, request: web.Request) -> web.Response:
        table = _table(request)
        return self._made(request, table, self._keep(table, str(uuid.uuid4()), self._values(table, await request.json())), 201)

    async def _upsert(self, request: web.Request) -> web.Response:
        table, number = _table(request), request.match_info["id"]
        if number not in self.tables[table]:
            if request.headers.get("If-Match") == "*":
                raise _missing(table, number)
            self._keep(table, number, self._values(table, await request.json()))
            return self._made(request, table, number, 201)
        self.tables[table][number].update(self._values(table, await request.json()))
        return self._made(request, table, number, 200)

    def _made(self, request: web.Request, table: str, number: str, status: int) -> web.Response:
        if "return=representation" in request.headers.get("Prefer", ""):
            return web.json_response(_shown(table, self.tables[table][number], list(COLUMNS[table])), status=status)
        entity = f"{self.base_url}/api/data/v9.2/{table}({number})"
        return web.Response(status=204, headers={"OData-EntityId": entity, "OData-Version": "4.0"})

    def _values(self, table: str, given: Record) -> Record:
        """The columns of a body; a link to another row must lead somewhere."""
        values: Record = {}
        for name, value in given.items():
            link, bound, _ = name.partition("@odata.bind")
            if bound and link in LINKS:
                target = re.fullmatch(r"/contacts\(([0-9a-f-]{36})\)", value)
                if target is None or target[1] not in self.tables["contacts"]:
                    raise _missing("contacts", value)
                values[LINKS[link]] = target[1]
            elif name in COLUMNS[table]:
                values[name] = value
            else:
                raise Refused(
                    400, _error("0x80048d19", f"The property '{name}' does not exist on type 'Microsoft.Dynamics.CRM.{table[:-1]}'.")
                )
        return values

    def _keep(self, table: str, number: str, values: Record) -> str:
        own = {"ticketnumber": f"CAS-0{next(self._numbers)}-R1X5Q8"} if table == "incidents" else {}
        self.tables[table][number] = {KEYS[table]: number, "statecode": 0, **values, **own}
        return number

    def _row(self, request: web.Request) -> Record:
        table, number = _table(request), request.match_info["id"]
        if number not in self.tables[table]:
            raise _missing(table, number)
        return self.tables[table][number]


def _table(request: web.Request) -> str:
    table = request.match_info["table"]
    if table not in KEYS:
        raise Refused(404, _error("0x80060888", f"Resource not found for the segment '{table}'."))
    return table


def _selected(request: web.Request, table: str) -> list[str]:
    names = request.query.get("$select", ",".join(sorted(COLUMNS[table]))).split(",")
    unknown = [name for name in names if name not in COLUMNS[table]]
    if unknown:
        raise Refused(400, _error("0x80060888", f"Could not find a property named '{unknown[0]}'."))
    return names


def _shown(table: str, row: Record, names: list[str]) -> Record:
    links = {name: row[name] for name in LINKS.values() if name in row}
    return {"@odata.etag": 'W/"72201545"', KEYS[table]: row[KEYS[table]], **{name: row.get(name) for name in names}, **links}


def _condition(reader: Reader) -> Test:
    name = reader.take()
    if name == "Microsoft.Dynamics.CRM.In":
        for expected in ("(", "PropertyName", "="):
            reader.take(expected)
        field = _value(reader.take())
        for expected in (",", "PropertyValues", "="):
            reader.take(expected)
        values = reader.items("[", "]", _value)
        reader.take(")")
        return lambda row: row.get(field) in values
    comparison, value = reader.take().lower(), _value(reader.take())
    if comparison not in ("eq", "ne"):
        raise Unreadable(f"expected eq or ne, found {comparison!r}")
    return lambda row: (row.get(name) == value) is (comparison == "eq")


def _value(token: str) -> Any:
    if token.isdigit():
        return int(token)
    if not token.startswith("'"):
        raise Unreadable(f"expected a value, found {token!r}")
    return token[1:-1].replace("''", "'")


def _missing(table: str, number: str) -> Refused:
    return Refused(404, _error("0x80040217", f"Entity '{table[:-1].capitalize()}' With Id = {number} Does Not Exist"))


def _error(code: str, message: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": message}}
