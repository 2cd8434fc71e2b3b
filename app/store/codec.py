"""JSON values as bytes and back. What orjson refuses (lone surrogates, integers beyond 64 bits) goes the slow way, so that no
text from outside can make a commit impossible; what is not JSON at all is a TypeError."""

from __future__ import annotations

import json
from typing import Any

import orjson

_SLOW = b" "
"""How a text begins that orjson would read otherwise than it was written: it makes a float of an integer beyond 64 bits."""


def dumps(value: Any) -> bytes:
    """`value` as JSON text in UTF-8; lone surrogates become question marks. Raises TypeError."""
    try:
        return orjson.dumps(value)
    except orjson.JSONEncodeError:
        return _SLOW + json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "replace")


def loads(text: bytes) -> Any:
    """The value that `dumps` was given."""
    if text[:1] == _SLOW:
        return json.loads(text)
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return json.loads(text)
