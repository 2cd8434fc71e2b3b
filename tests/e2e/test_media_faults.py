"""Keys that a bad network mangles, and prompts that cannot be played, on a real Asterisk.

Two flows of this file's own: `keys` collects seven keys and mails them, so that what was understood can be read; `prompts` plays one
prompt that a test spoils, and another.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import wave
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from app.channels.speech import Espeak, Speech
from tests.drawn import one_of
from tests.e2e.hearing import has_heard
from tests.e2e.house import UNKNOWN, LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import until
from tests.tcp_proxy import TcpProxy

pytestmark = pytest.mark.pbx

HELD = float(os.environ.get("CALLWRIGHT_TEST_HELD", "5"))
CODE = "1597730"
SPOILT, AFTER, ASKED, AGAIN = "Hello there.", "This is the prompt after it.", "Please choose now.", "We have heard nothing. Please choose."

KEYS = """
flow: keys
dnis: ["1701"]
start: ask
on_error: end
prompts: {please: Please enter seven digits., thanks: Thank you very much indeed.}
steps:
  ask:
    do: collect
    into: code
    prompt: please
    retry_no_match: please
    retry_no_input: please
    length: 7
    first_key: 40
    between_keys: 40
    total: 100
    tries: 1
    exits: {match: tell, no_match: end, no_input: end}
  tell:
    do: email
    to: keys@example.com
    subject: "{{ vars.code }}"
    body: "{{ call.id }}"
    exits: {sent: thank, failed: end}
  thank: {do: say, prompt: thanks, exits: {done: end}}
  end: {do: hangup}
"""
PROMPTS = f"""
flow: prompts
dnis: ["1702"]
start: first
on_error: end
prompts: {{spoilt: {SPOILT}, after: {AFTER}}}
steps:
  first: {{do: say, prompt: spoilt, exits: {{done: second}}}}
  second: {{do: say, prompt: after, exits: {{done: end}}}}
  end: {{do: hangup}}
"""
MISSING = f"""
flow: missing
dnis: ["1703"]
start: first
on_error: end
prompts: {{missing: "sound:/nowhere/nothing", after: {AFTER}}}
steps:
  first: {{do: say, prompt: missing, exits: {{done: second}}}}
  second: {{do: say, prompt: after, exits: {{done: end}}}}
  end: {{do: hangup}}
"""
ASKING = f"""
flow: asking
dnis: ["1704"]
start: ask
on_error: end
prompts: {{asked: {ASKED}, again: {AGAIN}}}
steps:
  ask: {{do: menu, prompt: asked, choices: {{"1": end}}, retry_no_match: again, retry_no_input: again, first_key: 1.5, tries: 2,
        exits: {{no_match: end, no_input: end}}}}
  end: {{do: hangup}}
"""


@pytest.fixture(scope="module", autouse=True)
def line(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TcpProxy]:
    folder = project(tmp_path_factory.mktemp("media"), keys=KEYS, prompts=PROMPTS, missing=MISSING, asking=ASKING)
    with TcpProxy(running_house.installation.ports.ari) as proxy:
        with restarted(running_house, CALLWRIGHT_PROJECT=str(folder), CALLWRIGHT_ARI__URL=proxy.url):
            proxy.keep = b'"ChannelDtmfReceived"'
            yield proxy
            proxy.release()


def entries(house: LiveHouse, visit: Visit, kind: str) -> list[dict[str, Any]]:
    return [entry for entry in house.timeline(visit.call) if entry["type"] == kind]


# ---- D1: keys -----------------------------------------------------------------------------------------------------------------

Order = Callable[[list[int]], list[int]]


def whole(packets: list[int]) -> list[int]:
    return packets


def swapped(packets: list[int]) -> list[int]:
    """Every two neighbours change places."""
    return [each for i in range(0, len(packets), 2) for each in reversed(packets[i : i + 2])]


def end_first(packets: list[int]) -> list[int]:
    """The first of the ends overtakes the last two updates."""
    return [*packets[:-5], packets[-3], packets[-5], packets[-4], *packets[-2:]]


MANGLED: dict[str, tuple[Order, float, float]] = {
    "as it should be": (whole, 0.1, 0.1),
    "start lost": (lambda packets: packets[2:], 0.1, 0.1),
    "all but the last end lost": (lambda packets: [*packets[:-3], packets[-1]], 0.1, 0.1),
    "all ends lost": (lambda packets: packets[:-3], 0.1, 0.5),
    "neighbours swapped": (swapped, 0.1, 0.1),
    "end overtakes updates": (end_first, 0.12, 0.1),
    "40 ms": (whole, 0.04, 0.1),
    "ten a second": (whole, 0.05, 0.05),
}


def understood(house: LiveHouse, visit: Visit, line: TcpProxy, pressed: int) -> str:
    """What the flow collected, once the call is over; and each key counted once."""
    channel = house.call(visit.call)["channel"]
    house.over(visit.call, 20)
    mail = next((m for m in house.mails() if visit.call in m["body"]), None)
    counted = len(entries(house, visit, "DigitPressed"))
    assert counted == pressed, f"{counted} of {told(line, channel)}"
    return mail["subject"] if mail else "nothing"


def told(line: TcpProxy, channel: str) -> str:
    """The keys of one caller as Asterisk told them: key, length in milliseconds, time."""
    events = [json.loads(frame[frame.index(b"{") :]) for frame in line.kept if channel.encode() in frame]
    return " ".join(f"{event['digit']}/{event['duration_ms']}@{event['timestamp'][17:23]}" for event in events)


@pytest.mark.parametrize("how", one_of(MANGLED))
def test_each_key_counts_once(house: LiveHouse, line: TcpProxy, how: str) -> None:
    order, length, gap = MANGLED[how]
    with house.visit(UNKNOWN, dial="1701") as visit:
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.hears_anything(), 5, "the prompt")
        rtp = visit.phone.rtp
        for digit in CODE:
            rtp.event(digit, length, order)
            pause(gap)
        assert understood(house, visit, line, len(CODE)) == CODE


def pause(seconds: float) -> None:
    """The caller's finger is off the keys."""
    end = time.monotonic() + seconds
    until(lambda: time.monotonic() >= end, seconds + 1)


def test_key_that_is_held_counts_once(house: LiveHouse, line: TcpProxy) -> None:
    with house.visit(UNKNOWN, dial="1701") as visit:
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.hears_anything(), 5, "the prompt")
        visit.phone.rtp.press(CODE[0], length=HELD)
        visit.phone.rtp.press(CODE[1:])
        assert understood(house, visit, line, len(CODE)) == CODE


# ---- D4: prompts ----------------------------------------------------------------------------------------------------------------


def sounds(house: LiveHouse) -> Path:
    return house.installation.pbx(house.say.append).sounds_dir


def recording(house: LiveHouse, text: str) -> Path:
    """The file in which a text is kept; made unless it is there."""
    return asyncio.run(Speech(Espeak(), sounds(house)).render(text, "en"))


def heard(house: LiveHouse, visit: Visit, text: str, within: float = 5.0) -> None:
    until(lambda: has_heard(visit.phone.rtp, text, sounds(house)) > 0.7, within, f"to hear {text!r}")


def played_at(house: LiveHouse, visit: Visit, text: str) -> float:
    """When a text was played, epoch seconds."""
    return float(next(e["at"] for e in entries(house, visit, "Play") if any(text in item for item in e["media"])))


@pytest.fixture
def spoilt(house: LiveHouse) -> Iterator[Path]:
    """The recording of the prompt that a test spoils; made anew afterwards."""
    path = recording(house, SPOILT)
    yield path
    path.unlink(missing_ok=True)
    recording(house, SPOILT)


def test_recording_that_was_deleted_is_made_again(house: LiveHouse, spoilt: Path) -> None:
    spoilt.unlink()
    with house.visit(UNKNOWN, dial="1702") as visit:
        heard(house, visit, SPOILT)
        heard(house, visit, AFTER)
        assert house.over(visit.call)["outcome"] == "self_service"


def test_recording_that_asterisk_may_not_read_costs_no_more_than_itself(house: LiveHouse, spoilt: Path) -> None:
    spoilt.chmod(0)
    with house.visit(UNKNOWN, dial="1702") as visit:
        heard(house, visit, AFTER)
        assert next(e["ok"] for e in entries(house, visit, "PlaybackEnded")) is False
        assert played_at(house, visit, AFTER) - played_at(house, visit, SPOILT) < 1.0
        assert house.over(visit.call)["outcome"] == "self_service"


def test_file_that_is_not_there_costs_no_more_than_itself(house: LiveHouse) -> None:
    with house.visit(UNKNOWN, dial="1703") as visit:
        heard(house, visit, AFTER)
        assert played_at(house, visit, AFTER) - played_at(house, visit, "nothing") < 1.0
        assert house.over(visit.call)["outcome"] == "self_service"


def test_question_that_cannot_be_played_is_followed_by_the_next_one(house: LiveHouse) -> None:
    path = recording(house, ASKED)
    path.chmod(0)
    try:
        with house.visit(UNKNOWN, dial="1704") as visit:
            visit.phone.wait_for("answered")
            began = time.monotonic()
            heard(house, visit, AGAIN)
            print(f"MEASURED {time.monotonic() - began:.1f} s to the next prompt, spoken whole")
            house.over(visit.call)
    finally:
        path.unlink()
        recording(house, ASKED)


CEILING = 5.0 + 2.0 + 0.12 * len(f"text:{SPOILT}")


def test_recording_without_end_is_cut_off_at_the_ceiling(house: LiveHouse, spoilt: Path) -> None:
    tone = 3000 * np.sin(2 * np.pi * 700 * np.arange(8000 * 60) / 8000)
    with wave.open(str(spoilt), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(8000)
        out.writeframes(tone.astype("<i2").tobytes())
    with house.visit(UNKNOWN, dial="1702") as visit:
        until(lambda: visit.phone.rtp.hears(700.0), 5, "the tone")
        heard(house, visit, AFTER, CEILING + 5)
        assert not visit.phone.rtp.hears(700.0), "it was stopped"
        took = played_at(house, visit, AFTER) - played_at(house, visit, SPOILT)
        house.over(visit.call)
    print(f"MEASURED next prompt after {took:.2f} s (ceiling {CEILING:.2f} s)")
    assert took == pytest.approx(CEILING, abs=0.5)


def test_end_of_a_prompt_that_is_never_told_is_waited_for_until_the_ceiling(house: LiveHouse, line: TcpProxy) -> None:
    line.swallow = b'"PlaybackFinished"'
    with house.visit(UNKNOWN, dial="1702") as visit:
        until(lambda: line.swallowed, 8, "the first end to be lost")
        line.release()
        heard(house, visit, AFTER, CEILING + 5)
        took = played_at(house, visit, AFTER) - played_at(house, visit, SPOILT)
        assert house.over(visit.call)["outcome"] == "self_service"
    print(f"MEASURED next prompt after {took:.2f} s (ceiling {CEILING:.2f} s)")
    assert took == pytest.approx(CEILING, abs=0.5)
