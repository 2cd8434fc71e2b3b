"""What the fakes have in common: a server on loopback (plain, and with TLS for libraries that insist on it), tokens, limits and people.

A fake keeps real records and understands the queries it is sent; nothing is answered by heart. `expire()` makes every token given
so far worthless, `limit(n)` refuses the next n requests, `lose(n)` carries out the next n writes and then breaks off without an answer.
"""

from __future__ import annotations

import ipaddress
import secrets
import ssl
from abc import ABC, abstractmethod
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import phonenumbers
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who calls. `phone` and `mobile` are spelled as a person typed them in."""

    first: str
    last: str
    reference: str = ""
    phone: str = ""
    mobile: str = ""
    email: str = ""
    tier: str = ""


class Refused(Exception):
    """The vendor's own answer to a request that cannot be carried out."""

    def __init__(self, status: int, body: Any, **headers: str) -> None:
        super().__init__(str(status))
        self.response = web.json_response(body, status=status, headers={name.replace("_", "-"): value for name, value in headers.items()})


class Vendor(ABC):
    """`async with Salesforce(tmp_path) as vendor`; with `tls=True` there is a `secure_url` too, and the `certificate` to trust."""

    include = ""
    """The action file of a project that uses the vendor's preset."""

    def __init__(self, directory: Path, tls: bool = False) -> None:
        self.asked: list[str] = []
        self.token = self.new_token()
        self.base_url = self.secure_url = ""
        self.certificate = directory / "vendor.pem"
        self._limited = self._lost = 0
        self._tls = tls
        application = web.Application(middlewares=[self._guarded])
        self.routes(application.router)
        self._runner = web.AppRunner(application, access_log=None)

    async def __aenter__(self) -> Self:
        """Listen on free ports of the loopback."""
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.base_url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        if self._tls:
            _make_certificate(self.certificate)
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=context).start()
            self.secure_url = f"https://127.0.0.1:{self._runner.addresses[1][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    # ---- what tests do to it -------------------------------------------------------------------------------------------

    @abstractmethod
    def add(self, person: Person) -> str:
        """Keep a person; the id."""

    @abstractmethod
    def activities(self) -> list[dict[str, Any]]:
        """What calls were written down: contact, subject, text, call (where the vendor has a place for it) and direction."""

    @abstractmethod
    def cases(self) -> list[dict[str, Any]]:
        """What cases were opened: contact, subject, text, number, urgent."""

    def systems(self) -> dict[str, str]:
        """What an operator writes into the settings to be let in."""
        return {"base_url": self.base_url, "token": self.token}

    def expire(self) -> None:
        """Every token given so far is worth nothing."""
        self.token = self.new_token()

    def limit(self, requests: int) -> None:
        """Refuse the next requests, since there were too many."""
        self._limited = requests

    def lose(self, requests: int) -> None:
        """Carry the next requests out, then answer as a gateway does that lost the connection behind it."""
        self._lost = requests

    # ---- what each vendor says -----------------------------------------------------------------------------------------

    @abstractmethod
    def routes(self, router: web.UrlDispatcher) -> None:
        """Its paths."""

    @abstractmethod
    def open_to_all(self, request: web.Request) -> bool:
        """Whether a request needs no token, such as the one for a token."""

    @abstractmethod
    def unauthorised(self) -> Refused:
        """The answer to a token that is unknown or has expired."""

    @abstractmethod
    def too_many(self) -> Refused:
        """The answer to one request too many."""

    def authorised(self, request: web.Request) -> bool:
        """Whether the request proves who asks."""
        return request.headers.get("Authorization") == f"Bearer {self.token}"

    @staticmethod
    def new_token() -> str:
        """A token that nobody can guess."""
        return secrets.token_urlsafe(24)

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        try:
            if not self.open_to_all(request):
                if not self.authorised(request):
                    raise self.unauthorised()
                if self._limited:
                    self._limited -= 1
                    raise self.too_many()
            response: web.StreamResponse = await handler(request)
        except Refused as refused:
            return refused.response
        if self._lost:
            self._lost -= 1
            return web.Response(status=503, text="upstream connect error or disconnect/reset before headers")
        return response


def digits(phone: str) -> str:
    """The digits of a number as typed."""
    return "".join(letter for letter in phone if letter.isdigit())


def area_and_local(phone: str, region: str = "US") -> str:
    """A number without its country code, as a system works it out that takes an account's country for granted."""
    try:
        return phonenumbers.national_significant_number(phonenumbers.parse(phone, region))
    except phonenumbers.NumberParseException:
        return digits(phone)


def _make_certificate(path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        name, name, key.public_key(), x509.random_serial_number(), now - timedelta(days=1), now + timedelta(1)
    )
    alternative = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(alternative, critical=False).sign(key, hashes.SHA256())
    private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
