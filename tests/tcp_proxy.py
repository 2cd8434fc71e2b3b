"""A TCP proxy with faults, for the line between the application and Asterisk's HTTP port.

It tells the event socket (a request with `Upgrade: websocket`) from plain requests, and sees the single frames that Asterisk sends on it.

    hold(what, way)    forwards nothing and closes nothing: `what` is ws, http or all, `way` is up (to Asterisk), down or both;
                       a connection that is opened meanwhile is accepted and not served
    release()          forwards again, what was held back first
    cut(how)           ends the event sockets: clean (a close frame, then FIN), rst, mid_frame (half of Asterisk's next frame, then FIN)
    refuse             whether new connections are reset at once
    delay              seconds that everything takes on its way
    swallow            text; frames from Asterisk that hold it are lost
    keep               text; frames from Asterisk that hold it are kept in `kept`
"""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

UP, DOWN, BOTH = "up", "down", "both"
WS, HTTP, ALL = "ws", "http", "all"
CLOSE = b"\x88\x02\x03\xe8"
TICK = 0.005


@dataclass(eq=False)
class Link:
    """One connection through the proxy. `kind` is not known before the head of its first request is there."""

    client: socket.socket
    server: socket.socket | None = None
    kind: str = ""
    head: bytes = b""
    fate: str = ""
    opened: bool = False
    buffer: bytearray = field(default_factory=bytearray)
    late: dict[str, deque[tuple[float, bytes]]] = field(default_factory=lambda: {UP: deque(), DOWN: deque()})


class TcpProxy:
    """A proxy on a port of its own, in front of one port of 127.0.0.1. One thread for each connection."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.refuse = False
        self.delay = 0.0
        self.swallow = b""
        self.swallowed = 0
        self.keep = b""
        self.kept: list[bytes] = []
        self.sockets = 0
        """How many event sockets have been opened: Asterisk has agreed to the upgrade."""
        self._held: tuple[str, str] = ("", "")
        self._links: set[Link] = set()
        self._ended = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """Where the application finds Asterisk."""
        return f"http://127.0.0.1:{self.port}"

    # ---- faults ----------------------------------------------------------------------------------------------------------

    def hold(self, what: str = ALL, way: str = BOTH) -> None:
        """Silence, with every connection left open."""
        self._held = (what, way)

    def release(self) -> None:
        """No more faults."""
        self._held, self.refuse, self.delay, self.swallow = ("", ""), False, 0.0, b""

    def cut(self, how: str) -> None:
        """End the event sockets that are open."""
        for link in list(self._links):
            if link.kind == WS:
                link.fate = how

    def links(self, kind: str) -> int:
        """How many connections of that kind are open."""
        return sum(link.kind == kind for link in list(self._links))

    # ---- forwarding ------------------------------------------------------------------------------------------------------

    def __enter__(self) -> TcpProxy:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._listener.close()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuse:
                _reset(client)
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._serve, args=(Link(client),), daemon=True).start()

    def _serve(self, link: Link) -> None:
        self._links.add(link)
        how = "fin"
        try:
            while not self._ended.is_set() and how == "fin":
                how = self._turn(link)
        except OSError:
            how = "rst"
        finally:
            self._links.discard(link)
            for end in [link.client, *([link.server] if link.server else [])]:
                if how == "rst":
                    _reset(end)
                else:
                    end.close()

    def _turn(self, link: Link) -> str:
        """Forward what is there; "fin" to go on, else how to end."""
        if link.fate in ("rst", "clean"):
            if link.fate == "clean":
                link.client.sendall(CLOSE)
            return "rst" if link.fate == "rst" else "closed"
        ends = [(link.client, UP), (link.server, DOWN)]
        watched = [end for end, way in ends if end is not None and not self._holds(link, way)]
        for ready in select.select(watched, [], [], TICK)[0] if watched else self._rest():
            data = ready.recv(65536)
            if not data or not self._take(link, ready, data):
                return "closed"
        for target, way in ((link.server, UP), (link.client, DOWN)):
            late = link.late[way]
            while target is not None and late and late[0][0] <= time.monotonic() and not self._holds(link, way):
                target.sendall(late.popleft()[1])
        return "fin"

    def _rest(self) -> list[socket.socket]:
        self._ended.wait(TICK)
        return []

    def _holds(self, link: Link, way: str) -> bool:
        what, held = self._held
        return (what == ALL or (what != "" and what == link.kind)) and held in (way, BOTH)

    def _take(self, link: Link, end: socket.socket, data: bytes) -> bool:
        """Pass on what one end said; False when the connection ends with it."""
        if end is link.client:
            if link.server is None:
                link.head += data
                if b"\r\n\r\n" not in link.head:
                    return True
                data = link.head
                link.server = socket.create_connection(("127.0.0.1", self.target), timeout=5)
                link.server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if link.kind != WS:  # a connection that has served plain requests may be upgraded later
                link.kind = WS if b"upgrade: websocket" in data.lower() else HTTP
            self._send(link, UP, data)
            return True
        if link.kind == HTTP:
            self._send(link, DOWN, data)
            return True
        link.buffer += data
        for piece in self._pieces(link):
            if link.fate == "mid_frame" and piece[:1] != b"H":
                link.client.sendall(piece[: max(1, len(piece) // 2)])
                return False
            if self.keep and self.keep in piece:
                self.kept.append(piece)
            if self.swallow and self.swallow in piece:
                self.swallowed += 1
            else:
                self._send(link, DOWN, piece)
        return True

    def _send(self, link: Link, way: str, data: bytes) -> None:
        link.late[way].append((time.monotonic() + self.delay, data))

    def _pieces(self, link: Link) -> Iterator[bytes]:
        """What is whole of what Asterisk sent on an event socket: first the answer's head, then frame by frame."""
        if not link.opened:
            at = link.buffer.find(b"\r\n\r\n")
            if at < 0:
                return
            link.opened = True
            self.sockets += link.buffer.startswith(b"HTTP/1.1 101")
            yield _cut_off(link.buffer, at + 4)
        while (size := _frame_size(link.buffer)) and len(link.buffer) >= size:
            yield _cut_off(link.buffer, size)


def _frame_size(data: bytearray) -> int:
    """Bytes of the first frame, header included; 0 when not even its length is there. A server masks nothing."""
    if len(data) < 2:
        return 0
    short = data[1] & 0x7F
    if short < 126:
        return 2 + short
    wide = 2 if short == 126 else 8
    if len(data) < 2 + wide:
        return 0
    return 2 + wide + int.from_bytes(data[2 : 2 + wide], "big")


def _cut_off(data: bytearray, size: int) -> bytes:
    piece = bytes(data[:size])
    del data[:size]
    return piece


def _reset(end: socket.socket) -> None:
    """Close with RST."""
    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    end.close()
