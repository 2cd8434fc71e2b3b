"""Phones for tests: SIPp speaks SIP, a small RTP socket of ours listens and talks.

`Caller` and `AgentPhone` each run one SIPp process with a scenario written for that one phone; its SDP names the port of an `Rtp` socket,
so what the phone hears is in Python's hands, packet by packet, and what it says is a tone of its own that the other side can recognise,
or what a test makes it say.
Digits are RFC 4733 events with three end packets and fresh timestamps; `write_digits_pcap` writes the same for SIPp's `play_pcap_audio`.
"""

from __future__ import annotations

import contextlib
import math
import os
import shutil
import signal
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from xml.sax.saxutils import quoteattr

import numpy as np

RATE = 8000
FRAME = 160
EVENT_TYPE = 101
_DIGITS = "0123456789*#ABCD"


def until(predicate: Callable[[], object], within: float = 5.0, what: str | Callable[[], str] = "") -> object:
    """The first true value of `predicate`; fails after `within` seconds, and says `what` was waited for."""
    deadline = time.monotonic() + within
    while True:
        value = predicate()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {within} s: {what() if callable(what) else what or predicate}"
        time.sleep(0.01)


def free_port(kind: socket.SocketKind = socket.SOCK_DGRAM) -> int:
    """A port of 127.0.0.1 that nobody uses just now."""
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# -- media ----------------------------------------------------------------------------------------------------------------------


def _ulaw_table() -> np.ndarray:
    code = ~np.arange(256, dtype=np.int32) & 0xFF
    magnitude = (((code & 0x0F) << 3) + 0x84 << ((code & 0x70) >> 4)) - 0x84
    return np.where(code & 0x80, -magnitude, magnitude).astype(np.int16)


_FROM_ULAW = _ulaw_table()


def from_ulaw(payload: bytes) -> np.ndarray:
    """Samples, -32768 to 32767, of G.711 mu-law."""
    return _FROM_ULAW[np.frombuffer(payload, dtype=np.uint8)].astype(np.float64)


def to_ulaw(samples: np.ndarray) -> bytes:
    """G.711 mu-law of 16 bit samples."""
    order = np.argsort(_FROM_ULAW, kind="stable")
    levels = _FROM_ULAW[order].astype(np.int32)
    at = np.clip(np.searchsorted((levels[1:] + levels[:-1]) // 2, samples), 0, 255)
    return bytes(order[at].astype(np.uint8))


@dataclass(frozen=True, slots=True)
class Packet:
    """One RTP packet that a phone received; `at` is monotonic seconds."""

    at: float
    payload_type: int
    payload: bytes


class Rtp:
    """A media port: keeps what arrives, sends a tone when told where to, and digits on demand."""

    def __init__(self, tone: float | None = None) -> None:
        self.tone = tone
        self.speech = b""
        self.packets: list[Packet] = []
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.05)
        self.port = int(self._socket.getsockname()[1])
        self.to: int | None = None
        self._ended = threading.Event()
        self._sequence, self._timestamp, self._source = 1, 0, int.from_bytes(os.urandom(4), "big")
        self._sending = threading.Lock()
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._listen, self._talk)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()
        self._socket.close()

    def audio(self, start: float, end: float) -> np.ndarray:
        """What was heard between two monotonic times; silence where no packet came."""
        heard = np.zeros(max(0, round((end - start) * RATE)), dtype=np.float64)
        for packet in list(self.packets):
            if packet.payload_type == 0 and start <= packet.at < end:
                at = round((packet.at - start) * RATE)
                samples = from_ulaw(packet.payload)[: len(heard) - at]
                heard[at : at + len(samples)] = samples
        return heard

    def loudness(self, start: float, end: float) -> float:
        """Root mean square, 0 to 32767."""
        heard = self.audio(start, end)
        return float(np.sqrt(np.mean(heard**2))) if len(heard) else 0.0

    def level(self, frequency: float, start: float, end: float) -> float:
        """Amplitude of one tone in what was heard."""
        heard = self.audio(start, end)
        if not len(heard):
            return 0.0
        wave = np.exp(-2j * math.pi * frequency * np.arange(len(heard)) / RATE)
        return float(2 * abs(np.dot(heard * np.hanning(len(heard)), wave)) / (len(heard) / 2))

    def hears(self, frequency: float, seconds: float = 0.2) -> bool:
        """Whether that tone is in the last `seconds`."""
        now = time.monotonic()
        return self.level(frequency, now - seconds, now) > 500

    def hears_anything(self, seconds: float = 0.5) -> bool:
        """Whether the last `seconds` were not silence."""
        now = time.monotonic()
        return self.loudness(now - seconds, now) > 100

    def say(self, samples: np.ndarray) -> None:
        """Say that, from now on, instead of the tone (of which 0 is silence)."""
        self.speech = to_ulaw(samples)

    def press(self, digits: str, length: float = 0.1, gap: float = 0.1) -> None:
        """Send digits as RFC 4733 events; returns when they are sent."""
        for payloads in map(_event_packets, digits):
            with self._sending:
                stamp = self._timestamp
                for number, (payload, last) in enumerate(payloads(round(length * RATE))):
                    self._packet(EVENT_TYPE, payload, stamp, marker=number == 0)
                    if not last:
                        time.sleep(0.02)
                self._timestamp += round(length * RATE)
            time.sleep(gap)

    def event(self, digit: str, length: float, order: Callable[[list[int]], list[int]]) -> None:
        """Send one RFC 4733 event as a bad network would bring it.

        `order` is given the numbers of its packets (the last three are its ends) and gives those that arrive, as they arrive; each
        keeps the sequence number that it was sent with.
        """
        payloads = list(_event_packets(digit)(round(length * RATE)))
        with self._sending:
            first = self._sequence
            for number in order(list(range(len(payloads)))):
                self._sequence = first + number
                self._packet(EVENT_TYPE, payloads[number][0], self._timestamp, marker=number == 0)
                if not payloads[number][1]:
                    time.sleep(0.02)
            self._sequence = first + len(payloads)
            self._timestamp += round(length * RATE)

    def _packet(self, payload_type: int, payload: bytes, stamp: int, marker: bool = False) -> None:
        head = struct.pack(
            "!BBHII", 0x80, payload_type | (0x80 if marker else 0), self._sequence & 0xFFFF, stamp & 0xFFFFFFFF, self._source
        )
        self._sequence += 1
        if self.to is not None:
            with contextlib.suppress(OSError):
                self._socket.sendto(head + payload, ("127.0.0.1", self.to))

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                data = self._socket.recv(2048)
            except (TimeoutError, ConnectionRefusedError):
                continue
            if len(data) > 12:
                self.packets.append(Packet(time.monotonic(), data[1] & 0x7F, data[12:]))

    def _talk(self) -> None:
        due = time.monotonic()
        while not self._ended.is_set():
            due = max(due + FRAME / RATE, time.monotonic() - 0.1)
            self._ended.wait(max(0.0, due - time.monotonic()))
            if self.to is None or self.tone is None:
                continue
            with self._sending:
                said, self.speech = self.speech[:FRAME], self.speech[FRAME:]
                at = (self._timestamp + np.arange(FRAME)) / RATE
                tone = to_ulaw(6000 * np.sin(2 * math.pi * self.tone * at))
                self._packet(0, said + tone[len(said) :], self._timestamp)
                self._timestamp += FRAME


def _event_packets(digit: str) -> Callable[[int], Iterator[tuple[bytes, bool]]]:
    """Payloads of one RFC 4733 event of so many samples, with whether the packet repeats the end (and is sent at once)."""
    code = _DIGITS.index(digit.upper())

    def payloads(samples: int) -> Iterator[tuple[bytes, bool]]:
        for elapsed in range(FRAME, samples, FRAME):
            yield struct.pack("!BBH", code, 10, elapsed), False
        for _ in range(3):
            yield struct.pack("!BBH", code, 0x80 | 10, samples), True

    return payloads


def write_digits_pcap(path: Path, digits: str, length: float = 0.1, gap: float = 0.1, first_timestamp: int | None = None) -> None:
    """A pcap for SIPp's `play_pcap_audio` (payload type 101). Each file has timestamps of its own: the same ones again are taken for a
    repetition and dropped."""
    stamp = int.from_bytes(os.urandom(3), "big") if first_timestamp is None else first_timestamp
    now, sequence, source = 0.0, 1, int.from_bytes(os.urandom(4), "big")
    with open(path, "wb") as out:
        out.write(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
        for digit in digits:
            for number, (payload, last) in enumerate(_event_packets(digit)(round(length * RATE))):
                marker = 0x80 if number == 0 else 0
                rtp = struct.pack("!BBHII", 0x80, EVENT_TYPE | marker, sequence, stamp & 0xFFFFFFFF, source) + payload
                udp = struct.pack("!HHHH", 20000, 20000, 8 + len(rtp), 0) + rtp
                ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, b"\x7f\0\0\1", b"\x7f\0\0\1") + udp
                frame = b"\0" * 12 + b"\x08\0" + ip
                out.write(struct.pack("<IIII", int(now), int(now % 1 * 1e6), len(frame), len(frame)) + frame)
                sequence += 1
                now += 0.0 if last else 0.02
            stamp += round((length + gap) * RATE)
            now += gap


# -- SIPp -----------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SippStats:
    """What one SIPp run counted."""

    status: int
    successful: int
    failed: int


class Sipp:
    """One SIPp process. `log` lines written by the scenario are what happened so far."""

    def __init__(self, scenario: str, *arguments: str, calls: int = 1, port: int | None = None) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="sipp-"))
        self.port = port or free_port()
        (self.folder / "scenario.xml").write_text('<?xml version="1.0" encoding="ISO-8859-1" ?>\n' + scenario)
        binary = shutil.which("sipp")
        assert binary, "sipp is missing: apt-get install sip-tester"
        self._log = self.folder / "log"
        fixed = ["-sf", "scenario.xml", "-i", "127.0.0.1", "-p", str(self.port), "-nostdin", "-trace_logs", "-log_file", "log"]
        traces = ["-trace_err", "-error_file", "errors", "-trace_stat", "-stf", "stats", "-fd", "1"]
        with open(self.folder / "screen", "wb") as screen:
            self.process = subprocess.Popen(
                [binary, *arguments, *fixed, *traces, *(["-m", str(calls)] if calls else [])],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=screen,
                stderr=screen,
                env={**os.environ, "TERM": "dumb"},
            )

    @property
    def log(self) -> list[str]:
        try:
            return self._log.read_text(errors="replace").splitlines()
        except FileNotFoundError:  # nothing has been written yet, or the phone is being put away
            return []

    def logged(self, word: str) -> list[str]:
        """The log lines that begin with that word."""
        return [line for line in self.log if line.split(" ")[0] == word]

    def wait(self, within: float = 30.0) -> SippStats:
        """Wait for the end; a status other than 0 is in the answer, not an exception."""
        until(lambda: self.process.poll() is not None, within, f"sipp ends; {self.trouble()}")
        counts = {}
        if (self.folder / "stats").exists():
            lines = [line.split(";") for line in (self.folder / "stats").read_text().splitlines() if line]
            counts = dict(zip(lines[0], lines[-1], strict=False))
        return SippStats(self.process.returncode, int(counts.get("SuccessfulCall(C)") or 0), int(counts.get("FailedCall(C)") or 0))

    def trouble(self) -> str:
        """What SIPp complained about, for a failing test."""
        return "\n".join(p.read_text(errors="replace")[-1500:] for p in (self.folder / "errors", self.folder / "screen") if p.exists())

    def stop(self) -> None:
        """End it now, without a BYE."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


_SDP = """v=0
o=- 1 1 IN IP4 127.0.0.1
s=-
c=IN IP4 127.0.0.1
t=0 0
m=audio {rtp} RTP/AVP 0 101
a=rtpmap:0 PCMU/8000
a=rtpmap:101 telephone-event/8000
a=fmtp:101 0-16
a=sendrecv"""


def _action(*steps: str) -> str:
    return "<action>" + "".join(steps) + "</action>"


def _log(message: str) -> str:
    return f"<log message={quoteattr(message)}/>"


def _header(name: str, variable: str, pattern: str = ".*") -> str:
    return f'<ereg regexp={quoteattr(pattern)} search_in="hdr" header="{name}:" assign_to="{variable}"/>'


_MEDIA_PORT = '<ereg regexp="m=audio ([0-9]+)" search_in="body" assign_to="all,media"/>'


def _send(body: str, **attributes: str) -> str:
    extra = "".join(f" {name}={quoteattr(value)}" for name, value in attributes.items())
    return f"<send{extra}><![CDATA[\n\n{body}\n\n]]></send>"


def _recv(attributes: str, *actions: str) -> str:
    return f"<recv {attributes}>{_action(*actions)}</recv>" if actions else f"<recv {attributes}/>"


def _request(
    method: str, target: str, sender: str, recipient: str, cseq: int, *, sdp: str = "", branch: str = "[branch]", more: str = ""
) -> str:
    head = (
        f"{method} {target} SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch={branch}\nFrom: {sender}\nTo: {recipient}\n"
        f"Call-ID: [call_id]\nCSeq: {cseq} {method}\nContact: <sip:phone@[local_ip]:[local_port]>\nMax-Forwards: 70\n{more}"
    )
    return head + (f"Content-Type: application/sdp\nContent-Length: [len]\n\n{sdp}" if sdp else "Content-Length: 0")


_OK = "SIP/2.0 200 OK\n[last_Via:]\n[last_From:]\n[last_To:]\n[last_Call-ID:]\n[last_CSeq:]\nContent-Length: 0"
_NUDGE = "INFO"  # a message we put into a dialog from Python, to make SIPp take the branch that waits for it


def _nudge(port: int, call_id: str) -> None:
    branch = f"z9hG4bK{os.urandom(6).hex()}"
    lines = [f"{_NUDGE} sip:phone@127.0.0.1 SIP/2.0", f"Via: SIP/2.0/UDP 127.0.0.1:9;branch={branch}", "From: <sip:t@t>;tag=t"]
    text = "\r\n".join([*lines, "To: <sip:t@t>;tag=t", f"Call-ID: {call_id}", f"CSeq: 9 {_NUDGE}", "Content-Length: 0", "", ""])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
        out.sendto(text.encode(), ("127.0.0.1", port))


class Phone:
    """What callers and agents share: SIPp, media, and waiting for what the scenario logs."""

    rtp: Rtp
    sipp: Sipp

    def heard_of(self, word: str) -> list[str]:
        """The words after `word` in its last log line; empty when it has not happened."""
        lines = self.sipp.logged(word)
        return lines[-1].split()[1:] or ["yes"] if lines else []

    def wait_for(self, word: str, within: float = 5.0) -> list[str]:
        """Wait until the scenario has logged `word`."""
        return until(lambda: self.heard_of(word), within, f"{word}; have {self.sipp.log}; {self.sipp.trouble()}")  # type: ignore[return-value]

    def close(self) -> None:
        """End the phone at once, without a BYE."""
        self.sipp.stop()
        self.rtp.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _follow_media(self, *words: str) -> None:
        """Talk to the port that the other side's SDP names, as soon as it is known."""

        def follow() -> None:
            seen = 0
            while self.sipp.process.poll() is None:
                log = self.sipp.log
                for line in log[seen:]:
                    parts = line.split()
                    if parts[:1] and parts[0] in words and len(parts) > 1 and parts[1].isdigit():
                        self.rtp.to = int(parts[1])
                seen = len(log)
                time.sleep(0.005)

        threading.Thread(target=follow, daemon=True).start()


class Caller(Phone):
    """One call from outside.

    Logs `ringing`, `early PORT`, `answered PORT`, and at the end `released` (by the other side), `hungup` (by `hang_up()`),
    `cancelled` (after `cancel_after` seconds of ringing) or `refused CODE`.
    """

    def __init__(
        self,
        sip_port: int,
        dial: str,
        number: str = "+15550100",
        name: str = "",
        tone: float | None = 1900.0,
        cancel_after: float | None = None,
    ) -> None:
        self.rtp = Rtp(tone)
        shown = f'"{name}" ' if name else ""
        sender, target = f"{shown}<sip:{number}@127.0.0.1>;tag=[pid]c[call_number]", f"sip:{dial}@127.0.0.1:{sip_port}"
        answered = (_MEDIA_PORT, _header("To", "to"), _log("answered [$media]"))
        limit = "" if cancel_after is None else f' timeout="{round(cancel_after * 1000)}" ontimeout="cancel"'
        refusals = (401, 486, 404, 403, 480, 484, 500, 503, 603, 488, 408)
        steps = [
            _send(_request("INVITE", target, sender, f"<{target}>", 1, sdp=_SDP.format(rtp=self.rtp.port)), retrans="500", start_txn="inv"),
            _recv(f'response="100" optional="true" response_txn="inv"{limit}'),
            _recv(f'response="180" optional="true" response_txn="inv"{limit}', _log("ringing")),
            _recv(f'response="183" optional="true" response_txn="inv"{limit}', _MEDIA_PORT, _log("early [$media]")),
            *(
                _recv(f'response="{n}" optional="true" response_txn="inv" next="refused"{limit}', _header("To", "to"), _log(f"refused {n}"))
                for n in refusals
            ),
            _recv(f'response="200" response_txn="inv" next="talk"{limit}', *answered),
            '<label id="cancel"/>',
            _send(_request("CANCEL", target, sender, f"<{target}>", 1, branch="[branch-INVITE]"), retrans="500", start_txn="can"),
            _recv('response="200" response_txn="can"'),
            _recv('response="487" response_txn="inv"', _header("To", "to"), _log("cancelled")),
            '<label id="refused"/>',
            _send(_request("ACK", target, sender, "[$to]", 1), next="over", ack_txn="inv"),
            '<label id="talk"/>',
            _send(_request("ACK", target, sender, "[$to]", 1), ack_txn="inv"),
            _recv(f'request="{_NUDGE}" optional="true" next="bye"'),
            _recv('request="BYE" next="released"', _log("released")),
            '<label id="bye"/>',
            _send(_request("BYE", target, sender, "[$to]", 2), retrans="500", start_txn="bye"),
            _recv('request="BYE" optional="true" next="crossed"'),
            _recv('response="481" optional="true" response_txn="bye" next="over"', _log("hungup")),
            _recv('response="200" response_txn="bye" next="over"', _log("hungup")),
            '<label id="crossed"/>',
            _send(_OK),
            _recv('response="481" optional="true" response_txn="bye" next="over"', _log("hungup")),
            _recv('response="200" response_txn="bye" next="over"', _log("hungup")),
            '<label id="released"/>',
            _send(_OK),
            '<label id="over"/>',
            '<nop/><Reference variables="all"/>',
        ]
        steps = [s.replace("[branch-INVITE]", "z9hG4bK-inv-[pid]-[call_number]") for s in steps]
        steps[0] = steps[0].replace("branch=[branch]", "branch=z9hG4bK-inv-[pid]-[call_number]")
        self.sipp = Sipp("<scenario>\n" + "\n".join(steps) + "\n</scenario>", f"127.0.0.1:{sip_port}", "-cid_str", "%u-%p@caller")
        self._follow_media("early", "answered")

    def hang_up(self) -> None:
        """Send BYE now."""
        _nudge(self.sipp.port, f"1-{self.sipp.process.pid}@caller")


class AgentPhone(Phone):
    """A registered phone that answers calls, one after another.

    It rings for `ring` seconds and then answers, or answers at `answer()` when `ring` is None; with `refuse` it sends that code instead.
    `alert=False` is a phone that answers without ever saying that it rings. With a `port` it is one outside, which does not register.
    It talks for `talk` seconds and hangs up, or until the other side does. Logs `invite PORT CALLID`, `answered PORT`, `cancelled`,
    `released` (by the other side), `hungup` (by us).
    """

    def __init__(
        self,
        sip_port: int,
        extension: str,
        secret: str,
        *,
        ring: float | None = 0.3,
        talk: float | None = None,
        refuse: int | None = None,
        alert: bool = True,
        tone: float | None = 1300.0,
        port: int | None = None,
    ) -> None:
        self.rtp = Rtp(tone)
        if port is None:
            port = free_port()
            register(sip_port, extension, secret, port)
        own = "From: [$to];tag=a[pid]x[call_number]\nTo: [$from]\n"
        reply = (
            "\nVia: [$via]\nFrom: [$from]\nTo: [$to];tag=a[pid]x[call_number]\nCall-ID: [call_id]\nCSeq: [$cseq]\n"
            "Contact: <sip:[service]@[local_ip]:[local_port]>\n"
        )
        saved = [_header("Via", "via"), _header("From", "from"), _header("To", "to"), _header("CSeq", "cseq"), _MEDIA_PORT]
        saved += [
            '<ereg regexp="&lt;([^&gt;]+)&gt;" search_in="hdr" header="Contact:" assign_to="all,contact"/>',
            _log("invite [$media] [call_id]"),
        ]
        ring_for = "" if ring is None else f' timeout="{max(1, round(ring * 1000))}" ontimeout="answer"'
        talk_for = "" if talk is None else f' timeout="{max(1, round(talk * 1000))}" ontimeout="bye"'
        ok = _send(
            f"SIP/2.0 200 OK{reply}Content-Type: application/sdp\nContent-Length: [len]\n\n" + _SDP.format(rtp=self.rtp.port), retrans="500"
        )
        refusal = [
            _send(f"SIP/2.0 {refuse or 486} No{reply}Content-Length: 0", retrans="500"),
            _recv('request="ACK" next="over"', _log("refused")),
        ]
        bye = (
            "BYE [$contact] SIP/2.0\nVia: SIP/2.0/[transport] [local_ip]:[local_port];branch=[branch]\n"
            f"{own}Call-ID: [call_id]\nCSeq: 1 BYE\nMax-Forwards: 70\nContent-Length: 0"
        )
        steps = [
            _recv('request="OPTIONS" optional="true" next="options"'),
            _recv('request="INVITE"', *saved),
            _send(f"SIP/2.0 {'180 Ringing' if alert else '100 Trying'}{reply}Content-Length: 0"),
            *(refusal if refuse else []),
            _recv(f'request="CANCEL" optional="true" next="cancelled"{ring_for}', _log("cancelled")),
            _recv(f'request="{_NUDGE}" next="answer"{ring_for}'),
            '<label id="answer"/>',
            ok,
            _recv('request="ACK"', _log("answered [$media]")),
            _recv(f'request="BYE" optional="true" next="released"{talk_for}', _log("released")),
            _recv(f'request="{_NUDGE}" next="bye"{talk_for}'),
            '<label id="bye"/>',
            _send(bye, retrans="500"),
            _recv('request="BYE" optional="true" next="crossed"'),
            _recv('response="481" optional="true" next="over"', _log("hungup")),
            _recv('response="200" next="over"', _log("hungup")),
            '<label id="crossed"/>',
            _send(_OK),
            _recv('response="481" optional="true" next="over"', _log("hungup")),
            _recv('response="200" next="over"', _log("hungup")),
            '<label id="cancelled"/>',
            _send(_OK),
            _send(f"SIP/2.0 487 Request Terminated{reply}Content-Length: 0", retrans="500"),
            _recv('request="ACK" next="over"'),
            '<label id="options"/>',
            _send(_OK.replace("[last_To:]", "[last_To:];tag=o[call_number]"), next="over"),
            '<label id="released"/>',
            _send(_OK),
            '<label id="over"/>',
            '<nop/><Reference variables="all"/>',
        ]
        self.sipp = Sipp("<scenario>\n" + "\n".join(steps) + "\n</scenario>", "-s", extension, calls=0, port=port)
        self._follow_media("invite")

    def answer(self) -> None:
        """Answer the call that rings."""
        _nudge(self.sipp.port, self.heard_of("invite")[1])

    def hang_up(self) -> None:
        """Send BYE now."""
        _nudge(self.sipp.port, self.heard_of("invite")[1])


def register(sip_port: int, extension: str, secret: str, port: int, expires: int = 300) -> None:
    """Register `extension` from that port, which the phone listens on afterwards; fails unless the PBX accepts the password."""
    target, identity = f"sip:127.0.0.1:{sip_port}", f"<sip:{extension}@127.0.0.1>"

    def attempt(cseq: int, more: str = "") -> str:
        return _request("REGISTER", target, f"{identity};tag=r[call_number]", identity, cseq, more=f"Expires: {expires}\n{more}")

    steps = [
        _send(attempt(1), retrans="500"),
        _recv('response="401" auth="true"'),
        _send(attempt(2, f"[authentication username={extension} password={secret}]\n"), retrans="500"),
        _recv('response="200"'),
    ]
    run = Sipp("<scenario>\n" + "\n".join(steps) + "\n</scenario>", f"127.0.0.1:{sip_port}", port=port)
    try:
        stats = run.wait(10)
        assert stats.status == 0, f"{extension} cannot register: {run.trouble()}"
    finally:
        run.stop()
