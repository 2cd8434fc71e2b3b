"""One call: what is known of it, and the flow that drives it.

The flow part of a call is a generator and is never saved. What is saved is the state at the entry of the open step (`entry`)
and the number of this call's events handled until then: after a take-over the step is driven again with the events journaled
since, with its commands discarded, so that tries, keys and counters come back exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING, Any, ClassVar

from app.core import commands, facts
from app.core.events import (
    ActionFailed,
    ActionSucceeded,
    DigitPressed,
    Event,
    MailFailed,
    MailSent,
    PlaybackEnded,
    RecordingEnded,
    RecordingKept,
    RecordingLost,
    SecretKey,
    SessionWritten,
    SmsFailed,
    SmsSent,
    TimerFired,
)
from app.core.far import Far
from app.core.flow import program as nodes
from app.core.flow.matching import whole
from app.core.flow.script import PERSON, Order, Script, Wait, longest, shortest
from app.core.flow.secret import HIDDEN, LOST, Secrets, secret_names
from app.core.flow.spoken import Unreadable, spoken
from app.core.flow.steps import STEPS, keys_of
from app.core.flow.texts import BadText, fill, nested
from app.core.session import SPACE

if TYPE_CHECKING:
    from app.core.flow.compiled import Compiled

MAX_STEPS = 200
ERROR_STEPS = 20
"""Steps that a call has beyond those for its error exit."""
MAX_KEYS = 64
AUTOMATION = "au"
"""The kind of an automation's request: its id is `<call>-au<n>.<its number in the flow>`."""
SWALLOW = 3.0
"""Seconds in which a terminator typed after a full entry still belongs to it."""
SENT_WITHIN = 1.0
"""Seconds after which an order has certainly gone out."""
REASK = 2.5
"""Seconds a request that is asked again after a take-over has at least."""
FLOW, QUEUED, OFFERED, TALKING, TRANSFER, OVER = "flow", "queued", "offered", "talking", "transfer", "over"
BOOKED, DIALLING = "booked", "dialling"
"""A callback that waits for its next try, and one whose agent is there while the customer's phone rings."""


_ANSWERS = (ActionSucceeded, ActionFailed, MailSent, MailFailed, SmsSent, SmsFailed, RecordingKept, RecordingLost)


class FlowError(Exception):
    """A flow did something that it must not: ran for too many steps, or has no such prompt."""


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
    asked_until: float = 0.0
    """Until when the open step waits for the answer to a request that was asked again."""
    entry: dict[str, Any] = field(default_factory=dict)
    now: float = 0.0
    deadline: float | None = None
    wait: Wait | None = None
    _secrets: Secrets = field(default_factory=Secrets, repr=False)
    _script: Script[str] | None = None
    _out: list[Any] = field(default_factory=list)
    _muted: bool = False
    _scope: dict[str, dict[str, Any]] | None = None

    # ---- what steps use ------------------------------------------------------------------------------------------------

    @property
    def language(self) -> str:
        """The language that the call is held in now."""
        return str(self.vars.get("call.language") or self.flow.program.language)

    def mint(self, kind: str) -> str:
        """A new id of ours for a `kind` of thing of this call; never used again."""
        self.minted += 1
        return f"{self.id}-{kind}{self.minted}"

    def set(self, name: str, value: Any) -> None:
        """Store a variable by its dotted name."""
        self.vars[name] = value
        self._scope = None

    def write(self, name: str, value: Any) -> None:
        """Store or take away what another system may write; other names are left alone."""
        if name.startswith(SPACE) and value is None:
            self.vars.pop(name, None)
        elif name.startswith(SPACE):
            self.vars[name] = value
        self._scope = None

    def keep(self, space: str, values: Mapping[str, Any]) -> None:
        """Store an action's attributes under the name that the flow chose. One that has no value stays unset."""
        self.forget(space)
        for name, value in values.items():
            if value is not None:
                self.vars[f"{space}.{name}"] = value
        self._scope = None

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
        for name in [name for name in self.vars if name.startswith(f"{space}.")]:
            del self.vars[name]
        self._scope = None

    def test(self, condition: str) -> bool:
        """Whether a named condition holds; raises `ConditionFailed`."""
        return self.flow.conditions.test(condition, self.vars)

    def beside(self, n: int, mint: Callable[[], str]) -> commands.StartAction | None:
        """The order of the flow's automation `n`, or None where its condition does not hold; raises `ConditionFailed` and `BadText`.

        An id is minted only for an order that there is.
        """
        automation = self.flow.program.automations[n]
        with self.knowing({"call.agent": self.served_by, "call.outcome": self.outcome}):
            if automation.when and not self.test(automation.when):
                return None
            return self.order(lambda: f"{mint()}.{n}", automation.action, automation.parameters, automation.budget)

    def order(self, mint: Callable[[], str], action: str, texts: Mapping[str, str], budget: float) -> commands.StartAction:
        """An action's order with its parameters filled; raises `BadText`, and `SecretLost` for what was typed and is forgotten."""
        params = {name: self.fill(text) for name, text in texts.items()}
        hidden = tuple(name for name, text in texts.items() if secret_names([text], self.vars))
        secret: dict[str, Any] = {}
        if hidden:
            with self.knowing(self._secrets.values):
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
            with self.knowing(self._secrets.values):
                self._secrets.values[name] = self.fill(text)
        self.set(name, HIDDEN if hidden else self.fill(text))

    def veil(self, digit: str) -> SecretKey | None:
        """What may be known of a key that is pressed now; None where the open step is no sensitive input."""
        node = self.flow.program.steps.get(self.step)
        if self._script is None or not isinstance(node, nodes.Collect) or not node.sensitive or digit not in "0123456789*#":
            return None
        return self._secrets.hear(self.id, digit, keys_of(self, node), whole(node.pattern) if node.pattern else None)

    def begin_secret(self) -> None:
        """The caller is asked for something sensitive."""
        self._secrets.begin()

    @property
    def secret_key(self) -> SecretKey | None:
        """The last key of the open try."""
        return self._secrets.last

    def keep_secret(self, name: str) -> None:
        """What was typed is the variable's value."""
        self._secrets.keep(name)
        self.set(name, HIDDEN)

    def _forget_secrets(self) -> None:
        """Another process goes on: what was typed is gone, and so are the orders that had it."""
        self._secrets.forget()
        for name, value in self.vars.items():
            if name.startswith("vars.") and value == HIDDEN:
                self.vars[name] = LOST
        self._scope = None
        for request, order in list(self.asking.items()):
            awaited = self.wait is not None and ActionFailed in self.wait.kinds
            if awaited and isinstance(order, commands.StartAction) and order.hidden and self.asking.pop(request, None) is not None:
                self._advance(ActionFailed(self.id, request, "lost"))

    @contextmanager
    def knowing(self, values: Mapping[str, Any]) -> Iterator[None]:
        """Variables that are there for a moment, for texts and conditions that are not the flow's own."""
        own = self.vars
        self.vars, self._scope = {**own, **values}, None
        try:
            yield
        finally:
            self.vars, self._scope = own, None

    def fill(self, text: str) -> str:
        """A text with this call's variables; raises `BadText` where one has no value."""
        if self._scope is None:
            self._scope = nested(self.vars)
        return fill(text, self._scope)

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
        return tuple(item for item in out if item.strip() != "text:")

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
        if not self._muted:
            self._out.append(fact)

    # ---- driving -------------------------------------------------------------------------------------------------------

    def begin(self, now: float, step: str = "") -> list[Any]:
        """Enter the flow at its first step, or at the one named."""
        self.now = now
        self._enter(step or self.flow.program.start)
        return self._taken()

    def feed(self, event: Event | facts.Fact, now: float) -> list[Any]:
        """Let one event of this call reach its flow; gives what that brought about, in order: facts, commands, orders."""
        self.now = now
        self.events += 1
        if isinstance(event, DigitPressed):
            if not self._note_key(event.digit):
                return self._taken()
            if self._script is not None and self._wants_a_person(self.flow.program.steps[self.step]):
                self._to_a_person()
                return self._taken()
        elif isinstance(event, SessionWritten):
            for name, value in event.values.items():
                self.write(name, value)
        elif isinstance(event, facts.TakenOver):
            self.unsure = self.playing
            self.unsent = 0 < event.last < self.played_at + SENT_WITHIN
            self._more_time(now)
            self._forget_secrets()
        elif isinstance(event, SecretKey):
            self._secrets.last = event if event.count else self._secrets.last
        elif isinstance(event, PlaybackEnded) and event.playback == self.playing:
            if event.playback == self.unsure and self.play is not None and self._never_began(event, self.play):
                self._play_again(self.play)
                return self._taken()
            self.playing, self.unsure, self.play = "", "", None
        elif isinstance(event, ActionSucceeded | ActionFailed) and (into := self.automation(event.request)) is not None:
            event = self._keep_automated(into, event)
        elif isinstance(event, RecordingEnded) and event.recording == self.recording:
            self.recording = ""
        if self.wait is None or self._script is None:
            return self._taken()
        if isinstance(event, TimerFired):
            if event.timer == f"wait {self.waits}":
                self._advance(None)
        elif isinstance(event, self.wait.kinds) and self._is_for_the_step(event):
            self._advance(event)
        return self._taken()

    def _play_again(self, order: commands.Play) -> None:
        self.unsure = ""
        self._emit(order)
        if self.wait is not None and PlaybackEnded in self.wait.kinds:
            self.deadline = self.now + longest(order.media)

    def _never_began(self, ended: PlaybackEnded, order: commands.Play) -> bool:
        """Whether a playback that was under way at the take-over had not been heard."""
        return (ended.unseen and self.unsent) or self.now - self.played_at < shortest(order.media)

    def _is_for_the_step(self, event: Event | facts.Fact) -> bool:
        """Whether an event that is waited for is no answer to an earlier step's request, and none that came twice."""
        request = getattr(event, "request", None)
        return request is None or self.asking.pop(request, None) is not None

    def automation(self, request: str) -> str | None:
        """The name under which an automation's answer is kept, "" for nowhere; None for a request of a step."""
        kind, dot, n = request.removeprefix(self.id).rpartition(".")
        automations = self.flow.program.automations
        if not (dot and kind.startswith(f"-{AUTOMATION}") and n.isdecimal() and int(n) < len(automations)):
            return None
        return automations[int(n)].into or ""

    def _keep_automated(self, into: str, event: ActionSucceeded | ActionFailed) -> Event:
        """Keep what an automation brought; for a step that waits for variables it is as if somebody had written them."""
        self.automated.pop(event.request, None)
        if into:
            self.keep_found(into, event)
            self.set(f"{into}.answered", True)
        return SessionWritten(self.id, {f"{into}.answered": True} if into else {})

    def divert(self, step: str, now: float) -> list[Any]:
        """Leave the open step and go to another one (the flow's error exit)."""
        self.now = now
        for order in self.stop_bots():
            self._emit(order)
        self._stop()
        self._enter(step)
        return self._taken()

    def bots(self) -> list[commands.StartBot]:
        """The bot that has the call, or is to get it: one at most."""
        return [order for order in self.asking.values() if isinstance(order, commands.StartBot)]

    def stop_bots(self) -> list[commands.StopBot]:
        """The orders that take the call back from its bot."""
        return [commands.StopBot(self.id, order.request) for order in self.bots()]

    def take_out(self) -> list[Any]:
        """What the flow brought about before it failed, orders to the centre left out."""
        return [thing for thing in self._taken() if not isinstance(thing, Order)]

    def ask_again(self) -> list[commands.Command]:
        """The requests whose answers are still awaited, to be made once more after a take-over."""
        automated = ((request, order) for request, order in self.automated.items() if not order[3:])
        return self._unanswered() + [commands.StartAction(self.id, request, *order) for request, order in automated]

    def _unanswered(self) -> list[commands.Command]:
        """The open step's own requests, where it waits for answers."""
        return list(self.asking.values()) if self.wait is not None and any(kind in _ANSWERS for kind in self.wait.kinds) else []

    def _more_time(self, now: float) -> None:
        """What is asked again, and who writes variables, has time enough; so has a caller whose keys nobody took."""
        if self._unanswered() or (self.wait is not None and SessionWritten in self.wait.kinds):
            self.asked_until = now + REASK
        elif self.deadline is not None and self.wait is not None and DigitPressed in self.wait.kinds:
            self.deadline = max(self.deadline, now + REASK)

    def stop(self) -> None:
        """The flow is over, wherever it stands (the caller has left)."""
        self._stop()

    def _note_key(self, digit: str) -> bool:
        """Keep a key for whoever wants keys; whether there is one. What is no key of a telephone's twelve is none."""
        if len(digit) != 1 or digit not in "0123456789*#":
            return False
        swallow, self.swallow = self.swallow, ""
        if digit == swallow and not self.keys and self.now <= self.swallow_until:
            return False
        self.keys = (self.keys + digit)[:MAX_KEYS]
        return True

    def _wants_a_person(self, node: Any) -> bool:
        """Whether the key that reaches a person is all that was typed, in a step that has no use for it."""
        return self.keys != "" and not getattr(node, "TAKES_KEYS", True) and self.keys == self.person_key(node)

    def _to_a_person(self) -> None:
        """Leave the open step, wherever it stands, for the way to a person."""
        node = self.flow.program.steps[self.step]
        self._stop()
        if self.playing and self.play is not None:
            self._emit(commands.StopPlay(self.id, self.playing))
        if self.music:
            self._emit(self.music_off())
        self._enter(self._leave(node, PERSON))

    def _stop(self) -> None:
        if self._script is not None:
            self._script.close()
        self._script, self.wait, self.deadline = None, None, None

    def _taken(self) -> list[Any]:
        out, self._out = self._out, []
        return out

    def _enter(self, step: str) -> None:
        """Run steps from here until one of them waits, or the flow ends."""
        while True:
            if self.steps >= MAX_STEPS + (ERROR_STEPS if self.failed else 0):
                raise FlowError(f"more than {MAX_STEPS} steps in one call")
            node = self.flow.program.steps[step]
            self.steps += 1
            self.step, self.asked_until, self.asking = step, 0.0, {}
            self.entry = self._state_at_entry()
            self.note(facts.StepEntered(self.id, step, node.do, self.steps))
            if isinstance(node, nodes.Release):
                self._emit(commands.Release(self.id, node.context, commands.FOR_GOOD if node.for_good else {}))
                return
            if isinstance(node, nodes.Hangup):
                self._emit(commands.HangUp(self.id))
                return
            self._script = STEPS[node.do](self, node)
            taken = PERSON if self._wants_a_person(node) else self._drive(None)
            if taken is None:
                return
            step = self._leave(node, taken)

    def _advance(self, event: Any) -> None:
        node = self.flow.program.steps[self.step]
        taken = self._drive(event)
        if taken is not None:
            self._enter(self._leave(node, taken))

    def _leave(self, node: Any, taken: str) -> str:
        self._script, self.wait, self.deadline = None, None, None
        self.note(facts.StepLeft(self.id, self.step, taken))
        reach = self.flow.program.reach_a_person
        if taken == PERSON and reach is not None:
            self.keys = ""
            return reach.step
        return str(node.ways()[taken])

    def _drive(self, sent: Any) -> str | None:
        """Send to the step's script until it waits (None) or ends (its exit)."""
        assert self._script is not None
        try:
            asked = self._script.send(sent)
            while not isinstance(asked, Wait):
                self._emit(asked)
                asked = self._script.send(None)
        except StopIteration as end:
            return str(end.value)
        self.wait = asked
        self.waits += 1
        self.deadline = None if asked.seconds is None else self.now + max(asked.seconds, 0.0)
        return None

    def _emit(self, order: commands.Command | Order) -> None:
        """Note what the command changes about what we believe of the PBX, and hand it on."""
        if isinstance(order, commands.Answer):
            self.answered = self.now
        elif isinstance(order, commands.Play):
            self.playing, self.play, self.played_at = order.playback, order, self.now
        elif isinstance(order, commands.StopPlay) and order.playback == self.playing:
            self.play = None
        elif isinstance(order, commands.StartMusic):
            self.music = True
        elif isinstance(order, commands.StopMusic):
            self.music = False
        elif isinstance(order, commands.StartRecord):
            self.recording = order.recording
        elif isinstance(order, commands.StartAction | commands.SendMail | commands.SendSms | commands.KeepRecording | commands.StartBot):
            self.asking[order.request] = order
        elif isinstance(order, commands.HangUp):
            self.leaving = "hangup"
        elif isinstance(order, commands.Release):
            self.leaving = "release"
        if not self._muted:
            self._out.append(order)

    # ---- saving and driving again --------------------------------------------------------------------------------------

    AT_ENTRY: ClassVar[tuple[str, ...]] = (
        "step",
        "steps",
        "keys",
        "swallow",
        "swallow_until",
        "minted",
        "waits",
        "events",
        "answered",
        "music",
        "leaving",
        "failed",
        "playing",
    )

    def _state_at_entry(self) -> dict[str, Any]:
        state = dict(zip(self.AT_ENTRY, _at_entry(self), strict=True))
        return {**state, "vars": dict(self.vars), "heard": sorted(self.heard), "at": self.now}

    def stand_at(self, entry: Mapping[str, Any]) -> None:
        """Be as at the entry of a step."""
        for name in self.AT_ENTRY:
            setattr(self, name, entry[name])
        self.vars, self.heard, self._scope = dict(entry["vars"]), set(entry["heard"]), None
        self.entry, self.now, self.recording = dict(entry), entry["at"], ""

    def drive_again(self, entry: Mapping[str, Any], since: list[tuple[float, Any]]) -> None:
        """Bring the open step back to where it stood: from `entry`, with the (time, event) pairs handled since, silently."""
        self.stand_at(entry)
        with self._silence():
            self.steps -= 1
            self._enter(self.step)
        self.drive_on(since)

    def drive_on(self, since: list[tuple[float, Any]]) -> None:
        """Let (time, event) pairs that were handled once be handled again, silently."""
        with self._silence():
            for at, event in since:
                self.feed(event, at)

    @contextmanager
    def _silence(self) -> Iterator[None]:
        self._muted = True
        try:
            yield
        finally:
            self._muted = False
            self._out = []

    @property
    def standing(self) -> list[int | str]:
        """Where the flow stands: the open step, how many were entered, how many waits there were, how many ids were minted."""
        return [self.step, self.steps, self.waits, self.minted]


_at_entry = attrgetter(*Call.AT_ENTRY)
