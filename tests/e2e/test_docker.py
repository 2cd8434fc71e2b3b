"""The containers: built from docker/, brought up by compose beside whatever else runs, and a real call through them.

Skips, saying why, where no Docker engine can be started.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

import pytest

from app.installation import fetch
from tests.docker_engine import Composed, NoEngine, build_images, docker_engine, is_warm
from tests.e2e.house import PREMIUM, free_ports
from tests.phones import AgentPhone, Caller, free_port, until

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(900), pytest.mark.xdist_group("docker")]
SERVICES = ("asterisk", "crm", "mail", "application", "watchdog")
COLD, WARM = 420, 150
"""Seconds that this file may take on a busy machine: with everything to be built, and with what an earlier run left."""
CALLER_TONE, AGENT_TONE = 1900.0, 1300.0


class System(Composed):
    """What tests ask of the composed system, from outside: its API, its mails, its secrets."""

    def learn(self, ports: dict[str, int]) -> None:
        self.ports = ports
        self.kept: dict[str, Any] = json.loads(self.inside("application", "cat", "/var/lib/callwright/secrets.json"))
        self.pbx_secrets: dict[str, Any] = json.loads(self.inside("application", "cat", "/var/lib/callwright/asterisk/secrets.json"))

    def api(self, path: str, body: Any = None) -> Any:
        return fetch(f"http://127.0.0.1:{self.ports['api']}{path}", self.kept["admin_token"], body)

    def agent(self, agent: str) -> dict[str, Any]:
        return dict(self.api(f"/v1/agents/{agent}"))

    def ended(self) -> list[dict[str, Any]]:
        return list(self.api("/v1/calls?state=ended&limit=100")["calls"])

    def mails(self) -> list[dict[str, str]]:
        return list(fetch(f"http://127.0.0.1:{self.ports['mail']}/messages")["messages"])


def too_late() -> str | None:
    """Why the containers cannot be tried before the tests have to be done (CALLWRIGHT_TESTS_END, seconds since 1970), or None."""
    end, needed = os.environ.get("CALLWRIGHT_TESTS_END"), WARM if is_warm() else COLD
    if end is None or float(end) - time.time() >= needed:
        return None
    return f"building and trying the containers may take {needed} s, and less is left; `make test-docker` does only that"


@pytest.fixture(scope="module")
def system() -> Iterator[System]:
    """The whole system in containers."""
    said: list[str] = []
    if (why := too_late()) is not None:
        pytest.skip(why)
    try:
        with docker_engine() as engine:
            build_images(engine, said)
            print("\n".join(said))
            ports = {**asdict(free_ports()), "phones": free_port(), "callers": free_port()}
            system = System(engine, ports)
            try:
                system.up()
                until(lambda: system.health("application") == "healthy", 60, "the application to be healthy")
                system.learn(ports)
                yield system
            finally:
                print(system.logs()[-4000:])
                system.down()
    except NoEngine as reason:
        pytest.skip(f"no Docker engine: {reason}")


def test_every_container_is_healthy_and_none_runs_as_root(system: System) -> None:
    for service in SERVICES:
        until(lambda service=service: system.health(service) == "healthy", 60, f"{service} to be healthy")  # type: ignore[misc]
        assert system.inside(service, "id", "-u").strip() not in ("0", "")
        assert "CapEff:\t0000000000000000" in system.inside(service, "cat", "/proc/1/status")


def test_a_premium_caller_talks_to_an_agent_through_the_containers(system: System) -> None:
    with AgentPhone(system.ports["sip"], "101", system.pbx_secrets["agents"]["101"], tone=AGENT_TONE) as agent:
        until(lambda: system.agent("101")["phone"] == "reachable", 20, "the telephone to be reachable")
        system.api("/v1/agents/101/sign-in", {})
        system.api("/v1/agents/101/ready", {})
        with Caller(system.ports["sip"], "1000", number=PREMIUM, tone=CALLER_TONE) as caller:
            assert isinstance(caller, Caller)
            caller.wait_for("answered", 10)
            until(caller.rtp.hears_anything, 10, "the caller to hear a prompt")
            agent.wait_for("answered", 60)
            until(lambda: caller.rtp.hears(AGENT_TONE) and agent.rtp.hears(CALLER_TONE), 5, "both to hear each other")
            caller.hang_up()
            caller.wait_for("hungup")
        row = until(lambda: system.ended()[:1], 15, "the call to end")[0]  # type: ignore[index]
        assert (row["outcome"], row["agent"], row["queue"]) == ("answered", "101", "premium")
        hand = system.agent("101")["hand"]
        system.api("/v1/agents/101/wrap-up-done", {"call": hand["call"], "disposition": "test", "remarks": ""})
        system.api("/v1/agents/101/sign-out", {})
    until(lambda: "0 active channels" in channels(system), 10, "no channel to be left")


def test_the_load_profile_places_calls_that_all_go_well_and_send_one_mail_each(system: System) -> None:
    before = {row["id"] for row in system.ended()}
    system.compose("up", "-d", "--no-build", "load", timeout=180, FLOW="known", CALLS="3", RATE="1")
    status = system.engine.docker("wait", system.container("load"), timeout=180).strip()
    assert status == "0", system.compose("logs", "--no-color", "load")[-3000:]
    calls = until(lambda: [row for row in system.ended() if row["id"] not in before][2:3], 15, "three calls to have ended")
    assert calls
    new = [row for row in system.ended() if row["id"] not in before]
    assert [row["outcome"] for row in new] == ["self_service"] * 3
    assert {row["id"] for row in new} <= {call for mail in system.mails() for call in [_call_of(mail)]}
    agents = system.api("/v1/agents")["agents"]
    assert all(row["presence"] == "ready" for row in agents), agents


def test_no_secret_is_in_what_the_containers_say_or_in_the_images(system: System) -> None:
    kept, pbx = system.kept, system.pbx_secrets
    secrets = [kept["admin_token"], kept["crm_token"], kept["session_key"], pbx["ari"], pbx["ami"], *pbx["agents"].values()]
    said = system.logs()
    assert said
    assert not [secret for secret in secrets if secret in said]
    assert PREMIUM not in said
    for image in ("asterisk", "application", "sipp"):
        found = system.engine.docker(
            "run", "--rm", "--network=none", "--entrypoint=find", f"callwright/{image}", "/var/lib", "/opt", "-name", "secrets.json"
        )
        assert found == ""


def channels(system: System) -> str:
    """What Asterisk counts."""
    config = "/var/lib/callwright/asterisk/etc/asterisk.conf"
    return system.inside("asterisk", "/usr/sbin/asterisk", "-n", "-C", config, "-rx", "core show channels count")


def _call_of(mail: dict[str, str]) -> str:
    """The call that a message was sent for, out of its Message-ID."""
    return mail["message_id"].strip("<>").partition("@")[0].partition("-")[0]
