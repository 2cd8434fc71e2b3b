"""A caller in a test: does what people do with a telephone, and tells what became of the call."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from app.core import events as ev
from app.core.call import OFFERED, QUEUED, Call
from app.core.flow.compiled import Compiled
from app.core.frozen import frozen
from app.testing.sound import Ear, Silence

if TYPE_CHECKING:
    from app.testing.centre import VirtualCentre
    from app.testing.mailbox import Mail

PATIENCE = 60.0
"""Seconds that pass at most until something that a test waits for has happened."""
KEY = 0.2
"""Seconds from one key to the next."""


@frozen
class Heard:
    """Something that was played: when it began (epoch seconds), its words, and the phrases as the flow gave them."""

    at: float
    text: str
    media: tuple[str, ...]
    step: str


class VirtualCall:
    """One call, from the caller's side. Whatever waits here lets time pass for the whole centre."""

    __slots__ = (
        "_asked",
        "centre",
        "core",
        "crm",
        "ear",
        "exits",
        "id",
        "noticed",
        "number",
        "outcome",
        "path",
        "played",
    )

    def __init__(self, centre: VirtualCentre, call: str, number: str, crm: str | float) -> None:
        self.centre, self.id, self.number, self.crm = centre, call, number, crm
        self.core: Call
        self.ear = Ear()
        self.path: list[tuple[str, str]] = []
        """Every step entered with the exit it was left by, as the timeline names it; "" where it was not left."""
        self.played: list[Heard] = []
        self.outcome = ""
        """How the call ended, or "" while it lasts."""
        self.noticed: list[tuple[str, str]] = []
        """What a person who reads the timeline should see: conditions that failed, errors."""
        self.exits: set[tuple[str, str]] = set()
        self._asked = 0

    def __repr__(self) -> str:
        return f"<call of {self.number or 'an unknown number'}: {self._where()}>"

    # ---- what the caller does ------------------------------------------------------------------------------------------

    def hears(self, what: str, within: float = PATIENCE) -> VirtualCall:
        """Wait until the caller hears a prompt, given by its name in the flow or by part of what is said.

        What was heard before the last thing asked for does not count. It returns as the prompt begins: keys pressed now barge in.
        """
        fits = self._fits(what)

        def found() -> bool:
            for n in range(self._asked, len(self.played)):
                if fits(self.played[n]):
                    self._asked = n + 1
                    return True
            return bool(self.outcome)

        before = self._asked
        self.centre.until(found, within)
        if self._asked == before:
            named = " (a prompt of the flow)" if what in self.core.flow.program.prompts else ""
            heard = "".join(f"\n    {heard.step}: {heard.text}" for heard in self.played[before:]) or " nothing"
            raise AssertionError(f"expected to hear {what!r}{named} within {within:g} s; heard instead:{heard}\n  {self._where()}")
        return self

    def presses(self, keys: str) -> VirtualCall:
        """Press keys, one after another."""
        for n, key in enumerate(keys):
            if n:
                self.centre.waits(KEY)
            self._on_the_line(f"press {key}")
            self.centre.happen(ev.DigitPressed(self.id, key))
        return self

    def waits(self, seconds: float = 0.0, *, minutes: float = 0.0) -> VirtualCall:
        """Let time pass."""
        self.centre.waits(seconds, minutes=minutes)
        return self

    def reaches(self, step: str, within: float = PATIENCE) -> VirtualCall:
        """Wait until the call stands at a step. One that never waits, such as a switch, is passed at once: look for it in `path`."""
        if step not in self.core.flow.program.steps:
            raise ValueError(f"flow {self.core.flow.name} has no step {step!r}")
        self.centre.until(lambda: self.core.step == step or bool(self.outcome), within)
        if self.core.step != step:
            raise AssertionError(f"expected to reach step {step} within {within:g} s; went {' -> '.join(self.steps)}\n  {self._where()}")
        return self

    def ends(self, within: float = PATIENCE) -> VirtualCall:
        """Wait until the call is over."""
        self.centre.until(lambda: bool(self.outcome), within)
        if not self.outcome:
            raise AssertionError(f"expected the call to end within {within:g} s\n  {self._where()}")
        return self

    def hangs_up(self) -> VirtualCall:
        """Hang up."""
        self._on_the_line("hang up")
        self.centre.happen(ev.CallerLeft(self.id))
        return self

    def session_gets(self, values: Mapping[str, Any], by: str = "test") -> VirtualCall:
        """Another system writes variables (`ivr.*`) into the call's session."""
        self._on_the_line("write into the session")
        self.centre.happen(ev.SessionWritten(self.id, values, by))
        return self

    def goes_wrong(self, error: str = "the test wants it") -> VirtualCall:
        """Something in the handling of this call raises, so that the flow takes its error exit."""
        self._on_the_line("go wrong")
        self.centre.happen(ev.StepFailed(self.id, error))
        return self

    # ---- what became of it ---------------------------------------------------------------------------------------------

    @property
    def heard(self) -> list[str]:
        """What was played so far, as text."""
        return [heard.text for heard in self.played]

    @property
    def step(self) -> str:
        """The step that the flow is at, or was at last."""
        return self.core.step

    @property
    def steps(self) -> list[str]:
        """The steps entered so far."""
        return [step for step, _ in self.path]

    @property
    def state(self) -> str:
        """`flow`, `queued`, `offered`, `talking` or `over`."""
        return "over" if self.outcome else self.core.phase

    @property
    def queue(self) -> str:
        """The queue that the call waits in or waited in last; "" if it never did."""
        return self.core.place.queue if self.core.place else ""

    @property
    def skills(self) -> dict[str, int]:
        """The skills that the call asked for in its queue, each with its level."""
        return dict(self.core.place.skills) if self.core.place else {}

    @property
    def position(self) -> int:
        """The place in the queue, 1 for the head; 0 for a call that does not wait."""
        return self.centre.center.acd.position(self.id)

    @property
    def agent(self) -> str:
        """The agent who talks or talked to the caller; "" if nobody did."""
        return self.core.served_by

    @property
    def offered_to(self) -> str:
        """The agent whose phone rings for this call; "" if none does."""
        return self.core.offer.agent if self.core.phase == OFFERED and self.core.offer else ""

    @property
    def session(self) -> dict[str, Any]:
        """Every variable of the call, by its full name (`contact.premium`, `vars.reference`, `ivr.email`)."""
        return dict(self.core.vars)

    @property
    def vars(self) -> dict[str, Any]:
        """The variables that the flow itself set, by their short names."""
        return {name.removeprefix("vars."): value for name, value in self.core.vars.items() if name.startswith("vars.")}

    @property
    def mails(self) -> list[Mail]:
        """The messages that this call sent."""
        return [mail for mail in self.centre.mailbox if mail.call == self.id]

    @property
    def silences(self) -> list[Silence]:
        """Every time that the caller heard nothing although it was not the caller's turn."""
        return self.ear.silences(self.centre.now)

    def has_heard(self, what: str) -> bool:
        """Whether a prompt (its name, or part of what is said) has been played to this caller."""
        return any(map(self._fits(what), self.played))

    # ---- small things --------------------------------------------------------------------------------------------------

    def _fits(self, what: str) -> Callable[[Heard], bool]:
        phrases = prompt_patterns(self.core.flow).get(what)
        if phrases is not None:
            return lambda heard: all(phrases.fullmatch(item) for item in heard.media)
        wanted = what.casefold()
        return lambda heard: wanted in heard.text.casefold()

    def _on_the_line(self, deed: str) -> None:
        if self.outcome:
            raise AssertionError(f"the caller cannot {deed}: {self._where()}")

    def _where(self) -> str:
        if self.outcome:
            return f"the call is over ({self.outcome}) after step {self.step}"
        waits = f", waits in queue {self.queue}" if self.core.phase in (QUEUED, OFFERED) else ""
        return f"the call is at step {self.step}{waits}"


_PATTERNS: dict[tuple[str, str], dict[str, re.Pattern[str]]] = {}


def prompt_patterns(flow: Compiled) -> dict[str, re.Pattern[str]]:
    """For each prompt of a flow what its phrases look like once they are filled in, in whatever language."""
    found = _PATTERNS.get((flow.name, flow.version))
    if found is None:
        found = {name: re.compile("|".join(map(_pattern, _strings(value))), re.S) for name, value in flow.program.prompts.items()}
        _PATTERNS[flow.name, flow.version] = found
    return found


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    inner = value.values() if isinstance(value, Mapping) else value
    return [text for each in inner for text in _strings(each)]


def _pattern(phrase: str) -> str:
    """A phrase with anything where its templates are."""
    return "(?:text:)?" + ".*".join(map(re.escape, re.split(r"\{\{.*?\}\}|\{%.*?%\}", phrase)))
