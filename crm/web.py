"""What every request of the API goes through: authentication, reading the input, and errors as problem documents.

Errors are RFC 9457 `application/problem+json`; their `type` is `urn:callwright:crm:<kind>` and never changes its meaning.
Authentication is one secret token in two schemes: `Bearer <token>`, and `Basic` with the user `callwright` and the token as password.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel, ValidationError
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from crm.records import Conflict, InvalidValue, KeyReused, NoSuchRecord

MAX_BODY = 256 * 1024
BODY_SECONDS = 10.0
USER = "callwright"
MAX_ERRORS = 20
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

Parsed = TypeVar("Parsed", bound=BaseModel)

log = structlog.get_logger()

TITLES = {
    "malformed": (400, "The request cannot be read"),
    "unauthorized": (401, "A valid token is needed"),
    "not-found": (404, "There is no such resource"),
    "method-not-allowed": (405, "This resource does not know that method"),
    "timeout": (408, "The body took too long"),
    "conflict": (409, "Another record is in the way"),
    "too-large": (413, "The body is too large"),
    "unsupported-media-type": (415, "The body must be application/json"),
    "invalid": (422, "The input does not fit"),
    "key-reused": (422, "The key of an earlier request came with another body"),
    "internal": (500, "Something went wrong here"),
    "storage-busy": (503, "The database cannot be used at the moment"),
}
_BY_STATUS = {400: "malformed", 404: "not-found", 405: "method-not-allowed", 413: "too-large"}


class Problem(Exception):
    """An answer that is an error; `errors` as in `models.ProblemError`."""

    def __init__(
        self,
        kind: str,
        detail: str | None = None,
        errors: list[dict[str, str]] | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(kind)
        self.kind, self.detail, self.errors, self.headers = kind, detail, errors or [], headers or {}

    def response(self) -> web.Response:
        """Return it as HTTP."""
        status, title = TITLES[self.kind]
        request_id = secrets.token_hex(8)
        body: dict[str, Any] = {"type": f"urn:callwright:crm:{self.kind}", "title": title, "status": status, "request_id": request_id}
        if self.detail:
            body["detail"] = self.detail
        if self.errors:
            body["errors"] = self.errors
        headers = {"X-Request-Id": request_id, **self.headers}
        return web.Response(body=orjson.dumps(body), status=status, headers=headers, content_type="application/problem+json")


def reply(value: Any, status: int = 200) -> web.Response:
    """Return `value` as JSON."""
    return web.Response(body=orjson.dumps(value), status=status, content_type="application/json")


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn every failure under /api into a problem document; bad input never becomes a 500."""
    if not request.path.startswith("/api/"):
        return await handler(request)
    try:
        return await handler(request)
    except Problem as problem:
        return problem.response()
    except NoSuchRecord:
        return Problem("not-found", "no record has this id").response()
    except InvalidValue as error:
        return Problem("invalid", errors=[{"detail": str(error), "pointer": f"/{error.field}"}]).response()
    except Conflict as error:
        return Problem("conflict", str(error)).response()
    except KeyReused:
        return Problem("key-reused", "send another key, or the body that was first sent with this one").response()
    except (DBAPIError, PoolTimeoutError) as error:
        log.error("crm.storage", error=type(error).__name__, reason=str(getattr(error, "orig", "")))
        return Problem("storage-busy", headers={"Retry-After": "1"}).response()
    except web.HTTPException as error:
        if error.status not in _BY_STATUS:
            raise
        kept = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return Problem(_BY_STATUS[error.status], headers=kept).response()
    except Exception as error:
        answer = Problem("internal").response()
        log.exception("crm.failure", request_id=answer.headers["X-Request-Id"], error=type(error).__name__)
        return answer


class Guard:
    """Knows the token, compares in constant time."""

    def __init__(self, token: str) -> None:
        self._digest = _sha256(token)

    def admits(self, request: web.Request) -> bool:
        """Say whether the request carries the token in one of the two schemes."""
        scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return hmac.compare_digest(_sha256(credentials.strip()), self._digest)
        if scheme.lower() == "basic":
            try:
                user, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
            except (binascii.Error, ValueError):
                return False
            right_user = hmac.compare_digest(_sha256(user), _sha256(USER))
            return hmac.compare_digest(_sha256(password), self._digest) and right_user
        return False

    def require(self, request: web.Request) -> None:
        """Raise the 401 of a request without the token."""
        if not self.admits(request):
            raise Problem("unauthorized", headers={"WWW-Authenticate": 'Bearer realm="crm", Basic realm="crm"'})


def _sha256(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


async def read_json(request: web.Request, optional: bool = False) -> Any:
    """Return the JSON of the body; raises Problem. An `optional` body may be empty, which reads as `{}`."""
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.read()
    except TimeoutError:
        raise Problem("timeout", headers={"Connection": "close"}) from None
    if optional and not raw:
        return {}
    if request.content_type != "application/json":
        raise Problem("unsupported-media-type")
    try:
        value = orjson.loads(raw)  # strict: UTF-8, no NaN, no lone surrogates, bounded depth
        json.loads(raw, object_pairs_hook=_refuse_duplicates)
    except (ValueError, RecursionError) as error:
        raise Problem("malformed", f"the body is no JSON: {error}") from None
    return value


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice in one object")
    return found


def digest_of(value: Any) -> str:
    """Return the fingerprint of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(orjson.dumps(value, option=orjson.OPT_SORT_KEYS)).hexdigest()


def parse_body(model: type[Parsed], value: Any) -> Parsed:
    """Return a body as `model`; raises Problem with a JSON pointer to each error."""
    try:
        return model.model_validate(value)
    except ValidationError as error:
        errors = [{"detail": _reason(each), "pointer": "".join(f"/{_escape(part)}" for part in each["loc"])} for each in error.errors()]
        raise Problem("invalid", errors=errors[:MAX_ERRORS]) from None


def parse_query(model: type[Parsed], request: web.Request) -> Parsed:
    """Return the query string as `model`; raises Problem with the name of each wrong parameter."""
    query = request.query
    if len(set(query)) != len(query):
        raise Problem("invalid", "a query parameter appears twice")
    try:
        found = model.model_validate(dict(query))
        orjson.dumps(list(query.values()))  # text that is no text: bytes that were no UTF-8
    except ValidationError as error:
        errors = [{"detail": _reason(each), "parameter": ".".join(str(part) for part in each["loc"])} for each in error.errors()]
        raise Problem("invalid", errors=errors[:MAX_ERRORS]) from None
    except orjson.JSONEncodeError:
        raise Problem("malformed", "the query string is not UTF-8") from None
    return found


def _reason(error: Any) -> str:
    return str(error["msg"]).removeprefix("Value error, ")


def _escape(part: object) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")
