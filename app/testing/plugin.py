"""The pytest plugin: a `centre` fixture with nothing to import, the checks after each test, and the coverage of flows.

It comes with `pip install callwright[testing]`, and pytest finds it by itself:

    def test_a_stranger_is_known_by_the_reference(centre):
        centre.action("crm.contact_by_reference").answers(sample="premium_with_an_order", skills={"lang.en": 5})
        centre.agent("Alice").ready().not_ready("lunch")
        call = centre.dial("+4930123456", crm=1.0)
        call.hears("welcome").hears("ask_reference").presses("7332215#")
        call.waits(minutes=5)
        assert call.queue == "premium" and call.position == 1

The project is the nearest folder above the test that has a `centre.yaml`, unless `--callwright-project` or the ini option
`callwright_project` names one. After a test that used `centre` and passed, no caller may have heard more than 1.5 s of silence, and every
call must have ended or be where a person or a deadline acts (`VirtualCentre.problems`).
"""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from app.testing.centre import VirtualCentre
    from app.testing.coverage import Coverage, FlowReport
    from app.testing.project import Project

CENTRE = pytest.StashKey["VirtualCentre"]()
FLOWS = pytest.StashKey["Flows"]()
WORKER_OUTPUT = "callwright_flow_coverage"


class Flows:
    """What one run of pytest knows: the projects it has read, and what was taken of their flows."""

    def __init__(self) -> None:
        self.projects: dict[Path, Project] = {}
        self._coverage: Coverage | None = None

    @property
    def coverage(self) -> Coverage:
        from app.testing.coverage import Coverage

        self._coverage = self._coverage or Coverage()
        return self._coverage

    def reports(self) -> list[FlowReport]:
        """Nothing, where no test was about a flow."""
        return self._coverage.report() if self._coverage else []

    def project(self, path: Path) -> Project:
        from app.testing.project import Project

        if path not in self.projects:
            self.projects[path] = Project.load(path)
        return self.projects[path]


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("callwright", "flows of a call centre")
    group.addoption("--callwright-project", metavar="FOLDER", help="the project that `centre` is about (the nearest centre.yaml)")
    group.addoption(
        "--flow-coverage-fail-under",
        metavar="PERCENT",
        type=float,
        help="fail when fewer of all exits of the flows were taken",
    )
    parser.addini("callwright_project", "the project that `centre` is about, relative to the ini file", default="")


def pytest_configure(config: pytest.Config) -> None:
    config.stash[FLOWS] = Flows()


@pytest.fixture
def centre(request: pytest.FixtureRequest) -> VirtualCentre:
    """A centre of its own for this test: the project's flows, queues and agents, on virtual time."""
    from app.testing.centre import VirtualCentre

    flows = request.config.stash[FLOWS]
    made = VirtualCentre(flows.project(_project_folder(request)), flows.coverage)
    request.node.stash[CENTRE] = made
    return made


def _project_folder(request: pytest.FixtureRequest) -> Path:
    from app.testing.project import NoProject, find_project

    config = request.config
    named, ini = config.getoption("--callwright-project"), config.getini("callwright_project")
    try:
        if named:
            return find_project((config.invocation_params.dir / named).resolve())
        beside = config.inipath.parent if config.inipath else config.rootpath
        return find_project(((beside / ini) if ini else request.path.parent).resolve())
    except NoProject as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, Any, Any]:
    """A test that passed so far fails when a caller was left in silence, or without anybody who acts."""
    result = yield
    made = item.stash.get(CENTRE, None)
    if made is not None and (problems := made.problems()):
        pytest.fail("\n".join(problems), pytrace=False)
    return result


# ---- coverage ------------------------------------------------------------------------------------------------------------


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    config = session.config
    flows = config.stash[FLOWS]
    if hasattr(config, "workeroutput"):
        config.workeroutput[WORKER_OUTPUT] = flows.coverage.dump()
    elif _too_little(config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """A worker of pytest-xdist is done: what it has taken counts too."""
    node.config.stash[FLOWS].coverage.merge(getattr(node, "workeroutput", {}).get(WORKER_OUTPUT, ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    reports = config.stash[FLOWS].reports()
    if not reports:
        return
    terminalreporter.section("coverage of flows: exits taken")
    for report in reports:
        share = 100.0 * report.taken / len(report.exits) if report.exits else 100.0
        terminalreporter.line(f"{_short(config, report.path)}  {report.flow}: {report.taken} of {len(report.exits)}, {share:.0f} %")
        for missing in report.missing:
            terminalreporter.line(f"  {_short(config, missing.file)}:{missing.line}: never taken: {missing}")
    if _too_little(config):
        terminalreporter.line(
            f"coverage of flows is {_percent(config):.1f} %; --flow-coverage-fail-under wants {_wanted(config):g}", red=True
        )


def _wanted(config: pytest.Config) -> float:
    wanted = config.getoption("--flow-coverage-fail-under")
    return 0.0 if wanted is None else float(wanted)


def _percent(config: pytest.Config) -> float:
    from app.testing.coverage import percent

    return percent(config.stash[FLOWS].reports())


def _too_little(config: pytest.Config) -> bool:
    return _wanted(config) > 0 and _percent(config) < _wanted(config)


def _short(config: pytest.Config, path: Path) -> Path:
    root = config.invocation_params.dir
    return path.relative_to(root) if path.is_relative_to(root) else path
