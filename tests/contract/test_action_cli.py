"""`callwright action`: one action tried out, all of them looked after, and new files made from OpenAPI documents and curl lines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import structlog
import yaml
from aiohttp import web
from typer.testing import CliRunner

from app.actions.files import load_actions
from app.actions.samples import FakeSystem, check_samples
from app.cli import app
from tests.contract.doors import Doors, reply

DEMO = Path(__file__).parents[2] / "app" / "demo"
SECRET = "s3cret-t0ken"


@pytest.fixture(autouse=True)
def _logs_as_before():
    yield
    structlog.reset_defaults()


async def run(*words: str) -> Any:
    """What the command says, in a thread of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["action", *words])


def config(folder: Path, origin: str, **systems: dict[str, str]) -> str:
    """A settings file that allows one origin on this machine."""
    lines = [f'origins = [{{origin = "{origin}", allow_private = true}}]']
    for name, access in systems.items():
        lines += [f"[systems.{name}]", *(f"{key} = {json.dumps(value)}" for key, value in access.items())]
    file = folder / "callwright.toml"
    file.write_text("\n".join(lines))
    return str(file)


# ---- test --------------------------------------------------------------------------------------------------------------


async def test_every_sample_of_an_action_is_run_and_told():
    done = await run("test", "crm.contact_by_phone", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.output)
    assert {one["title"]: one["outcome"] for one in told} == {
        "premium_with_an_order": "ok",
        "late_payer_without_order_or_mail": "ok",
        "nobody": "ok",
        "several_share_the_number": "ok",
        "nonsense": "malformed",
        "down": "status",
    }
    assert all(one["well"] for one in told)
    assert told[0]["values"]["first_name"] == "Ada"


def project(folder: Path, old: str = "", new: str = "") -> str:
    (folder / "actions").mkdir()
    text = (DEMO / "actions" / "crm.yaml").read_text()
    assert old in text
    (folder / "actions" / "crm.yaml").write_text(text.replace(old, new))
    return str(folder)


async def test_a_sample_that_does_not_hold_is_told_and_is_the_exit_status(tmp_path):
    done = await run("test", "crm.contact_by_phone", "--project", project(tmp_path, "first_name: Ada", "first_name: Eve"))
    assert done.exit_code == 1
    assert "first_name: expected 'Eve', found 'Ada'" in done.output


async def test_the_live_system_is_asked_and_what_is_sensitive_is_hidden(tmp_path):
    folder = project(tmp_path, "retry: 1, sensitivity: personal", "retry: 1, sensitive: [email, customer_value]")
    async with FakeSystem(load_actions(DEMO / "actions")) as system:
        settings = config(tmp_path, system.base_url, crm={"base_url": system.base_url, "token": "sample"})
        done = await run("test", "crm.contact_by_phone", "phone=+493012345678", "--live", "--project", folder, "--config", settings)
        assert done.exit_code == 0, done.output
        assert "Ada" in done.output
        assert " ms" in done.output
        assert "•••" in done.output
        assert "ada@example.com" not in done.output
        assert "1250.5" not in done.output
        wrong = config(tmp_path, system.base_url, crm={"base_url": system.base_url, "token": SECRET})
        done = await run("test", "crm.contact_by_phone", "phone=+493012345678", "--live", "--project", folder, "--config", wrong)
    assert done.exit_code == 1
    assert "HTTP 401" in done.output
    assert SECRET not in done.output


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["test", "crm.nothing"], "there is no action 'crm.nothing'"),
        (["test", "crm.contact_by_phone", "--live", "phone"], "expected key=value"),
        (["test", "crm.contact_by_phone", "--live", "fone=1"], "there is no parameter 'fone'"),
        (["test", "crm.contact_by_phone", "phone=1"], "parameters are for --live"),
        (["test", "crm.contact_by_phone", "--live", "phone=1"], "no credentials named 'crm'"),
    ],
)
async def test_what_cannot_be_tried_is_told(tmp_path, words, told):
    done = await run(*words, "--config", config(tmp_path, "http://127.0.0.1:9"))
    assert done.exit_code == 2
    assert told in " ".join(done.output.replace("│", " ").split())


# ---- health ------------------------------------------------------------------------------------------------------------


async def test_the_health_of_all_systems(tmp_path):
    async with FakeSystem(load_actions(DEMO / "actions")) as system:
        settings = config(tmp_path, system.base_url, crm={"base_url": system.base_url, "token": "sample"})
        done = await run("health", "--config", settings, "--json")
        assert done.exit_code == 0, done.output
        assert {one["action"]: one["outcome"] for one in json.loads(done.output)} == {
            "crm.contact_by_phone": "ok",
            "crm.contact_by_reference": "ok",
            "crm.order_link": "not asked",
        }
        assert not any(line.startswith("POST") for line in system.requests), "nothing is written"
    done = await run("health", "--config", settings)
    assert done.exit_code == 1
    assert "refused" in done.output


async def test_settings_that_lack_something_are_ill_health(tmp_path):
    done = await run("health", "--config", config(tmp_path, "http://127.0.0.1:9"), "--json")
    assert done.exit_code == 1
    assert {(one["outcome"], one["detail"]) for one in json.loads(done.output)} == {
        ("settings", "there are no credentials named 'crm'; there are: none")
    }


# ---- new ---------------------------------------------------------------------------------------------------------------

OPENAPI: dict[str, Any] = {
    "openapi": "3.1.0",
    "servers": [{"url": "https://shop.example/api"}],
    "security": [{"key": []}],
    "paths": {
        "/orders/{orderNumber}": {
            "parameters": [{"name": "orderNumber", "in": "path", "required": True, "schema": {"type": "string", "example": "O-1001"}}],
            "get": {
                "operationId": "getOrder",
                "parameters": [
                    {"name": "X-Tenant", "in": "header", "required": True, "schema": {"type": "string"}},
                    {"name": "expand", "in": "query", "schema": {"type": "string"}},
                    {"name": "limit", "in": "query", "schema": {"type": "integer", "default": 5}},
                    {"name": "fields", "in": "query", "schema": {"type": "array", "items": {"type": "string"}}},
                ],
                "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}}}},
            },
        },
        "/cases": {
            "post": {
                "operationId": "createCase",
                "security": [{"oauth": ["cases.write"]}],
                "requestBody": {
                    "content": {
                        "application/json": {
                            "example": {"subject": "Printer", "contact": {"phone": "+4930"}, "urgent": True, "tags": ["a", 1], "note": None}
                        }
                    }
                },
                "responses": {
                    "201": {"content": {"application/json": {"examples": {"made": {"value": {"id": 7, "links": {"self": "https://x/7"}}}}}}}
                },
            }
        },
        "/ping": {"delete": {"operationId": "forget", "security": [], "responses": {"204": {"description": "gone"}}}},
    },
    "components": {
        "securitySchemes": {
            "key": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
            "oauth": {"type": "oauth2", "flows": {"clientCredentials": {"tokenUrl": "https://login.example/token", "scopes": {}}}},
        },
        "schemas": {
            "Order": {
                "allOf": [
                    {"$ref": "#/components/schemas/Base"},
                    {
                        "type": "object",
                        "properties": {
                            "total": {"type": "number", "example": 59.9},
                            "paid": {"type": ["boolean", "null"]},
                            "status": {"enum": ["shipped", "open"]},
                            "lines": {"type": "array", "items": {"type": "object", "properties": {"sku": {"type": "string"}}}},
                            "odd key": {"type": "integer"},
                            "eta": {"type": "string", "format": "date"},
                            "parent": {"$ref": "#/components/schemas/Order"},
                        },
                    },
                ]
            },
            "Base": {"type": "object", "properties": {"id": {"type": "string", "format": "uuid"}}},
        },
    },
}


@pytest.mark.parametrize("suffix", ["json", "yaml"])
@pytest.mark.parametrize("operation", ["getOrder", "createCase", "forget"])
async def test_an_operation_of_an_openapi_document_becomes_a_whole_file_whose_samples_hold(tmp_path, suffix, operation):
    source = tmp_path / f"shop.{suffix}"
    source.write_text(json.dumps(OPENAPI) if suffix == "json" else yaml.safe_dump(OPENAPI))
    (tmp_path / "actions").mkdir()
    target = tmp_path / "actions" / "shop.yaml"
    words = ["new", "--from-openapi", str(source), "--operation", operation, "--connector", "shop", "--out", str(target)]
    done = await run(*words)
    assert done.exit_code == 0, done.output
    definitions = load_actions(tmp_path / "actions")
    assert check_samples(definitions) == []
    (definition,) = definitions.values()
    if operation == "getOrder":
        assert definition.name == "shop.get_order"
        assert definition.request.url == "{{ base_url }}/orders/{{ order_number }}"
        assert set(definition.parameters) == {"order_number", "x_tenant", "expand", "limit", "fields"}
        assert (
            definition.outputs.items()
            >= {"total": "double", "paid": "bool", "lines_count": "int", "odd_key": "int", "sku": "string"}.items()
        )
        assert (definition.auth.scheme, definition.auth.name) == ("api_key", "X-Api-Key")
        assert "api_key" in done.output
    elif operation == "createCase":
        assert definition.inputs == {"subject": "string", "phone": "string", "urgent": "bool"}
        assert definition.outputs == {"id": "int", "self": "string"}
        assert (definition.auth.scheme, definition.auth.token_url, definition.auth.scope) == (
            "oauth2_client",
            "https://login.example/token",
            "cases.write",
        )
        assert json.loads(definition.samples["first"].body)["tags"] == ["a", 1]
    else:
        assert (definition.outputs, definition.auth.scheme) == ({}, "none")
    again = await run("test", definition.name, "--project", str(tmp_path))
    assert again.exit_code == 0, again.output
    assert (await run(*words)).exit_code == 2, "an existing file is left alone"


async def test_operations_of_the_reference_crm_become_files(tmp_path):
    from crm.openapi import document

    source = tmp_path / "crm.json"
    source.write_text(json.dumps(document("http://127.0.0.1:8081", "1")))
    operations = [
        each["operationId"]
        for path in json.loads(source.read_text())["paths"].values()
        for verb, each in path.items()
        if verb in ("get", "post", "put", "patch", "delete")
    ]
    assert len(operations) > 5
    for n, operation in enumerate(operations[::4]):
        target = tmp_path / f"{n}" / "actions" / "crm.yaml"
        target.parent.mkdir(parents=True)
        done = await run("new", "--from-openapi", str(source), "--operation", operation, "--connector", "crm", "--out", str(target))
        assert done.exit_code == 0, f"{operation}: {done.output}"
        assert check_samples(load_actions(target.parent)) == []


class Shop:
    """A real system for `--call`."""

    async def __aenter__(self) -> Shop:
        self.asked: list[tuple[str, str]] = []
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.origin = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        self.asked.append((f"{request.method} {request.raw_path}", request.headers.get("Authorization", "")))
        return web.json_response({"results": [{"name": "Ada", "premium": True, "tags": ["x"]}], "count": 1, "echo": await request.text()})


CURLS = [
    ("curl -s '{origin}/contacts?phone=%2B4930&limit=2' -H 'Authorization: Bearer {secret}'", "bearer", "contacts", {"phone", "limit"}),
    ('curl -XPOST {origin}/cases -u ada:{secret} --json \'{{"subject": "Printer", "n": 3}}\'', "basic", "cases", {"subject", "n"}),
    ("curl -G {origin}/find -d q=ada --header='X-Api-Key: {secret}'", "api_key", "find", {"q"}),
    ("{origin}/form --data 'a=1&b=x%20y' -H 'Authorization: Token {secret}'", "api_key", "form", {"a", "b"}),
]


@pytest.mark.parametrize(("line", "scheme", "name", "parameters"), CURLS)
@pytest.mark.parametrize("call", [True, False])
async def test_a_curl_line_becomes_a_whole_file_without_its_secrets(tmp_path, line, scheme, name, parameters, call):
    async with Shop() as shop:
        target = tmp_path / "actions" / "shop.yaml"
        target.parent.mkdir()
        words = ["new", "--from-curl", line.format(origin=shop.origin, secret=SECRET), "--connector", "shop", "--out", str(target)]
        done = await run(*words, *(["--call"] if call else []))
        assert done.exit_code == 0, done.output
        assert SECRET not in target.read_text() + done.output
        (definition,) = load_actions(target.parent).values()
        assert check_samples({definition.name: definition}) == []
        assert definition.name.endswith(name)
        assert (definition.auth.scheme, set(definition.parameters)) == (scheme, parameters)
        if call:
            assert definition.outputs.items() >= {"name": "string", "premium": "bool", "tags": "list", "results_count": "int"}.items()
            (asked,) = shop.asked
            assert scheme != "bearer" or asked == ("GET /contacts?phone=%2B4930&limit=2", f"Bearer {SECRET}")
            again = await run("test", definition.name, "--project", str(tmp_path))
            assert again.exit_code == 0, again.output
        else:
            assert shop.asked == []
            assert "nothing is known of its answer" in done.output


async def test_an_answer_that_is_none_makes_no_file(tmp_path):
    async with Doors() as doors:
        doors.open("good", reply(b"<html>", "200 OK"))
        doors.open("bad", reply(b"{}", "403 No"))
        for path, told in (("good", "the answer is not JSON"), ("bad", "the system answered HTTP 403")):
            done = await run("new", "--from-curl", f"curl {doors.origin}/{path}", "--call", "--out", str(tmp_path / "x.yaml"))
            assert done.exit_code == 1
            assert told in done.output
    assert not (tmp_path / "x.yaml").exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--from-curl", "curl -s"], "there is no address in the curl line"),
        (["--from-curl", "curl 'http://a"], "not a line of a shell"),
        (["--from-curl", "curl ftp://a/b"], "expected an address that begins with http"),
        (["--from-curl", "curl http://127.0.0.1:9/x -d @file"], "a body from a file"),
        (["--from-curl", "curl http://127.0.0.1:9/x", "--call"], "no action could be made"),
        (["--from-openapi", "/nowhere.json", "--operation", "x"], "No such file"),
    ],
)
async def test_what_no_action_can_be_made_of_is_told(words, told):
    done = await run("new", *words)
    assert done.exit_code == 1
    assert told in done.output


async def test_an_operation_that_does_not_exist_is_told_with_those_that_do(tmp_path):
    source = tmp_path / "shop.json"
    source.write_text(json.dumps(OPENAPI))
    done = await run("new", "--from-openapi", str(source), "--operation", "getOrders")
    assert done.exit_code == 1
    assert "there are: getOrder, createCase, forget" in done.output
