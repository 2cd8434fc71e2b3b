"""The containers' first step: secrets made once, the settings, and Asterisk's configuration, written into the volumes.

    prepare.py          write everything for the ports of the environment (`CALLWRIGHT_PORT_SIP` and so on); harmless to repeat
    prepare.py show     print addresses, agents' PINs and SIP passwords

It is `callwright up` without starting anything: the same classes write the same files. What the Asterisk container reads belongs to
the group that both images share; its own folders it may write to. The CRM gets its token in a volume of its own, and nothing else.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

from app.installation import Ports
from app.pbx.local import AgentPhone, AsteriskInstall, LocalPbx, PbxPorts
from app.publish.centre import load_centre
from app.up import Installation, demo_lines

STATE = Path("/var/lib/callwright")
CRM_TOKEN = Path("/var/lib/crm/token")
PHONES = Path("/var/lib/load/agents.csv")
ASTERISK_WRITES = ("run", "spool", "log", "log/cdr-csv", "lib", "cache", "keys")


class Containers(Installation):
    """An installation whose Asterisk is the one of another container."""

    def pbx(self, say: Callable[[str], None]) -> LocalPbx:
        """Asterisk's directory and configuration; it is started elsewhere."""
        if self._pbx is None:
            ports, centre = self.ports, load_centre(self.project)
            self._pbx = LocalPbx(
                AsteriskInstall(Path("/usr/sbin/asterisk"), "of the container"),
                self.state / "asterisk",
                PbxPorts(ports.sip, ports.ari, ports.ami, ports.rtp_start, ports.rtp_end, ports.agi),
                agents=[AgentPhone(about.name, about.phone or agent) for agent, about in centre.agents.items()],
                queues=tuple(centre.queues),
            )
        return self._pbx


def ports_of_the_environment() -> Ports:
    """Each port from `CALLWRIGHT_PORT_<NAME>`, else its default; a value that is no port ends the program with its name."""
    chosen: dict[str, int] = {}
    for each in fields(Ports):
        name = f"CALLWRIGHT_PORT_{each.name.upper()}"
        text = os.environ.get(name)
        if text:
            if not text.isascii() or not text.isdigit() or not 1024 <= int(text) <= 65535:
                sys.exit(f"prepare: {name}={text}: a port is a number from 1024 to 65535")
            chosen[each.name] = int(text)
    return Ports(**chosen)


def hand_over(directory: Path) -> None:
    """Let Asterisk, of the same group, read its configuration and write its own folders."""
    etc = directory / "etc"
    etc.chmod(0o750)
    for path in etc.iterdir():
        path.chmod(0o640)
    for name in ASTERISK_WRITES:
        (directory / name).chmod(0o2770)


def write_private(path: Path, text: str, mode: int) -> None:
    """Replace a file in one step; it is never readable by more than `mode` says."""
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as out:
        out.write(text)
    fresh.replace(path)


def prepare(installation: Containers) -> None:
    """Write everything."""
    pbx = installation.pbx(print)
    pbx.write_config()
    hand_over(pbx.directory)
    installation.write_settings(pbx)
    write_private(CRM_TOKEN, installation.keep()["crm_token"], 0o600)
    own = os.environ.get("CALLWRIGHT_PORT_PHONES", "7100")
    phones = [f"{e};{own};[authentication username={e} password={secret}]" for e, secret in pbx.secrets.agents.items()]
    write_private(PHONES, "\n".join(["SEQUENTIAL", *phones]) + "\n", 0o640)


def main(arguments: list[str]) -> int:
    """Prepare or show; the exit status."""
    installation = Containers(STATE, ports=ports_of_the_environment())
    if arguments == ["show"]:
        if not installation.config.exists():
            sys.exit("prepare: nothing was started yet: docker compose up")
        print("\n".join(line for line in demo_lines(installation) if not line.startswith("try")))
        print(f"token      {installation.keep()['admin_token']}")
    elif not arguments:
        prepare(installation)
        print(f"ready for Asterisk on 127.0.0.1:{installation.ports.sip} and the API on 127.0.0.1:{installation.ports.api}")
    else:
        sys.exit("usage: prepare.py [show]")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
