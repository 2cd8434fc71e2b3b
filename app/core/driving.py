"""A call on its way through its flow: events in, what the flow brings about out.

The open step is a generator and is never saved. What is saved is the state at its entry (`Call.entry`) and the number of this call's
events handled until then: after a take-over the step is driven again with the events journaled since, with its commands discarded, so
that tries, keys and counters come back exactly.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from operator import attrgetter
from typing import Any

from app.core import automations, commands, facts
from app.core.call import KEYS, MAX_KEYS, Call
from app.core.events import (
    ANSWERS,
    ActionFailed,
    ActionSucceeded,
    DigitPressed,
    Event,
    PlaybackEnded,
    RecordingEnded,
    SecretKey,
    SessionWritten,
    TimerFired,
)
from app.core.flow import program as nodes
from app.core.flow.part import around
from app.core.flow.script import PERSON, VEILED, LeaveWill, Order, Wait, longest, shortest
from app.core.flow.secret import takes_keys
from app.core.flow.steps import STEPS

MAX_STEPS = 200
ERROR_STEPS = 20
"""Steps that a call has beyond those for its error exit."""
SENT_WITHIN = 1.0
"""Seconds after which an order has certainly gone out."""
REASK = 2.5
"""Seconds a request that is asked again after a take-over has at least."""
AT_ENTRY = (
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
_at_entry = attrgetter(*AT_ENTRY)


class FlowError(Exception):
    """A flow did something that it must not: ran for too many steps, or has no such prompt."""


def begin(call: Call, step: str, now: float) -> list[Any]:
    """Enter the flow at a step, or ("") at its first."""
    call.now = now
    _enter(call, step or call.flow.program.start)
    return _taken(call)


def feed(call: Call, event: Any, now: float) -> list[Any]:
    """Let one event of this call reach its flow; gives what that brought about, in order: facts, commands, orders."""
    call.now = now
    call.events += 1
    heed = _HEED.get(type(event))
    if heed is not None:
        event = heed(call, event)
        if event is None:
            return _taken(call)
    if call.wait is None or call.script is None:
        return _taken(call)
    if isinstance(event, TimerFired):
        if event.timer == f"wait {call.waits}":
            _advance(call, None)
    elif isinstance(event, call.wait.kinds) and _is_for_the_step(call, event):
        _advance(call, event)
    return _taken(call)


def _pressed(call: Call, event: DigitPressed) -> DigitPressed | None:
    """A key is kept for whoever wants keys, unless it reaches a person. What is no key of a telephone's twelve is none."""
    digit = event.digit
    if digit not in KEYS:
        return None
    swallow, call.swallow = call.swallow, ""
    if digit == swallow and not call.keys and call.now <= call.swallow_until:
        return None
    call.keys = (call.keys + digit)[:MAX_KEYS]
    if call.script is not None and _wants_a_person(call, call.flow.program.steps[call.step]):
        _to_a_person(call)
        return None
    return event


def _typed(call: Call, event: SecretKey) -> SecretKey:
    call.note_secret_key(event)
    return event


def _written(call: Call, event: SessionWritten) -> SessionWritten:
    for name, value in event.values.items():
        call.write(name, value)
    return event


def _taken_over(call: Call, fact: facts.TakenOver) -> facts.TakenOver:
    call.unsure = call.playing
    call.unsent = 0 < fact.last < call.played_at + SENT_WITHIN
    _more_time(call, call.now)
    _forget_secrets(call)
    return fact


def _played(call: Call, event: PlaybackEnded) -> PlaybackEnded | None:
    """A prompt is over; one that was never begun, because the process changed, is played again."""
    if event.playback != call.playing:
        return event
    if event.playback == call.unsure and call.play is not None and _never_began(call, event, call.play):
        _play_again(call, call.play)
        return None
    call.playing, call.unsure, call.play = "", "", None
    return event


def _never_began(call: Call, ended: PlaybackEnded, order: commands.Play) -> bool:
    """Whether a playback that was under way at the take-over had not been heard."""
    return (ended.unseen and call.unsent) or call.now - call.played_at < shortest(order.media)


def _play_again(call: Call, order: commands.Play) -> None:
    call.unsure = ""
    _emit(call, order)
    if call.wait is not None and PlaybackEnded in call.wait.kinds:
        call.deadline = call.now + longest(order.media)


def _answered(call: Call, event: ActionSucceeded | ActionFailed) -> Event:
    into = automations.into_of(call, event.request)
    return event if into is None else automations.keep(call, into, event)


def _recorded(call: Call, event: RecordingEnded) -> RecordingEnded:
    if event.recording == call.recording:
        call.recording = ""
    return event


_HEED: dict[type[Any], Callable[[Call, Any], Any]] = {
    DigitPressed: _pressed,
    SecretKey: _typed,
    SessionWritten: _written,
    facts.TakenOver: _taken_over,
    PlaybackEnded: _played,
    ActionSucceeded: _answered,
    ActionFailed: _answered,
    RecordingEnded: _recorded,
}
"""What an event changes about a call whatever its flow waits for. It gives what the flow is to hear of it, or None for nothing."""


def _is_for_the_step(call: Call, event: Any) -> bool:
    """Whether an event that is waited for is no answer to an earlier step's request, and none that came twice."""
    request = getattr(event, "request", None)
    return request is None or call.asking.pop(request, None) is not None


def divert(call: Call, step: str, now: float) -> list[Any]:
    """Leave the open step and go to another one (the flow's error exit)."""
    call.now = now
    for order in (*stop_bots(call), *_stop_recording(call)):
        _emit(call, order)
    stop(call)
    _left(call, step)
    _enter(call, step)
    return _taken(call)


def bots(call: Call) -> list[commands.StartBot]:
    """The bot that has the call, or is to get it: one at most."""
    return [order for order in call.asking.values() if isinstance(order, commands.StartBot)]


def stop_bots(call: Call) -> list[commands.StopBot]:
    """The orders that take the call back from its bot."""
    return [commands.StopBot(call.id, order.request) for order in bots(call)]


def _stop_recording(call: Call) -> list[commands.Command | Order]:
    """The orders that end what is being recorded: the next step may be a sensitive input.

    A message is sent with what was said so far when the caller leaves; of anything else nothing is kept.
    """
    if not call.will or call.will["whole"]:
        return []
    recording = call.will["recording"]
    kept = call.will["mail"] is not None
    return [commands.StopRecord(call.id, recording), *(() if kept else (LeaveWill(), commands.DropRecording(call.id, recording)))]


def take_out(call: Call) -> list[Any]:
    """What the flow brought about before it failed, orders to the centre left out."""
    return [thing for thing in _taken(call) if not isinstance(thing, Order)]


def ask_again(call: Call) -> list[commands.Command]:
    """The requests whose answers are still awaited, to be made once more after a take-over."""
    automated = ((request, order) for request, order in call.automated.items() if not order[3:])
    return _unanswered(call) + [commands.StartAction(call.id, request, *order) for request, order in automated]


def _unanswered(call: Call) -> list[commands.Command]:
    """The open step's own requests, where it waits for answers."""
    return list(call.asking.values()) if call.wait is not None and any(kind in ANSWERS for kind in call.wait.kinds) else []


def _more_time(call: Call, now: float) -> None:
    """What is asked again, and who writes variables, has time enough; so has a caller whose keys nobody took."""
    if _unanswered(call) or (call.wait is not None and SessionWritten in call.wait.kinds):
        call.asked_until = now + REASK
    elif call.deadline is not None and call.wait is not None and DigitPressed in call.wait.kinds:
        call.deadline = max(call.deadline, now + REASK)


def _forget_secrets(call: Call) -> None:
    """Another process goes on: what was typed is gone, and so are the orders that had it."""
    call.lose_secrets()
    for request, order in list(call.asking.items()):
        awaited = call.wait is not None and ActionFailed in call.wait.kinds
        if awaited and isinstance(order, commands.StartAction) and order.hidden and call.asking.pop(request, None) is not None:
            _advance(call, ActionFailed(call.id, request, "lost"))


def _wants_a_person(call: Call, node: Any) -> bool:
    """Whether the key that reaches a person is all that was typed, in a step that has no use for it."""
    return call.keys != "" and not getattr(node, "TAKES_KEYS", True) and call.keys == call.person_key(node)


def _to_a_person(call: Call) -> None:
    """Leave the open step, wherever it stands, for the way to a person."""
    node = call.flow.program.steps[call.step]
    stop(call)
    if call.playing and call.play is not None:
        _emit(call, commands.StopPlay(call.id, call.playing))
    if call.music:
        _emit(call, call.music_off())
    _enter(call, _leave(call, node, PERSON))


def stop(call: Call) -> None:
    """The flow is over, or leaves its step, wherever it stands."""
    if call.script is not None:
        call.script.close()
    call.script, call.wait, call.deadline = None, None, None


def _taken(call: Call) -> list[Any]:
    out, call.out = call.out, []
    return out


def _enter(call: Call, step: str) -> None:
    """Run steps from here until one of them waits, or the flow ends."""
    while True:
        if call.steps >= MAX_STEPS + (ERROR_STEPS if call.failed else 0):
            raise FlowError(f"more than {MAX_STEPS} steps in one call")
        node = call.flow.program.steps[step]
        call.steps += 1
        call.step, call.asked_until, call.asking = step, 0.0, {}
        if VEILED in call.keys and takes_keys(node):
            call.keys = call.keys.replace(VEILED, "")
        call.note(facts.StepEntered(call.id, step, node.do, call.steps))
        _beside(call, "entered", step)
        call.entry = _state_at_entry(call)
        if isinstance(node, nodes.Release):
            _emit(call, commands.Release(call.id, node.context, commands.FOR_GOOD if node.for_good else {}))
            return
        if isinstance(node, nodes.Hangup):
            _emit(call, commands.HangUp(call.id))
            return
        call.script = STEPS[node.do](call, node)
        taken = PERSON if _wants_a_person(call, node) else _drive(call, None)
        if taken is None:
            return
        step = _leave(call, node, taken)


def _advance(call: Call, event: Any) -> None:
    node = call.flow.program.steps[call.step]
    taken = _drive(call, event)
    if taken is not None:
        _enter(call, _leave(call, node, taken))


def _leave(call: Call, node: Any, taken: str) -> str:
    call.script, call.wait, call.deadline = None, None, None
    call.note(facts.StepLeft(call.id, call.step, taken))
    reach = call.flow.program.reach_a_person
    to = str(node.ways()[taken]) if taken != PERSON or reach is None else reach.step
    if taken == PERSON:
        call.keys = ""
    _left(call, to)
    return to


def _left(call: Call, to: str) -> None:
    """The call goes on to another step: it leaves the open one, and the subflows in which that is and the other is not."""
    for step in around(call.step):
        if not to.startswith(f"{step}."):
            _beside(call, "left", step)


def _beside(call: Call, on: str, step: str) -> None:
    """Start what the flow does beside its steps here. Driven again, it was started: what it changed is in the state at the entry."""
    if on in call.flow.beside and not call.muted:
        call.out += automations.orders(call, on, step)


def _drive(call: Call, sent: Any) -> str | None:
    """Send to the step's script until it waits (None) or ends (its exit)."""
    assert call.script is not None
    try:
        asked = call.script.send(sent)
        while not isinstance(asked, Wait):
            _emit(call, asked)
            asked = call.script.send(None)
    except StopIteration as end:
        return str(end.value)
    call.wait = asked
    call.waits += 1
    call.deadline = None if asked.seconds is None else call.now + max(asked.seconds, 0.0)
    return None


def _emit(call: Call, order: commands.Command | Order) -> None:
    """Note what the command changes about what we believe of the PBX, and hand it on."""
    if isinstance(order, commands.Answer):
        call.answered = call.now
    elif isinstance(order, commands.Play):
        call.playing, call.play, call.played_at = order.playback, order, call.now
    elif isinstance(order, commands.StopPlay) and order.playback == call.playing:
        call.play = None
    elif isinstance(order, commands.StartMusic):
        call.music = True
    elif isinstance(order, commands.StopMusic):
        call.music = False
    elif isinstance(order, commands.StartRecord):
        call.recording = order.recording
    elif isinstance(order, commands.StartAction | commands.SendMail | commands.SendSms | commands.KeepRecording | commands.StartBot):
        call.asking[order.request] = order
    elif isinstance(order, commands.HangUp):
        call.leaving = "hangup"
    elif isinstance(order, commands.Release):
        call.leaving = "release"
    if not call.muted:
        call.out.append(order)


def _state_at_entry(call: Call) -> dict[str, Any]:
    state: dict[str, Any] = dict(zip(AT_ENTRY, _at_entry(call), strict=True))
    state["vars"], state["heard"], state["newest"], state["at"] = call.vars.copy(), sorted(call.heard), call.newest.copy(), call.now
    return state


def stand_at(call: Call, entry: Mapping[str, Any]) -> None:
    """Be as at the entry of a step."""
    for name in AT_ENTRY:
        setattr(call, name, entry[name])
    call.know(dict(entry["vars"]))
    call.heard, call.newest = set(entry["heard"]), dict(entry.get("newest", {}))
    call.entry, call.now, call.recording = dict(entry), entry["at"], ""


def drive_again(call: Call, entry: Mapping[str, Any], since: list[tuple[float, Any]]) -> None:
    """Bring the open step back to where it stood: from `entry`, with the (time, event) pairs handled since, silently."""
    stand_at(call, entry)
    with _silence(call):
        call.steps -= 1
        _enter(call, call.step)
    drive_on(call, since)


def drive_on(call: Call, since: list[tuple[float, Any]]) -> None:
    """Let (time, event) pairs that were handled once be handled again, silently."""
    with _silence(call):
        for at, event in since:
            feed(call, event, at)


@contextmanager
def _silence(call: Call) -> Iterator[None]:
    call.muted = True
    try:
        yield
    finally:
        call.muted = False
        call.out = []
