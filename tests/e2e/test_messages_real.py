"""Messages and recordings on real calls: what was said is in the mail, whoever ended it and whatever died meanwhile."""

from __future__ import annotations

import io
import time
import urllib.request
import wave
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from tests.e2e.house import LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import RATE, until

pytestmark = pytest.mark.pbx
BEEP = 700.0
LOW, HIGH = 900.0, 1500.0
SILENCE = 0.0
ENVIRONMENT: dict[str, str] = {}
FLOW = """
flow: message
dnis: ["1100"]
start: take
on_error: away
prompts:
  say_it: [Please leave a message.]
  what_now: [To send it press three.]
  thanks: [Thank you.]
  sorry: [Nothing was recorded.]
steps:
  take:
    do: voicemail
    to: night@example.com
    subject: A message from {{ call.ani }}
    body: Number {{ call.ani }} has left a message.
    prompt: say_it
    REVIEW
    seconds: 20
    silence: 2
    exits: {left: thanks, nothing: nothing, failed: nothing}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  nothing: {do: say, prompt: sorry, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""
WAIT = "{do: queue, queue: general, max_wait: 3, exits: {talked: bye, no_agents: away, too_long: take, failed: away}}"
RECORD = """
flow: name
dnis: ["1101"]
start: ask
on_error: away
prompts:
  who: [Who is calling]
  thanks: [Thank you.]
steps:
  ask: {do: record, into: who, prompt: who, seconds: 10, silence: 2, exits: {recorded: thanks, nothing: bye, failed: away}}
  thanks: {do: say, prompt: thanks, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""


@pytest.fixture(scope="module")
def messages(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveHouse]:
    """The installation with flows that take messages."""
    plain, reviewed = FLOW.replace("    REVIEW\n", ""), FLOW.replace("REVIEW", "review: what_now").replace("1100", "1102")
    late = plain.replace("flow: message", "flow: late").replace("1100", "1103").replace("start: take", "start: wait")
    late = late.replace("steps:\n", f"steps:\n  wait: {WAIT}\n")
    folder = project(
        tmp_path_factory.mktemp("messages"),
        message=plain,
        reviewed=reviewed.replace("flow: message", "flow: reviewed"),
        name=RECORD,
        late=late,
    )
    ENVIRONMENT["CALLWRIGHT_PROJECT"] = str(folder)
    with restarted(running_house, **ENVIRONMENT):
        yield running_house


@pytest.fixture(autouse=True)
def checked(messages: LiveHouse, house: LiveHouse) -> None:
    """The universal check after each test."""


def beep(house: LiveHouse, visit: Visit) -> None:
    """The caller has heard the beep, and is being recorded."""
    until(lambda: count(house, visit, "StartRecord") > count(house, visit, "RecordingEnded"), 20, "the order to record")
    until(lambda: visit.phone.rtp.hears(BEEP, 0.15), 10, "the beep")
    until(lambda: not visit.phone.rtp.hears_anything(0.2), 5, "the end of the beep")


def count(house: LiveHouse, visit: Visit, kind: str) -> int:
    return sum(entry["type"] == kind for entry in house.timeline(visit.call))


def speaks(visit: Visit, *tones: float, seconds: float = 1.2) -> None:
    """The caller says so much of each tone, and is then silent."""
    for tone in tones:
        visit.phone.rtp.tone = tone
        began = time.monotonic()
        until(lambda began=began: time.monotonic() - began > seconds, seconds + 2)  # type: ignore[misc]
    visit.phone.rtp.tone = SILENCE


def said(content: bytes) -> tuple[float, float, float]:
    """Seconds of a WAV file, and how loud the two tones are in it."""
    with wave.open(io.BytesIO(content)) as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        heard = np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)
    spectrum = np.abs(np.fft.rfft(heard)) / max(len(heard), 1)
    at = np.fft.rfftfreq(len(heard), 1 / RATE)
    low, high = (float(spectrum[np.abs(at - tone) < 5].max(initial=0.0)) for tone in (LOW, HIGH))
    return len(heard) / RATE, low, high


def mailed(house: LiveHouse, before: int, within: float = 15.0) -> bytes:
    """The sound that came with the one new mail."""
    until(lambda: len(house.mails()) > before, within, "the mail")
    mails = house.mails()
    assert len({mail["message_id"] for mail in mails[: len(mails) - before]}) == 1
    assert mails[0]["to"] == "night@example.com"
    assert mails[0]["attachments"] == ["message.wav"]
    url = f"http://127.0.0.1:{house.installation.ports.mail}/messages/{mails[0]['id']}/0"
    with urllib.request.urlopen(url, timeout=5) as answer:
        return bytes(answer.read())


def kept(house: LiveHouse, visit: Visit) -> list[bytes]:
    """What is left on the shelf of this call, as the API gives it; in Asterisk nothing may be left, and in the clear nothing anywhere."""
    until(lambda: house.ari("recordings/stored") == [], 5, "Asterisk to have no recording any more")
    files = list((house.installation.state / "recordings").glob(f"{visit.call}-*"))
    assert all(path.suffix == ".sealed" and b"RIFF" not in path.read_bytes() for path in files)
    return [sound_of(house, path.stem) for path in files]


def sound_of(house: LiveHouse, recording: str) -> bytes:
    """A recording, by its id."""
    url = f"http://127.0.0.1:{house.installation.ports.api}/v1/recordings/{recording}"
    token = house.installation.keep()["admin_token"]
    with urllib.request.urlopen(urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"}), timeout=5) as answer:
        return bytes(answer.read())


def exits(house: LiveHouse, visit: Visit) -> list[str]:
    return [entry["exit"] for entry in house.timeline(visit.call) if entry["type"] == "StepLeft"]


def test_a_message_ends_by_silence_and_is_in_the_mail(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.visit("+4930555000555", "1100", tone=SILENCE) as visit:
        beep(messages, visit)
        speaks(visit, LOW, HIGH)
        visit.phone.wait_for("released", 20)
    seconds, low, high = said(mailed(messages, before))
    assert 2.0 < seconds < 4.5
    assert min(low, high) > 300, "both words are in it"
    assert exits(messages, visit)[0] == "left"
    assert kept(messages, visit) == [], "what a mail server has taken is deleted"


@pytest.mark.faults
def test_a_caller_who_hangs_up_has_left_the_message_all_the_same(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.visit("+4930555000555", "1100", tone=SILENCE) as visit:
        beep(messages, visit)
        speaks(visit, HIGH)
        visit.phone.hang_up()
        assert messages.over(visit.call)["outcome"] == "self_service"
    assert said(mailed(messages, before))[2] > 300
    assert kept(messages, visit) == []


@pytest.mark.faults
def test_who_says_nothing_has_left_nothing(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.visit("+4930555000555", "1100", tone=SILENCE) as visit:
        beep(messages, visit)
        visit.phone.wait_for("released", 20)
        assert exits(messages, visit)[0] == "nothing"
    with messages.visit("+4930555000555", "1100", tone=SILENCE) as visit:
        beep(messages, visit)
        visit.phone.hang_up()
        messages.over(visit.call)
    until(lambda: messages.calls() == [], 15, "the call to be done with")
    assert len(messages.mails()) == before
    assert kept(messages, visit) == []


def test_a_message_is_heard_again_spoken_again_and_sent(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.visit("+4930555000555", "1102", tone=SILENCE) as visit:
        beep(messages, visit)
        speaks(visit, LOW)
        visit.phone.rtp.press("#")
        until(lambda: len(plays(messages, visit)) == 2, 10, "the choice")
        visit.phone.rtp.press("1")
        until(lambda: visit.phone.rtp.hears(LOW), 10, "the caller's own words")
        until(lambda: len(plays(messages, visit)) == 4, 10, "the choice again")
        visit.phone.rtp.press("2")
        beep(messages, visit)
        speaks(visit, HIGH)
        visit.phone.rtp.press("#")
        until(lambda: len(plays(messages, visit)) == 5, 10, "the choice")
        visit.phone.rtp.press("3")
        visit.phone.wait_for("released", 20)
    _, low, high = said(mailed(messages, before))
    assert high > 300 > 30 > low, "the second take, and not the first"
    assert kept(messages, visit) == []


def plays(house: LiveHouse, visit: Visit) -> list[str]:
    return [entry["playback"] for entry in house.timeline(visit.call) if entry["type"] == "Play"]


def test_a_message_goes_on_while_nobody_is_there_and_is_sent_by_the_next_process(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.visit("+4930555000555", "1100", tone=SILENCE) as visit:
        beep(messages, visit)
        speaks(visit, LOW)
        messages.kill()
        speaks(visit, HIGH)
        restart(messages)
        visit.phone.wait_for("released", 25)
    _, low, high = said(mailed(messages, before))
    assert min(low, high) > 200, "what was said before and after the end of the process"
    assert kept(messages, visit) == []


@pytest.mark.faults
def test_who_hangs_up_while_nobody_is_there_has_left_the_message(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.visit("+4930555000555", "1100", tone=SILENCE) as visit:
        beep(messages, visit)
        speaks(visit, HIGH)
        messages.kill()
        visit.phone.hang_up()
        visit.phone.wait_for("hungup")
        restart(messages)
    assert said(mailed(messages, before, 25))[2] > 300
    assert kept(messages, visit) == []


@pytest.mark.faults
def test_who_has_waited_beside_a_ringing_phone_leaves_a_message(messages: LiveHouse) -> None:
    before = len(messages.mails())
    with messages.agent_phone("103", ring=None) as agent, messages.visit("+4930555000555", "1103", tone=SILENCE) as visit:
        agent.wait_for("invite", 10)
        agent.wait_for("cancelled", 10)
        beep(messages, visit)
        speaks(visit, HIGH)
        visit.phone.rtp.press("#")
        visit.phone.wait_for("released", 20)
    assert said(mailed(messages, before))[2] > 300, "a caller in a bridge cannot be recorded, and leaves it first"
    assert kept(messages, visit) == []


def test_a_recording_is_kept_under_its_name(messages: LiveHouse) -> None:
    with messages.visit("+4930555000555", "1101", tone=SILENCE) as visit:
        beep(messages, visit)
        speaks(visit, LOW, seconds=0.6)
        visit.phone.rtp.press("#")
        visit.phone.wait_for("released", 20)
    assert exits(messages, visit)[0] == "recorded"
    (content,) = kept(messages, visit)
    assert said(content)[1] > 300


def restart(house: LiveHouse) -> None:
    """The next process, with the same project."""
    part = next(part for part in house.installation.parts() if part.name == "application")
    house.installation.start(replace(part, env=ENVIRONMENT), house.say.append)
