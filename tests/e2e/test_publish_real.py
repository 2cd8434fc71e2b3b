"""A flow published, rolled back and killed under real calls: each call ends on the version it began with, and what it hears says so."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.hearing import has_heard
from tests.e2e.house import UNKNOWN, LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import until

pytestmark = [pytest.mark.pbx, pytest.mark.timeout(150)]

LIKE = 0.7
DIAL = "1705"
HELLO = {
    1: "Good morning, and thank you for calling the old bakery today.",
    2: "Here is the new bakery, where all of our bread is fresh.",
    3: "The third bakery of our town welcomes its customers warmly.",
}
BYE = {1: "The old bakery wishes you a good day.", 2: "Come back to the new bakery soon.", 3: "Goodbye from the third of them."}


def flow(n: int) -> str:
    return f"""
flow: bakery
dnis: ["{DIAL}"]
start: hello
on_error: bye
prompts: {{hello: "{HELLO[n]}", bye: "{BYE[n]}", ask: Please press one.}}
steps:
  hello: {{do: say, prompt: hello, exits: {{done: ask}}}}
  ask: {{do: menu, prompt: ask, choices: {{"1": bye}}, retry_no_match: ask, retry_no_input: ask, first_key: 60,
        exits: {{no_match: end, no_input: end}}}}
  bye: {{do: say, prompt: bye, exits: {{done: end}}}}
  end: {{do: hangup}}
"""


@pytest.fixture(scope="module")
def bakery(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The application runs with the bakery's flow; its file."""
    folder = project(tmp_path_factory.mktemp("bakery"), bakery=flow(1))
    with restarted(running_house, CALLWRIGHT_PROJECT=str(folder)):
        yield folder / "flows" / "bakery.yaml"


def start_again(house: LiveHouse) -> None:
    """The application dies, and the next one is started."""
    house.kill()
    house.start()


def callwright(house: LiveHouse, *argv: str) -> str:
    command = [sys.executable, "-m", "app.cli", "flow", *argv, "--state", str(house.installation.state)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def hears(house: LiveHouse, visit: Visit, text: str) -> None:
    """The caller has heard this text, by correlation with its recording."""
    sounds = house.installation.pbx(house.say.append).sounds_dir
    until(lambda: has_heard(visit.phone.rtp, text, sounds) > LIKE, 20, f"to hear {text!r}")


def presses_one(house: LiveHouse, visit: Visit) -> None:
    house.reaches(visit, "ask")
    visit.phone.rtp.press("1")


def versions(house: LiveHouse) -> dict[int, dict[str, Any]]:
    return {row["number"]: row for row in house.api("/v1/flows/bakery/versions")["versions"]}


def test_calls_of_two_versions_end_on_theirs_through_publishing_rolling_back_and_a_crash(
    house: LiveHouse, bakery: Path, tmp_path: Path
) -> None:
    second = tmp_path / "bakery.yaml"
    second.write_text(flow(2))
    with house.visit(UNKNOWN, DIAL) as old:
        house.reaches(old, "hello")
        assert callwright(house, "publish", str(second)) == "flow bakery: version 2 is active for every new call\n"
        with house.visit(UNKNOWN, DIAL) as new:
            hears(house, new, HELLO[2])
            hears(house, old, HELLO[1])
            for visit in (old, new):
                house.reaches(visit, "ask")
            assert {n: (row["state"], row["calls"]) for n, row in versions(house).items()} == {1: ("retired", 1), 2: ("active", 1)}

            bakery.write_text(flow(3))
            start_again(house)

            assert {n: row["state"] for n, row in versions(house).items()} == {1: "retired", 2: "retired", 3: "active"}
            for visit, bye in ((old, BYE[1]), (new, BYE[2])):
                presses_one(house, visit)
                hears(house, visit, bye)
                visit.phone.wait_for("released", 20)
    for visit, n in ((old, 1), (new, 2)):
        row = house.over(visit.call)
        assert (row["outcome"], row["version"]) == ("self_service", versions(house)[n]["hash"])

    assert callwright(house, "activate", "bakery", "1") == "flow bakery: version 1 is active for every new call\n"
    with house.visit(UNKNOWN, DIAL) as back:
        hears(house, back, HELLO[1])
        presses_one(house, back)
        hears(house, back, BYE[1])
        back.phone.wait_for("released", 20)
    assert house.over(back.call)["version"] == versions(house)[1]["hash"]


@pytest.mark.faults
def test_named_numbers_get_a_version_first_and_it_is_taken_back_when_they_hang_up_on_it(house: LiveHouse, bakery: Path) -> None:
    active = next(row for row in versions(house).values() if row["state"] == "active")
    text = flow(1).replace(HELLO[1], "This one nobody wants to hear at all.")
    guard = {"calls": 2, "margin": 0.2}
    canary = house.api("/v1/flows/bakery/versions", {"yaml": text, "numbers": ["+4930555000777"], "guard": guard})
    assert canary["state"] == "canary"
    for _ in range(2):
        with house.visit("+4930555000777", DIAL) as visit:
            house.reaches(visit, "hello")
            assert house.call(visit.call)["version"] == canary["hash"]
            visit.phone.wait_for("answered")
            visit.phone.hang_up()
            assert house.over(visit.call)["outcome"] == "hung_up"
    row = versions(house)[canary["number"]]
    assert row["state"] == "taken_back"
    assert row["why"].startswith("abandons: 100% of the last 2 calls")
    with house.visit("+4930555000777", DIAL) as visit:
        assert house.call(visit.call)["version"] == active["hash"]
        visit.phone.wait_for("answered")
        visit.phone.hang_up()
        house.over(visit.call)
