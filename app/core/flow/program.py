"""A flow as data: the models that a flow file is validated by, and that the interpreter runs.

A program is immutable and knows its own hash; a live call keeps the program it began with. Every step lists all the exits
its kind has, by name, each with the step it leads to. Nothing in a program is code: conditions are CEL, texts are templates.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr, model_validator

Seconds = Annotated[float, Field(gt=0, le=14_400)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]


class Part(BaseModel):
    """Any part of a flow file: frozen, and without keys that nobody reads."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class Step(Part):
    """What every step has. `exits` names for each way out the step that follows."""

    EXITS: ClassVar[tuple[str, ...]] = ()
    exits: dict[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _all_exits(self) -> Step:
        wanted, given = set(self.exit_names()), set(self.exits)
        if missing := sorted(wanted - given):
            raise ValueError(f"exits that are missing: {', '.join(missing)}")
        if unknown := sorted(given - wanted):
            raise ValueError(f"exits that this step does not have: {', '.join(unknown)} (it has: {', '.join(sorted(wanted)) or 'none'})")
        return self

    def exit_names(self) -> tuple[str, ...]:
        """Every way out of this step."""
        return self.EXITS


class Say(Step):
    """Play a prompt. With `once`, only if this call has not heard it yet."""

    do: Literal["say"]
    prompt: str
    barge_in: bool = False
    once: bool = False
    EXITS = ("done",)


class Lookup(Step):
    """Ask a system of record for one record, by an action that counts what it found.

    The request leaves as the step begins. An unanswered call goes on ringing for at most `ring` seconds, then it is answered
    and hears the phrases of `mask`, which end at a phrase once the answer is there. `unless` names a condition under which
    nothing is asked (exit `none`).
    """

    do: Literal["lookup"]
    into: Name
    action: str
    parameters: dict[str, str] = Field(alias="with")
    budget: Annotated[float, Field(gt=0, le=8.0)] = 2.5
    ring: Annotated[float, Field(ge=0, le=5.0)] = 0.0
    mask: str | None = None
    unless: str | None = None
    EXITS = ("found", "none", "many", "failed")


class Act(Step):
    """Call a method of another system and keep its answer."""

    do: Literal["action"]
    into: Name
    action: str
    parameters: dict[str, str] = Field(alias="with")
    budget: Annotated[float, Field(gt=0, le=8.0)] = 2.5
    mask: str | None = None
    EXITS = ("done", "failed")


class Collect(Step):
    """Collect keys under a name. Letters are typed as the digits they share a key with.

    A key barges in on the prompt. `first_key` runs from the end of the prompt, `between_keys` from each key, `total` from the
    end of the prompt; after `tries` failed tries the step leaves by `no_match` or `no_input`, whichever the last one was.
    """

    do: Literal["collect"]
    into: Name
    prompt: str
    retry_no_match: str
    retry_no_input: str
    length: Annotated[int, Field(ge=1, le=40)]
    terminator: Annotated[str, Field(pattern=r"^[#*]?$")] = "#"
    first_key: Seconds = 6.0
    between_keys: Seconds = 4.0
    total: Seconds = 30.0
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    EXITS = ("match", "no_match", "no_input")


class Menu(Step):
    """Offer choices by key."""

    do: Literal["menu"]
    prompt: str
    choices: dict[Annotated[str, Field(pattern=r"^[0-9*#]$")], str]
    retry_no_match: str
    retry_no_input: str
    first_key: Seconds = 6.0
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    EXITS = ("no_match", "no_input")


class Switch(Step):
    """Take the first named condition that holds. One that ends in an error leaves by `failed`, never by `otherwise`."""

    do: Literal["switch"]
    cases: dict[str, str]
    EXITS = ("otherwise", "failed")


class Set(Step):
    """Store texts under names in `vars`."""

    do: Literal["set"]
    values: dict[Name, str]
    EXITS = ("done",)


class Queue(Step):
    """Wait for an agent, with music, and talk.

    `skills_from` names a map of skill to level (a CRM field); `skills` adds fixed ones; together five at most. `place` is the
    front, the normal place or the back of the queue. `attach` are fields that go with the call to the agent.
    """

    do: Literal["queue"]
    queue: str
    skills: dict[str, Annotated[int, Field(ge=1, le=10)]] = Field(default_factory=dict, max_length=5)
    skills_from: str | None = None
    place: Literal["front", "normal", "back"] = "normal"
    attach: dict[Name, str] = Field(default_factory=dict)
    max_wait: Seconds | None = None
    EXITS = ("talked", "no_agents", "too_long", "failed")


class Email(Step):
    """Send one message; `sent` once a mail server has taken it."""

    do: Literal["email"]
    to: str
    subject: str
    body: str
    budget: Annotated[float, Field(gt=0, le=8.0)] = 8.0
    mask: str | None = None
    EXITS = ("sent", "failed")


Recorded = Annotated[int, Field(ge=1, le=300)]
Silence = Annotated[int, Field(ge=1, le=30)]


class Record(Step):
    """Record what the caller says after a beep, and keep it under a name.

    It ends by the terminator, after `silence` seconds of silence, or after `seconds` in all. `vars.<into>` becomes the recording's id.
    """

    do: Literal["record"]
    into: Name
    prompt: str | None = None
    seconds: Recorded = 60
    silence: Silence = 4
    terminator: Literal["#", "*", "any", "none"] = "#"
    EXITS = ("recorded", "nothing", "failed")


class Voicemail(Step):
    """Take a message and hand it over by mail, as a sound file. A caller who hangs up has left it all the same.

    With `review`, a prompt, the caller chooses: 1 to listen, 2 to speak it again (`takes` times in all), 3 to send; silence sends too.
    """

    do: Literal["voicemail"]
    to: str
    subject: str
    body: str
    prompt: str
    review: str | None = None
    takes: Annotated[int, Field(ge=1, le=10)] = 3
    seconds: Recorded = 120
    silence: Silence = 5
    terminator: Literal["#", "*", "any", "none"] = "#"
    budget: Annotated[float, Field(gt=0, le=8.0)] = 8.0
    mask: str | None = None
    EXITS = ("left", "nothing", "failed")


class Transfer(Step):
    """Put the caller through to a number outside, or to one agent, with music until it is answered.

    `to` is filled in and must be a number that the project's `transfers` allow; `through` is one of its trunks, the first unless said.
    `ring` is how long the other phone may ring. `talked` is left when the other side hung up first.
    """

    do: Literal["transfer"]
    to: str | None = None
    agent: str | None = None
    through: str | None = None
    ring: Annotated[float, Field(gt=0, le=120.0)] = 30.0
    EXITS = ("talked", "no_answer", "busy", "failed")

    @model_validator(mode="after")
    def _one_target(self) -> Transfer:
        if (self.to is None) == (self.agent is None):
            raise ValueError("expected either `to`, a number, or `agent`")
        return self


class Sms(Step):
    """Send one text message; `sent` once the gateway has taken it."""

    do: Literal["sms"]
    to: str
    text: str
    budget: Annotated[float, Field(gt=0, le=8.0)] = 8.0
    mask: str | None = None
    EXITS = ("sent", "failed")


class Release(Step):
    """Give the call back to the dialplan. The flow ends here. Unless `for_good`, the caller is brought back when there is room."""

    do: Literal["release"]
    for_good: bool = True
    context: Annotated[str, Field(pattern=r"^callwright-[a-z-]{1,40}$")] = "callwright-fallback"


class Hangup(Step):
    """Say nothing more and hang up. The flow ends here."""

    do: Literal["hangup"]


AnyStep = Annotated[
    Say | Lookup | Act | Collect | Menu | Switch | Set | Queue | Email | Record | Voicemail | Transfer | Sms | Release | Hangup,
    Field(discriminator="do"),
]


def _phrases(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


class Program(Part):
    """One flow: prompts (each a list of phrases), named conditions, and steps from `start`."""

    flow: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    title: str = ""
    language: Literal["en", "de", "es"] = "en"
    process: str = ""
    dnis: tuple[Annotated[str, Field(pattern=r"^\+?[0-9A-Za-z*#._-]{1,40}$")], ...] = ()
    start: str
    on_error: str
    returns: str | None = None
    """The queue step at which a caller goes on who comes back from the fallback with a place in a queue."""
    prompts: dict[Name, tuple[str, ...]] = Field(default_factory=dict)
    conditions: dict[Name, str] = Field(default_factory=dict)
    steps: dict[Name, AnyStep]
    outputs: dict[str, dict[str, str]] = Field(default_factory=dict)
    """For each lookup or action name, the types of its attributes; filled in at publish from the action files."""

    _version: str = PrivateAttr(default="")

    @model_validator(mode="before")
    @classmethod
    def _one_phrase_is_a_list(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("prompts"), dict):
            return {**data, "prompts": {k: _phrases(v) for k, v in data["prompts"].items()}}
        return data

    @property
    def version(self) -> str:
        """The hash of everything that can change what a call does, 12 hex digits."""
        if not self._version:
            text = json.dumps(self.model_dump(mode="json"), sort_keys=True)
            self._version = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self._version
