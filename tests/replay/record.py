"""Record real calls: `python -m tests.replay.record [NAME ...]`, without a name all of them.

Each scenario is a real call to a whole installation whose application has the recorder in it, started anew for that scenario. What comes
out is `recordings/NAME.jsonl`: real messages of a real Asterisk, with nothing changed but this machine's own marks (the state directory,
Asterisk's id, which is the address of a network card). A recording that holds a secret or is too large is not kept.

The names in the demo's CRM and the telephone numbers are invented.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from tests.e2e.house import LATE, PREMIUM, UNKNOWN, LiveHouse, Visit
from tests.phones import AgentPhone, until
from tests.replay.recorder import VARIABLE
from tests.replay.tape import PROJECT, RECORDINGS
from tests.tcp_proxy import WS, TcpProxy

LARGEST = 60_000  # bytes
STATE = "/var/lib/callwright"
_MARKS = re.compile(r'("asterisk_id":)"[^"]*"')
REFERENCE = "4424777#"  # the keys of GHA4P77, a premium contact who calls from a number that the CRM does not know


class NobodyToHangUp(Exception):
    """The call is over for Asterisk, and no phone can be told."""


class Scene:
    """The installation, and its application as this scenario needs it."""

    def __init__(self, house: LiveHouse, proxy: TcpProxy, path: Path) -> None:
        self.house, self.proxy, self._path = house, proxy, path

    def start(self) -> None:
        """The application, recorded, on the line that can be broken."""
        part = next(part for part in self.house.installation.parts() if part.name == "application")
        argv = tuple("tests.replay.recorder" if word == "app.cli" else word for word in part.argv)
        environment = {VARIABLE: str(self._path), "CALLWRIGHT_ARI__URL": self.proxy.url}
        self.house.installation.start(replace(part, argv=argv, env=environment), self.house.say.append)

    def step_is(self, visit: Visit, step: str) -> None:
        """The call is at that step, and the caller's phone takes part in it."""
        self.house.reaches(visit, step)
        visit.phone.wait_for("answered")
        until(lambda: visit.phone.rtp.to, 5)

    def seen(self, visit: Visit, kind: str, times: int = 1) -> None:
        """That many events of a kind have come to the call."""
        until(lambda: sum(entry["type"] == kind for entry in self.house.timeline(visit.call)) >= times, 20, f"{times} {kind}")

    @contextmanager
    def talking(self) -> Iterator[tuple[Visit, AgentPhone]]:
        """A late payer who talks to the billing team."""
        with self.house.agent_phone("105", ring=0.2) as agent, self.house.visit(LATE) as visit:
            self.house.becomes(visit, "talking")
            yield visit, agent


def premium_call_that_the_agent_ends(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("101", ring=0.3) as agent, house.visit(PREMIUM) as visit:
        house.becomes(visit, "talking")
        house.talks_for(visit, 0.5)
        agent.hang_up()
        visit.phone.wait_for("released")
        house.over(visit.call)


def premium_call_that_the_caller_ends(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("101", ring=0.3), house.visit(PREMIUM) as visit:
        house.becomes(visit, "talking")
        visit.phone.hang_up()
        house.over(visit.call)


def reference_keyed_after_the_prompt(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("101", ring=0.2) as agent, house.visit(UNKNOWN) as visit:
        scene.step_is(visit, "ask_reference")
        scene.seen(visit, "PlaybackEnded")
        visit.phone.rtp.press(REFERENCE)
        house.becomes(visit, "talking")
        house.talks_for(visit, 0.5)
        agent.hang_up()
        house.over(visit.call)


def key_breaks_into_the_prompt(scene: Scene) -> None:
    house = scene.house
    with house.visit(UNKNOWN) as visit:
        scene.step_is(visit, "ask_reference")
        scene.seen(visit, "Play")
        until(lambda: visit.phone.rtp.hears_anything(0.2), 5)
        visit.phone.rtp.press("12#")
        scene.seen(visit, "DigitPressed", 3)
        visit.phone.hang_up()
        house.over(visit.call)


def caller_cancels_before_the_answer(scene: Scene) -> None:
    house = scene.house
    house.crm_fault("slow", 1.0)
    try:
        with house.visit(PREMIUM, cancel_after=0.3) as visit:
            house.over(visit.call)
    finally:
        house.crm_fault("off")


def _agent_refuses(scene: Scene, code: int) -> None:
    house = scene.house
    with house.agent_phone("105", refuse=code), house.visit(LATE) as visit:
        scene.seen(visit, "LegEnded")
        until(lambda: visit.phone.rtp.hears_anything(), 5)
        visit.phone.hang_up()
        house.over(visit.call)


def agent_is_busy(scene: Scene) -> None:
    _agent_refuses(scene, 486)


def agent_declines(scene: Scene) -> None:
    _agent_refuses(scene, 603)


def agent_does_not_answer(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("105", ring=None), house.visit(LATE) as visit:
        scene.seen(visit, "LegEnded")
        visit.phone.hang_up()
        house.over(visit.call)


def agent_phone_is_dead(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("105", ring=None) as agent:
        agent.sipp.stop()
        with house.visit(LATE) as visit:
            scene.seen(visit, "LegEnded")
            visit.phone.hang_up()
            house.over(visit.call)


def caller_leaves_while_the_agent_rings(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("105", ring=None) as agent, house.visit(LATE) as visit:
        agent.wait_for("invite")
        scene.seen(visit, "LegRinging")
        visit.phone.hang_up()
        house.over(visit.call)
        agent.wait_for("cancelled")


def nobody_is_there_and_the_fallback_takes_the_caller(scene: Scene) -> None:
    house = scene.house
    with house.visit(LATE) as visit:
        house.over(visit.call, 25)


def line_breaks_and_the_agent_answers_meanwhile(scene: Scene) -> None:
    house, proxy = scene.house, scene.proxy
    with house.agent_phone("105", ring=None) as agent, house.visit(LATE) as visit:
        agent.wait_for("invite")
        scene.seen(visit, "LegRinging")
        proxy.refuse = True
        proxy.cut("rst")
        until(lambda: not proxy.links(WS), 5, "the socket to be gone")
        agent.answer()
        agent.wait_for("answered")
        proxy.refuse = False
        house.becomes(visit, "talking")
        visit.phone.hang_up()
        house.over(visit.call)


def line_breaks_under_a_prompt(scene: Scene) -> None:
    house, proxy = scene.house, scene.proxy
    with house.visit(UNKNOWN) as visit:
        scene.step_is(visit, "ask_reference")
        scene.seen(visit, "Play")
        sockets = proxy.sockets
        proxy.cut("clean")
        until(lambda: proxy.sockets > sockets, 10, "a new socket")
        scene.seen(visit, "CallFound")
        visit.phone.rtp.press("1")
        scene.seen(visit, "DigitPressed")
        visit.phone.hang_up()
        house.over(visit.call)


def application_dies_and_the_agent_answers_meanwhile(scene: Scene) -> None:
    house = scene.house
    with house.agent_phone("105", ring=None) as agent, house.visit(LATE) as visit:
        agent.wait_for("invite")
        scene.seen(visit, "LegRinging")
        house.kill()
        agent.answer()
        agent.wait_for("answered")
        scene.start()
        house.becomes(visit, "talking")
        house.talks_for(visit, 0.5)
        agent.hang_up()
        house.over(visit.call)


def application_dies_and_the_caller_leaves(scene: Scene) -> None:
    house = scene.house
    with scene.talking() as (visit, _):
        house.kill()
        visit.phone.hang_up()
        visit.phone.wait_for("hungup")
        scene.start()
        house.over(visit.call)


def asterisk_restarts_in_a_conversation(scene: Scene) -> None:
    house = scene.house
    pbx = house.installation.pbx(house.say.append)
    with suppress(NobodyToHangUp), scene.talking() as (visit, _):
        pbx.kill()
        pbx.start()
        pbx.wait_ready()
        house.over(visit.call)
        raise NobodyToHangUp


FOUND = {
    "key_is_told_twice": "one press of #, on a busy machine: two ChannelDtmfReceived, 18 ms apart and 100 ms long each",
}
"""Recordings of what happened once, by chance, and cannot be ordered again."""

SCENARIOS: dict[str, Callable[[Scene], None]] = {
    scenario.__name__: scenario
    for scenario in (
        premium_call_that_the_agent_ends,
        premium_call_that_the_caller_ends,
        reference_keyed_after_the_prompt,
        key_breaks_into_the_prompt,
        caller_cancels_before_the_answer,
        agent_is_busy,
        agent_declines,
        agent_does_not_answer,
        agent_phone_is_dead,
        caller_leaves_while_the_agent_rings,
        nobody_is_there_and_the_fallback_takes_the_caller,
        line_breaks_and_the_agent_answers_meanwhile,
        line_breaks_under_a_prompt,
        application_dies_and_the_agent_answers_meanwhile,
        application_dies_and_the_caller_leaves,
        asterisk_restarts_in_a_conversation,
    )
}


def record(house: LiveHouse, proxy: TcpProxy, name: str, folder: Path) -> int:
    """One scenario, recorded and kept; its size in bytes. What goes wrong raises, and nothing is kept."""
    if house.installation.pid("application") is not None:
        house.kill()
    raw = folder / f"{name}.jsonl"
    scene = Scene(house, proxy, raw)
    scene.start()
    SCENARIOS[name](scene)
    house.check()
    house.kill()
    text = publishable(raw.read_text(), house.installation.state, secrets_of(house))
    assert len(text) <= LARGEST, f"{name} has {len(text)} bytes: cut the scenario short"
    RECORDINGS.mkdir(exist_ok=True)
    (RECORDINGS / raw.name).write_text(text)
    return len(text)


def secrets_of(house: LiveHouse) -> list[str]:
    """What must never be in a recording."""
    kept, pbx = house.installation.keep(), house.installation.pbx(house.say.append).secrets
    return [kept["admin_token"], kept["crm_token"], kept["session_key"], pbx.ari, pbx.ami, *pbx.agents.values()]


def publishable(text: str, state: Path, secrets: Sequence[str]) -> str:
    """A recording without this machine's marks; raises where a secret is in it."""
    assert not [secret for secret in secrets if secret in text], "a secret is in the recording"
    return _MARKS.sub(r'\1"00:00:00:00:00:00"', text).replace(str(state), STATE)


def main(names: Sequence[str]) -> None:
    """Record these scenarios, or all."""
    unknown = [name for name in names if name not in SCENARIOS]
    if unknown:
        sys.exit(f"no such scenario: {', '.join(unknown)}; there are\n  " + "\n  ".join(SCENARIOS))
    folder = Path(tempfile.mkdtemp(prefix="callwright-recording-"))
    house = LiveHouse(folder / "state")
    try:
        house.up()
        shutil.copytree(house.installation.project, PROJECT, ignore=shutil.ignore_patterns("tests", "bots"), dirs_exist_ok=True)
        with TcpProxy(house.installation.ports.ari) as proxy:
            for name in names or SCENARIOS:
                print(f"{name}: {record(house, proxy, name, folder)} bytes", flush=True)
    finally:
        house.down()
    shutil.rmtree(folder)


if __name__ == "__main__":
    main(sys.argv[1:])
