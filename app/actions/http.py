"""One way out over HTTP for all actions and token requests: guarded, without redirects of its own, cookies or proxies, bounded in size."""

from __future__ import annotations

import zlib
from collections.abc import Container, Mapping
from dataclasses import dataclass
from typing import Final

import aiohttp
from multidict import CIMultiDict
from yarl import URL

from .extract import MAX_BODY, Malformed
from .failures import Failed
from .guard import Forbidden, Guard
from .values import TooBig

KEEP_ALIVE: Final = 15.0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request, complete."""

    method: str
    url: URL
    headers: CIMultiDict[str]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `body` is None where it was not read."""

    status: int
    headers: Mapping[str, str]
    body: bytes | None


def redirected(request: HttpRequest, location: str, proof: Container[str]) -> HttpRequest:
    """The same request at another address. To another origin go no secrets: neither `Authorization` nor the headers in `proof`."""
    try:
        url = request.url.join(URL(location))
    except ValueError as error:
        raise Failed("malformed", "the redirect leads to no address") from error
    if not location or url.scheme not in ("http", "https") or url.user or not url.host:
        raise Failed("malformed", "the redirect leads to no address")
    headers = request.headers.copy()
    if url.origin() != request.url.origin():
        headers = CIMultiDict((name, value) for name, value in headers.items() if name != "Authorization" and name not in proof)
    return HttpRequest(request.method, url, headers, request.body)


class Http:
    """The one session, opened with the first request. Whatever goes wrong below HTTP is a `Failed`."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._session: aiohttp.ClientSession | None = None

    async def ask(self, request: HttpRequest, errors_too: bool = False) -> Answer:
        """The answer; the body of one that is no success is read only with `errors_too`."""
        try:
            async with self._open().request(
                request.method, request.url, headers=request.headers, data=request.body, allow_redirects=False
            ) as response:
                if not errors_too and not 200 <= response.status < 300:
                    response.close()
                    return Answer(response.status, response.headers, None)
                return Answer(response.status, response.headers, await _read(response))
        except aiohttp.InvalidURL as error:
            raise Failed("guard", "the host is written in a way that hides its address", system_at_fault=False) from error
        except aiohttp.ClientConnectorDNSError as error:
            if isinstance(error.os_error, Forbidden):
                raise Failed("guard", str(error.os_error), system_at_fault=False) from error
            raise Failed("refused", "the name of the host is not known", passing=True) from error
        except aiohttp.ClientPayloadError as error:
            raise Failed("malformed", "the body broke off") from error
        except aiohttp.ClientResponseError as error:
            raise Failed("malformed", "not HTTP") from error
        except (aiohttp.ClientError, OSError) as error:
            raise Failed("refused", type(error).__name__, passing=True) from error
        except TooBig as error:
            raise Failed("too_big", str(error)) from error
        except Malformed as error:
            raise Failed("malformed", str(error)) from error

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _open(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                resolver=self._guard.resolver, limit=0, keepalive_timeout=KEEP_ALIVE, ttl_dns_cache=30, enable_cleanup_closed=False
            )
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None),
                auto_decompress=False,
                trust_env=False,
                headers={"User-Agent": "callwright"},
            )
        return self._session


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, at most `MAX_BODY` bytes both on the wire and unpacked; raises `TooBig` or `Malformed`."""
    if (response.content_length or 0) > MAX_BODY:
        response.close()
        raise TooBig(f"the body has more than {MAX_BODY} bytes")
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        chunks.append(chunk)
        size += len(chunk)
        if size > MAX_BODY:
            response.close()
            raise TooBig(f"the body has more than {MAX_BODY} bytes")
    body = b"".join(chunks)
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    return body if encoding == "identity" else _unpack(body, encoding)


def _unpack(body: bytes, encoding: str) -> bytes:
    """A body that was packed although we asked for it plain."""
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise Malformed("the body is packed in a way that was not asked for")
    unpacker = zlib.decompressobj(wbits=47)
    try:
        plain = unpacker.decompress(body, MAX_BODY + 1)
    except zlib.error as error:
        raise Malformed("the packed body is damaged") from error
    if len(plain) > MAX_BODY:
        raise TooBig(f"the unpacked body has more than {MAX_BODY} bytes")
    if not unpacker.eof:
        raise Malformed("the packed body breaks off")
    return plain
