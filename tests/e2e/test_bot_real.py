"""Callers who talk to a program: sound goes both ways, and the call comes back when the bot says so, hangs, dies or loses us."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator

import pytest

from tests.drawn import one_of
from tests.e2e.bot_process import BotProcess
from tests.e2e.house import LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import free_port, until

pytestmark = pytest.mark.pbx
TONE = 1900.0
FLOW = """
flow: talk
dnis: ["1120"]
start: talk
on_error: away
conditions:
  written: '"echo" in ivr && ivr.echo == "heard you"'
prompts:
  wrote: [The bot has written.]
  person: [To a person.]
  sorry: [The bot cannot be reached.]
steps:
  talk: {do: bot, bot: echo, max_seconds: 60, answers: [agent], exits: {done: known, agent: person, failed: sorry, hung: late}}
  known: {do: switch, cases: {written: wrote}, exits: {otherwise: bye, failed: away}}
  wrote: {do: say, prompt: wrote, exits: {done: bye}}
  person: {do: say, prompt: person, exits: {done: bye}}
  sorry: {do: say, prompt: sorry, exits: {done: bye}}
  late: {do: say, prompt: sorry, exits: {done: bye}}
  bye: {do: hangup}
  away: {do: release}
"""


@pytest.fixture(scope="module")
def port(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The installation with a flow whose callers talk to a bot on that port."""
    port = free_port(socket.SOCK_STREAM)
    origins = [{"origin": f"http://127.0.0.1:{each}", "allow_private": True} for each in (port, running_house.installation.ports.crm)]
    environment = {
        "CALLWRIGHT_PROJECT": str(project(tmp_path_factory.mktemp("bots"), talk=FLOW)),
        "CALLWRIGHT_BOTS": json.dumps({"echo": {"url": f"ws://127.0.0.1:{port}/"}}),
        "CALLWRIGHT_ORIGINS": json.dumps(origins),
    }
    with restarted(running_house, **environment):
        yield port


@pytest.fixture
def bot(port: int, house: LiveHouse) -> Iterator[BotProcess]:
    bot = BotProcess("echo", port)
    bot.start()
    yield bot
    bot.stop()


def hears_itself(visit: Visit, within: float = 10.0) -> None:
    until(lambda: visit.phone.rtp.hears(TONE), within, "the caller's own sound")


def exits(house: LiveHouse, visit: Visit) -> dict[str, str]:
    return {entry["step"]: entry["exit"] for entry in house.timeline(visit.call) if entry["type"] == "StepLeft"}


def seconds_to_fail(house: LiveHouse, visit: Visit) -> float:
    """Seconds, from now, until the step was left by `failed`."""
    began = time.time()
    visit.phone.wait_for("released", 20)
    (left,) = [entry for entry in house.timeline(visit.call) if entry["type"] == "StepLeft" and entry["step"] == "talk"]
    assert left["exit"] == "failed"
    assert exits(house, visit)["sorry"] == "done"
    return float(left["at"]) - began


def test_the_bot_hears_the_caller_is_heard_writes_and_gives_the_call_back(bot: BotProcess, house: LiveHouse) -> None:
    with house.visit("+4930555000555", "1120", tone=TONE) as visit:
        hears_itself(visit)
        assert len(house.ari("channels")) == 2
        visit.phone.rtp.press("3")
        until(lambda: any(entry["type"] == "SessionWritten" for entry in house.timeline(visit.call)), 5, "what the bot writes")
        visit.phone.rtp.press("2")
        visit.phone.wait_for("released", 20)
    assert exits(house, visit) == {"talk": "done", "known": "case written", "wrote": "done"}
    (written,) = [entry for entry in house.timeline(visit.call) if entry["type"] == "SessionWritten"]
    assert written["by"] == "bot echo"
    assert "digit" not in json.dumps([entry for entry in house.timeline(visit.call) if entry["type"] == "TellBot"])


def test_the_bot_chooses_the_way_on(bot: BotProcess, house: LiveHouse) -> None:
    with house.visit("+4930555000555", "1120", tone=TONE) as visit:
        hears_itself(visit)
        visit.phone.rtp.press("1")
        visit.phone.wait_for("released", 20)
    assert exits(house, visit) == {"talk": "agent", "person": "done"}


@pytest.mark.faults
def test_a_caller_who_hangs_up_leaves_nothing_behind(bot: BotProcess, house: LiveHouse) -> None:
    with house.visit("+4930555000555", "1120", tone=TONE) as visit:
        hears_itself(visit)
        visit.phone.hang_up()
        assert house.over(visit.call)["outcome"] == "hung_up"


@pytest.mark.parametrize("how", one_of([signal.SIGKILL, signal.SIGSTOP]))
def test_a_bot_that_dies_or_hangs_loses_the_call_within_two_seconds(bot: BotProcess, house: LiveHouse, how: signal.Signals) -> None:
    with house.visit("+4930555000555", "1120", tone=TONE) as visit:
        hears_itself(visit)
        bot.tell(how)
        assert seconds_to_fail(house, visit) < 2.5


@pytest.mark.faults
def test_a_bot_that_is_not_there_fails_at_once(port: int, house: LiveHouse) -> None:
    with house.visit("+4930555000555", "1120", tone=TONE) as visit:
        assert seconds_to_fail(house, visit) < 2.0


def test_a_bot_that_never_answers_fails_in_time_with_music_meanwhile(port: int, house: LiveHouse) -> None:
    with socket.create_server(("127.0.0.1", port)), house.visit("+4930555000555", "1120", tone=TONE) as visit:
        until(visit.phone.rtp.hears_anything, 3, "music")
        assert "talk" not in exits(house, visit)
        assert seconds_to_fail(house, visit) < 2.5


def test_after_the_end_of_the_process_the_bot_is_connected_anew(bot: BotProcess, house: LiveHouse) -> None:
    with house.visit("+4930555000555", "1120", tone=TONE) as visit:
        hears_itself(visit)
        house.kill()
        until(lambda: not visit.phone.rtp.hears(TONE), 5, "the end of the sound")
        house.start()
        hears_itself(visit, 20)
        visit.phone.rtp.press("2")
        visit.phone.wait_for("released", 20)
        orders = [entry for entry in house.timeline(visit.call) if entry["type"] == "StartBot"]
        assert [bool(order.get("again")) for order in orders] == [False, True]
        assert exits(house, visit) == {"talk": "done", "known": "otherwise"}
