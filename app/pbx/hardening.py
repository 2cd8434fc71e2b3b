"""panoramisk, made fit for a process that many calls share: its AMI framing and its FastAGI server, without their faults.

panoramisk trusts its peer. A peer that we share with callers deserves less, and one connection must never cost another:

- Bytes are read through an incremental decoder, so that a letter cut by a packet border arrives whole; what is no UTF-8 at
  all becomes U+FFFD and raises nothing (`Utf8Repair`).
- A line break in a value would begin a second AMI action or AGI command: it is refused, with every other control character,
  before anything is written (`one_line`).
- An AMI action has a deadline, fails at once when the link breaks, and is never sent again by itself on the next link, where
  it would come too late (`AmiLink.ask`). Single answers are asked for as such: left to guess from the answer's text,
  panoramisk waits for ever for the rest of a list that never comes.
- What every call brings (events, and actions whose answer nobody waits for, `AmiLink.tell`) is read and written here in a tenth of
  the time; answers and lists go to panoramisk.
- A FastAGI peer that closes early, dribbles, or never stops is an error of its own connection; panoramisk alone would spin on
  the end of the stream and freeze the whole process (`GuardedReader`, `FastAgi`). Routes must be `async def`.

panoramisk logs numbers and secrets at its lower levels, so its loggers are silent; the reasons come from here.
"""
# mypy: allow-untyped-calls

from __future__ import annotations

import asyncio
import codecs
import logging
import re
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from panoramisk import fast_agi
from panoramisk.actions import Action
from panoramisk.ami_protocol import AMIProtocol
from panoramisk.message import Message

logging.getLogger("panoramisk").setLevel(logging.CRITICAL + 1)
log = structlog.get_logger()

VALUE_BYTES = 900
"""The longest value that goes out: Asterisk's AMI cuts a line at 1024 bytes."""
MESSAGE_CHARS = 256 * 1024
"""The longest AMI message that is read; a longer one ends the link."""
TELL_AFTER = 0.1
"""Seconds within which actions that nobody waits for go out together."""
TOLD = "ActionID: told"
HEADER_BYTES = 16 * 1024
"""The longest AGI environment that is read."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f\x85\u2028\u2029\ud800-\udfff]")


def one_line(text: str, what: str) -> str:
    """`text` itself, or ValueError naming `what` when it holds a line break, another control character, or too many bytes."""
    bad = _CONTROL.search(text)
    if bad:
        raise ValueError(f"{what}: control character U+{ord(bad.group()):04X} at position {bad.start()} is refused")
    if len(text.encode()) > VALUE_BYTES:
        raise ValueError(f"{what}: longer than {VALUE_BYTES} bytes")
    return text


def without_controls(text: str, limit: int) -> str:
    """`text` with spaces for its control characters, at most `limit` characters; for texts better shortened than refused."""
    return _CONTROL.sub(" ", text)[:limit].strip()


class Utf8Repair:
    """Makes a stream of bytes valid UTF-8 in every piece: a cut letter waits for its rest, a wrong byte becomes U+FFFD."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def __call__(self, data: bytes) -> bytes:
        return self._decoder.decode(data).encode()


class LinkLost(ConnectionError):
    """The AMI link ended, before or while an action waited for its answer."""


class ActionRefused(Exception):
    """Asterisk answered an action with an error; the text is Asterisk's own."""


class AmiLink(AMIProtocol):
    """One AMI connection, from its greeting to its end; a new connection is a new link.

    `on_event(fields)` gets every event that answers no action of ours, as header -> value; `on_lost()` is called once, when the
    link has ended, and `reason` then says why. `refused` counts what `tell` told in vain.
    """

    encoding = "utf-8"

    def __init__(self, on_event: Callable[[dict[str, str]], None], on_lost: Callable[[], None]) -> None:
        self._on_event, self._on_lost = on_event, on_lost
        self._repair = Utf8Repair()
        self._rest = ""
        self._told: list[str] = []
        self._awaiting = 0
        self.reason = ""
        self.refused = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.factory = self  # panoramisk hands events to its factory's `dispatch`

    def data_received(self, data: bytes) -> None:
        text = self._rest + self._repair(data).decode()
        if self.version is None:
            text = self._greeted(text)
        *whole, self._rest = text.split("\r\n\r\n")
        for text in whole:
            if text.startswith("Event: ") and "\r\nActionID: " not in text:
                self._event(text)
            elif text.startswith("Response: ") and TOLD in text.split("\r\n"):
                self._awaiting -= 1
                self.refused += not text.startswith("Response: Success")
            else:
                super().data_received(f"{text}\r\n\r\n".encode())
        if len(self._rest) > MESSAGE_CHARS:
            self.end(f"a message longer than {MESSAGE_CHARS} characters")

    def _greeted(self, text: str) -> str:
        """Take the greeting, which alone is one line with nothing after it, off the text."""
        line, end, rest = text.partition("\r\n")
        if not (end and line.startswith("Asterisk Call Manager/")):
            return text
        self.version = line.partition("/")[2]
        return rest

    def _event(self, text: str) -> None:
        """An event for us. A handler that raises costs this event, not the link."""
        fields = {name: value for name, _, value in (line.partition(": ") for line in text.split("\r\n"))}
        if fields["Event"] == "Shutdown":
            self.end("Asterisk is shutting down")
            return
        try:
            self._on_event(fields)
        except Exception:
            log.exception("ami_event_failed", ami_event=fields["Event"])

    def dispatch(self, message: Message) -> None:
        """An event that answers an action of ours for which nobody waits any more."""

    def connection_lost(self, exc: Any) -> None:
        self.end(f"connection lost: {exc}" if exc else "Asterisk closed the connection")

    def end(self, reason: str, *, after_all_is_said: bool = False) -> None:
        """Close the link; every action that waits fails with LinkLost. Harmless twice."""
        if self.closed:
            return
        if after_all_is_said:
            self._say_what_is_told()
        self.closed, self.reason = True, reason
        self.transport.close() if after_all_is_said else self.transport.abort()
        self.refused += self._awaiting + len(self._told)
        self._awaiting, self._told = 0, []
        waiting, self.responses = self.responses, {}
        for action in waiting.values():
            if not action.future.done():
                action.future.set_exception(LinkLost(reason))
        self._on_lost()

    async def ask(self, name: str, deadline: float, *, many: bool = False, **fields: str | list[str]) -> list[Message]:
        """Send an action and return its answers: one, or with `many` the answer, the events of its list, and the closing event.

        Raises ActionRefused on an error answer, TimeoutError after `deadline` seconds, LinkLost, and ValueError for a field
        that is not one line.
        """
        headers: dict[str, str | list[str]] = {"Action": name}
        for key, value in fields.items():
            values = [one_line(item, f"AMI {name}, {key}") for item in ([value] if isinstance(value, str) else value)]
            headers[key] = values[0] if isinstance(value, str) else values
        self._say_what_is_told()
        if self.closed:
            raise LinkLost(self.reason)
        # as_list=True would wait for ever on an error answer; None lets an answer that opens a list say so itself.
        action: Any = Action(headers)
        future = self.send(action, as_list=None if many else False)
        try:
            async with asyncio.timeout(deadline):
                answer = await future
        except TimeoutError:
            raise TimeoutError(f"{name}: no answer within {deadline:g} s") from None
        finally:
            self.responses.pop(action.id, None)
        messages: list[Message] = answer if isinstance(answer, list) else [answer]
        if not messages[0].success:
            raise ActionRefused(f"{name}: {messages[0].message or messages[0].response}")
        return messages

    def tell(self, name: str, **fields: str) -> None:
        """Send an action whose answer nobody waits for, together with what else is told within `TELL_AFTER`.

        `refused` counts those that were answered with an error, or not at all before the link ended. Raises LinkLost, and ValueError
        for a field that is not one line.
        """
        lines = [f"{key}: {one_line(value, f'AMI {name}, {key}')}" for key, value in fields.items()]
        if self.closed:
            raise LinkLost(self.reason)
        if not self._told:
            asyncio.get_running_loop().call_later(TELL_AFTER, self._say_what_is_told)
        self._told.append("\r\n".join((f"Action: {name}", TOLD, *lines, "", "")))

    def _say_what_is_told(self) -> None:
        if self._told and not self.closed:
            self._awaiting += len(self._told)
            self.transport.write("".join(self._told).encode())
            self._told = []


class GuardedReader:
    """What panoramisk may read of a FastAGI peer: so much, so long, and the end of the stream is an error.

    `read` serves the AGI environment, all of it within `seconds` of now; `readline` serves answers, each within `seconds`.
    """

    def __init__(self, reader: asyncio.StreamReader, seconds: float) -> None:
        self._reader = reader
        self._seconds = seconds
        self._headers_by = asyncio.get_running_loop().time() + seconds
        self._size = 0
        self._repair = Utf8Repair()

    async def read(self, size: int) -> bytes:
        """The next piece of the environment, as valid UTF-8 (possibly empty while a letter waits for its rest)."""
        try:
            async with asyncio.timeout_at(self._headers_by):
                data = await self._reader.read(size)
        except TimeoutError:
            raise TimeoutError(f"no whole AGI environment within {self._seconds:g} s") from None
        if not data:
            raise EOFError("closed before the end of its AGI environment")
        self._size += len(data)
        if self._size > HEADER_BYTES:
            raise ValueError(f"an AGI environment of more than {HEADER_BYTES} bytes")
        return self._repair(data)

    async def readline(self) -> bytes:
        """The next answer, whole."""
        try:
            async with asyncio.timeout(self._seconds):
                line = await self._reader.readline()
        except TimeoutError:
            raise TimeoutError(f"no answer to an AGI command within {self._seconds:g} s") from None
        if not line.endswith(b"\n"):
            raise EOFError("closed before the end of an AGI answer")
        return self._repair(line)


class FastAgi(fast_agi.Application):
    """panoramisk's FastAGI server; whatever a peer does ends that peer's connection alone.

    `seconds` bounds the environment and each answer, `whole` a visit from its first byte to its last.
    """

    def __init__(self, seconds: float, whole: float) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._seconds = seconds
        self._whole = whole

    def add_route(self, path: str, endpoint: Callable[[Any], Awaitable[None]]) -> None:
        """Serve `agi://host/<path>`. TypeError unless `endpoint` is an `async def`."""
        if not asyncio.iscoroutinefunction(endpoint):
            raise TypeError(f"the AGI route {path!r} must be an async def, not {endpoint!r}")
        super().add_route(path, endpoint)

    async def handler(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One visit of one channel."""
        try:
            async with asyncio.timeout(self._whole):
                await super().handler(GuardedReader(reader, self._seconds), writer)
        except (OSError, EOFError, ValueError) as error:
            log.warning("agi_peer_failed", why=str(error) or type(error).__name__)
        finally:
            writer.close()
