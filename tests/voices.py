"""Voices for test callers: what they say, as it arrives over a telephone line."""

from __future__ import annotations

import subprocess
import zlib
from functools import lru_cache
from pathlib import Path

import numpy as np

from tests.phones import RATE, from_ulaw, to_ulaw

VOICES = ("flite slt", "flite rms", "flite awb", "flite kal16", "espeak en-us", "espeak en-us+f2", "espeak en-us+m3", "espeak en-gb")
LINES = ("clean", "quiet", "hum", "noise", "late")
"""A good line, one 16 dB quieter, one with mains hum and rumble, one with white noise 20 dB below the voice, and a caller who hesitates."""


@lru_cache(4096)
def spoken(text: str, voice: str) -> np.ndarray:
    """What a voice says, at a telephone's rate and in its band, at an even level."""
    program, _, name = voice.partition(" ")
    if program == "flite":
        command = ["flite", "-voice", name, "-t", text, "-o", "/dev/stdout"]
    else:
        command = ["espeak-ng", "-v", name, "-s", "140", "--stdout", text]
    return _telephone(subprocess.run(command, capture_output=True, check=True).stdout, "wav")


def recorded(path: Path) -> np.ndarray:
    """What is in a sound file, in the same way."""
    return _telephone(path.read_bytes(), path.suffix.removeprefix("."))


def _telephone(sound: bytes, kind: str) -> np.ndarray:
    raw = f"-t raw -c 1 -b 16 -e signed-integer - gain -6 highpass 200 rate -h {RATE} norm -6"
    command = ["sox", "-V1", "-D", "-t", kind, "--ignore-length", "-", *raw.split()]
    return np.frombuffer(subprocess.run(command, input=sound, capture_output=True, check=True).stdout, "<i2").astype(np.float64)


def on_line(samples: np.ndarray, line: str = "clean") -> bytes:
    """Somebody says that on a line: 16 bit samples that have been mu-law, with a second of the line before and after."""
    noise = np.random.default_rng(zlib.crc32(samples.tobytes() + line.encode()))
    if line == "quiet":
        samples = samples * 0.16
    loud = samples[np.abs(samples) > 300]
    level = float(np.sqrt(np.mean(loud**2))) if len(loud) else 1000.0
    heard = np.concatenate([np.zeros(RATE * (3 if line == "late" else 1)), samples, np.zeros(RATE)])
    hiss = noise.normal(size=len(heard))
    if line == "noise":
        heard += hiss * level / 10
    elif line == "hum":
        heard += (
            np.sin(2 * np.pi * 100 * np.arange(len(heard)) / RATE) * level / 6 + np.convolve(hiss, np.ones(12) / 12, "same") * level / 4
        )
    else:
        heard += hiss * 8
    return from_ulaw(to_ulaw(np.clip(heard, -32_000, 32_000))).astype("<i2").tobytes()
