"""A recorded call under another version of its flow: the same caller, the same answers, on the way that the other version takes.

A recorded result serves only the same action with the same parameters, keys only the input of the same name, a wait only the same
queue with the same skills and place, and a hang-up only the same visit of the same step. A mail's outcome serves a mail to the same
address. A prompt takes as long as it took; one that was not played is given the time its words take to speak, and the caller is taken
to stay for it. What other systems wrote comes at the time it came. A call that was sent to an entry, or whose caller pressed the key that
reaches a person, is led away from the same visit of the same step. An automation's answer that is not on record leaves open only the steps
that use it. Crashes and lost links are left out. Where nothing recorded fits, the call is undetermined from that step.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from app.core import automations, facts
from app.core import commands as do
from app.core import events as ev
from app.core.book import Book
from app.core.call import FLOW, QUEUED, Call
from app.core.center import Center
from app.core.defined import Kept, Unknown
from app.core.flow import program as nodes
from app.core.flow.compiled import Compiled
from app.core.flow.replay import QueueKey, Replayed, queue_key
from app.core.flow.script import PERSON, Enqueue, Order
from app.core.flow.supply import SILENCE, STEERED, Answer, Happened, Key, Supply, Waited, Way, asked, input_of, supply_of
from app.core.flow.uses import uses
from app.core.offers import Offers
from app.core.recorded import PLENTY, Row
from app.core.saving import FED
from app.core.session import SPACE, SessionRefused

MOVES = 2000
SERVED = FED
GRACE = 1.0
"""Seconds by which a way may be slower than it was then, without anything having happened."""
SPOKEN = 0.07
"""Seconds a character takes to speak, about."""


@dataclass(slots=True)
class WhatIf:
    """How a call went and how it would have gone. `undetermined` says why the rest cannot be known, from `step` on."""

    call: str
    version: str
    way: Way = field(default_factory=list)
    other_way: Way = field(default_factory=list)
    end: tuple[str, str, str] = ("", "", "")
    """Outcome, the last queue, the last step."""
    other_end: tuple[str, str, str] = ("", "", "")
    undetermined: str = ""
    step: str = ""

    @property
    def differs(self) -> int | None:
        """The first place at which the ways differ, as far as both are known; None where they do not."""
        n = next((n for n, (a, b) in enumerate(zip(self.way, self.other_way, strict=False)) if a != b), None)
        if self.undetermined:
            known = len(self.other_way) - 1
            return n if n is not None and (n < known or self.way[n][0] != self.other_way[n][0]) else None
        return min(len(self.way), len(self.other_way)) if n is None and len(self.way) != len(self.other_way) else n

    @property
    def verdict(self) -> str:
        """`same way`, `same end` (by another way), `other end`, or `undetermined`."""
        if self.undetermined:
            return "undetermined"
        if self.end != self.other_end:
            return "other end"
        return "same way" if self.differs is None else "same end"


def what_if(again: Replayed, rows: list[Row], other: Compiled, kept: Kept) -> WhatIf:
    """One call, replayed as `again` from its `rows`, under the version `other`."""
    result = WhatIf(again.call, again.version)
    try:
        if not again.flow:
            raise Unknown(again.unknown or "the flow it ran is not known")
        ran = kept.flow(again.flow, again.version)
        supply = supply_of(rows, again, ran.program)
        queues, agents, transfers = kept.staff(supply.staff)
    except Unknown as error:
        result.undetermined = str(error)
        return result
    result.way = supply.way
    result.end = (supply.outcome, supply.queue, supply.way[-1][0] if supply.way else "")
    own, under = (
        Book({supply.arrival.dnis: flow}, queues, agents, PLENTY, staff=supply.staff, transfers=transfers) for flow in (ran, other)
    )
    itself = _Run(supply, own, replace(result, other_way=[])).to_its_end()
    if itself.verdict not in ("same way", "undetermined"):
        result.undetermined = "a crash or a lost link in it leaves open what the caller would have done without"
        return result
    return _Run(supply, under, result).to_its_end()


class _Undetermined(Exception):
    """Nothing recorded fits."""


class _NoOffers(Offers):
    """Nobody is in a queue."""

    def leave_queue(self, call: Call, now: float) -> None:
        if call.phase == QUEUED:
            call.phase = FLOW


class _Centre(Center):
    """A centre that queues nobody: what became of waiting is on record."""

    def __init__(self, book: Book) -> None:
        super().__init__(book)
        self.offers = _NoOffers(self)
        self.queued: list[tuple[QueueKey, Enqueue]] = []
        self.strange = ""

    def _order(self, call: Call, order: Order, now: float) -> None:
        if not isinstance(order, Enqueue):
            self.strange = type(order).__name__
            return
        call.phase, call.music = QUEUED, True
        self.queued.append((queue_key(call, order), order))

    def connect(self, call: Call, agent: str, now: float) -> list[Any]:
        """The caller talks to an agent, who is nobody here."""
        call.connected, call.phase, call.music, call.served_by = now, FLOW, False, agent
        return self.beside(call, "connected", now)

    def beside(self, call: Call, on: str, now: float) -> list[Any]:
        """What the flow does beside its steps when this happens."""
        automations.start(self, call, on)
        return self._settled(now)

    def tell(self, call: Call, outcome: str, now: float) -> list[Any]:
        """The wait has ended; what the flow makes of it."""
        call.phase = FLOW
        self.tell_flow(call, outcome, now)
        return self._settled(now)


@dataclass(frozen=True, slots=True)
class _Silent:
    """Nothing had come of a request by the time the call was over then; `into` as of `automations.into_of`."""

    request: str
    into: str | None


@dataclass(frozen=True, slots=True)
class _Answered:
    """An agent answers."""

    agent: str


_Thing: TypeAlias = ev.Event | str | _Silent | _Answered | Happened
"""What comes: an event, the outcome of a wait for an agent, or one of the others."""


class _Run:
    """The call on its way, on a clock that goes from one thing that happens to the next."""

    def __init__(self, supply: Supply, book: Book, result: WhatIf) -> None:
        self._supply, self._result = supply, result
        self._centre = _Centre(book)
        self._id, self._now = supply.arrival.call, supply.at
        self._pending: list[tuple[float, int, _Thing]] = []
        self._n = 0
        self._served: dict[str, int] = {}
        self._keys: list[Key] = []
        self._input = ""
        self._key_at: float | None = None
        self._base = supply.at
        self._playing: dict[str, float] = {}
        self._visits: dict[str, int] = {}
        self._left_at_step = False
        self._called_away: Happened | None = None
        self._unknown: set[str] = set()
        """The names under which automations keep answers that are not on record."""
        self._over = False
        self._here: tuple[str, str] | None = None

    def to_its_end(self) -> WhatIf:
        result, supply = self._result, self._supply
        for after, event in supply.written:
            self._later(after, event, since=supply.at)
        for happened in supply.called_away.values():
            self._later(happened.since_arrival + GRACE, happened, since=supply.at)
        try:
            self._note(self._centre.handle(supply.arrival, self._now))
            for _ in range(MOVES):
                if self._over:
                    break
                self._move()
            else:
                raise _Undetermined("it comes to no end")
            self._would_have_stayed()
        except _Undetermined as why:
            result.undetermined, result.step = str(why), result.other_way[-1][0] if result.other_way else ""
        return result

    # ---- what happens next ---------------------------------------------------------------------------------------------

    def _move(self) -> None:
        """The next thing: what is pending, a key, or a deadline, whichever comes first."""
        call = self._centre.calls[self._id]
        wants_keys = call.wait is not None and ev.DigitPressed in call.wait.kinds and bool(self._input)
        key = self._next_key() if wants_keys else None
        deadline = self._centre.next_deadline()
        pending = min(self._pending, default=None)
        strange = [kind.__name__ for kind in call.wait.kinds if kind not in SERVED] if call.wait else []
        if strange and pending is None:
            raise _Undetermined(f"it waits for {strange[0]}, for which no record can serve")
        times = [at for at in (key, deadline, pending[0] if pending else None) if at is not None]
        if not times:
            raise _Undetermined("it waits for something that is not on record")
        first = max(min(times), self._now)
        if pending is not None and pending[0] <= first:
            self._now = first
            self._pending.remove(pending)
            self._happen(pending[2])
        elif key is not None and key <= first:
            self._press(first)
        else:
            self._now = first
            self._run_out(wants_keys)

    def _next_key(self) -> float | None:
        """When the caller presses the next key; None for silence, or while a prompt has to end first."""
        if not self._keys or self._keys[0] == SILENCE:
            return None
        key = self._keys[0]
        if self._key_at is None:
            began = next(iter(self._playing.values()), None)
            if began is not None and not key.over and not key.early:
                return None
            self._key_at = self._now if key.early else (began if key.over and began is not None else self._base) + key.after
        return max(self._key_at, self._now)

    def _press(self, at: float) -> None:
        self._now = self._base = at
        self._key_at = None
        self._note(self._centre.handle(ev.DigitPressed(self._id, self._keys.pop(0).digit), at))

    def _run_out(self, wants_keys: bool) -> None:
        """A deadline passes: a caller's silence has to be on record, everything else just takes its time."""
        if self._waits_for_others() and self._now - self._supply.at > self._supply.lasted + GRACE:
            raise _Undetermined("what other systems would have written after the call was over then is not known")
        if wants_keys and not self._playing and self._key_at is None and not self._leaves_here():
            if not self._keys:
                raise _Undetermined(f"the caller was not asked so often, or for so much, at {self._input!r}")
            self._keys.pop(0)
        self._base = self._now
        due = self._centre.due(self._now)
        if due is not None:
            self._note(self._centre.handle(due, self._now))

    def _waits_for_others(self) -> bool:
        node = self._node()
        return isinstance(node, nodes.WaitFor) and node.variable.startswith(SPACE)

    def _node(self) -> Any:
        call = self._centre.calls[self._id]
        return call.flow.program.steps[call.step]

    def _happen(self, what: _Thing) -> None:
        call = self._centre.calls[self._id]
        match what:
            case _Answered():
                self._note(self._centre.connect(call, what.agent, self._now))
            case str():
                self._note(self._centre.tell(call, what, self._now))
            case _Silent():
                self._nothing_came(call, what)
            case Happened():
                self._never_came_there(what)
            case ev.SessionWritten() | ev.CallSteered():
                self._session(what)
            case _:
                self._led_away(what)
                if isinstance(what, ev.PlaybackEnded):
                    self._playing.pop(what.playback, None)
                    self._base = self._now
                self._note(self._centre.handle(what, self._now))

    def _led_away(self, event: ev.Event) -> None:
        """What is to end the open step's visit is happening."""
        if self._called_away is not None and event == self._called_away.event:
            self._called_away, self._keys = None, []

    def _session(self, event: ev.SessionEvent) -> None:
        """What another system wrote, or where it sent the call."""
        self._led_away(event)
        try:
            self._note(self._centre.handle(event, self._now))
        except SessionRefused as refusal:
            raise _Undetermined(f"what another system did then is refused: {refusal}") from None

    def _nothing_came(self, call: Call, silent: _Silent) -> None:
        if silent.into is None and silent.request in call.asking and not self._leaves_here():
            raise _Undetermined("no answer had come to this when the call was over then")
        if silent.into:
            self._unknown.add(silent.into)
            self._must_know()

    def _never_came_there(self, happened: Happened) -> None:
        """Another system's doing hangs on the time, the caller's on what is heard."""
        if isinstance(happened.event, ev.CallSteered) and self._visits.get(happened.step, 0) < happened.visit:
            where = f"to {happened.event.entry!r} after {happened.since_arrival:.1f} s then, from {happened.step!r}"
            raise _Undetermined(f"the call was sent {where}, which does not come here")

    def _must_know(self) -> None:
        """The open step does not hang on what an automation would have brought."""
        step = self._result.other_way[-1][0] if self._result.other_way else ""
        if not step or self._over or self._leaves_here():
            return
        program = self._centre.calls[self._id].flow.program
        used = next((into for into in sorted(self._unknown) if uses(program, step, into)), "")
        if used:
            raise _Undetermined(f"what an automation would have brought as {used!r} is not on record")

    # ---- what comes of it ----------------------------------------------------------------------------------------------

    def _note(self, out: Iterable[Any]) -> None:
        """Follow what the flow did, and look up what the record has for it."""
        for thing in out:
            match thing:
                case facts.StepEntered():
                    self._enter(thing.step)
                case facts.StepLeft():
                    self._leave(thing)
                case do.Play():
                    self._play(thing)
                case do.StopPlay():
                    self._stop(thing.playback)
                case do.StartAction() if not self._over:
                    key = asked(thing.action, thing.params)
                    answer = self._serve(key, self._supply.actions.get(key))
                    self._answer(thing.request, answer, f"action {thing.action!r} was not asked with these parameters")
                case do.SendMail():
                    self._answer(thing.request, self._serve(thing.to, self._supply.mails.get(thing.to)), "no mail went to this address")
                case do.HangUp() | do.Release():
                    self._later(0.0, ev.CallerLeft(self._id))
                case facts.CallEnded():
                    self._over = True
                    result = self._result
                    queues = [key[0] for key, _ in self._centre.queued]
                    queue = self._here[1] if self._here else ""
                    result.other_end = (thing.outcome, queue or (queues[-1] if queues else ""), result.other_way[-1][0])
        if self._centre.strange:
            raise _Undetermined(f"{self._centre.strange} is nothing for which a record can serve")
        if len(self._centre.queued) > self._served.get("queue orders", 0):
            self._served["queue orders"] = len(self._centre.queued)
            self._queue(*self._centre.queued[-1])

    def _enter(self, step: str) -> None:
        supply, program = self._supply, self._centre.calls[self._id].flow.program
        self._visits[step] = visit = self._visits.get(step, 0) + 1
        self._result.other_way.append((step, ""))
        if supply.broken and step == supply.broken:
            raise _Undetermined("a mistake of the application's ended this step then")
        self._base = self._now
        self._key_at = None
        self._input = input_of(program, step)
        if getattr(program.steps[step], "sensitive", False):
            raise _Undetermined(f"what was typed at {self._input!r} is never written down")
        if self._input:
            visits = supply.inputs.get(self._input, [])
            n = self._served.get(self._input, 0)
            if n >= len(visits) and not self._leaves_here():
                raise _Undetermined(f"the caller was not asked for {self._input!r}" + (" again" if visits else ""))
            self._served[self._input] = n + 1
            self._keys = [key for key in self._keys if key.early] + (list(visits[n]) if n < len(visits) else [])
        elif isinstance(program.steps[step], nodes.Queue):
            self._keys = []
        self._called_away = supply.called_away.get((step, visit))
        if self._called_away is not None:
            self._later(self._called_away.after, self._called_away.event)
        left = supply.left
        if left and (left.step, left.visit) == (step, visit) and not isinstance(program.steps[step], nodes.Queue):
            self._left_at_step = True
            if left.lost:
                raise _Undetermined("the connection to Asterisk was lost here then")
            self._later(left.after, left.event)
        self._must_know()

    def _leave(self, fact: facts.StepLeft) -> None:
        self._result.other_way[-1] = (fact.step, fact.exit)
        away, self._called_away = self._called_away, None
        if away is not None and fact.exit != PERSON:
            what = "was sent elsewhere" if isinstance(away.event, ev.CallSteered) else "asked for a person"
            raise _Undetermined(f"the caller {what} after {away.after:.1f} s then, in {fact.step!r}, which ends sooner here")
        if away is not None:
            self._pending = [one for one in self._pending if one[2] is not away.event]
        if fact.exit == PERSON:
            self._keys = []
        node = self._centre.calls[self._id].flow.program.steps[fact.step]
        if isinstance(node, nodes.Collect) and fact.exit == "match" and self._keys and self._keys[0].digit == node.terminator:
            self._keys.pop(0)
        if self._left_at_step and not self._over:
            self._left_at_step = False
            self._pending = [one for one in self._pending if one[2] != self._supply.left.event]  # type: ignore[union-attr]

    def _leaves_here(self) -> bool:
        """Whether the caller hangs up in the open step, and until then is silent."""
        left, step = self._supply.left, self._result.other_way[-1][0]
        return left is not None and (left.step, left.visit) == (step, self._visits[step])

    def _would_have_stayed(self) -> None:
        """A caller who hung up then, in a step that this way does not come to, might have done so on this way as well."""
        if self._supply.outcome == "lost_media_server":
            raise _Undetermined("the connection to Asterisk was lost then")
        left = self._supply.left
        if left and not self._left_at_step and self._now - self._supply.at > left.since_arrival and not self._left_waiting():
            raise _Undetermined(f"the caller hung up after {left.since_arrival:.1f} s then, in {left.step!r}, which does not come here")

    def _left_waiting(self) -> bool:
        return self._here is not None and self._here[0] == "left"

    def _play(self, order: do.Play) -> None:
        self._playing[order.playback] = self._now
        recorded = self._serve(" ".join(order.media), self._supply.played.get(order.media))
        spoken = SPOKEN * sum(len(item.partition(":")[2]) for item in order.media) + 0.3
        seconds, ok = recorded or (max(spoken, self._supply.unfinished.get(order.media, 0.0) + 0.3), True)
        self._later(seconds, ev.PlaybackEnded(self._id, order.playback, ok))

    def _stop(self, playback: str) -> None:
        self._playing.pop(playback, None)
        self._pending = [one for one in self._pending if getattr(one[2], "playback", "") != playback]
        self._later(0.0, ev.PlaybackEnded(self._id, playback))

    def _serve(self, name: str, recorded: list[Any] | None) -> Any:
        """The next recorded one of its kind, or the last again; None where there is none."""
        if not recorded:
            return None
        n = self._served.get(name, 0)
        self._served[name] = n + 1
        return recorded[min(n, len(recorded) - 1)]

    def _answer(self, request: str, answer: Answer | None, why_not: str) -> None:
        into = automations.into_of(self._centre.calls[self._id], request)
        if answer is not None and answer.event is not None:
            self._later(answer.after, replace(answer.event, request=request))  # type: ignore[call-arg]
        elif answer is not None:
            self._later(answer.after, _Silent(request, into))
        elif into:
            self._unknown.add(into)
            self._must_know()
        elif into is None and not self._leaves_here():
            raise _Undetermined(why_not)

    def _queue(self, key: QueueKey, order: Enqueue) -> None:
        """What became of the same wait then; another limit changes it only where it would have been reached."""
        wait: Waited | None = self._serve(f"queue {key}", self._supply.queues.get(key))
        if wait is None or wait.ended is None:
            raise _Undetermined(f"nobody waited in {key[0]!r} with these skills and this place")
        if self._supply.left and self._supply.left.lost and wait.left:
            raise _Undetermined("the connection to Asterisk was lost here then")
        self._here = ("", key[0])
        if wait.entered:
            self._note(self._centre.beside(self._centre.calls[self._id], "queued", self._now))
        limit = order.max_wait
        over = wait.ended if wait.connected is None else wait.connected
        if limit is not None and limit < over:
            self._later(limit, "too_long")
            return
        if limit != wait.limit and wait.outcome == "too_long":
            raise _Undetermined(f"nobody waited in {key[0]!r} for longer than {wait.ended:.0f} s")
        if wait.connected is not None:
            self._later(wait.connected, _Answered(wait.agent))
        if wait.left is not None:
            self._here = ("left", key[0])
        if wait.outcome != STEERED:
            self._later(wait.ended, wait.left or wait.outcome)

    def _later(self, seconds: float, what: _Thing, since: float | None = None) -> None:
        self._n += 1
        self._pending.append(((self._now if since is None else since) + seconds, self._n, what))
