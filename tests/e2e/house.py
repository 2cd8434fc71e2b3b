"""A whole installation of its own for real calls: Asterisk, CRM, mail catcher and application, on free ports, and the doors tests need.

Everything is what an operator runs: `app.up` starts the same processes with the same settings. A test may kill the application and start
it again; it asks over the public API, listens at the phones, and looks into Asterisk over ARI. Nothing is mocked.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import socket
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from app.installation import Ports, fetch
from app.up import Installation
from tests.e2e.replayed import replayed_calls, replayed_centre
from tests.phones import AgentPhone, Caller, until

PREMIUM, MAILED, LATE, NO_MAIL, NO_ORDER, SHARED = (f"+493055500010{n}" for n in range(1, 7))
UNKNOWN = "+4930555000999"


def free_ports() -> Ports:
    """Ports that nobody listens on, RTP in a block of its own.

    They are below those that the kernel gives to clients: one who knocks there while nobody listens may otherwise be connected to itself.
    """
    held: list[socket.socket] = []
    chosen = {}
    for each in fields(Ports):
        holder = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if each.name in ("sip", "rtp_start") else socket.SOCK_STREAM)
        held.append(holder)
        chosen[each.name] = low_port(holder)
    for holder in held:
        holder.close()
    start = 20_000 + (os.getpid() % 6) * 2_000
    return Ports(**{**chosen, "rtp_start": start, "rtp_end": start + 1_998})


def low_port(holder: socket.socket) -> int:
    """Bind to a free port of 127.0.0.1 below those that the kernel gives to clients."""
    while True:
        port = random.randrange(10_000, 20_000)
        try:
            holder.bind(("127.0.0.1", port))
        except OSError:
            continue
        return port


@dataclass(slots=True)
class Visit:
    """A caller on the line, and the call it became."""

    phone: Caller
    call: str
    number: str


class LiveHouse:
    """A running installation."""

    def __init__(self, state: Path) -> None:
        self.installation = Installation(state, ports=free_ports(), faults=True)
        self.say: list[str] = []
        self.environment: dict[str, str] = {}
        """Variables with which the application is started."""
        self.replayed: set[str] = set()
        self._token = ""
        self._ari = ""

    # ---- running -------------------------------------------------------------------------------------------------------

    def up(self) -> None:
        self.installation.up(self.say.append)
        self._token = self.installation.keep()["admin_token"]
        self._ari = self.installation.pbx(self.say.append).secrets.ari

    def down(self) -> None:
        self.installation.down(self.say.append)

    @property
    def pid(self) -> int:
        pid = self.installation.pid("application")
        assert pid is not None, self.installation.last_words("application")
        return pid

    def kill(self) -> None:
        """The application dies, now."""
        os.kill(self.pid, signal.SIGKILL)
        until(lambda: self.installation.pid("application") is None, 5, "the application to die")

    def start(self) -> float:
        """Start the application again; the seconds until it is ready, process start included."""
        part = next(part for part in self.installation.parts() if part.name == "application")
        began = time.monotonic()
        self.installation.start(replace(part, env=self.environment or part.env), self.say.append)
        return time.monotonic() - began

    # ---- asking --------------------------------------------------------------------------------------------------------

    def api(self, path: str, body: Any = None, method: str = "") -> Any:
        return fetch(f"http://127.0.0.1:{self.installation.ports.api}{path}", self._token, body, method)

    def ari(self, path: str, method: str = "GET") -> Any:
        """A look into Asterisk itself, or a hand in it."""
        import base64
        import urllib.request

        request = urllib.request.Request(f"http://127.0.0.1:{self.installation.ports.ari}/ari/{path}", method=method)
        request.add_header("Authorization", "Basic " + base64.b64encode(f"callwright:{self._ari}".encode()).decode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as answer:
            return json.loads(answer.read() or b"null")

    def crm_fault(self, mode: str, seconds: float = 0.0) -> None:
        """Make the CRM slow, down or talk nonsense; `off` ends it."""
        body = {"mode": mode, "seconds": seconds} if seconds else {"mode": mode}
        fetch(f"http://127.0.0.1:{self.installation.ports.crm}/faults", self.installation.keep()["crm_token"], body)

    def mails(self) -> list[dict[str, str]]:
        found = fetch(f"http://127.0.0.1:{self.installation.ports.mail}/messages")
        return list(found["messages"] if isinstance(found, Mapping) else found)

    def calls(self) -> list[dict[str, Any]]:
        return list(self.api("/v1/calls")["calls"])

    def call(self, call: str) -> dict[str, Any]:
        return dict(self.api(f"/v1/calls/{call}"))

    def ended(self, call: str) -> dict[str, Any] | None:
        rows = self.api("/v1/calls?state=ended&limit=1000")["calls"]
        return next((row for row in rows if row["id"] == call), None)

    def timeline(self, call: str) -> list[dict[str, Any]]:
        return list(self.api(f"/v1/calls/{call}/timeline")["entries"])

    def steps(self, call: str) -> list[str]:
        return [entry["step"] for entry in self.timeline(call) if entry["type"] == "StepEntered"]

    def agent(self, agent: str) -> dict[str, Any]:
        return dict(self.api(f"/v1/agents/{agent}"))

    def tell(self, agent: str, verb: str, **body: Any) -> None:
        self.api(f"/v1/agents/{agent}/{verb}", body)

    # ---- phones --------------------------------------------------------------------------------------------------------

    def secret(self, agent: str) -> str:
        kept = json.loads((self.installation.state / "asterisk" / "secrets.json").read_text())
        return str(kept["agents"][agent])

    @contextmanager
    def agent_phone(self, agent: str, *, ready: bool = True, **how: Any) -> Iterator[AgentPhone]:
        """A registered phone of an agent who is signed in and ready; afterwards the agent is signed out."""
        with AgentPhone(self.installation.ports.sip, agent, self.secret(agent), **how) as phone:
            until(lambda: self.agent(agent)["phone"] == "reachable", 10, f"phone {agent} to be reachable")
            self.tell(agent, "sign-in")
            if ready:
                self.tell(agent, "ready")
            try:
                yield phone
            finally:
                self.sign_out(agent)

    def sign_out(self, agent: str) -> None:
        """Whatever the agent has in hand ends, then the agent goes."""
        until(self._application_answers, 20, "the application to answer")
        hand = self.agent(agent)["hand"]
        if hand and hand["phase"] == "wrap_up":
            self.tell(agent, "wrap-up-done", call=hand["call"], disposition="test", remarks="")
        if self.agent(agent)["presence"] != "signed_out":
            self.tell(agent, "sign-out")

    def _application_answers(self) -> bool:
        try:
            self.api("/v1/agents")
        except OSError:
            return False
        return True

    @contextmanager
    def visit(self, number: str = PREMIUM, dial: str = "1000", **how: Any) -> Iterator[Visit]:
        """A caller who has dialled and whose call has arrived."""
        before = {row["id"] for row in self.calls()}
        with Caller(self.installation.ports.sip, dial, number=number, **how) as phone:
            found = until(lambda: [row for row in self.calls() if row["id"] not in before], 10, lambda: self._not_arrived(phone))
            try:
                yield Visit(phone, found[-1]["id"], number)  # type: ignore[index]
            finally:
                self._hangs_up(phone)

    def _hangs_up(self, phone: Caller) -> None:
        """A caller's phone is not left in a call, whatever became of the test."""
        if not any(phone.heard_of(end) for end in ("released", "hungup", "cancelled", "refused")):
            phone.hang_up()
            until(lambda: phone.heard_of("hungup") or phone.heard_of("released"), 5, "the caller's phone to hang up")

    def _not_arrived(self, phone: Caller) -> str:
        """What is known of a call that did not arrive."""
        channels = [(each["id"], each["state"], each["dialplan"]["context"], each["dialplan"]["app_name"]) for each in self.ari("channels")]
        return f"the call to arrive; the phone says {phone.sipp.log}, {phone.sipp.trouble()}; channels: {channels}"

    def reaches(self, visit: Visit, step: str, within: float = 25.0) -> None:
        """Wait until the call is at a step."""
        until(lambda: self._at(visit.call)[0] == step, within, f"step {step}; is at {self._at(visit.call)}")

    def becomes(self, visit: Visit, state: str, within: float = 25.0) -> None:
        """Wait until the call is in a state."""
        until(lambda: self._at(visit.call)[1] == state, within, f"state {state}; is {self._at(visit.call)}")

    def talks_for(self, visit: Visit, seconds: float) -> None:
        """Wait until the conversation has lasted so long; one that is over at once is none."""
        self.becomes(visit, "talking")
        until(lambda: time.time() - (self.call(visit.call)["connected"] or time.time()) > seconds, 10, "the conversation to last")

    def _at(self, call: str) -> tuple[str, str]:
        try:
            row = self.call(call)
        except urllib.error.HTTPError as error:
            return ("", f"{error.code}")
        except OSError as error:
            return ("", str(error))
        return (row["step"], row["state"])

    def over(self, call: str, within: float = 15.0) -> dict[str, Any]:
        """Wait until the call has ended; its row in the history."""
        return until(lambda: self.ended(call), within, f"{call} to end; is {self._at(call)}")  # type: ignore[return-value]

    # ---- the universal check -------------------------------------------------------------------------------------------

    def check(self) -> None:
        """No orphan channel or bridge, no agent stuck, exactly one end for every call, no secret in any log."""
        until(lambda: not self.ari("channels") and not self._our_bridges(), 30, f"no channel to be left: {self.ari('channels')}")
        until(lambda: all(row["state"] == "wrap_up" for row in self.calls()), 10, f"no call to be left: {self.calls()}")
        stuck = [row["id"] for row in self.api("/v1/agents")["agents"] if row["work"] in ("offered", "connecting", "talking", "held")]
        assert not stuck, f"agents that are stuck: {stuck}"
        for row in self.api("/v1/calls?state=ended&limit=200")["calls"]:
            ends = [entry for entry in self.timeline(row["id"]) if entry["type"] == "CallEnded"]
            assert len(ends) == 1, f"{row['id']} has {len(ends)} ends"
        self.no_secret_in_a_log()
        self.replays()

    def replays(self) -> None:
        """Every call that has ended since this was last asked comes out the same when it is run again from the journal."""
        self.replayed |= asyncio.run(replayed_calls(self.installation.state, self.replayed))

    def replays_as_a_whole(self) -> None:
        """So does the whole centre, from the installation's first event on."""
        asyncio.run(replayed_centre(self.installation.state))

    def clear(self) -> None:
        """After a test that left something behind: hang everything up and sign everybody out, so that the next one begins clean."""
        if self.installation.pid("application") is None:
            self.start()
        for channel in self.ari("channels"):
            with suppress(OSError):
                self.ari(f"channels/{channel['id']}", "DELETE")
        until(lambda: not self.ari("channels"), 30, "every channel to end")
        for agent in self.api("/v1/agents")["agents"]:
            with suppress(OSError):
                self.sign_out(agent["id"])

    def _our_bridges(self) -> list[str]:
        return [bridge["id"] for bridge in self.ari("bridges") if "-br" in bridge["id"]]

    def no_secret_in_a_log(self) -> None:
        kept = self.installation.keep()
        secrets = [kept["admin_token"], kept["crm_token"], kept["session_key"], self._ari, *map(self.secret, kept["pins"])]
        for log in (self.installation.state / "log").iterdir():
            text = log.read_text(errors="replace")
            assert not [name for name in secrets if name in text], f"a secret is in {log.name}"
            assert "+49305550001" not in text, f"a full phone number is in {log.name}"
