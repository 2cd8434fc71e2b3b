"""The dialect: what a real Asterisk said, played into the adapter again, is what it was, whatever comes twice, late or never.

The recordings are made by `python -m tests.replay.record`. Where a change of ours is meant to change what comes out,
`python -m tests.replay.expect NAME --write` accepts it; where it changes what is asked of Asterisk, record that scenario anew.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.actions.files import load_actions
from app.core import commands, facts
from app.core import events as ev
from app.core.record import pack, unpack
from app.publish.centre import load_book
from tests.replay import record
from tests.replay.expect import difference
from tests.replay.tape import OF_THE_PBX, PROJECT, Entry, Played, TapeLine, handled, names, play, read, requests, the_adapter
from tests.unit.centre import Sim

every_recording = pytest.mark.parametrize("name", names())
ONE_LIFE = [
    "premium_call_that_the_agent_ends",
    "reference_keyed_after_the_prompt",
    "agent_does_not_answer",
    "line_breaks_and_the_agent_answers_meanwhile",
]
"""Calls that one process served from their arrival to their end."""


def test_every_scenario_is_recorded_and_nothing_else() -> None:
    assert set(names()) == set(record.SCENARIOS) | set(record.FOUND)


@every_recording
def test_recording_is_small_and_gives_nobody_away(name: str) -> None:
    text = "\n".join(json.dumps(entry) for entry in read(name))
    assert len(text) <= 1.2 * record.LARGEST
    numbers = set(re.findall(r"\+\d{8,15}", text))
    assert all(number.startswith("+49305550") for number in numbers), numbers
    assert not re.search(r"authorization|bearer|passw|/tmp/|/root/|/home/", text, re.IGNORECASE)
    assert not re.search(r"\b(?!00:00:00:00:00:00)([0-9a-f]{2}:){5}[0-9a-f]{2}\b", text)


# ---- the same in, the same out --------------------------------------------------------------------------------------------------


@every_recording
def test_recording_becomes_the_events_that_are_expected(name: str) -> None:
    played = play(read(name))
    assert not played.raised
    assert not difference(name)


UNDERSTOOD_SINCE = {"key_is_told_twice"}
"""Recorded while a key that Asterisk tells twice still counted twice."""


@pytest.mark.parametrize("name", [name for name in names() if name not in UNDERSTOOD_SINCE])
def test_recording_becomes_what_the_core_was_given_when_it_was_made(name: str) -> None:
    tape = read(name)
    assert play(tape).events == handled(tape)


@every_recording
def test_recording_asks_of_asterisk_what_was_asked_when_it_was_made(name: str) -> None:
    tape = read(name)
    assert play(tape).requests == requests(tape)


@every_recording
def test_nothing_in_a_recording_is_new_to_us(name: str) -> None:
    ignored = play(read(name)).ignored
    assert not [why for why in ignored if why.startswith(("unknown:", "malformed:")) or why == "unknown"]


# ---- twice, late, never ---------------------------------------------------------------------------------------------------------


def places(tape: Sequence[Entry]) -> list[int]:
    """Where Asterisk's events are."""
    return [n for n, entry in enumerate(tape) if "event" in entry]


def no_end_twice(played: Played) -> None:
    """For one process, what ends ends once, and what arrives arrives once."""
    assert not played.raised
    for life in played.lives:
        told: Counter[tuple[str, str]] = Counter()
        for event in life:
            match event:
                case ev.CallArrived(channel=ident) | ev.CallerLeft(call=ident):
                    told[type(event).__name__, ident] += 1
                case ev.LegAnswered(leg=ident) | ev.LegEnded(leg=ident) | ev.LegRinging(leg=ident) | ev.PlaybackEnded(playback=ident):
                    told[type(event).__name__, ident] += 1
        assert [each for each, times in told.items() if times > 1] == []


@every_recording
def test_every_message_twice_changes_nothing(name: str) -> None:
    tape = read(name)
    played = play([each for entry in tape for each in ([entry, entry] if "event" in entry else [entry])])
    assert not played.raised
    assert played.events == play(tape).events


@every_recording
@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
def test_every_message_again_some_time_later_changes_nothing(name: str, data: st.DataObject) -> None:
    tape = read(name)
    where = places(tape)
    delays = data.draw(st.lists(st.integers(0, 3), min_size=len(where), max_size=len(where)))
    again: dict[int, list[Entry]] = {}
    for n, delay in enumerate(delays):
        again.setdefault(where[min(n + delay, len(where) - 1)], []).append(tape[where[n]])
    played = play([each for n, entry in enumerate(tape) for each in (entry, *again.get(n, ()))])
    assert not played.raised
    assert played.events == play(tape).events


@every_recording
@settings(max_examples=40, deadline=None, derandomize=True)
@given(data=st.data())
def test_lost_repeated_and_exchanged_messages_end_nothing_twice(name: str, data: st.DataObject) -> None:
    tape = read(name)
    where = places(tape)
    edits = data.draw(st.lists(st.tuples(st.integers(0, len(where) - 1), st.sampled_from(["drop", "twice", "exchange"])), max_size=6))
    slots: list[list[Entry]] = [[tape[n]] for n in where]
    for n, how in edits:
        if how == "drop":
            slots[n] = []
        elif how == "twice":
            slots[n] = slots[n] * 2
        elif n + 1 < len(slots) and not _line_changes(tape[where[n] : where[n + 1]]):
            slots[n], slots[n + 1] = slots[n + 1], slots[n]
    at = dict(zip(where, slots, strict=True))
    no_end_twice(play([{**each, "at": entry["at"]} for n, entry in enumerate(tape) for each in at.get(n, [entry])]))


def _line_changes(entries: Sequence[Entry]) -> bool:
    """Whether what came before these cannot have come after them: another socket, or another process."""
    return any(word in entry for entry in entries for word in ("down", "up", "start"))


# ---- through the core -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ONE_LIFE)
def test_the_core_takes_the_same_way_again(name: str) -> None:
    tape = read(name)
    heard = iter(play(tape).events)
    outputs = {action: definition.outputs for action, definition in load_actions(PROJECT / "actions").items()}
    sim = Sim(load_book(PROJECT, outputs))
    for entry in tape:
        if "handled" in entry:
            sim.now = entry["now"]
            event = unpack(entry["handled"])
            if isinstance(event, ev.TimerFired):
                assert sim.center.due(sim.now) == event
            sim.happen(next(heard) if isinstance(event, OF_THE_PBX) else event)
    did = [unpack(fact) for entry in tape if "handled" in entry for fact in entry["did"]]
    way = (facts.StepEntered, facts.StepLeft, facts.Connected, facts.OfferEnded, facts.CallEnded)
    assert [each for each in sim.out if isinstance(each, way)] == [each for each in did if isinstance(each, way)]
    assert any(isinstance(each, facts.StepEntered) for each in did)
    pbx = the_adapter(TapeLine([], Played()), sim.out.append, list, str)
    orders = [entry["order"] for entry in tape if "order" in entry]
    assert [json.loads(json.dumps(pack(each))) for each in sim.out if isinstance(each, commands.Command) and pbx.handles(each)] == orders
    assert list(heard) == []
