"""The mail that flows send in a test."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from app.core import commands as do
from app.core import events as ev

LATENCY = 0.1


@dataclass(frozen=True, slots=True)
class Mail:
    """One message that the mail server took; `id` is what becomes its Message-ID."""

    call: str
    id: str
    to: str
    subject: str
    body: str


class Mailbox:
    """A mail server that takes everything, until it is told not to. A message that is sent twice is there once."""

    def __init__(self) -> None:
        self._mails: dict[str, Mail] = {}
        self._reason = ""
        self._seconds = LATENCY

    def __iter__(self) -> Iterator[Mail]:
        return iter(list(self._mails.values()))

    def __len__(self) -> int:
        return len(self._mails)

    def __getitem__(self, n: int) -> Mail:
        return list(self._mails.values())[n]

    def fails(self, reason: str = "refused") -> Mailbox:
        """Refuse every message from now on."""
        self._reason = reason
        return self

    def slow(self, seconds: float) -> Mailbox:
        """Take so many seconds for each message."""
        self._seconds = seconds
        return self

    def as_usual(self) -> Mailbox:
        """Take everything again."""
        self._reason, self._seconds = "", LATENCY
        return self

    def answer(self, command: do.SendMail) -> tuple[float, ev.CallEvent]:
        """After how many seconds what comes of it. A server that is too slow has failed, though it may take the message in the end."""
        if self._reason:
            return min(self._seconds, command.budget), ev.MailFailed(command.call, command.request, self._reason)
        self._mails.setdefault(command.request, Mail(command.call, command.request, command.to, command.subject, command.body))
        if self._seconds >= command.budget:
            return command.budget, ev.MailFailed(command.call, command.request, "timeout")
        return self._seconds, ev.MailSent(command.call, command.request)
