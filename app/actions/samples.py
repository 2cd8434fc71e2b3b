"""Samples: what the action files say happened, run as tests, and served as the other system.

`check_samples` needs no network: each sample's parameters must give the request it tells of, and its response the attributes
it expects. `FakeSystem` is a real HTTP server on loopback that answers those requests with those responses.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, Final

import orjson
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from .credentials import Credentials
from .dialects import Sql, Web
from .failures import Failed
from .guard import Origin
from .http import Answer, HttpRequest
from .method import ActionDef, Reply, Sample
from .prepare import Prepared
from .templates import BadValue
from .values import from_text

TOKEN_PATH: Final = "/sample-token"
_NOWHERE: Final = "https://sample.invalid"
_SECRETS: Final = dict.fromkeys(("token", "username", "password", "api_key", "client_id", "client_secret", "refresh_token"), "sample")


def check_samples(definitions: Mapping[str, ActionDef]) -> list[str]:
    """What is wrong with the samples, a line each; an empty list when every one of them holds."""
    credentials = sample_credentials(definitions, _NOWHERE)
    problems: list[str] = []
    for name, definition in definitions.items():
        prepared = Prepared(definition, credentials)
        for title, sample in definition.samples.items():
            problems.extend(f"{name}: sample {title!r}: {problem}" for problem in _check(prepared, sample))
    return problems


def sample_credentials(definitions: Mapping[str, ActionDef], base_url: str) -> dict[str, Credentials]:
    """Credentials of no worth for every name that the actions use, all of them for the system at `base_url`."""
    found: dict[str, dict[str, Any]] = {}
    for definition in definitions.values():
        access = found.setdefault(definition.auth.credentials, {"base_url": base_url, **_SECRETS, "settings": {}})
        access["settings"] |= {name: setting.example for name, setting in definition.settings.items() if setting.default is None}
        if isinstance(definition.request, Sql):
            access["database"] = "sqlite:////sample"
        if definition.auth.oauth2:
            access["token_url"] = base_url + TOKEN_PATH
        if definition.auth.scheme == "oauth2_jwt":
            access["private_key"] = _throwaway_key()
    return {name: Credentials(**access) for name, access in found.items() if name}


@cache
def _throwaway_key() -> str:
    """A private key of no worth."""
    key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def sample_parameters(definition: ActionDef, title: str) -> dict[str, Any]:
    """The parameters of a sample, as a command would carry them."""
    return {name: from_text(text, definition.parameters[name].type) for name, text in definition.samples[title].parameters.items()}


def sample_outputs(definition: ActionDef, title: str) -> dict[str, Any]:
    """The attributes that a sample expects, as an event would carry them."""
    return {name: from_text(text, definition.response[name].type) for name, text in definition.samples[title].expect.items()}


class FakeSystem:
    """The other system as the samples know it: `async with FakeSystem(definitions) as system`, then ask `system.base_url`.

    A request without the credentials of the samples is a 401, one that no sample tells of a 404. `requests` keeps what was asked.
    Tokens of the OAuth2 schemes are handed out at `/sample-token`.
    """

    def __init__(self, definitions: Mapping[str, ActionDef]) -> None:
        self.base_url = ""
        self.requests: list[str] = []
        self._definitions = definitions
        self._replies: dict[tuple[str, bytes], tuple[dict[str, str], Reply]] = {}
        application = web.Application()
        application.router.add_post(TOKEN_PATH, self._token)
        application.router.add_route("*", "/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> FakeSystem:
        """Listen on a free port of the loopback."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.base_url = f"http://{host}:{port}"
        for definition in self._definitions.values():
            if not isinstance(definition.request, Web):
                continue
            prepared = Prepared(definition, self.credentials)
            for title, sample in definition.samples.items():
                request = prepared.request(sample_parameters(definition, title))
                self._replies[(_line(request), _canonical(request.body))] = (prepared.proof, sample.response)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    @property
    def credentials(self) -> dict[str, Credentials]:
        """What the actions need to ask here."""
        return sample_credentials(self._definitions, self.base_url)

    @property
    def origins(self) -> list[Origin]:
        """The allow list that lets the actions ask here."""
        return [Origin(origin=self.base_url, allow_private=True)]

    async def _answer(self, request: web.Request) -> web.Response:
        line = f"{request.method} {request.raw_path}"
        self.requests.append(line)
        proof, reply = self._replies.get((line, _canonical(await request.read())), ({}, Reply(status=404)))
        if any(request.headers.get(name) != value for name, value in proof.items()):
            reply = Reply(status=401)
        return web.Response(
            status=reply.status, text=reply.body, content_type="text/xml" if reply.body.startswith("<") else "application/json"
        )

    async def _token(self, request: web.Request) -> web.Response:
        self.requests.append(f"POST {TOKEN_PATH}")
        return web.json_response({"access_token": "sample", "token_type": "Bearer", "expires_in": 3600})


def _check(prepared: Prepared, sample: Sample) -> list[str]:
    definition = prepared.definition
    title = next(title for title, other in definition.samples.items() if other is sample)
    try:
        line, body = request_of(prepared, sample_parameters(definition, title))
    except BadValue as error:
        return [f"the parameters do not make a request: {error}"]
    problems = []
    if line != sample.request:
        problems.append(f"expected the request {sample.request!r}, found {line!r}")
    if body != _canonical(sample.body.encode()):
        problems.append(f"expected the body {sample.body!r}, found {body.decode()!r}")
    return problems + _check_reply(prepared, sample, sample_outputs(definition, title))


def request_of(prepared: Prepared, params: Mapping[str, Any]) -> tuple[str, bytes]:
    """Line and body of the request, as samples spell them."""
    if prepared.table is not None:
        return prepared.table.line(prepared.values(params)), b""
    request = prepared.request(params)
    return _line(request), _canonical(request.body)


def _check_reply(prepared: Prepared, sample: Sample, expected: dict[str, Any]) -> list[str]:
    found: dict[str, Any] = {}
    failure, detail = "", ""
    try:
        found = prepared.outcome(Answer(sample.response.status, {}, sample.response.body.encode()))
    except Failed as error:
        failure, detail = error.reason, f" ({error.detail})"
    if failure != sample.fails:
        return [f"expected {sample.fails or 'success'}, found {failure or 'success'}{detail}"]
    return [f"{name}: expected {value!r}, found {found[name]!r}" for name, value in expected.items() if found[name] != value]


def _canonical(body: bytes | None) -> bytes:
    """A body as it is compared: JSON and XML without regard to blanks between their parts."""
    text = (body or b"").strip()
    if not text:
        return b""
    try:
        return orjson.dumps(orjson.loads(text))
    except orjson.JSONDecodeError:
        return re.sub(rb">\s+<", b"><", text)


def _line(request: HttpRequest) -> str:
    return f"{request.method} {request.url.raw_path_qs}"
