"""The whole centre run again, the ACD included: every event of the journal in order, every fact and command compared.

It begins where a process began that found no calls (its `TookOver` has the agents' rows), or at the very beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from app.core import events as ev
from app.core.defined import Kept, Unknown
from app.core.record import Record, UnknownRecord
from app.core.recorded import Difference, Refused, Replica, Row, Turn, Turns, compare, plain

NOBODY: list[Record] = []


@dataclass(slots=True)
class CentreReplayed:
    """How far it went: from and to (epoch seconds), events, calls that arrived, take-overs; where it first differs, or why it ended."""

    since: float = 0.0
    until: float = 0.0
    events: int = 0
    calls: int = 0
    takeovers: int = 0
    records: int = 0
    difference: Difference | None = None
    unknown: str = ""

    @property
    def over(self) -> bool:
        """Whether it came to a difference, or to something that is not known."""
        return self.difference is not None or bool(self.unknown)

    @property
    def identical(self) -> bool:
        """Whether the same came of everything."""
        return not self.over


def replay_centre(rows: Iterable[Row], programs: Kept, *, strict: bool = True) -> CentreReplayed:
    """Run all rows again. The first must be a process's beginning without calls. Not `strict`: deadlines may pass that were not due."""
    again = CentreReplay(programs, strict)
    for row in rows:
        if not again.take(row):
            break
    return again.end()


class CentreReplay:
    """The same for rows that come one after another."""

    def __init__(self, programs: Kept, strict: bool = True) -> None:
        self._replica, self._strict = Replica(programs), strict
        self._turns = Turns()
        self.result = CentreReplayed()

    def take(self, row: Row) -> bool:
        """The next row; False when it makes no sense to go on."""
        return self._run(lambda: self._turns.push(row))

    def end(self) -> CentreReplayed:
        """There are no more rows."""
        if not self.result.over:
            self._run(self._turns.end)
        return self.result

    def _run(self, next_turn: Callable[[], Turn | None]) -> bool:
        result = self.result
        try:
            turn = next_turn()
            if turn is not None:
                _count(result, turn)
                result.difference = _turn(self._replica, turn, self._strict)
        except Unknown as error:
            result.unknown = str(error)
        except UnknownRecord as error:
            result.unknown = f"a record of a type that this version does not have: {error}"
        return not result.over


def _count(result: CentreReplayed, turn: Turn) -> None:
    if turn.event is None or (not result.events and not (isinstance(turn.event, ev.TookOver) and turn.event.calls == 0)):
        raise Unknown("the journal does not begin where a process began that found no calls")
    result.since = result.since or turn.at
    result.until = turn.at
    result.events += 1
    result.calls += isinstance(turn.event, ev.CallArrived)
    result.takeovers += isinstance(turn.event, ev.TookOver)
    result.records += sum(map(len, turn.out.values()))


def _turn(replica: Replica, turn: Turn, strict: bool) -> Difference | None:
    event = turn.event
    assert event is not None
    why = replica.early(event, turn.at) if strict else ""
    if isinstance(event, ev.TookOver) and replica.begun:
        why = why or _left_behind(replica, event)
    if why:
        return Difference(turn.seq, turn.at, "", None, None, why)
    try:
        again = replica.handle(turn, event)
    except Refused as refusal:
        return Difference(turn.seq, turn.at, "", None, None, f"{type(event).__name__} is refused: {refusal}")
    replica.center.next_deadline()  # lets go of deadlines that were taken back
    for call in dict.fromkeys((*turn.out, *again)):
        difference = compare(turn, call, again.get(call, NOBODY))
        if difference is not None:
            return difference
    return None


def _left_behind(replica: Replica, event: ev.TookOver) -> str:
    """How the rows that a process found differ from those that the replay leaves behind; "" where they do not."""
    calls, agents = replica.rows()
    if len(calls) != event.calls:
        return f"{event.calls} calls were live when a process took over, and {len(calls)} are now"
    for agent, row in event.agents.items():
        if agent in agents and agents[agent] != plain(row):
            differ = [name for name in row if agents[agent].get(name) != row[name]]
            return f"agent {agent}: {', '.join(differ)} then, when a process took over, and otherwise now"
    return ""
