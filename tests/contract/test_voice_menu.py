"""A menu by voice: what it makes of what callers say by telephone, and what it tells the flow."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import numpy as np
import pytest

from app.demo.bots import hearing, voice_menu
from app.demo.bots.voice_menu import VoiceMenu
from tests.contract.doors import until
from tests.load.voice_menu_rates import MENU, OTHERS, by_machines, measure
from tests.voices import on_line, spoken

needs_voices = pytest.mark.skipif(not all(map(shutil.which, ("flite", "espeak-ng", "sox"))), reason="flite, espeak-ng and sox are needed")
WRITTEN = {"order": "1, track my order", "invoice": "2, pay my invoice, invoice please", "agent": "0, talk to an agent"}
PIECE = 320


@pytest.fixture(scope="module")
def ears() -> Iterator[Executor]:
    with ProcessPoolExecutor(2, get_context("spawn")) as ears:
        yield ears


class Call:
    """A caller with the bot, and what the bot says."""

    def __init__(self, ears: Executor, menu: dict[str, str] = WRITTEN) -> None:
        self.told: list[Any] = []
        self.bot = VoiceMenu(self.told.append, ears)
        self.bot.told({"type": "start", "with": menu})

    def says(self, sound: bytes) -> None:
        for at in range(0, len(sound), PIECE):
            self.bot.heard(sound[at : at + PIECE])

    async def left_by(self) -> str:
        await until(lambda: bool(self.told) and self.told[-1]["type"] == "done", within=20)
        await asyncio.sleep(0)
        assert [each["type"] for each in self.told].count("done") == 1
        return str(self.told[-1]["exit"])

    @property
    def choice(self) -> list[str]:
        return [each["values"]["ivr.choice"] for each in self.told if each["type"] == "set"]


@needs_voices
@pytest.mark.parametrize("line", ["clean", "noise", "hum"])
def test_most_are_understood_and_few_other_words_are_taken_for_the_menu(ears: Executor, line: str) -> None:
    voices = ("flite slt", "flite awb", "flite kal16", "espeak en-us", "espeak en-us+f2")
    rates = measure(by_machines(voices, [line], OTHERS[::3]), MENU, ears)
    print(*rates.table(), sep="\n")
    assert rates.right() >= 0.9
    assert rates.mistaken() == 0.0
    assert rates.false() < 0.05


@needs_voices
@pytest.mark.parametrize(("words", "choice"), [("track my order", "order"), ("invoice please", "invoice"), ("talk to an agent", "agent")])
async def test_what_is_said_is_written_and_gives_the_call_back(ears: Executor, words: str, choice: str) -> None:
    call = Call(ears)
    call.says(on_line(spoken(words, "flite slt")))
    assert await call.left_by() == "done"
    assert call.choice == [choice]


@needs_voices
async def test_other_words_are_no_match(ears: Executor) -> None:
    call = Call(ears)
    call.says(on_line(spoken("my grandmother lives in the village", "flite rms")))
    assert await call.left_by() == "no_match"
    assert call.choice == []


async def test_silence_is_no_input(ears: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_menu, "SILENCE", 0.05)
    call = Call(ears)
    call.says(on_line(np.zeros(8000)))
    assert await call.left_by() == "no_input"


@needs_voices
async def test_who_does_not_stop_talking_is_no_match(ears: Executor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(voice_menu, "LONGEST", 0.05)
    call = Call(ears)
    sound = on_line(spoken("the quick brown fox jumps over the lazy dog", "flite slt"))
    call.says(sound[: len(sound) // 2])
    assert await call.left_by() == "no_match"


@pytest.mark.parametrize(("key", "choice", "exit_"), [("2", ["invoice"], "done"), ("0", ["agent"], "done"), ("9", [], "no_match")])
async def test_a_key_does_as_well(ears: Executor, key: str, choice: list[str], exit_: str) -> None:
    call = Call(ears)
    call.bot.told({"type": "key", "digit": key})
    call.bot.told({"type": "key", "digit": "1"})
    assert await call.left_by() == exit_
    assert call.choice == choice


@needs_voices
async def test_a_key_overtakes_what_is_being_recognised(ears: Executor) -> None:
    call = Call(ears)
    call.says(on_line(spoken("track my order", "flite slt")))
    call.bot.told({"type": "key", "digit": "0"})
    assert await call.left_by() == "done"
    await asyncio.wait_for(call.bot._thinking, 20)
    assert call.choice == ["agent"]
    assert len(call.told) == 2


async def test_nothing_is_said_to_a_caller_who_has_gone(ears: Executor) -> None:
    call = Call(ears)
    call.bot.told({"type": "end"})
    call.bot.told({"type": "key", "digit": "1"})
    call.says(on_line(np.zeros(8000)))
    assert call.told == []


@pytest.mark.parametrize(
    ("menu", "why"),
    [
        ({"order": "1, track my zzyzx"}, "words that the dictionary does not have: zzyzx"),
        ({"order": "1"}, "nothing to say"),
        ({"order": "track my order", "invoice": "track my order"}, "'track my order' means both order and invoice"),
        ({"order": "order; public <x>"}, "order: expected a key or words, found 'order; public <x>'"),
        ({"order": "1, order, "}, "expected a key or words, found ''"),
        ({}, "nothing to say"),
    ],
)
async def test_a_menu_that_is_wrong_fails_and_says_why(
    ears: Executor, menu: dict[str, str], why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert await Call(ears, menu).left_by() == "failed"
    assert why in capsys.readouterr().err


@needs_voices
def test_what_is_said_is_cut_out_of_what_comes_in_pieces_of_any_size() -> None:
    sound, whole = on_line(spoken("make a complaint", "espeak en-us+f2")), hearing.Listening()
    said = whole.feed(sound)
    assert len(sound) * 0.5 < len(said) < len(sound)
    pieces = hearing.Listening()
    assert [each for at in range(0, len(sound), 37) if (each := pieces.feed(sound[at : at + 37]))] == [said]
