"""Actions against real sockets: the samples of the shipped files, and everything that another system can do to us."""

from __future__ import annotations

import asyncio
import gzip
import ipaddress
import logging
import socket
import ssl
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from app.actions import breaker
from app.actions.credentials import Credentials
from app.actions.files import load_actions
from app.actions.guard import GuardedResolver, Origin, is_public
from app.actions.method import ActionDef
from app.actions.runner import Actions
from app.actions.samples import FakeSystem, check_samples, sample_outputs, sample_parameters
from app.core.commands import HangUp, StartAction
from app.core.events import ActionFailed, ActionSucceeded
from tests.contract.doors import GOOD, Doors, Posted, bomb, reply, until

DEMO = Path(__file__).parents[2] / "app" / "demo" / "actions"
RESPONSE = {
    "name": {"path": "name", "type": "string"},
    "level": {"path": "level", "type": "integer", "default": "0"},
    "ok": {"path": "ok", "type": "boolean", "default": "false"},
    "tags": {"path": "tags", "type": "list of string", "default": "[]"},
    "more": {"path": "more", "type": "object", "default": "{}"},
}


def action(name: str = "good", response: dict[str, Any] | None = None, method: str = "GET", **run: Any) -> ActionDef:
    return ActionDef.model_validate(
        {
            "name": f"test.{name}",
            "request": {"method": method, "url": "{{ base_url }}/" + name, "query": {"q": "{{ q }}"}},
            "parameters": {"q": {"type": "string", "required": False, "default": ""}},
            "response": RESPONSE if response is None else response,
            "auth": {"scheme": "bearer", "credentials": "test"},
            "samples": {"one": {"request": f"{method} /{name}", "response": {"status": 500}, "fails": "status"}},
            "run": run,
        }
    )


@asynccontextmanager
async def acting(base_url: str, *definitions: ActionDef, origins: list[Origin] | None = None, **options: Any):
    posted = Posted()
    credentials = {"test": Credentials(base_url=base_url, token="secret-token")}
    allowed = [Origin(origin=base_url, allow_private=True)] if origins is None else origins
    actions = Actions({d.name: d for d in definitions}, credentials, posted, allowed, **options)
    try:
        yield actions, posted
    finally:
        await actions.close()


def start(name: str, request: str = "c1-action1", budget: float = 2.5, **params: Any) -> StartAction:
    return StartAction("c1", request, f"test.{name}", params, budget)


async def ask(doors: Doors, name: str = "good", budget: float = 2.5, **options: Any) -> Any:
    async with acting(doors.origin, action(name, **options)) as (actions, posted):
        actions.carry_out(start(name, budget=budget))
        event = await posted.event()
        assert posted.count == 1
        return event


@pytest.fixture
async def doors():
    async with Doors() as system:
        system.open("good", reply(GOOD))
        yield system


# ---- what is shipped ---------------------------------------------------------------------------------------------------


def test_the_samples_of_the_shipped_actions_hold():
    assert check_samples(load_actions(DEMO)) == []


async def test_every_shipped_sample_over_a_real_socket():
    definitions = load_actions(DEMO)
    posted = Posted()
    async with FakeSystem(definitions) as system:
        actions = Actions(definitions, system.credentials, posted, system.origins)
        for name, definition in definitions.items():
            for title, sample in definition.samples.items():
                actions.carry_out(StartAction("c1", f"c1-{name}-{title}", name, sample_parameters(definition, title)))
                event = await posted.event()
                if sample.fails:
                    assert (event.request, event.reason) == (f"c1-{name}-{title}", sample.fails)
                else:
                    assert isinstance(event, ActionSucceeded)
                    assert sample_outputs(definition, title).items() <= event.values.items()
                    assert event.values.keys() == definition.outputs.keys()
        await actions.close()


# ---- the request -------------------------------------------------------------------------------------------------------


async def test_values_come_typed_and_the_request_carries_its_credentials(doors):
    async with acting(doors.origin, action()) as (actions, posted):
        assert actions.handles(start("good"))
        assert not actions.handles(HangUp("c1"))
        actions.carry_out(start("good", q="+49 30/1&x=#é"))
        event = await posted.event()
    assert event == ActionSucceeded(
        "c1", "c1-action1", {"name": "Ada", "level": 3, "ok": True, "tags": ["a", "b"], "more": {"x": 1}}, event.ms
    )
    assert doors.asked == ["GET /good?q=%2B49%2030%2F1%26x%3D%23%C3%A9"]
    assert b"Authorization: Bearer secret-token" in doors.heads[0]


async def test_the_connection_is_kept_for_the_next_request(doors):
    async with acting(doors.origin, action()) as (actions, posted):
        for n in range(5):
            actions.carry_out(start("good", request=f"c1-action{n}"))
            assert isinstance(await posted.event(), ActionSucceeded)
    assert (len(doors.asked), doors.connections) == (5, 1)


async def test_a_repeated_command_is_the_same_request_while_it_is_under_way(doors):
    doors.open("late", Doors.silent)
    async with acting(doors.origin, action("late")) as (actions, posted):
        actions.carry_out(start("late"))
        actions.carry_out(start("late"))
        await until(lambda: doors.asked)
        doors.release()
        assert isinstance(await posted.event(), ActionSucceeded)
    assert (posted.count, len(doors.asked)) == (1, 1)


async def test_a_request_id_may_come_again_once_it_was_answered(doors):
    async with acting(doors.origin, action()) as (actions, posted):
        for _ in range(3):
            actions.carry_out(start("good"))
            assert isinstance(await posted.event(), ActionSucceeded)


@pytest.mark.parametrize(
    ("name", "params", "detail"),
    [
        ("good", {"q": 7}, "the parameter 'q': string expected, found integer"),
        ("good", {"other": "x"}, "there is no parameter 'other'"),
        ("absent", {}, "there is no action 'test.absent'"),
    ],
)
async def test_a_request_that_cannot_be_made_is_refused_without_asking(doors, name, params, detail):
    async with acting(doors.origin, action()) as (actions, posted):
        actions.carry_out(start(name, **params))
        event = await posted.event()
    assert (event.reason, event.detail) == ("bad_request", detail)
    assert doors.asked == []


async def test_a_repeatable_post_has_the_same_key_each_time(doors):
    doors.open("act", _first(reply(b"", "503 Busy"), then=reply(GOOD)))
    async with acting(doors.origin, action("act", method="POST", once="key", retry=1)) as (actions, posted):
        actions.carry_out(start("act", request="c1-action9"))
        assert isinstance(await posted.event(), ActionSucceeded)
    assert [b"Idempotency-Key: c1-action9" in head for head in doors.heads] == [True, True]


async def test_what_may_act_twice_is_never_repeated(doors):
    doors.open("act", _first(reply(b"", "503 Busy"), then=reply(GOOD)))
    assert (await ask(doors, "act", method="POST")).reason == "status"
    assert len(doors.asked) == 1


# ---- E1: it does not answer, or not as it should -----------------------------------------------------------------------


@pytest.mark.parametrize("door", [Doors.silent, Doors.drip])
async def test_a_system_that_does_not_finish_costs_the_budget_and_no_more(doors, door):
    doors.open("slow", door)
    began = time.monotonic()
    event = await ask(doors, "slow", budget=0.3)
    assert event.reason == "timeout"
    assert 0.25 < time.monotonic() - began < 0.8
    async with asyncio.timeout(2):
        await doors.left.wait()


async def test_an_answer_after_the_budget_never_arrives(doors):
    doors.open("late", Doors.silent)
    async with acting(doors.origin, action("late"), action("good")) as (actions, posted):
        actions.carry_out(start("late", request="c1-action1", budget=0.1))
        assert (await posted.event()).reason == "timeout"
        doors.release()
        actions.carry_out(start("good", request="c1-action2"))
        assert (await posted.event()).request == "c1-action2"
    assert posted.count == 2


async def test_nobody_listens():
    async with Doors() as system:
        origin = system.origin
    async with acting(origin, action()) as (actions, posted):
        actions.carry_out(start("good"))
        assert (await posted.event()).reason == "refused"


async def test_a_host_that_has_no_address_is_refused():
    origins = [Origin(origin="https://nowhere.invalid")]
    async with acting("https://nowhere.invalid", action(), origins=origins) as (actions, posted):
        actions.carry_out(start("good"))
        assert (await posted.event()).reason == "refused"


async def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path):
    async with Doors(_self_signed(tmp_path)) as system:
        system.open("good", reply(GOOD))
        assert (await ask(system)).reason == "refused"
        assert system.asked == []


@pytest.mark.parametrize(
    ("status", "detail"),
    [
        ("500 Oops", "HTTP 500"),
        ("404 Not here", "HTTP 404"),
        ("302 Elsewhere", "HTTP 302"),
        ("401 Who", "HTTP 401"),
    ],
)
async def test_a_status_that_is_no_success_is_a_failure_and_redirects_are_not_followed(doors, status, detail):
    doors.open("no", reply(GOOD, status, "Location: /no"))
    event = await ask(doors, "no")
    assert (event.reason, event.detail, len(doors.asked)) == ("status", detail, 1)


async def test_a_connection_that_is_cut_is_refused_and_may_be_asked_again(doors):
    doors.open("cut", _first(Doors.reset, then=reply(GOOD)))
    assert isinstance(await ask(doors, "cut", retry=1), ActionSucceeded)


# ---- E2: it answers with nonsense --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("response", "reason", "detail"),
    [
        (reply(b"<html>hello</html>"), "malformed", "the body is not JSON"),
        (reply(b""), "malformed", "the body is empty"),
        (reply(GOOD[:-10]), "malformed", "the body is not JSON"),
        (reply(b'{"name": NaN}'), "malformed", "the body is not JSON"),
        (reply(b'{"name": "\xff"}'), "malformed", "the body is not JSON"),
        (reply(b'{"name": "A", "level": "3"}'), "malformed", "level: integer expected, found string"),
        (reply(b'{"name": "A", "level": 1e999}'), "malformed", "the body is not JSON"),
        (reply(b'{"name": "A", "level": 99999999999999999999}'), "malformed", "level: integer expected, found number"),
        (reply(b'{"name": "A", "ok": 1}'), "malformed", "ok: boolean expected, found integer"),
        (reply(b'{"name": "A", "tags": [1]}'), "malformed", "tags: string expected, found integer"),
        (reply(b'{"name": null}'), "malformed", "name: string expected, found nothing"),
        (reply(b"[]"), "malformed", "name: string expected, found nothing"),
        (reply(b'{"name": ' + b"[" * 33 + b"]" * 33 + b"}"), "malformed", "the body is nested more than 32 deep"),
        (reply(b"[" * 100_000), "malformed", "the body is not JSON"),
        (reply(b'{"name": "' + b"A" * 5000 + b'"}'), "too_big", "name: a string of 5000 characters; 4096 are allowed"),
        (reply(b'{"name": "A", "tags": [' + b'"match",' * 9_999 + b'"match"]}'), "too_big", "tags: 80001 bytes"),
        (reply(b" " * 300_000), "too_big", "the body has more than 262144 bytes"),
        (reply(bomb(50_000_000), "200 OK", "Content-Encoding: gzip"), "too_big", "the unpacked body has more than 262144 bytes"),
        (reply(b"not packed", "200 OK", "Content-Encoding: gzip"), "malformed", "the packed body is damaged"),
        (reply(gzip.compress(GOOD)[:-20], "200 OK", "Content-Encoding: gzip"), "malformed", "the packed body breaks off"),
        (reply(GOOD, "200 OK", "Content-Encoding: br"), "malformed", "the body is packed in a way that was not asked for"),
        (b"SSH-2.0-OpenSSH_9\r\n\r\n", "malformed", "not HTTP"),
    ],
)
async def test_nonsense_is_named_and_sets_no_variable(doors, response, reason, detail):
    doors.open("odd", response)
    event = await ask(doors, "odd")
    assert isinstance(event, ActionFailed)
    assert event.reason == reason
    assert event.detail.startswith(detail)


async def test_a_body_without_end_is_left_after_256_kilobytes(doors):
    doors.open("flood", Doors.flood)
    assert (await ask(doors, "flood")).reason == "too_big"


async def test_a_body_that_breaks_off_is_malformed(doors):
    doors.open("cut", Doors.cut)
    event = await ask(doors, "cut")
    assert (event.reason, event.detail) == ("malformed", "the body broke off")


async def test_a_packed_body_is_unpacked_although_not_asked_for(doors):
    doors.open("packed", reply(gzip.compress(GOOD), "200 OK", "Content-Encoding: gzip"))
    assert (await ask(doors, "packed")).values["name"] == "Ada"


async def test_strings_lose_what_has_no_business_on_a_screen(doors):
    doors.open("odd", reply(b'{"name": "A\\u0000d\\u202ea \xf0\x9f\x98\x80\\u0007", "more": {"k\\u0000": "v\\u001b[31m"}}'))
    values = (await ask(doors, "odd")).values
    assert (values["name"], values["more"]) == ("Ada \U0001f600", {"k": "v[31m"})


# ---- E3: the breaker ---------------------------------------------------------------------------------------------------


async def test_the_breaker_opens_answers_at_once_probes_once_and_closes(doors):
    now = [0.0]
    doors.open("ill", reply(b"", "500 Oops"))
    async with acting(doors.origin, action("ill"), clock=lambda: now[0]) as (actions, posted):
        reasons, waits = [], []
        for n in range(100):
            began = time.perf_counter()
            actions.carry_out(start("ill", request=f"c1-action{n}"))
            reasons.append((await posted.event()).reason)
            if reasons[-1] == "breaker_open":
                waits.append(time.perf_counter() - began)
        assert reasons == ["status"] * breaker.FAILURES + ["breaker_open"] * (100 - breaker.FAILURES)
        assert breaker.FAILURES <= 10
        assert sorted(waits)[len(waits) * 9 // 10] < 0.005
        assert actions.health()["test.ill"]["breaker"] == "open"

        now[0] += breaker.REST
        doors.open("ill", Doors.silent)
        assert actions.health()["test.ill"]["breaker"] == "half_open"
        actions.carry_out(start("ill", request="probe"))
        actions.carry_out(start("ill", request="beside"))
        beside = await posted.event()
        assert (beside.request, beside.reason) == ("beside", "breaker_open")
        doors.release()
        assert isinstance(await posted.event(), ActionSucceeded)
        assert actions.health()["test.ill"]["breaker"] == "closed"


async def test_what_is_the_callers_mistake_does_not_open_the_breaker(doors):
    doors.open("picky", reply(b"", "404 Not here"))
    async with acting(doors.origin, action("picky")) as (actions, posted):
        for n in range(20):
            actions.carry_out(start("picky", request=f"c1-action{n}"))
            assert (await posted.event()).reason == "status"


# ---- E4: the bulkhead --------------------------------------------------------------------------------------------------


async def test_a_slow_system_fills_its_own_bulkhead_and_no_other(doors):
    doors.open("slow", Doors.silent)
    async with acting(doors.origin, action("slow", concurrency=3), action("good")) as (actions, posted):
        for n in range(5):
            actions.carry_out(start("slow", request=f"slow{n}"))
        refused = [await posted.event() for _ in range(2)]
        assert [event.reason for event in refused] == ["busy", "busy"]
        for n in range(50):
            actions.carry_out(start("good", request=f"good{n}"))
            event = await posted.event()
            assert event.request == f"good{n}"
            assert event.ms < 500
        assert actions.health()["test.slow"]["in_flight"] == 3
        assert actions.health()["test.good"]["counts"] == {"succeeded": 50}


async def test_closing_drops_what_is_under_way_without_an_event(doors):
    doors.open("slow", Doors.silent)
    async with acting(doors.origin, action("slow")) as (actions, posted):
        actions.carry_out(start("slow"))
        await until(lambda: doors.asked)
    assert posted.count == 0
    async with asyncio.timeout(2):
        await doors.left.wait()


# ---- where it may not go -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("base_url", "origins"),
    [
        ("http://127.0.0.1:9", []),
        ("https://crm.example", [Origin(origin="https://other.example")]),
        ("https://127.0.0.1:9", [Origin(origin="https://127.0.0.1:9")]),
        ("https://[::1]:9", [Origin(origin="https://[::1]:9")]),
        ("https://[::ffff:127.0.0.1]:9", [Origin(origin="https://[::ffff:127.0.0.1]:9")]),
        ("https://169.254.169.254", [Origin(origin="https://169.254.169.254")]),
        ("https://localhost:9", [Origin(origin="https://localhost:9")]),
        ("https://127.1:9", [Origin(origin="https://127.1:9")]),
        ("https://2130706433:9", [Origin(origin="https://2130706433:9")]),
    ],
)
async def test_an_origin_that_is_not_listed_or_not_public_is_never_connected_to(base_url, origins):
    async with acting(base_url, action(), origins=origins) as (actions, posted):
        actions.carry_out(start("good"))
        assert (await posted.event()).reason == "guard"


async def test_another_port_of_a_listed_host_is_another_origin(doors):
    async with acting(doors.origin, action(), origins=[Origin(origin="http://127.0.0.1:9", allow_private=True)]) as (actions, posted):
        actions.carry_out(start("good"))
        assert (await posted.event()).reason == "guard"
    assert doors.asked == []


PRIVATE = [
    "127.0.0.1",
    "10.0.0.1",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "192.0.2.1",
    "198.18.0.1",
    "::1",
    "::",
    "fe80::1",
    "fc00::1",
    "ff02::1",
    "::ffff:10.0.0.1",
    "64:ff9b::7f00:1",
    "2002:7f00:1::",
    "2001:db8::1",
    "168.63.129.16",
    "fd00:ec2::254",
]


@pytest.mark.parametrize("address", PRIVATE)
def test_an_address_that_is_not_public(address):
    assert not is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize("address", ["1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1"])
def test_an_address_that_is_public(address):
    assert is_public(ipaddress.ip_address(address))


@pytest.mark.parametrize(
    ("entry", "address", "allowed"),
    [
        ({"allow_private": True}, "10.1.2.3", True),
        ({"allow_private": True}, "::ffff:10.1.2.3", True),
        ({"allow_private": True}, "fd12::1", True),
        ({"allow_private": True}, "1.1.1.1", True),
        ({"allow_private": True}, "169.254.169.254", False),
        ({"allow_private": True}, "::ffff:169.254.169.254", False),
        ({"allow_private": True}, "64:ff9b::a9fe:a9fe", False),
        ({"allow_private": True}, "fd00:ec2::254", False),
        ({"allow_private": True}, "100.100.100.200", False),
        ({"allow_private": True}, "fe80::1", False),
        ({"allow_private": True}, "0.0.0.0", False),
        ({"networks": ["10.1.0.0/16"]}, "10.1.2.3", True),
        ({"networks": ["10.1.0.0/16"]}, "10.2.2.3", False),
        ({"networks": ["169.254.169.254/32"]}, "169.254.169.254", True),
        ({}, "10.1.2.3", False),
    ],
)
def test_what_an_entry_of_the_allow_list_opens(entry, address, allowed):
    assert Origin(origin="https://crm.example", **entry).allows(ipaddress.ip_address(address)) is allowed


class Names:
    """A name server of our own: `crm.test` has the addresses that `answers` says, the first list for the first question."""

    def __init__(self, monkeypatch: Any, *answers: list[str]) -> None:
        self._answers, self.asked, self._real = list(answers), 0, socket.getaddrinfo
        monkeypatch.setattr("app.actions.guard.socket.getaddrinfo", self)

    def __call__(self, host: str, port: int, *args: Any, **options: Any) -> Any:
        if host != "crm.test":
            return self._real(host, port, *args, **options)
        addresses = self._answers[min(self.asked, len(self._answers) - 1)]
        self.asked += 1
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]


async def test_of_several_addresses_only_those_that_are_allowed_are_connected_to(monkeypatch):
    names = Names(monkeypatch, ["127.0.0.3", "169.254.169.254", "127.0.0.2"], ["127.0.0.3"])
    async with Doors(host="127.0.0.2") as right, Doors(host="127.0.0.3", port=right.port) as wrong:
        right.open("good", reply(GOOD))
        wrong.open("good", reply(GOOD))
        base_url = f"http://crm.test:{right.port}"
        for expected in (ActionSucceeded, ActionFailed):
            origins = [Origin(origin=base_url, networks=["127.0.0.2/32"])]
            async with acting(base_url, action(), origins=origins) as (actions, posted):
                actions.carry_out(start("good"))
                event = await posted.event()
                assert isinstance(event, expected)
        assert (event.reason, event.detail) == ("guard", "crm.test has no public address")
        assert (len(right.asked), wrong.connections) == (1, 0)
        assert names.asked == 2


async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(monkeypatch):
    names = Names(monkeypatch, ["127.0.0.2"], ["127.0.0.3"])
    async with Doors(host="127.0.0.2") as right, Doors(host="127.0.0.3", port=right.port) as wrong:
        right.open("good", reply(GOOD, "200 OK", "Connection: close"))
        base_url = f"http://crm.test:{right.port}"
        async with acting(base_url, action(), origins=[Origin(origin=base_url, allow_private=True)]) as (actions, posted):
            actions.carry_out(start("good"))
            assert isinstance(await posted.event(), ActionSucceeded)
        assert (names.asked, wrong.connections) == (1, 0)


async def test_a_name_that_turns_into_the_address_of_cloud_secrets_is_refused(monkeypatch):
    Names(monkeypatch, ["169.254.169.254"])
    origins = [Origin(origin="http://crm.test", allow_private=True)]
    async with acting("http://crm.test", action(), origins=origins) as (actions, posted):
        actions.carry_out(start("good"))
        assert (await posted.event()).reason == "guard"


def redirecting(redirects: int) -> ActionDef:
    plain = action("moved").model_dump(by_alias=True, exclude_unset=True)
    return ActionDef.model_validate({**plain, "request": {**plain["request"], "redirects": redirects}})


async def moved(doors: Doors, location: str, redirects: int = 1, *others: str) -> Any:
    doors.open("moved", reply(b"", "302 Elsewhere", f"Location: {location}"))
    origins = [Origin(origin=origin, allow_private=True) for origin in (doors.origin, *others)]
    async with acting(doors.origin, redirecting(redirects), origins=origins) as (actions, posted):
        actions.carry_out(start("moved"))
        return await posted.event()


async def test_a_redirect_is_followed_where_the_action_says_so_and_keeps_its_credentials_at_home(doors):
    assert isinstance(await moved(doors, "/good"), ActionSucceeded)
    assert b"Authorization: Bearer secret-token" in doors.heads[1]


async def test_a_redirect_to_another_listed_system_takes_no_credentials_along(doors):
    async with Doors(host="127.0.0.2") as other:
        other.open("good", reply(GOOD))
        assert isinstance(await moved(doors, f"{other.origin}/good", 1, other.origin), ActionSucceeded)
        assert b"secret-token" not in other.heads[0]
        assert b"Authorization" not in other.heads[0]


@pytest.mark.parametrize(
    ("location", "reason", "detail"),
    [
        ("http://127.0.0.9:1/good", "guard", "a redirect: http://127.0.0.9:1 is not on the list of allowed origins"),
        ("http://169.254.169.254/latest/meta-data", "guard", "a redirect: http://169.254.169.254 is not on the list"),
        ("//localhost/good", "guard", "a redirect: http://localhost is not on the list"),
        ("file:///etc/passwd", "malformed", "the redirect leads to no address"),
        ("", "malformed", "the redirect leads to no address"),
        ("/moved", "status", "HTTP 302"),
    ],
)
async def test_a_redirect_to_anywhere_else_is_refused_and_a_circle_ends(doors, location, reason, detail):
    event = await moved(doors, location, 3)
    assert (event.reason, event.detail[: len(detail)]) == (reason, detail)
    assert len(doors.asked) == (4 if location == "/moved" else 1)


async def test_a_private_entry_opens_one_port_of_a_name_and_no_other():
    resolver = GuardedResolver({("localhost", 8081): Origin(origin="http://localhost:8081", allow_private=True)})
    assert "127.0.0.1" in [answer["host"] for answer in await resolver.resolve("localhost", 8081)]
    with pytest.raises(OSError, match="no public address"):
        await resolver.resolve("localhost", 22)
    await resolver.close()


@pytest.mark.parametrize(
    "origin", ["http://crm.example", "ftp://crm.example", "https://user@crm.example", "https://crm.example/path", "crm.example"]
)
def test_an_entry_of_the_allow_list_that_is_none(origin):
    with pytest.raises(ValueError, match="expected"):
        Origin(origin=origin)


async def test_a_proxy_in_the_environment_is_not_used(doors, monkeypatch):
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert isinstance(await ask(doors), ActionSucceeded)


async def test_no_secret_and_no_value_in_logs_events_or_errors(doors, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    doors.open("odd", reply(b'{"name": 41111111111}'))
    async with acting(doors.origin, action("odd")) as (actions, posted):
        actions.carry_out(start("odd", q="+493012345678"))
        event = await posted.event()
    told = repr(event) + caplog.text + "".join(capsys.readouterr()) + repr(Credentials(token="secret-token"))
    assert "action_failed" in told
    for secret in ("secret-token", "493012345678", "41111111111"):
        assert secret not in told


async def test_a_mistake_of_our_own_still_answers_the_caller_and_tells_no_secret(doors, monkeypatch, capsys):
    def broken(*_: Any) -> None:
        raise RuntimeError("of all things")

    monkeypatch.setattr("app.actions.extract.read", broken)
    async with acting(doors.origin, action()) as (actions, posted):
        actions.carry_out(start("good", q="+493012345678"))
        event = await posted.event()
        assert (event.reason, event.detail) == ("malformed", "RuntimeError")
        assert actions.health()["test.good"]["in_flight"] == 0
    told = "".join(capsys.readouterr())
    assert "action_broke" in told
    assert "secret-token" not in told
    assert "493012345678" not in told


def test_missing_credentials_are_named_at_once():
    with pytest.raises(ValueError, match="no credentials named 'test'; there are: crm"):
        Actions({"test.good": action()}, {"crm": Credentials()}, Posted())
    with pytest.raises(ValueError, match="there is no token, which bearer needs"):
        Actions({"test.good": action()}, {"test": Credentials(base_url="https://crm.example")}, Posted())


# ---- helpers -----------------------------------------------------------------------------------------------------------


def _first(first: Any, then: bytes) -> Any:
    asked = []

    async def door(doors: Doors, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(1)
        if len(asked) > 1:
            writer.write(then)
        elif isinstance(first, bytes):
            writer.write(first)
        else:
            await first(doors, reader, writer)

    return door


def _self_signed(directory: Path) -> ssl.SSLContext:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    pem = directory / "server.pem"
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context
