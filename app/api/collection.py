"""The live-call part of the API as a collection of requests: Postman v2.1, made of the same routes as the OpenAPI document.

`python -m app.api.collection` prints it; `callwright.postman_collection.json` beside this file is what ships, and `/v1/collection.json`
serves it. Set `base` and `token`; run from the top, it picks a live call, reads its session, writes into it and steers it. Each request
tells by its tests whether the answer is as documented.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from app.api.openapi import ROUTES

SHIPPED = Path(__file__).with_name("callwright.postman_collection.json")
SCHEMA = "https://schema.getpostman.com/json/collection/v2.1.0/collection.json"
_OK = "pm.test('200', () => pm.response.to.have.status(200));"
_PICK = """const calls = pm.response.json().calls;
pm.test('a live call', () => pm.expect(calls).to.not.be.empty);
if (!pm.variables.get('call') && calls.length) pm.collectionVariables.set('call', calls[0].id);"""
_READ = """const told = pm.response.json();
pm.test('the session of the call', () => pm.expect(told.call).to.equal(pm.variables.get('call')));
pm.collectionVariables.set('etag', pm.response.headers.get('ETag'));"""
_WRITTEN = """const written = pm.response.json();
pm.test('what was written is there', () => pm.expect(written.variables.ivr.email).to.equal('customer@example.com'));"""
_STALE = """pm.test('412 for a stale ETag', () => pm.response.to.have.status(412));
pm.test('a problem document', () => pm.expect(pm.response.json().type).to.equal('urn:callwright:stale'));"""
_RESERVED = """pm.test('422 for a name that is not ivr.*', () => pm.response.to.have.status(422));
pm.test('it says which', () => pm.expect(pm.response.json().errors[0].at).to.equal('body.call.ani'));"""
_SIGN = """const secret = CryptoJS.enc.Base64.parse(pm.variables.get('secret').replace('whsec_', ''));
const id = 'msg_' + pm.variables.replaceIn('{{$guid}}'), at = Math.floor(Date.now() / 1000).toString();
const body = pm.variables.replaceIn(pm.request.body.raw);
pm.request.body.raw = body;
const mac = CryptoJS.enc.Base64.stringify(CryptoJS.HmacSHA256(id + '.' + at + '.' + body, secret));
pm.request.headers.upsert({key: 'webhook-id', value: id});
pm.request.headers.upsert({key: 'webhook-timestamp', value: at});
pm.request.headers.upsert({key: 'webhook-signature', value: 'v1,' + mac});"""


def collection() -> dict[str, Any]:
    """The collection, as plain JSON values."""
    write = {"ivr.email": "customer@example.com"}
    items = [
        _request("Live calls", "GET", "/v1/calls", test=[_OK, _PICK], query={"state": "active"}),
        _request("Read the session of a call", "GET", "/v1/sessions/{call}", test=[_OK, _READ]),
        _request("Write into it", "POST", "/v1/sessions/{call}", body=write, test=[_OK, _WRITTEN]),
        _request("Write into it, nested", "PATCH", "/v1/sessions/{call}", body={"ivr": {"premium": True}}, test=[_OK, _WRITTEN]),
        _request("Not over somebody else's write", "POST", "/v1/sessions/{call}", body=write, match="{{etag}}", test=[_STALE]),
        _request("Not what the call itself says", "POST", "/v1/sessions/{call}", body={"call.ani": "+49"}, test=[_RESERVED]),
        _request("Send it to an entry of its flow", "POST", "/v1/sessions/{call}/goto", body={"entry": "{{entry}}"}, test=[_OK]),
        _request("What happened in it", "GET", "/v1/calls/{call}/timeline", test=[_OK]),
        _request("Targets of webhooks", "GET", "/v1/webhooks", test=[_OK]),
        _request(
            "Write into it by a signed request",
            "POST",
            "/v1/inbound/{source}",
            body={"call": "{{call}}", "session": write},
            test=[_OK],
            sign=True,
        ),
    ]
    variables = {"base": "http://127.0.0.1:8080", "token": "", "call": "", "entry": "", "source": "", "secret": "", "etag": ""}
    return {
        "info": {"name": "Callwright: calls in progress", "schema": SCHEMA, "description": (__doc__ or "").partition("\n\n")[2].strip()},
        "auth": {"type": "bearer", "bearer": [{"key": "token", "value": "{{token}}", "type": "string"}]},
        "variable": [{"key": name, "value": value, "type": "string"} for name, value in variables.items()],
        "item": items,
    }


def _request(
    name: str,
    method: str,
    path: str,
    *,
    test: list[str],
    body: Any = None,
    query: dict[str, str] | None = None,
    match: str = "",
    sign: bool = False,
) -> dict[str, Any]:
    route = next(route for route in ROUTES if (route.method, route.path) == (method, path))
    url = path.replace("{", "{{").replace("}", "}}")
    asked = [{"key": key, "value": value} for key, value in (query or {}).items()]
    headers = [{"key": "If-Match", "value": match}] if match else []
    request: dict[str, Any] = {
        "method": method,
        "header": headers,
        "description": route.summary,
        "url": {
            "raw": "{{base}}" + url + ("?" + "&".join(f"{each['key']}={each['value']}" for each in asked) if asked else ""),
            "host": ["{{base}}"],
            "path": url.strip("/").split("/"),
            **({"query": asked} if asked else {}),
        },
    }
    if body is not None:
        request["body"] = {"mode": "raw", "raw": json.dumps(body), "options": {"raw": {"language": "json"}}}
    if route.access == "open":
        request["auth"] = {"type": "noauth"}
    scripts = [("test", test)] + ([("prerequest", [_SIGN])] if sign else [])
    event = [{"listen": kind, "script": {"type": "text/javascript", "exec": "\n".join(lines).split("\n")}} for kind, lines in scripts]
    return {"name": name, "event": event, "request": request}


if __name__ == "__main__":
    json.dump(collection(), sys.stdout, indent=1, ensure_ascii=False)
    sys.stdout.write("\n")
