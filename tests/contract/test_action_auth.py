"""How actions prove who asks, against a real server: every scheme, tokens that run out, and an office that is slow, down or says no."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from app.actions.credentials import Credentials
from app.actions.guard import Origin
from app.actions.method import ActionDef
from app.actions.runner import Actions
from app.actions.samples import FakeSystem, check_samples
from app.core.commands import StartAction
from app.core.events import ActionSucceeded
from app.settings import Settings
from tests.contract.doors import GOOD, Doors, Posted, reply, until
from tests.contract.token_office import TokenOffice, verified

SECRET = "s3cret-of-the-client"
TOKEN_URL = "{{ base_url }}/token"


def action(auth: dict[str, Any], name: str = "good", **parts: Any) -> ActionDef:
    return ActionDef.model_validate(
        {
            "name": f"test.{name}",
            "request": {"method": "GET", "url": "{{ base_url }}/good"},
            "parameters": {},
            "response": {"name": {"path": "name", "type": "string"}},
            "auth": {"credentials": "test", **auth},
            "samples": {"one": {"request": "GET /good", "response": {"body": '{"name": "Ada"}'}, "expect": {"name": "Ada"}}},
            **parts,
        }
    )


@asynccontextmanager
async def acting(origin: str, *definitions: ActionDef, clock: Any = time.monotonic, **access: Any):
    posted = Posted()
    credentials = {"test": Credentials(base_url=origin, **access)}
    actions = Actions({d.name: d for d in definitions}, credentials, posted, [Origin(origin=origin, allow_private=True)], clock)
    try:
        yield actions, posted
    finally:
        await actions.close()


def start(request: str = "c1-rq1", name: str = "good", budget: float = 2.5) -> StartAction:
    return StartAction("c1", request, f"test.{name}", {}, budget)


CLIENT = {"scheme": "oauth2_client", "token_url": TOKEN_URL}
ACCESS = {"client_id": "callwright", "client_secret": SECRET}


@pytest.fixture
async def office():
    async with TokenOffice() as system:
        yield system


# ---- keys --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "line", "header"),
    [
        ({"scheme": "api_key", "name": "X-Api-Key"}, "GET /good", b"X-Api-Key: k3y"),
        ({"scheme": "api_key", "name": "Authorization", "prefix": "Token "}, "GET /good", b"Authorization: Token k3y"),
        ({"scheme": "api_key", "name": "api_key", "in": "query"}, "GET /good?api_key=k3y", b""),
    ],
)
async def test_a_key_goes_where_the_file_says(auth, line, header):
    async with Doors() as doors:
        doors.open("good", reply(GOOD))
        async with acting(doors.origin, action(auth), api_key="k3y") as (actions, posted):
            actions.carry_out(start())
            assert isinstance(await posted.event(), ActionSucceeded)
        assert doors.asked == [line]
        assert header in doors.heads[0]


# ---- the grants --------------------------------------------------------------------------------------------------------


async def test_client_credentials_in_the_body_with_a_scope_from_the_settings(office):
    auth = {**CLIENT, "scope": "{{ base_url }}/.default {{ settings.tenant }}", "extra": {"audience": "crm"}}
    definition = action(auth, settings={"tenant": {}})
    async with acting(office.origin, definition, **ACCESS, settings={"tenant": "t1"}) as (actions, posted):
        actions.carry_out(start())
        assert isinstance(await posted.event(), ActionSucceeded)
    assert office.forms == [
        {
            "grant_type": "client_credentials",
            "client_id": "callwright",
            "client_secret": SECRET,
            "scope": f"{office.origin}/.default t1",
            "audience": "crm",
        }
    ]


async def test_client_credentials_in_the_header(office):
    async with acting(office.origin, action({**CLIENT, "client": "basic"}), **ACCESS) as (actions, posted):
        actions.carry_out(start())
        assert isinstance(await posted.event(), ActionSucceeded)
    assert office.forms == [{"grant_type": "client_credentials"}]
    assert office.heads[0]["Authorization"] == "Basic Y2FsbHdyaWdodDpzM2NyZXQtb2YtdGhlLWNsaWVudA=="


async def test_a_refresh_token_that_is_replaced_is_used_in_its_new_form(office):
    office.answer = {"token_type": "Bearer", "refresh_token": "second"}
    auth = {"scheme": "oauth2_refresh", "token_url": TOKEN_URL}
    async with acting(office.origin, action(auth), client_id="callwright", refresh_token="first") as (actions, posted):
        for n in range(2):
            actions.carry_out(start(f"c1-rq{n}"))
            assert isinstance(await posted.event(), ActionSucceeded)
            office.good = set()
    assert [form["refresh_token"] for form in office.forms] == ["first", "second"]
    assert office.forms[0] == {"grant_type": "refresh_token", "refresh_token": "first", "client_id": "callwright"}


async def test_a_jwt_is_signed_by_our_key_and_says_who_asks_for_whom(office):
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    auth = {"scheme": "oauth2_jwt", "token_url": TOKEN_URL, "audience": "https://login.example"}
    async with acting(office.origin, action(auth), client_id="callwright", username="ada@example.com", private_key=pem) as (
        actions,
        posted,
    ):
        actions.carry_out(start())
        assert isinstance(await posted.event(), ActionSucceeded)
    assert office.forms[0].keys() == {"grant_type", "assertion"}
    assert office.forms[0]["grant_type"] == "urn:ietf:params:oauth:grant-type:jwt-bearer"
    header, claims = verified(office.forms[0]["assertion"], key.public_key())
    assert header == {"alg": "RS256", "typ": "JWT"}
    assert {name: claims[name] for name in ("iss", "sub", "aud")} == {
        "iss": "callwright",
        "sub": "ada@example.com",
        "aud": "https://login.example",
    }
    assert 0 < claims["exp"] - time.time() <= 180


def test_a_private_key_that_is_none_is_refused_without_showing_it():
    curve = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for pem in ("nonsense-of-a-key", curve):
        with pytest.raises(ValueError, match="the private key is not an RSA key") as caught:
            Actions(
                {"test.good": action({"scheme": "oauth2_jwt", "token_url": TOKEN_URL})},
                {"test": Credentials(base_url="https://crm.example", client_id="c", username="u", private_key=pem)},
                Posted(),
            )
        assert pem not in str(caught.value)


# ---- E5: a token runs out ----------------------------------------------------------------------------------------------


async def test_a_hundred_calls_without_a_token_ask_for_one(office):
    office.open.clear()
    definition = action(CLIENT, run={"concurrency": 200})
    async with acting(office.origin, definition, action(CLIENT, "other"), **ACCESS) as (actions, posted):
        for n in range(100):
            actions.carry_out(start(f"c{n}-rq1"))
        actions.carry_out(start("c-other", "other"))
        await until(lambda: office.forms)
        office.open.set()
        for _ in range(101):
            assert isinstance(await posted.event(), ActionSucceeded)
    assert len(office.forms) == 1
    assert set(office.asked) == {"access-1"}


async def test_a_hundred_calls_whose_token_is_refused_ask_for_one(office):
    async with acting(office.origin, action(CLIENT, run={"concurrency": 200}), **ACCESS) as (actions, posted):
        actions.carry_out(start())
        assert isinstance(await posted.event(), ActionSucceeded)
        office.good = set()
        for n in range(100):
            actions.carry_out(start(f"c{n}-rq2"))
        for _ in range(100):
            assert isinstance(await posted.event(), ActionSucceeded)
    assert len(office.forms) == 2
    assert office.asked[-1] == "access-2"


async def test_a_system_that_refuses_every_token_is_asked_twice_and_no_more(office):
    async with acting(office.origin, action(CLIENT), **ACCESS) as (actions, posted):
        office.answer = {"access_token": "never-good"}
        actions.carry_out(start())
        event = await posted.event()
    assert (event.reason, event.detail) == ("status", "HTTP 401")
    assert (len(office.forms), office.asked) == (2, ["never-good", "never-good"])


async def test_a_token_is_renewed_before_it_runs_out(office):
    now = [0.0]
    office.answer = {"token_type": "bearer", "expires_in": "600"}
    async with acting(office.origin, action(CLIENT), clock=lambda: now[0], **ACCESS) as (actions, posted):
        for n, at in enumerate((0.0, 569.0, 571.0, 1140.0, 1141.0)):
            now[0] = at
            actions.carry_out(start(f"c1-rq{n}"))
            assert isinstance(await posted.event(), ActionSucceeded)
    assert office.asked == ["access-1", "access-1", "access-2", "access-2", "access-3"]


async def test_a_token_whose_answer_says_no_life_has_that_of_the_file(office):
    now = [0.0]
    office.answer = {}
    async with acting(office.origin, action({**CLIENT, "lifetime": 100}), clock=lambda: now[0], **ACCESS) as (actions, posted):
        for n, at in enumerate((0.0, 89.0, 91.0)):
            now[0] = at
            actions.carry_out(start(f"c1-rq{n}"))
            assert isinstance(await posted.event(), ActionSucceeded)
    assert office.asked == ["access-1", "access-1", "access-2"]


# ---- an office that is no help -----------------------------------------------------------------------------------------


async def test_an_office_that_says_nothing_costs_the_budget_and_serves_the_next_call(office):
    office.open.clear()
    async with acting(office.origin, action(CLIENT), **ACCESS) as (actions, posted):
        began = time.monotonic()
        actions.carry_out(start(budget=0.2))
        event = await posted.event()
        assert (event.reason, event.detail) == ("timeout", "no token within 0.2 s")
        assert 0.15 < time.monotonic() - began < 1.0
        office.open.set()
        actions.carry_out(start("c2-rq1"))
        assert isinstance(await posted.event(), ActionSucceeded)
    assert len(office.forms) == 1


@pytest.mark.parametrize(
    ("status", "raw", "detail"),
    [
        (401, b'{"error": "invalid_client", "error_description": "s3cret"}', "the token endpoint says invalid_client (HTTP 401)"),
        (200, b'{"error": "invalid_grant"}', "the token endpoint says invalid_grant (HTTP 200)"),
        (400, b'{"error": "<script> s3cret"}', "the token endpoint answers (HTTP 400)"),
        (503, b"", "the token endpoint answers nonsense (HTTP 503)"),
        (200, b"<html>", "the token endpoint answers nonsense (HTTP 200)"),
        (200, b'{"access_token": 7}', "the answer of the token endpoint holds no bearer token"),
        (200, b'{"access_token": "a\\r\\nX: y"}', "the answer of the token endpoint holds no bearer token"),
        (200, b'{"access_token": "a", "token_type": "mac"}', "the answer of the token endpoint holds no bearer token"),
        (200, b" " * 300_000, "no token: the body has more than 262144 bytes"),
    ],
)
async def test_an_office_that_says_no_is_the_actions_failure_in_plain_words(office, status, raw, detail):
    office.status, office.raw = status, raw
    async with acting(office.origin, action(CLIENT), **ACCESS) as (actions, posted):
        actions.carry_out(start())
        event = await posted.event()
    assert (event.reason, event.detail) == ("auth", detail)
    assert office.asked == []


async def test_an_office_that_is_not_listed_is_never_asked(office):
    posted = Posted()
    access = Credentials(base_url=office.origin, token_url="https://login.example/token", **ACCESS)
    actions = Actions({"test.good": action(CLIENT)}, {"test": access}, posted, [Origin(origin=office.origin, allow_private=True)])
    actions.carry_out(start())
    event = await posted.event()
    await actions.close()
    assert (event.reason, event.detail) == ("guard", "https://login.example is not on the list of allowed origins")


async def test_no_token_and_no_secret_in_logs_and_events(office, caplog, capsys):
    caplog.set_level(logging.DEBUG)
    async with acting(office.origin, action(CLIENT), **ACCESS) as (actions, posted):
        office.answer = {"access_token": "never-good"}
        actions.carry_out(start())
        told = repr(await posted.event())
        office.status, office.raw = 400, b'{"error": "invalid_client", "error_description": "s3cret-of-the-client never-good"}'
        actions.carry_out(start())
        told += repr(await posted.event()) + repr(actions.health())
    told += caplog.text + "".join(capsys.readouterr())
    assert "action_failed" in told
    assert SECRET not in told
    assert "never-good" not in told


async def test_closing_while_a_token_is_asked_for_leaves_nothing_behind(office):
    office.open.clear()
    async with acting(office.origin, action(CLIENT), **ACCESS) as (actions, posted):
        actions.carry_out(start())
        await until(lambda: office.forms)
    assert posted.count == 0
    assert [task for task in asyncio.all_tasks() if "_renew" in repr(task)] == []


# ---- what the file and the settings say --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        ({"scheme": "oauth2_client"}, "expected a token_url"),
        ({"scheme": "api_key"}, "expected the name of the header or query parameter"),
        ({"scheme": "bearer", "scope": "all"}, "expected no scope, which bearer does not use"),
        ({**CLIENT, "audience": "x"}, "expected no audience, which oauth2_client does not use"),
        ({**CLIENT, "in": "query"}, "expected no in, which oauth2_client does not use"),
        ({**CLIENT, "token_url": "https://{{ settings.host }}/token"}, "auth.token_url: expected a url that begins with"),
        ({**CLIENT, "token_url": "https://login.example/{{ settings.tenant }}"}, "'settings.tenant' is not a declared setting"),
        ({**CLIENT, "scope": "{{ name }}"}, "'name' is not a declared parameter"),
    ],
)
def test_a_scheme_that_is_not_whole_is_told(auth, message):
    with pytest.raises(ValueError, match=message):
        action(auth)


@pytest.mark.parametrize(
    ("auth", "message"),
    [
        (CLIENT, "there is no client id and no client secret, which oauth2_client needs"),
        ({"scheme": "api_key", "name": "X-Key"}, "there is no api key, which api_key needs"),
    ],
)
def test_credentials_that_lack_something_are_told_at_once(auth, message):
    with pytest.raises(ValueError, match=message):
        Actions({"test.good": action(auth)}, {"test": Credentials(base_url="https://crm.example")}, Posted())


def test_a_setting_that_has_no_value_is_told_at_once():
    definition = action({"scheme": "none"}, settings={"portal": {}, "version": {"default": "v3"}})
    with pytest.raises(ValueError, match="the credentials 'test': there is no setting 'portal'"):
        Actions({"test.good": definition}, {"test": Credentials(base_url="https://crm.example")}, Posted())


def test_secrets_and_settings_come_from_the_environment_by_name(monkeypatch, tmp_path):
    (tmp_path / "secret").write_text("s3cret\n")
    monkeypatch.setenv("CALLWRIGHT_SYSTEMS__SALES__CLIENT_SECRET_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("CALLWRIGHT_SYSTEMS__SALES__CLIENT_ID", "callwright")
    monkeypatch.setenv("CALLWRIGHT_SYSTEMS__SALES__SETTINGS__API_VERSION", "v61.0")
    access = Settings().systems["sales"]
    assert (access.client_id, access.secret("client_secret"), access.settings) == ("callwright", "s3cret", {"api_version": "v61.0"})
    assert "s3cret" not in repr(access)


@pytest.mark.parametrize("auth", [CLIENT, {"scheme": "oauth2_jwt", "token_url": TOKEN_URL}, {"scheme": "api_key", "name": "X-Key"}])
async def test_samples_hold_and_are_served_under_every_scheme(auth):
    definition = action(
        auth,
        settings={"version": {"default": "v3"}},
        request={"method": "GET", "url": "{{ base_url }}/{{ settings.version }}/good"},
        samples={"one": {"request": "GET /v3/good", "response": {"body": '{"name": "Ada"}'}, "expect": {"name": "Ada"}}},
    )
    assert check_samples({"test.good": definition}) == []
    posted = Posted()
    async with FakeSystem({"test.good": definition}) as system:
        actions = Actions({"test.good": definition}, system.credentials, posted, system.origins)
        actions.carry_out(start())
        assert isinstance(await posted.event(), ActionSucceeded)
        await actions.close()
