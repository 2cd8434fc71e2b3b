"""A trunk as an operator sets one up, and the telephone behind it."""

from __future__ import annotations

from pathlib import Path

from tests.e2e.house import LiveHouse
from tests.phones import AgentPhone, until

TRUNK = """
[carrier](callwright-trunk)
aors = carrier
[carrier]
type = aor
contact = sip:127.0.0.1:{port}
"""
TRANSFERS = """
transfers:
  trunks: [carrier]
  allowed: ["+4930*"]
"""


def set_up(house: LiveHouse, port: int) -> None:
    """The running Asterisk gets a trunk `carrier` to that port."""
    pbx = house.installation.pbx(house.say.append)
    pbx.extra["pjsip.conf"] = TRUNK.format(port=port)
    pbx.write_config()
    pbx.cli("module reload res_pjsip.so")
    until(lambda: f"127.0.0.1:{port}" in pbx.cli("pjsip show aors"), 10, "the trunk")


def allow(folder: Path) -> None:
    """Let a project's transfers use it, to numbers in Berlin."""
    centre = folder / "centre.yaml"
    centre.write_text(centre.read_text() + TRANSFERS)


def far_phone(port: int, **how: object) -> AgentPhone:
    """Whoever the carrier connects to."""
    return AgentPhone(0, "carrier", "", port=port, **how)  # type: ignore[arg-type]
