"""The PBX as the rest of the house sees it: commands in, events out; which channel is which is nobody else's business.

Commands of one call are carried out in the order given, calls do not wait for one another. Requests go down one line that
keeps order, so a command need not wait for the answer to the one before; the two that take longer are a `Play` whose words
must be rendered first, behind which the call's later commands queue, and a `RingAgent`, which goes on when Asterisk says that
the leg is there: bridge with the caller in it, leg created, leg joined, leg dialled. With the leg in the bridge before its
phone rings, the two hear each other at the very answer, even if this process is gone by then. What ends something
(`HangUp`, `Release`, `StopPlay`, `HangUpLeg`) never queues: it takes what is still queued with it.

A channel that plays a prompt carries nothing else out until the prompt ends, and holds up the whole line while it is asked to
(answer, addChannel, removeChannel, variables). Hence nothing of that kind is asked of a channel that plays: the prompt is stopped,
and its end awaited. Only the caller's way into the bridge lets the prompt speak, at most until the agent answers.

After every connect the adapter looks before it speaks (see `reconcile`). Orders to end something whose answer was lost are
given again then; orders that would do harm twice are not.

One rule for what has gone: 404 and 409 about a thing that is to end, or that lives on a channel that has left, is success.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias, TypeVar

import structlog

from app.core import commands, events
from app.core.flow.spoken import text_in
from app.core.view import LiveCall
from app.pbx import reconcile as rec
from app.pbx import wire
from app.pbx.ari import (
    Answer,
    AriBroken,
    AriConflict,
    AriError,
    AriInvalid,
    AriLink,
    AriLost,
    AriNotFound,
    AriRefused,
    AriTimeout,
    Reply,
    Request,
)
from app.pbx.wire import BadCommand, Book, Caller, Leg

log = structlog.get_logger(__name__)

RENDER_WITHIN = 5.0  # seconds for the words of one prompt; after that nothing is played
RING_AGAIN = 25.0  # seconds of ringing for a leg that an earlier process created and did not dial
CLEAN_EVERY = 0.05  # seconds between the requests of a clean-up: 20 a second
ROUND_EVERY = 1.0
LOOK_AFTER = 10.0  # seconds after which a playback is asked after, and every so often again
GONE_WITHIN = 5.0  # seconds after which a caller who left is gone, whatever Asterisk still owes us
DROP_AFTER = 2.0  # seconds a bridge waits for its channels to leave
LIST_WITHIN = 5.0
MEDIA_FROM = 100_000_000  # the numbers of bots' channels and bridges begin there, beyond those that the core gives
JOIN_AGAIN, JOIN_TRIES = 0.02, 25  # how often, in seconds, such a channel is put into its bridge, and how many times
LIVE_AGAIN, LIVE_LOOKS = 0.1, 30  # how often, in seconds, a recording that just ends is looked at, and how many times
SUBSCRIBE_AT_ONCE = 40  # channels in one request: a line may have 4096 bytes

C = TypeVar("C", bound=commands.Command)
Carry: TypeAlias = Callable[["Pbx", Caller, Any], None]


@dataclass(frozen=True, slots=True)
class Line:
    """Where Asterisk is and who we are there. `url` is that of its HTTP server, `app` our ARI application's name."""

    url: str
    user: str
    password: str = field(repr=False)
    app: str = "callwright"


@dataclass(slots=True)
class _Chain:
    """What waits behind a prompt that is being rendered."""

    playing: commands.Play
    task: asyncio.Task[None]
    queue: deque[commands.Command] = field(default_factory=deque)


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
        self._post, self._view, self._render = post, view, render
        self.book = Book(line.app, mint)
        self.link = AriLink(line.url, line.user, line.password, line.app, self._on_event, self._on_up, self._on_down, self._some_channel)
        self._app, self._url = line.app, line.url.replace("http", "ws", 1).rstrip("/")
        self._chains: dict[str, _Chain] = {}
        self._buffer: list[dict[str, Any]] | None = None
        self._looking: asyncio.Task[None] | None = None
        self._cleaning: asyncio.Task[None] | None = None
        self._fresh = True
        self._told_up = False
        self._startup = 0.0
        self._looked: dict[str, float] = {}
        self._drops: dict[str, tuple[str, float]] = {}
        self._quiet: dict[str, list[Callable[[], None]]] = {}
        self._leaving: dict[str, float] = {}
        self._endings: dict[str, tuple[str, Request, commands.Command | None]] = {}

    # ---- the outside -------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until cancelled, refused or replaced."""
        rounds = asyncio.create_task(self._rounds())
        try:
            await self.link.run()
        finally:
            for task in (rounds, self._looking, self._cleaning, *(chain.task for chain in self._chains.values())):
                if task is not None:
                    task.cancel()

    def handles(self, command: commands.Command) -> bool:
        """Whether this command is for us."""
        return type(command) in CARRY

    def carry_out(self, command: commands.Command) -> None:
        """Carry a command out, in the order of its call; returns at once, never raises. What comes of it comes as events."""
        alone = isinstance(command, commands.RingAgent | commands.RingOutside) and command.alone
        caller = self.book.alone(command.call) if alone else self.book.calls.get(command.call)
        if caller is None:
            self._answer_for_nothing(command)
            return
        ending = ENDINGS.get(type(command))
        chain = self._chains.get(command.call)
        if ending is not None:
            self._do(ending, caller, command)
        elif chain is not None:
            chain.queue.append(command)
        else:
            self._do(CARRY[type(command)], caller, command)

    def health(self) -> dict[str, Any]:
        """The line, and what was ignored on it: plain values. `ok` is `up`, and that what a call needs to ask can be asked."""
        line = self.link.health()
        return {
            "ok": line.up and self._told_up and not line.probe,
            "up": line.up and self._told_up,
            "reason": line.reason or line.probe or ("" if self._told_up else "reconciling"),
            "silent": round(line.silent, 1),
            "pending": line.pending,
            "timeouts": line.timeouts,
            "reconnects": line.reconnects,
            "calls": len(self.book.calls),
            "ignored": dict(self.book.counts),
            "malformed": self.link.malformed,
        }

    # ---- events ------------------------------------------------------------------------------------------------------

    def _on_event(self, message: dict[str, Any]) -> None:
        if self._buffer is not None:
            self._buffer.append(message)
            return
        for event in wire.translate(self.book, message):
            self._take(event)

    def _take(self, event: events.Event) -> None:
        """Pass an event on, and do what it lets us do."""
        if isinstance(event, wire.LegEntered):
            self._leg_entered(event)
        elif isinstance(event, wire.ChannelLeft):
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
                self._silence(caller)
            return
        for job in self._quiet.pop(caller.call, ()):
            job()
        if caller.joins:
            self._join_caller(caller, caller.joins)

    def _something_left(self, call: str) -> None:
        caller = self.book.calls.get(call)
        if caller is None:
            return
        if caller.left and not caller.gone:
            self._leaving.setdefault(call, time.monotonic() + GONE_WITHIN)
            self._drop_chain(caller)
            self._quiet.pop(call, None)
        self._drops_due(caller)
        if caller.over:
            for bridge in sorted(caller.bridges):
                self._send(caller, None, wire.drop_bridge(bridge))
            self._leaving.pop(call, None)
            self.book.forget(caller)

    # ---- commands ----------------------------------------------------------------------------------------------------

    def _do(self, carry: Carry, caller: Caller, command: commands.Command) -> None:
        try:
            carry(self, caller, command)
        except BadCommand as error:
            self._refused(caller, command, str(error))

    def _answer_for_nothing(self, command: commands.Command) -> None:
        """A command about a call that has gone: what was promised in every case still comes."""
        if isinstance(command, commands.Play):
            self._post(events.PlaybackEnded(command.call, command.playback, False))
        elif isinstance(command, commands.StartRecord):
            self._post(events.RecordingEnded(command.call, command.recording, "failed"))
        elif isinstance(command, commands.RingAgent | commands.RingOutside):
            self._post(events.LegEnded(command.call, command.leg, wire.CANCELLED))

    def _send(self, caller: Caller, command: commands.Command | None, request: Request, then: Callable[[], None] | None = None) -> None:
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
            self._refused(caller, command, str(answer), answer)

    def _refused(self, caller: Caller, command: commands.Command, reason: str, answer: AriError | None = None) -> None:
        """A command came to nothing: say so in the form that was promised."""
        if isinstance(command, commands.Play):
            self._take_all(self.book.playback_ended(command.playback, False))
        elif isinstance(command, commands.StartRecord):
            self._not_recorded(caller, command, reason, answer)
        elif isinstance(command, commands.RingAgent | commands.RingOutside):
            self._ring_failed(caller, command, reason, answer)
        elif caller.left or isinstance(answer, AriLost | AriNotFound | AriConflict):
            return
        else:
            log.warning("pbx_refused", command=type(command).__name__, reason=reason)
            self._post(events.CommandRefused(command.call, type(command).__name__, _ref(command), reason))

    def _take_all(self, happened: list[events.Event]) -> None:
        for event in happened:
            self._take(event)

    def _answer(self, caller: Caller, command: commands.Answer) -> None:
        if not caller.up:
            self._when_quiet(caller, lambda: self._send(caller, command, wire.answer(caller)))

    def _when_quiet(self, caller: Caller, job: Callable[[], None]) -> None:
        """Do something to the caller's channel once nothing plays there: what plays is stopped. Not at all when the caller leaves."""
        if caller.left:
            return
        if caller.playing:
            self._quiet.setdefault(caller.call, []).append(job)
            self._silence(caller)
        else:
            job()

    def _silence(self, caller: Caller) -> None:
        """Stop what plays to the caller; its end comes as an event."""
        for playback in sorted(caller.playing):
            self._send(caller, None, wire.stop_play(playback))

    # ---- prompts -----------------------------------------------------------------------------------------------------

    def _play(self, caller: Caller, command: commands.Play) -> None:
        if caller.left:
            self._answer_for_nothing(command)
            return
        self.book.add_playback(caller, command.playback)
        if any(text_in(item, command.language) for item in command.media):
            task = asyncio.create_task(self._render_and_play(caller, command))
            self._chains[caller.call] = _Chain(command, task)
        else:
            self._play_now(caller, command, command.media)

    def _play_now(self, caller: Caller, command: commands.Play, media: tuple[str, ...]) -> None:
        request = wire.play(caller, command, media)
        self._looked[command.playback] = time.monotonic()
        caller.playing.add(command.playback)
        self._send(caller, command, request)

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
        chain = self._chains.pop(caller.call)
        if not media:
            log.warning("prompt_not_rendered", reason=reason)
            self._refused(caller, command, reason)
        else:
            self._do(partial(_played, media=media), caller, command)
        self._go_on(caller, chain.queue)

    async def _rendered(self, item: str, language: str) -> str:
        said = text_in(item, language)
        return item if said is None else await self._render(*said)

    def _go_on(self, caller: Caller, queue: deque[commands.Command]) -> None:
        """Carry out what has waited, up to the next prompt that must be rendered."""
        while queue:
            self._do(CARRY[type(queue[0])], caller, queue.popleft())
            chain = self._chains.get(caller.call)
            if chain is not None:
                chain.queue.extend(queue)
                return

    def _stop_play(self, caller: Caller, command: commands.StopPlay) -> None:
        chain = self._chains.get(caller.call)
        if chain is not None and chain.playing.playback == command.playback:
            chain.task.cancel()
            del self._chains[caller.call]
            self._take_all(self.book.playback_ended(command.playback, True))
            self._go_on(caller, chain.queue)
        elif chain is not None and (waiting := _waiting_play(chain, command.playback)) is not None:
            chain.queue.remove(waiting)
            self._post(events.PlaybackEnded(command.call, command.playback, True))
        elif command.playback in caller.playing:
            self._send(caller, command, wire.stop_play(command.playback))

    def _drop_chain(self, caller: Caller) -> None:
        """Nothing that waits will be carried out; what was promised still comes."""
        chain = self._chains.pop(caller.call, None)
        if chain is None:
            return
        chain.task.cancel()
        self._take_all(self.book.playback_ended(chain.playing.playback, False))
        for command in chain.queue:
            self._answer_for_nothing(command)

    # ---- recordings --------------------------------------------------------------------------------------------------

    async def recording(self, name: str) -> bytes:
        """A finished recording as a WAV file; one that is just ending is waited for. Raises `AriError`."""
        for _ in range(LIVE_LOOKS):
            try:
                await self.link.request(wire.look_at_recording(name, "live"))
            except AriNotFound:
                break
            await asyncio.sleep(LIVE_AGAIN)
        return await self.link.fetch(wire.recording_file(name), LIST_WITHIN)

    async def stray_recordings(self) -> list[str]:
        """Recordings of ours that Asterisk has stored and that belong to no call it has. Raises `AriError`."""
        stored = (await self.link.request_http(Request("GET", "recordings/stored"), LIST_WITHIN)).body
        names = [str(each.get("name", "")) for each in stored if isinstance(each, dict)]
        return [name for name in names if (made := wire.RECORDING.fullmatch(name)) and made[1] not in self.book.calls]

    async def drop_recording(self, name: str) -> None:
        """Delete a recording; one that has gone is silence. Raises `AriError`."""
        with contextlib.suppress(AriNotFound):
            await self.link.request(wire.drop_recording(name))

    def _record(self, caller: Caller, command: commands.StartRecord) -> None:
        request = wire.start_record(caller, command)
        if caller.left:
            self._answer_for_nothing(command)
        elif command.recording not in self.book.recordings:
            self.book.add_recording(caller, command.recording)
            self._when_quiet(caller, partial(self._record_now, caller, command, request))

    def _record_now(self, caller: Caller, command: commands.StartRecord, request: Request) -> None:
        """A channel in a bridge cannot be recorded: a caller whom nobody talks to leaves it first."""
        caller.joins = ""
        if caller.bridge:
            self._send(caller, None, wire.leave(caller.bridge, caller.channel))
            caller.bridge = ""
        self._send(caller, command, request)

    def _not_recorded(self, caller: Caller, command: commands.StartRecord, reason: str, answer: AriError | None) -> None:
        """A recording was refused, unless it is one that was asked for twice and is under way."""
        if isinstance(answer, AriLost):
            return  # it is looked for when the line is back
        if isinstance(answer, AriConflict | AriTimeout):
            self.link.send(wire.look_at_recording(command.recording, "live"), partial(self._looked_for, command), caller.call)
            return
        log.warning("pbx_refused", command="StartRecord", reason=reason)
        self._take_all(self.book.recording_ended(command.recording, "failed"))

    def _looked_for(self, command: commands.StartRecord, answer: Answer) -> None:
        if isinstance(answer, AriError) and not isinstance(answer, AriLost):
            log.warning("pbx_refused", command="StartRecord", reason=str(answer))
            self._take_all(self.book.recording_ended(command.recording, "failed"))

    def _stop_record(self, caller: Caller, command: commands.StopRecord) -> None:
        if command.recording in self.book.recordings:
            self._send(caller, command, wire.stop_record(command.recording))

    # ---- bots ----------------------------------------------------------------------------------------------------------

    async def open_media(self, call: str) -> tuple[str, str]:
        """A channel of ours for a caller's bot: its id, and the address of the websocket that carries its sound. Raises `OSError`."""
        caller = self.book.calls.get(call)
        if caller is None or caller.left:
            raise ConnectionError("the caller has left")
        number = secrets.randbelow(MEDIA_FROM) + MEDIA_FROM
        media = self.book.add_leg(caller, f"{call}-leg{number}", f"{call}-br{number}", 0.0)
        media.state = wire.UP
        try:
            path = wire.media_path((await self.link.request(wire.open_media(self._app, media.id))).body)
        except AriError as error:
            self.close_media(call, media.id)
            raise ConnectionError(str(error)) from None
        except asyncio.CancelledError:
            self.close_media(call, media.id)
            raise
        if not path:
            self.close_media(call, media.id)
            raise ConnectionError("Asterisk did not tell where the sound is")
        return media.id, f"{self._url}{path}"

    async def join_media(self, call: str, media: str) -> None:
        """Put the caller and that channel together, once nothing plays to the caller. Raises `OSError`."""
        caller = self.book.calls.get(call)
        leg = caller.legs.get(media) if caller is not None else None
        if caller is None or leg is None or caller.left:
            raise ConnectionError("the caller has left")
        quiet = asyncio.Event()
        self._when_quiet(caller, quiet.set)
        await quiet.wait()
        try:
            await self.link.request(wire.make_bridge(self._app, leg.bridge))
            caller.bridges.add(leg.bridge)
            await self._join_media(leg)
            await self.link.request(wire.join(leg.bridge, caller.channel))
            caller.bridge = leg.bridge
        except AriError as error:
            raise ConnectionError(str(error)) from None

    async def _join_media(self, leg: Leg) -> None:
        """Into its bridge, as soon as it is in our application: that is a moment after its websocket is connected. Raises `AriError`."""
        for n in range(1, JOIN_TRIES + 1):
            try:
                await self.link.request(wire.join(leg.bridge, leg.id))
            except (AriInvalid, AriConflict):
                if n == JOIN_TRIES:
                    raise
                await asyncio.sleep(JOIN_AGAIN)
            else:
                leg.joined = True
                return

    def close_media(self, call: str, media: str) -> None:
        """End that channel, and take the caller out of its bridge. What has gone is silence."""
        caller = self.book.calls.get(call)
        leg = caller.legs.get(media) if caller is not None else None
        bridge = media.replace("-leg", "-br")
        if caller is None:
            return
        if caller.bridge == bridge and not caller.left:
            caller.bridge = ""
            self._send(caller, None, wire.leave(bridge, caller.channel))
        if leg is not None:
            leg.ending = leg.ending or wire.NORMAL
            self._order_end(caller, leg.id, wire.hang_up(leg.id, leg.ending))
        self._drops[bridge] = (call, time.monotonic() + DROP_AFTER)
        self._drops_due(caller)

    # ---- music and conversation ----------------------------------------------------------------------------------------

    def _start_music(self, caller: Caller, command: commands.StartMusic) -> None:
        if not caller.left:
            self._send(caller, command, wire.start_music(caller, command.music))

    def _mark_place(self, caller: Caller, command: commands.MarkPlace) -> None:
        if not caller.left:
            self._send(caller, command, wire.mark_place(caller, command))

    def _talk(self, caller: Caller, command: commands.Talk) -> None:
        self._silence(caller)
        self._stop_music(caller, command)

    def _stop_music(self, caller: Caller, command: commands.Command) -> None:
        if not caller.left:
            self._send(caller, command, wire.stop_music(caller))

    def _hold(self, caller: Caller, command: commands.HoldCaller) -> None:
        if not caller.left:
            self._send(caller, command, wire.start_music(caller))

    def _join(self, caller: Caller, command: commands.JoinBridge) -> None:
        leg = caller.legs.get(command.leg)
        self._caller_into(caller, command, command.bridge)
        self._silence(caller)
        if leg is not None and not (leg.joined and leg.bridge == command.bridge):
            self._send(caller, command, wire.join(command.bridge, leg.id), partial(_joined, leg, command.bridge))

    def _caller_into(self, caller: Caller, command: commands.Command | None, bridge: str) -> None:
        if bridge not in caller.bridges:
            self._send(caller, command, wire.make_bridge(self._app, bridge))
            caller.bridges.add(bridge)
        if caller.bridge == bridge or caller.left:
            return
        if caller.playing:
            caller.joins = bridge
        else:
            self._join_caller(caller, bridge)

    def _join_caller(self, caller: Caller, bridge: str) -> None:
        caller.bridge, caller.joins = bridge, ""
        self.link.send(wire.join(bridge, caller.channel), partial(self._caller_joined, caller, bridge), caller.call)

    def _caller_joined(self, caller: Caller, bridge: str, answer: Answer) -> None:
        """A caller who cannot be joined cannot be connected: the legs that wait there end. Unless the line broke: then we look."""
        if isinstance(answer, AriRefused):
            self.link.fail(answer)
        elif isinstance(answer, AriError) and not isinstance(answer, AriLost):
            caller.bridge = ""
            log.warning("caller_not_joined", reason=str(answer))
            for leg in list(caller.legs.values()):
                if leg.bridge == bridge:
                    leg.ending = leg.ending or wire.TEMPORARY
                    self._order_end(caller, leg.id, wire.hang_up(leg.id, leg.ending))

    def _drop_bridge(self, caller: Caller, command: commands.DropBridge) -> None:
        if command.bridge not in caller.bridges:
            return
        if caller.joins == command.bridge:
            caller.joins = ""
        self._drops[command.bridge] = (caller.call, time.monotonic() + DROP_AFTER)
        self._drops_due(caller)

    def _drops_due(self, caller: Caller, now: float = 0.0) -> None:
        """Destroy the call's bridges that are to go, once their legs have left (or have had the time to)."""
        for bridge, (call, deadline) in list(self._drops.items()):
            if call != caller.call or (now < deadline and any(leg.bridge == bridge for leg in caller.legs.values())):
                continue
            del self._drops[bridge]
            if bridge in caller.bridges:
                caller.bridges.discard(bridge)
                if caller.bridge == bridge:
                    caller.bridge = ""
                self._send(caller, None, wire.drop_bridge(bridge))

    # ---- agents' legs --------------------------------------------------------------------------------------------------

    def _ring(self, caller: Caller, command: commands.RingAgent | commands.RingOutside) -> None:
        if command.leg in self.book.channels:
            return
        create = wire.create_leg(self._app, caller, command)
        if caller.deserted:
            self._answer_for_nothing(command)
            return
        self.book.add_leg(caller, command.leg, command.bridge, command.seconds)
        self._caller_into(caller, command, command.bridge)
        self._send(caller, command, create)

    def _ring_failed(
        self, caller: Caller, command: commands.RingAgent | commands.RingOutside, reason: str, answer: AriError | None
    ) -> None:
        leg = caller.legs.get(command.leg)
        if leg is None:
            if answer is None:
                log.warning("pbx_refused", command=type(command).__name__, reason=reason)
                self._post(events.LegEnded(command.call, command.leg, wire.UNREACHABLE))
            return
        if isinstance(answer, AriConflict):
            self._leg_entered(wire.LegEntered(leg.call, leg.id))
            return
        log.warning("leg_failed", reason=reason)
        cause = wire.UNREACHABLE if isinstance(answer, AriBroken | AriInvalid | AriNotFound) else wire.TEMPORARY
        leg.cause = cause
        self._order_end(caller, leg.id, wire.hang_up(leg.id, cause))
        self._take_all(self.book.leg_ended(leg, cause))

    def _leg_entered(self, event: wire.LegEntered) -> None:
        """The leg is there: join it to the caller, then let it ring; or end it, when nobody wants it any more."""
        caller = self.book.calls.get(event.call)
        leg = caller.legs.get(event.leg) if caller is not None else None
        if caller is None or leg is None:
            return
        if leg.ending or caller.deserted:
            leg.ending = leg.ending or wire.CANCELLED
            self._order_end(caller, leg.id, wire.hang_up(leg.id, leg.ending))
        elif leg.joined:
            self._dial(caller, leg)
        else:
            self.link.send(wire.join(leg.bridge, leg.id), partial(self._leg_step, caller, leg, self._dial_joined), caller.call)

    def _dial_joined(self, caller: Caller, leg: Leg) -> None:
        leg.joined = True
        self._dial(caller, leg)

    def _dial(self, caller: Caller, leg: Leg) -> None:
        if leg.state >= wire.DIALLED or leg.ending:
            return
        leg.state = wire.DIALLED
        self.link.send(wire.dial(caller, leg, leg.seconds or RING_AGAIN), partial(self._leg_step, caller, leg, None), caller.call)

    def _leg_step(self, caller: Caller, leg: Leg, then: Callable[[Caller, Leg], None] | None, answer: Answer) -> None:
        """A step of ringing was answered: take the next, or end the leg (its end then comes as an event)."""
        if leg.state == wire.ENDED:
            return
        if isinstance(answer, Reply):
            if then is not None:
                then(caller, leg)
        elif isinstance(answer, AriRefused):
            self.link.fail(answer)
        elif not isinstance(answer, AriLost):
            log.warning("leg_failed", reason=str(answer))
            leg.ending = leg.ending or wire.TEMPORARY
            self._order_end(caller, leg.id, wire.hang_up(leg.id, leg.ending))

    # ---- endings -------------------------------------------------------------------------------------------------------

    def _order_end(self, caller: Caller, channel: str, request: Request, command: commands.Command | None = None) -> None:
        """End a channel, or our hold on it. The order is kept until it was answered, and given again when the answer was lost."""
        self._endings[channel] = (caller.call, request, command)
        self.link.send(request, partial(self._end_settled, caller, channel), caller.call)

    def _end_settled(self, caller: Caller, channel: str, answer: Answer) -> None:
        if isinstance(answer, AriLost) or channel not in self._endings:
            return
        _, request, command = self._endings.pop(channel)
        known = self.book.channels.get(channel)
        if isinstance(answer, AriRefused):
            self.link.fail(answer)
        elif isinstance(answer, AriTimeout):
            self._order_end(caller, channel, request, command)
        elif isinstance(answer, AriNotFound | AriConflict) and isinstance(known, Leg):
            self._take_all(self.book.leg_ended(known, known.ending))
        elif isinstance(answer, AriNotFound | AriConflict) and isinstance(known, Caller):
            self._take_all(self.book.caller_left(known, 0))
        elif isinstance(answer, AriError) and command is not None:
            self._refused(caller, command, str(answer), answer)

    def _hang_up_leg(self, caller: Caller, command: commands.HangUpLeg) -> None:
        chain = self._chains.get(caller.call)
        for waiting in list(chain.queue) if chain is not None else ():
            if isinstance(waiting, commands.RingAgent | commands.RingOutside) and waiting.leg == command.leg and chain is not None:
                chain.queue.remove(waiting)
                self._post(events.LegEnded(command.call, command.leg, wire.CANCELLED))
                return
        leg = caller.legs.get(command.leg)
        if leg is not None:
            leg.ending = command.cause if leg.state == wire.UP else wire.CANCELLED
            self._order_end(caller, leg.id, wire.hang_up(leg.id, leg.ending))

    def _hang_up(self, caller: Caller, command: commands.HangUp) -> None:
        self._drop_chain(caller)
        if not caller.left:
            caller.cause = command.cause
            self._order_end(caller, caller.channel, wire.hang_up(caller.channel, command.cause), command)

    def _release(self, caller: Caller, command: commands.Release) -> None:
        requests = wire.release(caller, command)
        self._drop_chain(caller)
        self._when_quiet(caller, partial(self._let_go, caller, command, requests))

    def _let_go(self, caller: Caller, command: commands.Release, requests: list[Request]) -> None:
        for request in requests[:-1]:
            self._send(caller, command, request)
        self._order_end(caller, caller.channel, requests[-1], command)

    # ---- after a connect -------------------------------------------------------------------------------------------------

    def _on_up(self) -> None:
        self._buffer = []
        self._looking = asyncio.create_task(self._look())

    def _on_down(self, reason: str) -> None:
        self._buffer = None
        for task in (self._looking, self._cleaning):
            if task is not None:
                task.cancel()
        if self._told_up:
            self._told_up = False
            self._post(events.PbxLost(reason))

    async def _look(self) -> None:
        """See what there is, tell the core, and let the events through again; a failure gives this connection up."""
        try:
            await self.link.keep_filter(wire.event_filter(self._app))
            found = await self._snapshot()
        except AriRefused as error:
            self.link.fail(error)
            return
        except AriError as error:
            self.link.reconnect(f"could not look at Asterisk: {error}")
            return
        believed = self.book.live()
        happened = rec.reconcile([live for live in believed if live.call not in {a.call for a in found.arrivals}], found)
        happened = [await self._with_its_time(event) for event in happened]
        stray = rec.orphans(self.book.live(), found)
        self._told_up = True
        self._apply(found, happened)
        buffered, self._buffer = self._buffer or [], None
        for message in buffered:
            self._on_event(message)
        if any(stray):
            self._cleaning = asyncio.create_task(self._clean(*stray))

    async def _with_its_time(self, event: events.Event) -> events.Event:
        """An answer that was found, with the time at which it came, where Asterisk tells."""
        if not isinstance(event, events.LegAnswered):
            return event
        try:
            told = await self.link.request(wire.answered_at(event.leg))
        except AriError:
            return event  # the leg has gone, of which there will be an event, or the line has, and everything is looked at again
        return replace(event, at=wire.read_answered_at(told.body))

    async def _snapshot(self) -> rec.Snapshot:
        info = await self.link.request_http(Request("GET", "asterisk/info", (("only", "status"),)))
        startup = rec.startup_seconds(info.body)
        if self._fresh:
            for live in self._view():
                self.book.adopt(live)
            self._fresh = False
        restarted = startup != self._startup if self._startup else rec.older_than(self.book.live(), startup)
        listed = (await self.link.request_http(Request("GET", "channels"), LIST_WITHIN)).body
        await self._subscribe([each for each, found in rec.read_channels(self._app, listed).items() if found.ours])
        listed = (await self.link.request_http(Request("GET", "channels"), LIST_WITHIN)).body
        bridges = (await self.link.request_http(Request("GET", "bridges"), LIST_WITHIN)).body
        playing = await self._still_playing(sorted(self.book.playbacks))
        recordings = {each: await self._state_of_recording(each) for each in sorted(self.book.recordings)}
        channels = rec.read_channels(self._app, listed)
        arrivals = self._missed(channels, listed)
        self._startup = startup
        return rec.Snapshot(restarted, channels, rec.read_bridges(self._app, bridges), playing, arrivals, recordings)

    async def _subscribe(self, channels: list[str]) -> None:
        for i in range(0, len(channels), SUBSCRIBE_AT_ONCE):
            some = channels[i : i + SUBSCRIBE_AT_ONCE]
            try:
                await self.link.request_http(wire.subscribe(self._app, some))
            except (AriInvalid, AriNotFound):
                for one in some:
                    with contextlib.suppress(AriInvalid, AriNotFound):
                        await self.link.request_http(wire.subscribe(self._app, [one]))

    async def _state_of_recording(self, recording: str) -> str:
        """`live`, `stored`, or "" for one that is not there."""
        for where in ("live", "stored"):
            with contextlib.suppress(AriNotFound):
                await self.link.request(wire.look_at_recording(recording, where))
                return where
        return ""

    async def _still_playing(self, playbacks: list[str]) -> frozenset[str]:
        """Those of the playbacks that are alive. All are asked after at once: the line keeps them in order."""
        answers = await asyncio.gather(*(self.link.request(wire.look_at_playback(each)) for each in playbacks), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, AriNotFound):
                raise answer
        return frozenset(each for each, answer in zip(playbacks, answers, strict=True) if isinstance(answer, Reply))

    def _missed(self, channels: dict[str, rec.Found], listed: Any) -> tuple[events.CallArrived, ...]:
        """Callers in our application of whom nobody knows."""
        return tuple(
            wire.arrival(self.book, channel, channels[channel["id"]].args)
            for channel in listed
            if (found := channels.get(channel.get("id", ""))) is not None
            and found.ours
            and channel["id"] not in self.book.channels
            and not wire.LEG.fullmatch(channel["id"])
        )

    def _apply(self, found: rec.Snapshot, happened: list[events.Event]) -> None:
        """Bring the book to what was found, and post what the core missed."""
        for caller in self.book.calls.values():
            caller.bridge = found.where.get(caller.channel, "")
            caller.bridges.update(each for each in found.bridges if each.startswith(caller.call))
            for leg in caller.legs.values():
                leg.joined = leg.id in found.bridges.get(leg.bridge, ())
        for event in happened:
            self._note(event)
            self._post(event)
            if isinstance(event, events.CallerLeft | events.LegEnded):
                self._something_left(event.call)
            elif isinstance(event, events.PlaybackEnded):
                self._prompt_over(event)
        for caller in list(self.book.calls.values()):
            for leg in list(caller.legs.values()):
                self._ring_on(caller, leg, found.channels.get(leg.id))
        for channel, (call, request, command) in list(self._endings.items()):
            if channel in found.channels and call in self.book.calls:
                self._order_end(self.book.calls[call], channel, request, command)
            else:
                del self._endings[channel]

    def _note(self, event: events.Event) -> None:
        """Let the book know what reconciliation inferred."""
        if isinstance(event, events.CallerLeft):
            caller = self.book.calls[event.call]
            self.book.caller_left(caller, event.cause)
            self.book.channels.pop(caller.channel, None)
            caller.gone = True
        elif isinstance(event, events.LegEnded):
            self.book.leg_ended(self.book.calls[event.call].legs[event.leg], event.cause)
        elif isinstance(event, events.LegAnswered | events.LegRinging):
            leg = self.book.calls[event.call].legs[event.leg]
            leg.state = wire.UP if isinstance(event, events.LegAnswered) else wire.RINGING
            leg.rang = True
        elif isinstance(event, events.PlaybackEnded):
            self.book.playback_ended(event.playback, event.ok)
        elif isinstance(event, events.RecordingEnded):
            self.book.recording_ended(event.recording)
        elif isinstance(event, events.CallFound):
            self.book.calls[event.call].up = event.up

    def _ring_on(self, caller: Caller, leg: Leg, channel: rec.Found | None) -> None:
        """A leg that was not answered when the line broke: take it up where it was left. Nobody waits for that of a caller who left."""
        if channel is None:
            return
        if caller.deserted:
            leg.ending = leg.ending or (wire.NORMAL if leg.state == wire.UP else wire.CANCELLED)
            self._order_end(caller, leg.id, wire.hang_up(leg.id, leg.ending))
        if caller.deserted or leg.state == wire.UP:
            return
        self._caller_into(caller, None, leg.bridge)
        if leg.state < wire.RINGING and channel.dialled:
            leg.state = wire.DIALLED
        elif leg.state < wire.RINGING:
            leg.state = wire.ENTERED
            self._leg_entered(wire.LegEntered(leg.call, leg.id))

    async def _clean(self, legs: list[str], bridges: list[str]) -> None:
        """Remove what belongs to no call: channels before bridges, one by one, slowly."""
        log.info("pbx_cleaning", legs=len(legs), bridges=len(bridges))
        for request in [wire.hang_up(leg, wire.NORMAL) for leg in legs] + [wire.drop_bridge(bridge) for bridge in bridges]:
            with contextlib.suppress(AriError):
                await self.link.request(request)
            await asyncio.sleep(CLEAN_EVERY)

    # ---- now and then ------------------------------------------------------------------------------------------------------

    async def _rounds(self) -> None:
        while True:
            await asyncio.sleep(ROUND_EVERY)
            now = time.monotonic()
            self._overdue(now)
            if self._told_up:
                self._look_at_playbacks(now)

    def _overdue(self, now: float) -> None:
        """Let go of what Asterisk should have told us about, and did not."""
        for call in {call for call, _ in self._drops.values()}:
            if (caller := self.book.calls.get(call)) is not None:
                self._drops_due(caller, now)
        for call, deadline in list(self._leaving.items()):
            if now >= deadline and (caller := self.book.calls.get(call)) is not None:
                del self._leaving[call]
                caller.gone = True
                self._something_left(call)

    def _look_at_playbacks(self, now: float) -> None:
        """Ask after playbacks that take long: the end of one may never be told."""
        self._looked = {each: at for each, at in self._looked.items() if each in self.book.playbacks}
        for playback, at in self._looked.items():
            if now - at > LOOK_AFTER:
                self._looked[playback] = now
                self.link.send(wire.look_at_playback(playback), partial(self._looked_at, playback))

    def _looked_at(self, playback: str, answer: Answer) -> None:
        if isinstance(answer, AriNotFound):
            self._take_all(self.book.playback_ended(playback, True))

    def _some_channel(self) -> str:
        return next((caller.channel for caller in self.book.calls.values() if not caller.left), "")


def _gone_is_success(request: Request, answer: AriError) -> bool:
    """The one rule for what has gone: it need not be ended, and a bridge that is there need not be made."""
    if request.method == "DELETE":
        return isinstance(answer, AriNotFound | AriConflict)
    return isinstance(answer, AriConflict) and request.path.startswith("bridges/") and request.path.count("/") == 1


def _joined(leg: Leg, bridge: str) -> None:
    leg.joined, leg.bridge = True, bridge


def _played(pbx: Pbx, caller: Caller, command: commands.Play, media: tuple[str, ...]) -> None:
    pbx._play_now(caller, command, media)


def _waiting_play(chain: _Chain, playback: str) -> commands.Play | None:
    return next((each for each in chain.queue if isinstance(each, commands.Play) and each.playback == playback), None)


def _ref(command: commands.Command) -> str:
    return str(next(filter(None, (getattr(command, name, "") for name in ("leg", "playback", "recording", "bridge"))), ""))


ENDINGS: dict[type[commands.Command], Carry] = {
    commands.StopPlay: Pbx._stop_play,
    commands.HangUpLeg: Pbx._hang_up_leg,
    commands.HangUp: Pbx._hang_up,
    commands.Release: Pbx._release,
}
CARRY: dict[type[commands.Command], Carry] = {
    commands.Answer: Pbx._answer,
    commands.Play: Pbx._play,
    commands.StartRecord: Pbx._record,
    commands.StopRecord: Pbx._stop_record,
    commands.StartMusic: Pbx._start_music,
    commands.StopMusic: Pbx._stop_music,
    commands.MarkPlace: Pbx._mark_place,
    commands.RingAgent: Pbx._ring,
    commands.RingOutside: Pbx._ring,
    commands.JoinBridge: Pbx._join,
    commands.Talk: Pbx._talk,
    commands.HoldCaller: Pbx._hold,
    commands.ResumeCaller: Pbx._stop_music,
    commands.DropBridge: Pbx._drop_bridge,
    **ENDINGS,
}
