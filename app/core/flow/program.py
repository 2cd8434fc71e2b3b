"""A flow as data: the models that a flow file is validated by, and that the interpreter runs.

A program is immutable and knows its own hash; a live call keeps the program it began with. Every step lists all the exits
its kind has, by name, each with the step it leads to. Nothing in a program is code: conditions are CEL, texts are templates.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from app.core.flow.hours import Calendar, Table
from app.core.flow.matching import whole
from app.core.flow.part import Key, Language, Name, Part, Seconds, StepName, Texts


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
        """Every way out of this step that `exits` has to name."""
        return self.EXITS

    def ways(self) -> dict[str, str]:
        """Every way out of this step, by what its script returns, and the step that follows."""
        return dict(self.exits)


class SelfService(Step):
    """A step in which the flow's `reach_a_person` key leads away, unless it is false here. The step's own keys are never taken from it."""

    TAKES_KEYS: ClassVar[bool] = False
    reach_a_person: bool = True


def chosen(key: str) -> str:
    """The way out of a step by a key of its choices."""
    return f"key {key}"


class Say(SelfService):
    """Play a prompt. With `once`, only if this call has not heard it yet."""

    do: Literal["say"]
    prompt: str
    barge_in: bool = False
    once: bool = False
    EXITS = ("done",)


class Lookup(SelfService):
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


class Act(SelfService):
    """Call a method of another system and keep its answer."""

    do: Literal["action"]
    into: Name
    action: str
    parameters: dict[str, str] = Field(alias="with")
    budget: Annotated[float, Field(gt=0, le=8.0)] = 2.5
    mask: str | None = None
    EXITS = ("done", "failed")


class Collect(SelfService):
    """Collect keys under a name. Letters are typed as the digits they share a key with.

    An entry has `length` digits, or from `min_length` on where that is given: then the terminator or a pause ends it. One that the regular
    expression `pattern` does not match as a whole is no match. A key barges in on the prompt, unless `barge_in` is false. `first_key` runs
    from the end of the prompt, `between_keys` from each key, `total` from the end of the prompt; after `tries` failed tries the step leaves
    by `no_match` or `no_input`, whichever the last one was. `sensitive` keys may only become parameters of actions. They are never written
    down: a take-over forgets them, so the caller is asked again, and a later step that needs them takes its `failed` exit. Typed ahead,
    they do not count, and are written down as little: so keys before a sensitive step are for the inputs before it, and no more of them.

    `choices` leads away by a key that is no digit, wherever the caller is in the entry: `"*": step`, or `"#"` where that is no terminator.

    The key that reaches a person may be a digit of the entry: it leads away only where it is the first key and nothing but the
    terminator, or a pause of `between_keys`, follows.
    """

    do: Literal["collect"]
    into: Name
    prompt: str
    retry_no_match: str
    retry_no_input: str
    length: Annotated[int, Field(ge=1, le=40)]
    min_length: Annotated[int, Field(ge=1, le=40)] | None = None
    pattern: Annotated[str, Field(max_length=200)] | None = None
    barge_in: bool = True
    terminator: Annotated[str, Field(pattern=r"^[#*]?$")] = "#"
    first_key: Seconds = 6.0
    between_keys: Seconds = 4.0
    total: Seconds = 30.0
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    sensitive: bool = False
    choices: dict[Annotated[str, Field(pattern=r"^[*#]$")], str] = Field(default_factory=dict)
    TAKES_KEYS = True
    EXITS = ("match", "no_match", "no_input")

    @model_validator(mode="after")
    def _can_match(self) -> Collect:
        if self.min_length is not None and self.min_length > self.length:
            raise ValueError(f"min_length {self.min_length} is more than length {self.length}")
        if self.pattern is not None:
            whole(self.pattern)
        if self.terminator in self.choices:
            raise ValueError(f"the choice {self.terminator} is the terminator")
        return self

    def ways(self) -> dict[str, str]:
        return {**self.exits, **{chosen(key): step for key, step in self.choices.items()}}


class Choice(Part):
    """One choice of a menu: the step it leads to, the condition under which this caller has it, and the prompt that offers it."""

    to: str
    when: str | None = None
    prompt: str | None = None


class Menu(SelfService):
    """Offer choices by key: `"1": step`, or `"1": {to: step, when: condition, prompt: name}`.

    Which choices are open to this caller is found out as the step begins. `prompt` and the retry prompts are followed by the prompts of
    the open choices, in the order of the file; the menu's own `prompt` may be left out where every choice has one. A menu with a `when`
    has the exit `failed`, for a condition that ends in an error; one with a `when` on every choice has `none`, for no open choice.
    """

    do: Literal["menu"]
    prompt: str | None = None
    choices: Annotated[dict[Key, Choice], Field(min_length=1)]
    retry_no_match: str
    retry_no_input: str
    first_key: Seconds = 6.0
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    TAKES_KEYS = True
    EXITS = ("no_match", "no_input")

    @model_validator(mode="before")
    @classmethod
    def _short_choices(cls, data: Any) -> Any:
        if isinstance(data, dict) and isinstance(data.get("choices"), dict):
            return {**data, "choices": {k: {"to": v} if isinstance(v, str) else v for k, v in data["choices"].items()}}
        return data

    @model_validator(mode="after")
    def _is_offered(self) -> Menu:
        silent = [key for key, choice in self.choices.items() if choice.prompt is None]
        if self.prompt is None and silent:
            raise ValueError(f"a menu needs a prompt, or one on each of its choices (without one: {', '.join(silent)})")
        return self

    def exit_names(self) -> tuple[str, ...]:
        conditional = [choice.when is not None for choice in self.choices.values()]
        return (*self.EXITS, *(("failed",) if any(conditional) else ()), *(("none",) if all(conditional) else ()))

    def ways(self) -> dict[str, str]:
        return {**self.exits, **{chosen(key): choice.to for key, choice in self.choices.items()}}


class Confirm(SelfService):
    """Ask a question that is answered by one of two keys."""

    do: Literal["confirm"]
    prompt: str
    yes: Key = "1"
    no: Key = "2"
    retry_no_match: str
    retry_no_input: str
    first_key: Seconds = 6.0
    tries: Annotated[int, Field(ge=1, le=10)] = 3
    TAKES_KEYS = True
    EXITS = ("yes", "no", "no_match", "no_input")

    @model_validator(mode="after")
    def _two_keys(self) -> Confirm:
        if self.yes == self.no:
            raise ValueError("yes and no are the same key")
        return self


class Switch(Step):
    """Take the first named condition that holds. One that ends in an error leaves by `failed`, never by `otherwise`."""

    do: Literal["switch"]
    cases: dict[str, str]
    EXITS = ("otherwise", "failed")

    def ways(self) -> dict[str, str]:
        return {**self.exits, **{f"case {condition}": step for condition, step in self.cases.items()}}


class Set(Step):
    """Store texts under names in `vars`."""

    do: Literal["set"]
    values: dict[Name, str]
    EXITS = ("done",)


class WaitFor(SelfService):
    """Wait until another system has written a session variable, or an automation has its answer: `ivr.<name>`, `<into>.answered`.

    With `until`, until that named condition holds; one that cannot be told yet is waited for. What is there already counts at once. The
    caller hears the phrases of `mask`, then music, for `max_wait` seconds at most.
    """

    do: Literal["wait_for"]
    variable: Annotated[str, Field(pattern=r"^(ivr\.[A-Za-z_][A-Za-z0-9_]{0,63}|[a-z][a-z0-9_]{0,39}\.answered)$")]
    until: str | None = None
    mask: str | None = None
    max_wait: Seconds
    EXITS = ("set", "too_long")


class Ask(Part):
    """One of the questions of a `gather` step."""

    action: str
    parameters: dict[str, str] = Field(alias="with")


class Gather(SelfService):
    """Call several methods of other systems at once, each under a name, and wait until all have answered or the budget is spent.

    Every answer is kept under its name, with `<name>.answered`: false for one that failed or did not come, and `<name>.found`: false as
    well where an answer counted no single record. `done` when all answered, `some` when at least one failed, `failed` when all did.
    """

    do: Literal["gather"]
    ask: Annotated[dict[Name, Ask], Field(min_length=1, max_length=8)]
    budget: Annotated[float, Field(gt=0, le=8.0)] = 2.5
    ring: Annotated[float, Field(ge=0, le=5.0)] = 0.0
    mask: str | None = None
    EXITS = ("done", "some", "failed")


class Speak(Step):
    """Go on in another language, from the next prompt on. `unknown`, and no change, where the flow does not speak it."""

    do: Literal["language"]
    to: str
    EXITS = ("done", "unknown")


class Hours(Step):
    """Whether a calendar's hours are open now. A holiday is one all day long."""

    do: Literal["hours"]
    calendar: str
    EXITS = ("open", "closed", "holiday")


class Subflow(Step):
    """Run the subflow of this name: one under `subflows` of the file, or else `subflows/<name>.yaml` of the project.

    Its steps are put in here at publish, under this step's name and a dot, and come back by the subflow's exits: each is to be named in
    `exits`, with the step that follows.
    """

    do: Literal["subflow"]
    run: str
    EXITS = ("begin",)


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


class Callback(SelfService):
    """Offer to call back: the caller agrees or not by a key, and hangs up with a place in the queue.

    `number` is filled in and must be one that the project's `transfers` allow; `through` is one of its trunks, the first unless said. A
    caller who waited in the same `queue` before keeps that place: first enqueue time, credit, and skills and fields where none are given
    here. `queue` and what follows are as in a `queue` step. The agent is rung first, then the customer, for `ring` seconds; one who is not
    reached is tried again after `retry_after` seconds, `attempts` times in all, and at the latest `within` so many seconds of booking.

    `hours` names a calendar: nobody is called back outside of its hours. `wish` is a time of day, four digits as the caller typed them: not
    before the next time that it is so late there. Where that time is closed, the next opening is meant, and `within` counts from it. Then
    `prompt_later` is said in place of `prompt`, and `call.callback` has the day and time for it (`date:`, `time:`); else it is "".
    """

    do: Literal["callback"]
    prompt: str
    prompt_later: str | None = None
    hours: str | None = None
    wish: str | None = None
    number: str = "{{ call.ani }}"
    through: str | None = None
    queue: str
    skills: dict[str, Annotated[int, Field(ge=1, le=10)]] = Field(default_factory=dict, max_length=5)
    skills_from: str | None = None
    place: Literal["front", "normal", "back"] = "normal"
    attach: dict[Name, str] = Field(default_factory=dict)
    yes: Key = "1"
    no: Key = "2"
    retry_no_match: str | None = None
    retry_no_input: str | None = None
    first_key: Seconds = 6.0
    tries: Annotated[int, Field(ge=1, le=10)] = 2
    ring: Annotated[float, Field(gt=0, le=120.0)] = 30.0
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    retry_after: Annotated[float, Field(ge=1, le=86400.0)] = 600.0
    within: Annotated[float, Field(ge=60, le=604800.0)] = 86400.0
    TAKES_KEYS = True
    EXITS = ("booked", "declined", "failed", "no_input")

    @model_validator(mode="after")
    def _two_keys(self) -> Callback:
        if self.yes == self.no:
            raise ValueError("yes and no are the same key")
        if self.hours is None and (self.wish is not None or self.prompt_later is not None):
            raise ValueError("`wish` and `prompt_later` need `hours`, a calendar")
        return self


class Email(SelfService):
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
    `ring` is how long the other phone may ring. `talked` is left when the other side hung up first. An `agent` who is not ready, or has
    something in hand, is `busy`; one who is signed out, or whose phone cannot be reached, gives `no_answer`. The agent is offered nothing
    else meanwhile, and is not ready after a call that was not answered.
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


class Bot(Step):
    """Let a program talk to the caller: the sound goes to it and comes from it, until it gives the call back.

    `bot` names it among the settings' bots. `with` are texts that it is told at the beginning, besides the session. It gives the call
    back by `done` or by one of the exits named in `answers`. `hung` is left after `max_seconds`, `failed` when it cannot be had or is lost.
    """

    do: Literal["bot"]
    bot: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    parameters: dict[Name, str] = Field(default_factory=dict, alias="with")
    prompt: str | None = None
    max_seconds: Annotated[float, Field(gt=0, le=3600)] = 300.0
    answers: Annotated[tuple[Name, ...], Field(max_length=20)] = ()
    EXITS = ("done", "failed", "hung")

    @model_validator(mode="after")
    def _answers_of_its_own(self) -> Bot:
        if taken := sorted(set(self.answers) & set(self.EXITS)):
            raise ValueError(f"answers that every bot has or that are no answers: {', '.join(taken)}")
        if len(set(self.answers)) < len(self.answers):
            raise ValueError("an answer is named twice")
        return self

    def exit_names(self) -> tuple[str, ...]:
        return (*self.EXITS, *self.answers)


class Release(Step):
    """Give the call back to the dialplan. The flow ends here. Unless `for_good`, the caller is brought back when there is room."""

    do: Literal["release"]
    for_good: bool = True
    context: Annotated[str, Field(pattern=r"^callwright-[a-z-]{1,40}$")] = "callwright-fallback"


class Hangup(Step):
    """Say nothing more and hang up. The flow ends here."""

    do: Literal["hangup"]


AnyStep = Annotated[
    Say
    | Lookup
    | Act
    | Collect
    | Menu
    | Confirm
    | Switch
    | Set
    | WaitFor
    | Gather
    | Speak
    | Hours
    | Subflow
    | Queue
    | Callback
    | Email
    | Record
    | Voicemail
    | Transfer
    | Sms
    | Bot
    | Release
    | Hangup,
    Field(discriminator="do"),
]


class Prompt(Part):
    """The phrases of a prompt: the same in every language, or for each language its own."""

    phrases: Texts = ()
    by_language: dict[Language, Texts] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _as_written(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return {"phrases": data}
        if data.keys() <= {"phrases", "by_language"}:
            return data
        return {"by_language": data}

    def spoken(self, language: str) -> tuple[str, ...]:
        """The phrases in a language."""
        return self.by_language.get(language, self.phrases)  # type: ignore[call-overload,no-any-return]

    def every_phrase(self) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """All phrases there are, each with its place under the prompt's name."""
        for i, phrase in enumerate(self.phrases):
            yield (i,), phrase
        for language, phrases in self.by_language.items():
            for i, phrase in enumerate(phrases):
                yield (language, i), phrase


class ReachAPerson(Part):
    """The key that leads from any self-service step to a person, and the step at which that way begins."""

    key: Key
    step: str


class Automation(Part):
    """A method of another system that is called when something happens on a call, beside the steps and without a sound.

    With `into`, its answer is kept under that name as soon as it is there: `<into>.answered` is false until then, and `<into>.found` false
    where it failed. Without, nobody waits for it. `when` names a condition under which alone it is called.

    `at` names a step: it is called only where that happens on a call which is at this step. A `subflow` step stands for all its steps.
    `entered` and `left` are about one: a call comes to it, or goes on from it to another step (one that is hung up has `ended`). What an
    earlier visit brought under `into` is forgotten then.
    """

    on: Literal["arrival", "answered", "queued", "connected", "ended", "session_written", "entered", "left"]
    at: StepName | None = None
    action: str
    parameters: dict[str, str] = Field(alias="with")
    into: Name | None = None
    when: str | None = None
    budget: Annotated[float, Field(gt=0, le=8.0)] = 2.5

    @model_validator(mode="after")
    def _at_a_step(self) -> Automation:
        if self.at is None and self.on in ("entered", "left"):
            raise ValueError(f"expected `at`, the step that is {self.on}")
        if self.at is not None and self.on == "arrival":
            raise ValueError("a call that arrives is at no step yet, so that there is no `at`")
        return self


class Program(Part):
    """One flow: prompts (each a list of phrases), named conditions, and steps from `start`."""

    flow: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    title: str = ""
    language: Language = "en"
    languages: tuple[Language, ...] = ()
    """Every language that the flow speaks, where there is more than one."""
    process: str = ""
    dnis: tuple[Annotated[str, Field(pattern=r"^\+?[0-9A-Za-z*#._-]{1,40}$")], ...] = ()
    start: str
    on_error: str
    returns: str | None = None
    """The queue step at which a caller goes on who comes back from the fallback with a place in a queue."""
    reach_a_person: ReachAPerson | None = None
    entries: dict[Name, str] = Field(default_factory=dict)
    """Steps to which another system may send a live call, by the name under which it does."""
    session: dict[Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,39}$")], Literal["string", "bool", "int", "double"]] = Field(
        default_factory=dict
    )
    """The variables that other systems write under `ivr.`, with their types; none declared: any can be written."""
    prompts: dict[Name, Prompt] = Field(default_factory=dict)
    conditions: dict[Name, str] = Field(default_factory=dict)
    calendars: dict[Name, Calendar] = Field(default_factory=dict)
    automations: tuple[Automation, ...] = ()
    steps: dict[StepName, AnyStep]
    outputs: dict[str, dict[str, str]] = Field(default_factory=dict)
    """For each lookup or action name, the types of its attributes; filled in at publish from the action files."""
    tables: dict[Name, Table] = Field(default_factory=dict)
    """For each calendar its hours in UTC for some years; filled in at publish. Not part of the version: it follows from the calendar."""

    _version: str = PrivateAttr(default="")

    @model_validator(mode="after")
    def _speaks_its_own(self) -> Program:
        if self.languages and self.language not in self.languages:
            raise ValueError(f"the flow begins in {self.language!r}, which is not among its languages ({', '.join(self.languages)})")
        return self

    def speaks(self) -> tuple[str, ...]:
        """Every language of the flow, at least the one it begins in."""
        return self.languages or (self.language,)

    def of_version(self, version: str) -> Program:
        """This very program under the version that it was published with, though a newer model may hash it otherwise."""
        self._version = version
        return self

    @property
    def version(self) -> str:
        """The hash of everything that can change what a call does, 12 hex digits."""
        if not self._version:
            text = json.dumps(self.model_dump(mode="json", exclude={"tables"}), sort_keys=True)
            self._version = hashlib.sha256(text.encode()).hexdigest()[:12]
        return self._version
