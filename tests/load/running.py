"""What `make call` and `make load` ask of a running installation: the public API, the mail catcher, and agents on softphones.

An agent is signed in, ready and on a registered telephone for as long as a `with` lasts, and signed out afterwards, whatever happened.
"""

from __future__ import annotations

import contextlib
import json
import urllib.error
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from app.installation import fetch
from app.up import Installation
from tests.phones import AgentPhone, until

MANNERS = {"talk": 1.5, "ring": 0.6}


class Running:
    """A client of an installation that is up."""

    def __init__(self, installation: Installation) -> None:
        self.installation = installation
        self._token = installation.keep()["admin_token"]

    def trouble(self) -> str:
        """Why the installation cannot take calls just now; empty when it can. The watchdog is not needed for that."""
        rows = self.installation.status()
        return "; ".join(f"{row.name} is {row.state}: {row.why}" for row in rows if row.state != "running" and row.name != "watchdog")

    def api(self, path: str, body: Any = None, method: str = "") -> Any:
        """An answer of the public API; raises `OSError`."""
        return fetch(f"http://127.0.0.1:{self.installation.ports.api}{path}", self._token, body, method, timeout=15)

    # ---- calls ---------------------------------------------------------------------------------------------------------

    def live(self) -> list[dict[str, Any]]:
        """Calls that are up."""
        return list(self.api("/v1/calls")["calls"])

    def ended(self, limit: int = 1000, before: float | None = None) -> list[dict[str, Any]]:
        """Calls that have ended, newest first; with `before` only those that ended earlier."""
        more = "" if before is None else f"&before={before!r}"
        return list(self.api(f"/v1/calls?state=ended&limit={limit}{more}")["calls"])

    def call(self, call: str) -> dict[str, Any]:
        """One call, live or ended."""
        return dict(self.api(f"/v1/calls/{call}"))

    def timeline(self, call: str) -> list[dict[str, Any]]:
        """What happened in a call."""
        return list(self.api(f"/v1/calls/{call}/timeline")["entries"])

    def mails(self) -> list[dict[str, str]]:
        """What the mail catcher has, newest first."""
        return list(fetch(f"http://127.0.0.1:{self.installation.ports.mail}/messages")["messages"])

    # ---- agents --------------------------------------------------------------------------------------------------------

    def agents(self) -> list[dict[str, Any]]:
        """Every agent."""
        return list(self.api("/v1/agents")["agents"])

    def agent(self, agent: str) -> dict[str, Any]:
        """One agent."""
        return dict(self.api(f"/v1/agents/{agent}"))

    def tell(self, agent: str, verb: str, **body: Any) -> None:
        """One of the agent's verbs."""
        self.api(f"/v1/agents/{agent}/{verb}", body)

    def sip_secret(self, agent: str) -> str:
        """The password of an agent's telephone."""
        kept = json.loads((self.installation.state / "asterisk" / "secrets.json").read_text())
        return str(kept["agents"][agent])

    @contextmanager
    def phone(self, agent: str, **manners: Any) -> Iterator[AgentPhone]:
        """A softphone of an agent who is ready; afterwards the agent is signed out."""
        phone = AgentPhone(self.installation.ports.sip, agent, self.sip_secret(agent), **{**MANNERS, **manners})
        with phone:
            try:
                until(lambda: self.agent(agent)["phone"] == "reachable", 10, f"the telephone of {agent} to be reachable")
                self.tell(agent, "sign-in")
                self.tell(agent, "ready")
                yield phone
            finally:
                with contextlib.suppress(AssertionError):
                    until(lambda: self.agent(agent)["work"] in ("", "wrap_up"), 10, f"{agent} to be done")
                self.sign_out(agent)

    def sign_out(self, agent: str) -> None:
        """Finish the work after a call, and go."""
        state = self.agent(agent)
        if state["work"] == "wrap_up":
            self._tell_if_it_fits(agent, "wrap-up-done", call=state["call"], disposition="test call", remarks="")
        if self.agent(agent)["presence"] != "signed_out":
            self._tell_if_it_fits(agent, "sign-out")

    def _tell_if_it_fits(self, agent: str, verb: str, **body: Any) -> None:
        """A verb that may have become needless meanwhile."""
        try:
            self.tell(agent, verb, **body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise


def attempt(done: Callable[[], object], within: float) -> bool:
    """Whether it became true in time."""
    try:
        until(done, within)
    except AssertionError:
        return False
    return True
