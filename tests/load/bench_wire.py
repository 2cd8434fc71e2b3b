"""The moments of a call as they were on the wire: SIP messages and the RTP packets that matter, with the kernel's own time stamps.

A process of its own reads what arrives on loopback from a raw socket. A filter in the kernel lets through SIP, the end of the key that
completes the reference, and what Asterisk sends on of two voices that can be told by their first bytes; so listening costs the same,
and little, whatever handles the calls. Raw sockets need root.

    python -m tests.load.bench_wire SIP_PORT RTP_START RTP_END FILE
"""

from __future__ import annotations

import ctypes
import re
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType, TracebackType

AGENT_VOICE, CALLER_VOICE = b"\x21\x43\x65\x07", b"\x22\x44\x66\x08"
"""What the payload of each voice begins with, G.711 mu-law."""
LAST_KEY = 8
"""The seventh key of the reference, which none of the others is: with it the reference is complete."""
_TIMESTAMPS, _ATTACH_FILTER, _BIG_BUFFER = 35, 26, 33
_HEAD = struct.Struct("<dH")
_LONGEST = 4096
_INVITE, _OK = "INVITE", "SIP/2.0 200"


@dataclass(slots=True)
class Moments:
    """One call; seconds since the epoch, None for what did not happen."""

    invited: float
    answered: float | None = None
    keyed: float | None = None
    agent_invited: float | None = None
    agent_answered: float | None = None
    caller_hears: float | None = None
    agent_hears: float | None = None

    @property
    def set_up(self) -> float | None:
        """Milliseconds from INVITE to 200."""
        return _between(self.invited, self.answered)

    @property
    def placement(self) -> float | None:
        """Milliseconds from the end of the last key to the INVITE at the agent's phone, the lookup included."""
        return _between(self.keyed, self.agent_invited)

    @property
    def to_caller(self) -> float | None:
        """Milliseconds from the agent's 200 to his voice at the caller."""
        return _between(self.agent_answered, self.caller_hears)

    @property
    def to_agent(self) -> float | None:
        """Milliseconds from the agent's 200 to the caller's voice at the agent. The caller sends a packet each 20 ms."""
        return _between(self.agent_answered, self.agent_hears)


def _between(start: float | None, end: float | None) -> float | None:
    return None if start is None or end is None else 1000 * (end - start)


# ---- listening -------------------------------------------------------------------------------------------------------------------


class Capture:
    """Listen for as long as the `with` lasts; then `calls` are the moments of each call, by the caller's number."""

    def __init__(self, sip: int, rtp: tuple[int, int], file: Path) -> None:
        self._sip, self._file = sip, file
        argv = [sys.executable, "-m", "tests.load.bench_wire", str(sip), *map(str, rtp), str(file)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        self.calls: dict[str, Moments] = {}

    def __enter__(self) -> Capture:
        assert self._process.stdout is not None
        if self._process.stdout.readline() != "listening\n":
            self._process.wait()
            raise RuntimeError("nothing can be heard on loopback: raw sockets need root")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._process.terminate()
        self._process.wait()
        if error is None:
            self.calls = read(self._file, self._sip)
        self._file.unlink(missing_ok=True)


def listen(sip: int, first: int, last: int, file: Path) -> None:
    """Write what arrives into a file until told to stop."""
    wire = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)
    wire.setsockopt(socket.SOL_SOCKET, _BIG_BUFFER, 32 << 20)
    wire.setsockopt(socket.SOL_SOCKET, _TIMESTAMPS, 1)
    attach(wire, sip, first, last)
    ended = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        ended = True

    signal.signal(signal.SIGTERM, end)
    wire.settimeout(0.1)
    with open(file, "wb") as out:
        print("listening", flush=True)
        while not ended:
            try:
                data, extra, _, _ = wire.recvmsg(_LONGEST, 64)
            except TimeoutError:
                continue
            seconds, nanoseconds = struct.unpack("qq", extra[0][2])
            out.write(_HEAD.pack(seconds + nanoseconds / 1e9, len(data)) + data)


def attach(wire: socket.socket, sip: int, first: int, last: int) -> None:
    """Let only what matters through."""
    code = b"".join(struct.pack("HBBI", *each) for each in assembled(sip, first, last))
    kept = ctypes.create_string_buffer(code, len(code))
    wire.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("HL", len(code) // 8, ctypes.addressof(kept)))


def assembled(sip: int, first: int, last: int) -> list[tuple[int, int, int, int]]:
    """The filter, in the kernel's classic BPF: (operation, jump if true, jump if false, value).

    Offsets are those of IPv4 without options: ports at 20 and 22, RTP's payload type at 29, its payload at 40.
    """
    half, byte, word, mask, give = 0x28, 0x30, 0x20, 0x54, 0x06
    equal, at_least, above, any_bit = 0x15, 0x35, 0x25, 0x45
    agent, caller = (int.from_bytes(voice, "big") for voice in (AGENT_VOICE, CALLER_VOICE))
    steps: list[tuple[str, int, int, str, str]] = [
        ("from", half, 20, "", ""),
        ("", equal, sip, "take", ""),
        ("", at_least, first, "", "to"),
        ("", above, last, "", "voice"),
        ("to", half, 22, "", ""),
        ("", equal, sip, "take", ""),
        ("", byte, 29, "", ""),
        ("", mask, 0x7F, "", ""),
        ("", equal, 101, "", "leave"),
        ("", byte, 40, "", ""),
        ("", equal, LAST_KEY, "", "leave"),
        ("", byte, 41, "", ""),
        ("", any_bit, 0x80, "take", "leave"),
        ("voice", word, 40, "", ""),
        ("", equal, agent, "take", ""),
        ("", equal, caller, "take", "leave"),
        ("take", give, _LONGEST, "", ""),
        ("leave", give, 0, "", ""),
    ]
    places = {label: place for place, (label, *_) in enumerate(steps) if label}

    def jump(here: int, label: str) -> int:
        return places[label] - here - 1 if label else 0

    return [(code, jump(n, yes), jump(n, no), value) for n, (_, code, value, yes, no) in enumerate(steps)]


# ---- reading ---------------------------------------------------------------------------------------------------------------------


def read(file: Path, sip: int) -> dict[str, Moments]:
    """The moments of each call."""
    reader = _Reader(sip)
    for at, packet in _packets(file):
        reader.take(at, packet)
    return reader.calls


def _packets(file: Path) -> Iterator[tuple[float, bytes]]:
    data, place = file.read_bytes(), 0
    while place + _HEAD.size <= len(data):
        at, length = _HEAD.unpack_from(data, place)
        place += _HEAD.size + length
        yield at, data[place - length : place]


_LINE = re.compile(r"^(Call-ID|From|CSeq): *(.*?)\r?$", re.M | re.I)
_USER = re.compile(r"<sip:([^@>]+)@")
_MEDIA = re.compile(r"^m=audio (\d+)", re.M)


class _Reader:
    """Puts packets together to calls. Asterisk's own RTP port tells which leg a packet belongs to, until the port is used again."""

    def __init__(self, sip: int) -> None:
        self._sip = sip
        self.calls: dict[str, Moments] = {}
        self._dialogs: dict[str, Moments] = {}
        self._caller_ports: dict[int, Moments] = {}
        self._agent_ports: dict[int, Moments] = {}

    def take(self, at: float, packet: bytes) -> None:
        """One packet, IP header and all."""
        source, target = struct.unpack_from("!HH", packet, 20)
        if self._sip in (source, target):
            self._message(at, packet[28:].decode(errors="replace"), source == self._sip)
        elif target in self._caller_ports and packet[29] & 0x7F == 101:
            call = self._caller_ports[target]
            call.keyed = call.keyed or at
        elif source in self._caller_ports and packet[40:44] == AGENT_VOICE:
            call = self._caller_ports[source]
            call.caller_hears = call.caller_hears or at
        elif source in self._agent_ports and packet[40:44] == CALLER_VOICE:
            call = self._agent_ports[source]
            call.agent_hears = call.agent_hears or at

    def _message(self, at: float, text: str, by_asterisk: bool) -> None:
        head, _, body = text.partition("\r\n\r\n")
        if not head.startswith((_INVITE, _OK)):
            return
        lines = {name.lower(): value for name, value in _LINE.findall(head)}
        dialog, media = lines.get("call-id", ""), _MEDIA.search(body)
        if not lines.get("cseq", "").endswith(_INVITE) or media is None:
            return
        port = int(media[1])
        if head.startswith(_INVITE):
            self._invite(at, dialog, lines.get("from", ""), port, by_asterisk)
        elif dialog in self._dialogs:
            self._ok(at, self._dialogs[dialog], port, by_asterisk)

    def _invite(self, at: float, dialog: str, sender: str, port: int, by_asterisk: bool) -> None:
        user = _USER.search(sender)
        number = user[1].removeprefix("+") if user else ""
        if dialog in self._dialogs:
            return
        if not by_asterisk:
            self._dialogs[dialog] = self.calls[number] = Moments(at)
        elif number in self.calls:
            call = self._dialogs[dialog] = self.calls[number]
            call.agent_invited = call.agent_invited or at
            self._agent_ports[port] = call
            self._caller_ports.pop(port, None)

    def _ok(self, at: float, call: Moments, port: int, by_asterisk: bool) -> None:
        if not by_asterisk:
            call.agent_answered = call.agent_answered or at
        elif call.answered is None:
            call.answered = at
            self._caller_ports[port] = call
            self._agent_ports.pop(port, None)


if __name__ == "__main__":
    listen(*map(int, sys.argv[1:4]), Path(sys.argv[4]))
