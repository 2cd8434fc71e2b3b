"""The same calls on the simulator and on a real Asterisk take the same steps by the same exits, and end alike.

The files are the demo's, but that who is asked for a key has a second to press it, and that some prompts are short.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import yaml

from app.testing.project import Project
from tests.e2e.house import LATE, MAILED, NO_MAIL, PREMIUM, UNKNOWN, LiveHouse
from tests.e2e.same_path import Line, RealLine, VirtualLine
from tests.e2e.variant import project, restarted

SHORT = ("nothing_heard", "mail_is_sent", "not_found", "about_tracking", "to_any_agent", "to_premium_agent", "goodbye")


def premium_caller_talks(line: Line) -> None:
    line.agent("101")
    line.dial(PREMIUM)
    line.reaches("greet")
    line.presses("1")


def ordinary_caller_is_mailed(line: Line) -> None:
    line.dial(MAILED)
    line.reaches("greet")
    line.presses("1")


def stranger_gives_a_reference(line: Line) -> None:
    line.agent("101")
    line.dial(UNKNOWN)
    line.reaches("ask_reference")
    line.presses("4424777#")


def stranger_gives_a_reference_that_nobody_has(line: Line) -> None:
    line.agent("103")
    line.dial(UNKNOWN)
    line.reaches("ask_reference")
    line.presses("1111111#")


def stranger_gives_no_reference(line: Line) -> None:
    line.agent("103")
    line.dial("anonymous")
    line.reaches("ask_reference")
    line.presses("#")


def late_payer_talks_to_billing(line: Line) -> None:
    line.agent("105")
    line.dial(LATE)


def without_an_address_an_agent_is_offered_and_declined(line: Line) -> None:
    line.dial(NO_MAIL)
    line.reaches("offer_agent")
    line.presses("2")


def caller_hangs_up_when_asked(line: Line) -> None:
    line.dial(UNKNOWN)
    line.reaches("ask_reference")
    line.presses("442")
    line.hangs_up()


def crm_is_down(line: Line) -> None:
    line.crm_is_down()
    line.agent("103")
    line.dial(PREMIUM)


SCENARIOS: dict[Callable[[Line], None], tuple[tuple[str, str], str]] = {
    premium_caller_talks: (("premium_queue", "talked"), "answered"),
    ordinary_caller_is_mailed: (("mail", "sent"), "self_service"),
    stranger_gives_a_reference: (("look_up_reference", "found"), "answered"),
    stranger_gives_a_reference_that_nobody_has: (("look_up_reference", "none"), "answered"),
    stranger_gives_no_reference: (("ask_reference", "no_input"), "answered"),
    late_payer_talks_to_billing: (("billing", "talked"), "answered"),
    without_an_address_an_agent_is_offered_and_declined: (("offer_agent", "key 2"), "self_service"),
    caller_hangs_up_when_asked: (("ask_reference", ""), "hung_up"),
    crm_is_down: (("recognise", "failed"), "answered"),
}
"""Each with an exit that makes it what it is, and its outcome."""
all_scenarios = pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = project(tmp_path_factory.mktemp("same-path"))
    path = folder / "flows" / "order-status.yaml"
    flow = yaml.load(path.read_text(), yaml.BaseLoader)
    flow["steps"]["ask_reference"]["first_key"] = "1"
    flow["prompts"].update(dict.fromkeys(SHORT, dict.fromkeys(("en", "de", "es"), "One moment, please.")))
    path.write_text(yaml.safe_dump(flow, sort_keys=False))
    return folder


@pytest.fixture(scope="module")
def simulated(files: Path) -> Project:
    return Project.load(files)


@pytest.fixture(scope="module")
def real_house(running_house: LiveHouse, files: Path) -> Iterator[LiveHouse]:
    with restarted(running_house, CALLWRIGHT_PROJECT=str(files)):
        yield running_house


@all_scenarios
def test_the_simulated_call_is_what_it_should_be(scenario: Callable[[Line], None], simulated: Project) -> None:
    line = VirtualLine(simulated)
    scenario(line)
    path, outcome = line.ends()
    mark, ending = SCENARIOS[scenario]
    assert mark in path
    assert outcome == ending


@pytest.mark.pbx
@all_scenarios
def test_the_real_call_takes_the_same_path(scenario: Callable[[Line], None], simulated: Project, real_house: LiveHouse) -> None:
    virtual = VirtualLine(simulated)
    scenario(virtual)
    with ExitStack() as stack:
        real = RealLine(real_house, stack)
        scenario(real)
        assert real.ends() == virtual.ends()
    real_house.check()
