"""Procedural mixtures of sounds with a label per second, to pre-train the mini VGGish.

Shapes: W windows of one second, K = 60 kinds in the order of KINDS.
"""

import itertools
from dataclasses import dataclass, fields

import numpy as np

from mini.pictures import AREAS, COLOURS, SHAPES, Kind
from mini.sounds import SAMPLE_RATE_HZ, Sound, synthesize
from sam2love.encoders.audio import log_mel

SECONDS = 10
KINDS = tuple(Kind(*names) for names in itertools.product(SHAPES, COLOURS, AREAS))
GRID = (len(SHAPES), len(COLOURS), len(AREAS))
SOURCES = (0.1, 0.3, 0.3, 0.2, 0.1)  # probabilities that 0, 1, 2, 3 or 4 kinds sound in a clip
QUIETEST_DB, LOUDEST_DB = -45.0, -5.0  # of a window; anything quieter counts as silence


@dataclass
class Seconds:
    """Windows of sound and the kinds that sound in them."""

    mel: np.ndarray
    """(W, 96, 64) float32, VGGish's log mel spectrogram."""
    energy: np.ndarray
    """(W, K) float32: mean square of each kind's samples in the window."""


def draw(rng: np.random.Generator, clips: int) -> Seconds:
    """Return all windows of random clips in which up to four kinds sound, overlapping or not."""
    made = [_clip(rng) for _ in range(clips)]
    return Seconds(*(np.concatenate(column) for column in zip(*made, strict=True)))


def _clip(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    wave = rng.normal(0, 10 ** (rng.uniform(-70, -50) / 20), SECONDS * SAMPLE_RATE_HZ)
    energy = np.zeros((SECONDS, len(KINDS)), dtype=np.float32)
    for kind in rng.permutation(len(KINDS))[: rng.choice(len(SOURCES), p=SOURCES)]:
        onset = rng.uniform(0, SECONDS - 1)
        sound = Sound(onset, rng.uniform(0.5, SECONDS - onset), rng.uniform(-30, -8))
        part = synthesize(KINDS[kind], sound, rng, seconds=SECONDS)
        wave += part
        energy[:, kind] = (part.reshape(SECONDS, -1) ** 2).mean(axis=1)
    scale = min(1.0, 0.95 / np.abs(wave).max())
    mel = log_mel((wave * scale).astype(np.float32), SAMPLE_RATE_HZ)
    return mel.numpy(), energy * np.float32(scale**2)


def levels(energy: np.ndarray) -> np.ndarray:
    """Convert energies to levels: 0 for silence, 1 for LOUDEST_DB, linear in decibels."""
    level_db = 10 * np.log10(np.maximum(energy, 1e-12))
    share = (level_db - QUIETEST_DB) / (LOUDEST_DB - QUIETEST_DB)
    return np.clip(share, 0, None).astype(np.float32)


def grouped_levels(energy: np.ndarray) -> dict[str, np.ndarray]:
    """Return the levels (W, n) of every shape, colour, size, shape with colour, and kind."""
    grid = energy.reshape(-1, *GRID)
    groups = {"shape": (2, 3), "colour": (1, 3), "size": (1, 2), "shape and colour": (3,)}
    sums = {name: grid.sum(axis=axes) for name, axes in groups.items()} | {"kind": energy}
    return {name: levels(value.reshape(len(energy), -1)) for name, value in sums.items()}


def renew(pool: Seconds, new: Seconds, oldest: int) -> int:
    """Replace the oldest windows by new ones; return where the oldest are next time."""
    rows = (oldest + np.arange(len(new.mel))) % len(pool.mel)
    for field in fields(pool):
        getattr(pool, field.name)[rows] = getattr(new, field.name)
    return int(rows[-1] + 1)
