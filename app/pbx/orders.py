"""What is asked of Asterisk for a call, and what comes of it.

A channel that plays a prompt carries nothing else out until the prompt ends, and holds up the whole line while it is asked to
(answer, addChannel, removeChannel, variables). Hence nothing of that kind is asked of a channel that plays: the prompt is stopped,
and its end awaited.

One rule for what has gone: 404 and 409 about a thing that is to end, or that lives on a channel that has left, is success.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import structlog

from app.core import commands, events
from app.pbx import requests
from app.pbx.ari import Answer, AriConflict, AriError, AriLost, AriNotFound, AriRefused, AriTimeout, Reply, Request
from app.pbx.book import CANCELLED, Book, Caller, Leg
from app.pbx.link import AriLink

log = structlog.get_logger(__name__)

LIST_WITHIN = 5.0  # seconds for a list of all that Asterisk has, or for a file

Refusal: TypeAlias = Callable[[Caller, Any, str, AriError | None], None]


class Orders:
    """The line and the book, and what every part of the adapter does with them.

    `post` takes events for the core; `take` those of Asterisk, which first do here what they let be done. `refusals` has, by type of
    command, who says in the form that was promised that one came to nothing.
    """

    def __init__(
        self, app: str, link: AriLink, book: Book, post: Callable[[events.Event], None], take: Callable[[events.Event], None]
    ) -> None:
        self.app, self.link, self.book, self.post, self.take = app, link, book, post, take
        self.refusals: Mapping[type[commands.Command], Refusal] = {}
        self.quiet: dict[str, list[Callable[[], None]]] = {}
        self.endings: dict[str, tuple[str, Request, commands.Command | None]] = {}

    def answer_for_nothing(self, command: commands.Command) -> None:
        """A command about a call that has gone: what was promised in every case still comes."""
        if isinstance(command, commands.Play):
            self.post(events.PlaybackEnded(command.call, command.playback, False))
        elif isinstance(command, commands.StartRecord):
            self.post(events.RecordingEnded(command.call, command.recording, "failed"))
        elif isinstance(command, commands.RingAgent | commands.RingOutside):
            self.post(events.LegEnded(command.call, command.leg, CANCELLED))

    def send(self, caller: Caller, command: commands.Command | None, request: Request, then: Callable[[], None] | None = None) -> None:
        """Ask for something: `then` when it is done, the command's refusal when it is not."""
        self.link.send(request, partial(self._settled, caller, command, request, then), caller.call)

    def _settled(
        self, caller: Caller, command: commands.Command | None, request: Request, then: Callable[[], None] | None, answer: Answer
    ) -> None:
        if isinstance(answer, Reply) or _gone_is_success(request, answer):
            if then is not None:
                then()
            return
        if isinstance(answer, AriRefused):
            self.link.fail(answer)
        elif command is not None:
            self.refused(caller, command, str(answer), answer)

    def refused(self, caller: Caller, command: commands.Command, reason: str, answer: AriError | None = None) -> None:
        """A command came to nothing: say so in the form that was promised."""
        if (refusal := self.refusals.get(type(command))) is not None:
            refusal(caller, command, reason, answer)
        elif caller.left or isinstance(answer, AriLost | AriNotFound | AriConflict):
            return
        else:
            log.warning("pbx_refused", command=type(command).__name__, reason=reason)
            self.post(events.CommandRefused(command.call, type(command).__name__, _ref(command), reason))

    def take_all(self, happened: list[events.Event]) -> None:
        """As `take`, one after the other."""
        for event in happened:
            self.take(event)

    def when_quiet(self, caller: Caller, job: Callable[[], None]) -> None:
        """Do something to the caller's channel once nothing plays there: what plays is stopped. Not at all when the caller leaves."""
        if caller.left:
            return
        if caller.playing:
            self.quiet.setdefault(caller.call, []).append(job)
            self.silence(caller)
        else:
            job()

    def silence(self, caller: Caller) -> None:
        """Stop what plays to the caller; its end comes as an event."""
        for playback in sorted(caller.playing):
            self.send(caller, None, requests.stop_play(playback))

    def order_end(self, caller: Caller, channel: str, request: Request, command: commands.Command | None = None) -> None:
        """End a channel, or our hold on it. The order is kept until it was answered, and given again when the answer was lost."""
        self.endings[channel] = (caller.call, request, command)
        self.link.send(request, partial(self._end_settled, caller, channel), caller.call)

    def _end_settled(self, caller: Caller, channel: str, answer: Answer) -> None:
        if isinstance(answer, AriLost) or channel not in self.endings:
            return
        _, request, command = self.endings.pop(channel)
        known = self.book.channels.get(channel)
        if isinstance(answer, AriRefused):
            self.link.fail(answer)
        elif isinstance(answer, AriTimeout):
            self.order_end(caller, channel, request, command)
        elif isinstance(answer, AriNotFound | AriConflict) and isinstance(known, Leg):
            self.take_all(self.book.leg_ended(known, known.ending))
        elif isinstance(answer, AriNotFound | AriConflict) and isinstance(known, Caller):
            self.take_all(self.book.caller_left(known, 0))
        elif isinstance(answer, AriError) and command is not None:
            self.refused(caller, command, str(answer), answer)


def _gone_is_success(request: Request, answer: AriError) -> bool:
    """The one rule for what has gone: it need not be ended, and a bridge that is there need not be made."""
    if request.method == "DELETE":
        return isinstance(answer, AriNotFound | AriConflict)
    return isinstance(answer, AriConflict) and request.path.startswith("bridges/") and request.path.count("/") == 1


def _ref(command: commands.Command) -> str:
    return str(next(filter(None, (getattr(command, name, "") for name in ("leg", "playback", "recording", "bridge"))), ""))


def now() -> float:
    """Seconds on the loop's own clock."""
    return asyncio.get_running_loop().time()
