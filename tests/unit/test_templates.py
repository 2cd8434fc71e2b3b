"""The templates that ship: each is right, has nothing to warn of, and its own tests take every exit; and `callwright new` copies them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from app.actions.files import load_actions
from app.actions.samples import check_samples
from app.cli import app
from app.core.flow.program import Program
from app.new_cli import HOTLINE, TEMPLATES, templates
from app.proving import prove_files, read_flows

ROOT = Path(__file__).parents[2]
NAMES = sorted(set(templates()) - {HOTLINE})
SEVEN = {
    "order-processing",
    "financial-services",
    "account-management",
    "billing",
    "service-provisioning",
    "workflow",
    "fault-management",
}
"""The applications for which a template has to ship."""


def simulated(*folders: Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run projects' own tests, as their owners would, demanding that they take every exit."""
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "app.testing.plugin", "-p", "no:cacheprovider")
    argv = [*pytest_, "--flow-coverage-fail-under", "100", *map(str, folders)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(argv, cwd=cwd, env=environment, capture_output=True, text=True, timeout=90, check=False)


@cache
def all_simulated() -> subprocess.CompletedProcess[str]:
    return simulated(*(TEMPLATES / name for name in NAMES))


def program(name: str) -> Program:
    (context,) = read_flows(TEMPLATES / name)
    return context.program


def test_there_is_a_template_for_each_of_the_seven_applications() -> None:
    assert set(NAMES) == SEVEN | {"voice-menu"}


@pytest.mark.parametrize("name", NAMES)
def test_a_template_is_proven_without_a_mistake_or_a_warning(name: str) -> None:
    proven = prove_files(TEMPLATES / name)
    assert (proven.problems, [finding for report in proven.reports for finding in report.findings]) == ((), [])
    assert all(report.longest.seconds for report in proven.reports), "there is a longest time to a person or a goodbye"


@pytest.mark.parametrize("name", NAMES)
def test_the_samples_of_a_templates_actions_hold(name: str) -> None:
    assert check_samples(load_actions(TEMPLATES / name / "actions")) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_templates_own_tests_pass_and_take_every_exit(name: str) -> None:
    done = all_simulated()
    told = re.search(rf"app/templates/{name}/flows/\S+  \S+: (\d+) of (\d+), 100 %", done.stdout)
    assert told, done.stdout + done.stderr
    assert int(told[1]) == int(told[2]) > 30
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("name", NAMES)
def test_a_template_has_what_everybody_needs(name: str) -> None:
    flow = program(name)
    assert flow.reach_a_person is not None, "a person is reached from everywhere"
    assert flow.reach_a_person.key == "0"
    assert flow.dnis == ("1000",), "the number that `callwright up` tells newcomers to call"
    assert len((TEMPLATES / name / "README.md").read_text().splitlines()) <= 11


def test_together_they_show_the_language() -> None:
    kinds = {node.do for name in NAMES for node in program(name).steps.values()}
    wanted = {"say", "menu", "collect", "confirm", "lookup", "action", "set", "switch", "wait_for", "gather", "queue", "email", "hours"}
    assert kinds >= wanted | {"language", "release", "hangup"}
    assert any(program(name).automations for name in NAMES)
    assert program("account-management").speaks() == ("en", "de", "es")


# ---- callwright new -------------------------------------------------------------------------------------------------------


def test_a_new_project_passes_its_own_tests_at_once(tmp_path: Path) -> None:
    target = tmp_path / "acme-hotline"
    made = CliRunner().invoke(app, ["new", str(target)])
    assert made.exit_code == 0, made.output
    for next_ in (f"callwright check {target}", f"pytest {target}", f"callwright up --project {target}"):
        assert next_ in made.output
    done = simulated(target, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r"\d+ passed", done.stdout)
    assert f"{target.name}/flows/" in done.stdout, "it is the copy that was tested"


@pytest.mark.parametrize("template", [*NAMES, HOTLINE])
def test_a_new_project_of_any_template_is_right(tmp_path: Path, template: str) -> None:
    target = tmp_path / "acme"
    assert CliRunner().invoke(app, ["new", str(target), "--template", template]).exit_code == 0
    checked = CliRunner().invoke(app, ["check", str(target)])
    assert checked.exit_code == 0, checked.output
    assert "nothing wrong: flows for 1000" in checked.output
    assert list(target.glob("tests/test_*.py"))
    assert not list(target.rglob("__pycache__"))


def test_a_new_project_has_its_own_name_and_begins_with_orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert CliRunner().invoke(app, ["new", "acme"]).exit_code == 0
    assert (tmp_path / "acme" / "README.md").read_text().startswith("# acme\n\nOrder hotline. Callers of high value")
    assert sorted(path.name for path in (tmp_path / "acme").iterdir()) == ["README.md", "actions", "centre.yaml", "flows", "tests"]


@pytest.mark.parametrize("what", ["folder", "file", "link"])
def test_nothing_is_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    monkeypatch.chdir(tmp_path)
    target = tmp_path / "acme"
    if what == "folder":
        target.mkdir()
    elif what == "file":
        target.write_text("mine")
    else:
        target.symlink_to(tmp_path / "nowhere")
    refused = CliRunner().invoke(app, ["new", "acme"])
    assert refused.exit_code == 2
    assert "acme is there already" in refused.output
    assert target.read_text() == "mine" if what == "file" else not list(tmp_path.rglob("centre.yaml"))


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["acme", "--template", "biling"], "did you mean 'billing'"),
        ([".hidden"], "begins with a letter"),
        (["a b"], "begins with a letter"),
    ],
)
def test_what_cannot_be_made_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], told: str) -> None:
    monkeypatch.chdir(tmp_path)
    refused = CliRunner().invoke(app, ["new", *arguments], env={"COLUMNS": "200"})
    assert refused.exit_code == 2
    assert told in refused.output
    assert list(tmp_path.iterdir()) == []
