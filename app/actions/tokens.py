"""OAuth2 access tokens: asked for when there is none, kept in memory alone, renewed once for all who wait.

A `Grant` is how a token is asked for; `Tokens` is the token of one system, shared by all its actions. However many requests find the
token gone, one request for a new one is under way; it has a budget of its own, so that a caller who stops waiting costs the others nothing.
A refresh token that the system replaces is kept in memory as well: after a restart the one in the settings is used again.
"""

from __future__ import annotations

import asyncio
import re
import time
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlencode

import orjson
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from multidict import CIMultiDict
from yarl import URL

from . import templates
from .credentials import Credentials, basic
from .extract import Malformed, parse
from .failures import Failed
from .http import Answer, Http, HttpRequest
from .parts import absolute
from .schemes import Auth

BUDGET: Final = 8.0
"""Seconds a request for a token may take."""
EARLY: Final = 30.0
"""Seconds before its end at which a token is taken to be over; a tenth of its life where that is less."""
ASSERTED: Final = 180
"""Seconds that a signed assertion is good for."""
_BY_JWT: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_CODE: Final = re.compile(r"^[A-Za-z0-9_.-]{1,60}$")
_TOKEN: Final = re.compile(r"^[!-~]{1,8192}$")


class Grant:
    """What asks for a token. Raises `ValueError` for a private key that is none."""

    def __init__(self, auth: Auth, access: Credentials, settings: dict[str, str]) -> None:
        names = {f"settings.{name}" for name in settings}
        values: dict[str, Any] = {"settings": settings, "base_url": access.base_url}

        def filled(text: str) -> str:
            return templates.text(text, names | {"base_url"})(values)

        self.url = URL(access.token_url or absolute(auth.token_url, access.base_url, values, names), encoded=True)
        self.lifetime = auth.lifetime
        self._audience = filled(auth.audience) or str(self.url)
        self._form = {name: filled(text) for name, text in {"scope": auth.scope, **auth.extra}.items() if text}
        self._scheme, self._access, self._in_header = auth.scheme, access, auth.client == "basic"
        self._refresh_token = access.secret("refresh_token")
        self._key = _rsa_key(access.secret("private_key")) if auth.scheme == "oauth2_jwt" else None

    def request(self, now: float) -> HttpRequest:
        """The request for a token; `now` in seconds since 1970."""
        form, headers = dict(self._form), CIMultiDict({"Accept": "application/json", "Accept-Encoding": "identity"})
        client, secret = self._access.client_id, self._access.secret("client_secret")
        if self._key is not None:
            form |= {"grant_type": _BY_JWT, "assertion": self._assertion(now)}
        elif self._scheme == "oauth2_refresh":
            form |= {"grant_type": "refresh_token", "refresh_token": self._refresh_token}
        else:
            form |= {"grant_type": "client_credentials"}
        if self._in_header:
            headers["Authorization"] = basic(quote(client, safe=""), quote(secret, safe=""))
        elif self._key is None:
            form |= {"client_id": client, **({"client_secret": secret} if secret else {})}
        headers["Content-Type"] = "application/x-www-form-urlencoded"
        return HttpRequest("POST", self.url, headers, urlencode(form).encode())

    def replaced(self, refresh_token: str) -> None:
        """The system has given another refresh token in place of the one we had."""
        self._refresh_token = refresh_token

    def _assertion(self, now: float) -> str:
        assert self._key is not None
        issued = int(now)
        claims = {
            "iss": self._access.client_id,
            "sub": self._access.username,
            "aud": self._audience,
            "iat": issued,
            "exp": issued + ASSERTED,
        }
        signed = b".".join(_base64(orjson.dumps(part)) for part in ({"alg": "RS256", "typ": "JWT"}, claims))
        return (signed + b"." + _base64(self._key.sign(signed, padding.PKCS1v15(), hashes.SHA256()))).decode()


class Tokens:
    """The access token of one system. `bearer()` is a good one; `instead_of(token)` is another than the one that was refused."""

    def __init__(self, grant: Grant, http: Http, clock: Callable[[], float] = time.monotonic) -> None:
        self._grant, self._http, self._clock = grant, http, clock
        self._token, self._until = "", 0.0
        self._asking: asyncio.Task[Failed | str] | None = None

    @property
    def asking(self) -> bool:
        """Whether a token is being asked for."""
        return self._asking is not None

    async def bearer(self) -> str:
        """A token that is good as far as we know; raises `Failed` where none can be had."""
        if self._token and self._clock() < self._until:
            return self._token
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._renew())
        outcome = await asyncio.shield(self._asking)
        if isinstance(outcome, Failed):
            raise outcome.again()
        return outcome

    async def instead_of(self, refused: str) -> str:
        """A token in place of one that the system refused; asked for only if nobody has done so since."""
        if refused == self._token:
            self._token = ""
        return await self.bearer()

    async def close(self) -> None:
        """Ask for nothing any more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _renew(self) -> Failed | str:
        try:
            async with asyncio.timeout(BUDGET):
                return self._keep(await self._http.ask(self._grant.request(time.time()), errors_too=True))
        except TimeoutError:
            return Failed("auth", f"no token within {BUDGET:g} s")
        except Failed as failure:
            why = failure.detail if failure.reason in ("auth", "guard") else f"no token: {failure.detail}"
            return Failed("guard" if failure.reason == "guard" else "auth", why, failure.passing, failure.system_at_fault)
        finally:
            self._asking = None

    def _keep(self, answer: Answer) -> str:
        fields = _fields(answer)
        token, kind = fields.get("access_token"), fields.get("token_type", "bearer")
        if not isinstance(token, str) or not _TOKEN.match(token) or not isinstance(kind, str) or kind.lower() != "bearer":
            raise Failed("auth", "the answer of the token endpoint holds no bearer token")
        refresh_token = fields.get("refresh_token")
        if isinstance(refresh_token, str) and refresh_token:
            self._grant.replaced(refresh_token)
        seconds = _seconds(fields.get("expires_in")) or self._grant.lifetime
        self._token, self._until = token, self._clock() + seconds - min(EARLY, seconds / 10)
        return token


def _fields(answer: Answer) -> dict[str, object]:
    """The members of a token answer; raises `Failed` for one that is an error, with its code alone."""
    try:
        document = parse(answer.body or b"")
    except Malformed:
        document = None
    fields = document if isinstance(document, dict) else {}
    if 200 <= answer.status < 300 and fields and "error" not in fields:
        return fields
    code = fields.get("error")
    said = f"says {code}" if isinstance(code, str) and _CODE.match(code) else "answers" if fields else "answers nonsense"
    raise Failed("auth", f"the token endpoint {said} (HTTP {answer.status})", passing=answer.status in (502, 503, 504))


def _seconds(value: object) -> float:
    """The life of a token; some systems write the number as text."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        value = int(value)
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e9 else 0.0


def _rsa_key(pem: str) -> rsa.RSAPrivateKey:
    try:
        key = serialization.load_pem_private_key(pem.encode(), None)
    except (ValueError, TypeError) as error:
        raise ValueError("the private key is not an RSA key in PEM without a pass phrase") from error
    if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
        raise ValueError("the private key is not an RSA key of 2048 bits or more")
    return key


def _base64(raw: bytes) -> bytes:
    return urlsafe_b64encode(raw).rstrip(b"=")
