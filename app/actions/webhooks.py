"""Sending webhooks: signed bodies through the guard of the actions, only to listed origins, without redirects, proxies or cookies."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Final

import aiohttp
from pydantic import AfterValidator, BaseModel, ConfigDict, SecretStr
from yarl import URL

from app.core.signing import key, signature

from .guard import Forbidden, Guard, Origin

SECONDS: Final = 10.0


def _a_secret(value: SecretStr) -> SecretStr:
    key(value.get_secret_value())
    return value


Secret = Annotated[SecretStr, AfterValidator(_a_secret)]


class Webhook(BaseModel):
    """Where to, by which secret, and which happenings (all unless named): those of these flows alone, where any are named."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: str
    secret: Secret
    events: frozenset[str] = frozenset()
    flows: frozenset[str] = frozenset()


class Poster:
    """Sends bodies; one for all webhooks."""

    def __init__(self, origins: Iterable[Origin]) -> None:
        self._guard = Guard(origins)
        self._session: aiohttp.ClientSession | None = None

    def barred(self, url: str) -> str:
        """Why the address may not be asked, or ""."""
        return self._guard.admit(URL(url))

    async def post(self, hook: Webhook, ident: str, at: int, body: bytes) -> str:
        """Why the body was not taken, or "" when it was (any 2xx). The answer's own body is not read."""
        if self._session is None:
            connector = aiohttp.TCPConnector(resolver=self._guard.resolver, limit=0, ttl_dns_cache=None)
            self._session = aiohttp.ClientSession(
                connector=connector,
                timeout=aiohttp.ClientTimeout(total=SECONDS),
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
                headers={"User-Agent": "callwright"},
            )
        why = self.barred(hook.url)
        if why:
            return why
        headers = {
            "Content-Type": "application/json",
            "webhook-id": ident,
            "webhook-timestamp": str(at),
            "webhook-signature": signature(hook.secret.get_secret_value(), ident, at, body),
        }
        try:
            async with self._session.post(hook.url, data=body, headers=headers, allow_redirects=False) as answer:
                return "" if 200 <= answer.status < 300 else f"status {answer.status}"
        except Forbidden as error:
            return str(error)
        except TimeoutError:
            return f"no answer within {SECONDS:.0f} seconds"
        except (aiohttp.ClientError, OSError) as error:
            return type(error).__name__

    async def close(self) -> None:
        """No more."""
        if self._session is not None:
            await self._session.close()
        await self._guard.resolver.close()
