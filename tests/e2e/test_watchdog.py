"""The watchdog on a real Asterisk, with real calls and a throwaway application that is frozen or killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from app.pbx.local import LocalPbx
from tests.drawn import faults_only
from tests.pbx import Ari
from tests.phones import AgentPhone, Caller, free_port, until

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(180)]

ROOT = Path(__file__).parents[2]
AGENT, CALLER = 1300.0, 1900.0  # the tones that they speak


@contextmanager
def process(*argv: str, log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours, ended with the block."""
    with open(log, "wb") as out:
        started = subprocess.Popen([sys.executable, *argv], cwd=ROOT, stdout=out, stderr=out, env={**os.environ, **environment})
    try:
        yield started
    finally:
        started.kill()
        started.wait()


class Scene:
    """An application with its watchdog, and the phones of a scene."""

    def __init__(self, stack: ExitStack, pbx: LocalPbx, ari: Ari, folder: Path, **environment: str) -> None:
        self.stack, self.pbx, self.ari, self.folder = stack, pbx, ari, folder
        self.port = free_port(socket.SOCK_STREAM)
        self.app = self.start_app()
        environment |= {
            "CALLWRIGHT_WATCHDOG_ARI_URL": pbx.ari_url,
            "CALLWRIGHT_WATCHDOG_ARI_PASSWORD": pbx.secrets.ari,
            "CALLWRIGHT_WATCHDOG_HEALTH_URL": f"http://127.0.0.1:{self.port}/healthz",
        }
        self.watchdog = stack.enter_context(process("-m", "app.watchdog", log=folder / "watchdog.log", **environment))
        until(lambda: "watching" in (folder / "watchdog.log").read_text(), 10)

    def start_app(self) -> subprocess.Popen[bytes]:
        log = self.folder / "app.log"
        arguments = [self.pbx.ari_url, self.pbx.ari_user, self.pbx.secrets.ari, str(self.port), "+15550202=101", "+15550203=102"]
        app = self.stack.enter_context(process("-m", "tests.e2e.tiny_app", *arguments, log=log))
        until(lambda: "ready" in log.read_text(), 10)
        return app

    def caller(self, number: str) -> Caller:
        caller = Caller(self.pbx.ports.sip, "1000", number)
        self.stack.callback(caller.close)
        return caller

    def agent(self, extension: str, ring: float | None) -> AgentPhone:
        agent = AgentPhone(self.pbx.ports.sip, extension, self.pbx.secrets.agents[extension], ring=ring)
        self.stack.callback(agent.close)
        return agent


@pytest.fixture
def scene(bare_pbx: LocalPbx, ari: Ari, tmp_path: Path) -> Iterator[Scene]:
    with ExitStack() as stack:
        yield Scene(stack, bare_pbx, ari, tmp_path)


@pytest.fixture
def hasty(bare_pbx: LocalPbx, ari: Ari, tmp_path: Path) -> Iterator[Scene]:
    """The same with a watchdog of less patience, where how long it waits is not what is tested."""
    with ExitStack() as stack:
        yield Scene(stack, bare_pbx, ari, tmp_path, CALLWRIGHT_WATCHDOG_PATIENCE="3")


@pytest.mark.parametrize("how", faults_only(signal.SIGSTOP, signal.SIGKILL))
def test_silent_application_waiting_callers_go_to_the_fallback_and_pairs_stay(scene: Scene, how: signal.Signals) -> None:
    talking_agent, ringing_agent = scene.agent("101", ring=0.1), scene.agent("102", ring=None)
    waiting, talking, offered = scene.caller("+15550201"), scene.caller("+15550202"), scene.caller("+15550203")
    talking_agent.wait_for("answered", 10)
    ringing_agent.wait_for("invite", 10)
    until(lambda: waiting.rtp.hears_anything(), 5, "music")
    until(lambda: talking.rtp.hears(AGENT) and talking_agent.rtp.hears(CALLER), 5, "a conversation")

    scene.app.send_signal(how)
    silent = time.monotonic()
    for caller in ("+15550201", "+15550203"):
        until(lambda caller=caller: scene.ari.context_of(caller) == "callwright-fallback", 16, f"{caller} in the fallback")
    assert 9 < time.monotonic() - silent < 15.5
    assert ringing_agent.heard_of("cancelled")
    until(lambda: waiting.rtp.hears_anything() and offered.rtp.hears_anything(), 3, "the fallback is heard")
    assert scene.ari.context_of("+15550202") == "callwright-door"
    until(lambda: talking.rtp.hears(AGENT) and talking_agent.rtp.hears(CALLER), 3, "they still talk")

    late = scene.caller("+15550204")
    late.wait_for("answered", 3)  # nobody waits for an application that is known to be away
    assert scene.ari.context_of("+15550204") == "callwright-away"

    talking.hang_up()
    talking_agent.wait_for("released", 10)  # the agent is not left in a silent line


def test_agent_who_ends_the_call_while_the_application_is_away_frees_the_caller(hasty: Scene) -> None:
    agent, caller = hasty.agent("101", ring=0.1), hasty.caller("+15550202")
    agent.wait_for("answered", 10)
    hasty.app.send_signal(signal.SIGSTOP)
    until(lambda: "left 1 in conversation" in (hasty.folder / "watchdog.log").read_text(), 15)
    until(lambda: agent.rtp.hears(CALLER), 3)
    agent.hang_up()
    caller.wait_for("released", 10)


def test_application_that_is_back_gets_the_next_call_and_is_left_alone(hasty: Scene) -> None:
    hasty.app.send_signal(signal.SIGSTOP)
    until(lambda: "no sign of life" in (hasty.folder / "watchdog.log").read_text(), 15)
    hasty.app.send_signal(signal.SIGCONT)
    until(lambda: "is back" in (hasty.folder / "watchdog.log").read_text(), 5)
    caller = hasty.caller("+15550205")
    caller.wait_for("answered", 5)
    until(lambda: hasty.ari.context_of("+15550205") == "callwright-door", 5, "in the application")
    until(lambda: caller.rtp.hears_anything(), 5, "music")
    assert hasty.ari.ask("GET", "asterisk/variable", variable="CALLWRIGHT_AWAY_UNTIL") == (200, {"value": "0"})


def test_asterisk_that_goes_away_does_not_end_the_watchdog(hasty: Scene) -> None:
    hasty.app.send_signal(signal.SIGSTOP)
    until(lambda: "no sign of life" in (hasty.folder / "watchdog.log").read_text(), 15)
    hasty.pbx.kill()
    until(lambda: "Asterisk:" in (hasty.folder / "watchdog.log").read_text(), 10)
    hasty.pbx.start()
    hasty.pbx.wait_ready()
    caller = hasty.caller("+15550206")
    caller.wait_for("answered", 5)
    until(lambda: hasty.ari.ask("GET", "asterisk/variable", variable="CALLWRIGHT_AWAY_UNTIL")[1] not in ({"value": ""}, {"value": "0"}), 5)
    assert hasty.watchdog.poll() is None
