"""How an action is run: repeats, rate limits within the budget, keys, find before create, what is sensitive, the call in payloads."""

from __future__ import annotations

import json
import logging
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from app.actions.credentials import Credentials
from app.actions.files import load_actions
from app.actions.guard import Origin
from app.actions.method import ActionDef
from app.actions.runner import Actions
from app.actions.samples import check_samples
from app.core.commands import StartAction
from app.core.events import ActionSucceeded
from tests.contract.doors import GOOD, Doors, Posted, reply, until

PHONE = "+493012345678"
SLOW_DOWN = "429 Slow down"


def action(name: str = "good", method: str = "GET", request: dict[str, Any] | None = None, **parts: Any) -> ActionDef:
    return ActionDef.model_validate(
        {
            "name": f"test.{name}",
            "request": {"method": method, "url": "{{ base_url }}/" + name, **(request or {})},
            "parameters": {"phone": {"type": "string", "required": False, "default": PHONE}},
            "response": {"name": {"path": "name", "type": "string", "default": ""}},
            "auth": {"scheme": "none", "credentials": "test"},
            "samples": {"one": {"request": f"{method} /{name}", "response": {"status": 500}, "fails": "status"}},
            **parts,
        }
    )


@asynccontextmanager
async def acting(base_url: str, *definitions: ActionDef, **options: Any):
    posted = Posted()
    origins = [Origin(origin=str(URL(base_url).origin()), allow_private=True)]
    actions = Actions({d.name: d for d in definitions}, {"test": Credentials(base_url=base_url)}, posted, origins, **options)
    try:
        yield actions, posted
    finally:
        await actions.close()


def start(name: str = "good", request: str = "c1-rq1", budget: float = 2.5, **params: Any) -> StartAction:
    return StartAction("c1", request, f"test.{name}", params, budget)


@pytest.fixture
async def doors():
    async with Doors() as system:
        system.open("good", reply(GOOD))
        yield system


# ---- E1: a system that asks to be left alone ---------------------------------------------------------------------------


def limited(doors: Doors, name: str, first: bytes) -> None:
    """The first request is answered so, all others well."""

    async def door(doors: Doors, reader: Any, writer: Any) -> None:
        writer.write(first if len(doors.asked) == 1 else reply(GOOD))

    doors.open(name, door)


async def test_a_rate_limit_is_waited_for_within_the_budget_even_by_what_may_not_be_repeated(doors):
    limited(doors, "busy", reply(b"", SLOW_DOWN, "Retry-After: 1"))
    began = time.monotonic()
    async with acting(doors.origin, action("busy", "POST")) as (actions, posted):
        actions.carry_out(start("busy"))
        assert isinstance(await posted.event(), ActionSucceeded)
    assert 0.9 < time.monotonic() - began < 2.5
    assert len(doors.asked) == 2


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_rate_limit_beyond_the_budget_fails_at_once_and_is_kept_by_every_call(doors, form):
    after = "30" if form == "seconds" else format_datetime(datetime.now(UTC) + timedelta(seconds=90), usegmt=True)
    now = [100.0]
    doors.open("busy", reply(b"", SLOW_DOWN, f"Retry-After: {after}"))
    async with acting(doors.origin, action("busy"), clock=lambda: now[0]) as (actions, posted):
        began = time.monotonic()
        for n in range(5):
            actions.carry_out(start("busy", f"c{n}-rq1"))
            event = await posted.event()
            assert event.reason == "status"
            assert event.detail.startswith("HTTP 429: the system asks to be left alone for ")
        assert time.monotonic() - began < 1
        assert len(doors.asked) == 1
        assert actions.health()["test.busy"]["breaker"] == "closed"
        now[0] += 100
        doors.open("busy", reply(GOOD))
        actions.carry_out(start("busy", "c9-rq1"))
        assert isinstance(await posted.event(), ActionSucceeded)


@pytest.mark.parametrize("after", ["soon", "-5", "9" * 40, ""])
async def test_a_rate_limit_that_does_not_say_how_long_is_a_failure(doors, after):
    doors.open("busy", reply(b"", SLOW_DOWN, f"Retry-After: {after}"))
    async with acting(doors.origin, action("busy")) as (actions, posted):
        actions.carry_out(start("busy"))
        event = await posted.event()
    assert (event.reason, event.detail, len(doors.asked)) == ("status", "HTTP 429", 1)


async def test_a_system_that_is_limited_for_ever_is_asked_once_more_and_no_more(doors):
    doors.open("busy", reply(b"", SLOW_DOWN, "Retry-After: 0"))
    async with acting(doors.origin, action("busy")) as (actions, posted):
        actions.carry_out(start("busy"))
        assert (await posted.event()).reason == "status"
    assert len(doors.asked) == 2


async def test_a_503_with_a_time_is_repeated_only_where_repeating_does_no_harm(doors):
    doors.open("busy", reply(b"", "503 Busy", "Retry-After: 0"))
    async with acting(doors.origin, action("busy", "POST"), action("busier", "PUT", run={"retry": 2, "once": "upsert"})) as (
        actions,
        posted,
    ):
        actions.carry_out(start("busy"))
        assert (await posted.event()).reason == "status"
        assert len(doors.asked) == 1
        doors.open("busier", reply(b"", "503 Busy", "Retry-After: 0"))
        actions.carry_out(start("busier"))
        assert (await posted.event()).reason == "status"
    assert len(doors.asked) == 4


async def test_repeats_never_go_beyond_the_budget(doors):
    doors.open("silent", Doors.silent)
    async with acting(doors.origin, action("silent", run={"retry": 2})) as (actions, posted):
        began = time.monotonic()
        actions.carry_out(start("silent", budget=0.3))
        assert (await posted.event()).reason == "timeout"
        assert time.monotonic() - began < 1.0


# ---- nothing there, and nothing to say ---------------------------------------------------------------------------------


async def test_a_status_that_means_nothing_there_gives_the_defaults(doors):
    doors.open("none", reply(b"<html>no</html>", "404 Not here"))
    async with acting(doors.origin, action("none", request={"absent": ["404"]})) as (actions, posted):
        actions.carry_out(start("none"))
        assert (await posted.event()).values == {"name": ""}


async def test_an_answer_without_content_gives_the_defaults(doors):
    doors.open("done", b"HTTP/1.1 204 No Content\r\n\r\n")
    async with acting(doors.origin, action("done", "PATCH")) as (actions, posted):
        actions.carry_out(start("done"))
        assert (await posted.event()).values == {"name": ""}


async def test_a_form_is_sent_as_a_form(doors):
    async with acting(doors.origin, action("good", "POST", {"form": {"to": "{{ phone }}", "id": "{{ call_id }}"}})) as (actions, posted):
        actions.carry_out(start())
        assert isinstance(await posted.event(), ActionSucceeded)
    assert doors.bodies == [b"to=%2B493012345678&id=c1"]
    assert b"Content-Type: application/x-www-form-urlencoded" in doors.heads[0]


# ---- attributes made of others -----------------------------------------------------------------------------------------


async def test_the_address_of_a_record_is_made_of_its_id(doors):
    response = {
        "id": {"path": "id", "type": "string", "default": ""},
        "first": {"path": "first", "type": "string", "default": ""},
        "record_url": {"template": "{{ settings.web }}/Contact/{{ id }}/view", "type": "string"},
        "api_url": {"template": "{{ base_url }}/contacts/{{ id }}", "type": "string", "default": "none"},
        "greeting": {"template": "Hello {{ first }} & co", "type": "string", "default": "Hello"},
    }
    definition = action(response=response, settings={"web": {"default": "https://crm.example/app"}})
    doors.open("good", reply(b'{"id": "a/../b?", "first": "Ada"}'))
    async with acting(doors.origin, definition) as (actions, posted):
        actions.carry_out(start())
        assert (await posted.event()).values == {
            "id": "a/../b?",
            "first": "Ada",
            "record_url": "https://crm.example/app/Contact/a%2F..%2Fb%3F/view",
            "api_url": f"{doors.origin}/contacts/a%2F..%2Fb%3F",
            "greeting": "Hello Ada & co",
        }
        doors.open("good", reply(b"{}"))
        actions.carry_out(start())
        values = (await posted.event()).values
    assert (values["record_url"], values["api_url"], values["greeting"]) == ("", "none", "Hello")


# ---- once --------------------------------------------------------------------------------------------------------------


async def test_a_key_is_made_of_the_call_and_the_request_and_is_the_same_for_each_repeat(doors):
    limited(doors, "act", reply(b"", "503 Busy"))
    run = {"once": "key", "key": "{{ call_id }}/{{ request_id }}/{{ phone }}", "idempotency_header": "X-Once", "retry": 1}
    async with acting(doors.origin, action("act", "POST", run=run)) as (actions, posted):
        actions.carry_out(start("act", "c1-rq7"))
        assert isinstance(await posted.event(), ActionSucceeded)
    assert [f"X-Once: c1/c1-rq7/{PHONE}".encode() in head for head in doors.heads] == [True, True]


class Cases:
    """A system that creates cases and can be asked for one by its external id. The first answer to a creation can be lost."""

    def __init__(self, loses: bool) -> None:
        self.cases: dict[str, str] = {}
        self.created, self.looked = 0, 0
        self._loses = loses
        application = web.Application()
        application.router.add_get("/cases", self._find)
        application.router.add_post("/cases", self._create)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> Cases:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.origin = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    async def _find(self, request: web.Request) -> web.Response:
        self.looked += 1
        return web.json_response({"results": [{"id": id_} for key, id_ in self.cases.items() if key == request.query["key"]]})

    async def _create(self, request: web.Request) -> web.Response:
        self.created += 1
        key = (await request.json())["external"]
        self.cases[key] = f"case-{self.created}"
        if self._loses:
            self._loses = False
            assert request.transport is not None
            request.transport.abort()
        return web.json_response({"results": [{"id": self.cases[key]}]})


CASES = """\
connector: test
methods:
  case_by_key:
    request: {method: GET, url: "{{ base_url }}/cases", query: {key: "{{ key }}"}}
    parameters: {key: {type: string}}
    response: {id: {path: "results[0].id", type: string, default: ""}, found: {path: "length(results) > `0`", type: boolean}}
    auth: {scheme: none, credentials: test}
    samples:
      none: {parameters: {key: k}, request: "GET /cases?key=k", response: {body: '{"results": []}'}, expect: {found: "false", id: ""}}
  create_case:
    request: {method: POST, url: "{{ base_url }}/cases", body: {external: "{{ request_id }}", subject: "{{ subject }}"}}
    parameters: {subject: {type: string}}
    response: {id: {path: "results[0].id", type: string}}
    auth: {scheme: none, credentials: test}
    samples:
      made:
        parameters: {subject: Printer}
        request: POST /cases
        body: '{"external": "request", "subject": "Printer"}'
        response: {body: '{"results": [{"id": "case-1"}]}'}
        expect: {id: case-1}
    run: {retry: 1, once: find, find: {method: case_by_key, parameters: {key: "{{ request_id }}"}}}
"""


@pytest.fixture
def cases(tmp_path):
    (tmp_path / "test.yaml").write_text(CASES)
    definitions = load_actions(tmp_path)
    assert check_samples(definitions) == []
    return definitions.values()


async def test_a_case_whose_creation_was_not_confirmed_is_found_and_not_created_again(cases):
    async with Cases(loses=True) as system, acting(system.origin, *cases) as (actions, posted):
        actions.carry_out(start("create_case", subject="Printer"))
        assert (await posted.event()).values == {"id": "case-1"}
        assert (system.created, system.looked) == (1, 2)
        # the same request again, as after a crash in between
        actions.carry_out(start("create_case", subject="Printer"))
        assert (await posted.event()).values == {"id": "case-1"}
        assert system.created == 1
        actions.carry_out(start("create_case", "c1-rq2", subject="Printer"))
        assert (await posted.event()).values == {"id": "case-2"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("method: case_by_key", "method: nothing", "there is no method 'nothing' in this connector"),
        ("method: GET", "method: DELETE", "case_by_key does not only read"),
        ('key: "{{ request_id }}"}', 'kee: "{{ request_id }}"}', "case_by_key needs 'key'"),
        ('id", type: string}}', 'id", type: string}, state: {path: s, type: string}}', "has no attribute 'state' of the same type"),
        (
            'parameters: {key: "{{ request_id }}"}',
            'found: id, parameters: {key: "{{ request_id }}"}',
            "has no boolean or integer attribute",
        ),
        (', find: {method: case_by_key, parameters: {key: "{{ request_id }}"}}', "", "expected find:"),
    ],
)
def test_a_finder_that_cannot_find_is_told(tmp_path, old, new, message):
    assert old in CASES
    (tmp_path / "test.yaml").write_text(CASES.replace(old, new))
    with pytest.raises(ValueError, match=message):
        load_actions(tmp_path)


# ---- payloads ----------------------------------------------------------------------------------------------------------


async def test_call_id_and_callers_number_go_to_a_configured_address(doors):
    """BAB-08: the address comes from the settings, call id and caller's number are substituted in the URL and in the body."""
    request = {
        "url": "{{ base_url }}/{{ settings.path }}/{{ call_id }}",
        "query": {"from": "{{ phone }}"},
        "headers": {"X-Call": "{{ call_id }}"},
        "body": {"call": {"id": "{{ call_id }}", "step": "{{ request_id }}"}, "text": "{{ phone }} calls"},
    }
    definition = action("hooks", "POST", request, settings={"path": {"default": "arrivals"}})
    doors.open("base", reply(GOOD))
    async with acting(f"{doors.origin}/base", definition) as (actions, posted):
        actions.carry_out(start("hooks", "c1-rq4", phone=PHONE))
        assert isinstance(await posted.event(), ActionSucceeded)
    assert doors.asked == ["POST /base/arrivals/c1?from=%2B493012345678"]
    assert b"X-Call: c1" in doors.heads[0]
    assert json.loads(doors.bodies[0]) == {"call": {"id": "c1", "step": "c1-rq4"}, "text": f"{PHONE} calls"}


# ---- what is sensitive -------------------------------------------------------------------------------------------------


async def test_a_sensitive_value_is_in_no_log_and_no_failure(doors, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    definition = action(run={"sensitive": ["phone", "name"]}, response={"name": {"path": "name", "type": "integer"}})
    doors.open("good", reply(b'{"name": "4111111111111111"}'))
    async with acting(doors.origin, definition) as (actions, posted):
        actions.carry_out(start(phone="4242424242"))
        event = await posted.event()
        assert event.reason == "malformed"
        actions.carry_out(start(phone=7))
        told = repr(event) + repr(await posted.event()) + repr(actions.health())
    told += caplog.text + "".join(capsys.readouterr())
    assert "action_failed" in told
    assert "4242424242" not in told
    assert "4111111111111111" not in told


def test_what_is_said_to_be_sensitive_must_exist():
    with pytest.raises(ValueError, match=r"run.sensitive: there is no parameter or attribute 'pin'"):
        action(run={"sensitive": ["pin"]})


async def test_late_answers_of_a_repeated_request_do_not_come_twice(doors):
    doors.open("late", Doors.silent)
    async with acting(doors.origin, action("late")) as (actions, posted):
        actions.carry_out(start("late", budget=0.1))
        assert (await posted.event()).reason == "timeout"
        actions.carry_out(start("late"))
        await until(lambda: len(doors.asked) == 2)
        doors.release()
        assert isinstance(await posted.event(), ActionSucceeded)
    assert posted.count == 2
