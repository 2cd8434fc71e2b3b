"""Listening to what a caller heard: the recorded audio against the very prompt that should have been played."""

from __future__ import annotations

import asyncio
import wave
from pathlib import Path

import numpy as np

from app.channels.speech import Espeak, Speech
from tests.phones import Rtp, from_ulaw

RATE = 8000


def prompt_audio(path: Path) -> np.ndarray:
    """A rendered prompt as samples from -1 to 1."""
    with wave.open(str(path)) as file:
        assert file.getframerate() == RATE
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64) / 32768


def likeness(heard: np.ndarray, prompt: np.ndarray) -> float:
    """How much of the prompt is in what was heard, anywhere in it: normalised cross-correlation, 1.0 for all of it."""
    if len(heard) < len(prompt):
        heard = np.pad(heard, (0, len(prompt) - len(heard)))
    size = 1 << (len(heard) + len(prompt) - 1).bit_length()
    found = np.fft.irfft(np.fft.rfft(heard, size) * np.conj(np.fft.rfft(prompt, size)), size)[: len(heard) - len(prompt) + 1]
    energy = np.concatenate([[0.0], np.cumsum(heard**2)])
    windows = np.sqrt(np.maximum(energy[len(prompt) :] - energy[: -len(prompt)], 1e-9))
    return float(np.max(found / (windows * np.linalg.norm(prompt))))


def all_audio(rtp: Rtp) -> np.ndarray:
    """Everything a phone has received so far, in order of arrival, from -1 to 1; pauses without packets left out."""
    return from_ulaw(b"".join(packet.payload for packet in list(rtp.packets) if packet.payload_type == 0)) / 32768


def has_heard(rtp: Rtp, text: str, sounds: Path, language: str = "en") -> float:
    """How much of a spoken text is in what a phone has heard; the text's recording is the one that was played."""
    recording = asyncio.run(Speech(Espeak(), sounds).render(text, language))
    return likeness(all_audio(rtp), prompt_audio(recording))
