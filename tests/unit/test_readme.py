"""What the README shows is what there is."""

from __future__ import annotations

import re
from pathlib import Path

from typer.testing import CliRunner

from app.cli import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def test_the_flow_that_the_readme_opens_with_is_in_the_flow_that_ships() -> None:
    shown = re.search(r"```yaml\n(.*?)```", README, re.S)
    assert shown is not None
    assert shown[1] in (ROOT / "app/demo/flows/order-status.yaml").read_text()


def test_every_command_in_the_readme_exists() -> None:
    lines = re.findall(r"^callwright ([a-z ]+?)(?: [0-9a-f]{4})? {2,}#", README, re.M)
    assert len(lines) >= 6
    for line in lines:
        done = CliRunner().invoke(app, [*line.split(), "--help"])
        assert done.exit_code == 0, f"callwright {line}: {done.output}"


def test_every_make_target_in_the_readme_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"^make ([a-z]+)", README, re.M)):
        assert re.search(rf"^{target}:", makefile, re.M), target


def test_every_file_in_the_readme_exists() -> None:
    for path in re.findall(r"`((?:app|crm|docker|asterisk-config)/[a-z./_-]*)`", README):
        assert (ROOT / path).exists(), path


def test_the_steps_in_the_readme_are_those_of_the_language() -> None:
    from app.core.flow.steps import STEPS

    named = re.search(r"^Steps: (.*?)\. Each", README, re.S | re.M)
    assert named is not None
    assert set(re.findall(r"`([a-z_]+)`", named[1])) == {*STEPS, "release", "hangup"}
