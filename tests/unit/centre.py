"""A centre on virtual time, driven by hand: what a PBX, a CRM and phones would do is a line in the test."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from app.actions.files import load_actions
from app.core import commands as do
from app.core import events as ev
from app.core import facts
from app.core.book import Book
from app.core.center import Center
from app.core.defined import Kept, Staff, Unknown, to_keep
from app.core.flow.compiled import Compiled
from app.core.flow.replay import replay_call
from app.core.flow.secret import is_secret
from app.core.flow.spoken import text_in
from app.core.flow.what_if import what_if
from app.core.record import pack, rows_of, unpack
from app.core.recorded import Row, plain
from app.core.replay_centre import replay_centre
from app.core.saving import dump_agent, dump_call, restore
from app.publish.centre import load_book

PROJECT = Path(__file__).parents[2] / "app" / "demo"
OUTPUTS = {name: definition.outputs for name, definition in load_actions(PROJECT / "actions").items()}

ANNA: Mapping[str, Any] = {
    "found": True,
    "count": 1,
    "id": "c-anna",
    "reference": "ASC2K41",
    "first_name": "Anna",
    "last_name": "Schmidt",
    "phone": "+4930555000101",
    "email": "anna@example.com",
    "language": "en",
    "premium": True,
    "tier": "gold",
    "late_payment": False,
    "customer_value": 900.0,
    "product": "printers",
    "skills": {"lang.en": 5, "product.printers": 3},
    "open_cases": 0,
    "order_id": "o-1",
    "order_number": "4711",
    "order_status": "shipped",
    "order_status_text": "is on its way",
    "record_url": "http://127.0.0.1:8081/records/c-anna",
}
BEN = {**ANNA, "id": "c-ben", "first_name": "Ben", "premium": False, "tier": "basic", "email": "ben@example.com", "skills": {}}
CARLA = {**ANNA, "id": "c-carla", "first_name": "Carla", "late_payment": True, "premium": False}


def book() -> Book:
    return load_book(PROJECT, OUTPUTS)


COMPILED: dict[str, Compiled] = {}
SIMS: list[Sim] = []
"""Every centre that the test at hand has made."""


class Sim:
    """One centre, its clock, and everything it has said so far."""

    def __init__(self, centre_book: Book | None = None) -> None:
        self.book = centre_book or book()
        self.center = Center(self.book)
        self.now = self.died = 1_000_000.0
        self.out: list[Any] = []
        self.journal: dict[str, list[tuple[float, Any]]] = {}
        self.live: dict[str, dict[str, Any]] = {}
        self.agents: dict[str, dict[str, Any]] = {}
        self.calls = 0
        self.rows: list[Row] = []
        self.kept: dict[str, tuple[str, Any]] = {}
        self._journaled = self.center.circumstances
        self._add_rows(self.taking_over({}), [])
        SIMS.append(self)

    # ---- what happens --------------------------------------------------------------------------------------------------

    def happen(self, event: ev.Event) -> list[Any]:
        """An event now; what came of it."""
        event = self.center.veiled(event)
        if self.center.circumstances != self._journaled:
            self._journaled = self.center.circumstances
            self._add_rows(ev.CircumstancesChanged(*self._journaled), [])
        if isinstance(event, ev.FlowPublished | ev.FlowsRead):
            self.kept |= to_keep(self.book.published.shelf.values())
        out = self.center.handle(event, self.now)
        self._add_rows(event, out)
        self._write_down(event, out)
        return out

    def taking_over(self, agents: Mapping[str, Any]) -> ev.TookOver:
        """The event with which a process begins that found these rows of agents, and the calls that are live."""
        self.kept |= to_keep(self.book.versions(), Staff(self.book.queues, self.book.agents, self.book.transfers))
        flows = tuple(f"{flow.name} {flow.version}" for flow in self.book.versions())
        return ev.TookOver(self.died, len(self.live), self.center.blind, self.book.staff, flows, agents)

    def _add_rows(self, event: ev.Event, out: list[Any]) -> None:
        """The rows of the journal, as the engine writes them."""
        for call, records in rows_of(event, out, self.now).items():
            self.rows.append((len(self.rows) + 1, call, plain(records)))

    def what_ran(self) -> Kept:
        """Everything that this centre ran; programs are compiled once for all tests."""
        kept = Kept(self.kept)
        kept.flows = COMPILED
        return kept

    def replays(self) -> None:
        """The whole centre and each of its calls come out the same when they are run again from the journal."""
        kept = self.what_ran()
        whole = replay_centre(self.rows, kept, strict=False)
        assert whole.identical, whole
        for call in dict.fromkeys(whose for _, whose, _ in self.rows if whose and not whose.startswith("nobody")):
            rows = [row for row in self.rows if row[1] in ("", call)]
            if rows[-1][1] or any(row[1] for row in rows):
                one = replay_call(call, rows, kept, strict=False)
                assert one.identical, (one.difference, one.unknown)
                assert one.replayed == one.recorded

    def records_no_secret(self) -> None:
        """While a caller is asked for something sensitive, no recording of the call is under way."""
        kept = self.what_ran()
        under_way: dict[str, set[str]] = {}
        programs: dict[str, Any] = {}
        for _, call, records in self.rows:
            for _, name, values, _ in records:
                if name == "FlowBegan":
                    with suppress(Unknown):
                        programs[call] = kept.flow(values["flow"], values["version"]).program
                elif name == "StartRecord":
                    under_way.setdefault(call, set()).add(values["recording"])
                elif name in ("StopRecord", "RecordingEnded"):
                    under_way.get(call, set()).discard(values["recording"])
                elif name == "StepEntered" and call in programs and is_secret(programs[call].steps[values["step"]]):
                    assert not under_way.get(call), f"{call} is recorded at {values['step']}"

    def _write_down(self, event: ev.Event, out: list[Any]) -> None:
        self.out += out
        home = event.owner if isinstance(event, ev.TimerFired) else getattr(event, "call", "")
        self.journal.setdefault(home, []).append((self.now, unpack(pack(event))))
        for thing in out:
            if isinstance(thing, facts.Fact):
                self.journal.setdefault(thing.call, []).append((self.now, unpack(pack(thing))))
        touched = self.center.touched()
        for call_id, call in touched.calls.items():
            if call is None:
                self.live.pop(call_id, None)
            else:
                self.live[call_id] = json.loads(json.dumps(dump_call(self.center, call)))
        for agent in touched.agents:
            self.agents[agent] = json.loads(json.dumps(dump_agent(self.center, agent)))

    def wait(self, seconds: float) -> None:
        """Let time pass, firing every deadline in order."""
        until = self.now + seconds
        while (at := self.center.next_deadline()) is not None and at <= until:
            self.now = max(at, self.now)
            due = self.center.due(self.now)
            assert due is not None
            self.happen(due)
        self.now = until

    def crash(self, away: float = 0.0) -> None:
        """The process dies and the next one takes over, so many seconds later, from what was written down."""
        self.died = self.now
        self.now += away
        center = Center(self.book)
        trouble = restore(center, self.live, self.agents, self.journal, self.now)
        assert trouble == []
        self.center = center
        self.take_over_event()

    def take_over_event(self) -> None:
        """What the next process handles first."""
        self._journaled = self.center.circumstances
        self.happen(self.taking_over(json.loads(json.dumps(self.agents))))

    def goes_no_other_way(self) -> None:
        """Under the version that it ran, a call takes the same way, or it is said that this cannot be known."""
        kept = self.what_ran()
        for ended in self.all(facts.CallEnded):
            rows = [row for row in self.rows if row[1] in ("", ended.call)]
            again = replay_call(ended.call, rows, kept, strict=False)
            other = what_if(again, rows, kept.flow(again.flow, again.version), kept)
            assert other.verdict in ("same way", "undetermined"), other

    # ---- callers and agents --------------------------------------------------------------------------------------------

    def dial(self, ani: str = "+4930555000101", dnis: str = "1000", **more: Any) -> str:
        self.calls += 1
        call = f"call{self.calls}"
        self.happen(ev.CallArrived(call, f"channel-{call}", ani=ani, dnis=dnis, uniqueid=f"u{call}", **more))
        return call

    def press(self, call: str, keys: str) -> None:
        for key in keys:
            self.happen(ev.DigitPressed(call, key))

    def answer_action(self, call: str, values: Mapping[str, Any]) -> None:
        self.happen(ev.ActionSucceeded(call, self.last(do.StartAction, call).request, values))

    def fail_action(self, call: str, reason: str = "timeout") -> None:
        self.happen(ev.ActionFailed(call, self.last(do.StartAction, call).request, reason))

    def prompt_ends(self, call: str) -> None:
        self.happen(ev.PlaybackEnded(call, self.last(do.Play, call).playback))

    def agent_is_ready(self, agent: str, *, desk: bool = False) -> None:
        self.happen(ev.AgentPhoneChanged(agent, True))
        self.happen(ev.AgentSignedIn(agent))
        if desk:
            self.happen(ev.DeskFound(agent))
        self.happen(ev.AgentBecameReady(agent))

    def rings(self, call: str) -> str:
        leg = self.last(do.RingAgent, call).leg
        self.happen(ev.LegRinging(call, leg))
        return leg

    def answers(self, call: str) -> str:
        leg = self.rings(call)
        self.happen(ev.LegAnswered(call, leg))
        return leg

    def hangs_up(self, call: str, cause: int = 16) -> None:
        self.happen(ev.CallerLeft(call, cause))

    # ---- what is asserted ----------------------------------------------------------------------------------------------

    def all(self, kind: type[Any], call: str | None = None) -> list[Any]:
        return [thing for thing in self.out if isinstance(thing, kind) and (call is None or thing.call == call)]

    def last(self, kind: type[Any], call: str | None = None) -> Any:
        found = self.all(kind, call)
        assert found, f"no {kind.__name__} so far"
        return found[-1]

    def heard(self, call: str) -> str:
        """Everything that was played to a caller, as text."""
        return " ".join(said[0] if (said := text_in(item, "")) else item for play in self.all(do.Play, call) for item in play.media)

    def steps(self, call: str) -> list[str]:
        return [fact.step for fact in self.all(facts.StepEntered, call)]

    def ending(self, call: str) -> str:
        endings = self.all(facts.CallEnded, call)
        assert len(endings) == 1, f"{len(endings)} endings"
        return str(endings[0].outcome)

    def at_step(self, call: str) -> str:
        return self.center.calls[call].step
