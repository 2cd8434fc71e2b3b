"""What a recorded call offers to another version of its flow: answers, keys, ends of prompts, what became of waiting, and the hang-up.

Each is kept under what it may serve: an action's result under the action and its parameters, keys under the name of their input
(`into` of a `collect` or `record`, the step's name of others), a prompt's length under its media, a wait under whom was sought, a
recording under its input and its limits, a talk with a bot under the bot's name.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from app.core import events as ev
from app.core.flow import program as nodes
from app.core.flow.program import Program
from app.core.flow.secret import is_secret
from app.core.flow.texts import names

Way: TypeAlias = list[tuple[str, str]]
"""Steps and the exits by which they were left; "" for one that was not."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key, `after` seconds from the beginning of the prompt (`over` it), or else from its end, the key before or the step's entry.

    `early`: typed ahead, before the step that asked for it. `secret`: what is known of one in a sensitive input, and then no digit.
    """

    digit: str
    after: float
    over: bool = False
    early: bool = False
    secret: ev.SecretKey | None = None


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
    """What became of somebody's being sought, in seconds from then: connected, an outcome, or the caller's leaving."""

    limit: float | None
    entered: bool = False
    """Whether the caller was put into the queue."""
    connected: float | None = None
    agent: str = ""
    outcome: str = ""
    ended: float | None = None
    left: ev.CallerLeft | None = None


@dataclass(slots=True)
class Taken:
    """A recording: when it ended (no event: not before the call), and how it was kept."""

    ended: Answer = field(default_factory=Answer)
    kept: Answer = field(default_factory=Answer)


@dataclass(slots=True)
class Talk:
    """A talk with a bot. `began` is when the two were connected, in seconds from the order; what follows is in seconds from then.

    `told` is what the bot was told to begin with. Without an event in `ended` its time was over (`given_up`), or the caller went elsewhere.
    """

    began: float | None = None
    told: Mapping[str, Any] = field(default_factory=dict)
    written: list[tuple[float, ev.SessionWritten]] = field(default_factory=list)
    ended: Answer = field(default_factory=Answer)
    given_up: bool = False


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
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    """By the action with its parameters, or where a message went."""
    played: dict[tuple[str, ...], list[tuple[float, bool]]] = field(default_factory=dict)
    unfinished: dict[tuple[str, ...], float] = field(default_factory=dict)
    """How long a prompt was heard that never came to its end, in seconds."""
    inputs: dict[str, list[list[Key]]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    """What entries the sensitive inputs took."""
    waits: dict[tuple[Any, ...], list[Waited]] = field(default_factory=dict)
    """By `Sought.key`."""
    takes: dict[tuple[Any, ...], list[Taken]] = field(default_factory=dict)
    """By the input, seconds, silence and terminator."""
    talks: dict[str, list[Talk]] = field(default_factory=dict)
    makes_of_secrets: bool = False
    """Whether the flow made other values of what was typed into sensitive inputs."""
    written: list[tuple[float, ev.SessionWritten]] = field(default_factory=list)
    left: Left | None = None
    called_away: dict[tuple[str, int], Happened] = field(default_factory=dict)
    """By step and visit: another system sent the call to an entry, or the caller pressed the key that reaches a person."""
    broken: str = ""
    """The step at which a mistake of ours ended in the error exit."""


WAITS = (nodes.Queue, nodes.Transfer)
"""Steps that seek somebody, and in which the caller's leaving is part of what became of that."""
KEYLESS = (*WAITS, nodes.Bot)
"""Steps in which keys, and those typed ahead, are nobody's afterwards."""


def input_of(program: Program, step: str) -> str:
    """The name under which a step's keys go, or "" for a step that asks for none."""
    match program.steps.get(step):
        case nodes.Collect(into=into):
            return f"input {into}"
        case nodes.Record(into=into):
            return f"record {into}"
        case nodes.Menu(do=do) | nodes.Confirm(do=do) | nodes.Callback(do=do) | nodes.Voicemail(do=do):
            return f"{do} {step}"
    return ""


Shape: TypeAlias = tuple[Any, ...]


def shape_of(program: Program, step: str) -> Shape:
    """All that decides how the keys of a sensitive input come to an entry; empty for another step."""
    node = program.steps.get(step)
    if not is_secret(node):
        return ()
    reach = program.reach_a_person
    person = reach.key if reach and reach.step != step and node.reach_a_person else ""
    limits = node.length, node.min_length, node.terminator, node.pattern, tuple(node.choices)
    return *limits, node.barge_in, node.between_keys, node.total, person


def asked(action: str, params: Mapping[str, Any], typed: tuple[str, ...] = ()) -> str:
    """An action with its parameters, and with the sensitive entries before it where one of them is a parameter."""
    return " ".join((action, json.dumps(params, sort_keys=True), *typed))


def makes_of_secrets(program: Program) -> bool:
    """Whether a step makes another value of what was typed into a sensitive input."""
    secret = {f"vars.{node.into}" for node in program.steps.values() if is_secret(node)}
    texts = [text for node in program.steps.values() if isinstance(node, nodes.Set) for text in node.values.values()]
    return any(secret and names(text) & (secret | {"vars"}) for text in texts)
