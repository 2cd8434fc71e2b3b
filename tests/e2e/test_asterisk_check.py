"""`callwright asterisk check` on a real Asterisk: ours lacks nothing, and what is taken away is named."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from app.pbx.check import AsteriskAccess, Finding, check_asterisk, check_files, judge_actions
from app.pbx.local import LocalPbx
from tests.pbx import free_pbx_ports, running_pbx

pytestmark = pytest.mark.pbx


def access(pbx: LocalPbx) -> AsteriskAccess:
    return AsteriskAccess(
        pbx.ari_url,
        pbx.ari_user,
        pbx.secrets.ari,
        ami_port=pbx.ports.ami,
        ami_user=pbx.ami_user,
        ami_secret=pbx.secrets.ami,
        config=pbx.directory / "etc",
    )


async def test_pbx_of_our_own_lacks_nothing(bare_pbx: LocalPbx) -> None:
    assert await check_asterisk(access(bare_pbx)) == []


async def test_missing_modules_contexts_and_rights_are_named(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> None:
    shipped = tmp_path / "shipped"
    shipped.mkdir()
    for file in (Path(__file__).parents[2] / "asterisk-config").glob("*.conf"):
        text = file.read_text().replace("load = func_frame_drop.so\n", "").replace("load = app_queue.so\n", "load = func_shell.so\n")
        text = text.replace("[callwright-return]", "[something-else]").replace("read_only = no", "read_only = yes")
        (shipped / file.name).write_text(text.replace("write = call,agent,reporting", "write = reporting,originate"))
    with running_pbx(tmp_path_factory.mktemp("poor"), shipped=shipped) as pbx:
        found = await check_asterisk(access(pbx))
    what = {finding.what for finding in found}
    assert {"module func_frame_drop is not running", "module app_queue is not running", "module func_shell is loaded"} <= what
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


def test_actions_are_compared_whatever_their_case() -> None:
    assert judge_actions({"redirect", "STATUS", "DeviceStateList", "queuelog"}) == []
    assert isinstance(judge_actions(set())[0], Finding)
