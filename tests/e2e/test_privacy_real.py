"""What a caller types in secret, on real calls: it is in no recording, no row and no file."""

from __future__ import annotations

import io
import wave
from collections.abc import Iterator

import numpy as np
import pytest

from app.replaying import place_of
from app.store import Journal
from tests.e2e.house import LiveHouse, Visit
from tests.e2e.test_messages_real import LOW, SILENCE, beep, count, exits, kept, mailed, speaks
from tests.e2e.variant import project, restarted
from tests.phones import RATE, until

pytestmark = pytest.mark.pbx
CARD = "4111111111111111"
ROW, COLUMN = 770.0, 1336.0
"""The two tones of the key 5, as a telephone makes them that sends its keys in the sound."""
FLOW = """
flow: secret
dnis: ["1110", "1111"]
start: hello
on_error: away
entries: {card: ask, message: take}
prompts:
  hello: [Welcome to the payment line. Please have your card at hand.]
  ask: [Please type the number of your card.]
  say_it: [Please leave a message.]
  thanks: [Thank you.]
steps:
  hello: {do: say, prompt: hello, exits: {done: ask}}
  take:
    do: voicemail
    to: night@example.com
    subject: A message
    body: A message.
    prompt: say_it
    seconds: 60
    silence: 30
    terminator: none
    exits: {left: thanks, nothing: bye, failed: bye}
  ask:
    do: collect
    sensitive: true
    into: card
    length: 16
    prompt: ask
    retry_no_match: ask
    retry_no_input: ask
    exits: {match: thanks, no_match: bye, no_input: bye}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""


@pytest.fixture(scope="module")
def paying(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHouse]:
    """The installation with a flow that asks for the number of a card."""
    folder = project(tmp_path_factory.mktemp("paying"), secret=FLOW)
    with restarted(running_house, CALLWRIGHT_PROJECT=str(folder)):
        yield running_house


@pytest.fixture(autouse=True)
def checked(paying: LiveHouse, house: LiveHouse) -> None:
    """The universal check after each test."""


def loud(content: bytes, tone: float) -> float:
    """How loud a tone is in a WAV file, in each half second of it at most."""
    with wave.open(io.BytesIO(content)) as file:
        heard = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
    parts = [heard[at : at + RATE // 2] for at in range(0, max(len(heard) - RATE // 4, 1), RATE // 4)]
    waves = [np.exp(-2j * np.pi * tone * np.arange(len(part)) / RATE) for part in parts]
    return max(
        float(2 * abs(np.dot(part * np.hanning(len(part)), wave_)) / max(len(part) / 2, 1))
        for part, wave_ in zip(parts, waves, strict=True)
    )


def goes(house: LiveHouse, visit: Visit, entry: str) -> None:
    house.api(f"/v1/sessions/{visit.call}/goto", {"entry": entry})


async def journal_of(house: LiveHouse, call: str) -> list[list[object]]:
    """Every record that the database has of a call, opened with its key."""
    place = place_of(house.installation.state)
    journal = await Journal.open(place.database, place.key)
    try:
        return [record for _, whose, records in await journal.call(call) if whose == call for record in records]
    finally:
        await journal.close()


async def test_a_card_number_typed_ahead_and_when_asked_for_is_in_no_row_and_no_file(paying: LiveHouse) -> None:
    with paying.visit("+4930555000555", "1110", tone=SILENCE) as visit:
        until(lambda: count(paying, visit, "Play") == 1, 10, "the welcome")
        visit.phone.rtp.press(CARD[:8])
        until(lambda: "ask" in paying.steps(visit.call), 15, "the question")
        visit.phone.rtp.press(CARD)
        visit.phone.wait_for("released", 20)
    assert exits(paying, visit)[:2] == ["done", "match"]
    records = await journal_of(paying, visit.call)
    keys = [values for _, name, values, _ in records if name == "SecretKey"]  # type: ignore[misc]
    assert [key["count"] for key in keys] == [*[0] * 8, *range(1, 17)]
    assert not [name for _, name, *_ in records if name == "DigitPressed"]
    state = paying.installation.state
    files = [path for path in state.rglob("*") if path.is_file() and path.stat().st_size < 64_000_000]
    assert any(path.name == "callwright.db" for path in files)
    assert [path for path in files if CARD.encode() in path.read_bytes()] == []


def test_no_key_is_heard_in_the_recording_of_a_caller_who_is_sent_to_a_sensitive_input(paying: LiveHouse) -> None:
    before = len(paying.mails())
    with paying.visit("+4930555000555", "1111", tone=SILENCE) as visit:
        until(lambda: count(paying, visit, "Play") == 1, 10, "the welcome")
        goes(paying, visit, "message")
        beep(paying, visit)
        speaks(visit, LOW)
        goes(paying, visit, "card")
        until(lambda: count(paying, visit, "RecordingEnded") == 1, 5, "the end of the recording")
        speaks(visit, ROW, COLUMN, seconds=0.6)
        visit.phone.rtp.press(CARD)
        visit.phone.wait_for("released", 20)
    assert "match" in exits(paying, visit)
    message = mailed(paying, before, 20)
    assert loud(message, LOW) > 1000, "what was said before is in it"
    assert max(loud(message, ROW), loud(message, COLUMN)) < 50, "and nothing of the keys"
    assert kept(paying, visit) == []
