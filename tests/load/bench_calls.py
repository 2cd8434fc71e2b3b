"""The calls of the benchmark: SIPp scenarios, what the callers key in and say, and SIPp runs of them.

The agents' phones are those that ship for `make load`, except that they say a word of 200 ms when they have answered.
"""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.load import sipp
from tests.load.bench_wire import AGENT_VOICE, CALLER_VOICE

REFERENCE = "4424778#"
LONGEST = 20.0
"""Seconds after the last call was placed in which every call should be over."""
FRAME, KEY_FRAMES, GAP_FRAMES = 160, 5, 3
"""Samples of 20 ms; frames that a key is held, and between two keys."""
_KEYS, _EVENT, _MARK = "0123456789*#", 101, 0x80
_CALLER = Path(__file__).parent / "benchmark" / "caller.xml"
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
    return _written(folder, _CALLER.read_text(), voice)


def held_scenario(folder: Path, stay: float) -> Path:
    """The same, but the caller waits in the queue for `stay` seconds and hangs up."""
    text, mark, _ = _CALLER.read_text().partition("<!-- talks -->")
    assert mark
    return _written(folder, text + _BYE.format(stay=round(stay * 1000)), False)


def agents_scenario(folder: Path) -> Path:
    """The phones of `make load`, but the agent says a word as soon as the answer is acknowledged."""
    text, answered = (sipp.KIT / "agents.xml").read_text(), '<recv request="ACK"/>\n  <pause variable="talking"/>'
    assert text.count(answered) == 1
    write_pcap(folder / "voice.pcap", voice_packets(AGENT_VOICE, _AGENT_FRAMES))
    speaks = answered.replace("/>", '><action><exec play_pcap_audio="voice.pcap"/></action></recv>', 1)
    return _scenario(folder, text.replace(answered, speaks))


def _written(folder: Path, text: str, voice: bool) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    write_pcap(folder / "keys.pcap", [*key_packets(REFERENCE), *(voice_packets(CALLER_VOICE, _CALLER_FRAMES) if voice else ())])
    return _scenario(folder, text)


def _scenario(folder: Path, text: str) -> Path:
    path = folder / "scenario.xml"
    path.write_text(text)
    return path


@dataclass(frozen=True, slots=True)
class Rtp:
    """A packet to be played: `type` with the marker bit, frames of 20 ms to `wait` after it, and by how many time is to `advance`."""

    type: int
    payload: bytes
    wait: int
    advance: int


def key_packets(keys: str) -> Iterator[Rtp]:
    """RFC 4733 events of 100 ms with 60 ms in between, none after the last: updates each 20 ms, then the end three times.

    With less than 45 ms in between Asterisk puts keys off and tells them over ARI twice, which is not what is measured here.
    """
    for place, key in enumerate(keys, 1):
        code, gap = _KEYS.index(key), GAP_FRAMES if place < len(keys) else 0
        for elapsed in range(1, KEY_FRAMES):
            yield Rtp(_EVENT | (_MARK if elapsed == 1 else 0), struct.pack("!BBH", code, 10, elapsed * FRAME), 1, 0)
        end = struct.pack("!BBH", code, _MARK | 10, KEY_FRAMES * FRAME)
        yield from (Rtp(_EVENT, end, 0, 0), Rtp(_EVENT, end, 0, 0), Rtp(_EVENT, end, gap + 1, KEY_FRAMES + gap))


def voice_packets(sound: bytes, frames: int) -> Iterator[Rtp]:
    """G.711 mu-law, each frame filled with `sound` over and over."""
    for number in range(frames):
        yield Rtp(0 if number else _MARK, sound * (FRAME // len(sound)), 1, 1)


def write_pcap(path: Path, packets: Iterable[Rtp]) -> None:
    """A pcap for SIPp's `play_pcap_audio`, which takes payloads and times from it and addresses from the call."""
    path.parent.mkdir(parents=True, exist_ok=True)
    source, stamp, at = os.urandom(4), int.from_bytes(os.urandom(3), "big"), 0
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for number, packet in enumerate(packets, 1):
            rtp = struct.pack("!BBHI4s", 0x80, packet.type, number, stamp, source) + packet.payload
            udp = struct.pack("!HHHH", 20000, 20000, 8 + len(rtp), 0) + rtp
            ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1") + udp
            frame = b"\0" * 12 + b"\x08\0" + ip
            out.write(struct.pack("<IIII", at // 1000, at % 1000 * 1000, len(frame), len(frame)) + frame)
            at += packet.wait * 20
            stamp += packet.advance * FRAME


def place(folder: Path, sip: int, scenario: Path, dial: str, calls: int, rate: float, run: int) -> sipp.Sipp:
    """Begin to place calls; `run` makes the callers' numbers differ from those of other runs."""
    numbers = folder / "numbers.csv"
    numbers.write_text("SEQUENTIAL\n" + "".join(f"+4930{run:03}{number:05}\n" for number in range(calls)))
    return sipp.callers("callers", folder, sip, str(scenario), str(numbers), dial, calls, rate, calls / rate + LONGEST)


def wait_for(run: sipp.Sipp, until: Callable[[], bool] | None = None) -> None:
    """Wait until a run has ended, or until something else is so."""
    while run.running and not (until and until()):
        time.sleep(0.05)
