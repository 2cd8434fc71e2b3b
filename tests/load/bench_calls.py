"""The calls of the benchmark: SIPp scenarios, what the callers key in and say, and SIPp runs of them.

The agents' phones are those that ship for `make load`; where voices are wanted they speak from the moment they answer.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable
from pathlib import Path

from tests.load import sipp
from tests.load.bench_wire import AGENT_VOICE, CALLER_VOICE
from tests.phones import FRAME, write_digits_pcap

REFERENCE = "4424778#"
LONGEST = 20.0
"""Seconds after the last call was placed in which every call should be over."""
_CALLER = Path(__file__).parent / "benchmark" / "caller.xml"
_ACTION = '<action><exec play_pcap_audio="voice.pcap"/></action>'
_SPEAK = f"<nop>{_ACTION}</nop>\n"
_CALLER_FRAMES, _AGENT_FRAMES = 45, 10
_BYE = """<pause milliseconds="{stay}"/>
  <send retrans="500">
    <![CDATA[

BYE sip:[service]@[remote_ip]:[remote_port] SIP/2.0
Via: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]
From: <sip:[field0]@[local_ip]>;tag=[pid]c[call_number]
To:[$to]
Call-ID: [call_id]
CSeq: 2 BYE
Contact: <sip:caller@[local_ip]:[local_port]>
Max-Forwards: 70
Content-Length: 0

    ]]>
  </send>
  <recv response="200"/>
</scenario>
"""


def callers_scenario(folder: Path, voice: bool) -> Path:
    """The full call; with `voice` the caller speaks once the reference is in."""
    text = _CALLER.read_text().replace("<!-- speaks -->\n", _SPEAK if voice else "")
    return _written(folder, text, CALLER_VOICE, _CALLER_FRAMES)


def held_scenario(folder: Path, stay: float) -> Path:
    """The same, but the caller waits in the queue for `stay` seconds and hangs up."""
    text, _, _ = _CALLER.read_text().partition("<!-- speaks -->")
    return _written(folder, text + _BYE.format(stay=round(stay * 1000)), CALLER_VOICE, _CALLER_FRAMES)


def agents_scenario(folder: Path, voice: bool) -> Path:
    """The phones of `make load`; with `voice` the agent speaks as soon as the answer is sent."""
    text = (sipp.KIT / "agents.xml").read_text()
    answered = '  <recv request="ACK"/>\n'
    assert text.count(answered) == 1
    return _written(folder, text.replace(answered, f'  <recv request="ACK">{_ACTION}</recv>\n') if voice else text, AGENT_VOICE, _AGENT_FRAMES)


def _written(folder: Path, scenario: str, voice: bytes, frames: int) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_digits_pcap(folder / "digits.pcap", REFERENCE)
    write_voice_pcap(folder / "voice.pcap", voice, frames)
    path = folder / "scenario.xml"
    path.write_text(scenario)
    return path


def write_voice_pcap(path: Path, sound: bytes, frames: int) -> None:
    """A pcap for SIPp's `play_pcap_audio`: G.711 mu-law frames of 20 ms, filled with `sound` over and over."""
    payload = sound * (FRAME // len(sound))
    source, stamp = int.from_bytes(os.urandom(4), "big"), int.from_bytes(os.urandom(3), "big")
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number in range(frames):
            rtp = struct.pack("!BBHII", 0x80, 0 if number else 0x80, number + 1, stamp + number * FRAME, source) + payload
            udp = struct.pack("!HHHH", 20000, 20000, 8 + len(rtp), 0) + rtp
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1") + udp
            frame = b"\0" * 12 + b"\x08\0" + ip
            at = number * 20_000
            out.write(struct.pack("<IIII", at // 1_000_000, at % 1_000_000, len(frame), len(frame)) + frame)


def place(folder: Path, sip: int, scenario: Path, dial: str, calls: int, rate: float, run: int) -> sipp.Sipp:
    """Begin to place calls; `run` makes the callers' numbers differ from those of other runs."""
    numbers = folder / "numbers.csv"
    numbers.write_text("SEQUENTIAL\n" + "".join(f"+4930{run:03}{number:05}\n" for number in range(calls)))
    return sipp.callers("callers", folder, sip, str(scenario), str(numbers), dial, calls, rate, calls / rate + LONGEST)


def wait_for(run: sipp.Sipp, until: Callable[[], bool] | None = None) -> None:
    """Wait until a run has ended, or until something else is so."""
    while run.running and not (until and until()):
        time.sleep(0.05)
