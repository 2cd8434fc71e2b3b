"""Signatures of requests between systems, as Standard Webhooks has them.

A signature is `v1,<base64 of HMAC-SHA256>` over `<id>.<seconds since the epoch>.<body>`, in the header `webhook-signature`, beside
`webhook-id` and `webhook-timestamp`. A secret is `whsec_` and base64 of 24 to 64 bytes. A time more than five minutes off is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

TOLERANCE: Final = 300.0
_PREFIX: Final = "whsec_"


class BadSignature(ValueError):
    """The request was not signed with the secret, or not lately; the message says which of both."""


def key(secret: str) -> bytes:
    """The bytes of a secret; raises `ValueError`."""
    try:
        found = base64.b64decode(secret.removeprefix(_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        found = b""
    if not secret.startswith(_PREFIX) or not 24 <= len(found) <= 64:
        raise ValueError(f"a secret of a webhook is {_PREFIX} and base64 of 24 to 64 random bytes")
    return found


def signature(secret: str, ident: str, at: int, body: bytes) -> str:
    """The header's value for a body."""
    told = f"{ident}.{at}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key(secret), told, hashlib.sha256).digest()).decode()


def check(secret: str, headers: Mapping[str, str], body: bytes, now: float) -> str:
    """The id of a request that was signed with the secret within five minutes of now; raises `BadSignature`."""
    ident, at, given = (headers.get(f"webhook-{name}", "") for name in ("id", "timestamp", "signature"))
    if not ident or len(ident) > 200 or not at.isascii() or not at.isdecimal() or len(at) > 12:
        raise BadSignature("webhook-id and webhook-timestamp are needed")
    wanted = signature(secret, ident, int(at), body)
    if not any(hmac.compare_digest(wanted.encode(), each.encode("utf-8", "replace")) for each in given.split(" ")[:8]):
        raise BadSignature("the signature is not that of this request")
    if abs(now - int(at)) > TOLERANCE:
        raise BadSignature(f"the request was signed more than {TOLERANCE:.0f} seconds away from now")
    return ident
