"""Finding, or building, the Asterisk that a local PBX runs.

An `asterisk` of the user's own is taken when it is new enough: 22.10.1 closes two holes of ARI, so an older one is refused and said so.
Where there is none, one is built from Debian's packages in a directory tree of its own (debootstrap, then apt inside it), which leaves
the machine's packages alone. Three rules make that safe to repeat:

- every mount is made inside a private mount namespace, so it is gone when the command ends, whatever happens;
- the tree grows under another name and is renamed when it is whole, so a half-made one is never taken for a good one;
- a lock file lets one run build while others wait for it.
"""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

Say = Callable[[str], None]

FLOOR = (22, 10, 1)
DEFAULT_ROOT = Path("/var/cache/callwright/asterisk")
SUITES = ("forky", "sid")  # bookworm and trixie have no Asterisk
PACKAGES = ("asterisk", "asterisk-modules", "asterisk-core-sounds-en")
MARKER = "callwright-complete"
USER_ID = 61733  # in systemd's range for dynamic users: no account of the machine has it
_PROGRESS_SECONDS = 10.0
_DEBIAN_SUITE = re.compile(r"^(bookworm|trixie|forky|duke|sid|stable|oldstable|testing|unstable)(-updates|-backports)?/?$")


class InstallError(RuntimeError):
    """There is no usable Asterisk and none could be built; the message says why."""


@dataclass(frozen=True, slots=True)
class AsteriskInstall:
    """An Asterisk that can be started.

    `root` is the tree to enter first (None: the machine's own files). `version` is what `asterisk -V` says. `user` is the account that
    runs it, known inside `root`, and `uid`/`gid` its numbers; None means the account of the caller.
    """

    binary: Path
    version: str
    root: Path | None = None
    user: str | None = None
    uid: int | None = None
    gid: int | None = None

    def command(self, argv: Sequence[str], share: Path) -> list[str]:
        """The command line that runs `argv` with this install's files and with directory `share` under its own path."""
        if self.root is None:
            return list(argv)
        return _inside(self.root, argv, user=self.user, share=share)


def parse_version(text: str) -> tuple[int, ...] | None:
    """The numbers in `asterisk -V`'s answer, or None when there are none."""
    found = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else None


def ensure_asterisk(say: Say) -> AsteriskInstall:
    """The user's own Asterisk when it is good enough, else ours, built on first use (about a minute, needs root).

    `say` is given one line for each stage. Raises `InstallError`.
    """
    own = _own_asterisk(say)
    if own is not None:
        return own
    root = Path(os.environ.get("CALLWRIGHT_PBX_ROOT", str(DEFAULT_ROOT))).absolute()
    if not _is_complete(root):
        if os.geteuid() != 0:
            raise InstallError(f"no Asterisk >= {_floor()} found, and building one in {root} needs root")
        root.parent.mkdir(parents=True, exist_ok=True)
        with _locked(root, say):
            if not _is_complete(root):
                _build(root, say)
    if os.geteuid() != 0:
        raise InstallError(f"the Asterisk in {root} is entered with chroot, which needs root")
    version = _version_of(_inside(root, ["/usr/sbin/asterisk", "-V"]))
    say(f"Asterisk {version} in {root}")
    return AsteriskInstall(Path("/usr/sbin/asterisk"), version, root=root, user="asterisk", uid=USER_ID, gid=USER_ID)


def _floor() -> str:
    return ".".join(str(part) for part in FLOOR)


def _own_asterisk(say: Say) -> AsteriskInstall | None:
    found = shutil.which("asterisk", path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if found is None:
        return None
    try:
        text = _version_of([found, "-V"])
    except InstallError as error:
        say(f"{found} refused: {error}")
        return None
    if (parse_version(text) or ()) < FLOOR:
        say(f"{found} is Asterisk {text}: refused, {_floor()} is the oldest without known holes in ARI; using one of our own")
        return None
    say(f"using your own Asterisk {text} ({found})")
    user, uid, gid = _account("asterisk") if os.geteuid() == 0 else (None, None, None)
    return AsteriskInstall(Path(found), text, user=user, uid=uid, gid=gid)


def _account(name: str) -> tuple[str | None, int | None, int | None]:
    import pwd

    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None, None, None
    return name, entry.pw_uid, entry.pw_gid


def _version_of(argv: Sequence[str]) -> str:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InstallError(f"it does not start: {error}") from error
    numbers = parse_version(done.stdout)
    if done.returncode != 0 or numbers is None:
        raise InstallError(f"it does not tell its version: {(done.stdout + done.stderr).strip()[:200]}")
    return ".".join(str(part) for part in numbers)


def _is_complete(root: Path) -> bool:
    return (root / MARKER).is_file() and (root / "usr/sbin/asterisk").is_file()


@contextmanager
def _locked(root: Path, say: Say) -> Iterator[None]:
    with open(root.with_name(root.name + ".lock"), "w") as handle:
        os.set_inheritable(handle.fileno(), True)  # a builder that outlives us, were we killed, keeps the lock
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another run is building Asterisk; waiting for it")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _build(root: Path, say: Say) -> None:
    """Make the tree under another name; rename it when it is whole. The caller holds the lock."""
    growing = root.with_name(root.name + ".building")
    for leftover in (growing, root):
        _remove_tree(leftover, say)
    _need_tool("debootstrap", say)
    mirror = _mirror()
    _grow_base(growing, mirror, say)
    _grow_asterisk(growing, say)
    version = _version_of(_inside(growing, ["/usr/sbin/asterisk", "-V"]))
    if (parse_version(version) or ()) < FLOOR:
        raise InstallError(f"{mirror} has Asterisk {version}; {_floor()} or newer is needed")
    (growing / MARKER).write_text(version + "\n")
    growing.rename(root)


def _remove_tree(path: Path, say: Say) -> None:
    if not path.exists():
        return
    say(f"removing an unfinished tree: {path}")
    for mount in _mounts_under(path):
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
    if _mounts_under(path):
        raise InstallError(f"{path} still has something mounted in it; unmount it first")
    shutil.rmtree(path)


def _mounts_under(path: Path) -> list[str]:
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{path}/")), reverse=True)


def _need_tool(name: str, say: Say) -> None:
    if shutil.which(name):
        return
    if not shutil.which("apt-get"):
        raise InstallError(f"{name} is missing and this machine has no apt-get; install {name} or an Asterisk >= {_floor()} of your own")
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300"]
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    say(f"installing {name}")
    try:
        _run([*apt, "install", "-y", "--no-install-recommends", name], say, quiet)
    except InstallError:
        _run([*apt, "update"], say, quiet)
        _run([*apt, "install", "-y", "--no-install-recommends", name], say, quiet)


def _grow_base(growing: Path, mirror: str, say: Say) -> None:
    say(f"unpacking a small Debian from {_without_password(mirror)} (about 30 s)")
    for suite in SUITES:
        argv = ["debootstrap", "--variant=minbase", suite, str(growing), mirror, "sid"]
        try:
            _run(["unshare", "--mount", "--propagation", "private", *argv], say, _proxy())
            return
        except InstallError as error:
            if suite == SUITES[-1]:
                raise
            say(f"{suite}: {str(error).splitlines()[0]}; trying the next suite")
            _remove_tree(growing, say)


def _grow_asterisk(growing: Path, say: Say) -> None:
    say("installing Asterisk in it (about 15 s)")
    policy = growing / "usr/sbin/policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")  # no service starts inside the tree
    policy.chmod(0o755)
    _run(_inside(growing, ["groupadd", "--system", "--gid", str(USER_ID), "asterisk"]), say)
    home = ["--home-dir", "/var/lib/asterisk", "--shell", "/usr/sbin/nologin"]
    _run(_inside(growing, ["useradd", "--system", "--uid", str(USER_ID), "--gid", "asterisk", *home, "asterisk"]), say)
    environment = {"DEBIAN_FRONTEND": "noninteractive", **_proxy()}
    try:
        _run(_inside(growing, ["apt-get", "update"]), say, environment)
    except InstallError as error:
        if "expired" not in str(error) and "not valid" not in str(error):
            raise
        say("the mirror's index is past its date; taking it all the same")
        _run(_inside(growing, ["apt-get", "update", "-o", "Acquire::Check-Valid-Until=false"]), say, environment)
    _run(_inside(growing, ["apt-get", "install", "-y", "--no-install-recommends", *PACKAGES]), say, environment)
    _run(_inside(growing, ["apt-get", "clean"]), say)


def _inside(root: Path, argv: Sequence[str], user: str | None = None, share: Path | None = None) -> list[str]:
    """Run `argv` inside `root`, with /proc, /dev and `share` mounted for it alone; the process keeps the id of this command."""
    script = ['root=$1 share=$2; shift 2; mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"']
    script.append('if [ -e /etc/hosts ]; then touch "$root/etc/hosts"; mount --bind /etc/hosts "$root/etc/hosts"; fi')  # its own name
    if share is not None:
        script.append('mkdir -p "$root$share"; mount --bind "$share" "$root$share"')
    script.append('exec chroot ${CW_USERSPEC:+--userspec="$CW_USERSPEC"} "$root" "$@"')
    environment = ["env", "-u", "CW_USERSPEC", *([f"CW_USERSPEC={user}:{user}"] if user else []), "LC_ALL=C.UTF-8"]
    enter = ["unshare", "--mount", "--propagation", "private", "--", "/bin/sh", "-ec", "; ".join(script), "sh"]
    return [*environment, *enter, str(root), str(share or ""), *argv]


def _run(argv: Sequence[str], say: Say, environment: Mapping[str, str] | None = None) -> None:
    """Run to the end, with a line every ten seconds so that nobody thinks it hangs; on failure raise with the end of its output."""
    with tempfile.TemporaryFile("w+", errors="replace") as output:
        started = time.monotonic()
        process = subprocess.Popen(
            argv,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
            close_fds=False,
        )
        try:
            while True:
                try:
                    status = process.wait(_PROGRESS_SECONDS)
                    break
                except subprocess.TimeoutExpired:
                    say(f"  ... {time.monotonic() - started:.0f} s")
        except BaseException:
            process.kill()
            process.wait()
            raise
        if status != 0:
            output.seek(0)
            tail = "\n".join(output.read().splitlines()[-15:])
            names = [word for word in argv if word in {"debootstrap", "apt-get", "groupadd", "useradd"}]
            raise InstallError(f"{names[0] if names else argv[0]} failed with status {status}:\n{tail}")


def _mirror() -> str:
    """The Debian mirror that this machine's own apt uses; raises `InstallError` when it uses none."""
    folder = Path("/etc/apt")
    for path in [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]:
        if path.suffix not in {".list", ".sources"} or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        for uri, suite in _deb822_sources(text) if path.suffix == ".sources" else _one_line_sources(text):
            if _DEBIAN_SUITE.match(suite):
                resolved = _resolved(uri)
                if resolved:
                    return resolved
    raise InstallError("apt on this machine names no Debian mirror to take Asterisk from; install asterisk 22.10.1 or newer yourself")


def _one_line_sources(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        words = re.sub(r"\[[^]]*\]", "", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            yield words[1], words[2]


def _deb822_sources(text: str) -> Iterator[tuple[str, str]]:
    for stanza in re.split(r"\n\s*\n", text):
        fields: dict[str, list[str]] = {}
        name = ""
        for line in stanza.splitlines():
            if line.startswith("#"):
                continue
            if line[:1].isspace():
                fields.setdefault(name, []).extend(line.split())
            elif ":" in line:
                name, _, rest = line.partition(":")
                name = name.strip().lower()
                fields[name] = rest.split()
        if "deb" in fields.get("types", []) and fields.get("enabled") != ["no"]:
            yield from ((uri, suite) for uri in fields.get("uris", []) for suite in fields.get("suites", []))


def _resolved(uri: str) -> str | None:
    """A plain http(s) or file address; apt's `mirror+file:` lists are followed to their first entry."""
    if uri.startswith("mirror+file:"):
        try:
            lines = Path(uri.removeprefix("mirror+file:")).read_text().split()
        except OSError:
            return None
        uri = lines[0] if lines else ""
    return uri.rstrip("/") if uri.startswith(("http://", "https://", "file:")) else None


def _proxy() -> dict[str, str]:
    """The proxy that apt is told to use, for debootstrap and for the apt inside the tree."""
    try:
        dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=20).stdout
    except OSError:
        return {}
    pairs = re.findall(r'^Acquire::(https?)::Proxy "([^"]+)";', dump, re.MULTILINE)
    return {f"{scheme}_proxy": address for scheme, address in pairs if address != "DIRECT"}


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)
