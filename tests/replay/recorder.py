"""The application with a recorder in it: `python -m tests.replay.recorder run --config FILE`, everything else as ever.

It writes down, in the order in which it happened in the process, what passes between the adapter and Asterisk, and what the core made
of it; the variable `CALLWRIGHT_RECORDING` names the file. A file that is there already is continued: an application that was killed
and started again is one recording. Each line is a JSON object with `at`, seconds since this process began to serve, and one of

    start, view     this process begins to serve; the calls that an earlier one left
    up, down        the event socket is there; is lost, and why
    event           an event of Asterisk, as it came
    ask, answer     a request of ours, numbered, over either way; what came of it: a status and a body, or an `error` of ours
    order           a command that the adapter is given
    rendered        the words of a prompt have become a recording
    mint            the adapter made an id
    handled, did    an event that the core has handled, at `now`; the facts that came of it

The health probe's requests are left out, and those of whoever keeps finished recordings, who looks for strays now and then. Ids are made
to be read: they begin with what the recording's name amounts to, and count.
"""

from __future__ import annotations

import itertools
import os
import time
import zlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import orjson

from app.core import events, facts
from app.core.flow.spoken import text_in
from app.core.record import pack
from app.core.view import LiveCall
from app.engine import Engine
from app.pbx import requests
from app.pbx.adapter import Pbx
from app.pbx.ari import Answer, AriError, Done, Reply, Request
from app.pbx.link import AriLink
from app.pbx.prompts import Prompts

VARIABLE = "CALLWRIGHT_RECORDING"


class Recorder:
    """One process's part of a recording."""

    def __init__(self, path: Path) -> None:
        self.name = path.stem
        self._minted = itertools.count(path.read_text().count('"mint"') + 1 if path.exists() else 1)
        self._asked = itertools.count(1)
        self._began = time.monotonic()
        self._out = path.open("ab", buffering=0)

    def note(self, **what: Any) -> None:
        """Write a line; the process may be killed right after it."""
        at = round(time.monotonic() - self._began, 6)
        self._out.write(orjson.dumps({"at": at, **what}, default=dict) + b"\n")

    def start(self) -> None:
        """From here on the time counts."""
        self._began = time.monotonic()
        self.note(start=self.name)

    def mint(self) -> str:
        """An id for a call: 32 hex digits."""
        made = f"{zlib.crc32(self.name.encode()):08x}{next(self._minted):024d}"
        self.note(mint=made)
        return made

    def view(self, calls: list[LiveCall]) -> list[LiveCall]:
        """What the core told of its calls."""
        self.note(view=[asdict(call) for call in calls])
        return calls

    def ask(self, request: Request) -> int:
        """A request goes out; its number."""
        number = next(self._asked)
        said = {"method": request.method, "path": request.path}
        if request.query:
            said["query"] = dict(request.query)  # type: ignore[assignment]
        if request.body is not None:
            said["body"] = request.body
        self.note(ask=number, **said)
        return number

    def answer(self, number: int, answer: Answer) -> None:
        """What came of a request."""
        if isinstance(answer, Reply):
            self.note(answer=number, status=answer.status, **({} if answer.body is None else {"body": answer.body}))
        else:
            self.note(answer=number, error=type(answer).__name__, status=answer.status, reason=str(answer))


def install(tape: Recorder) -> None:
    """Put the recorder between the adapter and the line, and beside the core."""
    _around_the_adapter(tape)
    _around_the_line(tape)
    written = Engine._write_down

    def write_down(self: Engine, event: events.Event, out: list[Any], now: float, pending: Any) -> None:
        tape.note(handled=pack(event), now=now, did=[pack(each) for each in out if isinstance(each, facts.Fact)])
        written(self, event, out, now, pending)

    Engine._write_down = write_down  # type: ignore[method-assign]


def _around_the_adapter(tape: Recorder) -> None:
    made, run, carry_out, rendered, on_up, on_down = (
        Pbx.__init__,
        Pbx.run,
        Pbx.carry_out,
        Prompts._rendered,
        Pbx._on_up,
        Pbx._on_down,
    )

    def make(self: Pbx, line: Any, post: Any, view: Any, render: Any, mint: Any) -> None:
        made(self, line, post, lambda: tape.view(view()), render, tape.mint)
        take = self.link._on_event

        def event(message: dict[str, Any]) -> None:
            tape.note(event=message)
            take(message)

        self.link._on_event = event

    async def serve(self: Pbx) -> None:
        tape.start()
        await run(self)

    def order(self: Pbx, command: Any) -> None:
        tape.note(order=pack(command))
        carry_out(self, command)

    async def render(self: Prompts, item: str, language: str) -> str:
        media = await rendered(self, item, language)
        said = text_in(item, language)
        if said is not None:
            tape.note(rendered=f"text:{said[0]}", media=media)
        return media

    def up(self: Pbx) -> None:
        tape.note(up=True)
        on_up(self)

    def down(self: Pbx, reason: str) -> None:
        tape.note(down=reason)
        on_down(self, reason)

    for name, hook in (
        ("__init__", make),
        ("run", serve),
        ("carry_out", order),
        ("_on_up", up),
        ("_on_down", down),
    ):
        setattr(Pbx, name, hook)
    Prompts._rendered = render  # type: ignore[method-assign]


def _around_the_line(tape: Recorder) -> None:
    send, request_http = AriLink.send, AriLink.request_http

    def ask(self: AriLink, request: Request, done: Done, lane: str = "") -> None:
        number = tape.ask(request)

        def answered(answer: Answer) -> None:
            tape.answer(number, answer)
            done(answer)

        send(self, request, answered, lane)

    async def ask_http(self: AriLink, request: Request, *within: float) -> Reply:
        if request == requests.stored_recordings():
            return await request_http(self, request, *within)
        number = tape.ask(request)
        try:
            reply = await request_http(self, request, *within)
        except AriError as error:
            tape.answer(number, error)
            raise
        tape.answer(number, reply)
        return reply

    AriLink.send, AriLink.request_http = ask, ask_http  # type: ignore[method-assign,assignment]


if __name__ == "__main__":
    from app.cli import main

    install(Recorder(Path(os.environ[VARIABLE])))
    main()
