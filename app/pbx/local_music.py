"""Music on hold for a local PBX, synthesised, so that nobody's rights are in it."""

from __future__ import annotations

import array
import math
import wave
from pathlib import Path


def write_music(path: Path) -> None:
    """A soft arpeggio of twelve seconds, 8 kHz mono 16 bit, that loops without a seam."""
    rate, beat = 8000, 0.5
    notes = [262, 330, 392, 523, 392, 330, 220, 262, 330, 440, 330, 262, 175, 220, 262, 349, 262, 220, 196, 247, 294, 392, 294, 247]
    total = int(rate * beat * len(notes))
    samples = array.array("h", bytes(2 * total))
    for position, pitch in enumerate(notes):
        for step in range(int(rate * beat * 2)):  # each note rings on under the next
            at = step / rate
            loudness = 2600 * min(1.0, at / 0.03) * math.exp(-2.2 * at)
            value = loudness * (math.sin(2 * math.pi * pitch * at) + 0.3 * math.sin(4 * math.pi * pitch * at))
            samples[(position * int(rate * beat) + step) % total] += int(value)
    with wave.open(str(path), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
