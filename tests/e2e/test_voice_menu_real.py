"""Callers who speak to a menu on a real line: the words lead where a key would, and whatever else they say leads to keys."""

from __future__ import annotations

import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.new_cli import TEMPLATES
from tests.e2e.bot_process import BotProcess
from tests.e2e.house import LiveHouse, Visit
from tests.e2e.variant import project, restarted
from tests.phones import free_port, until
from tests.voices import spoken

pytestmark = [pytest.mark.pbx, pytest.mark.skipif(not shutil.which("flite"), reason="flite is not installed")]
NUMBER, DIAL = "+4930555000555", "1121"


@pytest.fixture(scope="module")
def bot(running_house: LiveHouse, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BotProcess]:
    """The installation with the template's flow, its queues renamed to those of the demo, and the bot beside it."""
    bot = BotProcess("voice_menu", free_port(socket.SOCK_STREAM))
    origins = [{"origin": f"http://127.0.0.1:{each}", "allow_private": True} for each in (bot.port, running_house.installation.ports.crm)]
    environment = {
        "CALLWRIGHT_PROJECT": str(project(tmp_path_factory.mktemp("voice"), voice=_flow())),
        "CALLWRIGHT_BOTS": json.dumps({"voice-menu": {"url": f"ws://127.0.0.1:{bot.port}/"}}),
        "CALLWRIGHT_ORIGINS": json.dumps(origins),
    }
    bot.start()
    try:
        with restarted(running_house, **environment):
            yield bot
    finally:
        bot.stop()


def _flow() -> str:
    text = Path(TEMPLATES, "voice-menu", "flows", "voice.yaml").read_text()
    for ours, demos in (("queue: orders", "queue: premium"), ("queue: complaints", "queue: general"), ('"1000"', f'"{DIAL}"')):
        assert text.count(ours) == 1
        text = text.replace(ours, demos)
    return text


def listens(house: LiveHouse, visit: Visit, times: int = 1) -> None:
    """Wait until the bot listens for the first time, or again."""
    until(lambda: [entry["type"] for entry in house.timeline(visit.call)].count("BotBegan") >= times, 30, "the bot to listen")


def exits(house: LiveHouse, visit: Visit) -> dict[str, str]:
    return {entry["step"]: entry["exit"] for entry in house.timeline(visit.call) if entry["type"] == "StepLeft"}


def led(house: LiveHouse, visit: Visit) -> dict[str, str]:
    """How each step was left, once the call has come to a queue in which nobody is."""
    until(lambda: "away" in house.steps(visit.call), 40, lambda: f"the call to be passed on; {exits(house, visit)}")
    return exits(house, visit)


def written(house: LiveHouse, visit: Visit) -> list[dict[str, str]]:
    return [dict(entry["values"]) for entry in house.timeline(visit.call) if entry["type"] == "SessionWritten"]


@pytest.mark.parametrize(
    ("words", "voice", "choice", "steps"),
    [
        ("pay my invoice", "flite slt", "invoice", {"chosen": "case invoice", "to_billing": "done", "billing": "no_agents"}),
        ("track my order", "espeak en-us+f2", "order", {"chosen": "case order", "to_orders": "done", "orders": "no_agents"}),
    ],
)
def test_what_the_caller_says_leads_to_its_queue(
    bot: BotProcess, house: LiveHouse, words: str, voice: str, choice: str, steps: dict[str, str]
) -> None:
    with house.visit(NUMBER, DIAL, tone=0.0) as visit:
        listens(house, visit)
        visit.phone.rtp.say(spoken(words, voice))
        left = led(house, visit)
    assert written(house, visit) == [{"ivr.choice": choice}]
    assert left.items() >= {"ask": "done", **steps}.items()


def test_an_agent_takes_the_call_that_a_word_sent_there(bot: BotProcess, house: LiveHouse) -> None:
    with house.agent_phone("105") as phone, house.visit(NUMBER, DIAL, tone=0.0) as visit:
        listens(house, visit)
        visit.phone.rtp.say(spoken("pay my invoice", "flite rms"))
        house.becomes(visit, "talking", 40)
        assert (house.call(visit.call)["agent"], phone.heard_of("answered")[:1] != []) == ("105", True)


def test_a_key_does_as_well(bot: BotProcess, house: LiveHouse) -> None:
    with house.visit(NUMBER, DIAL, tone=0.0) as visit:
        listens(house, visit)
        visit.phone.rtp.press("3")
        left = led(house, visit)
    assert written(house, visit) == [{"ivr.choice": "complaint"}]
    assert left.items() >= {"ask": "done", "chosen": "case complaint", "to_complaints": "done"}.items()


def test_nonsense_and_then_silence_go_on_by_keys(bot: BotProcess, house: LiveHouse) -> None:
    with house.visit(NUMBER, DIAL, tone=0.0) as visit:
        listens(house, visit)
        visit.phone.rtp.say(spoken("my grandmother lives in the village", "flite slt"))
        listens(house, visit, 2)
        house.reaches(visit, "keys")
        visit.phone.rtp.press("2")
        left = led(house, visit)
    assert written(house, visit) == []
    assert left.items() >= {"ask": "no_match", "again": "no_input", "keys": "key 2", "to_billing": "done"}.items()
