"""Where actions may connect to: listed origins only, and only to addresses that are fit for them.

An origin (`https://host:port`) must be on the allow list. Its names are resolved here and every address that is private,
loopback, link-local or otherwise not public is dropped, unless the entry says `allow_private`; the connection goes to the
addresses that were checked, so that a second answer of the name server changes nothing. Plain `http` is for private entries only.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from yarl import URL

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")


class Forbidden(OSError):
    """The allow list or the addresses of a host forbid the connection."""


class Origin(BaseModel):
    """One entry of the allow list: scheme, host and port, and whether its addresses may be private."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    allow_private: bool = False

    @field_validator("origin")
    @classmethod
    def _nothing_but_an_origin(cls, value: str) -> str:
        url = URL(value)
        if url.scheme not in ("http", "https") or not url.host or url.user or url.path not in ("", "/") or url.query_string or url.fragment:
            raise ValueError(f"expected an origin such as https://crm.example:443, found {value!r}")
        return str(url.origin())

    @model_validator(mode="after")
    def _plain_text_stays_inside(self) -> Origin:
        if self.origin.startswith("http:") and not self.allow_private:
            raise ValueError(f"expected https, since {self.origin} is not marked allow_private")
        return self


class Guard:
    """The allow list, and the resolver that keeps to it."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        self._entries = {entry.origin: entry for entry in origins}
        self.resolver = GuardedResolver({_host_and_port(URL(entry.origin)) for entry in self._entries.values() if entry.allow_private})

    def admit(self, url: URL) -> str:
        """Why this URL may not be asked, or "" when it may; an address written as a number is judged at once."""
        if str(url.origin()) not in self._entries:
            return f"{url.origin()} is not on the list of allowed origins"
        try:
            address = ipaddress.ip_address(url.host or "")
        except ValueError:
            return ""
        if is_public(address) or self._entries[str(url.origin())].allow_private:
            return ""
        return f"{url.origin()} is not a public address"


class GuardedResolver(AbstractResolver):
    """Names to addresses that may be connected to; raises `Forbidden` when none is left."""

    def __init__(self, private: set[tuple[str, int]]) -> None:
        self._private = private
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """The addresses of a host that may be connected to."""
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        if (host, port) not in self._private:
            answers = [answer for answer in answers if is_public(ipaddress.ip_address(answer["host"]))]
        if not answers:
            raise Forbidden(f"{host} has no public address")
        return answers

    async def close(self) -> None:
        """No more lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    """Whether an address belongs to the public internet, seen through the wrappings that IPv6 has for IPv4."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(inner)
    return address.is_global and not address.is_multicast and not address.is_reserved


def _look_up(host: str, port: int, family: int) -> list[ResolveResult]:
    found = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return [
        ResolveResult(
            hostname=host, host=str(sockaddr[0]).partition("%")[0], port=port, family=kind, proto=proto, flags=socket.AI_NUMERICHOST
        )
        for kind, _, proto, _, sockaddr in found
    ]


def _host_and_port(url: URL) -> tuple[str, int]:
    return (url.host or "", url.port or 0)
