"""A bot that ships, as a process of its own, on a port that stays the same."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

from tests.phones import until

ROOT = Path(__file__).parents[2]


class BotProcess:
    """`python -m app.demo.bots.NAME PORT`."""

    def __init__(self, name: str, port: int) -> None:
        self.name, self.port = name, port
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", f"app.demo.bots.{self.name}", str(self.port)]
        self.process = subprocess.Popen(command, cwd=ROOT, start_new_session=True)
        until(self._listens, 30, "the bot to listen")

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def tell(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self) -> None:
        """End it, and what it started."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
