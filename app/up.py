"""`callwright up`: everything on one machine, on loopback: a real Asterisk, the reference CRM, a mail catcher, the application, a watchdog.

All of it lives in one state directory: secrets made once, the application's settings, a log and a pid file for each part.
Starting what runs already is harmless, and so is stopping what does not. Only processes started from this directory are ever ended, by
their pid, and only while that pid still is the process that was started.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from cryptography.fernet import Fernet

from app.api.auth import hash_pin, hash_token
from app.installation import DEMO, Installed, Part, Ports, not_ready, started_at
from app.pbx.local import AgentPhone, LocalPbx, PbxPorts
from app.pbx.local_config import TONES
from app.pbx.local_install import ensure_asterisk
from app.publish.centre import load_centre

Say = Callable[[str], None]
PACKAGES = {"espeak-ng": "espeak-ng", "sox": "sox", "sipp": "sip-tester"}
READY_SECONDS = 45.0
STOP_SECONDS = 40.0
"""Longer than the application waits for its calls."""


class UpError(RuntimeError):
    """Something could not be started; the text says what and why."""


class Installation(Installed):
    """One state directory, and what is started out of it and ended."""

    def __init__(self, state: Path, project: Path = DEMO, ports: Ports | None = None, *, faults: bool = False) -> None:
        super().__init__(state, ports, faults=faults)
        self.project = project.absolute()
        self._pbx: LocalPbx | None = None

    # ---- secrets and settings ------------------------------------------------------------------------------------------

    def keep(self) -> dict[str, Any]:
        """What was made once for this installation: the admin's token, the CRM's token, the agents' PINs, the session key."""
        path = self.state / "secrets.json"
        if path.exists():
            return dict(json.loads(path.read_text()))
        made = {
            "admin_token": secrets.token_urlsafe(32),
            "crm_token": secrets.token_urlsafe(32),
            "session_key": Fernet.generate_key().decode(),
            "pins": {},
        }
        _private(path, json.dumps(made, indent=1))
        return made

    @property
    def people(self) -> Iterable[str]:
        """The agents who sign in by hand."""
        return load_centre(self.project).agents

    def let_people_in(self) -> None:
        """A PIN for each agent who has none yet, and the API's credentials with all of them. What is there stays."""
        kept, path = self.keep(), self.state / "credentials.toml"
        pins = {agent: f"{secrets.randbelow(10**6):06}" for agent in self.people} | kept["pins"]
        if pins != kept["pins"]:
            _private(self.state / "secrets.json", json.dumps({**kept, "pins": pins}, indent=1))
        admin = f'[tokens.admin]\nrole = "admin"\nsha256 = "{hash_token(kept["admin_token"])}"\n\n'
        text = path.read_text() if path.exists() else admin
        known = tomllib.loads(text).get("agents", {})
        new = "".join(f'"{agent}" = "{hash_pin(pin)}"\n' for agent, pin in pins.items() if agent not in known)
        if new or not path.exists():
            before, _, after = text.partition("[agents]\n")
            _private(path, f"{before}[agents]\n{new}{after}")

    def write_settings(self, pbx: LocalPbx) -> None:
        """The settings file, the API's credentials and the CRM's token, for this installation's project, ports and secrets."""
        kept, ports = self.keep(), self.ports
        _private(self.state / "ports.json", json.dumps(asdict(ports)))
        _private(self.state / "crm.token", kept["crm_token"])
        self.let_people_in()
        lines = [
            f"project = {json.dumps(str(self.project))}",
            f"state = {json.dumps(str(self.state))}",
            f"sounds = {json.dumps(str(pbx.sounds_dir))}",
            f'origins = [{{origin = "http://127.0.0.1:{ports.crm}", allow_private = true}}]',
            "[ari]",
            f'url = "{pbx.ari_url}"',
            f"user = {json.dumps(pbx.ari_user)}",
            f"password = {json.dumps(pbx.secrets.ari)}",
            f'tones = "{TONES}"',
            "[ami]",
            f"port = {ports.ami}",
            f"user = {json.dumps(pbx.ami_user)}",
            f"secret = {json.dumps(pbx.secrets.ami)}",
            "[agi]",
            f"port = {ports.agi}",
            "[api]",
            f"port = {ports.api}",
            f"credentials = {json.dumps(str(self.state / 'credentials.toml'))}",
            f"session_key = {json.dumps(kept['session_key'])}",
            f'record_origins = ["http://127.0.0.1:{ports.crm}"]',
            "[mail]",
            f"port = {ports.smtp}",
            "[sms]",
            f'url = "http://127.0.0.1:{ports.mail}/sms"',
            "[systems.crm]",
            f'base_url = "http://127.0.0.1:{ports.crm}"',
            f"token_file = {json.dumps(str(self.state / 'crm.token'))}",
        ]
        _private(self.config, "\n".join(lines) + "\n")

    # ---- parts ---------------------------------------------------------------------------------------------------------

    def pbx(self, say: Say) -> LocalPbx:
        """This installation's Asterisk."""
        if self._pbx is None:
            ports = self.ports
            phones = [AgentPhone(a.name, a.phone or id_) for id_, a in load_centre(self.project).agents.items()]
            queues = tuple(load_centre(self.project).queues)
            self._pbx = LocalPbx(
                ensure_asterisk(say),
                self.state / "asterisk",
                PbxPorts(ports.sip, ports.ari, ports.ami, ports.rtp_start, ports.rtp_end, ports.agi),
                agents=phones,
                queues=queues,
            )
        return self._pbx

    def up(self, say: Say) -> None:
        """Start everything that does not run, and wait until it is ready. Raises `UpError`."""
        self.state.mkdir(parents=True, exist_ok=True)
        self._runs_no_other_project()
        changed = self.changed_meanwhile()
        install_packages(say)
        pbx = self.pbx(say)
        if pbx.pid is None:
            self._ports_are_free()
            pbx.write_config()
            say(f"starting Asterisk {pbx.install.version} on 127.0.0.1:{self.ports.sip} (SIP) and {pbx.ari_url} (ARI)")
            pbx.start()
        else:
            say(f"Asterisk runs already (pid {pbx.pid})")
        pbx.wait_ready()
        self.write_settings(pbx)
        for part in self.parts():
            self.start(part, say)
        if changed:
            say(f"{', '.join(changed)}: changed since the application was started; `callwright down` and `up` again to have it")

    def _runs_no_other_project(self) -> None:
        """Two projects cannot run out of one state directory."""
        if self.pid("application") is None and self.pid_of_asterisk() is None:
            return
        other = tomllib.loads(self.config.read_text())["project"] if self.config.exists() else str(self.project)
        if other != str(self.project):
            raise UpError(f"{other} runs already out of {self.state}: `callwright down` first, or say another --state")

    def changed_meanwhile(self) -> list[str]:
        """Files of the project that are newer than the application that runs."""
        if self.pid("application") is None:
            return []
        started = (self.state / "application.pid").stat().st_mtime
        files = [self.project / "centre.yaml", *sorted(self.project.glob("flows/*.yaml")), *sorted(self.project.glob("actions/*.yaml"))]
        return [str(path.relative_to(self.project)) for path in files if path.stat().st_mtime > started]

    def start(self, part: Part, say: Say) -> None:
        """Start one part and wait until it is ready."""
        pid = self.pid(part.name)
        if pid is not None:
            say(f"{part.name} runs already (pid {pid})")
        else:
            say(f"starting {part.name} {part.address}".rstrip())
            pid = self.launch(part)
        until = time.monotonic() + READY_SECONDS
        while (why := not_ready(part.ready)) is not None:
            if self.pid(part.name) is None:
                raise UpError(f"{part.name} ended while starting:\n{self.last_words(part.name)}")
            if time.monotonic() > until:
                raise UpError(f"{part.name} is not ready after {READY_SECONDS:.0f} s: {why}\n{self.last_words(part.name)}")
            time.sleep(0.05)

    def launch(self, part: Part) -> int:
        """Start one part and return its pid at once."""
        log = self.state / "log" / f"{part.name}.log"
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as out:
            process = subprocess.Popen(
                part.argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True, env={**_environment(), **part.env}
            )
        (self.state / f"{part.name}.pid").write_text(f"{process.pid} {started_at(process.pid)}\n")
        return process.pid

    def down(self, say: Say) -> None:
        """End everything that was started from here: the watchdog, then the application, which may finish its calls, then the rest."""
        for part in reversed(self.parts()):
            self.end(part.name, say)
        if self.pid_of_asterisk() is not None:
            say("stopping Asterisk")
            self.pbx(lambda _: None).stop()

    def end(self, name: str, say: Say, number: signal.Signals = signal.SIGTERM) -> None:
        """End one part; one that does not end in time is killed."""
        pid = self.pid(name)
        if pid is None:
            return
        say(f"stopping {name} (pid {pid})")
        os.kill(pid, number)
        began = time.monotonic()
        told = False
        while self.pid(name) is not None:
            waited = time.monotonic() - began
            if waited > 2.0 and not told:
                say(f"{name} still has something in hand; waiting for it, {STOP_SECONDS:.0f} s at most")
                told = True
            if waited > STOP_SECONDS:
                say(f"{name} does not end; killing it")
                os.kill(pid, signal.SIGKILL)
                return
            time.sleep(0.05)
        (self.state / f"{name}.pid").unlink(missing_ok=True)

    def _ports_are_free(self) -> None:
        kinds = {"sip": socket.SOCK_DGRAM}
        owners = {"agi": "application", "api": "application", "crm": "crm", "smtp": "mail", "mail": "mail"}
        for name, port in asdict(self.ports).items():
            if name in ("rtp_start", "rtp_end", "watchdog") or self.pid(owners.get(name, "")) is not None:
                continue
            with socket.socket(socket.AF_INET, kinds.get(name, socket.SOCK_STREAM)) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind(("127.0.0.1", port))
                except OSError as error:
                    raise UpError(f"127.0.0.1:{port} ({name}) cannot be used: {error.strerror}; end what listens there") from None


def install_packages(say: Say) -> None:
    """The Debian packages that the demo needs and that are not there."""
    missing = [package for program, package in PACKAGES.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        raise UpError(f"please install: {' '.join(missing)}")
    say(f"installing {' '.join(missing)}")
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    for argv in ([*apt, "update"], [*apt, "install", "--no-install-recommends", *missing]):
        done = subprocess.run(argv, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, check=False)
        if done.returncode:
            raise UpError(f"{' '.join(argv)} failed:\n{(done.stdout + done.stderr)[-800:]}")


def _private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as out:
        out.write(text)
    fresh.replace(path)


def _environment() -> dict[str, str]:
    """Ours, but the settings file says where the state is, and compiled modules are kept: who starts again must be there at once."""
    return {name: value for name, value in os.environ.items() if name not in ("CALLWRIGHT_STATE", "PYTHONDONTWRITEBYTECODE")}


_DEMO_CALLERS = (
    "             +4930555000101 premium   +4930555000102 gets a mail   +4930555000103 pays late   anything else: unknown",
    "             who is unknown is asked for a reference: 2722541 is Anna, 4424777 is Gina",
)
_CALLERS = ("             +4930555000101 to +4930555000106 are in the reference CRM   anything else: unknown",)


def demo_lines(installation: Installation, numbers: Sequence[str]) -> Sequence[str]:
    """What a newcomer needs to know once everything is up: `numbers` are those that can be called."""
    p, kept = installation.ports, installation.keep()
    centre = load_centre(installation.project)
    phones = installation.pbx(lambda _: None).secrets.agents
    lines = [
        f"desk       http://127.0.0.1:{p.api}/desk/      (an agent and its PIN, below)",
        f"flows      http://127.0.0.1:{p.api}/flows/     the live calls on the picture of each flow; asks for the API's token",
        f"API        http://127.0.0.1:{p.api}/docs       token in {installation.state / 'secrets.json'} (admin_token)",
        f"CRM        http://127.0.0.1:{p.crm}/",
        f"mail       http://127.0.0.1:{p.mail}/          what was sent",
        f"SIP        udp 127.0.0.1:{p.sip}               call {' or '.join(numbers)} as one of these numbers:",
        *(_DEMO_CALLERS if installation.project == DEMO else _CALLERS),
        "agents     extension  PIN     SIP password                                 name, queues",
    ]
    for agent, about in centre.agents.items():
        secret = phones.get(about.phone or agent, "")
        lines.append(f"             {about.phone or agent:<9}{kept['pins'][agent]}  {secret:<44} {about.name}, {' '.join(about.queues)}")
    lines += [
        f"softphone  register one of the extensions at 127.0.0.1:{p.sip} over UDP with its SIP password; then sign in at the desk",
        *(["try        make call"] if installation.project == DEMO else []),
    ]
    return lines
