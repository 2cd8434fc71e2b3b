"""What a recorded call has for an order of its flow under another version, and when that comes; or why nothing fits.

Of several that fit, each serves in turn, and the last one again where there are no more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from app.core import commands as do
from app.core import events as ev
from app.core.flow.program import Program
from app.core.flow.sought import QUEUE, TRANSFER, Sought
from app.core.flow.supply import STEERED, Answer, Key, Supply, Taken, Talk, Waited, asked, makes_of_secrets, shape_of

SPOKEN = 0.07
"""Seconds a character takes to speak, about."""
GRACE = 1.0
"""Seconds by which a way may be slower than it was then, without anything having happened."""


class Undetermined(Exception):
    """Nothing recorded fits; the text says why."""


@dataclass(frozen=True, slots=True)
class Answered:
    """Somebody whom the flow sought talks to the caller: an agent, or the far side of a transfer."""

    sought: Sought
    agent: str


Coming: TypeAlias = tuple[float, ev.Event | str | Answered]
"""After so many seconds: an event, the outcome of a wait for somebody, or an answer."""


class Serving:
    """One call's supply, and how much of it has served. `program` is the other version's."""

    def __init__(self, supply: Supply, program: Program) -> None:
        self._supply, self._program = supply, program
        self._served: Counter[str] = Counter()
        self._taken: dict[str, Taken] = {}
        self._talks: dict[str, Talk] = {}
        self._makes_of_secrets = supply.makes_of_secrets or makes_of_secrets(program)
        self.typed: tuple[str, ...] = ()
        """The sensitive inputs in which there has been an entry."""

    def _next(self, name: str, recorded: list[Any] | None) -> Any:
        """The next recorded one of its kind, or the last again; None where there is none."""
        if not recorded:
            return None
        n = self._served[name]
        self._served[name] += 1
        return recorded[min(n, len(recorded) - 1)]

    # ---- answers -------------------------------------------------------------------------------------------------------

    def action(self, order: do.StartAction) -> Answer | None:
        if order.hidden and self._makes_of_secrets:
            return None
        return self._answer(asked(order.action, order.params, self.typed if order.hidden else ()))

    def message(self, order: do.SendMail | do.SendSms) -> Answer | None:
        return self._answer(f"{type(order).__name__} {order.to}")

    def _answer(self, key: str) -> Answer | None:
        found: Answer | None = self._next(key, self._supply.answers.get(key))
        return found

    # ---- what is heard, and said ---------------------------------------------------------------------------------------

    def play(self, order: do.Play) -> Coming:
        """One that was not played then takes the time that its words take to speak."""
        recorded = self._next(" ".join(order.media), self._supply.played.get(order.media))
        spoken = SPOKEN * sum(len(item.partition(":")[2]) for item in order.media) + 0.3
        seconds, ok = recorded or (max(spoken, self._supply.unfinished.get(order.media, 0.0) + 0.3), True)
        return seconds, ev.PlaybackEnded(order.call, order.playback, ok)

    def keys(self, name: str, step: str, leaving: bool) -> list[Key]:
        """What the caller pressed in the input of this name. Keys that nobody knows serve only entries of the same shape."""
        visits = self._supply.inputs.get(name, [])
        n = self._served[name]
        self._served[name] += 1
        if n >= len(visits) and not leaving:
            raise Undetermined(f"the caller was not asked for {name!r}" + (" again" if visits else ""))
        keys = list(visits[n]) if n < len(visits) else []
        if any(key.secret for key in keys) and shape_of(self._program, step) != self._supply.shapes.get(name, ()):
            raise Undetermined(f"what was typed at {name!r} is never written down, and entries are other ones here")
        return keys

    def recording(self, name: str, order: do.StartRecord, leaving: bool) -> list[Coming]:
        key = (name, order.seconds, order.silence, order.terminator)
        taken: Taken | None = self._next(str(key), self._supply.takes.get(key))
        if taken is None and not leaving:
            raise Undetermined(f"the caller was not recorded for {name!r}, or not with these limits")
        if taken is None:
            return []
        self._taken[order.recording] = taken
        return _served(taken.ended, leaving, "the recording had no end when the call was over then", recording=order.recording)

    def kept(self, order: do.KeepRecording, leaving: bool) -> list[Coming]:
        return _served(
            self._taken[order.recording].kept, leaving, "the recording was not kept when the call was over then", request=order.request
        )

    # ---- who talks to the caller ---------------------------------------------------------------------------------------

    def somebody(self, whom: Sought) -> tuple[Waited, list[Coming]]:
        """What became of the same wait then; another limit changes it only where it would have been reached."""
        wait: Waited | None = self._next(str(whom.key), self._supply.waits.get(whom.key))
        if wait is None or wait.ended is None:
            raise Undetermined(_NOBODY[whom.kind].format(whom.queue))
        if self._supply.left and self._supply.left.lost and wait.left:
            raise Undetermined("the connection to Asterisk was lost here then")
        over = wait.ended if wait.connected is None else wait.connected
        too_long = _TOO_LONG[whom.kind]
        if whom.limit is not None and whom.limit < over and whom.limit != wait.limit:
            return replace(wait, left=None), [(whom.limit, too_long)]
        if whom.limit != wait.limit and wait.outcome == too_long and wait.ended >= (wait.limit or 0.0):
            raise Undetermined(_LONGER[whom.kind].format(whom.queue, wait.ended))
        coming: list[Coming] = []
        if wait.connected is not None:
            coming.append((wait.connected, Answered(whom, wait.agent)))
        if wait.outcome != STEERED:
            coming.append((wait.ended, wait.left or wait.outcome))
        return wait, coming

    def bot(self, order: do.StartBot, leaving: bool) -> list[Coming]:
        """The connection to a bot hangs on nothing but the bot."""
        talk: Talk | None = self._next(f"bot {order.bot}", self._supply.talks.get(order.bot))
        if talk is None:
            raise Undetermined(f"the caller did not talk to bot {order.bot!r}")
        self._talks[order.request] = talk
        if talk.began is not None:
            return [(talk.began, ev.BotBegan(order.call, order.request))]
        over = f"bot {order.bot!r} had not begun when the call was over then"
        return _served(talk.ended, leaving or talk.given_up, over, request=order.request)

    def talk(self, order: do.TellBot, bot: Any, leaving: bool) -> list[Coming]:
        """What the bot does hangs on what it is told to begin with; `bot` is the step."""
        talk = self._talks[order.request]
        if _plain(talk.told) != _plain(order.values):
            raise Undetermined(f"bot {bot.bot!r} was told something else then")
        if talk.given_up and bot.max_seconds > talk.ended.after + GRACE:
            raise Undetermined(f"bot {bot.bot!r} had not given the call back after {talk.ended.after:.0f} s then")
        over = f"bot {bot.bot!r} had not given the call back when it was over then"
        return [*talk.written, *_served(talk.ended, leaving or talk.given_up, over, request=order.request)]


_NOBODY = {QUEUE: "nobody waited in {0!r} with these skills and this place", TRANSFER: "nobody was put through there"}
_TOO_LONG = {QUEUE: "too_long", TRANSFER: "no_answer"}
_LONGER = {QUEUE: "nobody waited in {0!r} for longer than {1:.0f} s", TRANSFER: "that telephone did not ring for longer than {1:.0f} s"}


def _served(answer: Answer, may_lack: bool, why_not: str, **ids: str) -> list[Coming]:
    """A recorded answer, to an order of another id; raises `Undetermined` where there is none, unless it may be lacking."""
    if answer.event is None and not may_lack:
        raise Undetermined(why_not)
    return [] if answer.event is None else [(answer.after, replace(answer.event, **ids))]


def _plain(told: Mapping[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in told.items()}
