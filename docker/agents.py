"""Agents for a load test: every demo agent whose telephone is registered is signed in and ready, and done with each call at once.

Runs until SIGTERM, then signs them out. The file /tmp/ready appears when all of them are ready.
"""

from __future__ import annotations

import signal
import sys
import threading
import urllib.error
from pathlib import Path
from typing import Any

from app.installation import fetch
from app.up import Installation

READY = Path("/tmp/ready")
PAUSE = 0.3


class Agents:
    """A client of the API that acts for all agents."""

    def __init__(self, installation: Installation) -> None:
        self._base = f"http://127.0.0.1:{installation.ports.api}/v1/agents"
        self._token = installation.keep()["admin_token"]

    def all(self) -> list[dict[str, Any]]:
        """Every agent as the API has it."""
        return list(fetch(self._base, self._token)["agents"])

    def tell(self, agent: str, verb: str, **body: Any) -> None:
        """One of the agent's verbs; one that no longer fits is no error."""
        try:
            fetch(f"{self._base}/{agent}/{verb}", self._token, body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def keep_ready(self) -> bool:
        """Bring each agent one move nearer to ready; whether all of them are, or have a call."""
        rows = self.all()
        for row in rows:
            if row["work"] == "wrap_up":
                self.tell(row["id"], "wrap-up-done", call=row["call"], disposition="load", remarks="")
            elif row["phone"] == "reachable" and row["presence"] == "signed_out":
                self.tell(row["id"], "sign-in")
            elif row["phone"] == "reachable" and row["presence"] == "not_ready":
                self.tell(row["id"], "ready")
        return all(row["presence"] == "ready" for row in rows)

    def sign_out(self) -> None:
        """Everybody goes."""
        for row in self.all():
            if row["work"] == "wrap_up":
                self.tell(row["id"], "wrap-up-done", call=row["call"], disposition="load", remarks="")
            if row["presence"] != "signed_out":
                self.tell(row["id"], "sign-out")


def main() -> int:
    """Run until SIGTERM; the exit status."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    agents = Agents(Installation(Path("/var/lib/callwright")))
    while not stop.wait(PAUSE):
        try:
            if agents.keep_ready() and not READY.exists():
                READY.touch()
                print("all agents are ready", flush=True)
        except OSError as error:
            print(f"the API does not answer: {error}", file=sys.stderr, flush=True)
    agents.sign_out()
    return 0


if __name__ == "__main__":
    sys.exit(main())
