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
    """How well the worst second of a spoken text was heard; the text's recording is the one that was played.

    Second by second, since one packet that is lost or late shifts all that follows; without the last frames, which a hang-up cuts.
    """
    prompt = prompt_audio(asyncio.run(Speech(Espeak(), sounds).render(text, language)))
    heard = all_audio(rtp)
    if len(heard) < RATE:
        return 0.0
    prompt = prompt[: -RATE // 8]
    seconds = [prompt[at : at + RATE] for at in range(0, len(prompt) - RATE // 2, RATE)]
    return min(likeness(heard, each) for each in seconds)
