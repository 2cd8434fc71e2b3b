"""A tap on a TCP line: passes everything on, and keeps what the client said and when."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

_REQUEST = re.compile(rb"((?:GET|POST|PUT|DELETE) [^ \r\n]+) HTTP/1\.1\r\n")


@dataclass(slots=True)
class Line:
    """One connection: what the client sent, and how much of it at which monotonic time."""

    sent: bytearray = field(default_factory=bytearray)
    marks: list[tuple[int, float]] = field(default_factory=list)

    def keep(self, data: bytes) -> None:
        """One more piece."""
        self.marks.append((len(self.sent), time.monotonic()))
        self.sent += data

    def orders_since(self, at: float) -> list[str]:
        """What was asked for since then, as `METHOD uri`, over HTTP or in frames of a websocket."""
        begins = next((offset for offset, when in self.marks if when >= at), len(self.sent))
        sent = bytes(self.sent)
        head = sent.find(b"\r\n\r\n") + 4
        if b"Upgrade: websocket" in sent[:head]:
            return [order for offset, order in _frames(sent, head) if offset >= begins]
        return [found[1].decode() for found in _REQUEST.finditer(sent) if found.start(1) >= begins]


def _frames(sent: bytes, at: int) -> Iterator[tuple[int, str]]:
    """Each request in a client's frames, with the offset of its frame."""
    while at + 6 <= len(sent):
        short = sent[at + 1] & 0x7F
        head = {126: 4, 127: 10}.get(short, 2)
        length = short if head == 2 else int.from_bytes(sent[at + 2 : at + head], "big")
        mask, body = sent[at + head : at + head + 4], sent[at + head + 4 : at + head + 4 + length]
        if sent[at] & 0x0F == 1:
            said = json.loads(bytes(byte ^ mask[n % 4] for n, byte in enumerate(body)))
            yield at, f"{said['method']} {said['uri']}"
        at += head + 4 + length


class Tap:
    """Listens on a free port of 127.0.0.1 and connects through to another."""

    def __init__(self, to: int) -> None:
        self.lines: list[Line] = []
        self._to = to
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._server.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def orders_since(self, at: float) -> list[str]:
        """What was asked for since then, over all connections."""
        return [order for line in self.lines for order in line.orders_since(at)]

    def close(self) -> None:
        """No new connections; those that are up go on."""
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                server = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            line = Line()
            self.lines.append(line)
            for source, sink, kept in ((client, server, line), (server, client, None)):
                threading.Thread(target=_pump, args=(source, sink, kept), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, kept: Line | None) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            if kept is not None:
                kept.keep(data)
            sink.sendall(data)
    for each in (sink, source):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
