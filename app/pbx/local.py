"""A PBX of our own, for `make up` and for the tests: one instance is one directory and one Asterisk process.

The directory holds everything the instance needs or leaves behind: `etc` (the shipped `callwright-*.conf` and the small files with this
instance's ports and secrets that include them), `run`, `spool`, `log`, `lib`, `moh` (music, synthesised here) and `sounds/callwright`
(prompts that the application renders). Paths are the same inside and outside, so a prompt is played by the path it was written to.
Asterisk runs without root: it may write to `run`, `spool`, `log` and `lib`, and only read the rest. Several instances run side by side.
"""

from __future__ import annotations

import functools
import json
import os
import secrets
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path

from app.pbx.local_config import AgentPhone, LocalConfig, PbxPorts, PbxSecrets
from app.pbx.local_install import AsteriskInstall, InstallError, ensure_asterisk
from app.pbx.local_music import write_music

__all__ = ["AgentPhone", "AsteriskInstall", "InstallError", "LocalPbx", "PbxError", "PbxPorts", "PbxSecrets", "ensure_asterisk"]

MINIMUM_SECRET = 16
_WRITABLE = ("run", "spool", "log", "lib", "cache", "keys")
_STOP_SECONDS = 8.0


class PbxError(RuntimeError):
    """The local PBX did not do what was asked; the message says what and why."""


class LocalPbx:
    """One instance. Give the same directory to another object, also in another process, and it means the same PBX.

    `queues` names queues of the PBX's own beside the fallback's; every agent is in all of them. `extra` maps file names in `etc` to text
    appended to them, for a dialplan that only a test or a benchmark needs. `shipped` is where `callwright-*.conf` are.
    """

    def __init__(
        self,
        install: AsteriskInstall,
        directory: Path,
        ports: PbxPorts,
        *,
        agents: Sequence[AgentPhone] = (),
        app: str = "callwright",
        ari_user: str = "callwright",
        ami_user: str = "callwright",
        ari_secret: str = "",
        ami_secret: str = "",
        queues: Sequence[str] = (),
        extra: dict[str, str] | None = None,
        shipped: Path | None = None,
    ) -> None:
        self.install = install
        self.directory = directory.absolute()
        self.ports = ports
        self.agents = tuple(agents)
        self.app = app
        self.ari_user = ari_user
        self.ami_user = ami_user
        self.queues = tuple(queues)
        self.extra = dict(extra or {})
        self._given = (ari_secret, ami_secret)
        self._shipped = shipped or _shipped_config()
        self._process: subprocess.Popen[bytes] | None = None
        _refuse_odd_names([app, ari_user, ami_user, *self.queues, *(agent.extension for agent in self.agents)])

    # -- places ---------------------------------------------------------------------------------------------------------------

    @property
    def sounds_dir(self) -> Path:
        """Where prompts are written; Asterisk sees the same path: play `sound:<sounds_dir>/<name without suffix>`."""
        return self.directory / "sounds" / "callwright"

    @property
    def config_file(self) -> Path:
        """The `asterisk.conf` of this instance."""
        return self.directory / "etc" / "asterisk.conf"

    @property
    def ari_url(self) -> str:
        """Base address of ARI, without a slash at its end: append `/ari/...`."""
        return f"http://127.0.0.1:{self.ports.ari}"

    @functools.cached_property
    def secrets(self) -> PbxSecrets:
        """This instance's passwords: 32 random bytes each, made once and kept in `secrets.json`, which only its owner may read."""
        self.directory.mkdir(parents=True, exist_ok=True)
        path = self.directory / "secrets.json"
        kept = json.loads(path.read_text()) if path.exists() else {}
        known: dict[str, str] = dict(kept.get("agents", {}))
        made = PbxSecrets(
            ari=_secret("ARI", self._given[0] or kept.get("ari")),
            ami=_secret("AMI", self._given[1] or kept.get("ami")),
            agents={
                **known,
                **{a.extension: _secret(f"agent {a.extension}", a.secret or known.get(a.extension)) for a in self.agents},
            },
        )
        _write_private(path, json.dumps({"ari": made.ari, "ami": made.ami, "agents": made.agents}, indent=1))
        return made

    # -- configuration --------------------------------------------------------------------------------------------------------

    def write_config(self) -> None:
        """Write all files of the instance. Harmless to repeat; a running PBX reads the change after `cli("core reload")`."""
        etc = self.directory / "etc"
        for name in ("etc", "moh", "sounds/callwright", *_WRITABLE, "spool/recording"):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        (self.directory / "log" / "cdr-csv").mkdir(exist_ok=True)
        self.directory.chmod(0o755)
        for source in sorted(self._shipped.glob("callwright-*.conf")):
            shutil.copyfile(source, etc / source.name)
        own = LocalConfig(self.directory, self.ports, self.secrets, self.agents, self.app, self.ari_user, self.ami_user, self.queues)
        for name, text in own.files().items():
            _write_private(etc / name, text + self.extra.get(name, ""))
        music = self.directory / "moh" / "callwright.wav"
        if not music.exists():
            write_music(music)
        self._hand_over()

    def _hand_over(self) -> None:
        """Let Asterisk's account read the configuration and write its own folders."""
        uid, gid = self.install.uid, self.install.gid
        if uid is None or gid is None:
            return
        etc = self.directory / "etc"
        os.chown(etc, 0, gid)
        etc.chmod(0o750)
        for path in etc.iterdir():
            os.chown(path, 0, gid)
            path.chmod(0o640)
        for name in _WRITABLE:
            for folder, _, files in os.walk(self.directory / name):
                os.chown(folder, uid, gid)
                for entry in files:
                    os.chown(os.path.join(folder, entry), uid, gid, follow_symlinks=False)

    # -- process --------------------------------------------------------------------------------------------------------------

    @property
    def pid(self) -> int | None:
        """The process id of this instance's Asterisk, or None when it does not run."""
        if self._process is not None:
            if self._process.poll() is None:
                return self._process.pid
            self._process = None
        try:
            pid = int((self.directory / "pid").read_text())
        except (OSError, ValueError):
            return None
        return pid if str(self.config_file).encode() in _command_line(pid) else None

    def start(self) -> None:
        """Start Asterisk and return at once; harmless when it runs. It outlives this process."""
        if self.pid is not None:
            return
        self.directory.mkdir(parents=True, exist_ok=True)
        uid, gid = self._account()
        argv = [str(self.install.binary), "-f", "-C", str(self.config_file)]
        with open(self.directory / "console.log", "ab") as console:
            self._process = subprocess.Popen(
                self._command(argv),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                start_new_session=True,
                cwd="/",
                user=uid,
                group=gid,
            )
        (self.directory / "pid").write_text(f"{self._process.pid}\n")

    def wait_ready(self, timeout: float = 20.0) -> None:
        """Return when Asterisk is booted and ARI answers with our password; raise `PbxError` after `timeout` seconds or when it ends."""
        deadline = time.monotonic() + timeout
        while True:
            if self.pid is None:
                raise PbxError(f"Asterisk ended while starting:\n{self._last_words()}")
            why = self._not_ready()
            if why is None:
                return
            if time.monotonic() > deadline:
                raise PbxError(f"Asterisk is not ready after {timeout:.0f} s: {why}\n{self._last_words()}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End Asterisk, and with it every call; harmless when it does not run."""
        self._end(signal.SIGTERM)
        self._forget_mount_point()

    def kill(self) -> None:
        """SIGKILL, as a crash: no BYE, no hangup event."""
        self._end(signal.SIGKILL)

    def cli(self, command: str) -> str:
        """The answer of `asterisk -rx command`. Raises `PbxError` when the PBX does not answer."""
        argv = [str(self.install.binary), "-n", "-C", str(self.config_file), "-rx", command]
        done = subprocess.run(self._command(argv), capture_output=True, text=True, errors="replace", timeout=20, check=False)
        if done.returncode != 0:
            raise PbxError(f"the PBX does not answer: {(done.stdout + done.stderr).strip()[:300]}")
        return done.stdout

    def _command(self, argv: Sequence[str]) -> list[str]:
        return self.install.command(argv, self.directory)

    def _account(self) -> tuple[int | None, int | None]:
        """Whom the machine's own Asterisk runs as; inside a tree of ours, chroot changes the account."""
        return (self.install.uid, self.install.gid) if self.install.root is None else (None, None)

    def _not_ready(self) -> str | None:
        request = urllib.request.Request(f"{self.ari_url}/ari/asterisk/info?only=status")
        token = b64encode(f"{self.ari_user}:{self.secrets.ari}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            with opener.open(request, timeout=2):
                pass
            answer = self.cli("core waitfullybooted")
        except urllib.error.HTTPError as error:
            return f"ARI answers {error.code}"
        except (OSError, PbxError, subprocess.TimeoutExpired) as error:
            return str(error)
        return None if "fully booted" in answer else answer.strip()

    def _end(self, number: signal.Signals) -> None:
        deadline = time.monotonic() + _STOP_SECONDS
        while (pid := self.pid) is not None:
            try:
                os.kill(pid, number if time.monotonic() < deadline else signal.SIGKILL)
            except ProcessLookupError:
                break
            step = time.monotonic() + 1.0
            while self.pid == pid and time.monotonic() < step:
                time.sleep(0.02)
        (self.directory / "pid").unlink(missing_ok=True)

    def _forget_mount_point(self) -> None:
        """Remove the empty folders that stood for this directory inside the tree; never a folder that the tree came with."""
        if self.install.root is None:
            return
        inside = self.install.root / self.directory.relative_to("/")
        for folder in [inside, *inside.parents][: len(self.directory.parts) - 2]:
            try:
                folder.rmdir()
            except OSError:
                return

    def _last_words(self) -> str:
        found = []
        for path in (self.directory / "console.log", self.directory / "log" / "messages.log"):
            if path.exists():
                found += path.read_text(errors="replace").splitlines()[-12:]
        return "\n".join(found) or "(it said nothing)"


def _command_line(pid: int) -> list[bytes]:
    """The arguments of a process; empty when it has ended. In the midst of an exec they are empty too: then look again."""
    for _ in range(5):
        try:
            text = Path(f"/proc/{pid}/cmdline").read_bytes()
            ended = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return []
        if text or ended:
            return text.split(b"\0")
        time.sleep(0.01)
    return []


def _shipped_config() -> Path:
    """`asterisk-config` beside the sources, or inside an installed package."""
    here = Path(__file__).resolve().parent
    for place in (here / "asterisk-config", here.parent.parent / "asterisk-config"):
        if (place / "callwright-extensions.conf").exists():
            return place
    raise PbxError(f"asterisk-config is missing beside {here}")


def _secret(owner: str, given: str | None) -> str:
    """`given` when it is strong enough, else a new one of 32 random bytes."""
    if not given:
        return secrets.token_urlsafe(32)
    if len(given) < MINIMUM_SECRET or len(set(given)) < 6 or not given.isprintable() or set(given) & set(" ;\\\"'"):
        raise PbxError(f"the {owner} password is weak or has odd characters: give {MINIMUM_SECRET} random letters and digits, or none")
    return given


def _refuse_odd_names(names: Sequence[str]) -> None:
    """These become names in configuration files and in dial strings."""
    for name in names:
        if not name or len(name) > 40 or not all(c.isascii() and (c.isalnum() or c in "-_") for c in name):
            raise PbxError(f"{name!r} cannot be a name on the PBX: use letters, digits, - and _")


def _write_private(path: Path, text: str) -> None:
    """Replace the file in one step; it is never readable by others."""
    growing = path.with_name(path.name + ".new")
    growing.unlink(missing_ok=True)
    with os.fdopen(os.open(growing, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        out.write(text)
    growing.replace(path)
