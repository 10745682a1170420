"""A thing's looks can be recognised from its sound, even for kinds never heard."""

import numpy as np
import pytest

from mini.pictures import Kind
from mini.sounds import SAMPLE_RATE_HZ, Sound, synthesize
from mini.story import kinds_of

MODULATIONS_HZ = ((1.5, 3.2), (3.2, 5), (5, 7), (7, 10), (11, 15))


def _features(kind: Kind, rng: np.random.Generator) -> np.ndarray:
    """Return a sound's spectrum, and how fast its power and its centre change."""
    wave = synthesize(kind, Sound(0, 3, -15), rng, seconds=3)
    windows = np.lib.stride_tricks.sliding_window_view(wave, 512)[::256] * np.hanning(512)
    power = np.abs(np.fft.rfft(windows, axis=1)) ** 2
    edges = np.maximum(np.geomspace(2, 256, 33).astype(int), np.arange(2, 35))[:-1]
    bands = np.log(np.add.reduceat(power, edges, axis=1).mean(axis=0) + 1e-6)
    envelope = np.log(power.sum(axis=1) + 1e-4)
    centre = power @ np.arange(257) / (power.sum(axis=1) + 1e-9)
    return np.concatenate([bands, _modulation(envelope), _modulation(centre)])


def _modulation(curve: np.ndarray) -> np.ndarray:
    rates_hz = np.fft.rfftfreq(len(curve), 256 / SAMPLE_RATE_HZ)
    strength = np.abs(np.fft.rfft((curve - curve.mean()) * np.hanning(len(curve))))
    return np.log(
        [
            strength[(rates_hz > low) & (rates_hz < high)].max() + 1e-2
            for low, high in MODULATIONS_HZ
        ]
    )


@pytest.fixture(scope="module")
def heard() -> dict[bool, tuple[np.ndarray, list[Kind]]]:
    """Features and kinds of sounds by whether the kinds are held out."""
    rng = np.random.default_rng(0)
    result = {}
    for held_out, parts in {False: ["seen"], True: ["val", "test_u"]}.items():
        kinds = [kind for part in parts for kind in kinds_of(part) for _ in range(8)]
        result[held_out] = (np.array([_features(kind, rng) for kind in kinds]), kinds)
    return result


@pytest.mark.parametrize("attribute", ["shape", "colour", "size"])
def test_a_linear_readout_of_seen_kinds_generalises_to_held_out_ones(heard, attribute):
    features, kinds = heard[False]
    mean, spread = features.mean(axis=0), features.std(axis=0) + 1e-6
    names = sorted({getattr(kind, attribute) for kind in kinds})
    truth = np.array([[getattr(kind, attribute) == name for name in names] for kind in kinds])
    known = np.c_[(features - mean) / spread, np.ones(len(kinds))]
    weights = np.linalg.solve(known.T @ known + 3 * np.eye(known.shape[1]), known.T @ truth)

    features, kinds = heard[True]
    guesses = np.c_[(features - mean) / spread, np.ones(len(kinds))] @ weights
    right = [
        names[i] == getattr(kind, attribute)
        for i, kind in zip(guesses.argmax(1), kinds, strict=True)
    ]
    assert np.mean(right) > 0.85
