"""The pytest plugin as its users meet it: pytest run on projects of their own."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

import app.testing.centre  # noqa: F401  (once for all runs in this process)

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
DEMO = ROOT / "app" / "demo"

FLOW = """
flow: tiny
title: Tiny
dnis: ["7000"]
start: ask
on_error: bye
prompts: {question: "Press 1 for a person.", again: "Press 1.", goodbye: "Goodbye."}
steps:
  ask:
    do: menu
    prompt: question
    choices: {"1": person}
    retry_no_match: again
    retry_no_input: again
    exits:
      no_match: bye
      no_input: bye
  person:
    do: queue
    queue: all
    exits: {talked: end, no_agents: bye, too_long: bye, failed: bye}
  bye:
    do: say
    prompt: goodbye
    exits: {done: end}
  end: {do: hangup}
"""
CENTRE = """
queues: {all: {title: Everybody}}
agents: {anna: {name: Anna, queues: [all]}}
"""
GOES_WELL = """
def test_a_person_is_reached(centre):
    anna = centre.agent("anna").ready()
    call = centre.dial("+4930123456").hears("question").presses("1")
    anna.answers()
    assert (call.queue, call.agent) == ("all", "anna")
    call.waits(minutes=2).hangs_up()
    assert call.outcome == "answered"
"""
REST = """
def test_nobody_is_there(centre):
    assert centre.dial().hears("question").presses("1").hears("goodbye").ends().path[1] == ("person", "no_agents")

def test_nothing_is_pressed(centre):
    centre.dial().hears("Press 1 for a person").hears("again").hears("again").hears("goodbye").ends()

def test_something_else_is_pressed(centre):
    centre.dial().hears("question").presses("5").hears("again").presses("5").hears("again").presses("5").hears("goodbye").ends()

def test_nobody_answers(centre):
    centre.agent("Anna").ready().not_ready()
    centre.dial().hears("question").presses("1").waits(minutes=10).hears("goodbye").ends()

def test_a_person_hangs_up(centre):
    centre.agent("Anna").ready().always_answers(talks=10)
    centre.dial().hears("question").presses("1").ends()
"""


@pytest.fixture(autouse=True)
def these_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    """What runs is what is here, wherever the installed one is."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def tiny(pytester: pytest.Pytester) -> Path:
    """A project in the folder that pytest is run in."""
    for folder in ("flows", "actions", "tests"):
        pytester.mkdir(folder)
    (pytester.path / "flows" / "tiny.yaml").write_text(FLOW)
    (pytester.path / "centre.yaml").write_text(CENTRE)
    return pytester.path


def run(pytester: pytest.Pytester, *args: str, alone: bool = False, **files: str) -> pytest.RunResult:
    """Run pytest on these files; `alone` in a process of its own, which takes a second longer."""
    for name, text in files.items():
        (pytester.path / "tests" / f"test_{name}.py").write_text(dedent(text))
    runs = pytester.runpytest_subprocess if alone else pytester.runpytest_inprocess
    return runs("-p", "app.testing.plugin", "-p", "no:asyncio", "-p", "no:cacheprovider", "-q", *args)


def test_a_test_needs_to_import_nothing(pytester: pytest.Pytester, tiny: Path) -> None:
    result = run(pytester, well=GOES_WELL)
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(
        [
            "*coverage of flows: exits taken*",
            "flows/tiny.yaml  tiny: 1 of 8, 12 %",
            "  flows/tiny.yaml:16: never taken: step ask, exit no_match",
            "  flows/tiny.yaml:25: never taken: step bye, exit done",
        ]
    )


def test_coverage_that_is_too_little_fails_the_run_and_enough_does_not(pytester: pytest.Pytester, tiny: Path) -> None:
    assert run(pytester, "--flow-coverage-fail-under", "100", well=GOES_WELL).ret == pytest.ExitCode.TESTS_FAILED
    result = run(pytester, "--flow-coverage-fail-under", "100", well=GOES_WELL, rest=REST)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["flows/tiny.yaml  tiny: 8 of 8, 100 %"])


def test_coverage_of_several_processes_is_added_up(pytester: pytest.Pytester, tiny: Path) -> None:
    result = run(pytester, "-n", "2", "--dist", "loadfile", "--flow-coverage-fail-under", "100", alone=True, well=GOES_WELL, rest=REST)
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["flows/tiny.yaml  tiny: 8 of 8, 100 %"])


def test_a_caller_left_in_silence_fails_a_test_that_passes(pytester: pytest.Pytester, tiny: Path) -> None:
    silent = """
        def test_waiting(centre):
            from app.core.commands import StartMusic
            centre.on(StartMusic, lambda command: None)
            centre.agent("anna").ready()
            centre.dial().hears("question").presses("1").waits(5)
    """
    result = run(pytester, silent=silent)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*silence of 5.0 s at step person*"])


@pytest.mark.parametrize("way", ["option", "ini"])
def test_the_project_may_be_elsewhere(pytester: pytest.Pytester, way: str) -> None:
    pytester.mkdir("tests")
    if way == "ini":
        pytester.makeini(f"[pytest]\ncallwright_project = {DEMO}\n")
    elsewhere = 'def test_it(centre):\n    centre.dial("+4930000000").hears("ask_reference").hangs_up()\n'
    run(pytester, *(["--callwright-project", str(DEMO)] if way == "option" else []), it=elsewhere).assert_outcomes(passed=1)


def test_where_there_is_no_project_it_is_said_how_to_name_one(pytester: pytest.Pytester) -> None:
    pytester.mkdir("tests")
    result = run(pytester, it="def test_it(centre):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*no centre.yaml in * name the project with --callwright-project or callwright_project*"])


def test_without_flow_tests_nothing_is_said_and_nothing_is_read(pytester: pytest.Pytester) -> None:
    pytester.mkdir("tests")
    plain = "import sys\ndef test_it():\n    assert 'app.core.center' not in sys.modules\n"
    result = run(pytester, alone=True, plain=plain)
    result.assert_outcomes(passed=1)
    result.stdout.no_fnmatch_line("*coverage of flows*")
