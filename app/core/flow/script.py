"""What steps are made of: waiting, playing, collecting, as generators that read from top to bottom.

A script yields a `Command` (or an `Order` to the centre) to have it done, and a `Wait` for the only kind of pause; it is
sent the event that ended the wait, or None when its seconds were over. A script asks nobody for the time: `call.now` is the
time of the event being handled. Keys are kept by the call in the order they came, whether or not anyone waits for
them (type-ahead); a script takes them from there.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from app.core.commands import Answer, Command, Play, SendMail, SendSms, StopPlay
from app.core.events import ActionFailed, ActionSucceeded, DigitPressed, Event, PlaybackEnded, SecretKey
from app.core.facts import Outcome, TakenOver
from app.core.flow.program import chosen
from app.core.flow.spoken import text_in
from app.core.frozen import frozen

if TYPE_CHECKING:
    from app.core.call import Call

T = TypeVar("T")


@frozen
class Wait:
    """Wait for an event of one of `kinds`, for at most `seconds` (None: as long as it takes)."""

    kinds: tuple[type[Any], ...]
    seconds: float | None


@frozen
class Order:
    """Something a step asks of the centre itself."""


@frozen
class Enqueue(Order):
    """Put the call into a queue; an `Outcome` fact tells how that ended."""

    queue: str
    skills: dict[str, int]
    place: str
    attach: dict[str, str]
    max_wait: float | None


@frozen
class Transfer(Order):
    """Put the caller through to a number or to an agent; an `Outcome` fact tells how that ended. `trunk` "" is the project's first."""

    number: str
    trunk: str
    agent: str
    seconds: float


@frozen
class BookCallback(Order):
    """Book a callback; an `Outcome` fact tells whether it is `booked` or `failed`. Until that is wanted (`booked`): only whether it is
    `allowed`. Times in seconds; `trunk` "" is the project's first. With a `calendar` only in its hours, from `start` (epoch seconds) on.
    """

    number: str
    trunk: str
    queue: str
    skills: dict[str, int]
    place: str
    attach: dict[str, str]
    ring: float
    attempts: int
    retry_after: float
    within: float
    calendar: str = ""
    start: float = 0.0
    booked: bool = False

    def sure(self) -> BookCallback:
        """The same, wanted now."""
        return replace(self, booked=True)


@frozen
class LeaveWill(Order):
    """What becomes of a recording if the caller leaves now: it goes with `mail`, or is deleted. Without a recording: no will any more.

    `whole` says that the recording is over, and on the shelf, and that there is something in it.
    """

    recording: str = ""
    mail: SendMail | None = None
    whole: bool = False


Script = Generator[Command | Wait | Order, Any, T]

SPOKEN = 0.2
"""Seconds of sound in a recording below which nothing was said."""
SECONDS_A_CHARACTER = 0.12
PLAY_GRACE = 5.0
QUIET = 0.5
"""Seconds a caller may wait without a sound before music begins."""
KEYS = (DigitPressed, SecretKey)
VEILED = "•"
"""Stands among the keys typed ahead for one of which nothing is known. No input takes it."""
ANSWERS = (ActionSucceeded, ActionFailed)
MATCH, NO_MATCH, NO_INPUT = "match", "no_match", "no_input"
FORGOTTEN = "forgotten"
"""How a try ends of whose keys nobody knows any more."""
PERSON = "person"
"""The exit of a step whose caller pressed the key that reaches a person."""


def longest(media: tuple[str, ...]) -> float:
    """Seconds after which a playback is given up, since Asterisk does not always report a failed one."""
    return PLAY_GRACE + sum(2.0 + SECONDS_A_CHARACTER * len(item) for item in media)


def shortest(media: tuple[str, ...]) -> float:
    """Seconds that playing this takes at the very least."""
    return sum(0.05 * len(said[0]) for item in media if (said := text_in(item, "")))


def answer(call: Call) -> Script[None]:
    """Answer the call, unless it is answered."""
    if not call.answered:
        yield Answer(call.id)


def play(call: Call, media: tuple[str, ...], *, barge_in: bool = False) -> Script[bool]:
    """Play to the end, or to the first key where that may barge in; whether it was played to its end."""
    yield from answer(call)
    if not media:
        return True
    if barge_in and call.keys:
        return False
    playback = call.mint("pb")
    yield Play(call.id, playback, media, call.language)
    kinds = (PlaybackEnded, *KEYS) if barge_in else (PlaybackEnded,)
    until = call.now + longest(media)
    while True:
        event = yield Wait(kinds, until - call.now)
        if isinstance(event, KEYS):
            yield StopPlay(call.id, playback)
            return False
        if event is None:
            yield StopPlay(call.id, playback)
            return False
        if event.playback == playback:
            return True


def first(_: Event) -> bool:
    """Of the events that a mask waits for, any is the one."""
    return True


def mask(
    call: Call, phrases: tuple[str, ...], kinds: tuple[type[Any], ...], until: float, enough: Callable[[Event], bool] = first
) -> Script[Event | None]:
    """Wait until a time for an event that is `enough`, with phrases to listen to; the one being spoken is finished before this returns.

    Past the last phrase, the rest of the wait has music under it, after a moment (the caller never hears dead air). A take-over moves the
    end of the wait, never the beginning of the music.
    """
    yield from answer(call)
    found: Event | None = None
    for phrase in phrases:
        playback = call.mint("pb")
        yield Play(call.id, playback, (phrase,), call.language)
        give_up = call.now + longest((phrase,))
        while True:
            event = yield Wait((PlaybackEnded, *kinds), give_up - call.now)
            if event is None:
                yield StopPlay(call.id, playback)
                break
            if not isinstance(event, PlaybackEnded):
                found = event if enough(event) else found
            elif event.playback == playback:
                break
        if found or call.now >= call.patience(until):
            return found
    quiet = call.now + QUIET
    found = yield from listen(call, kinds, enough, lambda: min(quiet, call.patience(until)))
    if found is None and call.now < call.patience(until):
        yield call.music_on()
        found = yield from listen(call, kinds, enough, lambda: call.patience(until))
        yield call.music_off()
    return found


def listen(call: Call, kinds: tuple[type[Any], ...], enough: Callable[[Event], bool], until: Callable[[], float]) -> Script[Event | None]:
    """Wait for an event that is `enough`, until a time as it stands when it has come."""
    while True:
        event = yield Wait(kinds, until() - call.now)
        if event is not None and enough(event):
            return event  # type: ignore[no-any-return]
        if call.now >= until():
            return None


def ask(call: Call, prompt: str | None, ring: float, until: float, enough: Callable[[Event], bool] = first) -> Script[Event | None]:
    """Wait for answers of actions until a time: ringing for `ring` seconds while the call is unanswered, then with a mask."""
    if not call.answered and ring > 0:
        ringing = min(call.now + ring, until)
        event = yield from listen(call, ANSWERS, enough, lambda: ringing)
        if event is not None:
            return event
    return (yield from mask(call, call.mask(prompt), ANSWERS, until, enough))


def settled(call: Call, order: Order) -> Script[str]:
    """Ask the centre for somebody to talk to; how that ended. Keys pressed meanwhile are nobody's, and the music is over."""
    yield order
    ended = yield Wait((Outcome,), None)
    call.keys = ""
    if call.music:
        yield call.music_off()
    return str(ended.outcome)


def delivered(call: Call, command: SendMail | SendSms, masked: str | None, sent: type[Event], not_sent: type[Event]) -> Script[str]:
    """Hand a message over; the exit that says whether it was taken."""
    yield command
    until = call.now + command.budget + 0.5
    result = yield from mask(call, call.prompt(masked) if masked else (), (sent, not_sent), until)
    return "sent" if isinstance(result, sent) else "failed"


@frozen
class Keys:
    """What keys are wanted: `length` digits, or from `least` on where `terminator` or a pause ends them.

    `person` is the key that reaches a person: at once where it is no digit, and else where it is all that was typed. `choices` are keys
    that lead away at once.
    """

    length: int
    terminator: str
    first: float
    between: float
    total: float
    person: str = ""
    least: int = 40
    barge_in: bool = True
    choices: str = ""

    def leads_away(self, key: str) -> str:
        """The way out of the step that this key is by itself, or ""."""
        if key in self.choices:
            return chosen(key)
        return PERSON if key == self.person and not key.isdigit() else ""

    def ended(self, got: str) -> str:
        """How a try ends that the caller ended by the terminator or a pause."""
        if not got:
            return NO_INPUT
        if len(got) >= min(self.least, self.length) and got.isdigit():
            return MATCH
        return PERSON if got == self.person else NO_MATCH


def collect(call: Call, wanted: Keys, prompt: tuple[str, ...]) -> Script[tuple[str, str]]:
    """One try: play the prompt and take keys. Gives `(match | no_match | no_input | person | key ..., keys)`."""
    yield from play(call, prompt, barge_in=wanted.barge_in)
    began = call.now
    got = ""
    while True:
        while call.keys:
            key = call.take_key()
            if key == VEILED:
                continue
            if wanted.terminator and key == wanted.terminator:
                if got:
                    return wanted.ended(got), got
                continue
            if away := wanted.leads_away(key):
                return away, key
            got += key
            if len(got) == wanted.length:
                call.end_entry(wanted.terminator)
                return (MATCH if got.isdigit() else NO_MATCH), got
        patience = min(wanted.between if got else wanted.first, began + wanted.total - call.now)
        event = yield Wait((DigitPressed,), max(patience, 0.0))
        if event is None:
            return wanted.ended(got), got


def secret_keys(call: Call, wanted: Keys, prompt: tuple[str, ...]) -> Script[str]:
    """One try, as `collect`, of keys of which only the number and what they come to is known. Gives the outcome, or `FORGOTTEN`."""
    yield from play(call, prompt, barge_in=wanted.barge_in)
    began = call.now
    while True:
        last = call.secret_key
        if last is not None and last.ended:
            return last.ended
        patience = min(wanted.first if last is None else wanted.between, began + wanted.total - call.now)
        event = yield Wait((*KEYS, TakenOver), max(patience, 0.0))
        if event is None:
            return last.paused if last is not None else NO_INPUT
        if isinstance(event, TakenOver):
            if last is not None:
                return FORGOTTEN
            began = call.now
