"""Recordings of callers in Asterisk: made, looked for, fetched and dropped."""

from __future__ import annotations

import asyncio
import contextlib
from functools import partial

import structlog

from app.core import commands
from app.pbx import requests
from app.pbx.ari import Answer, AriConflict, AriError, AriLost, AriNotFound, AriTimeout, Request
from app.pbx.book import RECORDING, Caller
from app.pbx.orders import LIST_WITHIN, Orders

log = structlog.get_logger(__name__)

LIVE_AGAIN, LIVE_LOOKS = 0.1, 30  # how often, in seconds, a recording that just ends is looked at, and how many times


class Recordings:
    """What is recorded of callers, and what Asterisk has stored of it."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def _over(self, name: str) -> None:
        """Wait for one that is just ending."""
        for _ in range(LIVE_LOOKS):
            try:
                await self._orders.link.request(requests.look_at_recording(name, "live"))
            except AriNotFound:
                break
            await asyncio.sleep(LIVE_AGAIN)

    async def fetch(self, name: str) -> bytes:
        """A finished recording as a WAV file; one that is just ending is waited for. Raises `AriError`."""
        await self._over(name)
        return await self._orders.link.fetch(requests.recording_file(name), LIST_WITHIN)

    async def stray(self) -> list[str]:
        """Recordings of ours that Asterisk has stored and that belong to no call it has. Raises `AriError`."""
        stored = (await self._orders.link.request_http(requests.stored_recordings(), LIST_WITHIN)).body
        names = [str(each.get("name", "")) for each in stored if isinstance(each, dict)]
        return [name for name in names if (made := RECORDING.fullmatch(name)) and made[1] not in self._orders.book.calls]

    async def drop(self, name: str) -> None:
        """Delete a recording; one that is just ending is waited for, and one that has gone is silence. Raises `AriError`."""
        await self._over(name)
        with contextlib.suppress(AriNotFound):
            await self._orders.link.request(requests.drop_recording(name))

    def record(self, caller: Caller, command: commands.StartRecord) -> None:
        """Record the caller once nothing plays."""
        request = requests.start_record(caller, command)
        if caller.left:
            self._orders.answer_for_nothing(command)
        elif command.recording not in self._orders.book.recordings:
            self._orders.book.add_recording(caller, command.recording)
            caller.begins = command.recording
            self._orders.when_quiet(caller, partial(self._record_now, caller, command, request))

    def _record_now(self, caller: Caller, command: commands.StartRecord, request: Request) -> None:
        """A channel in a bridge cannot be recorded: a caller whom nobody talks to leaves it first."""
        if caller.begins != command.recording:
            return
        caller.begins = ""
        caller.joins = ""
        if caller.bridge:
            self._orders.send(caller, None, requests.leave(caller.bridge, caller.channel))
            caller.bridge = ""
        self._orders.send(caller, command, request)

    def refused(self, caller: Caller, command: commands.StartRecord, reason: str, answer: AriError | None) -> None:
        """A recording was refused, unless it is one that was asked for twice and is under way."""
        if isinstance(answer, AriLost):
            return  # it is looked for when the line is back
        if isinstance(answer, AriConflict | AriTimeout):
            self._orders.link.send(requests.look_at_recording(command.recording, "live"), partial(self._looked_for, command), caller.call)
            return
        log.warning("pbx_refused", command="StartRecord", reason=reason)
        self._orders.take_all(self._orders.book.recording_ended(command.recording, "failed"))

    def _looked_for(self, command: commands.StartRecord, answer: Answer) -> None:
        if isinstance(answer, AriError) and not isinstance(answer, AriLost):
            log.warning("pbx_refused", command="StartRecord", reason=str(answer))
            self._orders.take_all(self._orders.book.recording_ended(command.recording, "failed"))

    def stop(self, caller: Caller, command: commands.StopRecord) -> None:
        """End a recording; one that has not begun never will."""
        if caller.begins == command.recording:
            caller.begins = ""
            self._orders.take_all(self._orders.book.recording_ended(command.recording, "never_was"))
        elif command.recording in self._orders.book.recordings:
            self._orders.send(caller, command, requests.stop_record(command.recording))
