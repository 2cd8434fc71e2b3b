"""One recorded call, run again: its own events and those of the centre go into a fresh centre with the flow version it ran.

What the ACD decided is an input, since it hangs on all other calls: positions, offers and the want of agents are read off the record
just where the centre asks for them (`_RecordedAcd`). Everything else is decided anew and compared: steps, exits, facts, commands,
and that each deadline which passed was due. A crash in the record is a crash in the replay.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

from app.core import events as ev
from app.core.acd import Acd, Waiting
from app.core.book import Book
from app.core.call import Call
from app.core.center import Center
from app.core.defined import Kept, Unknown
from app.core.flow.script import Order
from app.core.flow.sought import Sought, sought
from app.core.record import Record, UnknownRecord, home
from app.core.recorded import Difference, Refused, Replica, Row, Turn, compare, split
from app.core.transfer import NOT_RUNG


@dataclass(slots=True)
class Replayed:
    """A call, what was recorded of it and what came of it again; `unknown` says why it could not be run (to the end)."""

    call: str
    flow: str = ""
    version: str = ""
    recorded: list[Record] = field(default_factory=list)
    replayed: list[Record] = field(default_factory=list)
    difference: Difference | None = None
    unknown: str = ""
    sought: list[tuple[float, Sought]] = field(default_factory=list)
    """When the flow sought somebody for the caller, and whom."""

    @property
    def identical(self) -> bool:
        """Whether the same came of it, to the end."""
        return self.difference is None and not self.unknown


def replay_call(call: str, rows: Iterable[Row], programs: Kept, *, strict: bool = True) -> Replayed:
    """Run a call again. `rows` are its own and those of the centre between its first and its last, in order.

    Not `strict`: deadlines may pass that were not due.
    """
    return _Again(call, programs, strict).run(rows)


class _Given(NamedTuple):
    """A match as it is on record."""

    interaction: str
    agent: str
    decision: Mapping[str, Any]


class _RecordedAcd:
    """What a centre asks an `Acd`, answered from what the record has next."""

    def __init__(self, upcoming: Callable[[], list[Record]]) -> None:
        self._upcoming = upcoming

    def _next(self) -> Record:
        return next(iter(self._upcoming()), ["", "", {}, 0.0])

    def able(self, queue: str, skills: Mapping[str, int]) -> tuple[int, int]:
        """Somebody could serve this unless the record goes on with the news that nobody could."""
        _, name, values, _ = self._next()
        return (0, 0) if name == "Outcome" and values["outcome"] == "no_agents" else (1, 1)

    def match(self, now: float) -> list[_Given]:
        """The offer that is next on record."""
        _, name, values, _ = self._next()
        return [_Given(values["call"], values["agent"], values.get("decision", {}))] if name == "Offered" else []

    def position(self, interaction: str) -> int:
        """The place as the next record that has one tells it."""
        for _, name, values, _ in self._upcoming():
            if name == "Queued":
                return int(values["position"])
            if name == "QueueLog" and values["event"] == "ABANDON":
                return int(values["values"][0])
        return 0

    def state(self, agent: str) -> dict[str, Any]:
        """With a desk unless the phone is rung at once; signed out, so that it is always asked who could still be served."""
        _, name, _, _ = self._next()
        return {"desk": name != "RingAgent", "presence": "signed_out", "work": []}

    def reserve(self, agent: str, interaction: str, now: float) -> str:
        """Why the agent could not be had, where the record goes on with that."""
        _, _, values, _ = self._next()
        detail = values.get("detail", "")
        return next((why_not for why_not, (_, text) in NOT_RUNG.items() if text.format(agent) == detail), "")

    def item(self, interaction: str) -> Waiting:
        return Waiting(interaction, "", {}, 0.0)

    def dump_agent(self, agent: str) -> dict[str, Any]:
        return {"work": []}

    def states(self) -> list[dict[str, Any]]:
        return []

    changed = states

    def next_deadline(self) -> None:
        return None

    def _nothing(self, *_: Any) -> None:
        """What only changes the ACD's own state."""

    enqueue = requeue = restore = leave = work = load_agent = due = _nothing
    sign_in = sign_out = ready = not_ready = phone = desk = _nothing


class _Alone(Center):
    """A centre that has one call, and an ACD that only remembers."""

    def __init__(self, book: Book, expected: Callable[[], list[Record]], sought: list[tuple[float, Sought]]) -> None:
        super().__init__(book)
        self._upcoming: Callable[[], list[Record]] = lambda: expected()[len(self._out) :]
        self.acd = cast(Acd, _RecordedAcd(self._upcoming))
        self._sought = sought

    def transfers_up(self) -> int:
        """As many as there may be where the record goes on with the news that there were."""
        record: Record = next(iter(self._upcoming()), ["", "", {}, 0.0])
        _, name, values, _ = record
        return self.book.transfers.at_once if name == "Noticed" and "are up already" in values.get("detail", "") else 0

    def _order(self, call: Call, order: Order, now: float) -> None:
        if (whom := sought(call, order)) is not None:
            self._sought.append((now, whom))
        super()._order(call, order, now)


class _Again:
    """One run."""

    def __init__(self, call: str, programs: Kept, strict: bool) -> None:
        self._call, self._strict = call, strict
        self._expected: list[Record] = []
        self._result = Replayed(call)
        self._replica = Replica(programs, lambda book: _Alone(book, lambda: self._expected, self._result.sought))

    def run(self, rows: Iterable[Row]) -> Replayed:
        result = self._result
        try:
            left = deque(self._turns(rows))
            self._look(left)
            while left and result.difference is None:
                self._turn(left.popleft(), left)
        except (Unknown, UnknownRecord) as error:
            told = str(error)
            result.unknown = told if isinstance(error, Unknown) else f"a record of a type that this version does not have: {told}"
        return result

    def _turns(self, rows: Iterable[Row]) -> Iterable[Turn]:
        for seq, whose, records in rows:
            event, out = split(records)
            if event is not None or (out and whose):
                yield Turn(seq, records[0][3], event, {self._call: out} if whose else {})

    def _look(self, left: deque[Turn]) -> None:
        """What was recorded, and whether all of it is there."""
        result = self._result
        result.recorded = [record for turn in left for record in turn.out.get(self._call, ())]
        while left and not left[0].out:
            left.popleft()
        if not left or not isinstance(left[0].event, ev.CallArrived):
            raise Unknown("its beginning is not in the journal")
        began: dict[str, Any] = next((values for _, name, values, _ in result.recorded if name == "FlowBegan"), {})
        result.flow, result.version = began.get("flow", ""), began.get("version", "")
        if not began.get("staff"):
            raise Unknown("it is from before queues and agents were kept with the calls")

    def _turn(self, turn: Turn, left: deque[Turn]) -> None:
        if isinstance(turn.event, ev.FlowPublished | ev.FlowsRead):
            return  # a call keeps its version, whatever becomes of it
        event = turn.event or _cause(turn.out[self._call])
        early = self._replica.early(event, turn.at) if self._strict and home(event) == self._call else ""
        if early:
            self._result.difference = Difference(turn.seq, turn.at, self._call, None, None, early)
            return
        if not turn.out and left and left[0].event is None and left[0].at == turn.at:
            turn.out = left[0].out  # what came of a centre's event for this call, if that is whose it is
            if not self._handled(turn, event):
                return
            left.popleft()
        else:
            self._handled(turn, event)

    def _handled(self, turn: Turn, event: ev.Event) -> bool:
        """Handle an event and compare; whether anything came of it, and so was compared."""
        self._expected = turn.out.get(self._call, [])
        try:
            again = self._replica.handle(turn, event).get(self._call, [])
        except Refused as refusal:
            self._result.difference = Difference(turn.seq, turn.at, self._call, None, None, f"{type(event).__name__} is refused: {refusal}")
            return True
        if again or home(event) == self._call or turn.event is None:
            self._result.replayed += again
            self._result.difference = compare(turn, self._call, again)
            return True
        return False


def _cause(out: list[Record]) -> ev.Event:
    """An event that makes the centre ask the ACD for what came of another call's event: the want of agents, or an offer."""
    return ev.AgentSignedOut("") if out[0][1] == "Outcome" else ev.TimerFired("", "acd")
