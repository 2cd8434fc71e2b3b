"""Sending one text message by a gateway's HTTP API, answered by exactly one event.

The gateway is described by settings: its address, how it knows us, and the JSON body it wants, in whose texts `{to}`, `{text}`, `{sender}`
and `{id}` are filled in as values. The command's request id goes along as `Idempotency-Key`, so that a gateway which honours it sends a
message that a crash made us ask for twice only once. No number and no text is ever in a log.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

import aiohttp
import phonenumbers
import structlog
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, SecretStr, model_validator

from app.channels.errands import Errands
from app.core.commands import Command, SendSms
from app.core.events import Event, SmsFailed, SmsSent

log = structlog.get_logger()

MAX_BUDGET: Final = 30.0
MAX_TEXT: Final = 1600
"""Characters of one message, which a network then cuts into parts."""
_REQUEST: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_PLACE: Final = re.compile(r"\{(to|text|sender|id)\}")
TWILIO_SHAPE: Final = {"To": "{to}", "From": "{sender}", "Body": "{text}"}


def _web_address(url: str) -> str:
    if url and not url.startswith(("https://", "http://")):
        raise ValueError(f"expected an address that begins with https:// (or http://), found {url!r}")
    return url


class SmsSettings(BaseModel):
    """The gateway. Without a `url` no message is sent (reason `not_set_up`).

    `auth`: none, basic (`user`, `secret`), bearer (`secret`), or header (`secret` in the header named `header`). `body` is the JSON that
    the gateway wants, `accepted` the statuses by which it takes a message. `region` is the country of numbers written without one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    url: Annotated[str, AfterValidator(_web_address)] = ""
    auth: Literal["none", "basic", "bearer", "header"] = "none"
    user: str = ""
    secret: SecretStr = SecretStr("")
    header: Annotated[str, Field(pattern=r"^[A-Za-z0-9-]{1,60}$")] = "X-API-Key"
    body: dict[str, Any] = Field(default_factory=lambda: dict(TWILIO_SHAPE))
    accepted: tuple[int, ...] = (200, 201, 202)
    sender: str = "Callwright"
    region: Annotated[str, Field(pattern=r"^[A-Z]{2}$")] = "DE"

    @model_validator(mode="after")
    def _secret_where_one_is_needed(self) -> SmsSettings:
        if self.auth != "none" and not self.secret.get_secret_value():
            raise ValueError(f"expected a secret, since auth is {self.auth!r}")
        return self


class Unsendable(ValueError):
    """The message cannot be sent as it is; the text is the reason, as in `SmsFailed`."""


class Sms:
    """The adapter of `SendSms`; use within a running loop."""

    def __init__(self, settings: SmsSettings, post: Callable[[Event], None]) -> None:
        self._settings, self._post = settings, post
        self._errands = Errands()

    def handles(self, command: Command) -> bool:
        """Whether the command is one of ours."""
        return isinstance(command, SendSms)

    def carry_out(self, command: SendSms) -> None:
        """Begin; returns at once. The event comes through `post`."""
        self._errands.begin(command.request, lambda: self._run(command))

    async def close(self) -> None:
        """Drop what is under way, without events."""
        await self._errands.close()

    async def _run(self, command: SendSms) -> None:
        reason = ""
        try:
            reason = await self._ask(command)
        except Unsendable as error:
            reason = str(error)
        except TimeoutError:
            reason = "timeout"
        except (aiohttp.ClientError, OSError):
            reason = "unreachable"
        except Exception as error:  # one event in every case: the caller waits for it
            reason = "refused"
            log.warning("sms_broken", request=command.request, error=type(error).__name__)
        if reason:
            log.warning("sms_failed", request=command.request, reason=reason)
        self._post(SmsFailed(command.call, command.request, reason) if reason else SmsSent(command.call, command.request))

    async def _ask(self, command: SendSms) -> str:
        """Ask the gateway; "" when it took the message, else why not. Raises `Unsendable` and what the network raises."""
        body = compose(command, self._settings)
        timeout = aiohttp.ClientTimeout(total=min(command.budget, MAX_BUDGET))
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
            async with session.post(
                self._settings.url, json=body, headers=headers(command, self._settings), allow_redirects=False
            ) as response:
                if response.status in self._settings.accepted:
                    return ""
                log.info("sms_refused", request=command.request, status=response.status)
                return "refused"


def headers(command: SendSms, settings: SmsSettings) -> dict[str, str]:
    """Who we are, and what a repetition is known by."""
    secret = settings.secret.get_secret_value()
    known = {
        "none": {},
        "basic": {"Authorization": aiohttp.encode_basic_auth(settings.user, secret)} if settings.auth == "basic" else {},
        "bearer": {"Authorization": f"Bearer {secret}"},
        "header": {settings.header: secret},
    }
    return {"Idempotency-Key": command.request, **known[settings.auth]}


def compose(command: SendSms, settings: SmsSettings) -> dict[str, Any]:
    """The body of a command's request; raises `Unsendable`."""
    if not settings.url:
        raise Unsendable("not_set_up")
    if not command.text.strip() or len(command.text) > MAX_TEXT or _CONTROL.search(command.text) or not _REQUEST.fullmatch(command.request):
        raise Unsendable("bad_text")
    values = {"to": e164(command.to, settings.region), "text": command.text, "sender": settings.sender, "id": command.request}
    filled = _filled(settings.body, values)
    assert isinstance(filled, dict)
    return filled


def e164(number: str, region: str) -> str:
    """A number with its country, `+` and digits; raises `Unsendable` for one that nobody can have."""
    try:
        parsed = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        raise Unsendable("bad_number") from None
    possible = phonenumbers.is_possible_number_with_reason(parsed)
    if possible != phonenumbers.ValidationResult.IS_POSSIBLE or parsed.extension:
        raise Unsendable("bad_number")
    return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))


def _filled(part: Any, values: dict[str, str]) -> Any:
    """A JSON value with its places filled; a value is never read as a template."""
    if isinstance(part, dict):
        return {key: _filled(value, values) for key, value in part.items()}
    if isinstance(part, list):
        return [_filled(value, values) for value in part]
    return _PLACE.sub(lambda found: values[found[1]], part) if isinstance(part, str) else part
