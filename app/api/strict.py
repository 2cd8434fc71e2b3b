"""JSON from outside, read strictly: UTF-8, no duplicate keys, no NaN or infinity, no lone surrogates, bounded depth and size."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any, NoReturn

from aiohttp import web

from app.api.problems import Problem


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return found


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is out of range")
    return number


def parse(raw: bytes | str) -> Any:
    """The value of a JSON text; raises `ValueError` that says what is wrong with it."""
    try:
        text = raw.decode("utf-8") if isinstance(raw, bytes) else raw
        value = json.loads(text, object_pairs_hook=_no_duplicates, parse_constant=_no_constant, parse_float=_finite)
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except UnicodeError:
        raise ValueError("not valid Unicode") from None
    return value


async def read(request: web.Request, seconds: float) -> bytes:
    """A request's body as JSON text, empty when it has none. Problems: 400, 408 after `seconds`, 413, 415."""
    try:
        async with asyncio.timeout(seconds):
            raw = await request.read()
    except TimeoutError:
        raise Problem(408, "too-slow", f"the body did not arrive within {seconds:g} seconds", headers={"Connection": "close"}) from None
    except web.RequestPayloadError:
        raise Problem(400, "malformed", "the body could not be read") from None
    if raw and request.content_type != "application/json":
        raise Problem(415, "wrong-content-type", "send application/json")
    return raw


async def body(request: web.Request, seconds: float) -> Any:
    """The JSON value of a request's body, None when it has none. Problems as those of `read`."""
    raw = await read(request, seconds)
    if not raw:
        return None
    try:
        return parse(raw)
    except ValueError as error:
        raise Problem(400, "malformed", f"the body is not valid JSON: {error}") from None
