"""A recorded caller on the way that another version takes, on a clock that goes from one thing that happens to the next."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

from app.core import automations, facts
from app.core import commands as do
from app.core import events as ev
from app.core.book import Book
from app.core.call import Call
from app.core.flow import program as nodes
from app.core.flow.script import MATCH, PERSON
from app.core.flow.serving import GRACE, Answered, Coming, Serving, Undetermined
from app.core.flow.sought import QUEUE, Sought
from app.core.flow.supply import KEYLESS, SILENCE, WAITS, Answer, Happened, Key, Supply, input_of
from app.core.flow.unstaffed import Unstaffed
from app.core.flow.uses import uses
from app.core.saving import FED
from app.core.session import SPACE, SessionRefused

if TYPE_CHECKING:
    from app.core.flow.what_if import WhatIf

MOVES = 2000


@dataclass(frozen=True, slots=True)
class _Silent:
    """Nothing had come of a request by the time the call was over then; `into` as of `automations.into_of`."""

    request: str
    into: str | None


_Thing: TypeAlias = ev.Event | str | Answered | _Silent | Happened
"""What comes: an event, the outcome of a wait for somebody, or one of the others."""


class Run:
    """One call's run to its end, or to where nothing recorded fits."""

    def __init__(self, supply: Supply, book: Book, result: WhatIf) -> None:
        self._supply, self._result = supply, result
        self._centre = Unstaffed(book)
        self._id, self._now = supply.arrival.call, supply.at
        (self._program,) = {id(flow): flow.program for flow in book.flows.values()}.values()
        self._serving = Serving(supply, self._program)
        self._pending: list[tuple[float, int, _Thing]] = []
        self._n = 0
        self._keys: list[Key] = []
        self._input = ""
        self._key_at: float | None = None
        self._base = supply.at
        self._playing: dict[str, float] = {}
        self._visits: dict[str, int] = {}
        self._left_at_step = self._left_waiting = False
        self._called_away: Happened | None = None
        self._unknown: set[str] = set()
        """The names under which automations keep answers that are not on record."""
        self._over = False
        self._queue = ""

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
                raise Undetermined("it comes to no end")
            self._would_have_stayed()
        except Undetermined as why:
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
        strange = [kind.__name__ for kind in call.wait.kinds if kind not in FED] if call.wait else []
        if strange and pending is None:
            raise Undetermined(f"it waits for {strange[0]}, for which no record can serve")
        times = [at for at in (key, deadline, pending[0] if pending else None) if at is not None]
        if not times:
            raise Undetermined("it waits for something that is not on record")
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
        key = self._keys.pop(0)
        self._note(self._centre.handle(key.secret or self._centre.veiled(ev.DigitPressed(self._id, key.digit)), at))

    def _run_out(self, wants_keys: bool) -> None:
        """A deadline passes: a caller's silence has to be on record, everything else just takes its time."""
        if self._waits_for_others() and self._now - self._supply.at > self._supply.lasted + GRACE:
            raise Undetermined("what other systems would have written after the call was over then is not known")
        if wants_keys and not self._playing and self._key_at is None and not self._leaves_here():
            if not self._keys:
                raise Undetermined(f"the caller was not asked so often, or for so much, at {self._input!r}")
            self._keys.pop(0)
        self._base = self._now
        due = self._centre.due(self._now)
        if due is not None:
            self._note(self._centre.handle(due, self._now))

    def _waits_for_others(self) -> bool:
        node = self._node
        return isinstance(node, nodes.WaitFor) and node.variable.startswith(SPACE)

    @property
    def _node(self) -> Any:
        return self._program.steps[self._centre.calls[self._id].step]

    def _happen(self, what: _Thing) -> None:
        call = self._centre.calls[self._id]
        match what:
            case Answered() if what.sought.kind == QUEUE:
                self._note(self._centre.connect(call, what.agent, self._now))
            case Answered():
                self._centre.put_through(call, self._now)
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
                if isinstance(what, ev.PlaybackEnded | ev.RecordingEnded):
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
            raise Undetermined(f"what another system did then is refused: {refusal}") from None

    def _nothing_came(self, call: Call, silent: _Silent) -> None:
        if silent.into is None and silent.request in call.asking and not self._leaves_here():
            raise Undetermined("no answer had come to this when the call was over then")
        if silent.into:
            self._unknown.add(silent.into)
            self._must_know()

    def _never_came_there(self, happened: Happened) -> None:
        """Another system's doing hangs on the time, the caller's on what is heard."""
        if isinstance(happened.event, ev.CallSteered) and self._visits.get(happened.step, 0) < happened.visit:
            where = f"to {happened.event.entry!r} after {happened.since_arrival:.1f} s then, from {happened.step!r}"
            raise Undetermined(f"the call was sent {where}, which does not come here")

    def _must_know(self) -> None:
        """The open step does not hang on what an automation would have brought."""
        step = self._result.other_way[-1][0] if self._result.other_way else ""
        if not step or self._over or self._leaves_here():
            return
        used = next((into for into in sorted(self._unknown) if uses(self._program, step, into)), "")
        if used:
            raise Undetermined(f"what an automation would have brought as {used!r} is not on record")

    # ---- what comes of it ----------------------------------------------------------------------------------------------

    def _note(self, out: Iterable[Any]) -> None:
        """Follow what the flow did, and look up what the record has for it."""
        for thing in out:
            if self._over:
                return
            match thing:
                case facts.StepEntered():
                    self._enter(thing.step)
                case facts.StepLeft():
                    self._leave(thing)
                case facts.CallEnded():
                    self._over = True
                    self._result.other_end = (thing.outcome, self._queue, self._result.other_way[-1][0])
                case do.HangUp() | do.Release():
                    self._later(0.0, ev.CallerLeft(self._id))
                case do.Command():
                    self._serve(thing)
        orders, self._centre.sought = self._centre.sought, []
        for whom in orders:
            self._seek(whom)

    def _serve(self, order: do.Command) -> None:
        serving, leaving = self._serving, self._leaves_here()
        match order:
            case do.Play():
                self._playing[order.playback] = self._now
                self._come([serving.play(order)])
            case do.StopPlay():
                self._stop(order.playback)
            case do.StartAction():
                self._answer(order.request, serving.action(order), f"action {order.action!r} was not asked with these parameters")
            case do.SendMail():
                self._answer(order.request, serving.message(order), "no mail went to this address")
            case do.SendSms():
                self._answer(order.request, serving.message(order), "no text message went to this number")
            case do.StartRecord():
                self._come(serving.recording(self._input, order, leaving))
            case do.KeepRecording():
                self._come(serving.kept(order, leaving))
            case do.StartBot():
                self._come(serving.bot(order, leaving))
            case do.TellBot(type="start"):
                self._come(serving.talk(order, self._node, leaving))

    def _enter(self, step: str) -> None:
        supply, node = self._supply, self._program.steps[step]
        self._visits[step] = visit = self._visits.get(step, 0) + 1
        self._result.other_way.append((step, ""))
        if supply.broken and step == supply.broken:
            raise Undetermined("a mistake of the application's ended this step then")
        self._base = self._now
        self._key_at = None
        self._input = input_of(self._program, step)
        if self._input:
            ahead = [] if getattr(node, "sensitive", False) else [key for key in self._keys if key.early]
            self._keys = ahead + self._serving.keys(self._input, step, self._leaves_here())
        elif isinstance(node, KEYLESS):
            self._keys = []
        self._called_away = supply.called_away.get((step, visit))
        if self._called_away is not None:
            self._later(self._called_away.after, self._called_away.event)
        left = supply.left
        if left and (left.step, left.visit) == (step, visit) and not isinstance(node, WAITS):
            self._left_at_step = True
            if left.lost:
                raise Undetermined("the connection to Asterisk was lost here then")
            self._later(left.after, left.event)
        self._must_know()

    def _leave(self, fact: facts.StepLeft) -> None:
        self._result.other_way[-1] = (fact.step, fact.exit)
        away, self._called_away = self._called_away, None
        if away is not None and fact.exit != PERSON:
            what = "was sent elsewhere" if isinstance(away.event, ev.CallSteered) else "asked for a person"
            raise Undetermined(f"the caller {what} after {away.after:.1f} s then, in {fact.step!r}, which ends sooner here")
        if away is not None:
            self._pending = [one for one in self._pending if one[2] is not away.event]
        if fact.exit == PERSON:
            self._keys = []
        node = self._program.steps[fact.step]
        if isinstance(node, nodes.Collect) and fact.exit == MATCH:
            if self._keys and self._keys[0].digit == node.terminator:
                self._keys.pop(0)
            if node.sensitive:
                self._serving.typed = (*self._serving.typed, node.into)
        if self._left_at_step and not self._over:
            self._left_at_step = False
            self._pending = [one for one in self._pending if one[2] != self._supply.left.event]  # type: ignore[union-attr]

    def _leaves_here(self) -> bool:
        """Whether the caller hangs up in the open step, and until then is silent."""
        left = self._supply.left
        if left is None or not self._result.other_way:
            return False
        step = self._result.other_way[-1][0]
        return (left.step, left.visit) == (step, self._visits[step])

    def _would_have_stayed(self) -> None:
        """A caller who hung up then, in a step that this way does not come to, might have done so on this way as well."""
        if self._supply.outcome == "lost_media_server":
            raise Undetermined("the connection to Asterisk was lost then")
        left = self._supply.left
        if left and not (self._left_at_step or self._left_waiting) and self._now - self._supply.at > left.since_arrival:
            raise Undetermined(f"the caller hung up after {left.since_arrival:.1f} s then, in {left.step!r}, which does not come here")

    def _stop(self, playback: str) -> None:
        self._playing.pop(playback, None)
        self._pending = [one for one in self._pending if getattr(one[2], "playback", "") != playback]
        self._later(0.0, ev.PlaybackEnded(self._id, playback))

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
            raise Undetermined(why_not)

    def _seek(self, whom: Sought) -> None:
        wait, coming = self._serving.somebody(whom)
        self._queue = whom.queue or self._queue
        if wait.entered:
            self._note(self._centre.beside(self._centre.calls[self._id], "queued", self._now))
        self._left_waiting = wait.left is not None
        self._come(coming)

    def _come(self, coming: Iterable[Coming]) -> None:
        for after, what in coming:
            self._later(after, what)

    def _later(self, seconds: float, what: _Thing, since: float | None = None) -> None:
        self._n += 1
        self._pending.append(((self._now if since is None else since) + seconds, self._n, what))
