"""What a caller hears: how long a prompt takes to play, and when nobody says anything.

A text takes the time of `WORDS_A_MINUTE`, or `SECONDS_A_CHARACTER` where its words are long, whichever is longer. A recording takes
`SECONDS_A_SOUND`, and what is read out sign by sign `SECONDS_A_SIGN` for each.

**Silence** is the time in which an answered caller hears nothing (no prompt, no music, no agent) and it is not the caller's turn. It is
the caller's turn while the flow waits for keys alone, not for another system's answer as well, and has said until when: the step's own
`first_key`, `between_keys` and `total` bound that time.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from app.core import events as ev
from app.core.call import FLOW, Call
from app.core.flow.spoken import text_in
from app.core.frozen import frozen

WORDS_A_MINUTE = 150.0
SECONDS_A_CHARACTER = 0.06
SECONDS_A_SOUND = 2.0
SECONDS_A_SIGN = 0.5
MAX_SILENCE = 1.5
"""Seconds of silence that no caller may hear."""
_BY_SIGN = ("digits", "number", "characters")
_ANSWERS = {ev.ActionSucceeded, ev.ActionFailed, ev.MailSent, ev.MailFailed}


@lru_cache(maxsize=4096)
def seconds_of(media: tuple[str, ...]) -> float:
    """Seconds that it takes to play this."""
    return sum(map(_phrase, media))


def _phrase(item: str) -> float:
    kind, _, rest = item.partition(":")
    if kind == "sound":
        return SECONDS_A_SOUND
    if kind in _BY_SIGN:
        return SECONDS_A_SIGN * max(len(rest), 1)
    said = text_in(item, "")
    text = said[0] if said else item
    return max(len(text.split()) * 60.0 / WORDS_A_MINUTE, len(text) * SECONDS_A_CHARACTER)


@lru_cache(maxsize=4096)
def text_of(media: tuple[str, ...]) -> str:
    """What is played, as a person would write it down."""
    return " ".join(said[0] if (said := text_in(item, "")) else item for item in media)


@frozen
class Silence:
    """Nothing to hear for `seconds`, from `at` (epoch seconds), with the flow at `step`."""

    step: str
    at: float
    seconds: float


class Ear:
    """What one caller hears just now, as the commands made it, and every silence so far."""

    __slots__ = ("kept", "music", "playing", "since", "step", "talking", "up")

    def __init__(self) -> None:
        self.up = self.music = self.talking = False
        self.playing: dict[str, float] = {}
        """Playbacks under way: when each is over."""
        self.since = 0.0
        self.step = ""
        self.kept: list[Silence] = []

    def listen(self, core: Call, now: float) -> None:
        """Look at what there is to hear from now on."""
        if self.up and not (self.playing or self.music or self.talking) and core.caller and not is_callers_turn(core):
            if not self.since:
                self.since, self.step = now, core.step
        elif self.since:
            self.kept.append(Silence(self.step, self.since, now - self.since))
            self.since = 0.0

    def silences(self, now: float) -> list[Silence]:
        """Every silence, one that lasts until now included."""
        return [*self.kept, Silence(self.step, self.since, now - self.since)] if self.since else self.kept


_KEYS_ALONE: dict[tuple[type[Any], ...], bool] = {}


def is_callers_turn(core: Call) -> bool:
    """Whether the flow waits for keys, and says how long."""
    wait = core.wait
    if wait is None or wait.seconds is None or core.phase != FLOW:
        return False
    alone = _KEYS_ALONE.get(wait.kinds)
    if alone is None:
        alone = _KEYS_ALONE[wait.kinds] = ev.DigitPressed in wait.kinds and _ANSWERS.isdisjoint(wait.kinds)
    return alone
