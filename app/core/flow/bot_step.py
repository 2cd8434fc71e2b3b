"""The `bot` step: a program at the other end of a websocket has the call, until it gives it back.

The caller hears music until the two are connected, and again when a take-over has to connect them anew: the program's conversation died
with the process that carried it. A bot that is lost is never tried again: the step leaves by `failed`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from app.core import commands, facts
from app.core.events import BotBegan, BotEnded, DigitPressed, SessionWritten
from app.core.flow import program as nodes
from app.core.flow.script import Script, Wait, answer, play
from app.core.flow.texts import BadText
from app.core.session import SPACE

if TYPE_CHECKING:
    from app.core.call import Call

START = 4.0
"""Seconds after which a bot of which nothing is heard is given up; whoever connects it gives up sooner, and says so."""
START_AGAIN = 15.0
"""The same after a take-over, where the link to the PBX comes first."""
_HEARS = (BotBegan, BotEnded, DigitPressed, SessionWritten, facts.TakenOver)


def bot(call: Call, node: nodes.Bot) -> Script[str]:
    try:
        told = {name: call.fill(text) for name, text in node.parameters.items()}
    except BadText as error:
        call.note(facts.Noticed(call.id, "text failed", str(error)))
        return "failed"
    yield from play(call, call.prompt(node.prompt) if node.prompt else ())
    yield from answer(call)
    request = call.mint("bt")
    yield call.music_on()
    yield commands.StartBot(call.id, request, node.bot)
    exit_ = yield from _talks(call, node, request, told)
    call.keys = ""
    if call.music:
        yield call.music_off()
    return exit_


def _talks(call: Call, node: nodes.Bot, request: str, told: dict[str, str]) -> Script[str]:
    """Pass on what the bot should know, until it gives the call back or its time is over; the exit."""
    begun = again = False
    until, ends = call.now + START, 0.0
    while True:
        event = yield Wait(_HEARS, until - call.now)
        if event is None:
            yield commands.StopBot(call.id, request)
            return "hung" if begun else "failed"
        if isinstance(event, BotEnded):
            return _chosen(call, node, event)
        if isinstance(event, facts.TakenOver):
            begun, again, until = False, True, call.now + START_AGAIN
            yield call.music_on()
        elif isinstance(event, BotBegan) and event.bot == request:
            begun, ends = True, ends or call.now + node.max_seconds
            until = ends
            yield call.music_off()
            session = {name: value for name, value in call.vars.items() if name.startswith(SPACE)}
            start = {"with": told, "session": session, "language": call.language, "answers": ["done", *node.answers], "again": again}
            yield commands.TellBot(call.id, request, "start", start)
        elif begun:
            yield from _tell(call, node, request, event)


def _tell(call: Call, node: nodes.Bot, request: str, event: Any) -> Script[None]:
    """A key, or what another system than this bot wrote. Keys typed before it began are its own too."""
    if isinstance(event, SessionWritten) and event.by != f"bot {node.bot}":
        yield commands.TellBot(call.id, request, "session", {"session": dict(event.values)})
    while call.keys:
        yield commands.TellBot(call.id, request, "key", {"digit": call.take_key()})


def _chosen(call: Call, node: nodes.Bot, ended: BotEnded) -> str:
    if ended.exit in ("done", "failed", *node.answers):
        return ended.exit
    call.note(facts.Noticed(call.id, "bot failed", f"it chose an exit that this step does not have: {ended.exit[:40]!r}"))
    return "failed"
