"""Text to recordings that the PBX plays: rendered by an engine, made fit for the telephone, kept by what they say.

An engine turns text into a WAV of any rate; espeak-ng is the one we ship. `sox` then makes of it what a telephone carries:
mono 16 bit at 8 kHz (or 16 kHz for wide-band phones), rumble cut off, speech at an even level just under full scale, silence at both
ends trimmed. A recording is named by a hash of everything that makes it, is written under another name and renamed, so it is either
whole or absent, and is never made twice: who asks while it is being made waits for the same rendering. Two at most are made at once.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Final, Literal, Protocol, TypeAlias

import structlog

log = structlog.get_logger()

Format: TypeAlias = Literal["wav", "wav16"]

RATES: Final[dict[Format, int]] = {"wav": 8000, "wav16": 16000}
MAX_TEXT: Final = 2000
SECONDS: Final = 15.0
AT_ONCE: Final = 2
_UNSPEAKABLE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\[\]<>]+")
_SHAPE: Final = "1"


class SpeechFailed(Exception):
    """The text could not be made into a recording; the message holds none of the text."""


class Engine(Protocol):
    """What turns text into sound. `name` stands for the engine and its version: another name, other recordings."""

    @property
    def name(self) -> str:
        """Engine and settings that change the sound."""

    def voice(self, language: str) -> str:
        """The voice for a language such as `de` or `de-AT`; raises `SpeechFailed` when there is none."""

    async def synthesize(self, text: str, voice: str) -> bytes:
        """A WAV file of the spoken text, at any rate; raises `SpeechFailed`."""


class Espeak:
    """espeak-ng as a process of its own for each text. `rate` in words a minute.

    Its variant f2 is the one that a recogniser understands best through 8 kHz: all the phrases that the plain voice loses.
    """

    VOICES: Final = {"en": "en-us+f2", "de": "de+f2", "es": "es+f2"}

    def __init__(self, rate: int = 150) -> None:
        self._rate = rate
        self._program = _program("espeak-ng")

    @property
    def name(self) -> str:
        """Engine and settings that change the sound."""
        return f"espeak-ng/{self._rate}"

    def voice(self, language: str) -> str:
        """The voice of a language, by its first part."""
        voice = self.VOICES.get(language.partition("-")[0].partition("_")[0].lower())
        if voice is None:
            raise SpeechFailed(f"there is no voice for {language!r}; there are: {', '.join(self.VOICES)}")
        return voice

    async def synthesize(self, text: str, voice: str) -> bytes:
        """The text through standard input, so that no process list shows it and no text is taken for an option."""
        options = f"-v {voice} -s {self._rate} -b 1 --stdin --stdout"
        return await _filter([self._program, *options.split()], text.encode())


class Speech:
    """Recordings of texts under one directory. Raises `SpeechFailed` at once when `sox` is not installed."""

    def __init__(self, engine: Engine, directory: Path, form: Format = "wav") -> None:
        self._engine, self._directory, self._form = engine, directory.resolve(), form
        self._sox = _program("sox")
        self._making: dict[Path, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(AT_ONCE)
        directory.mkdir(parents=True, exist_ok=True)

    async def render(self, text: str, language: str) -> Path:
        """The recording of a text, made now unless it is there; raises `SpeechFailed`."""
        spoken = speakable(text)
        voice = self._engine.voice(language)
        path = self._path(spoken, voice)
        if not path.exists():
            await self._make_once(path, spoken, voice)
        return path

    def drop(self, text: str, language: str) -> bool:
        """Delete the recording of a text; whether there was one."""
        try:
            path = self._path(speakable(text), self._engine.voice(language))
        except SpeechFailed:
            return False
        there = path.exists()
        path.unlink(missing_ok=True)
        return there

    async def warm(self, texts: Iterable[tuple[str, str]]) -> int:
        """Make the recordings of (text, language) pairs ahead of any call; how many there are. Raises `SpeechFailed` when one fails."""
        made = await asyncio.gather(*(self.render(text, language) for text, language in texts), return_exceptions=True)
        for outcome in made:
            if isinstance(outcome, BaseException):
                raise outcome
        return len(made)

    async def close(self) -> None:
        """Give up what is being made."""
        tasks = list(self._making.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _path(self, text: str, voice: str) -> Path:
        what = "\0".join((self._engine.name, _SHAPE, voice, self._form, text))
        return self._directory / f"{hashlib.blake2b(what.encode(), digest_size=16).hexdigest()}.{self._form}"

    async def _make_once(self, path: Path, text: str, voice: str) -> None:
        task = self._making.get(path)
        if task is None:
            task = asyncio.get_running_loop().create_task(self._make(path, text, voice))
            self._making[path] = task
            task.add_done_callback(lambda _: self._making.pop(path, None))
        await asyncio.shield(task)

    async def _make(self, path: Path, text: str, voice: str) -> None:
        async with self._slots:
            raw = await self._engine.synthesize(text, voice)
            if len(raw) <= 44:
                raise SpeechFailed(f"{self._engine.name} made no sound")
            partial = path.with_name(f".{path.name}.{os.getpid()}")
            try:
                await _filter(self._shaping(partial), raw)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)

    def _shaping(self, target: Path) -> list[str]:
        """The command that makes of any WAV what the telephone carries; an even level first, then the peak just under full scale."""
        rate = RATES[self._form]
        form = f"-t wav -r {rate} -c 1 -b 16 -e signed-integer".split()
        telephone = f"highpass 150 rate -h {rate}".split()
        trim = ["silence", "1", "0.01", "0.5%", "fade", "0.005", "reverse", "silence", "1", "0.01", "0.5%", "fade", "0.01", "reverse"]
        level = ["compand", "0.005,0.15", "6:-60,-50,-30,-18,-18,-10,0,-5", "0", "-30", "0.01", "norm", "-2", "pad", "0.02", "0.06"]
        return [self._sox, "-V1", "-G", "-t", "wav", "-", *form, str(target), *telephone, *trim, *level]


def speakable(text: str) -> str:
    """The text in one line without what an engine takes for markup; raises `SpeechFailed` when nothing or too much is left."""
    plain = " ".join(_UNSPEAKABLE.sub(" ", text).split())
    if not plain:
        raise SpeechFailed("there is nothing to say")
    if len(plain) > MAX_TEXT:
        raise SpeechFailed(f"a text of {len(plain)} characters; {MAX_TEXT} are allowed")
    return plain


def _program(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise SpeechFailed(f"{name} is not installed; on Debian: apt-get install {name}")
    return path


async def _filter(command: list[str], data: bytes) -> bytes:
    """Run a program over the data, for at most `SECONDS`; raises `SpeechFailed`."""
    name = Path(command[0]).name
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(SECONDS):
            output, errors = await process.communicate(data)
    except TimeoutError as error:
        raise SpeechFailed(f"{name} took more than {SECONDS:g} s") from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        log.warning("speech_failed", program=name, status=process.returncode, said=errors[-200:].decode(errors="replace"))
        raise SpeechFailed(f"{name} ended with status {process.returncode}")
    return output
