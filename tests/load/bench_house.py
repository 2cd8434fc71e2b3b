"""One Asterisk for all contenders, with the agents' phones, the stand-in for the CRM, and one contender's processes at a time.

Everything is started from a state directory of its own, on free ports of 127.0.0.1, as `app.up` starts an installation; what the
benchmark adds is in `benchmark/`. Only the contender being measured runs, so that none pays for another's events.
"""

from __future__ import annotations

import re
import shutil
import socket
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from app.installation import DEMO, Part
from app.pbx.local import LocalPbx
from app.up import Installation, Say
from tests.e2e.house import free_ports
from tests.load import bench_calls, sipp
from tests.load.running import Running, attempt
from tests.phones import free_port

HERE = Path(__file__).parent / "benchmark"
RING, TALK = 0.2, 2.0
"""Seconds that an agent's phone rings, and that the agent talks."""
DIALPLAN, FASTAGI, BARE, CALLWRIGHT = "dialplan", "fastagi", "bare_ari", "callwright"
DIALS = {DIALPLAN: "3001", FASTAGI: "3002", BARE: "3003", CALLWRIGHT: "1000"}
CONTENDERS = tuple(DIALS)
FEW, MANY, NOBODY = "few", "many", "nobody"
"""The sizes of a queue: agents for the rate at which costs are measured, for the highest rate tried, and for callers who are held."""
_MODULES = "[modules](+)\n" + "".join(f"load = {name}.so\n" for name in ("res_curl", "func_curl", "func_json", "func_uri"))
_QUEUE = "wrapuptime = 0\nretry = 1\nannounce-frequency = 0\nperiodic-announce-frequency = 0\n"


class BenchInstallation(Installation):
    """An installation whose CRM is the stand-in, and whose Asterisk has the dialplan and the queues of the benchmark besides."""

    def __init__(self, state: Path, project: Path, sizes: Mapping[str, int]) -> None:
        super().__init__(state, project, replace(free_ports(), rtp_start=15_002, rtp_end=19_998))
        self.agi, self._sizes, self.ari_secret = 0, sizes, ""
        self.now: tuple[str, ...] = ()

    people = ()

    def pbx(self, say: Say) -> LocalPbx:
        """This Asterisk, with what only the benchmark needs."""
        pbx = super().pbx(say)
        self.ari_secret = pbx.secrets.ari
        crm = f"BENCH_CRM = 127.0.0.1:{self.ports.crm}\nBENCH_AGENTS = {FEW}\n"
        pbx.queues = ()
        pbx.extra = {
            "modules.conf": _MODULES,
            "extensions.conf": f"\n[globals](+)\n{crm}{(HERE / 'extensions.conf').read_text()}",
            "queues.conf": "".join(_queue(size, count) for size, count in self._sizes.items()),
        }
        return pbx

    def parts(self) -> tuple[Part, ...]:
        """The processes that should run now."""
        crm = f"http://127.0.0.1:{self.ports.crm}"
        stand_in = Part("crm", (sys.executable, "-m", "tests.load.benchmark.crm", str(self.ports.crm)), crm, f"{crm}/healthz")
        agi = Part("fastagi", (sys.executable, "-m", "tests.load.benchmark.agi", str(self.agi), f"127.0.0.1:{self.ports.crm}"), "", "")
        ari = (f"http://127.0.0.1:{self.ports.ari}", "callwright", self.ari_secret, f"127.0.0.1:{self.ports.crm}")
        bare = Part(BARE, (sys.executable, "-m", "tests.load.benchmark.bare", *ari, str(self._sizes[MANY])), "", "")
        every = {part.name: part for part in (*super().parts(), stand_in, agi, bare)}
        return tuple(every[name] for name in self.now)


def _queue(size: str, count: int) -> str:
    members = "".join(f"member => PJSIP/{name},0,{name},PJSIP/{name}\n" for name in names(count))
    return f"\n[bench-printers-{size}](callwright-queue)\n{_QUEUE}{members}"


def names(count: int) -> list[str]:
    """The agents' ids and extensions."""
    return [f"w{number:03}" for number in range(1, count + 1)]


def write_project(folder: Path, agents: int) -> None:
    """The flow of the benchmark, the demo's actions, and so many agents who can take every call."""
    shutil.copytree(HERE / "project", folder)
    shutil.copytree(DEMO / "actions", folder / "actions")
    able = "queues: [agents], skills: {lang.en: 8, product.printers: 6}"
    people = "".join(f'  "{name}": {{name: Agent {name}, {able}}}\n' for name in names(agents))
    (folder / "centre.yaml").write_text(f"queues:\n  agents: {{ring: 15, wrap_up: 0, max_wait: 60}}\nagents:\n{people}")


class BenchHouse:
    """Starts and ends what the benchmark needs. `begin` and `end` bracket one contender."""

    def __init__(self, folder: Path, few: int, many: int) -> None:
        folder.chmod(0o755)
        self.folder, self.few, self.many = folder, few, many
        write_project(folder / "project", many)
        sizes = {FEW: few, MANY: many, NOBODY: 0}
        self.installation = BenchInstallation(folder / "state", folder / "project", sizes)
        self.phones: sipp.Sipp | None = None
        self.contender = ""
        self._runs = 0
        self._port = free_port()

    # ---- up and down -----------------------------------------------------------------------------------------------------

    def up(self) -> None:
        """Asterisk and the CRM."""
        self.installation.now = ("crm",)
        self.installation.up(lambda line: None)
        self.pbx = self.installation.pbx(lambda line: None)

    def down(self) -> None:
        """Everything ends."""
        if self.phones is not None:
            self.phones.stop()
        self.installation.now = ("crm", "fastagi", "application", "watchdog")
        self.installation.down(lambda line: None)

    def begin(self, contender: str) -> None:
        """The contender's processes, and its agents at their phones."""
        self.contender = contender
        self.telephones()
        wanted = {DIALPLAN: (), FASTAGI: ("fastagi",), BARE: (BARE,), CALLWRIGHT: ("application", "watchdog")}[contender]
        self.installation.agi = free_port(socket.SOCK_STREAM)
        self.pbx.cli(f"dialplan set global BENCH_AGI 127.0.0.1:{self.installation.agi}")
        self.installation.now = ("crm", *wanted)
        for part in self.installation.parts():
            self.installation.start(part, lambda line: None)
        if contender == FASTAGI and not attempt(self._agi_listens, 10):
            raise RuntimeError(f"FastAGI does not listen: {self.installation.last_words(FASTAGI)}")
        if contender == BARE and not attempt(lambda: "callwright-bench" in self.pbx.cli("ari show apps"), 10):
            raise RuntimeError(f"the script does not take calls: {self.installation.last_words(BARE)}")
        if not attempt(lambda: self.pbx.cli("pjsip show contacts").count(" Avail ") >= self.many, 40):
            raise RuntimeError("not every telephone became reachable")
        if contender == CALLWRIGHT:
            self.running = Running(self.installation)
            if not attempt(lambda: all(agent["phone"] == "reachable" for agent in self.running.agents()), 40):
                raise RuntimeError("not every telephone became reachable")
            self._tell([agent["id"] for agent in self.running.agents() if agent["presence"] == "signed_out"], "sign-in")
        self.queue(FEW)

    def end(self) -> None:
        """The contender's processes are gone afterwards."""
        for name in reversed(self.installation.now[1:]):
            self.installation.end(name, lambda line: None)
        self.contender = ""

    @property
    def pids(self) -> list[int]:
        """The contender's own processes."""
        return [pid for name in self.installation.now[1:] if (pid := self.installation.pid(name)) is not None]

    def run_folder(self, what: str) -> Path:
        """A fresh folder for a SIPp run."""
        self._runs += 1
        folder = self.folder / f"{self._runs:02}-{what}"
        folder.mkdir()
        return folder

    def place(self, scenario: Callable[[Path], Path], calls: int, rate: float) -> sipp.Sipp:
        """Begin to place calls of a scenario to the contender."""
        folder = self.run_folder("callers")
        made = scenario(folder / "scenario")
        return bench_calls.place(folder, self.installation.ports.sip, made, DIALS[self.contender], calls, rate, self._runs)

    def quiet(self) -> bool:
        """Whether no channel is up."""
        return "\n0 active channels" in "\n" + self.pbx.cli("core show channels count")

    # ---- agents ------------------------------------------------------------------------------------------------------------

    def telephones(self) -> None:
        """Register every phone, from the port where they all answer from then on; a registration lasts ten minutes."""
        if self.phones is not None:
            self.phones.stop()
        folder = self.run_folder("agents")
        secrets = {name: self.pbx.secrets.agents[name] for name in names(self.many)}
        sipp.register(folder, self.installation.ports.sip, self._port, secrets)
        scenario = bench_calls.agents_scenario(folder)
        manners = ["-set", "ring", str(round(RING * 1000)), "-set", "talk", str(round(TALK * 1000))]
        self.phones = sipp.Sipp("phones", folder, str(scenario), *manners, port=self._port)

    def queue(self, size: str) -> None:
        """How many agents are there for callers from now on."""
        self.pbx.cli(f"dialplan set global BENCH_AGENTS {size}")
        if self.contender == CALLWRIGHT:
            ready = {FEW: self.few, MANY: self.many, NOBODY: 0}[size]
            states = {agent["id"]: agent["presence"] for agent in self.running.agents()}
            self._tell([name for name in names(ready) if states[name] != "ready"], "ready")
            self._tell([name for name in names(self.many)[ready:] if states[name] == "ready"], "not-ready", reason="benchmark")

    def waiting(self) -> int:
        """Callers who wait while nobody is there for them."""
        if self.contender == CALLWRIGHT:
            return sum(queue["waiting"] for queue in self.running.api("/v1/queues")["queues"])
        told = self.pbx.cli(f"queue show bench-printers-{NOBODY}")
        found = re.search(r" has (\d+) calls", told)
        return int(found[1]) if found else 0

    def _agi_listens(self) -> bool:
        """Whether the script has opened its port. It is not tried: panoramisk goes round in circles over a connection that says nothing."""
        sockets = [each for pid in self.pids for each in psutil.Process(pid).net_connections("tcp4")]
        return any(each.status == psutil.CONN_LISTEN and each.laddr.port == self.installation.agi for each in sockets)

    def _tell(self, agents: list[str], verb: str, **body: Any) -> None:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda agent: self.running.tell(agent, verb, **body), agents))
