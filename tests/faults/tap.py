"""A tap on a TCP line: passes everything on, and keeps what the client said and when."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import dataclass, field


@dataclass(slots=True)
class Line:
    """One connection: what the client sent, with the monotonic time of each piece."""

    pieces: list[tuple[float, bytes]] = field(default_factory=list)

    def orders_since(self, at: float) -> list[str]:
        """What was asked for since then: HTTP requests, and websocket frames other than ping, pong and close."""
        return [order for when, piece in self.pieces if when >= at for order in _orders(piece)]


def _orders(piece: bytes) -> list[str]:
    if piece[:5].strip().isalpha():
        return [piece.split(b"\r\n")[0].decode(errors="replace")]
    while len(piece) >= 6:
        opcode, length = piece[0] & 0x0F, piece[1] & 0x7F
        if opcode < 8:
            return [f"a frame of data (opcode {opcode})"]
        piece = piece[6 + length :]
    return []


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
                kept.pieces.append((time.monotonic(), data))
            sink.sendall(data)
    for each in (sink, source):
        with contextlib.suppress(OSError):
            each.shutdown(socket.SHUT_RDWR)
