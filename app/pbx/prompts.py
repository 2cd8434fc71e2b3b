"""What is played to callers, in order.

A prompt whose words must be rendered first takes longer than other commands: the call's later commands queue behind it, in its
chain. What ends something never queues: it takes what is still queued with it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from functools import partial

import structlog

from app.core import commands, events
from app.core.flow.spoken import text_in
from app.pbx import requests
from app.pbx.ari import Answer, AriError, AriNotFound
from app.pbx.book import CANCELLED, Caller
from app.pbx.orders import Orders, now
from app.pbx.requests import BadCommand

log = structlog.get_logger(__name__)

RENDER_WITHIN = 5.0  # seconds for the words of one prompt; after that nothing is played
LOOK_AFTER = 10.0  # seconds after which a playback is asked after, and every so often again


@dataclass(slots=True)
class Chain:
    """What waits behind a prompt that is being rendered."""

    playing: commands.Play
    task: asyncio.Task[None]
    queue: deque[commands.Command] = field(default_factory=deque)


class Prompts:
    """The prompts of all calls. `render(text, language)` makes words into a media URI; `carry` carries out what has waited."""

    def __init__(
        self, orders: Orders, render: Callable[[str, str], Awaitable[str]], carry: Callable[[Caller, commands.Command], None]
    ) -> None:
        self._orders, self._render, self._carry = orders, render, carry
        self.chains: dict[str, Chain] = {}
        self._looked: dict[str, float] = {}

    def play(self, caller: Caller, command: commands.Play) -> None:
        """Play a prompt, with its words rendered first where it has any."""
        if caller.left:
            self._orders.answer_for_nothing(command)
            return
        self._orders.book.add_playback(caller, command.playback)
        if any(text_in(item, command.language) for item in command.media):
            task = asyncio.create_task(self._render_and_play(caller, command))
            self.chains[caller.call] = Chain(command, task)
        else:
            self._play_now(caller, command, command.media)

    def _play_now(self, caller: Caller, command: commands.Play, media: tuple[str, ...]) -> None:
        request = requests.play(caller, command, media)
        self._looked[command.playback] = now()
        caller.playing.add(command.playback)
        self._orders.send(caller, command, request)

    def _play_or_refuse(self, caller: Caller, command: commands.Play, media: tuple[str, ...]) -> None:
        try:
            self._play_now(caller, command, media)
        except BadCommand as error:
            self._orders.refused(caller, command, str(error))

    async def _render_and_play(self, caller: Caller, command: commands.Play) -> None:
        media: tuple[str, ...] = ()
        reason = "the words could not be rendered in time"
        try:
            async with asyncio.timeout(RENDER_WITHIN):
                media = tuple([await self._rendered(item, command.language) for item in command.media])
        except TimeoutError:
            pass
        except Exception as error:
            reason = f"the words could not be rendered: {type(error).__name__}"
        chain = self.chains.pop(caller.call)
        if not media:
            log.warning("prompt_not_rendered", reason=reason)
            self._orders.refused(caller, command, reason)
        else:
            self._play_or_refuse(caller, command, media)
        self._go_on(caller, chain.queue)

    async def _rendered(self, item: str, language: str) -> str:
        said = text_in(item, language)
        return item if said is None else await self._render(*said)

    def _go_on(self, caller: Caller, queue: deque[commands.Command]) -> None:
        """Carry out what has waited, up to the next prompt that must be rendered."""
        while queue:
            self._carry(caller, queue.popleft())
            chain = self.chains.get(caller.call)
            if chain is not None:
                chain.queue.extend(queue)
                return

    def stop(self, caller: Caller, command: commands.StopPlay) -> None:
        """Stop a prompt that plays, is rendered or waits."""
        chain = self.chains.get(caller.call)
        if chain is not None and chain.playing.playback == command.playback:
            chain.task.cancel()
            del self.chains[caller.call]
            self._orders.take_all(self._orders.book.playback_ended(command.playback, True))
            self._go_on(caller, chain.queue)
        elif chain is not None and (waiting := _waiting_play(chain, command.playback)) is not None:
            chain.queue.remove(waiting)
            self._orders.post(events.PlaybackEnded(command.call, command.playback, True))
        elif command.playback in caller.playing:
            self._orders.send(caller, command, requests.stop_play(command.playback))

    def drop(self, caller: Caller) -> None:
        """Nothing that waits will be carried out; what was promised still comes."""
        chain = self.chains.pop(caller.call, None)
        if chain is None:
            return
        chain.task.cancel()
        self._orders.take_all(self._orders.book.playback_ended(chain.playing.playback, False))
        for command in chain.queue:
            self._orders.answer_for_nothing(command)

    def look(self, at: float) -> None:
        """Ask after playbacks that take long: the end of one may never be told."""
        self._looked = {each: looked for each, looked in self._looked.items() if each in self._orders.book.playbacks}
        for playback, looked in self._looked.items():
            if at - looked > LOOK_AFTER:
                self._looked[playback] = at
                self._orders.link.send(requests.look_at_playback(playback), partial(self._looked_at, playback))

    def _looked_at(self, playback: str, answer: Answer) -> None:
        if isinstance(answer, AriNotFound):
            self._orders.take_all(self._orders.book.playback_ended(playback, True))

    def cancel(self) -> None:
        """Render nothing more."""
        for chain in self.chains.values():
            chain.task.cancel()

    def refused(self, caller: Caller, command: commands.Play, reason: str, answer: AriError | None) -> None:
        """A prompt will not be played."""
        self._orders.take_all(self._orders.book.playback_ended(command.playback, False))

    def withdraw(self, command: commands.HangUpLeg) -> bool:
        """Whether a leg to be ended was only waiting to be asked for; it will not be."""
        chain = self.chains.get(command.call)
        for waiting in list(chain.queue) if chain is not None else ():
            if isinstance(waiting, commands.RingAgent | commands.RingOutside) and waiting.leg == command.leg and chain is not None:
                chain.queue.remove(waiting)
                self._orders.post(events.LegEnded(command.call, command.leg, CANCELLED))
                return True
        return False


def _waiting_play(chain: Chain, playback: str) -> commands.Play | None:
    return next((each for each in chain.queue if isinstance(each, commands.Play) and each.playback == playback), None)
