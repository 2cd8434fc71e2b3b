"""What a recorded call offers to another version of its flow: answers, keys, ends of prompts, what became of waiting, and the hang-up.

Each is kept under what it may serve: an action's result under the action and its parameters, keys under the name of their input
(`into` of a `collect`, the step's name of a `menu`), a prompt's length under its media, a wait in a queue under queue, skills and place.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from app.core import events as ev
from app.core.acd.relaxation import FOREVER
from app.core.call import SWALLOW
from app.core.defined import Unknown
from app.core.flow import program as nodes
from app.core.flow.program import Program
from app.core.flow.replay import QueueKey, Replayed
from app.core.flow.script import PERSON
from app.core.record import Record, unpack
from app.core.recorded import Row

Way: TypeAlias = list[tuple[str, str]]
"""Steps and the exits by which they were left; "" for one that was not."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key, `after` seconds from the beginning of the prompt (`over` it), or else from its end, the key before or the step's entry.

    `early`: typed ahead, before the step that asked for it.
    """

    digit: str
    after: float
    over: bool = False
    early: bool = False


STEERED = "steered"
"""What became of a wait out of which another system sent the call to an entry."""
SILENCE = Key("", 0.0)
"""A wait for keys that ran out."""


@dataclass(slots=True)
class Answer:
    """What came of a request, seconds after it was made; no event: nothing had come by then, when the call was over."""

    after: float = 0.0
    event: ev.Event | None = None


@dataclass(slots=True)
class Happened:
    """What ended the nth visit of a step from outside, seconds after its entry, and after the call's arrival."""

    event: ev.Event
    step: str
    visit: int
    after: float
    since_arrival: float


@dataclass(slots=True)
class Left(Happened):
    """The caller's own hang-up; `lost`: the PBX was."""

    lost: bool = False


@dataclass(slots=True)
class Waited:
    """What became of a place in a queue, in seconds from when it was asked for: connected, an outcome, or the caller's leaving."""

    limit: float | None
    entered: bool = False
    """Whether the caller was put into the queue."""
    connected: float | None = None
    agent: str = ""
    outcome: str = ""
    ended: float | None = None
    left: ev.CallerLeft | None = None


@dataclass(slots=True)
class Supply:
    """All of it, for one call."""

    arrival: ev.CallArrived
    at: float
    staff: str
    way: Way = field(default_factory=list)
    outcome: str = ""
    queue: str = ""
    lasted: float = 0.0
    """Seconds from the arrival to the call's end."""
    actions: dict[str, list[Answer]] = field(default_factory=dict)
    mails: dict[str, list[Answer]] = field(default_factory=dict)
    played: dict[tuple[str, ...], list[tuple[float, bool]]] = field(default_factory=dict)
    unfinished: dict[tuple[str, ...], float] = field(default_factory=dict)
    """How long a prompt was heard that never came to its end, in seconds."""
    inputs: dict[str, list[list[Key]]] = field(default_factory=dict)
    queues: dict[QueueKey, list[Waited]] = field(default_factory=dict)
    written: list[tuple[float, ev.SessionWritten]] = field(default_factory=list)
    left: Left | None = None
    called_away: dict[tuple[str, int], Happened] = field(default_factory=dict)
    """By step and visit: another system sent the call to an entry, or the caller pressed the key that reaches a person."""
    broken: str = ""
    """The step at which a mistake of ours ended in the error exit."""


def input_of(program: Program, step: str) -> str:
    """The name under which a step's keys go, or "" for a step that asks for none."""
    node = program.steps.get(step)
    if not isinstance(node, nodes.Collect | nodes.Menu | nodes.Confirm):
        return ""
    return f"input {node.into}" if isinstance(node, nodes.Collect) else f"{node.do} {step}"


def asked(action: str, params: Mapping[str, Any]) -> str:
    """An action with its parameters."""
    return f"{action} {json.dumps(params, sort_keys=True)}"


def supply_of(rows: list[Row], again: Replayed, program: Program) -> Supply:
    """What a call's own rows offer; `again` is its replay, `program` what it ran. Raises `Unknown` where it has not ended."""
    records = [record for _, call, row in rows if call == again.call for record in row]
    if not records or records[0][1] != "CallArrived":
        raise Unknown("its beginning is not in the journal")
    if not any(name == "CallEnded" for _, name, _, _ in records):
        raise Unknown("it has not ended yet")
    reader = _Reader(records, program)
    for record in records:
        reader.read(record)
    reader.waited(again)
    return reader.supply


class _Reader:
    """One pass over the records of a call."""

    def __init__(self, records: list[Record], program: Program) -> None:
        began = next(values for _, name, values, _ in records if name == "FlowBegan")
        self.supply = Supply(unpack(records[0][1:3]), records[0][3], began.get("staff", ""))
        self._records, self._program = records, program
        self._step, self._entered = "", records[0][3]
        self._visits: dict[str, int] = {}
        self._asked: dict[str, tuple[float, Answer]] = {}
        self._playing: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._last = 0.0
        self._early: list[Key] = []
        self._swallow = ("", 0.0)
        self._leaving = False
        self._gap = False
        """Whether nobody of ours was there for a while since the last key: what took its time then tells nothing."""
        self._before = self._before_gap = records[0][3]

    def read(self, record: Record) -> None:
        kind, name, values, at = record
        if name in ("TakenOver", "CallFound") and not self._gap:
            self._gap, self._before_gap = True, self._before
        self._before = at
        if kind == "e":
            self._event(unpack([name, values]), at)
        elif name == "StepEntered":
            self._enter(values["step"], at)
        elif name == "StepLeft":
            self.supply.way[-1] = (values["step"], values["exit"])
            node = self._program.steps.get(values["step"])
            if isinstance(node, nodes.Collect) and values["exit"] == "match":
                self._swallow = (node.terminator, at)
            if values["exit"] == PERSON:
                self._wanted_a_person(at)
        elif name == "CallEnded":
            self.supply.outcome, self.supply.lasted = values["outcome"], at - self.supply.at
            for since, answer in self._asked.values():
                answer.after = max(at - since, 0.0)
            if self.supply.left:
                self.supply.left.lost = values["outcome"] == "lost_media_server"
        else:
            self._order(name, values, at)

    def _order(self, name: str, values: Mapping[str, Any], at: float) -> None:
        if name == "StartAction":
            self._ask(values["request"], self.supply.actions.setdefault(asked(values["action"], values["params"]), []), at)
        elif name == "SendMail":
            self._ask(values["request"], self.supply.mails.setdefault(values["to"], []), at)
        elif name == "Play":
            self._playing[values["playback"]] = (at, tuple(values["media"]))
        elif name == "StopPlay":
            self._break_off(values["playback"], at)
            self._last = at
        elif name in ("HangUp", "Release"):
            self._leaving = True

    def _break_off(self, playback: str, at: float) -> None:
        since, media = self._playing.pop(playback, (at, ()))
        self.supply.unfinished[media] = max(at - since, self.supply.unfinished.get(media, 0.0))

    def _ask(self, request: str, answers: list[Answer], at: float) -> None:
        """A request that is asked again after a crash counts as answered at once."""
        if request in self._asked:
            self._asked[request] = FOREVER, self._asked[request][1]
            return
        answers.append(Answer())
        self._asked[request] = at, answers[-1]

    def _event(self, event: ev.Event, at: float) -> None:
        if isinstance(event, ev.ActionSucceeded | ev.ActionFailed | ev.MailSent | ev.MailFailed):
            since, answer = self._asked.pop(event.request, (at, Answer()))
            answer.after, answer.event = max(at - since, 0.0), event
        elif isinstance(event, ev.PlaybackEnded) and event.playback in self._playing:
            since, media = self._playing.pop(event.playback)
            self.supply.played.setdefault(media, []).append((at - since, event.ok))
            self._last = at
        elif isinstance(event, ev.DigitPressed):
            self._key(event.digit, at)
        elif isinstance(event, ev.TimerFired) and event.timer.startswith("wait ") and not self._playing:
            if name := input_of(self._program, self._step):
                self.supply.inputs[name][-1].append(SILENCE)
            self._last = at
        elif isinstance(event, ev.SessionWritten):
            self.supply.written.append((at - self.supply.at, replace(event, expected=None)))
        elif isinstance(event, ev.CallSteered):
            self._called_away(event, at)
        elif isinstance(event, ev.StepFailed):
            self.supply.broken = self.supply.broken or self._step
        elif isinstance(event, ev.CallerLeft):
            self._left(event, at)

    def _left(self, event: ev.CallerLeft, at: float) -> None:
        for playback in list(self._playing):
            self._break_off(playback, at)
        if self.supply.left is None and not self._leaving:
            self.supply.left = Left(event, *self._here(at))

    def _here(self, at: float) -> tuple[str, int, float, float]:
        """Step, visit, seconds since its entry and since the arrival; the time in which nobody of ours was there is left out."""
        there = self._before_gap if self._gap else at
        return self._step, self._visits.get(self._step, 0), max(there - self._entered, 0.0), at - self.supply.at

    def _called_away(self, event: ev.Event, at: float) -> None:
        self.supply.called_away[self._step, self._visits.get(self._step, 0)] = Happened(event, *self._here(at))
        self._early = []

    def _wanted_a_person(self, at: float) -> None:
        """In a step that asks for no keys, the key that led away is on record by its time; in others it is one of the input's."""
        reach = self._program.reach_a_person
        if reach and not input_of(self._program, self._step):
            self._called_away(ev.DigitPressed(self.supply.arrival.call, reach.key), at)

    def _enter(self, step: str, at: float) -> None:
        self._step, self._entered, self._last, self._gap = step, at, at, False
        self._visits[step] = self._visits.get(step, 0) + 1
        self.supply.way.append((step, ""))
        name = input_of(self._program, step)
        if name:
            self.supply.inputs.setdefault(name, []).append(self._early)
            self._early = []
        elif isinstance(self._program.steps.get(step), nodes.Queue):
            self._early = []

    def _ahead(self) -> list[Key]:
        return [] if isinstance(self._program.steps.get(self._step), nodes.Queue) else self._early

    def _key(self, digit: str, at: float) -> None:
        swallow, until = self._swallow[0], self._swallow[1] + SWALLOW
        self._swallow = ("", 0.0)
        if digit == swallow and at <= until:
            return
        name = input_of(self._program, self._step)
        if not name:
            self._ahead().append(Key(digit, 0.0, early=True))
            return
        began = next((since for since, _ in self._playing.values()), None)
        after = 0.0 if self._gap else at - (self._last if began is None else began)
        self.supply.inputs[name][-1].append(Key(digit, after, over=began is not None))
        self._last, self._gap = at, False

    def waited(self, again: Replayed) -> None:
        """What became of each place in a queue that the flow asked for. One that is not entered is told so at once."""
        orders = iter(again.queued)
        wait: Waited | None = None
        since = 0.0
        for _, name, values, at in self._records:
            if name == "Queued" or (name == "Outcome" and wait is None):
                since, key, limit = next(orders, (at, None, None))
                if key is None:
                    return
                wait, self.supply.queue = Waited(limit, entered=name == "Queued"), key[0]
                self.supply.queues.setdefault(key, []).append(wait)
            if wait is None:
                continue
            if name == "Connected":
                wait.connected, wait.agent = at - since, values["agent"]
            elif name == "CallSteered":
                wait.outcome, wait.ended, wait = STEERED, at - since, None
            elif name == "Outcome":
                wait.outcome, wait.ended, wait = values["outcome"], at - since, None
            elif name == "CallerLeft":
                wait.left, wait.ended, wait = unpack([name, values]), at - since, None
