"""What the API has to be told: where it listens, who may come in, where the built desk lies, and its bounds."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.api.auth import Credentials


class ApiSettings(BaseModel):
    """Every number is a bound: bytes, seconds or a count, as its name says."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8080, ge=0, le=65535)
    credentials: Credentials = Field(default_factory=Credentials)
    origins: frozenset[str] = frozenset()
    """Origins, besides our own on loopback, whose pages may use the desk's cookie (a reverse proxy's public address)."""
    inbound: Mapping[str, SecretStr] = Field(default_factory=dict)
    """The secrets of systems that may write into live calls by signed requests."""
    record_origins: tuple[str, ...] = ("http://127.0.0.1:8081",)
    """Origins of the CRM pages that a desk may show in a frame or link to."""
    secure_cookie: bool = False
    session_key: SecretStr | None = None
    """A Fernet key. Sessions outlive a restart only when it is kept; without one each start makes its own."""
    session_seconds: int = Field(default=12 * 3600, ge=1)
    dist: Path = Path(__file__).resolve().parent.parent / "desk" / "dist"
    max_body: int = Field(default=64 * 1024, ge=1024)
    body_seconds: float = Field(default=10.0, gt=0)
    max_sockets: int = Field(default=1000, ge=1)
    sockets_per_desk: int = Field(default=8, ge=1)
    socket_queue: int = Field(default=64, ge=1)
    """Messages that may wait for one slow reader before it is closed."""
    socket_message: int = Field(default=4096, ge=256)
    """Largest message a client may send over a websocket."""
    heartbeat: float = Field(default=5.0, gt=0)
    """Seconds between pings; a peer that does not answer is lost after one and a half of them."""
