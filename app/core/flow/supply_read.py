"""A recorded call is read for what it offers to another version of its flow (`app.core.flow.supply`): one pass over its records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from app.core import events as ev
from app.core.acd.relaxation import FOREVER
from app.core.call import SWALLOW
from app.core.defined import Unknown
from app.core.flow import program as nodes
from app.core.flow.program import Program
from app.core.flow.replay import Replayed
from app.core.flow.script import MATCH, PERSON
from app.core.flow.sought import CALLBACK, Sought
from app.core.flow.supply import (
    KEYLESS,
    SILENCE,
    STEERED,
    Answer,
    Happened,
    Key,
    Left,
    Supply,
    Taken,
    Talk,
    Waited,
    asked,
    input_of,
    makes_of_secrets,
    shape_of,
)
from app.core.record import Record, unpack
from app.core.recorded import Row


def supply_of(rows: list[Row], again: Replayed, program: Program) -> Supply:
    """What a call's own rows offer; `again` is its replay, `program` what it ran. Raises `Unknown` where it has not ended."""
    records = [record for _, call, row in rows if call == again.call for record in row]
    if not records or records[0][1] != "CallArrived":
        raise Unknown("its beginning is not in the journal")
    end = next((n for n, record in enumerate(records) if record[1] == "CallEnded"), None)
    if end is None:
        raise Unknown("it has not ended yet")
    reader = _Reader(records[: end + 1], program)
    _read_waits(reader.supply, records[: end + 1], again)
    return reader.supply


class _Reader:
    """What has been read so far; what comes after the call's end is nobody's answer any more."""

    def __init__(self, records: list[Record], program: Program) -> None:
        began = next(values for _, name, values, _ in records if name == "FlowBegan")
        self.supply = Supply(unpack(records[0][1:3]), records[0][3], began.get("staff", ""))
        self.supply.makes_of_secrets = makes_of_secrets(program)
        self._program = program
        self._step, self._entered = "", records[0][3]
        self._visits: dict[str, int] = {}
        self._asked: dict[str, tuple[float, Answer]] = {}
        self._playing: dict[str, tuple[float, tuple[str, ...]]] = {}
        self._taking: dict[str, tuple[float, Taken]] = {}
        self._taken: dict[str, Taken] = {}
        self._talking: dict[str, tuple[float, Talk]] = {}
        self._typed: tuple[str, ...] = ()
        self._last = 0.0
        self._early: list[Key] = []
        self._swallow = ("", 0.0)
        self._leaving = False
        self._gap = False
        """Whether nobody of ours was there for a while since the last key: what took its time then tells nothing."""
        self._before = self._before_gap = records[0][3]
        for record in records:
            self._read(record)

    def _read(self, record: Record) -> None:
        kind, name, values, at = record
        if name in ("TakenOver", "CallFound") and not self._gap:
            self._gap, self._before_gap = True, self._before
        self._before = at
        if kind == "e":
            self._event(unpack([name, values]), at)
        elif name == "StepEntered":
            self._enter(values["step"], at)
        elif name == "StepLeft":
            self._leave(values["step"], values["exit"], at)
        elif name == "CallEnded":
            self.supply.outcome, self.supply.lasted = values["outcome"], at - self.supply.at
            for since, answer in self._asked.values():
                answer.after = max(at - since, 0.0)
            if self.supply.left:
                self.supply.left.lost = values["outcome"] == "lost_media_server"
        else:
            self._order(name, values, at)

    # ---- what the flow did ---------------------------------------------------------------------------------------------

    def _enter(self, step: str, at: float) -> None:
        self._step, self._entered, self._last, self._gap = step, at, at, False
        self._visits[step] = self._visits.get(step, 0) + 1
        self.supply.way.append((step, ""))
        name, shape = input_of(self._program, step), shape_of(self._program, step)
        if shape:
            self.supply.shapes[name] = shape
        if name:
            self.supply.inputs.setdefault(name, []).append([] if shape else self._early)
        if name or isinstance(self._program.steps.get(step), KEYLESS):
            self._early = []

    def _leave(self, step: str, exit_: str, at: float) -> None:
        self.supply.way[-1] = (step, exit_)
        node = self._program.steps.get(step)
        if isinstance(node, nodes.Collect) and exit_ == MATCH:
            self._swallow = (node.terminator, at)
            if node.sensitive:
                self._typed = (*self._typed, node.into)
        if isinstance(node, nodes.Bot) and exit_ in ("hung", "failed") and node.bot in self.supply.talks:
            talk = self.supply.talks[node.bot][-1]
            talk.given_up = talk.ended.event is None
        if exit_ == PERSON:
            self._wanted_a_person(at)

    def _wanted_a_person(self, at: float) -> None:
        """In a step that asks for no keys, the key that led away is on record by its time; in others it is one of the input's."""
        reach = self._program.reach_a_person
        if reach and not input_of(self._program, self._step):
            self._called_away(ev.DigitPressed(self.supply.arrival.call, reach.key), at)

    def _order(self, name: str, values: Mapping[str, Any], at: float) -> None:
        supply = self.supply
        match name:
            case "StartAction":
                typed = self._typed if values.get("hidden") else ()
                self._ask(values["request"], supply.answers.setdefault(asked(values["action"], values["params"], typed), []), at)
            case "SendMail" | "SendSms":
                self._ask(values["request"], supply.answers.setdefault(f"{name} {values['to']}", []), at)
            case "Play":
                self._playing[values["playback"]] = (at, tuple(values["media"]))
            case "StopPlay":
                self._break_off(values["playback"], at)
                self._last = at
            case "StartRecord":
                key = (input_of(self._program, self._step), values["seconds"], values["silence"], values.get("terminator", "#"))
                taken = self._taken[values["recording"]] = Taken()
                self._taking[values["recording"]] = at, taken
                supply.takes.setdefault(key, []).append(taken)
            case "KeepRecording" if values["recording"] in self._taken:
                self._asked[values["request"]] = at, self._taken[values["recording"]].kept
            case "StartBot" if not values.get("again"):
                talk = Talk()
                self._talking[values["request"]] = at, talk
                supply.talks.setdefault(values["bot"], []).append(talk)
            case "TellBot" if values["type"] == "start" and not values["values"]["again"]:
                self._talking[values["request"]][1].told = values["values"]
            case "StopBot" if values["request"] in self._talking:
                since, talk = self._talking.pop(values["request"])
                talk.ended.after = at - since
            case "HangUp" | "Release":
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

    # ---- what happened -------------------------------------------------------------------------------------------------

    def _event(self, event: ev.Event, at: float) -> None:
        match event:
            case _ if isinstance(event, ev.ANSWERS):
                since, answer = self._asked.pop(event.request, (at, Answer()))
                answer.after, answer.event = max(at - since, 0.0), event
            case ev.PlaybackEnded() if event.playback in self._playing:
                since, media = self._playing.pop(event.playback)
                self.supply.played.setdefault(media, []).append((at - since, event.ok))
                self._last = at
            case ev.DigitPressed():
                self._key(event.digit, None, at)
            case ev.SecretKey():
                self._key("", event, at)
            case ev.TimerFired() if event.timer.startswith("wait ") and not self._playing:
                if (name := input_of(self._program, self._step)) and not self._busy:
                    self.supply.inputs[name][-1].append(SILENCE)
                self._last = at
            case ev.RecordingEnded() if event.recording in self._taking:
                since, taken = self._taking.pop(event.recording)
                taken.ended = Answer(at - since, event)
                self._swallow = (getattr(self._program.steps.get(self._step), "terminator", ""), at)
                self._last = at
            case ev.BotBegan() if event.bot in self._talking:
                self._begin_talk(event.bot, at)
            case ev.BotEnded() if event.request in self._talking:
                since, talk = self._talking.pop(event.request)
                talk.ended = Answer(at - since, event)
            case ev.SessionWritten():
                self._written(replace(event, expected=None), at)
            case ev.CallSteered():
                self._called_away(event, at)
            case ev.StepFailed():
                self.supply.broken = self.supply.broken or self._step
            case ev.CallerLeft():
                self._left(event, at)

    @property
    def _busy(self) -> bool:
        """Whether a message is being taken or handed over: a deadline that passes meanwhile is not the caller's silence."""
        taking = isinstance(self._program.steps.get(self._step), nodes.Record | nodes.Voicemail)
        return taking and bool(self._taking or self._asked)

    def _key(self, digit: str, secret: ev.SecretKey | None, at: float) -> None:
        swallow, until = self._swallow[0], self._swallow[1] + SWALLOW
        self._swallow = ("", 0.0)
        if (secret is None and digit == swallow and at <= until) or self._taking:
            return
        name = input_of(self._program, self._step)
        if not name:
            if secret is None and not isinstance(self._program.steps.get(self._step), KEYLESS):
                self._early.append(Key(digit, 0.0, early=True))
            return
        began = next((since for since, _ in self._playing.values()), None)
        after = 0.0 if self._gap else at - (self._last if began is None else began)
        self.supply.inputs[name][-1].append(Key(digit, after, over=began is not None, secret=secret))
        self._last, self._gap = at, False

    def _begin_talk(self, request: str, at: float) -> None:
        """Once more after a crash it is the same talk."""
        since, talk = self._talking[request]
        if talk.began is None:
            talk.began = at - since
            self._talking[request] = at, talk

    def _written(self, event: ev.SessionWritten, at: float) -> None:
        """What a bot writes belongs to its talk; other systems know nothing but the time."""
        node = self._program.steps.get(self._step)
        for since, talk in self._talking.values():
            if isinstance(node, nodes.Bot) and event.by == f"bot {node.bot}":
                talk.written.append((at - since, event))
                return
        self.supply.written.append((at - self.supply.at, event))

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


def _read_waits(supply: Supply, records: list[Record], again: Replayed) -> None:
    """What became of each time that the flow sought somebody. One who was not to be had is told so at once."""
    orders = iter(again.sought)
    wait: Waited | None = None
    since = 0.0
    for _, name, values, at in records:
        if name == "Queued" or (wait is None and name in ("Outcome", "RingAgent", "RingOutside")):
            since, sought = next(orders, (at, Sought("", ())))
            if not sought.kind:
                return
            wait = Waited(sought.limit, entered=name == "Queued")
            supply.queue = sought.queue or supply.queue
            if sought.kind != CALLBACK:
                supply.waits.setdefault(sought.key, []).append(wait)
        if wait is None:
            continue
        if name in ("Connected", "Transferred"):
            wait.connected, wait.agent = at - since, values.get("agent", "")
        elif name == "CallSteered":
            wait.outcome, wait.ended, wait = STEERED, at - since, None
        elif name == "Outcome":
            wait.outcome, wait.ended, wait = values["outcome"], at - since, None
        elif name == "CallerLeft":
            wait.left, wait.ended, wait = unpack([name, values]), at - since, None
