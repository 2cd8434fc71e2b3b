"""Finding or refusing an Asterisk, and the files of a local PBX. Nothing is started here."""

from __future__ import annotations

import stat
import wave
from pathlib import Path

import pytest

from app.pbx import local_install
from app.pbx.local import AgentPhone, LocalPbx, PbxError, PbxPorts
from app.pbx.local_install import AsteriskInstall, parse_version
from app.pbx.local_music import write_music

PORTS = PbxPorts(sip=15060, ari=18088, ami=15038, rtp_start=30000, rtp_end=30100, agi=14573)
OWN = AsteriskInstall(Path("/usr/sbin/asterisk"), "22.10.1")
AGENTS = (AgentPhone('Anna "the" Voice\n[evil]', "101"), AgentPhone("Ben", "102"))


def pbx(directory: Path, **options: object) -> LocalPbx:
    return LocalPbx(OWN, directory, PORTS, **{"agents": AGENTS, **options})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "version"),
    [("Asterisk 22.10.1+dfsg+~cs6", (22, 10, 1)), ("Asterisk 18.9.0", (18, 9, 0)), ("Asterisk GIT-master", None), ("", None)],
)
def test_version_is_read_from_what_asterisk_says(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


def fake_asterisk(folder: Path, says: str) -> Path:
    program = folder / "asterisk"
    program.write_text(f"#!/bin/sh\necho '{says}'\n")
    program.chmod(0o755)
    return program


def test_asterisk_of_the_user_is_preferred_when_it_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = fake_asterisk(tmp_path, "Asterisk 22.10.2")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    found = local_install.ensure_asterisk(lambda _: None)
    assert (found.binary, found.version, found.root) == (program, "22.10.2", None)


def test_older_asterisk_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake_asterisk(tmp_path, "Asterisk 22.9.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    said: list[str] = []
    assert local_install._own_asterisk(said.append) is None
    assert "22.9.0" in said[0]
    assert "refused" in said[0]
    assert "22.10.1" in said[0]


def test_mirror_is_read_from_both_kinds_of_apt_sources() -> None:
    deb822 = (
        "Types: deb deb-src\nURIs: http://mirror.example/debian\nSuites: bookworm\n bookworm-updates\n\n"
        "Types: deb\nEnabled: no\nURIs: http://no/\nSuites: sid\n"
    )
    assert list(local_install._deb822_sources(deb822)) == [("http://mirror.example/debian", s) for s in ("bookworm", "bookworm-updates")]
    line = "# deb http://no/ sid main\ndeb [arch=amd64 signed-by=/k.gpg] http://m/debian trixie main #\ndeb-src http://m/debian sid main\n"
    assert list(local_install._one_line_sources(line)) == [("http://m/debian", "trixie")]


def test_secrets_are_made_once_are_long_and_only_the_owner_may_read_them(tmp_path: Path) -> None:
    first, again = pbx(tmp_path).secrets, pbx(tmp_path).secrets
    assert first == again
    assert len({first.ari, first.ami, *first.agents.values()}) == 4
    assert all(len(secret) >= 32 for secret in (first.ari, first.ami, *first.agents.values()))
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600
    assert first.ari not in repr(first)


@pytest.mark.parametrize(
    "weak", ["asterisk", "short", "aaaaaaaaaaaaaaaaaaaaaaaa", "has a space and is long", "semi;colon-in-the-middle-of-it"]
)
def test_weak_or_odd_secret_is_refused(tmp_path: Path, weak: str) -> None:
    with pytest.raises(PbxError, match="ARI password is weak or has odd characters"):
        _ = pbx(tmp_path, ari_secret=weak).secrets


@pytest.mark.parametrize("name", ["", "a,b", "x]\n[y", "ü", "a" * 41])
def test_name_that_would_break_a_configuration_file_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(PbxError, match="cannot be a name on the PBX"):
        pbx(tmp_path, app=name)


def test_files_hold_the_ports_and_include_what_is_shipped(tmp_path: Path) -> None:
    local = pbx(tmp_path, queues=("orders",), extra={"extensions.conf": "[bench]\n"})
    local.write_config()
    etc = tmp_path / "etc"
    text = {path.name: path.read_text() for path in etc.iterdir()}
    assert "bindport = 18088" in text["http.conf"]
    assert "bind = 127.0.0.1:15060" in text["pjsip.conf"]
    assert "CALLWRIGHT_AGI = 127.0.0.1:14573" in text["extensions.conf"]
    assert text["extensions.conf"].endswith("[bench]\n")
    assert "[callwright-orders](callwright-queue)" in text["queues.conf"]
    assert not [name for name, body in text.items() if local.secrets.ari in body and (etc / name).stat().st_mode & 0o007]
    for name, body in text.items():
        for line in body.splitlines():
            if line.startswith("#include") and '"' not in line:
                assert line.split()[1] in text, f"{name} includes a file that is not there: {line}"
    assert not any("0.0.0.0" in line and line.replace(" ", "").startswith("bind") for body in text.values() for line in body.splitlines())


def test_name_of_an_agent_cannot_add_a_section(tmp_path: Path) -> None:
    local = pbx(tmp_path)
    local.write_config()
    lines = (tmp_path / "etc" / "pjsip.conf").read_text().splitlines()
    assert not any(line.startswith("[evil]") for line in lines)
    assert 'callerid = "Anna the Voiceevil" <101>' in lines


def test_only_known_modules_are_loaded_and_no_dangerous_one(tmp_path: Path) -> None:
    pbx(tmp_path).write_config()
    text = (tmp_path / "etc" / "callwright-modules.conf").read_text()
    loaded = {line.split("=")[1].strip() for line in text.splitlines() if line.startswith("load")}
    assert "autoload = no" in text
    assert not loaded & {
        f"{name}.so" for name in ("app_system", "func_shell", "func_env", "func_curl", "chan_iax2", "app_originate", "app_disa")
    }


def test_music_can_be_heard_and_loops_without_a_seam(tmp_path: Path) -> None:
    write_music(tmp_path / "m.wav")
    with wave.open(str(tmp_path / "m.wav")) as music:
        assert (music.getframerate(), music.getnchannels(), music.getsampwidth()) == (8000, 1, 2)
        assert 10 < music.getnframes() / 8000 < 15
        data = memoryview(music.readframes(music.getnframes())).cast("h")
    for second in range(len(data) // 8000):
        assert max(map(abs, data[second * 8000 : (second + 1) * 8000])) > 1000
    assert max(map(abs, data)) < 20000
    assert abs(data[0] - data[-1]) < 2000
