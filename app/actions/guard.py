"""Where actions may connect to: listed origins only, and only to addresses that are fit for them.

An origin (`https://host:port`) must be on the allow list. Its names are resolved here and every address that is private,
loopback, link-local or otherwise not public is dropped, unless the entry allows it; the connection goes to the addresses that were
checked, so that a second answer of the name server changes nothing. `allow_private` opens loopback and the private networks, but
never link-local addresses and those at which clouds hand out their secrets: these must be among the `networks` of the entry.
Plain `http` is for entries with private addresses only. A redirect is judged like any other address.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeAlias

from aiohttp.abc import AbstractResolver, ResolveResult
from pydantic import BaseModel, ConfigDict, field_validator, model_validator
from yarl import URL

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_PRIVATE: Final = tuple(
    ipaddress.ip_network(network)
    for network in ("127.0.0.0/8", "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "::1/128", "fc00::/7")
)
_METADATA: Final = frozenset(
    ipaddress.ip_address(address) for address in ("169.254.169.254", "100.100.100.200", "168.63.129.16", "192.0.0.192", "fd00:ec2::254")
)


class Forbidden(OSError):
    """The allow list or the addresses of a host forbid the connection."""


class Origin(BaseModel):
    """One entry of the allow list: scheme, host and port, and whether its addresses may be private, or lie in which networks."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    origin: str
    allow_private: bool = False
    networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()

    @field_validator("origin")
    @classmethod
    def _nothing_but_an_origin(cls, value: str) -> str:
        url = URL(value)
        if url.scheme not in ("http", "https") or not url.host or url.user or url.path not in ("", "/") or url.query_string or url.fragment:
            raise ValueError(f"expected an origin such as https://crm.example:443, found {value!r}")
        return str(url.origin())

    @model_validator(mode="after")
    def _plain_text_stays_inside(self) -> Origin:
        if self.origin.startswith("http:") and not self.allow_private and not self.networks:
            raise ValueError(f"expected https, since {self.origin} is not marked allow_private")
        return self

    def allows(self, address: Address) -> bool:
        """Whether this address may be connected to."""
        address = unwrapped(address)
        if is_public(address) or any(address in network for network in self.networks):
            return True
        return self.allow_private and address not in _METADATA and any(address in network for network in _PRIVATE)


class Guard:
    """The allow list, and the resolver that keeps to it."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        self._entries = {entry.origin: entry for entry in origins}
        self.resolver = GuardedResolver({_host_and_port(URL(entry.origin)): entry for entry in self._entries.values()})

    def admit(self, url: URL) -> str:
        """Why this URL may not be asked, or "" when it may; an address written as a number is judged at once."""
        entry = self._entries.get(str(url.origin()))
        if entry is None:
            return f"{url.origin()} is not on the list of allowed origins"
        try:
            address = ipaddress.ip_address(url.host or "")
        except ValueError:
            return ""
        return "" if entry.allows(address) else f"{url.origin()} is not a public address"


class GuardedResolver(AbstractResolver):
    """Names to addresses that may be connected to; raises `Forbidden` when none is left."""

    def __init__(self, entries: Mapping[tuple[str, int], Origin]) -> None:
        self._entries = entries
        self._threads = ThreadPoolExecutor(max_workers=8, thread_name_prefix="resolve")

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        """The addresses of a host that may be connected to."""
        answers = await asyncio.get_running_loop().run_in_executor(self._threads, _look_up, host, port, family)
        entry = self._entries.get((host, port))
        allows = is_public if entry is None else entry.allows
        answers = [answer for answer in answers if allows(ipaddress.ip_address(answer["host"]))]
        if not answers:
            raise Forbidden(f"{host} has no public address")
        return answers

    async def close(self) -> None:
        """No more lookups."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def is_public(address: Address) -> bool:
    """Whether an address belongs to the public internet, seen through the wrappings that IPv6 has for IPv4."""
    address = unwrapped(address)
    return address.is_global and not address.is_multicast and not address.is_reserved and address not in _METADATA


def unwrapped(address: Address) -> Address:
    """The IPv4 address that an IPv6 address stands for, or the address itself."""
    if isinstance(address, ipaddress.IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour or (address.teredo[1] if address.teredo else None)
        if inner is None and address in _NAT64:
            inner = ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
        return inner or address
    return address


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
