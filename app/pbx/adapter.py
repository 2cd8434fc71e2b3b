"""The PBX as the rest of the house sees it: commands in, events out; which channel is which is nobody else's business.

Commands of one call are carried out in the order given, calls do not wait for one another. Requests go down one line that
keeps order, so a command need not wait for the answer to the one before; the two that take longer are a `Play` whose words
must be rendered first (see `prompts`) and a `RingAgent` (see `ringing`). What ends something (`HangUp`, `Release`, `StopPlay`,
`HangUpLeg`) never queues. After every connect the adapter looks before it speaks (see `takeover`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

from app.core import commands, events
from app.core.view import LiveCall
from app.pbx import requests
from app.pbx.ari import Request
from app.pbx.book import Book, Caller
from app.pbx.botmedia import BotMedia
from app.pbx.bridges import Bridges
from app.pbx.link import AriLink
from app.pbx.looking import Look
from app.pbx.orders import Orders, now
from app.pbx.prompts import Prompts
from app.pbx.recordings import Recordings
from app.pbx.requests import BadCommand
from app.pbx.ringing import Ringing
from app.pbx.takeover import Takeover
from app.pbx.tones import Tones
from app.pbx.translate import ChannelLeft, LegEntered, translate

ROUND_EVERY = 1.0
GONE_WITHIN = 5.0  # seconds after which a caller who left is gone, whatever Asterisk still owes us
ENDINGS = frozenset({commands.StopPlay, commands.HangUpLeg, commands.HangUp, commands.Release})

Carry: TypeAlias = Callable[[Caller, Any], None]


@dataclass(frozen=True, slots=True)
class Line:
    """Where Asterisk is and who we are there. `url` is that of its HTTP server, `app` our ARI application's name, `tones` its country."""

    url: str
    user: str
    password: str = field(repr=False)
    app: str = "callwright"
    tones: str = ""


class Pbx:
    """One Asterisk, over ARI.

    `post` takes events, in order; `view` tells, once, which calls an earlier process left; `render(text, language)` makes words
    into a media URI; `mint` makes ids for calls: 32 hex digits, random. `run()` raises `AriRefused` and `AriReplaced`.
    """

    def __init__(
        self,
        line: Line,
        post: Callable[[events.Event], None],
        view: Callable[[], list[LiveCall]],
        render: Callable[[str, str], Awaitable[str]],
        mint: Callable[[], str],
    ) -> None:
        self._post = post
        self.book = Book(line.app, mint)
        link = AriLink(line.url, line.user, line.password, line.app, self._on_event, self._on_up, self._on_down, self._some_channel)
        self.orders = Orders(line.app, link, self.book, post, self._take)
        self.prompts = Prompts(self.orders, render, self._do)
        self.recordings = Recordings(self.orders)
        self._tones = Tones(self.orders, line.tones)
        self._bridges = Bridges(self.orders, self._tones)
        self.media = BotMedia(self.orders, self._bridges, line.url.replace("http", "ws", 1).rstrip("/"))
        self._ringing = Ringing(self.orders, self._bridges, self.prompts, self._tones)
        looks = Look(self.orders, view)
        self._takeover = Takeover(self.orders, self._ringing, looks, self._on_event, self._something_left, self._prompt_over)
        self._leaving: dict[str, float] = {}
        self.orders.refusals = {
            commands.Play: self.prompts.refused,
            commands.StartRecord: self.recordings.refused,
            commands.RingAgent: self._ringing.refused,
            commands.RingOutside: self._ringing.refused,
        }
        self._carry: dict[type[commands.Command], Carry] = {
            commands.Answer: self._answer,
            commands.Play: self.prompts.play,
            commands.StopPlay: self.prompts.stop,
            commands.StartRecord: self.recordings.record,
            commands.StopRecord: self.recordings.stop,
            commands.StartMusic: self._start_music,
            commands.StopMusic: self._stop_music,
            commands.MarkPlace: self._mark_place,
            commands.RingAgent: self._ringing.ring,
            commands.RingOutside: self._ringing.ring,
            commands.HangUpLeg: self._ringing.hang_up,
            commands.JoinBridge: self._bridges.join,
            commands.Talk: self._bridges.talk,
            commands.DropBridge: self._bridges.drop,
            commands.HangUp: self._hang_up,
            commands.Release: self._release,
        }

    # ---- the outside -------------------------------------------------------------------------------------------------

    @property
    def link(self) -> AriLink:
        """The line to Asterisk."""
        return self.orders.link

    async def run(self) -> None:
        """Serve until cancelled, refused or replaced."""
        rounds = asyncio.create_task(self._rounds())
        try:
            await self.link.run()
        finally:
            rounds.cancel()
            self._takeover.cancel()
            self.prompts.cancel()

    def handles(self, command: commands.Command) -> bool:
        """Whether this command is for us."""
        return type(command) in self._carry

    def carry_out(self, command: commands.Command) -> None:
        """Carry a command out, in the order of its call; returns at once, never raises. What comes of it comes as events."""
        alone = isinstance(command, commands.RingAgent | commands.RingOutside) and command.alone
        caller = self.book.alone(command.call) if alone else self.book.calls.get(command.call)
        if caller is None:
            self.orders.answer_for_nothing(command)
            return
        chain = self.prompts.chains.get(command.call)
        if chain is not None and type(command) not in ENDINGS:
            chain.queue.append(command)
        else:
            self._do(caller, command)

    def health(self) -> dict[str, Any]:
        """The line, and what was ignored on it: plain values. `ok` is `up`, and that what a call needs to ask can be asked."""
        line = self.link.health()
        ready = self._takeover.done
        return {
            "ok": line.up and ready and not line.probe,
            "up": line.up and ready,
            "reason": line.reason or line.probe or ("" if ready else "reconciling"),
            "silent": round(line.silent, 1),
            "pending": line.pending,
            "timeouts": line.timeouts,
            "reconnects": line.reconnects,
            "calls": len(self.book.calls),
            "ignored": dict(self.book.counts),
            "malformed": self.link.malformed,
        }

    # ---- events ------------------------------------------------------------------------------------------------------

    def _on_up(self) -> None:
        self._takeover.begin()

    def _on_down(self, reason: str) -> None:
        self._takeover.stop(reason)

    def _on_event(self, message: dict[str, Any]) -> None:
        if self._takeover.buffer is not None:
            self._takeover.buffer.append(message)
            return
        for event in translate(self.book, message):
            self._take(event)

    def _take(self, event: events.Event) -> None:
        """Pass an event on, and do what it lets us do."""
        if isinstance(event, LegEntered):
            self._ringing.entered(event.call, event.leg)
        elif isinstance(event, ChannelLeft):
            self._something_left(event.call)
        else:
            self._post(event)
            if isinstance(event, events.CallerLeft | events.LegEnded):
                self._something_left(event.call)
            elif isinstance(event, events.PlaybackEnded | events.LegAnswered):
                self._prompt_over(event)

    def _prompt_over(self, event: events.PlaybackEnded | events.LegAnswered) -> None:
        """Do what a prompt kept from being done: it has ended, or the agent is there and it must."""
        caller = self.book.calls.get(event.call)
        if caller is None or caller.left:
            return
        if caller.playing:
            if caller.joins and isinstance(event, events.LegAnswered):
                self.orders.silence(caller)
            return
        for job in self.orders.quiet.pop(caller.call, ()):
            job()
        if caller.joins:
            self._bridges.join_caller(caller, caller.joins)

    def _something_left(self, call: str) -> None:
        caller = self.book.calls.get(call)
        if caller is None:
            return
        if caller.left and not caller.gone:
            self._leaving.setdefault(call, now() + GONE_WITHIN)
            self.prompts.drop(caller)
            self.orders.quiet.pop(call, None)
        self._bridges.drop_due(caller)
        if caller.over:
            for bridge in sorted(caller.bridges):
                self.orders.send(caller, None, requests.drop_bridge(bridge))
            self._leaving.pop(call, None)
            self.book.forget(caller)

    # ---- the caller's own channel --------------------------------------------------------------------------------------

    def _do(self, caller: Caller, command: commands.Command) -> None:
        try:
            self._carry[type(command)](caller, command)
        except BadCommand as error:
            self.orders.refused(caller, command, str(error))

    def _answer(self, caller: Caller, command: commands.Answer) -> None:
        if not caller.up:
            self.orders.when_quiet(caller, lambda: self.orders.send(caller, command, requests.answer(caller)))

    def _start_music(self, caller: Caller, command: commands.StartMusic) -> None:
        if not caller.left:
            self.orders.send(caller, command, requests.start_music(caller, command.music))

    def _stop_music(self, caller: Caller, command: commands.Command) -> None:
        if not caller.left:
            self.orders.send(caller, command, requests.stop_music(caller))

    def _mark_place(self, caller: Caller, command: commands.MarkPlace) -> None:
        if not caller.left:
            request = requests.variables(caller, requests.place(command), self._tones.hush(caller))
            self.orders.send(caller, command, request)

    def _hang_up(self, caller: Caller, command: commands.HangUp) -> None:
        self.prompts.drop(caller)
        if not caller.left:
            caller.cause = command.cause
            self.orders.order_end(caller, caller.channel, requests.hang_up(caller.channel, command.cause), command)

    def _release(self, caller: Caller, command: commands.Release) -> None:
        asked = requests.release(caller, command, self._tones.country)
        self.prompts.drop(caller)
        self.orders.when_quiet(caller, partial(self._let_go, caller, command, asked))

    def _let_go(self, caller: Caller, command: commands.Release, asked: list[Request]) -> None:
        for request in asked[:-1]:
            self.orders.send(caller, command, request)
        self.orders.order_end(caller, caller.channel, asked[-1], command)

    # ---- now and then ------------------------------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(ROUND_EVERY)
            at = now()
            self._overdue(at)
            if self._takeover.done:
                self.prompts.look(at)

    def _overdue(self, at: float) -> None:
        """Let go of what Asterisk should have told us about, and did not."""
        self._bridges.drop_overdue(at)
        for call, deadline in list(self._leaving.items()):
            if at >= deadline and (caller := self.book.calls.get(call)) is not None:
                del self._leaving[call]
                caller.gone = True
                self._something_left(call)

    def _some_channel(self) -> str:
        return next((caller.channel for caller in self.book.calls.values() if not caller.left), "")
