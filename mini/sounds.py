"""The audible mini world: the looks of a thing determine its timbre.

Size sets the pitch, shape the spectrum, colour the modulation, so a sound can be matched to a kind
never heard before. Loudness, onset and duration are independent of the looks.
"""

from dataclasses import dataclass

import numpy as np

from mini.pictures import Kind

SAMPLE_RATE_HZ = 16_000
PITCH_HZ = {"small": 520.0, "large": 220.0}
PARTIALS = {  # per shape: (multiple of the pitch, amplitude)
    "circle": ((1, 1.0),),
    "square": tuple((n, 1 / n) for n in (1, 3, 5, 7, 9, 11)),
    "triangle": tuple((n, 1 / n**0.5) for n in range(1, 13)),
    "cross": ((1, 0.8), (2.76, 1.0), (5.4, 0.8), (8.93, 0.6)),
    "star": ((6, 1.0),),  # a band of noise
}
TREMOLO_HZ = {"green": 2.5, "blue": 6.0, "yellow": 13.0}


@dataclass(frozen=True)
class Sound:
    """When and how loud a thing sounds."""

    onset_seconds: float
    seconds: float
    level_db: float
    """Root mean square of the loud part, relative to full scale."""


def synthesize(kind: Kind, sound: Sound, rng: np.random.Generator, *, seconds: float) -> np.ndarray:
    """Return the sound of a thing over a clip, (seconds * 16,000,) float32 in about -1 to 1."""
    wave = np.zeros(round(seconds * SAMPLE_RATE_HZ), dtype=np.float32)
    start = round(sound.onset_seconds * SAMPLE_RATE_HZ)
    length = min(round(sound.seconds * SAMPLE_RATE_HZ), len(wave) - start)
    time = np.arange(length) / SAMPLE_RATE_HZ
    tone = _tone(kind, time, rng)
    tone *= 10 ** (sound.level_db / 20) / np.sqrt(np.mean(tone**2) + 1e-12)
    fade = np.minimum(1, np.minimum(np.arange(length), np.arange(length)[::-1]) / 480)
    wave[start : start + length] = tone * fade
    return wave


def _tone(kind: Kind, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    pitch_hz = PITCH_HZ[kind.size] * rng.uniform(0.94, 1.06)
    bend = (
        1 + 0.15 * np.sin(2 * np.pi * 6 * time) if kind.colour == "purple" else np.ones_like(time)
    )
    phase = 2 * np.pi * np.cumsum(pitch_hz * bend) / SAMPLE_RATE_HZ
    tone = sum(
        amplitude * np.sin(multiple * phase + rng.uniform(0, 2 * np.pi))
        for multiple, amplitude in PARTIALS[kind.shape]
        if multiple * pitch_hz < 7_000
    )
    if kind.shape == "star":
        tone = np.asarray(tone) * _slow_noise(len(time), rng)
    return np.asarray(tone) * _modulation(kind.colour, time, rng)


def _slow_noise(length: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise below about 700 Hz, which turns a tone into a band of noise around it."""
    return np.convolve(rng.normal(0, 1, length + 15), np.ones(16) / 4, mode="valid")


def _modulation(colour: str, time: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if colour in TREMOLO_HZ:
        return 1 + 0.95 * np.sin(2 * np.pi * (TREMOLO_HZ[colour] * time + rng.uniform()))
    if colour == "white":  # plucks, four a second
        return np.exp(-5 * ((time * 4 + rng.uniform()) % 1))
    return np.ones_like(time)  # red is steady, purple bends its pitch
