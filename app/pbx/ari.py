"""ARI's requests, their answers, and the errors' classes: what a caller can act on."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import orjson

DEADLINE = 2.0  # seconds a request may take
MAX_ANSWER = 8 * 1024 * 1024  # bytes of one answer or event

# Every operation we use, as method and path in Asterisk's own api-docs. A test compares it with what a running Asterisk serves.
OPERATIONS: frozenset[tuple[str, str]] = frozenset(
    {
        ("GET", "/applications/{applicationName}"),
        ("POST", "/applications/{applicationName}/subscription"),
        ("PUT", "/applications/{applicationName}/eventFilter"),
        ("GET", "/asterisk/info"),
        ("GET", "/bridges"),
        ("POST", "/bridges/{bridgeId}"),
        ("DELETE", "/bridges/{bridgeId}"),
        ("POST", "/bridges/{bridgeId}/addChannel"),
        ("POST", "/bridges/{bridgeId}/removeChannel"),
        ("POST", "/bridges/{bridgeId}/moh"),
        ("DELETE", "/bridges/{bridgeId}/moh"),
        ("GET", "/channels"),
        ("GET", "/channels/{channelId}"),
        ("DELETE", "/channels/{channelId}"),
        ("POST", "/channels/create"),
        ("POST", "/channels/{channelId}/answer"),
        ("POST", "/channels/{channelId}/continue"),
        ("POST", "/channels/{channelId}/dial"),
        ("POST", "/channels/{channelId}/moh"),
        ("DELETE", "/channels/{channelId}/moh"),
        ("POST", "/channels/{channelId}/play/{playbackId}"),
        ("POST", "/channels/{channelId}/record"),
        ("GET", "/channels/{channelId}/variable"),
        ("POST", "/channels/{channelId}/variables"),
        ("GET", "/events"),
        ("POST", "/events/user/{eventName}"),
        ("GET", "/playbacks/{playbackId}"),
        ("DELETE", "/playbacks/{playbackId}"),
        ("GET", "/recordings/live/{recordingName}"),
        ("POST", "/recordings/live/{recordingName}/stop"),
        ("GET", "/recordings/stored"),
        ("GET", "/recordings/stored/{recordingName}"),
        ("GET", "/recordings/stored/{recordingName}/file"),
        ("DELETE", "/recordings/stored/{recordingName}"),
    }
)

Json: TypeAlias = Any
Query: TypeAlias = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Request:
    """One request: `path` is under `/ari/` without a leading slash, ids in it already safe; `body` a JSON value or None."""

    method: str
    path: str
    query: Query = ()
    body: Json = None


@dataclass(frozen=True, slots=True)
class Reply:
    """A good answer: `status` is 2xx, `body` its JSON value or None."""

    status: int
    body: Json = None


class AriError(Exception):
    """A request came to nothing; `status` is Asterisk's, or 0 when there was none. The text never holds a body or a secret."""

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class AriNotFound(AriError):
    """404: what was named is not there (any more)."""


class AriConflict(AriError):
    """409: it is there already, or not in our application."""


class AriInvalid(AriError):
    """Another 4xx: what was asked makes no sense to Asterisk now (400, 412, 422)."""


class AriBroken(AriError):
    """5xx: Asterisk could not do it."""


class AriMalformed(AriError):
    """The answer is not what ARI answers: HTML, invalid UTF-8, cut JSON, no body where one is due."""


class AriTooBig(AriError):
    """The answer is larger than `MAX_ANSWER`."""


class AriTimeout(AriError):
    """No answer within the deadline. Whether it was carried out is unknown."""


class AriLost(AriError):
    """There is no line to Asterisk, or it broke before the answer. Whether it was carried out is unknown."""


class AriRefused(AriError):
    """401 or 403: user, password or rights are wrong. No retry helps; the process ends with exit status 78."""


class AriReplaced(AriError):
    """Another process registered under our application's name. This one must stop at once (exit status 75)."""


Answer: TypeAlias = Reply | AriError
Done: TypeAlias = Callable[[Answer], None]
_BY_STATUS: dict[int, type[AriError]] = {401: AriRefused, 403: AriRefused, 404: AriNotFound, 409: AriConflict}


def failure(status: int, body: Json, request: Request) -> AriError:
    """The typed error for a status of 400 and above."""
    kind = _BY_STATUS.get(status) or (AriInvalid if status < 500 else AriBroken)
    said = body.get("message") or body.get("error") if isinstance(body, dict) else ""
    return kind(f"{request.method} {anonymous(request.path)}: {status} {str(said)[:200]}".rstrip(), status)


def read_answer(status: int, raw: bytes | str | None, request: Request) -> Answer:
    """What an answer's status and body amount to."""
    body: Json = None
    if raw:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            if status < 400:
                return AriMalformed(f"{request.method} {anonymous(request.path)}: {status} with a body that is not JSON", status)
    if status >= 400:
        return failure(status, body, request)
    if not 200 <= status < 300:
        return AriMalformed(f"{request.method} {anonymous(request.path)}: unexpected status {status}", status)
    if body is None and status != 204 and request.method == "GET":
        return AriMalformed(f"{request.method} {anonymous(request.path)}: {status} without a body", status)
    return Reply(status, body)


_ID = re.compile(r"[^/]*[0-9][^/]*")


def anonymous(path: str) -> str:
    """A path without its ids, for messages."""
    return _ID.sub("*", path)
