"""A menu that callers may speak to: `python -m app.demo.bots.voice_menu PORT`, from `pip install callwright[voice]`. In English.

The step's `with` is the menu: each name has a key, phrases, or both, as in `invoice: "2, invoice, my bill"`. The prompt is the flow's own.
What the caller says or presses is written as `ivr.choice`, and the step is left by `done`. Who says nothing leaves by `no_input`, and who
says or presses anything else by `no_match`: these two must be among the step's `answers`. A menu that is wrong leaves by `failed`.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import sys
from collections.abc import Mapping
from concurrent.futures import BrokenExecutor, Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

from aiohttp import web

from app.demo.bots import hearing
from app.demo.bots.echo import Say, application

SILENCE = 5.0
"""Seconds in which a caller has to begin."""
LONGEST = 4.0
"""Seconds that a caller may speak."""
_PHRASE = re.compile(r"[a-z']+( [a-z']+)*")


class Menu:
    """What may be said or pressed. Raises `ValueError`."""

    def __init__(self, written: Mapping[str, str]) -> None:
        self.keys: dict[str, str] = {}
        self.phrases: dict[str, str] = {}
        for name, means in written.items():
            for part in (each.strip().lower() for each in means.split(",")):
                kind = self.keys if len(part) == 1 and part in "0123456789*#" else self.phrases
                if kind is self.phrases and not _PHRASE.fullmatch(part):
                    raise ValueError(f"{name}: expected a key or words, found {part[:40]!r}")
                if kind.setdefault(part, name) != name:
                    raise ValueError(f"{part!r} means both {kind[part]} and {name}")
        if not self.phrases:
            raise ValueError("there is nothing to say in this menu")


class VoiceMenu:
    """One call. `ears` is where sound is recognised: other processes, because while this one thinks it answers nobody."""

    def __init__(self, say: Say, ears: Executor) -> None:
        self._say, self._ears = say, ears
        self._listening = hearing.Listening()
        self._menu: Menu | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._checking: asyncio.Task[None] | None = None
        self._thinking: asyncio.Task[None] | None = None

    def told(self, message: dict[str, Any]) -> None:
        """The menu, or a key."""
        if message.get("type") == "start":
            self._begin(message.get("with", {}))
        elif message.get("type") == "key" and self._menu:
            self._choose(self._menu.keys.get(message.get("digit", ""), ""))
        elif message.get("type") == "end":
            self._over()

    def heard(self, sound: bytes) -> None:
        """Until something was said."""
        if self._menu and not self._thinking:
            began = self._listening.begun
            said = self._listening.feed(sound)
            if said:
                self._think(said)
            elif self._listening.begun and not began:
                self._wait(LONGEST)

    def _begin(self, written: Mapping[str, str]) -> None:
        try:
            self._menu = Menu(written)
        except ValueError as error:
            self._fail(str(error))
        else:
            self._wait(SILENCE)
            self._checking = asyncio.create_task(self._recognise(b"", self._menu.phrases))

    def _wait(self, seconds: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(seconds, self._late)

    def _late(self) -> None:
        if self._listening.begun:
            self._think(self._listening.said())
        else:
            self._leave("no_input")

    def _think(self, said: bytes) -> None:
        if self._timer:
            self._timer.cancel()
        if self._menu:
            self._thinking = asyncio.create_task(self._recognise(said, self._menu.phrases))

    async def _recognise(self, said: bytes, phrases: Mapping[str, str]) -> None:
        """Choose by what was said; without it, only see whether every word is known."""
        try:
            phrase = await asyncio.get_running_loop().run_in_executor(self._ears, hearing.hear, said, tuple(phrases))
        except (ValueError, BrokenExecutor) as error:
            if self._menu:
                self._fail(str(error))
        else:
            if said and self._menu:
                self._choose(phrases.get(phrase, ""))

    def _choose(self, name: str) -> None:
        if name:
            self._say({"type": "set", "values": {"ivr.choice": name}})
        self._leave("done" if name else "no_match")

    def _fail(self, why: str) -> None:
        print(f"voice menu: {why}", file=sys.stderr)
        self._leave("failed")

    def _leave(self, exit_: str) -> None:
        self._say({"type": "done", "exit": exit_})
        self._over()

    def _over(self) -> None:
        self._menu = None
        if self._timer:
            self._timer.cancel()


def serve(ears: Executor) -> web.Application:
    """The server of this bot."""
    return application(lambda say: VoiceMenu(say, ears))


def main() -> None:
    """Serve on 127.0.0.1, on the port that the command line names."""
    parser = argparse.ArgumentParser(description="A menu that callers may speak to.")
    parser.add_argument("port", type=int)
    parser.add_argument("--recognisers", type=int, default=1, help="how many callers are understood at the same moment (default: 1)")
    given = parser.parse_args()
    with ProcessPoolExecutor(given.recognisers, get_context("spawn")) as ears:
        for ready in [ears.submit(hearing.hear, b"", ()) for _ in range(given.recognisers)]:
            ready.result()
        web.run_app(serve(ears), host="127.0.0.1", port=given.port, print=None)


if __name__ == "__main__":
    main()
