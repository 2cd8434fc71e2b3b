"""A system that is asked with access tokens, and the office that hands them out: one real HTTP server, whose mood tests set."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from typing import Any

from aiohttp import web
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa


class TokenOffice:
    """`async with TokenOffice() as office`. Tokens are `access-1`, `access-2`, ...; only those in `good` are let in at `/good`."""

    def __init__(self) -> None:
        self.forms: list[dict[str, str]] = []
        self.heads: list[dict[str, str]] = []
        self.asked: list[str] = []
        self.good: set[str] = set()
        self.answer: dict[str, Any] = {"token_type": "Bearer", "expires_in": 3600}
        self.status, self.raw = 200, b""
        self.open = asyncio.Event()
        self.open.set()
        application = web.Application()
        application.router.add_post("/token", self._token)
        application.router.add_get("/good", self._good)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> TokenOffice:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        host, port = self._runner.addresses[0][:2]
        self.origin = f"http://{host}:{port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self.open.set()
        await self._runner.cleanup()

    async def _token(self, request: web.Request) -> web.Response:
        self.forms.append({name: str(value) for name, value in (await request.post()).items()})
        self.heads.append(dict(request.headers))
        await self.open.wait()
        if self.raw or self.status != 200:
            return web.Response(status=self.status, body=self.raw)
        token = f"access-{len(self.forms)}"
        self.good = {token}
        return web.json_response({"access_token": token, **self.answer})

    async def _good(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.asked.append(token)
        return web.json_response({"name": "Ada"}) if token in self.good else web.Response(status=401)


def verified(assertion: str, key: rsa.RSAPublicKey) -> tuple[dict[str, Any], dict[str, Any]]:
    """Header and claims of a signed assertion; raises when the signature is not that key's."""
    signed, _, signature = assertion.rpartition(".")
    key.verify(_raw(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    header, claims = signed.split(".")
    return json.loads(_raw(header)), json.loads(_raw(claims))


def _raw(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))
