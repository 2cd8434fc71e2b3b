"""`callwright asterisk check` on a real Asterisk: ours lacks nothing, and what is taken away is named."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from app.pbx.check import AsteriskAccess, Finding, check_asterisk, check_files, judge_actions
from app.pbx.local import LocalPbx
from app.pbx.local_config import TONES
from tests.pbx import free_pbx_ports, running_pbx

pytestmark = pytest.mark.pbx
ROOT = Path(__file__).parents[2]


def access(pbx: LocalPbx) -> AsteriskAccess:
    return AsteriskAccess(
        pbx.ari_url,
        pbx.ari_user,
        pbx.secrets.ari,
        ami_port=pbx.ports.ami,
        ami_user=pbx.ami_user,
        ami_secret=pbx.secrets.ami,
        config=pbx.directory / "etc",
        tones=TONES,
    )


async def test_pbx_of_our_own_lacks_nothing(bare_pbx: LocalPbx) -> None:
    assert await check_asterisk(access(bare_pbx)) == []


async def test_missing_modules_contexts_and_rights_are_named(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for file in (ROOT / "asterisk-config").glob("*.conf"):
        text = file.read_text().replace("load = func_frame_drop.so\n", "").replace("load = app_queue.so\n", "load = func_shell.so\n")
        text = text.replace("load = func_talkdetect.so\n", "").replace("[callwright]\ndescription", "[another]\ndescription")
        text = text.replace("[callwright-return]", "[something-else]").replace("read_only = no", "read_only = yes")
        (shipped / file.name).write_text(text.replace("write = call,agent,reporting", "write = reporting,originate"))
    with running_pbx(tmp_path_factory.mktemp("poor"), shipped=shipped) as pbx:
        found = await check_asterisk(access(pbx))
    what = {finding.what for finding in found}
    assert {"module func_frame_drop is not running", "module app_queue is not running", "module func_shell is loaded"} <= what
    assert {"module func_talkdetect is not running", "indications.conf has no country callwright"} <= what
    assert {"ARI user callwright is read-only", "the dialplan has no context callwright-return"} <= what
    assert {"the AMI user may not Redirect", "the AMI user may not QueueLog", "the AMI user may do too much"} <= what
    assert [finding.level for finding in found] == sorted(finding.level for finding in found)
    assert all(finding.why and finding.how_to_fix for finding in found)


async def test_wrong_password_is_named_without_being_shown(bare_pbx: LocalPbx) -> None:
    wrong = replace(access(bare_pbx), ari_password="not-the-password", ami_secret="not-the-secret", config=None)
    found = await check_asterisk(wrong)
    assert [f.what for f in found] == ["ARI refuses the user callwright (401)", "AMI refuses the user callwright"]
    assert "not-the-" not in repr(found) + repr(wrong)


async def test_asterisk_that_does_not_run_is_two_findings() -> None:
    ports = free_pbx_ports()
    nobody = AsteriskAccess(f"http://127.0.0.1:{ports.ari}", "callwright", "x" * 32, ami_port=ports.ami, ami_user="callwright")
    found = await check_asterisk(nobody)
    assert [(f.level, f.what) for f in found] == [
        ("error", f"no ARI at http://127.0.0.1:{ports.ari}"),
        ("error", f"no AMI at 127.0.0.1:{ports.ami}"),
    ]


def test_unwise_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "ari.conf").write_text("[general]\nenabled=yes\n[asterisk]\ntype=user\npassword=asterisk\n")
    (tmp_path / "manager.conf").write_text("[general]\nenabled = yes\nbindaddr = 0.0.0.0 ; everywhere\n#include missing.conf\n")
    (tmp_path / "asterisk.conf").write_text("[options]\nlive_dangerously = yes\n")
    (tmp_path / "musiconhold.conf").write_text('#include "music.d/*.conf"\n[default]\nmode=files\n')
    assert [f.what for f in check_files(tmp_path)] == [
        "ari.conf: websocket_write_timeout is short",
        "ari.conf: the password of asterisk is weak",
        "manager.conf: open to every network",
        "asterisk.conf: live_dangerously = yes",
        "musiconhold.conf has no class callwright",
    ]


def test_tones_that_asterisk_does_not_have_are_named(tmp_path: Path) -> None:
    (tmp_path / "indications.conf").write_text("[general]\ncountry = us\n[us]\nring = 440+480/2000,0/4000\n")
    assert check_files(tmp_path) == []
    assert [f.what for f in check_files(tmp_path, "us")] == ["indications.conf has no country callwright"]
    assert [f.what for f in check_files(tmp_path, "de")] == [f"indications.conf has no country {name}" for name in ("callwright", "de")]


def test_actions_are_compared_whatever_their_case() -> None:
    assert judge_actions({"redirect", "STATUS", "DeviceStateList", "queuelog"}) == []
    assert isinstance(judge_actions(set())[0], Finding)


def command(*arguments: str, **secrets: str) -> subprocess.CompletedProcess[str]:
    """`callwright asterisk check`, as someone types it who has no settings of ours yet."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CALLWRIGHT_")}
    argv = [sys.executable, "-m", "app.cli", "asterisk", "check", *arguments]
    return subprocess.run(argv, cwd=ROOT, env={**environment, "COLUMNS": "160", **secrets}, capture_output=True, text=True, timeout=60)


def addresses(pbx: LocalPbx, state: Path) -> list[str]:
    return ["--state", str(state), "--ari-url", pbx.ari_url, "--ami-port", str(pbx.ports.ami)]


def test_command_says_that_nothing_is_missing(bare_pbx: LocalPbx, tmp_path: Path) -> None:
    secrets = {"CALLWRIGHT_ARI__PASSWORD": bare_pbx.secrets.ari, "CALLWRIGHT_AMI__SECRET": bare_pbx.secrets.ami}
    etc = ["--etc", str(bare_pbx.directory / "etc")]
    done = command(*addresses(bare_pbx, tmp_path), *etc, **secrets)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "nothing is missing" in done.stdout
    done = command(*addresses(bare_pbx, tmp_path), *etc, "--json", **secrets)
    assert (done.returncode, json.loads(done.stdout)) == (0, [])


def test_command_reads_the_settings_of_the_application(bare_pbx: LocalPbx, tmp_path: Path) -> None:
    settings = tmp_path / "callwright.toml"
    settings.write_text(
        f'[ari]\nurl = "{bare_pbx.ari_url}"\npassword = "{bare_pbx.secrets.ari}"\n'
        f'[ami]\nport = {bare_pbx.ports.ami}\nsecret = "{bare_pbx.secrets.ami}"\n'
    )
    for where in (["--config", str(settings)], ["--state", str(tmp_path)]):
        done = command(*where, "--etc", str(bare_pbx.directory / "etc"))
        assert done.returncode == 0, done.stdout + done.stderr
    settings.write_text("[ari]\npasword = 'x'\n")
    done = command("--config", str(settings))
    assert (done.returncode, done.stdout) == (78, "")
    assert "ari.pasword" in done.stderr


def test_command_names_what_is_wrong_and_how_to_mend_it_and_no_secret(bare_pbx: LocalPbx, tmp_path: Path) -> None:
    (tmp_path / "musiconhold.conf").write_text("[default]\nmode=files\n")
    secrets = {"CALLWRIGHT_ARI__PASSWORD": "not-the-password", "CALLWRIGHT_AMI__SECRET": "not-the-secret"}
    where = [*addresses(bare_pbx, tmp_path), "--etc", str(tmp_path)]
    done = command(*where, **secrets)
    assert done.returncode == 1
    said = " ".join(done.stdout.split())
    assert "error ARI refuses the user callwright (401)" in said
    assert "[callwright](callwright-ari-user)" in said, "what stands in brackets is text, not markup"
    assert "musiconhold.conf has no class callwright" in said
    assert "not-the-" not in done.stdout + done.stderr
    found = json.loads(command(*where, "--json", **secrets).stdout)
    assert [(f["level"], bool(f["why"]), bool(f["how_to_fix"])) for f in found] == [("error", True, True)] * 3


def test_command_without_a_folder_says_so(tmp_path: Path) -> None:
    done = command("--etc", str(tmp_path / "none"))
    assert done.returncode == 2
    assert "is not a folder" in done.stderr
