"""A recorded history driven through a centre once more: what replays of one call and of the whole centre share.

The journal has, for each event, one row for each call that it concerns, so a history is `Turn`s: an event and what came of it. A
`Replica` is a centre that goes through such turns, processes that died included: it takes over from its own rows, as they did.
What comes out is compared as plain JSON values, the form in which the journal has it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.core import events as ev
from app.core.book import Book
from app.core.center import Center
from app.core.defined import Kept, Unknown
from app.core.mistakes import REFUSALS, after_a_mistake
from app.core.record import Record, rows_of, unpack
from app.core.saving import dump_agent, dump_call, restore
from app.core.versions import Versions

Row: TypeAlias = tuple[int, str, list[Record]]
"""A row of the journal: its number, its call ("" for the centre) and its records."""
PLENTY = 1_000_000_000


@dataclass(slots=True)
class Turn:
    """An event (None where it is another call's, and not known here), when it was handled, and for each call what came of it."""

    seq: int
    at: float
    event: ev.Event | None
    out: dict[str, list[Record]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where a replay first leaves what was recorded: a record on either side, or None where one side has nothing more."""

    seq: int
    at: float
    call: str
    recorded: Record | None
    replayed: Record | None
    why: str = ""


class Turns:
    """Rows of all calls, in order and without a gap, put together to turns: a row without an event belongs to the event before it."""

    def __init__(self) -> None:
        self._turn: Turn | None = None
        self._last = 0

    def push(self, row: Row) -> Turn | None:
        """Take the next row; gives the turn before it, if the row begins another. Raises `Unknown` where rows are missing."""
        seq, call, records = row
        if self._last and seq != self._last + 1:
            missing = f"rows {self._last + 1} to {seq - 1} of the journal are not there"
            raise Unknown(f"{missing}: of forgotten calls, or too old to be kept")
        self._last, done = seq, None
        event, out = split(records)
        if event is not None or self._turn is None:
            done, self._turn = self._turn, Turn(seq, records[0][3], event)
        if out:
            self._turn.out.setdefault(call, []).extend(out)
        return done

    def end(self) -> Turn | None:
        """There are no more rows: the last turn."""
        done, self._turn = self._turn, None
        return done


def split(records: list[Record]) -> tuple[ev.Event | None, list[Record]]:
    """A row's event, if it has one, and what came of it."""
    if records and records[0][0] == "e":
        return unpack(records[0][1:3]), records[1:]
    return None, records


def plain(value: Any) -> Any:
    """A value as it comes back from the journal."""
    return json.loads(json.dumps(value))


def compare(turn: Turn, call: str, again: list[Record]) -> Difference | None:
    """The first difference of what came of a turn for one call, then and now."""
    recorded = turn.out.get(call, [])
    for n in range(max(len(recorded), len(again))):
        then = recorded[n] if n < len(recorded) else None
        now = again[n] if n < len(again) else None
        if then != now and plain(then) != now:
            return Difference(turn.seq, turn.at, call, then, now)
    return None


class Refused(Exception):
    """The centre refuses what it once granted."""


class Replica:
    """A centre that goes through recorded turns."""

    def __init__(self, programs: Kept, make: Callable[[Book], Center] = Center) -> None:
        self._programs, self._make = programs, make
        self.center = make(Book({}, {}, {}, PLENTY))
        self.begun = False
        self._handled: dict[str, list[tuple[float, Any]]] = {}

    def load_staff(self, hash_: str) -> None:
        """Begin with these queues and agents, where nothing was known of them before."""
        if self.center.book.staff != hash_:
            queues, agents, transfers = self._programs.staff(hash_)
            self.center = self._make(Book({}, queues, agents, PLENTY, staff=hash_, transfers=transfers))

    def handle(self, turn: Turn, event: ev.Event) -> dict[str, list[Record]]:
        """What comes of an event, for each call; raises `Unknown`, `Refused`."""
        if isinstance(event, ev.CircumstancesChanged):
            self.center.admitting, self.center.blind, self.center.store_away = event.admitting, event.blind, event.store_away
            return {}
        if isinstance(event, ev.TookOver):
            self._take_over(event)
        elif isinstance(event, ev.CallArrived):
            self._choose_flow(turn, event)
        elif isinstance(event, ev.FlowPublished):
            self._shelve({event.version: event.flow})
        elif isinstance(event, ev.FlowsRead):
            self._shelve({hash_: flow for flow, hash_ in event.files.items()})
            self._shelve({row["hash"]: row["flow"] for row in event.versions if row["state"] in ("active", "canary")})
        elif isinstance(event, ev.TimerFired):
            self.center.timers.cancel(event.owner, event.timer)
        self.begun = True
        out = self._out(event, turn.at)
        return self._write_down(event, out, turn.at)

    def _shelve(self, wanted: Mapping[str, str]) -> None:
        """Have the programs at hand that the centre will be told to run: flow by hash."""
        shelf = self.center.book.published.shelf
        shelf.update({hash_: self._programs.flow(flow, hash_) for hash_, flow in wanted.items() if hash_ not in shelf})

    def rows(self) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
        """The rows that this centre would leave behind now: calls and agents."""
        center = self.center
        calls = {call.id: plain(dump_call(center, call)) for call in center.calls.values()}
        return calls, {agent: plain(dump_agent(center, agent)) for agent in center.book.agents}

    def early(self, event: ev.Event, at: float) -> str:
        """What is wrong with a deadline that has passed in the record: here there is none, or it is later; "" where nothing is."""
        if not isinstance(event, ev.TimerFired) or not event.owner:
            return ""
        due = self.center.timers.of(event.owner).get(event.timer)
        if due is None:
            return f"the deadline {event.timer!r} passed then, and is not set now"
        return f"the deadline {event.timer!r} passed {due - at:.3f} s earlier then" if due > at else ""

    def _out(self, event: ev.Event, now: float) -> list[Any]:
        """As the engine has it handled, its answer to mistakes of ours included."""
        try:
            return self.center.fail(event.call, event.error, now) if isinstance(event, ev.StepFailed) else self.center.handle(event, now)
        except REFUSALS as refusal:
            raise Refused(str(refusal)) from None
        except Exception as error:
            return after_a_mistake(self.center, getattr(event, "call", ""), error, now)

    def _choose_flow(self, turn: Turn, event: ev.CallArrived) -> None:
        """Which version a new call runs is an input: publishing and shares of callers decided it."""
        began = next((record[2] for record in turn.out.get(event.call, ()) if record[1] == "FlowBegan"), None)
        if began is None:
            return
        book = self.center.book
        if began.get("staff", "") != book.staff and not book.queues and not book.agents:
            self.load_staff(began.get("staff", ""))
        self.center.book.flows = {event.dnis: self._programs.flow(began["flow"], began["version"])}

    def _take_over(self, event: ev.TookOver) -> None:
        """The process died, and the next one goes on from what was written down, with the files as they were then."""
        if not event.staff:
            raise Unknown("a process took over that did not yet write down what it ran")
        queues, agents, transfers = self._programs.staff(event.staff)
        flows = [self._programs.flow(*name.split(" ")) for name in event.flows]
        calls, rows = self.rows()
        if not self.begun:
            rows = dict(event.agents)
        numbered = {str(n): flow for n, flow in enumerate(flows)}
        published = Versions(lines=self.center.book.published.lines)
        self.center = self._make(Book(numbered, queues, agents, PLENTY, published, event.staff, transfers))
        self.center.blind = event.blind
        restore(self.center, calls, rows, self._handled, event.last)

    def _write_down(self, event: ev.Event, out: list[Any], at: float) -> dict[str, list[Record]]:
        rows: dict[str, list[Record]] = {call: plain(records) for call, records in rows_of(event, out, at).items()}
        for call, records in rows.items():
            handled = self._handled.setdefault(call, []) if call else []
            handled += [(at, unpack(record[1:3])) for record in records if record[0] != "c"]
        self.center.touched()
        for call in rows:
            if call and call not in self.center.calls:
                self._handled.pop(call, None)
        return {call: [record for record in records if record[0] != "e"] for call, records in rows.items()}
