"""One call: what is known of it, and what its flow's steps can do with that. `app.core.driving` is what moves it through its flow."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from app.core import commands, facts
from app.core.events import ActionSucceeded, Event, SecretKey
from app.core.far import Far
from app.core.flow.matching import whole
from app.core.flow.script import VEILED, Script, Wait
from app.core.flow.secret import HIDDEN, LOST, Secrets, is_secret, secret_names
from app.core.flow.spoken import Unreadable, spoken, text_in
from app.core.flow.steps import keys_of
from app.core.flow.texts import BadText, fill, nested
from app.core.session import SPACE

if TYPE_CHECKING:
    from app.core.flow.compiled import Compiled

KEYS = frozenset("0123456789*#")
"""A telephone's twelve."""
MAX_KEYS = 64
SWALLOW = 3.0
"""Seconds in which a terminator typed after a full entry still belongs to it."""
FLOW, QUEUED, OFFERED, TALKING, TRANSFER, OVER = "flow", "queued", "offered", "talking", "transfer", "over"
BOOKED, DIALLING = "booked", "dialling"
"""A callback that waits for its next try, and one whose agent is there while the customer's phone rings."""


@dataclass(slots=True)
class Offer:
    """A call reserved for an agent. `leg` is "" until the phone is rung; `answered` when it was."""

    id: str
    agent: str
    at: float
    leg: str = ""
    ringing: bool = False
    answered: float = 0.0


@dataclass(slots=True)
class Place:
    """Where a call waits: all that puts it back to the same place."""

    queue: str
    skills: dict[str, int]
    credit: float
    first: float
    attach: dict[str, str]
    max_wait: float
    refused: dict[str, float] = field(default_factory=dict)
    """Agents who are not asked again before a time, because they declined this call."""


@dataclass(slots=True)
class Call:
    """A call from its arrival until its wrap-up is done. Times are epoch seconds on the engine's clock; 0 means not yet."""

    id: str
    channel: str
    flow: Compiled
    ani: str = ""
    name: str = ""
    dnis: str = ""
    uniqueid: str = ""
    linkedid: str = ""
    arrived: float = 0.0
    # what the PBX is believed to do
    answered: float = 0.0
    phase: str = FLOW
    caller: bool = True
    bridge: str = ""
    music: bool = False
    leaving: str = ""
    lost: bool = False
    minted_by_centre: int = 0
    failed: bool = False
    marks: int = 0
    """What went wrong in it so far, for the figures of its version (`app.core.versions`)."""
    # queue and agent
    place: Place | None = None
    offer: Offer | None = None
    far: Far | None = None
    passed_on: float = 0.0
    will: dict[str, Any] = field(default_factory=dict)
    """What becomes of the message being recorded if the caller leaves; see `app.core.wills`. A plain value, replaced and never changed."""
    booking: dict[str, Any] = field(default_factory=dict)
    """How the caller is to be called back; see `app.core.callbacks`. A plain value, replaced and never changed."""
    served_by: str = ""
    wrapping: bool = False
    connected: float = 0.0
    waited: float = 0.0
    talked: float = 0.0
    parted: float = 0.0
    wrapped: float = 0.0
    ended: float = 0.0
    outcome: str = ""
    cause: int = 0
    disposition: str = ""
    remarks: str = ""
    written: int = 0
    """How many times another system wrote into the session."""
    # the flow
    step: str = ""
    steps: int = 0
    vars: dict[str, Any] = field(default_factory=dict)
    heard: set[str] = field(default_factory=set)
    keys: str = ""
    swallow: str = ""
    swallow_until: float = 0.0
    minted: int = 0
    waits: int = 0
    events: int = 0
    playing: str = ""
    play: commands.Play | None = None
    played_at: float = 0.0
    unsure: str = ""
    """A playback that was under way when the process changed: when it is over too soon, it was never begun."""
    unsent: bool = False
    """The process before is not known to have lived for long enough to have it begun, either: when it is not found, it was not."""
    recording: str = ""
    asking: dict[str, commands.Command] = field(default_factory=dict)
    """The open step's requests that have no answer yet, by their ids."""
    automated: dict[str, list[Any]] = field(default_factory=dict)
    """Automations whose answer is wanted and not there yet: by request, the action, its parameters, its budget, and what is hidden."""
    newest: dict[str, str] = field(default_factory=dict)
    """By the number of an automation at a step, its last request: what an earlier one brings comes too late."""
    timed: str = ""
    """The name of the deadline that is set for the flow's open wait; "" for none."""
    asked_until: float = 0.0
    """Until when the open step waits for the answer to a request that was asked again."""
    entry: dict[str, Any] = field(default_factory=dict)
    now: float = 0.0
    deadline: float | None = None
    wait: Wait | None = None
    # the driver's, and never saved
    secrets: Secrets = field(default_factory=Secrets, repr=False)
    script: Script[str] | None = None
    out: list[Any] = field(default_factory=list)
    muted: bool = False
    _spaces: dict[str, dict[str, Any]] | None = None
    """`vars` as texts see them, once a text has asked; kept beside them from then on."""

    # ---- what steps use ------------------------------------------------------------------------------------------------

    @property
    def language(self) -> str:
        """The language that the call is held in now."""
        return str(self.vars.get("call.language") or self.flow.program.language)

    def mint(self, kind: str) -> str:
        """A new id of ours for a `kind` of thing of this call; never used again."""
        self.minted += 1
        return f"{self.id}-{kind}{self.minted}"

    def mint_for_centre(self, kind: str) -> str:
        """The same for a thing of the centre's; those of the flow have a counter of their own, which is driven again."""
        self.minted_by_centre += 1
        return f"{self.id}-{kind}{self.minted_by_centre}"

    def set(self, name: str, value: Any) -> None:
        """Store a variable by its dotted name."""
        self.vars[name] = value
        if self._spaces is not None:
            space, _, key = name.partition(".")
            self._spaces.setdefault(space, {})[key] = value

    def write(self, name: str, value: Any) -> None:
        """Store or take away what another system may write; other names are left alone."""
        if name.startswith(SPACE) and value is None:
            self.vars.pop(name, None)
            self._spaces = None
        elif name.startswith(SPACE):
            self.set(name, value)

    def keep(self, space: str, values: Mapping[str, Any]) -> None:
        """Store an action's attributes under the name that the flow chose. One that has no value stays unset."""
        self.forget(space)
        kept = {name: value for name, value in values.items() if value is not None}
        if kept:
            self.spaces[space] = kept
            self.vars |= {f"{space}.{name}": value for name, value in kept.items()}

    def keep_found(self, space: str, answer: Event | None) -> bool:
        """Store an answer under a name, with `<name>.found`: whether it succeeded and, where it counts, counted one.

        Gives whether there was an answer.
        """
        values = answer.values if isinstance(answer, ActionSucceeded) else {}
        count = values.get("count", 1)
        found = isinstance(answer, ActionSucceeded) and count == 1
        self.keep(space, values if found else {key: value for key, value in values.items() if key == "count"})
        self.set(f"{space}.found", found)
        return isinstance(answer, ActionSucceeded)

    def forget(self, space: str) -> None:
        """Drop what an earlier action stored under a name: of two records that differ nothing may be mixed."""
        for key in self.spaces.pop(space, ()):
            del self.vars[f"{space}.{key}"]

    def test(self, condition: str) -> bool:
        """Whether a named condition holds; raises `ConditionFailed`."""
        return self.flow.conditions.test(condition, self.vars)

    def order(self, mint: Callable[[], str], action: str, texts: Mapping[str, str], budget: float) -> commands.StartAction:
        """An action's order with its parameters filled; raises `BadText`, and `SecretLost` for what was typed and is forgotten."""
        params = {name: self.fill(text) for name, text in texts.items()}
        hidden = tuple(name for name, text in texts.items() if secret_names([text], self.vars))
        secret: dict[str, Any] = {}
        if hidden:
            with self.knowing(self.secrets.values):
                secret = {name: self.fill(texts[name]) for name in hidden}
        return commands.StartAction(self.id, mint(), action, params, budget, hidden, secret)

    def set_text(self, name: str, text: str) -> None:
        """Store a text; one with something sensitive in it is as sensitive."""
        try:
            hidden = secret_names([text], self.vars)
        except BadText:
            self.set(name, LOST)
            return
        if hidden:
            with self.knowing(self.secrets.values):
                self.secrets.values[name] = self.fill(text)
        self.set(name, HIDDEN if hidden else self.fill(text))

    def veil(self, digit: str) -> SecretKey | None:
        """What may be known of a key that is pressed now; None for all of it, where it is for no sensitive input."""
        node = self.flow.program.steps.get(self.step)
        if not self.flow.keys_ahead or digit not in KEYS:
            return None
        if self.script is not None and is_secret(node):
            return self.secrets.hear(self.id, digit, keys_of(self, node), whole(node.pattern) if node.pattern else None)
        return SecretKey(self.id, 0) if self._is_ahead_of_a_secret(node, digit) else None

    def _is_ahead_of_a_secret(self, node: Any, digit: str) -> bool:
        """Whether a key is more than what the inputs before the next sensitive one take. A terminator ends what they take."""
        ahead = self.flow.keys_ahead.get(self.step)
        acts_now = not self.keys and (digit == self.swallow or (not getattr(node, "TAKES_KEYS", True) and digit == self.person_key(node)))
        return ahead is not None and not acts_now and (len(self.keys) >= ahead or not {"#", "*"}.isdisjoint(self.keys))

    def note_secret_key(self, event: SecretKey) -> None:
        """One of the open try, or one that was typed ahead and is nobody's."""
        if event.count:
            self.secrets.last = event
        elif not is_secret(self.flow.program.steps.get(self.step)):
            self.swallow, self.keys = "", (self.keys + VEILED)[:MAX_KEYS]

    def begin_secret(self) -> None:
        """The caller is asked for something sensitive."""
        self.secrets.begin()

    @property
    def secret_key(self) -> SecretKey | None:
        """The last key of the open try."""
        return self.secrets.last

    def keep_secret(self, name: str) -> None:
        """What was typed is the variable's value."""
        self.secrets.keep(name)
        self.set(name, HIDDEN)

    def lose_secrets(self) -> None:
        """Another process goes on: what was typed is gone."""
        self.secrets.forget()
        self.know({name: LOST if name.startswith("vars.") and value == HIDDEN else value for name, value in self.vars.items()})

    def know(self, values: dict[str, Any]) -> None:
        """These are the variables now, and no others."""
        self.vars, self._spaces = values, None

    @contextmanager
    def knowing(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Variables that are there for a moment, for texts and conditions that are not the flow's own."""
        own, spaces = self.vars, self._spaces
        self.know({**own, **values})
        try:
            yield
        finally:
            self.vars, self._spaces = own, spaces

    @property
    def spaces(self) -> dict[str, dict[str, Any]]:
        """The variables by their space, as texts see them; not to be changed."""
        if self._spaces is None:
            self._spaces = nested(self.vars)
        return self._spaces

    def fill(self, text: str) -> str:
        """A text with this call's variables; raises `BadText` where one has no value."""
        return fill(text, self.spaces)

    def fill_or_empty(self, text: str) -> str:
        """A text, or "" where a variable in it has no value."""
        try:
            return self.fill(text)
        except BadText:
            return ""

    def prompt(self, name: str) -> tuple[str, ...]:
        """A prompt's phrases as media, with this call's values, in its language. What cannot be read as its kind is spoken as it stands."""
        out: list[str] = []
        for phrase in self.flow.media(name, self.language):
            item = self.fill(phrase)
            try:
                out += spoken(item, self.language)
            except Unreadable as error:
                self.note(facts.Noticed(self.id, "value cannot be read", f"prompt {name}: {error}"))
                out.append(f"text:{item.partition(':')[2]}")
        return tuple(item for item in out if (said := text_in(item, self.language)) is None or said[0].strip())

    def mask(self, name: str | None) -> tuple[str, ...]:
        """The phrases of a prompt that is played while the caller waits: none where there is none, or where it was heard before."""
        if name is None or name in self.heard:
            return ()
        self.heard.add(name)
        return self.prompt(name)

    def person_key(self, node: Any) -> str:
        """The key that reaches a person from the open step, or "". The step that it leads to has none."""
        reach = self.flow.program.reach_a_person
        return reach.key if reach and reach.step != self.step and getattr(node, "reach_a_person", False) else ""

    def take_key(self) -> str:
        key, self.keys = self.keys[0], self.keys[1:]
        return key

    def end_entry(self, terminator: str) -> None:
        """A full entry was taken: the terminator after it belongs to it, typed already or within a moment."""
        if terminator and self.keys:
            self.keys = self.keys.removeprefix(terminator)
        else:
            self.swallow, self.swallow_until = terminator, self.now + SWALLOW

    def patience(self, until: float) -> float:
        """Until when the open step waits for an answer that it gave up at `until` if nothing had come between."""
        return max(until, self.asked_until)

    def music_on(self) -> commands.Command:
        return commands.StartMusic(self.id)

    def music_off(self) -> commands.Command:
        return commands.StopMusic(self.id)

    def note(self, fact: facts.Fact) -> None:
        """Write down something the flow brought about."""
        if not self.muted:
            self.out.append(fact)

    @property
    def standing(self) -> list[int | str]:
        """Where the flow stands: the open step, how many were entered, how many waits there were, how many ids were minted."""
        return [self.step, self.steps, self.waits, self.minted]


def call_variables(call: Call, returned: bool) -> dict[str, Any]:
    """The variables that every call has. A number is known when it can be one: five digits or more, a plus before them or not."""
    known = len(call.ani) >= 5 and call.ani.removeprefix("+").isdecimal()
    values = {"id": call.id, "ani": call.ani, "name": call.name, "dnis": call.dnis, "number_known": known, "returned": returned}
    values |= {"language": call.flow.program.language, "agent": "", "outcome": "", "callback": ""}
    answers = {
        f"{automation.into}.{key}": False
        for automation in call.flow.program.automations
        if automation.into
        for key in ("found", "answered")
    }
    return answers | {f"call.{name}": value for name, value in values.items()}
