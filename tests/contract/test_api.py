"""The public API over real sockets, in front of a small house in memory."""

from __future__ import annotations

import asyncio
import json
import re
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType
from prometheus_client.parser import text_string_to_metric_families

from app.api import auth
from app.api.auth import BadCredentials, Credentials, Throttle, hash_pin, hash_token
from app.api.openapi import ROUTES, document
from app.api.problems import Problem
from app.core import events as ev
from tests.contract.api_house import PIN, TOKENS, House, credentials, served, until

CALL = "c" * 32
CARD = {
    "queue": "orders",
    "queue_title": "Order status",
    "skills": {"german": 5},
    "tier": "premium",
    "caller": "+4915112345678",
    "contact": {"id": "7", "first_name": "Erika", "last_name": "Muster", "reference": "AB12345", "record_url": "http://127.0.0.1:8081/r/7"},
    "wrap_up": 30,
}


def bearer(who: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {TOKENS[who]}"}


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
async def base(house: House) -> AsyncIterator[str]:
    async with served(house) as url:
        yield url


@pytest.fixture
async def http(base: str) -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:
        yield session


async def problem(response: aiohttp.ClientResponse, status: int, kind: str) -> dict[str, Any]:
    """Every failure has the same shape."""
    text = await response.text()
    assert response.status == status, text
    assert response.content_type == "application/problem+json"
    body = json.loads(text)
    assert body["type"] == f"urn:callwright:{kind}"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert re.fullmatch(r"[0-9a-f]{32}", body["request_id"])
    assert response.headers["X-Request-Id"] == body["request_id"]
    assert "Traceback" not in text
    return body


async def sign_in(http: aiohttp.ClientSession, base: str, agent: str = "anna", pin: str = PIN) -> aiohttp.ClientResponse:
    return await http.post("/v1/session", json={"agent": agent, "pin": pin}, headers={"Origin": base})


# ---- reading ------------------------------------------------------------------------------------------------------------


async def test_calls_live_ended_and_all_are_listed(http: aiohttp.ClientSession, house: House) -> None:
    house.arrive("a1")
    house.end("a1")
    house.arrive("b2")

    async def ids(query: str) -> list[str]:
        response = await http.get(f"/v1/calls{query}", headers=bearer("supervisor"))
        assert response.status == 200
        return [c["id"] for c in (await response.json())["calls"]]

    assert await ids("") == ["b2"]
    assert await ids("?state=ended") == ["a1"]
    assert await ids("?state=all") == ["b2", "a1"]
    assert await ids("?state=all&limit=1") == ["b2"]
    assert await ids("?state=ended&before=1") == []


async def test_one_call_and_its_timeline_live_and_ended(http: aiohttp.ClientSession, house: House) -> None:
    house.arrive("a1")
    for _ in range(2):
        call = await (await http.get("/v1/calls/a1", headers=bearer("admin"))).json()
        timeline = await (await http.get("/v1/calls/a1/timeline", headers=bearer("admin"))).json()
        assert call["id"] == "a1"
        assert [e["type"] for e in timeline["entries"]] == ["CallArrived", "Answer"]
        assert timeline["entries"][0]["dnis"] == "1000"
        if call["state"] == "waiting":
            house.end("a1")
    assert call["outcome"] == "answered"


async def test_agents_queues_health_and_metrics_answer(http: aiohttp.ClientSession, house: House) -> None:
    house.arrive("a1")
    agents = (await (await http.get("/v1/agents", headers=bearer("supervisor"))).json())["agents"]
    assert [a["id"] for a in agents] == ["anna", "boris"]
    queues = (await (await http.get("/v1/queues", headers=bearer("supervisor"))).json())["queues"]
    assert queues[0]["calls"][0]["call"] == "a1"
    assert await (await http.get("/healthz")).json() == {"alive": True}
    metrics = await (await http.get("/metrics", headers=bearer("supervisor"))).text()
    samples = {(s.name, *s.labels.values()): s.value for f in text_string_to_metric_families(metrics) for s in f.samples}
    assert samples["callwright_calls", "waiting"] == 1
    assert samples["callwright_agents", "signed_out"] == 2
    assert samples["callwright_queue_waiting", "orders"] == 1
    assert samples["callwright_part_ok", "asterisk"] == 1
    assert samples["callwright_api_requests_total", "GET", "/v1/agents", "200"] == 1


async def test_not_ready_is_a_503_that_names_the_part_while_alive_stays_200(http: aiohttp.ClientSession, house: House) -> None:
    assert (await http.get("/readyz")).status == 200
    house.ready = False
    response = await http.get("/readyz")
    assert response.status == 503
    assert (await response.json())["parts"]["asterisk"] == {"ok": False, "why": "no link"}
    assert (await http.get("/healthz")).status == 200


# ---- verbs --------------------------------------------------------------------------------------------------------------


async def test_a_whole_call_by_verbs_becomes_the_centres_events(http: aiohttp.ClientSession, house: House) -> None:
    async def verb(name: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        response = await http.post(f"/v1/agents/anna/{name}", json=body, headers=bearer("anna"))
        assert response.status == 200, await response.text()
        return await response.json()

    assert (await verb("sign-in", {}))["presence"] == "not_ready"
    assert (await verb("ready", {}))["presence"] == "ready"
    house.offer("anna", CALL, CARD)
    house.answered("anna", CALL)
    assert (await verb("hang-up", {"call": CALL}))["work"] == "wrap_up"
    await verb("wrap-up-done", {"call": CALL, "disposition": "solved", "remarks": "sent again\nno charge"})
    assert (await verb("not-ready", {"reason": "lunch"}))["reason"] == "lunch"
    assert (await verb("sign-out", {}))["presence"] == "signed_out"
    assert house.events == [
        ev.AgentSignedIn("anna"),
        ev.AgentBecameReady("anna"),
        ev.AgentHungUp("anna", CALL),
        ev.AgentFinishedWrapUp("anna", CALL, "solved", "sent again\nno charge"),
        ev.AgentBecameNotReady("anna", "lunch"),
        ev.AgentSignedOut("anna"),
    ]


async def test_a_verb_without_fields_needs_no_body(http: aiohttp.ClientSession, house: House) -> None:
    assert (await http.post("/v1/agents/anna/sign-in", headers=bearer("anna"))).status == 200
    assert house.events == [ev.AgentSignedIn("anna")]


async def test_an_illegal_move_is_a_409_with_a_stable_type_and_changes_nothing(http: aiohttp.ClientSession, house: House) -> None:
    await problem(await http.post("/v1/agents/anna/ready", headers=bearer("admin")), 409, "illegal-move")
    assert house.agents()[0]["presence"] == "signed_out"


async def test_unknown_things_are_404(http: aiohttp.ClientSession) -> None:
    for path, kind in (("/v1/calls/x", "unknown-call"), ("/v1/calls/x/timeline", "unknown-call"), ("/v1/agents/x", "unknown-agent")):
        await problem(await http.get(path, headers=bearer("admin")), 404, kind)
    await problem(await http.post("/v1/agents/x/ready", headers=bearer("admin")), 404, "unknown-agent")
    await problem(await http.post("/v1/agents/anna/reject", json={"call": "x"}, headers=bearer("admin")), 404, "unknown-call")
    await problem(await http.post("/v1/agents/anna/dance", headers=bearer("admin")), 404, "not-found")
    await problem(await http.delete("/v1/agents", headers=bearer("admin")), 405, "method-not-allowed")


async def test_a_busy_store_is_a_503_with_retry_after(http: aiohttp.ClientSession, house: House) -> None:
    house.busy = True
    response = await http.post("/v1/agents/anna/sign-in", headers=bearer("anna"))
    await problem(response, 503, "storage_busy")
    assert response.headers["Retry-After"] == "2"
    house.busy = False
    assert (await http.post("/v1/agents/anna/sign-in", headers=bearer("anna"))).status == 200


async def test_what_nobody_foresaw_is_a_500_that_tells_nothing(http: aiohttp.ClientSession, house: House) -> None:
    house.queues = lambda: 1 / 0  # type: ignore[method-assign, return-value]
    body = await problem(await http.get("/v1/queues", headers=bearer("admin")), 500, "internal")
    assert "division" not in json.dumps(body)


# ---- who may ------------------------------------------------------------------------------------------------------------

GUARDED = [r for r in ROUTES if r.access != "open"]


@pytest.mark.parametrize("route", GUARDED, ids=lambda r: f"{r.method} {r.path}")
async def test_nothing_is_given_without_a_valid_token(http: aiohttp.ClientSession, route: Any) -> None:
    path = route.path.format(call=CALL, agent="anna", webhook="crm", flow="order-status", version="1", subject="+4930", recording="r")
    for header in ({}, {"Authorization": "Bearer " + "x" * 40}, {"Authorization": "Basic " + TOKENS["admin"]}, {"Authorization": "Bearer"}):
        response = await http.request(route.method, path, headers=header)
        await problem(response, 401, "unauthenticated")
        assert response.headers["WWW-Authenticate"] == "Bearer"


async def test_a_token_in_the_query_string_is_worth_nothing(http: aiohttp.ClientSession) -> None:
    for name in ("token", "access_token", "api_key"):
        await problem(await http.get(f"/v1/agents?{name}={TOKENS['admin']}"), 401, "unauthenticated")


async def test_an_agent_sees_and_moves_nobody_else_and_learns_no_ids(http: aiohttp.ClientSession, house: House) -> None:
    house.arrive("mine", agent="anna")
    house.arrive("theirs", agent="boris")
    mine = bearer("anna")
    assert (await http.get("/v1/agents/anna", headers=mine)).status == 200
    assert (await http.get("/v1/calls/mine/timeline", headers=mine)).status == 200
    for agent in ("boris", "nobody"):
        await problem(await http.get(f"/v1/agents/{agent}", headers=mine), 403, "forbidden")
        await problem(await http.post(f"/v1/agents/{agent}/ready", headers=mine), 403, "forbidden")
    for call in ("theirs", "nothing"):
        for tail in ("", "/timeline"):
            await problem(await http.get(f"/v1/calls/{call}{tail}", headers=mine), 404, "unknown-call")
    for path in ("/v1/calls", "/v1/agents", "/v1/queues", "/metrics", "/v1/events"):
        await problem(await http.get(path, headers=mine), 403, "forbidden")
    assert house.events == []


async def test_many_bad_tokens_are_slowed_down_while_good_ones_pass(http: aiohttp.ClientSession) -> None:
    statuses = [(await http.get("/v1/agents", headers={"Authorization": f"Bearer {i:040}"})).status for i in range(30)]
    assert set(statuses[:20]) == {401}
    assert set(statuses[20:]) == {429}
    response = await http.get("/v1/agents", headers={"Authorization": "Bearer " + "y" * 40})
    await problem(response, 429, "too-many-attempts")
    assert int(response.headers["Retry-After"]) >= 1
    assert (await http.get("/v1/agents", headers=bearer("admin"))).status == 200


async def test_a_pin_gives_a_cookie_that_scripts_cannot_read_and_other_sites_do_not_send(http: aiohttp.ClientSession, base: str) -> None:
    response = await sign_in(http, base)
    assert (await response.json())["agent"] == "anna"
    cookie = response.headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert "Path=/v1" in cookie
    assert PIN not in cookie
    assert (await http.get("/v1/agents/anna")).status == 200
    await problem(await http.get("/v1/agents/boris"), 403, "forbidden")


async def test_a_wrong_pin_and_an_unknown_agent_look_alike_and_guessing_is_slowed_down(http: aiohttp.ClientSession, base: str) -> None:
    wrong = await problem(await sign_in(http, base, "anna", "1234"), 401, "wrong-pin")
    unknown = await problem(await sign_in(http, base, "nobody", "1234"), 401, "wrong-pin")
    assert wrong["detail"] == unknown["detail"]
    for _ in range(4):
        await sign_in(http, base, "anna", "1234")
    response = await sign_in(http, base)
    await problem(response, 429, "too-many-attempts")
    assert (await sign_in(http, base, "boris")).status == 200


async def test_a_session_is_worth_nothing_after_signing_out(http: aiohttp.ClientSession, base: str) -> None:
    await sign_in(http, base)
    cookie = {"Cookie": "; ".join(f"{c.key}={c.value}" for c in http.cookie_jar)}
    async with aiohttp.ClientSession(base, cookie_jar=aiohttp.DummyCookieJar()) as thief:
        assert (await thief.get("/v1/session", headers=cookie)).status == 200
        assert (await http.delete("/v1/session", headers={"Origin": base})).status == 200
        await problem(await thief.get("/v1/session", headers=cookie), 401, "unauthenticated")


async def test_a_session_outlives_a_restart_but_not_a_changed_pin() -> None:
    key, known = auth.Fernet.generate_key().decode(), credentials()
    cookie = await auth.Doorman(known, key, 3600).sign_in("anna", PIN, "somewhere")
    changed = Credentials(known.tokens, {**known.pins, "anna": hash_pin("another")})

    async def status(who: Credentials, with_key: str | None) -> int:
        async with served(House(), who=who, session_key=with_key) as base, aiohttp.ClientSession(base) as http:
            return (await http.get("/v1/session", headers={"Cookie": f"{auth.COOKIE}={cookie}"})).status

    assert await status(known, key) == 200
    assert await status(changed, key) == 401
    assert await status(known, None) == 401


async def test_a_page_of_another_origin_can_use_no_cookie(http: aiohttp.ClientSession, base: str, house: House) -> None:
    await sign_in(http, base)
    for origin in ("http://evil.example", "http://127.0.0.1:1", "null", ""):
        headers = {"Origin": origin} if origin else {}
        await problem(await http.post("/v1/agents/anna/sign-in", headers=headers), 403, "foreign-origin")
        await problem(await http.post("/v1/session", json={"agent": "anna", "pin": PIN}, headers=headers), 403, "foreign-origin")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect("/v1/desk", headers=headers)
        assert refused.value.status == 403
    assert house.events == []


def test_the_credentials_file_is_read_and_its_mistakes_are_named(tmp_path: Path) -> None:
    path = tmp_path / "credentials.toml"
    path.write_text(f'[tokens.ops]\nrole = "admin"\nsha256 = "{hash_token("t" * 32)}"\n[agents]\nanna = "{hash_pin("1")}"\n')
    read = Credentials.load(path, env_token="e" * 32)
    assert read.by_token("t" * 32) == auth.Principal("ops", "admin")
    assert read.by_token("e" * 32) == auth.Principal("environment", "admin")
    assert read.by_token("u" * 32) is None
    for text, named in (
        ('[tokens.ops]\nrole = "king"\nsha256 = "' + "0" * 64 + '"', "ops"),
        ('[tokens.ops]\nrole = "admin"\nsha256 = "plain"', "tokens.ops"),
        ('[agents]\nanna = "1234"', "anna"),
        ("[agents", str(path)),
    ):
        path.write_text(text)
        with pytest.raises(BadCredentials, match=re.escape(named)):
            Credentials.load(path)


def test_a_throttle_remembers_a_bounded_number_of_keys() -> None:
    throttle = Throttle(limit=1, seconds=60, keys=10)
    for i in range(1000):
        throttle.failed(str(i))
    assert len(throttle._failures) == 10
    with pytest.raises(Problem):
        throttle.check("999")
    throttle.check("0")


# ---- bad input ----------------------------------------------------------------------------------------------------------

BAD_BODIES = [
    ("malformed", b'{"call": ', 400),
    ("empty object key twice", b'{"call": "a", "call": "b"}', 400),
    ("NaN", b'{"call": NaN}', 400),
    ("infinity", b'{"call": -Infinity}', 400),
    ("1e999", b'{"call": 1e999}', 400),
    ("integer of 5000 digits", b'{"call": ' + b"9" * 5000 + b"}", 400),
    ("depth 10000", b"[" * 10_000 + b"]" * 10_000, 400),
    ("object depth 5000", b'{"a":' * 5_000 + b"1" + b"}" * 5_000, 400),
    ("invalid UTF-8", b'{"call": "\xff\xfe"}', 400),
    ("UTF-16", '{"call": "a"}'.encode("utf-16"), 400),
    ("lone surrogate", b'{"call": "\\ud800"}', 400),
    ("not an object", b"[1, 2]", 422),
    ("null", b"null", 422),
    ("64-bit integer", b'{"call": 18446744073709551616}', 422),
    ("missing field", b"{}", 422),
    ("unknown field", b'{"call": "a", "ivr": 1}', 422),
    ("NUL in an id", b'{"call": "a\\u0000"}', 422),
    ("id of 10 kB", b'{"call": "' + b"a" * 10_000 + b'"}', 422),
    ("path in an id", b'{"call": "../../etc/passwd"}', 422),
    ("1000 keys", json.dumps({str(i): i for i in range(1000)}).encode(), 422),
    ("10 MB", b'{"call": "' + b"a" * 10_000_000 + b'"}', 413),
]


@pytest.mark.parametrize(("body", "status"), [(b, s) for _, b, s in BAD_BODIES], ids=[n for n, _, _ in BAD_BODIES])
async def test_a_bad_body_is_refused_and_reaches_nobody(http: aiohttp.ClientSession, house: House, body: bytes, status: int) -> None:
    headers = {**bearer("admin"), "Content-Type": "application/json"}
    response = await http.post("/v1/agents/anna/hang-up", data=body, headers=headers)
    await problem(response, status, {400: "malformed", 413: "too-large", 422: "invalid"}[status])
    assert house.events == []
    assert (await http.get("/healthz")).status == 200


async def test_a_wrong_place_is_named_without_repeating_the_value(http: aiohttp.ClientSession) -> None:
    response = await http.post("/v1/agents/anna/hang-up", json={"call": "hunter2 secret"}, headers=bearer("admin"))
    body = await problem(response, 422, "invalid")
    assert body["errors"][0]["at"] == "body.call"
    assert "hunter2" not in json.dumps(body)


async def test_a_body_that_is_not_declared_as_json_is_a_415(http: aiohttp.ClientSession) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/octet-stream"):
        response = await http.post("/v1/agents/anna/hang-up", data=b'{"call": "a"}', headers={**bearer("admin"), "Content-Type": kind})
        await problem(response, 415, "wrong-content-type")


@pytest.mark.parametrize(
    "query", ["?state=no", "?limit=0", "?limit=1001", "?limit=x", "?before=nan", "?state=all&state=all", "?sort=id", "?state=%00"]
)
async def test_a_bad_query_is_refused(http: aiohttp.ClientSession, query: str) -> None:
    response = await http.get("/v1/calls" + query, headers=bearer("admin"))
    assert response.status in (400, 422), await response.text()
    await problem(response, response.status, {400: "malformed", 422: "invalid"}[response.status])


@pytest.mark.parametrize("path", ["%00", "%FF", "a%2Fb", "..%2f..%2fetc", "x" * 5000, "%F0%9F%98%80", "%3Cscript%3E"])
async def test_an_id_that_cannot_be_one_is_simply_unknown(http: aiohttp.ClientSession, base: str, path: str) -> None:
    response = await http.get(aiohttp.client.URL(f"{base}/v1/calls/{path}", encoded=True), headers=bearer("admin"))
    await problem(response, 404, "unknown-call")


async def test_a_body_that_never_ends_is_cut_off(house: House) -> None:
    async with served(house, body_seconds=0.2) as base:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
        head = "POST /v1/agents/anna/hang-up HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n"
        writer.write(f"{head}Authorization: Bearer {TOKENS['admin']}\r\n\r\n1\r\n{{\r\n".encode())
        async with asyncio.timeout(5):
            answer = await reader.readuntil(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()


UNREADABLE = [
    b"GARBAGE\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nBad Header\r\n\r\n",
    b"GET http://[bad/ HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer secret-" + b"a" * 20_000 + b"\r\n\r\n",
    b"POST /v1/session HTTP/1.1\r\nHost: x\r\nExpect: a miracle\r\nContent-Length: 2\r\n\r\n{}",
    b"POST /v1/session HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Encoding: gzip\r\nContent-Type: application/json\r\n\r\n{}",
    b"GET /v1/calls HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"\xff\xfe" * 20 + b"\r\n\r\n",
    b'GET /v1/calls HTTP/1.1\r\nHost: x\r\nCookie: callwright_desk="\\377\xff"\r\n\r\n',
    b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
]


@pytest.mark.parametrize("raw", UNREADABLE, ids=lambda raw: raw[:24].decode().strip())
async def test_what_is_hardly_http_gets_a_problem_document_too(base: str, raw: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(base.rpartition(":")[2]))
    writer.write(raw)
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = int(re.search(r"content-length: (\d+)", head, re.IGNORECASE)[1])  # type: ignore[index]
        body = json.loads(await reader.readexactly(length))
    writer.close()
    assert 400 <= body["status"] < 500
    assert head.split()[1] == str(body["status"])
    assert "content-type: application/problem+json" in head.lower()
    assert f"x-request-id: {body['request_id']}" in head.lower()
    assert "aiohttp" not in head
    said = "".join(capfd.readouterr())
    assert "Traceback" not in said
    assert "secret-" not in said


# ---- the document -------------------------------------------------------------------------------------------------------


def test_every_route_is_documented_with_its_models_and_failures() -> None:
    paths = document()["paths"]
    for route in ROUTES:
        operation = paths[route.path][route.method.lower()]
        assert operation["summary"]
        assert operation["tags"]
        assert {p["name"] for p in operation.get("parameters", []) if p["in"] == "path"} == set(re.findall(r"{(\w+)}", route.path))
        if route.access != "open":
            assert {"401", "403"} <= set(operation["responses"])
            assert operation["security"]
    assert len({o["operationId"] for methods in paths.values() for o in methods.values()}) == len(ROUTES)


async def test_every_route_that_is_served_is_in_the_document_that_is_served(http: aiohttp.ClientSession) -> None:
    served_document = await (await http.get("/v1/openapi.json")).json()
    assert served_document == json.loads(json.dumps(document()))
    assert served_document["openapi"] == "3.1.0"


def test_every_reference_in_the_document_leads_somewhere() -> None:
    whole = document()
    schemas = whole["components"]["schemas"]
    found = re.findall(r'"\$ref": "([^"]+)"', json.dumps(whole))
    assert found
    assert {f.removeprefix("#/components/schemas/") for f in found} <= set(schemas)


async def test_the_documentation_page_shows_every_operation(http: aiohttp.ClientSession) -> None:
    response = await http.get("/docs")
    text = await response.text()
    assert response.content_type == "text/html"
    for route in ROUTES:
        assert f"<code>{route.path}</code>" in text
    assert "<script" not in text
    assert (await http.get("/docs.css")).content_type == "text/css"


async def test_answers_carry_the_headers_that_protect_a_browser(http: aiohttp.ClientSession) -> None:
    for path in ("/healthz", "/desk/", "/docs", "/nothing"):
        headers = (await http.get(path)).headers
        assert headers["Content-Security-Policy"].startswith("default-src 'self'; frame-src http://127.0.0.1:8081;")
        assert "unsafe" not in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert "aiohttp" not in headers["Server"]


async def test_a_desk_that_was_not_built_says_so_and_a_built_one_is_served(house: House, tmp_path: Path) -> None:
    async with served(house, dist=tmp_path) as base, aiohttp.ClientSession(base) as http:
        response = await http.get("/desk/")
        assert response.status == 503
        assert "make desk" in await response.text()
        assert (await http.get("/flows/")).status == 503
        (tmp_path / "assets").mkdir()
        (tmp_path / "index.html").write_text("<p>the desk</p>")
        (tmp_path / "assets" / "a.js").write_text("1")
        await problem(await http.get("/flows/"), 404, "not-found")
        (tmp_path / "flows.html").write_text("<p>the flows</p>")
        assert "the flows" in await (await http.get("/flows")).text()
        assert "the desk" in await (await http.get("/")).text()
        assert "immutable" in (await http.get("/desk/assets/a.js")).headers["Cache-Control"]
        for name in ("..%2f..%2fetc%2fpasswd", "%00", "assets", "nothing.js"):
            url = aiohttp.client.URL(f"{base}/desk/{name}", encoded=True)
            await problem(await http.get(url), 404, "not-found")


# ---- the websockets -----------------------------------------------------------------------------------------------------


class Page:
    """A desk page without a browser."""

    def __init__(self, ws: aiohttp.ClientWebSocketResponse) -> None:
        self.ws = ws

    async def next(self, kind: str) -> dict[str, Any]:
        """The next message of this type."""
        async with asyncio.timeout(5):
            while True:
                message = json.loads(await self.ws.receive_str())
                if message["type"] == kind:
                    return message

    async def close_code(self) -> int | None:
        """The code that the server closes with."""
        async with asyncio.timeout(5):
            while (await self.ws.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                pass
        return self.ws.close_code


async def open_desk(http: aiohttp.ClientSession, base: str, who: str = "anna") -> Page:
    await sign_in(http, base, who)
    return Page(await http.ws_connect("/v1/desk", headers={"Origin": base}))


async def test_a_desk_gets_a_snapshot_an_offer_is_acknowledged_once_and_its_end_is_shown(
    http: aiohttp.ClientSession, base: str, house: House
) -> None:
    page = await open_desk(http, base)
    snapshot = await page.next("snapshot")
    assert snapshot["agent"]["presence"] == "signed_out"
    assert snapshot["hand"] is None
    house.offer("anna", CALL, CARD)
    offer = await page.next("offer")
    assert offer["hand"]["phase"] == "offered"
    assert offer["hand"]["card"]["contact"]["last_name"] == "Muster"
    for _ in range(3):
        await page.ws.send_json({"type": "shown", "offer": "o1", "call": CALL})
    await until(lambda: house.of(ev.DeskAcknowledged))
    house.answered("anna", CALL)
    assert (await page.next("talking"))["hand"]["card"] == offer["hand"]["card"]
    house.caller_left("anna", CALL)
    wrap_up = await page.next("wrap_up")
    assert wrap_up["hand"]["until"] > wrap_up["now"]
    house.say("anna", {"type": "ended", "call": CALL})
    assert (await page.next("ended"))["hand"] is None
    assert house.events == [ev.DeskFound("anna"), ev.DeskAcknowledged("anna", CALL, "o1")]


async def test_a_desk_can_acknowledge_only_the_offer_in_its_own_hand(http: aiohttp.ClientSession, base: str, house: House) -> None:
    page = await open_desk(http, base)
    await page.next("snapshot")
    house.offer("boris", "b" * 32, CARD, "o9")
    house.offer("anna", CALL, CARD)
    await page.next("offer")
    await page.ws.send_json({"type": "shown", "offer": "o9", "call": "b" * 32})
    await page.ws.send_json({"type": "shown", "offer": "o9", "call": CALL})
    await page.ws.send_json({"type": "shown", "offer": "o1", "call": CALL})
    await until(lambda: house.of(ev.DeskAcknowledged))
    assert house.of(ev.DeskAcknowledged) == [ev.DeskAcknowledged("anna", CALL, "o1")]


async def test_a_page_that_comes_back_has_the_whole_state_and_a_higher_seq(http: aiohttp.ClientSession, base: str, house: House) -> None:
    page = await open_desk(http, base)
    house.offer("anna", CALL, CARD)
    seen = (await page.next("offer"))["seq"]
    await page.ws.close()
    await until(lambda: house.of(ev.DeskLost))
    house.answered("anna", CALL)
    again = Page(await http.ws_connect("/v1/desk", headers={"Origin": base}))
    snapshot = await again.next("snapshot")
    if snapshot["hand"]["phase"] != "talking":
        snapshot = await again.next("talking")
    assert snapshot["hand"]["phase"] == "talking"
    assert snapshot["hand"]["card"]["contact"]["first_name"] == "Erika"
    assert snapshot["seq"] > seen


async def test_the_centre_hears_of_the_first_page_and_of_the_last_one_only(http: aiohttp.ClientSession, base: str, house: House) -> None:
    first = await open_desk(http, base)
    second = Page(await http.ws_connect("/v1/desk", headers={"Origin": base}))
    await first.next("snapshot")
    await second.next("snapshot")
    await first.ws.close()
    house.offer("anna", CALL, CARD)
    await second.next("offer")
    await second.ws.close()
    await until(lambda: house.of(ev.DeskLost))
    assert house.events == [ev.DeskFound("anna"), ev.DeskLost("anna")]


async def test_a_lost_desk_is_told_once_the_store_can_be_written_again(http: aiohttp.ClientSession, base: str, house: House) -> None:
    page = await open_desk(http, base)
    await until(lambda: house.of(ev.DeskFound))
    house.busy = True
    await page.ws.close()
    house.busy = False
    await until(lambda: house.of(ev.DeskLost))


async def test_a_withdrawn_offer_says_why_and_leaves_nothing_in_hand(http: aiohttp.ClientSession, base: str, house: House) -> None:
    page = await open_desk(http, base)
    house.offer("anna", CALL, CARD)
    await page.next("offer")
    house.withdraw("anna", "o1", "caller gone")
    withdrawn = await page.next("withdrawn")
    assert (withdrawn["reason"], withdrawn["hand"]) == ("caller gone", None)


async def test_a_feed_that_was_cut_off_is_begun_anew_and_nothing_is_missed(http: aiohttp.ClientSession, base: str, house: House) -> None:
    page = await open_desk(http, base)
    await page.next("snapshot")
    house.cut_off("anna")
    house.say_hand("anna", CALL, CARD)
    snapshot = await page.next("snapshot")
    assert snapshot["hand"]["call"] == CALL
    house.say("anna", {"type": "ringing", "call": CALL})
    assert (await page.next("ringing"))["seq"] == snapshot["seq"] + 1


@pytest.mark.parametrize(
    ("send", "code"),
    [
        (lambda ws: ws.send_str("{"), 1008),
        (lambda ws: ws.send_str('{"type":"shown","type":"shown"}'), 1008),
        (lambda ws: ws.send_str('{"type":"dance"}'), 1008),
        (lambda ws: ws.send_str("[" * 2000), 1008),
        (lambda ws: ws.send_bytes(b'{"type":"shown"}'), 1008),
        (lambda ws: ws.send_str("x" * 100_000), 1009),
    ],
    ids=["not JSON", "key twice", "unknown", "deep", "binary", "too large"],
)
async def test_nonsense_on_the_desk_closes_that_page_alone(
    http: aiohttp.ClientSession, base: str, house: House, send: Any, code: int
) -> None:
    good = await open_desk(http, base)
    bad = Page(await http.ws_connect("/v1/desk", headers={"Origin": base}))
    await bad.next("snapshot")
    await send(bad.ws)
    assert await bad.close_code() == code
    house.offer("anna", CALL, CARD)
    await good.next("offer")


async def test_signing_out_closes_the_desks_pages(http: aiohttp.ClientSession, base: str) -> None:
    page = await open_desk(http, base)
    await page.next("snapshot")
    closed = asyncio.create_task(page.close_code())
    await http.delete("/v1/session", headers={"Origin": base})
    assert await closed == 4401


async def test_a_session_that_expires_closes_its_page(house: House) -> None:
    async with served(house, session_seconds=1) as base:
        async with aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            page = await open_desk(http, base)
            await page.next("snapshot")
            assert await page.close_code() == 4401


def _deaf_client(base: str, path: str, headers: dict[str, str]) -> socket.socket:
    """A websocket client that never reads, with small buffers."""
    raw = socket.socket()
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    raw.connect(("127.0.0.1", int(base.rpartition(":")[2])))
    lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
    raw.sendall(
        f"GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        f"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{lines}\r\n".encode()
    )
    return raw


async def test_a_reader_that_never_reads_is_cut_off_and_costs_no_memory(base: str, http: aiohttp.ClientSession, house: House) -> None:
    deaf = _deaf_client(base, "/v1/events", bearer("supervisor"))
    await until(lambda: house._listeners)
    listening = Page(await http.ws_connect("/v1/events", headers=bearer("admin")))
    await until(lambda: len(house._listeners) == 2)
    for i in range(600):
        house.say("anna", {"type": "state", "n": i, "filling": "x" * 20_000})
        message = await listening.next("state")
        assert message["n"] == i
    deaf.settimeout(5)

    def drained() -> bool:
        try:
            while deaf.recv(1 << 16):
                pass
        except ConnectionResetError:
            pass
        return True

    async with asyncio.timeout(5):
        assert await asyncio.to_thread(drained)
    deaf.close()


async def test_a_silent_peer_is_lost_within_two_heartbeats(house: House) -> None:
    async with served(house, heartbeat=0.2) as base:
        cookie = f"{auth.COOKIE}="
        async with aiohttp.ClientSession(base, cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
            await sign_in(http, base)
            cookie += next(iter(http.cookie_jar)).value
        silent = await asyncio.to_thread(_deaf_client, base, "/v1/desk", {"Cookie": cookie, "Origin": base})
        await until(lambda: house.of(ev.DeskFound))
        await until(lambda: house.of(ev.DeskLost), within=2)
        silent.close()


async def test_events_reach_a_supervisor_and_there_is_nothing_to_say_to_them(http: aiohttp.ClientSession, house: House) -> None:
    page = Page(await http.ws_connect("/v1/events", headers=bearer("supervisor")))
    await until(lambda: house._listeners)
    house.say("boris", {"type": "offer", "offer": "o2"})
    assert (await page.next("offer"))["offer"] == "o2"
    await page.ws.send_str("{}")
    assert await page.close_code() == 1008


async def test_too_many_websockets_are_a_503(house: House) -> None:
    async with served(house, max_sockets=2) as base, aiohttp.ClientSession(base) as http:
        kept = [await http.ws_connect("/v1/events", headers=bearer("admin")) for _ in range(2)]
        response = await http.get("/v1/events", headers={**bearer("admin"), **_UPGRADE})
        await problem(response, 503, "too-many-sockets")
        await kept[0].close()
        await until(lambda: _can_connect(http))


_UPGRADE = {
    "Upgrade": "websocket",
    "Connection": "Upgrade",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


async def _can_connect(http: aiohttp.ClientSession) -> bool:
    try:
        ws = await http.ws_connect("/v1/events", headers=bearer("admin"))
    except aiohttp.WSServerHandshakeError:
        return False
    await ws.close()
    return True


async def test_a_plain_request_to_a_websocket_is_a_426(http: aiohttp.ClientSession) -> None:
    await problem(await http.get("/v1/events", headers=bearer("admin")), 426, "upgrade-required")


async def test_websockets_are_told_that_we_go_away_and_no_desk_counts_as_lost(house: House) -> None:
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as http:
        async with served(house) as base:
            await http.post(f"{base}/v1/session", json={"agent": "anna", "pin": PIN}, headers={"Origin": base})
            page = Page(await http.ws_connect(f"{base}/v1/desk", headers={"Origin": base}))
            await page.next("snapshot")
            await until(lambda: house.of(ev.DeskFound))
            code = asyncio.create_task(page.close_code())
        assert await code == 1001
    assert house.of(ev.DeskLost) == []
