"""A recording, played again into the real adapter on virtual time: what Asterisk said goes in, events and requests come out.

`play` puts a `Pbx` on a line that is the recording: Asterisk's events arrive when they arrived, a request is answered when it was
answered (an equal one, that is: the same method, path, query and body), commands are given when they were given. No clock, no socket
and no task of the machine has a say in it, so that the same recording always gives the same result. A mutated recording (an event twice,
too late, or never) is played in the same way; requests that the recording has no answer for then stay without one.
"""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
import json
import selectors
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from app.core import events as ev
from app.core.record import unpack
from app.core.view import LiveCall
from app.pbx import ari
from app.pbx.adapter import Line, Pbx
from app.pbx.ari import Answer, AriError, AriLost, Done, Reply, Request
from app.pbx.local_config import TONES

RECORDINGS = Path(__file__).parent / "recordings"
PROJECT = RECORDINGS / "project"
"""The flows, queues and actions that were published when the calls were recorded."""

OF_THE_PBX = (
    ev.CallArrived,
    ev.CallerLeft,
    ev.DigitPressed,
    ev.PlaybackEnded,
    ev.LegRinging,
    ev.LegAnswered,
    ev.LegEnded,
    ev.CommandRefused,
    ev.PbxLost,
    ev.PbxBack,
    ev.CallFound,
)
"""What the adapter posts; the core's other events come from elsewhere."""

Entry = Mapping[str, Any]


def names() -> list[str]:
    """Every scenario that is recorded."""
    return sorted(path.stem for path in RECORDINGS.glob("*.jsonl"))


def read(name: str) -> list[Entry]:
    """A recording's lines."""
    return [json.loads(line) for line in (RECORDINGS / f"{name}.jsonl").read_text().splitlines()]


def handled(entries: Iterable[Entry]) -> list[ev.Event]:
    """The PBX's events that the living core was given, in order."""
    events = (unpack(entry["handled"]) for entry in entries if "handled" in entry)
    return [event for event in events if isinstance(event, OF_THE_PBX)]


def requests(entries: Iterable[Entry]) -> list[Request]:
    """The requests that the living adapter sent, in order."""
    return [_request(entry) for entry in entries if "ask" in entry]


def _request(entry: Entry) -> Request:
    return Request(entry["method"], entry["path"], tuple(entry.get("query", {}).items()), entry.get("body"))


def _answer(entry: Entry) -> Answer:
    if "error" in entry:
        error: AriError = getattr(ari, entry["error"])(entry["reason"], entry["status"])
        return error
    return Reply(entry["status"], entry.get("body"))


# ---- virtual time -------------------------------------------------------------------------------------------------------------


class _Skipping(selectors.DefaultSelector):
    """Does not wait: time goes on instead."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert timeout is not None, "everything waits, and nothing will ever happen"
        self.now += timeout
        return super().select(0)


def virtual_loop() -> asyncio.AbstractEventLoop:
    """An event loop whose time passes only where everybody waits for it, and then at once."""
    skipping = _Skipping()
    loop = asyncio.SelectorEventLoop(skipping)
    loop.time = lambda: skipping.now  # type: ignore[method-assign]
    return loop


# ---- the line -----------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Played:
    """What came out: the events posted, process by process, the requests sent, what raised where it must not, what was ignored and why."""

    lives: list[list[ev.Event]] = field(default_factory=list)
    requests: list[Request] = field(default_factory=list)
    raised: list[str] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)

    @property
    def events(self) -> list[ev.Event]:
        """All that was posted."""
        return [event for life in self.lives for event in life]


class TapeLine:
    """The line to Asterisk as the adapter knows it; behind it is a recording."""

    def __init__(self, tape: Sequence[Entry], played: Played) -> None:
        self.tape, self.played = tape, played
        self.pbx: Pbx
        self._asked = {entry["ask"]: _key(_request(entry)) for entry in tape if "ask" in entry}
        self._filters = sum(entry.get("path", "").endswith("/eventFilter") for entry in tape)
        self._waiting: defaultdict[str, deque[Done]] = defaultdict(deque)
        self._known: defaultdict[str, deque[Answer]] = defaultdict(deque)
        self._words: defaultdict[str, deque[asyncio.Future[str]]] = defaultdict(deque)

    # ---- what the adapter calls --------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Play it to the end."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        for entry in self.tape:
            await asyncio.sleep(max(0.0, began + entry["at"] - loop.time()))
            self._do(entry)
            await _quiet()

    def send(self, request: Request, done: Done, lane: str = "") -> None:
        self.played.requests.append(request)
        known = self._known[_key(request)]
        if known:
            asyncio.get_running_loop().call_soon(done, known.popleft())
        else:
            self._waiting[_key(request)].append(done)

    async def request(self, request: Request, lane: str = "") -> Reply:
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self.send(request, lambda answer: None if future.done() else future.set_result(answer))
        answer = await future
        if isinstance(answer, AriError):
            raise answer
        return answer

    async def request_http(self, request: Request, seconds: float = 0.0) -> Reply:
        return await self.request(request)

    async def keep_filter(self, request: Request) -> None:
        """Asterisk keeps a filter: what is asked for at a later connection is not asked again."""
        if self._filters:
            self._filters -= 1
            await self.request(request)

    def fail(self, error: AriError) -> None:
        self.played.raised.append(f"the line was given up: {error}")

    def reconnect(self, reason: str) -> None:
        """The recording knows whether there was another socket."""

    async def render(self, text: str, language: str) -> str:
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._words[f"text:{text}"].append(future)
        return await future

    # ---- what the recording says ----------------------------------------------------------------------------------------------

    def _do(self, entry: Entry) -> None:
        for word, doing in _DOING.items():
            if word in entry:
                doing(self, entry)

    def _event(self, entry: Entry) -> None:
        self.pbx._on_event(dict(entry["event"]))

    def _order(self, entry: Entry) -> None:
        self.pbx.carry_out(unpack(entry["order"]))

    def _up(self, entry: Entry) -> None:
        self.pbx._on_up()

    def _down(self, entry: Entry) -> None:
        self.pbx._on_down(entry["down"])

    def _rendered(self, entry: Entry) -> None:
        waiting = self._words[entry["rendered"]]
        if waiting:
            waiting.popleft().set_result(entry["media"])

    def _answered(self, entry: Entry) -> None:
        key, answer = self._asked[entry["answer"]], _answer(entry)
        waiting = self._waiting[key]
        if waiting:
            waiting.popleft()(answer)
        elif not isinstance(answer, AriLost):
            self._known[key].append(answer)


_DOING: dict[str, Callable[[TapeLine, Entry], None]] = {
    "event": TapeLine._event,
    "order": TapeLine._order,
    "up": TapeLine._up,
    "down": TapeLine._down,
    "rendered": TapeLine._rendered,
    "answer": TapeLine._answered,
}


def _key(request: Request) -> str:
    return json.dumps(dataclasses.astuple(request), sort_keys=True)


async def _quiet() -> None:
    """Let everything happen that can happen now. The longest chain of tasks that wake one another is far shorter than this."""
    for _ in range(30):
        await asyncio.sleep(0)


# ---- playing ------------------------------------------------------------------------------------------------------------------


def play(tape: Sequence[Entry]) -> Played:
    """Play a recording, through every process that it saw."""
    played = Played()
    with asyncio.Runner(loop_factory=virtual_loop) as runner:
        runner.run(_play(tape, played))
    return played


async def _play(tape: Sequence[Entry], played: Played) -> None:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: played.raised.append(repr(context.get("exception") or context["message"])))
    ids = itertools.chain((entry["mint"] for entry in tape if "mint" in entry), (f"{n:032x}" for n in itertools.count()))
    for life in lives(tape):
        await _live(life, played, partial(next, ids))


def lives(tape: Sequence[Entry]) -> Iterator[Sequence[Entry]]:
    """The recording, process by process."""
    starts = [n for n, entry in enumerate(tape) if "start" in entry]
    for begin, end in itertools.pairwise([*starts, len(tape)]):
        yield tape[begin:end]


def the_adapter(line: TapeLine, post: Callable[[ev.Event], None], view: Callable[[], list[LiveCall]], mint: Callable[[], str]) -> Pbx:
    """An adapter on a line that is a recording."""
    line.pbx = Pbx(Line("http://127.0.0.1", "nobody", "nowhere-to-be-used", tones=TONES), post, view, line.render, mint)
    line.pbx.orders.link = line  # type: ignore[assignment]
    return line.pbx


async def _live(life: Sequence[Entry], played: Played, mint: Callable[[], str]) -> None:
    views = ([LiveCall(**{**call, "playbacks": tuple(call["playbacks"])}) for call in entry["view"]] for entry in life if "view" in entry)
    line = TapeLine(life, played)
    posted: list[ev.Event] = []
    played.lives.append(posted)
    pbx = the_adapter(line, posted.append, lambda: next(views, []), mint)
    await pbx.run()
    played.ignored.update(pbx.book.counts)
