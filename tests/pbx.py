"""A real Asterisk of our own for tests, and a look into it.

`running_pbx` starts one in a directory, on free ports; `Ari` asks it over REST, without waiting loops of its own.
"""

from __future__ import annotations

import base64
import json
import random
import socket
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from app.pbx.local import AgentPhone, LocalPbx, PbxPorts, ensure_asterisk
from tests.phones import free_port

AGENTS = (AgentPhone("Anna", "101"), AgentPhone("Ben", "102"), AgentPhone("Chris", "103"))


def free_pbx_ports() -> PbxPorts:
    """Ports for one more PBX on this machine."""
    rtp = random.randrange(20_000, 31_000, 2)
    tcp = socket.SOCK_STREAM
    return PbxPorts(sip=free_port(), ari=free_port(tcp), ami=free_port(tcp), rtp_start=rtp, rtp_end=rtp + 998, agi=free_port(tcp))


@contextmanager
def running_pbx(directory: Path, **options: Any) -> Iterator[LocalPbx]:
    """A started PBX with the agents 101 to 103; `options` go to `LocalPbx`."""
    pbx = LocalPbx(ensure_asterisk(print), directory, free_pbx_ports(), **{"agents": AGENTS, **options})
    pbx.write_config()
    pbx.start()
    try:
        pbx.wait_ready()
        yield pbx
    finally:
        pbx.stop()


class Ari:
    """REST to one PBX: the answer's status and its parsed body."""

    def __init__(self, pbx: LocalPbx) -> None:
        self.pbx = pbx
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, method: str, path: str, **query: str) -> tuple[int, Any]:
        request = urllib.request.Request(f"{self.pbx.ari_url}/ari/{path}?{urllib.parse.urlencode(query)}", method=method)
        token = base64.b64encode(f"{self.pbx.ari_user}:{self.pbx.secrets.ari}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        try:
            with self._opener.open(request, timeout=5) as answer:
                text = answer.read()
                return answer.status, json.loads(text) if text else None
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode(errors="replace")

    def channels(self) -> list[dict[str, Any]]:
        return list(self.ask("GET", "channels")[1])

    def context_of(self, number: str) -> str:
        """Where in the dialplan the caller with that number is; empty when there is none."""
        return next(
            (str(c["dialplan"]["context"]) for c in self.channels() if c["caller"]["number"] == number and "-leg" not in c["id"]), ""
        )

    def hang_up_all(self) -> None:
        """Leave nothing for the next test: channels first, then bridges."""
        for channel in self.channels():
            self.ask("DELETE", f"channels/{channel['id']}")
        for bridge in self.ask("GET", "bridges")[1]:
            self.ask("DELETE", f"bridges/{bridge['id']}")


def ami_action(pbx: LocalPbx, action: str, **headers: str) -> str:
    """Log in to AMI, do one action, log off; everything that was answered."""
    with socket.create_connection(("127.0.0.1", pbx.ports.ami), timeout=5) as link:
        login = {"Action": "Login", "Username": pbx.ami_user, "Secret": pbx.secrets.ami, "Events": "off"}
        for fields in (login, {"Action": action, **headers}, {"Action": "Logoff"}):
            link.sendall(("".join(f"{name}: {value}\r\n" for name, value in fields.items()) + "\r\n").encode())
        text = b""
        while piece := link.recv(65536):
            text += piece
    return text.decode(errors="replace")
