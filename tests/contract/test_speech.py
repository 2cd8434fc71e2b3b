"""Speech by the real engine: what was rendered is listened to, and is made once."""

from __future__ import annotations

import array
import asyncio
import io
import math
import shutil
import subprocess
import wave
from pathlib import Path

import pytest
from pocketsphinx import Decoder

from app.channels import speech
from app.channels.speech import Espeak, Speech, SpeechFailed, speakable
from tests.contract.doors import until

needs_engine = pytest.mark.skipif(not (shutil.which("espeak-ng") and shutil.which("sox")), reason="espeak-ng and sox are not installed")

PHRASES = [
    "Welcome to the order hotline.",
    "Please enter your customer reference.",
    "Your order is on its way.",
    "Please hold the line.",
    "I am sorry.",
    "Good bye.",
]
DIGITS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def tone() -> bytes:
    """A fifth of a second of a tone, as an engine would give it."""
    sound = array.array("h", (int(9000 * math.sin(n * 0.125)) for n in range(4410)))
    made = io.BytesIO()
    with wave.open(made, "wb") as file:
        file.setparams((1, 2, 22050, 0, "NONE", ""))
        file.writeframes(sound.tobytes())
    return made.getvalue()


TONE = tone()


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
        return TONE


def samples(path: Path) -> tuple[wave._wave_params, array.array[int]]:
    with wave.open(str(path)) as file:
        return file.getparams(), array.array("h", file.readframes(file.getnframes()))


def hear(path: Path, grammar: str) -> str:
    """What a recogniser, which was trained on 16 kHz, understands of a telephone recording."""
    command = ["sox", str(path), "-t", "raw", "-r", "16000", "-e", "signed-integer", "-b", "16", "-", "pad", "0.3", "0.3"]
    sound = subprocess.run(command, capture_output=True, check=True).stdout
    decoder = Decoder(lm=None, loglevel="FATAL")
    decoder.add_jsgf_string("heard", f"#JSGF V1.0; grammar heard; public <heard> = {grammar};")
    decoder.activate_search("heard")
    decoder.start_utt()
    decoder.process_raw(sound, full_utt=True)
    decoder.end_utt()
    return decoder.hyp().hypstr if decoder.hyp() else ""


def words(text: str) -> str:
    return text.lower().rstrip(".")


@needs_engine
@pytest.mark.parametrize("text", PHRASES)
async def test_what_is_said_is_understood_over_the_telephone(tmp_path, text):
    path = await Speech(Espeak(), tmp_path).render(text, "en")
    assert hear(path, " | ".join([*map(words, PHRASES), *DIGITS])) == words(text)


@needs_engine
@pytest.mark.parametrize("reference", ["7332215", "2722541", "4424777"])
async def test_a_reference_is_understood_but_for_the_digit_that_telephones_blur(tmp_path, reference):
    said = [DIGITS[int(digit)] for digit in reference]
    path = await Speech(Espeak(), tmp_path).render(", ".join(said) + ".", "en")
    heard = hear(path, " ".join([f"({' | '.join(DIGITS)})"] * 7)).split()
    assert len(heard) == 7
    assert [(a, b) for a, b in zip(said, heard, strict=True) if a != b] in ([], [("five", "nine")])


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
    await until(lambda: engine.asked)
    first.cancel()
    engine.go.set()
    assert (await second).exists()


@needs_engine
async def test_two_at_most_are_made_at_once(tmp_path):
    engine = Counting()
    said = Speech(engine, tmp_path)
    warming = asyncio.create_task(said.warm([(f"Number {n}", "en") for n in range(6)]))
    await until(lambda: engine.at_once == speech.AT_ONCE)
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
