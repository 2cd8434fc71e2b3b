"""The reference CRM, run as the process that it is and spoken to over HTTP."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import select
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine

from crm import demo, models
from crm.__main__ import main
from crm.database import DatabaseRefused, open_database
from crm.numbers import keypad
from crm.tables import metadata

ROOT = Path(__file__).parents[2]
TOKEN = "contract-test-token-0001"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ANNA = "+4930555000101"
NOBODY = "0" * 32


def command(database: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "crm", "--port", "0", "--database", str(database), *more]


class Service:
    """A running CRM."""

    def __init__(self, database: Path, *more: str) -> None:
        self.database = database
        self.log = database.with_suffix(".log")
        environment = {**os.environ, "CRM_TOKEN": TOKEN}
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command(database, *more), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], 60)
        line = self.process.stdout.readline() if ready else ""
        assert line.startswith("crm: ready on http://"), self.log.read_text()
        self.url = line.split()[-1]

    def end(self, how: signal.Signals = signal.SIGTERM) -> int:
        self.process.send_signal(how)
        status = self.process.wait(timeout=15)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return status


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    framed = ("--framed-by=http://desk.example:8080", "--framed-by=https://desk.example")
    running = Service(tmp_path_factory.mktemp("crm") / "crm.db", "--seed", "demo", "--faults", *framed)
    yield running
    assert running.end() == 0


@pytest.fixture
async def http(service: Service) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(service.url, headers=BEARER, timeout=aiohttp.ClientTimeout(20)) as session:
        yield session


async def get(http: aiohttp.ClientSession, path: str, **query: str) -> Any:
    async with http.get(f"/api/v1/{path}", params=query) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def send(http: aiohttp.ClientSession, method: str, path: str, body: Any, status: int, **headers: str) -> Any:
    async with http.request(method, f"/api/v1/{path}", json=body, headers=headers) as response:
        assert response.status == status, await response.text()
        return await response.json(content_type=None)


async def problem(http: aiohttp.ClientSession, method: str, path: str, status: int, kind: str, **request: Any) -> dict[str, Any]:
    async with http.request(method, path, **request) as response:
        found = json.loads(await response.text())
        assert response.status == status, found
        assert response.content_type == "application/problem+json"
        models.ProblemDetails.model_validate(found)
        assert found["type"] == f"urn:callwright:crm:{kind}"
        assert found["request_id"] == response.headers["X-Request-Id"]
        return dict(found)


async def new_contact(http: aiohttp.ClientSession, **fields: Any) -> dict[str, Any]:
    return dict(await send(http, "POST", "contacts", {"first_name": "Test", "last_name": "Person", **fields}, 201))


# --- finding people -------------------------------------------------------------------------------------------------


async def test_one_lookup_by_number_gives_all_that_a_call_needs(http: aiohttp.ClientSession) -> None:
    found = await get(http, "contacts", phone=ANNA)
    assert found["count"] == 1
    anna = found["results"][0]
    models.Contact.model_validate(anna)
    expected = {
        "type": "contact",
        "reference": "ASC2K41",
        "first_name": "Anna",
        "last_name": "Schmidt",
        "phone": ANNA,
        "language": "en",
        "premium": True,
        "tier": "gold",
        "late_payment": False,
        "product": "printers",
        "skills": {"lang.en": 5, "product.printers": 3},
        "open_cases": 1,
    }
    assert {name: anna[name] for name in expected} == expected
    assert anna["account"]["name"] == "Schmidt Druck GmbH"
    assert {name: anna["last_order"][name] for name in ("number", "status", "total")} == {
        "number": "104725",
        "status": "shipped",
        "total": 408.9,
    }
    assert anna == await get(http, f"contacts/{anna['id']}")


@pytest.mark.parametrize("dialled", ["030 555000101", "0049 30 555000101", "+49 (0)30 555-000-101", "tel:+49-30-555000101"])
async def test_numbers_are_found_however_they_are_written(http: aiohttp.ClientSession, dialled: str) -> None:
    assert [one["reference"] for one in (await get(http, "contacts", phone=dialled))["results"]] == ["ASC2K41"]


@pytest.mark.parametrize("dialled", ["+4930555000901", "+4930555000999", "101", "+12025550123"])
async def test_a_number_of_nobody_finds_nobody(http: aiohttp.ClientSession, dialled: str) -> None:
    assert await get(http, "contacts", phone=dialled) == {"results": [], "count": 0}


async def test_two_people_with_one_number_are_both_returned(http: aiohttp.ClientSession) -> None:
    found = await get(http, "contacts", phone="+4930555000106")
    assert (found["count"], {one["first_name"] for one in found["results"]}) == (2, {"Frank", "Greta"})


async def test_references_are_found_in_any_case_and_as_typed_on_a_keypad(http: aiohttp.ClientSession) -> None:
    for query in ({"reference": "gha4p77"}, {"reference": "GHA4P77"}, {"reference_digits": "4424777"}):
        assert [one["last_name"] for one in (await get(http, "contacts", **query))["results"]] == ["Haas"]
    assert (await get(http, "contacts", reference="GHA4P78"))["count"] == 0
    assert (await get(http, "contacts", reference_digits="4424"))["count"] == 0


async def test_references_with_the_same_keys_are_all_returned(http: aiohttp.ClientSession) -> None:
    for reference in ("aaa1111", "BBB1111", "CCC1111"):
        await new_contact(http, reference=reference)
    found = await get(http, "contacts", reference_digits="2221111")
    assert {one["reference"] for one in found["results"]} == {"AAA1111", "BBB1111", "CCC1111"}


def test_keypad_forms_follow_the_letters_on_the_keys() -> None:
    assert keypad("7F3A21K") == "7332215"
    assert keypad("abcdefghijklmnopqrstuvwxyz") == "22233344455566677778889999"


def test_demo_references_differ_on_the_keypad_and_unknown_numbers_stay_unknown() -> None:
    assert len(demo.PEOPLE) == 30
    assert len({keypad(person.reference) for person in demo.PEOPLE}) == 30
    assert not [person for person in demo.PEOPLE if person.tail.startswith("9")]


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        ("102", {"premium": False, "late_payment": False, "email": True, "last_order": True}),
        ("103", {"premium": False, "late_payment": True, "email": True, "last_order": True}),
        ("104", {"premium": False, "late_payment": False, "email": False, "last_order": True}),
        ("105", {"premium": False, "late_payment": False, "email": True, "last_order": False}),
        ("201", {"premium": True, "late_payment": False, "email": True, "last_order": True}),
        ("202", {"premium": False, "late_payment": False, "email": True, "last_order": True}),
    ],
)
async def test_demo_people_take_the_ways_of_the_flow_that_they_stand_for(
    http: aiohttp.ClientSession, number: str, expected: dict[str, bool]
) -> None:
    (person,) = (await get(http, "contacts", phone=f"+4930555000{number}"))["results"]
    assert {name: bool(person[name]) for name in expected} == expected


async def test_texts_about_an_order_are_in_the_language_of_the_contact(http: aiohttp.ClientSession) -> None:
    (hugo,) = (await get(http, "contacts", reference="HIG5R88"))["results"]
    assert (hugo["language"], hugo["last_order"]["status_text"]) == ("es", "ha sido enviado y está en camino")


# --- who may --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "Basic"])
async def test_both_schemes_open_the_api(service: Service, scheme: str) -> None:
    secret = base64.b64encode(f"callwright:{TOKEN}".encode()).decode() if scheme == "Basic" else TOKEN
    async with aiohttp.ClientSession(service.url) as bare:
        async with bare.get("/api/v1/cases", headers={"Authorization": f"{scheme} {secret}"}) as response:
            assert response.status == 200


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Bearer",
        "Bearer wrong",
        f"Bearer {TOKEN}x",
        "Basic !!!",
        "Basic " + base64.b64encode(b"callwright:wrong").decode(),
        "Basic " + base64.b64encode(f"root:{TOKEN}".encode()).decode(),
        "Basic " + base64.b64encode(b"\xff\xfe").decode(),
        f"Digest {TOKEN}",
        "Bearer \xe9",
    ],
)
async def test_without_the_token_everything_is_the_same_401(service: Service, header: str) -> None:
    async with aiohttp.ClientSession(service.url) as bare:
        for path in ("/api/v1/contacts", f"/api/v1/contacts/{NOBODY}", "/api/v1/orders?bad=1"):
            await problem(bare, "GET", path, 401, "unauthorized", headers={"Authorization": header})


# --- bad input ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "phone=anonymous",
        "phone=",
        "phone=" + "1" * 41,
        "x=1",
        "limit=0",
        "limit=abc",
        "limit=1e999",
        "offset=-1",
        "limit=99999999999999999999",
        "reference=AS%20C",
        "reference=%00",
        "reference_digits=abc",
        "email=nobody",
        "account_id=1",
        "phone=1&phone=2",
    ],
)
async def test_a_wrong_query_is_told_by_the_name_of_its_parameter(http: aiohttp.ClientSession, query: str) -> None:
    found = await problem(http, "GET", f"/api/v1/contacts?{query}", 422, "invalid")
    assert found.get("detail") or all(error["parameter"] == query.partition("=")[0] for error in found["errors"])


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"first_name": ""}, "/first_name"),
        ({"first_name": None}, "/first_name"),
        ({"first_name": "x" * 61}, "/first_name"),
        ({"first_name": "a\x00b"}, "/first_name"),
        ({"last_name": "\u202eevil"}, "/last_name"),
        ({"first_name": "two\nlines"}, "/first_name"),
        ({"phone": "hello"}, "/phone"),
        ({"phone": "12"}, "/phone"),
        ({"phone": 4930}, "/phone"),
        ({"email": "a@b"}, "/email"),
        ({"email": "a@example.com\r\nBcc: b@example.com"}, "/email"),
        ({"language": "fr"}, "/language"),
        ({"premium": "true"}, "/premium"),
        ({"premium": 1}, "/premium"),
        ({"tier": "platinum"}, "/tier"),
        ({"customer_value": -1}, "/customer_value"),
        ({"customer_value": 10**30}, "/customer_value"),
        ({"nps": 11}, "/nps"),
        ({"nps": 7.5}, "/nps"),
        ({"skills": {"lang.en": 11}}, "/skills/lang.en"),
        ({"skills": {f"s{n}": 1 for n in range(6)}}, "/skills"),
        ({"skills": []}, "/skills"),
        ({"reference": "SHORT"}, "/reference"),
        ({"reference": "7 LETTR"}, "/reference"),
        ({"account_id": NOBODY}, "/account_id"),
        ({"account_id": "x"}, "/account_id"),
        ({"id": NOBODY}, "/id"),
        ({"type": "account"}, "/type"),
        ({"surprise": 1}, "/surprise"),
    ],
)
async def test_a_wrong_field_is_told_by_a_pointer(http: aiohttp.ClientSession, change: dict[str, Any], pointer: str) -> None:
    body = {"first_name": "Test", "last_name": "Person", **change}
    found = await problem(http, "POST", "/api/v1/contacts", 422, "invalid", json=body)
    assert pointer in [error["pointer"] for error in found["errors"]]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{",
        b"nonsense",
        b"\xff\xfe",
        b'{"nps": NaN}',
        b'{"customer_value": Infinity}',
        b'{"a": "\\ud800"}',
        b'{"a": 1, "a": 2}',
        b"[" * 100_000,
        b'{"a": ' * 900 + b"1" + b"}" * 900,
    ],
)
async def test_what_is_no_json_is_refused(http: aiohttp.ClientSession, raw: bytes) -> None:
    async with http.post("/api/v1/contacts", data=raw, headers={"Content-Type": "application/json"}) as response:
        assert response.status in (400, 422)
        assert response.content_type == "application/problem+json"


@pytest.mark.parametrize("body", [[], "text", 5, None, True])
async def test_json_that_is_no_object_is_refused(http: aiohttp.ClientSession, body: Any) -> None:
    await problem(http, "POST", "/api/v1/contacts", 422, "invalid", data=json.dumps(body), headers={"Content-Type": "application/json"})


async def test_large_bodies_other_media_and_wrong_ways_are_refused(http: aiohttp.ClientSession) -> None:
    kind = {"Content-Type": "application/json"}
    await problem(http, "POST", "/api/v1/contacts", 413, "too-large", data=b" " * 300_000, headers=kind)
    await problem(http, "POST", "/api/v1/contacts", 415, "unsupported-media-type", data=b"a=1", headers={"Content-Type": "text/plain"})
    await problem(http, "DELETE", "/api/v1/contacts", 405, "method-not-allowed")
    await problem(http, "GET", "/api/v1/nothing", 404, "not-found")
    for path in (f"contacts/{NOBODY}", f"orders/{NOBODY}", "contacts/1", "contacts/%00", "orders/..%2f..", f"contacts/{NOBODY}/activities"):
        await problem(http, "GET", f"/api/v1/{path}", 404, "not-found")


async def test_numbers_beyond_all_limits_never_break_the_service(http: aiohttp.ClientSession) -> None:
    kind = {"Content-Type": "application/json"}
    for value in ("1e999", "9" * 400, "-" + "9" * 30, "9223372036854775808"):
        body = f'{{"first_name": "A", "last_name": "B", "nps": {value}}}'
        async with http.post("/api/v1/contacts", data=body, headers=kind) as response:
            assert response.status in (400, 422), await response.text()
        body = f'{{"name": "A", "fields": {{"n": {value}}}}}'
        async with http.post("/api/v1/objects/gauge", data=body, headers=kind) as response:
            assert response.status in (400, 422), await response.text()


# --- records --------------------------------------------------------------------------------------------------------


async def test_a_contact_is_made_read_and_changed(http: aiohttp.ClientSession) -> None:
    account = await send(http, "POST", "accounts", {"name": "Example Works"}, 201)
    made = await new_contact(http, phone="030 555000301", reference="qqq7777", account_id=account["id"], email="t@example.com")
    assert (made["phone"], made["reference"], made["account"]["name"], made["open_cases"]) == (
        "+4930555000301",
        "QQQ7777",
        "Example Works",
        0,
    )
    changed = await send(http, "PATCH", f"contacts/{made['id']}", {"email": None, "tier": "silver", "reference": "RRR7777"}, 200)
    assert changed == {**made, "email": None, "tier": "silver", "reference": "RRR7777", "updated_at": changed["updated_at"]}
    assert (await get(http, "contacts", reference_digits="7777777"))["count"] == 1
    await send(http, "PATCH", f"contacts/{made['id']}", {"premium": None}, 422)
    await send(http, "PATCH", f"contacts/{NOBODY}", {"tier": "gold"}, 404)
    await problem(http, "POST", "/api/v1/contacts", 409, "conflict", json={"first_name": "A", "last_name": "B", "reference": "rrr7777"})


async def test_open_cases_are_counted_until_they_are_closed(http: aiohttp.ClientSession) -> None:
    person = await new_contact(http)
    case = await send(http, "POST", "cases", {"contact_id": person["id"], "subject": "Broken"}, 201)
    assert (await get(http, f"contacts/{person['id']}"))["open_cases"] == 1
    closed = await send(http, "PATCH", f"cases/{case['id']}", {"status": "closed"}, 200)
    assert closed["closed_at"] is not None
    assert (await get(http, f"contacts/{person['id']}"))["open_cases"] == 0


async def test_an_order_keeps_its_history_and_the_latest_one_is_the_contacts(http: aiohttp.ClientSession) -> None:
    person = await new_contact(http)
    items = [{"sku": "A", "name": "Thing", "quantity": 3, "unit_price": 1.1}]
    await send(http, "POST", "orders", {"contact_id": person["id"], "placed_at": "2026-01-01T12:00:00+01:00"}, 201)
    order = await send(http, "POST", "orders", {"contact_id": person["id"], "items": items, "placed_at": "2026-02-01T12:00:00+01:00"}, 201)
    assert (order["total"], order["placed_at"], order["status"]) == (3.3, "2026-02-01T11:00:00Z", "ordered")
    await send(http, "PATCH", f"orders/{order['id']}", {"status": "packed", "status_note": "shelf 4"}, 200)
    moved = await send(http, "PATCH", f"orders/{order['id']}", {"status": "shipped", "eta": "2026-02-09"}, 200)
    assert [(entry["status"], entry["note"]) for entry in moved["status_history"]] == [
        ("ordered", None),
        ("packed", "shelf 4"),
        ("shipped", None),
    ]
    last = (await get(http, f"contacts/{person['id']}"))["last_order"]
    assert (last["id"], last["status"], last["eta"]) == (order["id"], "shipped", "2026-02-09")
    assert (await get(http, "orders", contact_id=person["id"]))["count"] == 2
    await send(http, "POST", "orders", {"contact_id": NOBODY}, 422)
    await send(http, "PATCH", f"orders/{order['id']}", {"status": "lost"}, 422)


async def test_custom_objects_are_kept_by_type_and_found_by_their_fields(http: aiohttp.ClientSession) -> None:
    lease = await send(http, "POST", "objects/lease", {"name": "L1", "fields": {"model": "PX-200", "months": 36, "parts": [{"a": 1}]}}, 201)
    other = await send(http, "POST", "objects/warranty", {"name": "W1", "fields": {"model": "PX-200"}}, 201)
    assert (lease["type"], other["type"]) == ("lease", "warranty")
    assert [one["id"] for one in (await get(http, "objects/lease", **{"fields.model": "PX-200"}))["results"]] == [lease["id"]]
    assert (await get(http, "objects/lease", **{"fields.months": "36", "fields.model": "PX-200"}))["count"] == 1
    assert (await get(http, "objects/lease", **{"fields.months": "37"}))["count"] == 0
    changed = await send(http, "PATCH", f"objects/lease/{lease['id']}", {"fields": {"model": "PX-300"}}, 200)
    assert changed["fields"] == {"model": "PX-300"}
    await send(http, "PATCH", f"objects/warranty/{lease['id']}", {"name": "x"}, 404)
    await problem(http, "GET", "/api/v1/objects/lease?fields.a%22b=1", 422, "invalid")
    for reserved in ("contact", "contacts", "order"):
        await problem(http, "POST", f"/api/v1/objects/{reserved}", 422, "invalid", json={"name": "x"})


# --- once and only once ---------------------------------------------------------------------------------------------


async def test_the_same_external_id_makes_one_activity(http: aiohttp.ClientSession) -> None:
    person = await new_contact(http)
    body = {
        "contact_id": person["id"],
        "subject": "Order status",
        "disposition": "solved",
        "duration": 61.5,
        "external_id": "call-1",
        "started": "2026-03-01T10:00:00+01:00",
        "remarks": "line one\nline two",
    }
    first = await send(http, "POST", "activities", body, 201)
    models.Activity.model_validate(first)
    assert (first["type"], first["kind"], first["started"]) == ("activity", "call", "2026-03-01T09:00:00Z")
    assert await send(http, "POST", "activities", dict(reversed(body.items())), 200) == first
    await problem(http, "POST", "/api/v1/activities", 422, "key-reused", json={**body, "disposition": "other"})
    found = await get(http, f"contacts/{person['id']}/activities", limit="5")
    assert found == {"results": [first], "count": 1}
    assert (await get(http, "activities", external_id="call-1"))["count"] == 1


async def test_fifty_requests_at_once_with_one_key_make_one_record(http: aiohttp.ClientSession) -> None:
    person = await new_contact(http)
    body = {"contact_id": person["id"], "subject": "At once"}

    async def post() -> tuple[int, str]:
        async with http.post("/api/v1/activities", json=body, headers={"Idempotency-Key": "storm-1"}) as response:
            return response.status, (await response.json())["id"]

    answers = await asyncio.gather(*(post() for _ in range(50)))
    assert sorted(status for status, _ in answers) == [200] * 49 + [201]
    assert len({record for _, record in answers}) == 1
    assert (await get(http, f"contacts/{person['id']}/activities"))["count"] == 1


async def test_a_key_belongs_to_its_operation_and_must_be_visible(http: aiohttp.ClientSession) -> None:
    person = await new_contact(http)
    await send(http, "POST", "activities", {"subject": "a"}, 201, **{"Idempotency-Key": "shared"})
    await send(http, "POST", "cases", {"subject": "a", "contact_id": person["id"]}, 201, **{"Idempotency-Key": "shared"})
    await send(http, "POST", "activities", {"subject": "b"}, 422, **{"Idempotency-Key": "shared"})
    await send(http, "POST", "activities", {"subject": "b"}, 422, **{"Idempotency-Key": "with space"})
    await send(http, "POST", "activities", {"subject": "b"}, 422, **{"Idempotency-Key": "x" * 201})


async def test_a_refused_request_does_not_use_up_its_key(http: aiohttp.ClientSession) -> None:
    await send(http, "POST", "activities", {"subject": "a", "contact_id": NOBODY}, 422, **{"Idempotency-Key": "again"})
    await send(http, "POST", "activities", {"subject": "a"}, 201, **{"Idempotency-Key": "again"})


async def test_each_link_to_an_order_is_new_unless_its_request_is_repeated(http: aiohttp.ClientSession) -> None:
    (ben,) = (await get(http, "contacts", reference="BCT7Q22"))["results"]
    path = f"orders/{ben['last_order']['id']}/links"
    first = await send(http, "POST", path, {}, 201, **{"Idempotency-Key": "mail-1"})
    models.Link.model_validate(first)
    assert await send(http, "POST", path, {}, 200, **{"Idempotency-Key": "mail-1"}) == first
    async with http.post(f"/api/v1/{path}") as response:
        assert response.status == 201
        second = await response.json()
    assert len({first["token"], second["token"], ben["last_order"]["track_url"].rpartition("/")[2]}) == 3
    for url in (first["url"], second["url"], ben["last_order"]["track_url"]):
        async with http.get(url, headers={"Authorization": ""}) as page:
            assert (page.status, "104731" in await page.text()) == (200, True)
    await send(http, "POST", f"orders/{NOBODY}/links", {}, 404)


# --- pages ----------------------------------------------------------------------------------------------------------


def assert_safe(page: aiohttp.ClientResponse, html: str) -> None:
    assert page.headers["Content-Security-Policy"].startswith("default-src 'self';")
    assert page.headers["Referrer-Policy"] == "no-referrer"
    assert not re.search(r"<script|<style|\sstyle=|\son\w+=|javascript:", html.replace("&lt;", ""), re.IGNORECASE)


async def test_a_record_is_shown_in_pages_of_the_desk_and_nothing_else_in_any(service: Service, http: aiohttp.ClientSession) -> None:
    anna = (await get(http, "contacts", phone=ANNA))["results"][0]
    for path, framed_by in ((anna["record_url"], "http://desk.example:8080 https://desk.example"), (f"{service.url}/", "'none'")):
        async with http.get(path) as page:
            assert page.headers["Content-Security-Policy"].endswith(f"frame-ancestors {framed_by}")


async def test_the_record_page_opens_with_the_address_from_the_lookup(service: Service, http: aiohttp.ClientSession) -> None:
    anna = (await get(http, "contacts", phone=ANNA))["results"][0]
    async with aiohttp.ClientSession() as bare:
        for suffix, embedded in (("", False), ("&embed=1", True)):
            async with bare.get(anna["record_url"] + suffix) as page:
                html = await page.text()
                assert page.status == 200
                assert_safe(page, html)
                assert ('<body class="embed">' in html) is embedded
            for shown in (
                "Ms Anna Schmidt",
                "ASC2K41",
                "Premium",
                ANNA,
                "Schmidt Druck GmbH",
                "104725",
                "Paper jam in tray 2",
                "Asked about prices",
            ):
                assert shown in html, shown


async def test_a_record_page_without_its_key_is_as_unknown_as_any_other(service: Service, http: aiohttp.ClientSession) -> None:
    anna = (await get(http, "contacts", phone=ANNA))["results"][0]
    ben = (await get(http, "contacts", reference="BCT7Q22"))["results"][0]
    base, _, key = anna["record_url"].partition("?")
    pages = set()
    async with aiohttp.ClientSession() as bare:
        for url in (
            base,
            f"{base}?key=",
            f"{base}?key=%C3%A9%00",
            f"{ben['record_url'].partition('?')[0]}?{key}",
            base.replace(anna["id"], NOBODY),
        ):
            async with bare.get(url) as page:
                assert page.status == 404
                pages.add(await page.text())
    assert len(pages) == 1
    async with http.get(base) as page:
        assert page.status == 200, "the API's token opens it too"


async def test_hostile_text_is_shown_as_text(http: aiohttp.ClientSession) -> None:
    evil = "<img src=x onerror=alert(1)>"
    person = await new_contact(http, first_name=evil, last_name='"><script>alert(2)</script>', product="{{ 7*7 }}")
    await send(http, "POST", "activities", {"contact_id": person["id"], "subject": evil, "remarks": "<script>alert(3)</script>"}, 201)
    order = await send(
        http, "POST", "orders", {"contact_id": person["id"], "items": [{"sku": "x", "name": evil, "quantity": 1, "unit_price": 1}]}, 201
    )
    for url in (person["record_url"], order["track_url"]):
        async with http.get(url) as page:
            html = await page.text()
            assert page.status == 200
        assert "<img" not in html
        assert "<script" not in html
        assert "&lt;img src=x onerror=alert(1)&gt;" in html
        assert "49" not in re.findall(r"<dt>Product</dt><dd>(.*?)</dd>", html)


async def test_the_status_page_follows_the_order(http: aiohttp.ClientSession) -> None:
    person = await new_contact(http, language="de")
    order = await send(http, "POST", "orders", {"contact_id": person["id"], "eta": "2026-12-24"}, 201)

    async def reached() -> tuple[list[str], str]:
        async with http.get(order["track_url"], headers={"Authorization": ""}) as page:
            html = await page.text()
            assert page.status == 200
            assert_safe(page, html)
        return re.findall(r'class="stop reached[^"]*" data-step="(\w+)"', html), html

    steps, html = await reached()
    assert steps == ["ordered"]
    assert "24.12.2026" in html
    assert '<html lang="de">' in html
    await send(http, "PATCH", f"orders/{order['id']}", {"status": "shipped"}, 200)
    assert (await reached())[0] == ["ordered", "packed", "shipped"]
    await send(http, "PATCH", f"orders/{order['id']}", {"status": "cancelled"}, 200)
    steps, html = await reached()
    assert steps == []
    assert "Storniert" in html


@pytest.mark.parametrize(
    "path", ["/track/unknown-token", "/track/" + "x" * 64, "/track/" + "x" * 500, "/nowhere", "/static/../tables.py", "/static/"]
)
async def test_unknown_addresses_get_a_friendly_page(http: aiohttp.ClientSession, path: str) -> None:
    async with http.get(path) as page:
        html = await page.text()
        assert (page.status, page.content_type) == (404, "text/html")
        assert_safe(page, html)
        assert "Nothing here" in html


async def test_the_style_sheet_is_served_by_ourselves(http: aiohttp.ClientSession) -> None:
    for name, kind in (("crm.css", "text/css"), ("icon.svg", "image/svg+xml")):
        async with http.get(f"/static/{name}") as answer:
            assert (answer.status, answer.content_type) == (200, kind)


# --- description ----------------------------------------------------------------------------------------------------


async def test_the_openapi_document_describes_every_operation(service: Service) -> None:
    async with aiohttp.ClientSession(service.url) as bare, bare.get("/api/openapi.json") as response:
        document = await response.json()
    assert document["openapi"] == "3.1.0"
    described = {(method, path) for path, methods in document["paths"].items() for method in methods}
    for name in ("contacts", "accounts", "orders", "cases", "activities", "objects/{type}"):
        for method, path in (("get", ""), ("post", ""), ("get", "/{id}"), ("patch", "/{id}")):
            assert (method, f"/api/v1/{name}{path}") in described
    assert {("post", "/api/v1/orders/{id}/links"), ("get", "/api/v1/contacts/{id}/activities")} <= described
    names = set(document["components"]["schemas"])
    assert set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document))) <= names
    identities = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(set(identities)) == len(identities)
    for path, methods in document["paths"].items():
        for operation in methods.values():
            assert {one["name"] for one in operation["parameters"] if one["in"] == "path"} == set(re.findall(r"\{(\w+)\}", path))


# --- when things go wrong -------------------------------------------------------------------------------------------


async def fault(http: aiohttp.ClientSession, mode: str, **more: float) -> None:
    async with http.post("/faults", json={"mode": mode, **more}) as response:
        assert response.status == 200, await response.text()


async def test_fault_doors_bend_the_api_alone_and_close_again(http: aiohttp.ClientSession) -> None:
    try:
        await fault(http, "html")
        async with http.get("/api/v1/contacts") as answer:
            assert (answer.status, answer.content_type) == (200, "text/html")
        async with http.get("/healthz") as answer:
            assert (await answer.json())["status"] == "ok"
        await fault(http, "truncated")
        async with http.get("/api/v1/contacts", params={"phone": ANNA}) as answer:
            assert (answer.status, answer.content_type) == (200, "application/json")
            with pytest.raises(ValueError):
                json.loads(await answer.text())
        await fault(http, "down")
        with pytest.raises(aiohttp.ClientError):
            await get(http, "contacts")
        await fault(http, "slow", seconds=0.3)
        before = time.monotonic()
        assert (await get(http, "contacts", phone=ANNA))["count"] == 1
        assert time.monotonic() - before >= 0.3
        await fault(http, "big")
        async with http.get("/api/v1/contacts") as answer:
            size = 0
            async for chunk in answer.content.iter_chunked(1 << 20):
                size += len(chunk)
        assert size > 50_000_000
        async with http.get("/faults") as answer:
            assert (await answer.json()) == {"mode": "big", "seconds": 3.0, "requests": 1}
        await fault(http, "limited", seconds=60)
        async with http.get("/api/v1/contacts") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (429, "60")
        await fault(http, "limited", seconds=0)
        assert (await get(http, "contacts", phone=ANNA))["count"] == 1
        await fault(http, "expired")
        async with http.get("/api/v1/contacts") as answer:
            assert answer.status == 401
        await problem(http, "POST", "/faults", 422, "invalid", json={"mode": "explode"})
    finally:
        await fault(http, "off")
    assert (await get(http, "contacts", phone=ANNA))["count"] == 1


async def test_while_another_program_locks_the_database_writes_are_a_503_and_reads_go_on(
    service: Service, http: aiohttp.ClientSession
) -> None:
    lock = sqlite3.connect(service.database, isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    try:
        await problem(http, "POST", "/api/v1/activities", 503, "storage-busy", json={"subject": "x"})
        assert (await get(http, "contacts", phone=ANNA))["count"] == 1
    finally:
        lock.execute("ROLLBACK")
        lock.close()
    await send(http, "POST", "activities", {"subject": "x"}, 201)


async def test_what_was_acknowledged_survives_a_kill(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    first = Service(database, "--seed", "demo")
    try:
        async with aiohttp.ClientSession(first.url, headers=BEARER) as http:
            anna = (await get(http, "contacts", phone=ANNA))["results"][0]
            made = await send(http, "POST", "activities", {"contact_id": anna["id"], "subject": "kept", "external_id": "k"}, 201)
    finally:
        first.end(signal.SIGKILL)
    second = Service(database, "--seed", "demo")
    try:
        async with aiohttp.ClientSession(second.url, headers=BEARER) as http:
            assert await send(http, "POST", "activities", {"contact_id": anna["id"], "subject": "kept", "external_id": "k"}, 200) == made
            again = (await get(http, "contacts", phone=ANNA))["results"][0]
            assert {**again, "record_url": "", "last_order": ""} == {**anna, "record_url": "", "last_order": ""}
            assert (await get(http, "contacts", limit="200"))["count"] == 30
            assert (await get(http, "orders", limit="200"))["count"] == sum(person.order is not None for person in demo.PEOPLE)
        assert ANNA not in second.log.read_text()
        assert TOKEN not in second.log.read_text()
    finally:
        assert second.end() == 0


async def test_sigterm_lets_a_request_finish(tmp_path: Path) -> None:
    running = Service(tmp_path / "crm.db", "--seed", "demo", "--faults")
    async with aiohttp.ClientSession(running.url, headers=BEARER) as http:
        await fault(http, "slow", seconds=1.5)
        request = asyncio.create_task(get(http, "contacts", phone=ANNA))
        async with asyncio.timeout(5):
            while (await (await http.get("/faults")).json())["requests"] == 0:
                pass
        running.process.send_signal(signal.SIGTERM)
        assert (await request)["count"] == 1
    assert await asyncio.to_thread(running.process.wait, 10) == 0
    assert running.process.stdout is not None
    running.process.stdout.close()


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Give a function that tries to start the service and returns why it refused."""

    def try_it(*arguments: str, token: str | None = TOKEN) -> str:
        monkeypatch.delenv("CRM_TOKEN", raising=False)
        if token is not None:
            monkeypatch.setenv("CRM_TOKEN", token)
        assert main(["--port", "0", *arguments]) == 78
        return capsys.readouterr().err

    return try_it


def test_it_does_not_start_without_a_token(tmp_path: Path, refusal: Callable[..., str]) -> None:
    database = tmp_path / "crm.db"
    named = ("--database", str(database))
    assert "no API token" in refusal(*named, token=None)
    assert "at least 16" in refusal(*named, token="short")
    assert "cannot be read" in refusal(*named, "--token-file", str(tmp_path / "none"))
    (tmp_path / "empty").write_text("\n")
    assert "is empty" in refusal(*named, "--token-file", str(tmp_path / "empty"))
    assert not database.exists()


@pytest.mark.parametrize("origin", ["*", "http://127.0.0.1:*", "http://desk.example/", "desk.example", "http://a; script-src *", ""])
def test_it_does_not_start_with_an_origin_that_is_none(tmp_path: Path, refusal: Callable[..., str], origin: str) -> None:
    assert "not an origin" in refusal("--database", str(tmp_path / "crm.db"), f"--framed-by={origin}")


def test_it_does_not_start_with_fault_doors_on_the_network(tmp_path: Path, refusal: Callable[..., str]) -> None:
    assert "loopback" in refusal("--database", str(tmp_path / "crm.db"), "--faults", "--host", "0.0.0.0")


def test_a_damaged_database_is_refused_and_left_untouched(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    database.write_bytes(b"this is not a database" * 400)
    before = database.read_bytes()
    environment = {**os.environ, "CRM_TOKEN": TOKEN}
    done = subprocess.run(command(database), cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (78, "")
    assert "damaged or not an SQLite file" in done.stderr
    assert "Traceback" not in done.stderr
    assert database.read_bytes() == before


def opened(path: Path) -> None:
    asyncio.run(open_database(path).close())


def test_a_torn_page_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    opened(database)
    torn = bytearray(database.read_bytes())
    torn[4096 : 4096 * 6] = b"\xa5" * (4096 * 5)
    database.write_bytes(torn)
    with pytest.raises(DatabaseRefused, match="damaged"):
        opened(database)
    assert database.read_bytes() == bytes(torn)


def test_a_newer_schema_is_refused_by_its_name(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    opened(database)
    with sqlite3.connect(database) as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.close()
    with pytest.raises(DatabaseRefused, match=r"schema '9999'.*newer version"):
        opened(database)


def test_the_database_of_another_program_is_refused(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    with sqlite3.connect(database) as connection:
        connection.execute("CREATE TABLE contacts (id)")
    connection.close()
    before = database.read_bytes()
    with pytest.raises(DatabaseRefused, match="another program"):
        opened(database)
    assert database.read_bytes() == before


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatabaseRefused, match="does not exist"):
        opened(tmp_path / "none" / "crm.db")


def test_migrations_make_the_tables_that_the_code_uses(tmp_path: Path) -> None:
    database = tmp_path / "crm.db"
    opened(database)
    opened(database)
    assert database.stat().st_mode & 0o077 == 0
    engine = create_engine(f"sqlite:///{database}")
    with engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), metadata) == []
    engine.dispose()


def test_it_imports_nothing_from_the_application() -> None:
    for source in (ROOT / "crm").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) app\b", source.read_text(), re.MULTILINE), source
