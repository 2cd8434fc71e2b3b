"""The shelf: recordings of ours as files, brought from Asterisk when a flow keeps one or a mail takes one along.

A recording is written here whole or not at all. It leaves the shelf, and Asterisk, when somebody drops it (a message that a mail server has
taken), and the shelf also when it is older than recordings are kept. One that a crash left in Asterisk is brought here a while later.
"""

from __future__ import annotations

import array
import asyncio
import io
import os
import re
import time
import wave
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

import structlog

from app.core.commands import Command, DropRecording, KeepRecording
from app.core.events import Event, RecordingKept, RecordingLost

log = structlog.get_logger()

_NAME: Final = re.compile(r"[0-9a-f]{32}-rc\d{1,9}")
DAY: Final = 86_400.0
LOUD: Final = 200
"""Mean amplitude, of 32,767, above which a fiftieth of a second is no silence."""


def seconds_of_sound(content: bytes) -> float:
    """How much of a WAV file (16 bit, mono) is no silence; 0.0 for what is no such file."""
    try:
        with wave.open(io.BytesIO(content)) as file:
            rate: int = file.getframerate()
            samples: array.array[int] = array.array("h", file.readframes(file.getnframes()))
    except (wave.Error, EOFError, ValueError):
        return 0.0
    frame, loud = max(1, rate // 50), 0
    for at in range(0, len(samples), frame):
        some = samples[at : at + frame : 4]
        loud += int(sum(map(abs, some)) > LOUD * len(some))
    return round(loud * frame / rate, 2)


class NotThere(OSError):
    """A recording is neither here nor to be had from Asterisk; the text is the reason, as in `RecordingLost`."""


class Shelf:
    """The adapter of `KeepRecording` and `DropRecording`; use within a running loop.

    `fetch` gives a finished recording's bytes from Asterisk and `forget` deletes it there; what they raise means that they could not.
    """

    def __init__(
        self,
        directory: Path,
        post: Callable[[Event], None],
        fetch: Callable[[str], Awaitable[bytes]],
        forget: Callable[[str], Awaitable[None]],
    ) -> None:
        self._directory, self._post, self._fetch, self._forget = directory, post, fetch, forget
        self._tasks: set[asyncio.Task[None]] = set()

    def handles(self, command: Command) -> bool:
        """Whether the command is one of ours."""
        return isinstance(command, KeepRecording | DropRecording)

    def carry_out(self, command: KeepRecording | DropRecording) -> None:
        """Begin; returns at once. What comes of a `KeepRecording` comes through `post`."""
        work = self._keep(command) if isinstance(command, KeepRecording) else self._drop(command.recording)
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Drop what is under way, without events."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def read(self, name: str) -> bytes:
        """A recording's WAV file, from here or else from Asterisk (and from then on here too); raises `NotThere`."""
        path = self._path(name)
        if path.exists():
            return path.read_bytes()
        try:
            content = await self._fetch(name)
        except Exception as error:
            log.warning("recording_not_fetched", recording=name, error=type(error).__name__)
            raise NotThere("missing" if getattr(error, "status", 0) == 404 else "unreachable") from None
        try:
            self._write(path, content)
        except OSError as error:
            log.warning("recording_not_written", recording=name, reason=error.strerror)
            raise NotThere("disk") from None
        return content

    async def tidy(self, days: float, strays: Callable[[], Awaitable[list[str]]]) -> int:
        """Take over what a crash left in Asterisk (`strays` names it), and delete what is older than so many days; how many that were."""
        try:
            for name in await strays():
                await self.read(name)
                await self._forget_there(name)
        except Exception as error:
            log.warning("recordings_stay_in_asterisk", error=type(error).__name__)
        return self.prune(days)

    def prune(self, days: float) -> int:
        """Delete what is older than so many days; how many there were."""
        limit, gone = time.time() - days * DAY, 0
        for path in self._directory.glob("*.wav") if self._directory.exists() else ():
            if path.stat().st_mtime < limit:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    async def _keep(self, command: KeepRecording) -> None:
        try:
            voiced = await asyncio.to_thread(seconds_of_sound, await self.read(command.recording))
        except NotThere as error:
            self._post(RecordingLost(command.call, command.request, str(error)))
            return
        if command.move:
            await self._forget_there(command.recording)
        self._post(RecordingKept(command.call, command.request, voiced))

    async def _drop(self, name: str) -> None:
        self._path(name).unlink(missing_ok=True)
        await self._forget_there(name)

    async def _forget_there(self, name: str) -> None:
        try:
            await self._forget(name)
        except Exception as error:
            log.warning("recording_stays_in_asterisk", recording=name, error=type(error).__name__)

    def _write(self, path: Path, content: bytes) -> None:
        self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        partial = path.with_suffix(".partial")
        with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(path)

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise NotThere("missing")
        return self._directory / f"{name}.wav"
