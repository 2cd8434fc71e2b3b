"""Who is asking: programs by a bearer token, agents' desks by a cookie got for a PIN.

Roles are `admin` and `supervisor` (everything of every agent) and `agent:<id>` (that agent's own). Tokens are random and long, so
their SHA-256 is kept and compared with all known ones in constant time; PINs are short, so they are hashed with scrypt and
guessing is slowed down for each agent and each address. A session is a Fernet token that holds agent, expiry and the PIN's hash,
so it outlives a restart, and a changed PIN ends it.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import re
import secrets
import time
import tomllib
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from aiohttp import web
from cryptography.fernet import Fernet, InvalidToken

from app.api.problems import Problem

Role = Literal["admin", "supervisor", "agent"]
COOKIE = "callwright_desk"
ROLE = re.compile(r"(admin|supervisor|agent):?([A-Za-z0-9][A-Za-z0-9._-]{0,63})?")
_N, _R, _P = 2**14, 8, 1


class BadCredentials(ValueError):
    """The credentials' file is wrong; says where."""


@dataclass(frozen=True, slots=True)
class Principal:
    """Someone who proved who they are.

    `agent` is set for the role `agent`; `session` and `expires` (epoch) where a desk's cookie proved it.
    """

    name: str
    role: Role
    agent: str = ""
    session: str = ""
    expires: float = 0.0

    @property
    def staff(self) -> bool:
        """May see and do everything."""
        return self.role != "agent"

    def owns(self, agent: str) -> bool:
        """May see and do what concerns this agent."""
        return self.staff or self.agent == agent


def hash_token(token: str) -> str:
    """What is kept of a bearer token: SHA-256, in hex."""
    return hashlib.sha256(token.encode()).hexdigest()


def hash_pin(pin: str) -> str:
    """What is kept of a PIN or password: `scrypt$<salt>$<hash>`, in hex."""
    salt = secrets.token_bytes(16)
    return f"scrypt${salt.hex()}${_scrypt(pin, salt).hex()}"


def _scrypt(pin: str, salt: bytes) -> bytes:
    return hashlib.scrypt(pin.encode(), salt=salt, n=_N, r=_R, p=_P)


def _pin_matches(pin: str, kept: str) -> bool:
    _, salt, digest = kept.split("$")
    return hmac.compare_digest(_scrypt(pin, bytes.fromhex(salt)), bytes.fromhex(digest))


NOBODY = hash_pin(secrets.token_hex(8))


def principal(name: str, role: str) -> Principal:
    """The principal of a role as written in a file: `admin`, `supervisor` or `agent:<id>`; raises `BadCredentials`."""
    match = ROLE.fullmatch(role)
    if match is None or (match[1] == "agent") != (match[2] is not None):
        raise BadCredentials(f"token {name!r}: role {role!r} is none of admin, supervisor, agent:<id>")
    kinds: dict[str, Role] = {"admin": "admin", "supervisor": "supervisor", "agent": "agent"}
    return Principal(name=name, role=kinds[match[1]], agent=match[2] or "")


@dataclass(frozen=True, slots=True)
class Credentials:
    """`tokens` by their SHA-256, `pins` (scrypt) by agent."""

    tokens: Mapping[str, Principal] = field(default_factory=dict, repr=False)
    pins: Mapping[str, str] = field(default_factory=dict, repr=False)

    @classmethod
    def load(cls, path: Path, env_token: str = "") -> Credentials:
        """Read a TOML file: `[tokens.<name>]` with `role` and `sha256`, and `[agents]` with `<id> = "scrypt$..."`.

        `env_token`, if given, is an admin's token on top of them. Raises `BadCredentials` that names the entry.
        """
        try:
            data = tomllib.loads(path.read_text("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise BadCredentials(f"{path}: {error}") from None
        tokens = dict(_token(path, name, entry) for name, entry in data.get("tokens", {}).items())
        pins = {agent: _pin(path, agent, kept) for agent, kept in data.get("agents", {}).items()}
        if env_token:
            tokens[hash_token(env_token)] = Principal("environment", "admin")
        return cls(tokens, pins)

    def by_token(self, token: str) -> Principal | None:
        """Whose token this is. Takes the same time whichever matches."""
        digest, found = hash_token(token), None
        for known, who in self.tokens.items():
            if hmac.compare_digest(known, digest):
                found = who
        return found


def _token(path: Path, name: str, entry: object) -> tuple[str, Principal]:
    match entry:
        case {"role": str(role), "sha256": str(digest)} if re.fullmatch(r"[0-9a-f]{64}", digest):
            return digest, principal(name, role)
    raise BadCredentials(f"{path}: [tokens.{name}] needs role and sha256 (64 hex digits)")


def _pin(path: Path, agent: str, kept: object) -> str:
    if not isinstance(kept, str) or not re.fullmatch(r"scrypt\$[0-9a-f]{32}\$[0-9a-f]{128}", kept):
        raise BadCredentials(f"{path}: [agents] {agent} is not a scrypt hash")
    return kept


class Throttle:
    """At most `limit` failures in `seconds` for one key; remembers a bounded number of keys, the oldest forgotten first."""

    def __init__(self, limit: int, seconds: float, keys: int = 4096) -> None:
        self._limit, self._seconds, self._keys = limit, seconds, keys
        self._failures: OrderedDict[str, deque[float]] = OrderedDict()

    def failed(self, key: str) -> None:
        """Count one failure."""
        times = self._failures.setdefault(key, deque(maxlen=self._limit))
        times.append(time.monotonic())
        self._failures.move_to_end(key)
        if len(self._failures) > self._keys:
            self._failures.popitem(last=False)

    def forget(self, key: str) -> None:
        """Begin anew after a success."""
        self._failures.pop(key, None)

    def check(self, key: str) -> None:
        """Raise a 429 while the key has failed too often."""
        times = self._failures.get(key)
        if times is None or len(times) < self._limit:
            return
        left = times[0] + self._seconds - time.monotonic()
        if left > 0:
            raise Problem(429, "too-many-attempts", "too many failed attempts; wait", headers={"Retry-After": str(int(left) + 1)})


class Doorman:
    """Proves who asks. One for each application."""

    def __init__(self, credentials: Credentials, session_key: str | None, session_seconds: int) -> None:
        self._credentials = credentials
        self._fernet = Fernet(session_key or Fernet.generate_key())
        self._seconds = session_seconds
        self._ended: OrderedDict[str, None] = OrderedDict()
        self._tokens = Throttle(limit=20, seconds=10)
        self._pins = Throttle(limit=5, seconds=60)
        self._addresses = Throttle(limit=30, seconds=60)
        self._hashing = asyncio.Semaphore(2)

    def ask(self, request: web.Request) -> Principal:
        """Who makes this request; a bearer token comes before a cookie. Raises a 401, or a 429 after many bad ones."""
        header = request.headers.get("Authorization")
        who = self._bearer(header) if header is not None else self._cookie(request.cookies.get(COOKIE, ""))
        if who is None:
            peer = request.remote or ""
            self._tokens.check(peer)
            if header is not None or COOKIE in request.cookies:
                self._tokens.failed(peer)
            raise Problem(401, "unauthenticated", "sign in, or send a valid bearer token", headers={"WWW-Authenticate": "Bearer"})
        return who

    def _bearer(self, header: str) -> Principal | None:
        scheme, _, token = header.partition(" ")
        if scheme.lower() != "bearer" or not token.isascii() or not 16 <= len(token) <= 512:
            return None
        return self._credentials.by_token(token)

    def _cookie(self, cookie: str) -> Principal | None:
        if not cookie or len(cookie) > 2048:
            return None
        try:
            agent, pin, session = json.loads(self._fernet.decrypt(cookie, ttl=self._seconds))
        except (InvalidToken, ValueError):
            return None
        if session in self._ended or not hmac.compare_digest(pin, self._credentials.pins.get(agent, "")):
            return None
        return Principal(
            name=agent, role="agent", agent=agent, session=session, expires=self._fernet.extract_timestamp(cookie) + self._seconds
        )

    async def sign_in(self, agent: str, pin: str, peer: str) -> str:
        """The cookie for an agent's PIN; a 401 alike for a wrong PIN and an unknown agent, a 429 after several."""
        key = f"{agent} {peer}"
        self._pins.check(key)
        self._addresses.check(peer)
        kept = self._credentials.pins.get(agent)
        async with self._hashing:
            right = await asyncio.to_thread(_pin_matches, pin, kept or NOBODY)
        if kept is None or not right:
            self._pins.failed(key)
            self._addresses.failed(peer)
            raise Problem(401, "wrong-pin", "this agent and PIN do not belong together")
        self._pins.forget(key)
        return self._fernet.encrypt(json.dumps([agent, kept, secrets.token_hex(16)]).encode()).decode()

    def end(self, session: str) -> None:
        """This session's cookie is worth nothing from now on."""
        self._ended[session] = None
        if len(self._ended) > 10_000:
            self._ended.popitem(last=False)


def check_origin(request: web.Request, allowed: frozenset[str]) -> None:
    """Refuse (403) a request from a page of another origin, or one that does not say where its page is from.

    Our own origins are the loopback names at the port that this connection came in by.
    """
    origin = request.headers.get("Origin", "")
    port = request.transport.get_extra_info("sockname")[1] if request.transport else 0
    own = {f"http://{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}
    if origin not in own and origin not in allowed:
        raise Problem(403, "foreign-origin", "this may only be asked by our own pages")
