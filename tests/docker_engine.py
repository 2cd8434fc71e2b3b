"""A Docker engine for tests: one that runs already, or one that is started here and stopped again; and the images, built on it.

An engine of ours is `dockerd` from Debian's package, started by hand without a bridge and without touching iptables (everything uses the
host's network), with a socket and run directory of its own. Its images stay in /var/cache/callwright/docker, so that the next run builds
only what changed; one run at a time may use them. It dies with the process that started it.

Where no registry can be reached, the base images are made on this machine under the names that the Dockerfiles use: the tree that the
local Asterisk runs from, or debootstrap. `NoEngine` says why there cannot be an engine: a test skips with that.
"""

from __future__ import annotations

import fcntl
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from app.pbx.local_install import _mirror, ensure_asterisk
from tests.phones import until

ROOT = Path(__file__).resolve().parents[1]
CACHE = Path("/var/cache/callwright")
BUILT = "docker.built"
STALE = "-o Acquire::Check-Valid-Until=false"
BASES = {"debian:bookworm": ("bookworm", "bookworm"), "debian:forky": ("forky", "sid")}
"""Base image: its suite, and the debootstrap script for it."""
BUILT_ON = {"debian:bookworm": ("prepare", "phones"), "debian:forky": ("asterisk",)}
"""Base image: the services of the compose file whose images are built on it."""
PLENTY = 3 << 30
"""Bytes of disk that an engine of ours wants to see free."""
_APT = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]


class NoEngine(RuntimeError):
    """There is no engine and none can be started; the message says why."""


class DockerFailed(RuntimeError):
    """A command of docker's did not succeed; the message has the end of what it said."""


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers. `compose` is the command for compose files, `environment` what makes commands find the engine."""

    compose: tuple[str, ...]
    environment: Mapping[str, str] = field(repr=False)

    def run(
        self, argv: Sequence[str], timeout: float = 60, extra: Mapping[str, str] | None = None, cwd: Path = ROOT, stdin: int | None = None
    ) -> str:
        """The standard output of a command; raises `DockerFailed`."""
        try:
            done = subprocess.run(
                argv,
                stdin=subprocess.DEVNULL if stdin is None else stdin,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=timeout,
                cwd=cwd,
                env={**self.environment, **(extra or {})},
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise DockerFailed(f"{' '.join(argv[:4])}: nothing after {timeout:.0f} s") from error
        if done.returncode:
            raise DockerFailed(f"{' '.join(argv[:6])}: status {done.returncode}\n{(done.stdout + done.stderr)[-3000:]}")
        return done.stdout

    def docker(self, *argv: str, timeout: float = 60) -> str:
        """A command of `docker`."""
        return self.run(["docker", *argv], timeout)


def is_warm() -> bool:
    """Whether an earlier run has left built images."""
    return (CACHE / BUILT).exists()


@contextmanager
def docker_engine() -> Iterator[Engine]:
    """The engine that runs already, or one of ours for as long as the context lasts. Raises `NoEngine`."""
    if shutil.which("docker") and _answers(dict(os.environ)):
        yield Engine(_compose(dict(os.environ)), dict(os.environ))
        return
    _install("dockerd", "docker.io")
    if _answers(dict(os.environ)):  # the package has started it
        yield Engine(_compose(dict(os.environ)), dict(os.environ))
        return
    with _own_engine() as environment:
        yield Engine(_compose(environment), environment)


def _answers(environment: Mapping[str, str]) -> bool:
    done = subprocess.run(["docker", "info"], env=environment, capture_output=True, timeout=30, check=False)
    return done.returncode == 0


def _install(program: str, package: str) -> None:
    if shutil.which(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise NoEngine(f"{program} is missing, and installing {package} takes root and apt-get")
    for argv in ([*_APT, "install", "--no-install-recommends", package], [*_APT, "update"], [*_APT, "install", package]):
        done = subprocess.run(
            argv, capture_output=True, text=True, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, timeout=300, check=False
        )
        if shutil.which(program):
            return
    raise NoEngine(f"{package} cannot be installed: {(done.stdout + done.stderr)[-400:]}")


def _compose(environment: Mapping[str, str]) -> tuple[str, ...]:
    """Compose v2 when docker has it, else Debian's docker-compose."""
    if subprocess.run(["docker", "compose", "version"], env=environment, capture_output=True, timeout=30, check=False).returncode == 0:
        return ("docker", "compose")
    _install("docker-compose", "docker-compose")
    return ("docker-compose",)


@contextmanager
def _own_engine() -> Iterator[dict[str, str]]:
    """Start dockerd, stop it at the end; yields the environment that names it."""
    if os.geteuid() != 0:
        raise NoEngine("no Docker engine answers, and starting one takes root")
    CACHE.mkdir(parents=True, exist_ok=True)
    if shutil.disk_usage(CACHE).free < PLENTY:
        raise NoEngine(f"{CACHE} has less than {PLENTY >> 30} GiB free")
    run = Path(tempfile.mkdtemp(prefix="cw-docker-", dir="/tmp"))
    environment = {**os.environ, "DOCKER_HOST": f"unix://{run}/sock", "PATH": f"/usr/bin:{os.environ['PATH']}"}
    with open(CACHE / "docker.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = _start(run)
        try:
            until(lambda: process.poll() is not None or _answers(environment), 40, "dockerd to answer")
            if process.poll() is not None:
                raise NoEngine(f"dockerd does not start here: {_last_line(run / 'log')}")
            _forget_containers(environment)
            yield environment
        finally:
            process.terminate()
            try:
                process.wait(40)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            shutil.rmtree(run, ignore_errors=True)


def _start(run: Path) -> subprocess.Popen[bytes]:
    places = ["--data-root", str(CACHE / "docker"), "--exec-root", str(run / "exec"), "--pidfile", str(run / "pid")]
    network = ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
    alone = ["unshare", "--mount", "--propagation", "private", "setpriv", "--pdeathsig", "TERM"]  # its mounts go with it
    with open(run / "log", "wb") as log:
        return subprocess.Popen(
            [*alone, "dockerd", *places, *network, "--host", f"unix://{run}/sock"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )


def _forget_containers(environment: Mapping[str, str]) -> None:
    """What a run that was cut off left behind must not start again. Containers in our own directory are all ours."""
    ids = subprocess.run(["docker", "ps", "-aq"], env=environment, capture_output=True, text=True, timeout=30, check=True).stdout.split()
    if ids:
        subprocess.run(["docker", "rm", "-f", "-v", *ids], env=environment, capture_output=True, timeout=120, check=True)


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][-300:] if lines else "it said nothing"


# -- images -----------------------------------------------------------------------------------------------------------------------


def build_images(engine: Engine, say: list[str]) -> None:
    """Build all images of docker/compose.yaml, two at a time; `say` gets how long each took. Raises `DockerFailed`."""

    def build(base: str) -> None:
        began = time.monotonic()
        _ensure_base(engine, base)
        say.append(f"{base}: {time.monotonic() - began:.0f} s")
        for service in BUILT_ON[base]:
            _build(engine, service, say)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(build, BASES))
    if CACHE.is_dir() and os.access(CACHE, os.W_OK):
        (CACHE / BUILT).touch()


def _build(engine: Engine, service: str, say: list[str]) -> None:
    began = time.monotonic()
    environment = {"CALLWRIGHT_BUILD_NETWORK": "host", "CALLWRIGHT_BUILD_CA": _own_authorities(), **_buildkit(engine)}
    argv = [*engine.compose, "--profile", "load", "build", service]
    try:
        engine.run(argv, 600, environment, ROOT / "docker")
    except DockerFailed as error:
        if "is expired" not in str(error):
            raise
        engine.run(argv, 600, {**environment, "CALLWRIGHT_BUILD_APT_OPTIONS": STALE}, ROOT / "docker")
    say.append(f"image of {service}: {time.monotonic() - began:.0f} s")


def _buildkit(engine: Engine) -> dict[str, str]:
    """Use BuildKit, which Compose v2 always does, where this docker has it: in itself until 22, as a plugin since."""
    version = engine.docker("version", "--format", "{{.Client.Version}}")
    try:
        built_in = int(version.partition(".")[0]) < 23
        return {"DOCKER_BUILDKIT": "1"} if built_in or engine.docker("buildx", "version") else {}
    except DockerFailed:
        return {"DOCKER_BUILDKIT": "0"}


def _own_authorities() -> str:
    """The certificate authorities that were added to this machine, for builds behind something that inspects TLS."""
    found = sorted(Path("/usr/local/share/ca-certificates").rglob("*.crt"))
    return "\n".join(path.read_text().strip() for path in found)


def _ensure_base(engine: Engine, name: str) -> None:
    """Have a base image: the one that is there, the registry's, or one made here."""
    for argv in (["image", "inspect", name], ["pull", "--quiet", name]):
        try:
            engine.docker(*argv, timeout=120)
            return
        except DockerFailed:
            continue
    if os.geteuid() != 0:
        raise NoEngine(f"{name} cannot be pulled, and making it takes root")
    if name == "debian:forky" and (root := ensure_asterisk(lambda _: None).root) is not None:
        _import(engine, name, ["tar", "-C", str(root), "--numeric-owner", "--exclude=./proc/*", "--exclude=./dev/*", "-cf", "-", "."])
    else:
        _import(engine, name, ["cat", str(_bootstrapped(*BASES[name]))])


def _import(engine: Engine, name: str, tar: list[str]) -> None:
    with subprocess.Popen(tar, stdout=subprocess.PIPE) as source:
        assert source.stdout is not None
        engine.run(["docker", "import", "--change", 'CMD ["bash"]', "-", name], 300, stdin=source.stdout.fileno())
    assert source.returncode == 0, f"{tar[0]} failed"


def _bootstrapped(suite: str, script: str) -> Path:
    """A small Debian as a tar file, made once and kept."""
    kept = CACHE / f"debian-{suite}.tar"
    if kept.exists():
        return kept
    _install("debootstrap", "debootstrap")
    growing = kept.with_suffix(".new")
    with tempfile.TemporaryDirectory(prefix="cw-base-") as tree:  # in memory: debootstrap waits for the disk most of the time
        script_of = f"""
            mount -t tmpfs -o size=1g,mode=755 base {tree}
            debootstrap --variant=minbase {suite} {tree} {shlex.quote(_mirror())} {script}
            chroot {tree} apt-get clean
            echo force-unsafe-io > {tree}/etc/dpkg/dpkg.cfg.d/docker-apt-speedup
            tar -C {tree} --numeric-owner --exclude=./var/lib/apt/lists/* -cf {growing} .
        """
        argv = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", script_of]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=400, check=False)
    if done.returncode:
        raise NoEngine(f"debootstrap of {suite} failed: {(done.stdout + done.stderr)[-300:]}")
    growing.rename(kept)
    return kept


# -- the system -------------------------------------------------------------------------------------------------------------------


class Composed:
    """docker/compose.yaml, up under a project name and on ports of its own."""

    def __init__(self, engine: Engine, ports: Mapping[str, int]) -> None:
        self.engine = engine
        self.project = f"cwtest{os.getpid()}"
        self._environment = {f"CALLWRIGHT_PORT_{name.upper()}": str(port) for name, port in ports.items()}

    def compose(self, *argv: str, timeout: float = 60, **extra: str) -> str:
        """A command of compose for this project."""
        whole = [*self.engine.compose, "-p", self.project, "--profile", "load", *argv]
        return self.engine.run(whole, timeout, {**self._environment, **extra}, ROOT / "docker")

    def up(self) -> None:
        """Start everything but the load, and return when what others depend on is healthy."""
        whole = [*self.engine.compose, "-p", self.project, "up", "-d", "--no-build"]
        self.engine.run(whole, 180, self._environment, ROOT / "docker")

    def down(self) -> None:
        """Stop it and forget its volumes."""
        self.compose("down", "--volumes", "--timeout", "20", timeout=180)

    def container(self, service: str) -> str:
        """The id of a service's container; empty when there is none."""
        return self.compose("ps", "-q", service).strip()

    def health(self, service: str) -> str:
        """What Docker says of a service: healthy, unhealthy, starting, or the state of one without a health check."""
        state = json.loads(self.engine.docker("inspect", "--format", "{{json .State}}", self.container(service)))
        return str(state.get("Health", {}).get("Status", state["Status"]))

    def inside(self, service: str, *argv: str) -> str:
        """The output of a command in a service's container."""
        return self.engine.docker("exec", self.container(service), *argv)

    def logs(self) -> str:
        """Everything that every container said."""
        return self.compose("logs", "--no-color")
