"""A1 for the steps that reach outside: the application dies while a message is taken and handed over, a caller put through or called back.

A recording goes on without us and is in one mail; a number is never dialled twice: a dial of which nobody knows takes the failure exit,
or is a try to call back that failed.
"""

from __future__ import annotations

import io
import tempfile
import urllib.request
import wave
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import numpy as np

from tests.e2e.carrier import allow, far_phone, set_up
from tests.e2e.house import LiveHouse
from tests.e2e.variant import project
from tests.faults.case import AGENT_TONE, CALLER_TONE, Case, dies, told
from tests.faults.kill_points import Play, Scene, cases, play
from tests.phones import RATE, free_port, until

NUMBER = "+4930555000555"
CUSTOMER_TONE = 1700.0
SECONDS = 6
MESSAGE = f"""
flow: message
dnis: ["1100"]
start: take
on_error: bye
prompts: {{say_it: [Please leave a message.], thanks: [Thank you for your message.]}}
steps:
  take:
    do: voicemail
    to: night@example.com
    subject: A message
    body: Hear it.
    prompt: say_it
    seconds: {SECONDS}
    exits: {{left: thanks, nothing: bye, failed: bye}}
  thanks: {{do: say, prompt: thanks, exits: {{done: bye}}}}
  bye: {{do: hangup}}
"""
OUTSIDE = """
flow: outside
dnis: ["1110"]
start: out
on_error: bye
prompts: {no: [We cannot put you through.]}
steps:
  out: {do: transfer, to: "+49 30 5550777", exits: {talked: bye, busy: no, no_answer: no, failed: no}}
  no: {do: say, prompt: no, exits: {done: bye}}
  bye: {do: hangup}
"""

BACK = """
flow: back
dnis: ["1120"]
start: ask
on_error: bye
prompts: {ask: [Press 1 and we call you back.], soon: [We call you back.]}
steps:
  ask: {do: callback, prompt: ask, queue: general, retry_after: 2, exits: {booked: soon, declined: bye, failed: bye, no_input: bye}}
  soon: {do: say, prompt: soon, exits: {done: bye}}
  bye: {do: hangup}
"""


def files(house: LiveHouse, stack: ExitStack) -> dict[str, str]:
    """The demo's project with the flows of these cases."""
    folder = project(Path(tempfile.mkdtemp(prefix="outside-")), message=MESSAGE, outside=OUTSIDE, back=BACK)
    allow(folder)
    return {"CALLWRIGHT_PROJECT": str(folder)}


def leaving_a_message(scene: Scene) -> None:
    """The caller talks all the time, before the crash and after it."""
    scene.caller(NUMBER, "1100")
    scene.crash()
    scene.ends("self_service", 40)
    scene.one_mail()
    heard = attached(scene.house)
    assert SECONDS - 2 < len(heard) / RATE < SECONDS + 2, f"{len(heard) / RATE:.1f} s were recorded"
    assert tone(heard, CALLER_TONE) > 300, "the caller is not in the message"
    until(lambda: scene.house.ari("recordings/stored") == [], 10, "no recording to be left")


def attached(house: LiveHouse) -> np.ndarray:
    """What is in the newest mail."""
    url = f"http://127.0.0.1:{house.installation.ports.mail}/messages/{house.mails()[0]['id']}/0"
    with urllib.request.urlopen(url, timeout=5) as answer, wave.open(io.BytesIO(answer.read())) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)


def tone(heard: np.ndarray, frequency: float) -> float:
    """How loud one tone is, over all of it."""
    spectrum = np.abs(np.fft.rfft(heard)) / len(heard)
    return float(spectrum[np.abs(np.fft.rfftfreq(len(heard), 1 / RATE) - frequency) < 5].max())


def put_through(scene: Scene, *, known: bool) -> None:
    """The number rings once. Whether the dial went out is `known` to the next process, or the caller hears that it did not work."""
    port = free_port()
    set_up(scene.house, port)
    far = scene.stack.enter_context(far_phone(port, ring=1.0))
    scene.caller(NUMBER, "1110")
    scene.crash()
    if known:
        until(lambda: scene.phone.rtp.hears(AGENT_TONE) and far.rtp.hears(CALLER_TONE), 15, "both to hear one another")
        far.hang_up()
    scene.ends("transferred" if known else "self_service")
    exits = [entry["exit"] for entry in scene.house.timeline(scene.call) if entry["type"] == "StepLeft"]
    assert exits[0] == ("talked" if known else "failed")
    assert len(far.sipp.logged("invite")) == known, "the number was dialled twice, or not at all"


def called_back(scene: Scene, *, known: bool, let_go: bool = False) -> None:
    """The customer's phone rings once. A dial of which the next process does not know whether it went out is a try that failed.

    Where the process stays away until the watchdog has `let_go` the agent, who waits for the customer, the agent is rung again.
    """
    port = free_port()
    set_up(scene.house, port)
    far = scene.stack.enter_context(far_phone(port, ring=1.0, tone=CUSTOMER_TONE))
    scene.caller(NUMBER, "1120")
    scene.press_into_the_crash("1", "ask")
    scene.phone.wait_for("released", 20)
    agent = scene.agent("103")
    if let_go:
        dies(scene.house)
        agent.wait_for("released", 25)
    scene.dies_and_is_started()
    until(lambda: agent.rtp.hears(CUSTOMER_TONE) and far.rtp.hears(AGENT_TONE), 20, lambda: told(scene.house, scene.call))
    far.hang_up()
    until(lambda: scene.house.ended(scene.call)["outcome"] == "called_back", 10, "the end of the callback")  # type: ignore[index]
    assert [entry["left"] for entry in scene.house.timeline(scene.call) if entry["type"] == "CallbackTried"] == ([] if known else [2])
    assert len(far.sipp.logged("invite")) == 1, "the number was dialled twice"


reached, lost = partial(called_back, known=True), partial(called_back, known=False)
ringing, unknown = partial(put_through, known=True), partial(put_through, known=False)
SCENES: dict[str, dict[str, tuple[Play, str]]] = {
    "record": {
        "before_handled": (leaving_a_message, "RecordingEnded"),
        "before_persist": (leaving_a_message, "StartRecord"),
        "after_persist": (leaving_a_message, "StartRecord"),
        "after_command": (leaving_a_message, "StartRecord"),
    },
    "voicemail": {
        "before_handled": (leaving_a_message, "MailSent"),
        "before_persist": (leaving_a_message, "SendMail"),
        "after_persist": (leaving_a_message, "SendMail"),
        "after_command": (leaving_a_message, "KeepRecording"),
    },
    "transfer": {
        "before_handled": (ringing, "LegAnswered"),
        "before_persist": (ringing, "LegRinging"),
        "after_persist": (unknown, "RingOutside"),
        "after_command": (ringing, "RingOutside"),
    },
    "callback": {
        "before_handled": (reached, "LegAnswered"),
        "before_persist": (reached, "RingOutside"),
        "after_persist": (lost, "RingOutside"),
        "after_command": (reached, "RingOutside"),
    },
}


CASES = [
    *cases(SCENES, files),
    Case("A5/callback", partial(play, partial(called_back, known=True, let_go=True), "before_handled:LegAnswered", around=files)),
]
