"""The shelf: recordings of ours as files, brought from Asterisk when a flow keeps one or a mail takes one along.

A recording is written here whole or not at all, and sealed: it is read with its call's own key, and by nobody once the call is forgotten.
It leaves the shelf, and Asterisk, when somebody drops it (a message that a mail server has taken) and when its call is forgotten, and the
shelf also when it is older than recordings are kept. One that a crash left in Asterisk is brought here as soon as that is there again.
"""

from __future__ import annotations

import array
import asyncio
import io
import os
import re
import secrets
import time
import wave
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Final, Protocol

import structlog

from app.core.commands import Command, DropRecording, KeepRecording
from app.core.events import Event, RecordingKept, RecordingLost

log = structlog.get_logger()

_NAME: Final = re.compile(r"([0-9a-f]{32})-rc\d{1,9}")
SEALED, PARTIAL, PLAIN = ".sealed", ".partial", ".wav"
"""Endings of files: of a recording, of one that is being written, and of one from before they were sealed."""
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


class Locks(Protocol):
    """Whoever has the calls' keys. What these raise means that they could not."""

    async def seal(self, call: str, place: str, plain: bytes) -> bytes:
        """The bytes as only `unseal` reads them, for the same call and place."""

    async def unseal(self, call: str, place: str, sealed: bytes) -> bytes:
        """What `seal` was given."""

    async def forgotten(self, calls: Collection[str]) -> set[str]:
        """Which of these calls were forgotten."""


class Shelf:
    """The adapter of `KeepRecording` and `DropRecording`; use within a running loop.

    `fetch` gives a finished recording's bytes from Asterisk, `forget` deletes it there, and `strays` names those that it has of calls that
    it does not have any more; what they raise means that they could not.
    """

    def __init__(
        self,
        directory: Path,
        post: Callable[[Event], None],
        fetch: Callable[[str], Awaitable[bytes]],
        forget: Callable[[str], Awaitable[None]],
        strays: Callable[[], Awaitable[list[str]]],
        locks: Locks,
    ) -> None:
        self._directory, self._post, self._locks = directory, post, locks
        self._fetch, self._forget, self._strays = fetch, forget, strays
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
            try:
                return await self._locks.unseal(_call(name), _place(name), path.read_bytes())
            except Exception as error:
                log.warning("recording_not_opened", recording=name, error=type(error).__name__)
                raise NotThere("missing") from None
        try:
            content = await self._fetch(name)
        except Exception as error:
            log.warning("recording_not_fetched", recording=name, error=type(error).__name__)
            raise NotThere("missing" if getattr(error, "status", 0) == 404 else "unreachable") from None
        await self._put(name, content)
        return content

    def calls(self) -> set[str]:
        """The calls of which there are recordings here."""
        return {_call(path.stem) for path in self._files()}

    async def begin(self) -> None:
        """What an earlier process left half done, before this one begins: nothing that is not sealed stays."""
        for path in self._files(PARTIAL):
            path.unlink(missing_ok=True)
        for path in self._files(PLAIN):
            try:
                await self._put(path.stem, path.read_bytes(), path.stat().st_mtime)
            except NotThere:
                if not await self._locks.forgotten({_call(path.stem)}):
                    continue  # where nothing can be written, it is tried again at the next start
            path.unlink()

    async def tidy(self, days: float) -> int:
        """Take over what a crash left in Asterisk, and delete what is older than so many days; how many that were."""
        try:
            strays = await self._strays()
            forgotten = await self._locks.forgotten({_call(name) for name in strays})
            for name in strays:
                if _call(name) not in forgotten:
                    await self.read(name)
                await self._forget_there(name)
        except Exception as error:
            log.warning("recordings_stay_in_asterisk", error=type(error).__name__)
        return await self.prune(days)

    async def prune(self, days: float) -> int:
        """Delete what is older than so many days, or of a forgotten call; how many there were."""
        limit, gone = time.time() - days * DAY, 0
        forgotten = await self._locks.forgotten(self.calls())
        for path in self._files():
            if path.stat().st_mtime < limit or _call(path.stem) in forgotten:
                path.unlink(missing_ok=True)
                gone += 1
        return gone

    async def drop_calls(self, calls: Collection[str]) -> tuple[int, bool]:
        """Delete all recordings of these calls; how many there were, and whether those in Asterisk could be looked for and deleted."""
        there, sure = set[str](), True
        try:
            there = {name for name in await self._strays() if _call(name) in calls}
            for name in there:
                await self._forget(name)
        except Exception as error:
            log.warning("recordings_stay_in_asterisk", error=type(error).__name__)
            sure = False
        here = [path for path in self._files() if _call(path.stem) in calls]
        for path in here:
            path.unlink(missing_ok=True)
        return len(there | {path.stem for path in here}), sure

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

    async def _put(self, name: str, content: bytes, at: float | None = None) -> None:
        """Seal and write; raises `NotThere`. `at` is the time that the file bears."""
        path = self._path(name)
        try:
            sealed = await self._locks.seal(_call(name), _place(name), content)
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            partial = path.with_name(f"{name}.{secrets.token_hex(4)}{PARTIAL}")
            with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as out:
                out.write(sealed)
                out.flush()
                os.fsync(out.fileno())
            if at is not None:
                os.utime(partial, (at, at))
            partial.replace(path)
        except Exception as error:
            log.warning("recording_not_written", recording=name, reason=getattr(error, "strerror", None) or type(error).__name__)
            raise NotThere("disk") from None

    def _files(self, ending: str = SEALED) -> list[Path]:
        found = self._directory.glob(f"*{ending}") if self._directory.is_dir() else ()
        return [path for path in found if ending == PARTIAL or _NAME.fullmatch(path.stem)]

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise NotThere("missing")
        return self._directory / f"{name}{SEALED}"


def _call(name: str) -> str:
    """The call of a recording of ours."""
    return name.partition("-")[0]


def _place(name: str) -> str:
    """What a recording is sealed for."""
    return f"recording:{name}"
