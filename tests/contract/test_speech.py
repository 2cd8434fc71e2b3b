"""Speech by the real engine: what was rendered is listened to, and is made once."""

from __future__ import annotations

import array
import asyncio
import math
import shutil
import subprocess
import wave
from pathlib import Path

import pytest
from pocketsphinx import Decoder

from app.channels import speech
from app.channels.speech import Espeak, Speech, SpeechFailed, speakable

needs_engine = pytest.mark.skipif(not (shutil.which("espeak-ng") and shutil.which("sox")), reason="espeak-ng and sox are not installed")

GRAMMAR = """#JSGF V1.0;
grammar hotline;
<digit> = zero | one | two | three | four | five | six | seven | eight | nine;
<phrase> = welcome to the order hotline | please enter your customer reference | your order is on its way | good bye
         | i am sorry | please hold the line | your link is in the mail;
public <said> = <phrase> | <digit>+;
"""


class Counting:
    """An engine that counts, and makes a tone or a failure."""

    name = "counting"

    def __init__(self, fails: bool = False) -> None:
        self.asked: list[str] = []
        self.at_once = self.most = 0
        self.fails = fails
        self.go = asyncio.Event()

    def voice(self, language: str) -> str:
        return language

    async def synthesize(self, text: str, voice: str) -> bytes:
        self.asked.append(text)
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.go.wait()
        self.at_once -= 1
        if self.fails:
            raise SpeechFailed("no voice today")
        return subprocess.run(
            ["sox", "-n", "-r", "22050", "-b", "16", "-t", "wav", "-", "synth", "0.2", "sine", "440"], capture_output=True
        ).stdout


def samples(path: Path) -> tuple[wave._wave_params, array.array[int]]:
    with wave.open(str(path)) as file:
        return file.getparams(), array.array("h", file.readframes(file.getnframes()))


def hear(path: Path) -> str:
    """What a recogniser understands of a telephone recording."""
    decoder = Decoder(samprate=8000, lm=None, upperf=3500, lowerf=130, nfilt=20, loglevel="FATAL")
    decoder.add_jsgf_string("hotline", GRAMMAR)
    decoder.activate_search("hotline")
    decoder.start_utt()
    decoder.process_raw(samples(path)[1].tobytes(), full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr if decoder.hyp() else ""


@needs_engine
@pytest.mark.parametrize(
    "text",
    [
        "Welcome to the order hotline.",
        "Please enter your customer reference.",
        "Your order is on its way.",
        "Please hold the line.",
        "seven three three two two one five",
        "zero four six eight nine",
    ],
)
async def test_what_is_said_is_understood_over_the_telephone(tmp_path, text):
    path = await Speech(Espeak(), tmp_path).render(text, "en")
    assert hear(path) == text.lower().rstrip(".")


@needs_engine
@pytest.mark.parametrize(("form", "rate"), [("wav", 8000), ("wav16", 16000)])
async def test_a_recording_is_what_the_telephone_plays_loud_and_without_silence_around(tmp_path, form, rate):
    path = await Speech(Espeak(), tmp_path, form).render("Guten Tag, Frau Müller.", "de")
    shape, sound = samples(path)
    assert path.suffix == f".{form}"
    assert (shape.nchannels, shape.sampwidth, shape.framerate) == (1, 2, rate)
    assert 0.8 < shape.nframes / rate < 4
    peak = max(map(abs, sound))
    loudness = 20 * math.log10(math.sqrt(sum(s * s for s in sound) / len(sound)) / 32768)
    assert 20_000 < peak < 32_000
    assert -24 < loudness < -14
    heard = [n for n, s in enumerate(sound) if abs(s) > 300]
    assert heard[0] < 0.1 * rate
    assert len(sound) - heard[-1] < 0.2 * rate


@needs_engine
async def test_the_languages_sound_different(tmp_path):
    said = Speech(Espeak(), tmp_path)
    paths = [await said.render("Information", language) for language in ("en", "de", "es")]
    assert len({path.read_bytes() for path in paths}) == 3
    assert await said.render("Information", "de-AT") == paths[1]


@needs_engine
async def test_a_text_is_made_once_however_often_and_however_many_at_once(tmp_path):
    engine = Counting()
    said = Speech(engine, tmp_path)
    waiting = [asyncio.create_task(said.render("Hello", "en")) for _ in range(10)]
    engine.go.set()
    paths = set(await asyncio.gather(*waiting))
    assert await said.render(" Hello\n", "en") in paths
    assert (len(paths), engine.asked) == (1, ["Hello"])
    assert await Speech(Counting(fails=True), tmp_path).render("Hello", "en") in paths
    assert [path.name for path in tmp_path.iterdir()] == [paths.pop().name]


@needs_engine
async def test_who_gives_up_waiting_does_not_spoil_it_for_others(tmp_path):
    engine = Counting()
    said = Speech(engine, tmp_path)
    first, second = (asyncio.create_task(said.render("Hello", "en")) for _ in range(2))
    async with asyncio.timeout(5):
        while not engine.asked:
            await asyncio.sleep(0)
    first.cancel()
    engine.go.set()
    assert (await second).exists()


@needs_engine
async def test_two_at_most_are_made_at_once(tmp_path):
    engine = Counting()
    said = Speech(engine, tmp_path)
    warming = asyncio.create_task(said.warm([(f"Number {n}", "en") for n in range(6)]))
    engine.go.set()
    assert await warming == 6
    assert (len(engine.asked), engine.most) == (6, speech.AT_ONCE)


@needs_engine
async def test_a_failure_is_told_leaves_nothing_and_is_tried_again(tmp_path):
    engine = Counting(fails=True)
    engine.go.set()
    said = Speech(engine, tmp_path)
    with pytest.raises(SpeechFailed, match="no voice today"):
        await said.warm([("Hello", "en")])
    assert list(tmp_path.iterdir()) == []
    engine.fails = False
    assert (await said.render("Hello", "en")).exists()


@needs_engine
async def test_a_text_is_never_an_option_a_markup_or_a_command(tmp_path):
    said = Speech(Espeak(), tmp_path / "recordings")
    for text in ("-w /tmp/x", "--version", "[[h@loU]] <audio src='x'/>", "$(id); `id`\x00\x1b"):
        assert (await said.render(text, "en")).stat().st_size > 2000
    assert speakable("[[h@loU]]\n<b>  there\x00") == "h@loU b there"


@needs_engine
@pytest.mark.parametrize(("text", "language"), [("", "en"), (" \n[]", "en"), ("x" * 2001, "en"), ("Bonjour", "fr"), ("Hello", "../x")])
async def test_what_cannot_be_said(tmp_path, text, language):
    with pytest.raises(SpeechFailed):
        await Speech(Espeak(), tmp_path).render(text, language)


@needs_engine
async def test_an_engine_that_hangs_is_ended(tmp_path, monkeypatch):
    monkeypatch.setattr(speech, "SECONDS", 0.2)
    with pytest.raises(SpeechFailed, match=r"sleep took more than 0.2 s"):
        await speech._filter(["/bin/sleep", "60"], b"")


def test_a_missing_program_is_named_with_the_way_to_get_it(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(SpeechFailed, match="espeak-ng is not installed; on Debian: apt-get install espeak-ng"):
        Espeak()
