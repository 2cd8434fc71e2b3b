"""Sending one message over SMTP, answered by exactly one event.

The message is built by the standard library's `EmailMessage`, which encodes headers itself; addresses and subjects that hold
line breaks or anything but one address are refused before a connection is made. The Message-ID is made of the command's
request id, so that a message sent twice by a crash is one message to whoever looks. The connection is closed
without a farewell once the server has taken the message.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from email.message import EmailMessage
from email.policy import SMTP
from typing import Any, Final, Literal

import aiosmtplib
import structlog
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from app.channels.errands import Errands
from app.channels.shelf import NotThere
from app.core.commands import Command, SendMail
from app.core.events import Event, MailFailed, MailSent

log = structlog.get_logger()

MAX_BUDGET: Final = 30.0
MAX_SUBJECT: Final = 300
MAX_BODY: Final = 100_000
_LOCAL: Final = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*"
_LABEL: Final = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_ADDRESS: Final = re.compile(rf"(?=.{{3,254}}\Z)(?=[^@]{{1,64}}@){_LOCAL}@{_LABEL}(?:\.{_LABEL})+")
_REQUEST: Final = re.compile(r"[A-Za-z0-9._-]{1,100}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class MailSettings(BaseModel):
    """The mail server and who writes. `tls`: none, starttls, or tls from the first byte. `domain` is that of Message-IDs."""

    model_config = ConfigDict(extra="forbid", frozen=True, hide_input_in_errors=True)

    host: str = "127.0.0.1"
    port: int = Field(default=8025, ge=1, le=65535)
    sender: str = "hotline@callwright.example"
    domain: str = "callwright.example"
    tls: Literal["none", "starttls", "tls"] = "none"
    username: str = ""
    password: SecretStr = SecretStr("")


class Unsendable(ValueError):
    """The message cannot be sent as it is; `reason` as in `MailFailed`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Mailer:
    """The adapter of `SendMail`; use within a running loop. `recording` gives the WAV file that goes with a message, or raises `NotThere`.

    The reasons of `MailFailed`: bad_address, bad_message, no_attachment, refused (by the server), unreachable, timeout (it may have
    been sent).
    """

    def __init__(
        self, settings: MailSettings, post: Callable[[Event], None], recording: Callable[[str], Awaitable[bytes]] | None = None
    ) -> None:
        self._settings, self._post, self._recording = settings, post, recording
        self._errands = Errands()

    def handles(self, command: Command) -> bool:
        """Whether the command is one of ours."""
        return isinstance(command, SendMail)

    def carry_out(self, command: SendMail) -> None:
        """Begin; returns at once. The event comes through `post`."""
        self._errands.begin(command.request, lambda: self._run(command))

    async def close(self) -> None:
        """Drop what is under way, without events."""
        await self._errands.close()

    async def _run(self, command: SendMail) -> None:
        client = self._client()
        reason = ""
        try:
            message = compose(command, self._settings)
            if command.attachment:
                attach(message, await self._sound(command.attachment))
            async with asyncio.timeout(min(command.budget, MAX_BUDGET)):
                await client.connect()
                if self._settings.username:
                    await client.login(self._settings.username, self._settings.password.get_secret_value())
                await client.send_message(message)
        except Exception as error:  # one event in every case: the caller waits for it
            reason = _reason(error)
            log.warning("mail_failed", request=command.request, reason=reason, error=type(error).__name__)
        finally:
            client.close()
        self._post(MailFailed(command.call, command.request, reason) if reason else MailSent(command.call, command.request))

    async def _sound(self, name: str) -> bytes:
        if self._recording is None:
            raise Unsendable("no_attachment")
        try:
            return await self._recording(name)
        except NotThere as error:
            raise Unsendable("no_attachment" if str(error) == "missing" else "unreachable") from None

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=None,
            use_tls=settings.tls == "tls",
            start_tls=settings.tls == "starttls",
            local_hostname=settings.domain,
        )


def compose(command: SendMail, settings: MailSettings) -> EmailMessage:
    """The message of a command; raises `Unsendable`."""
    if not _ADDRESS.fullmatch(command.to):
        raise Unsendable("bad_address")
    if _CONTROL.search(command.subject) or len(command.subject) > MAX_SUBJECT or len(command.body) > MAX_BODY:
        raise Unsendable("bad_message")
    if not _REQUEST.fullmatch(command.request):
        raise Unsendable("bad_message")
    message = EmailMessage(policy=SMTP)
    message["From"] = settings.sender
    message["To"] = command.to
    message["Subject"] = _writable(command.subject)
    message["Date"] = datetime.now(UTC)
    message["Message-ID"] = f"<{command.request}@{settings.domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(_writable(command.body))
    return message


def attach(message: EmailMessage, sound: bytes) -> None:
    """A recording goes with the message, as a file that every mail program plays."""
    message.add_attachment(sound, maintype="audio", subtype="wav", filename="message.wav")


def _writable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _reason(error: Exception) -> str:
    if isinstance(error, Unsendable):
        return error.reason
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return "bad_address" if any(_permanent(refusal.code) for refusal in error.recipients) else "refused"
    if isinstance(error, TimeoutError | aiosmtplib.SMTPTimeoutError):
        return "timeout"
    if isinstance(error, aiosmtplib.SMTPConnectError | aiosmtplib.SMTPServerDisconnected | OSError):
        return "unreachable"
    return "refused"


def _permanent(code: Any) -> bool:
    return isinstance(code, int) and 500 <= code < 600
