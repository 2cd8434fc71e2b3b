"""Which of a few phrases a caller says on the telephone: pocketsphinx, offline, in English.

The model in pocketsphinx's package was trained on sound up to 6.8 kHz, and a telephone ends at 3.4: as it stands the model hears a third of
what callers say. So the telephone's sound goes through those 18 of the model's 25 filters that it fills, and the model's means are moved
to what they would have been had it been trained on these: a cepstrum is the cosine transform of the filters' logarithms, so one matrix
does it. What is said is found when it has ended, in the whole of it. A phrase counts when it explains the sound hardly worse than the best
sequence of any sounds of the language, which is how other words are told from those of a menu.

How often that is right: `python -m tests.load.voice_menu_rates`. With the four phrases of the template `voice-menu`, eight synthetic voices
and fifty other things said, mu-law at 8 kHz: on good, quiet, humming lines and after hesitation all are understood, with white noise 20 dB
below the voice 91 %; none is taken for another; 2 to 3 % of the other things are taken for one of the menu. A recorded person and a menu of
eighteen, mostly single words: 89 % on a good line and 67 % in noise, other words 3 to 12 %. So a menu's phrases should be few, and have
three words or so.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from pocketsphinx import Decoder, Endpointer

RATE = 8000
WORST = -1.4
"""How much less likely a phrase may be than any sounds at all, in powers of ten for each hundredth of a second."""
FRAME = 0.03
WINDOW, LATE = 10, 8
"""Somebody speaks when nearly all of so many frames are voice; that he stopped is known so many frames later."""
BEFORE, PAUSE = 33, 10
"""Frames kept from before somebody is known to speak, and those of silence that end what is said."""
QUIET = 20.0
"""How loud the line is made around what is said: the model takes noise for an s."""
_FILTERS, _TELEPHONE, _CEPSTRA, _LIFTER = 25, 18, 13, 22
_SPREAD = 1.3
"""How much wider than the model says the features of a telephone are spread."""
_FEATURES = f"""-lowerf 130 -upperf 3404 -nfilt {_TELEPHONE} -transform dct -lifter {_LIFTER} -feat 1s_c_d_dd -svspec 0-12/13-25/26-38
-agc none -cmn batch -varnorm no -model ptm -remove_noise yes
"""
_SHIFT = 1 << 10
"""pocketsphinx gives the logarithm of a score divided by that."""


class Listening:
    """Cuts what a caller says out of what comes, in pieces of any size, with the line before and after it, made quiet."""

    def __init__(self) -> None:
        self._voice = Endpointer(window=WINDOW * FRAME, sample_rate=RATE, frame_length=FRAME)
        self._rest = b""
        self._frames: list[bytes] = []
        self._first = self._last = 0
        self.begun = False

    def feed(self, sound: bytes) -> bytes:
        """What was said, once it has ended; otherwise nothing."""
        self._rest += sound
        size = self._voice.frame_bytes
        while len(self._rest) >= size:
            frame, self._rest = self._rest[:size], self._rest[size:]
            self._voice.process(frame)
            self._frames.append(frame)
            if self._voice.in_speech and not self.begun:
                self.begun, self._first = True, len(self._frames) - WINDOW
            if self._voice.in_speech:
                self._last = len(self._frames) - LATE
            elif not self.begun:
                self._frames = self._frames[-BEFORE:]
            elif len(self._frames) - LATE - self._last > PAUSE:
                return self.said()
        return b""

    def said(self) -> bytes:
        """What was said so far; it is not given again."""
        first, last = max(self._first, 0), max(self._last, 0)
        before, speech, after = (b"".join(part) for part in (self._frames[:first], self._frames[first:last], self._frames[last:]))
        self._frames, self.begun = [], False
        line = array("h", before + after)
        loud = math.sqrt(sum(each * each for each in line) / len(line)) if line else 0.0
        quiet = array("h", (round(each * min(QUIET / loud, 1.0)) for each in line)).tobytes() if loud else line.tobytes()
        return quiet[: len(before)] + speech + quiet[len(before) :]


class Ear:
    """One recogniser; it hears one thing at a time."""

    def __init__(self) -> None:
        with TemporaryDirectory() as folder:
            features, means = Path(folder, "feat.params"), Path(folder, "mllr")
            features.write_text(_FEATURES)
            means.write_text("\n".join(_transform()))
            how = {"featparams": str(features), "mllr": str(means), "samprate": RATE, "nfft": 256, "cmn": "batch"}
            self._decoder = Decoder(lm=None, loglevel="FATAL", beam=1e-60, pbeam=1e-60, wbeam=1e-40, **how)
        self._decoder.add_allphone_file("sounds")

    def unknown(self, phrases: Iterable[str]) -> list[str]:
        """The words whose sound is not known."""
        return sorted({word for phrase in phrases for word in phrase.split() if self._decoder.lookup_word(word) is None})

    def hear(self, sound: bytes, phrases: Iterable[str]) -> str:
        """The phrase that was said; nothing when it was none of them."""
        phrase, worse = self.compare(sound, phrases)
        return phrase if WORST < worse <= 0 else ""  # nothing is likelier than any sounds: there the search was lost

    def compare(self, sound: bytes, phrases: Iterable[str]) -> tuple[str, float]:
        """The phrase that is nearest, and how much less likely it is than any sounds at all (see `WORST`)."""
        wanted = tuple(phrases)
        self._decoder.add_jsgf_string("menu", f"#JSGF V1.0; grammar menu; public <menu> = {' | '.join(wanted)};")
        phrase, likely, frames = self._search("menu", sound)
        if phrase not in wanted:
            return "", -math.inf
        return phrase, (likely - self._search("sounds", sound)[1]) / frames

    def _search(self, search: str, sound: bytes) -> tuple[str, float, int]:
        """What is found, the power of ten of its likelihood, and the frames of it that are no silence."""
        self._decoder.activate_search(search)
        self._decoder.start_utt()
        self._decoder.process_raw(sound, full_utt=True)
        self._decoder.end_utt()
        found = self._decoder.hyp()
        if found is None:
            return "", -math.inf, 1
        frames = sum(part.end_frame - part.start_frame + 1 for part in self._decoder.seg() if part.word[0] not in "<(")
        return found.hypstr, math.log10(found.score) * _SHIFT, max(frames, 1)


@cache
def _ear() -> Ear:
    """The recogniser of this process."""
    return Ear()


def hear(sound: bytes, phrases: tuple[str, ...]) -> str:
    """The phrase that was said; nothing when it was none of them. Raises `ValueError` for words whose sound is not known."""
    if strange := _ear().unknown(phrases):
        raise ValueError(f"words that the dictionary does not have: {', '.join(strange)}")
    return _ear().hear(sound, phrases) if sound else ""


def _transform() -> Iterator[str]:
    """The means of the telephone's cepstra from those of the model, for the cepstra and their first and second differences."""
    wide, narrow = _cosines(_FILTERS), _cosines(_TELEPHONE)
    lift = [1 + _LIFTER / 2 * math.sin(k * math.pi / _LIFTER) for k in range(_CEPSTRA)]
    yield from ("1", "3")
    for _ in range(3):
        yield str(_CEPSTRA)
        for k in range(_CEPSTRA):
            row = (sum(narrow[k][n] * wide[j][n] for n in range(_TELEPHONE)) * lift[k] / lift[j] for j in range(_CEPSTRA))
            yield " ".join(f"{value:.6f}" for value in row)
        yield " ".join(["0.0"] * _CEPSTRA)
        yield " ".join([str(_SPREAD)] * _CEPSTRA)


def _cosines(filters: int) -> list[list[float]]:
    """The cosine transform from so many filters to cepstra, one row each."""
    scale = [math.sqrt((1 if k == 0 else 2) / filters) for k in range(_CEPSTRA)]
    return [[scale[k] * math.cos(math.pi * k * (n + 0.5) / filters) for n in range(filters)] for k in range(_CEPSTRA)]
