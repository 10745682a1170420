"""The mini VGGish: its training material, a few steps of training, its committed weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mini import pretrain_vggish
from mini.mixtures import GRID, KINDS, SECONDS, Seconds, draw, grouped_levels, levels, renew
from mini.pretrain_vggish import figures
from mini.sounds import SAMPLE_RATE_HZ, Sound, synthesize
from sam2love.encoders.audio import VGGish, load_audio_encoder, vggish_from_state
from sam2love.encoders.tensors import read_tensors
from sam2love.encoders.weights import digest

WEIGHTS = Path("weights/mini/vggish.safetensors")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def model() -> VGGish:
    return vggish_from_state(read_tensors(WEIGHTS)).eval()


def test_windows_with_energy_are_louder_than_silent_ones() -> None:
    seconds = draw(np.random.default_rng(1), 8)
    assert seconds.mel.shape == (8 * SECONDS, 96, 64)
    assert seconds.energy.shape == (8 * SECONDS, len(KINDS))
    loudness, total = seconds.mel.max(axis=(1, 2)), seconds.energy.sum(axis=1)
    loud, silent = total > 1e-3, total == 0
    assert loudness[loud].min() > loudness[silent].max()


def test_levels_are_linear_in_decibels() -> None:
    energy = 10 ** (np.array([-60, -45, -25, -5]) / 10)
    np.testing.assert_allclose(levels(energy), [0, 0, 0.5, 1], atol=1e-6)


def test_a_group_has_the_level_of_its_kinds_together() -> None:
    energy = np.zeros((1, len(KINDS)), dtype=np.float32)
    circles = [i for i, kind in enumerate(KINDS) if kind.shape == "circle"]
    energy[0, circles[:2]] = 0.01
    grouped = grouped_levels(energy)
    np.testing.assert_allclose(grouped["shape"][0], [*levels(np.array([0.02])), 0, 0, 0, 0])
    assert grouped["shape and colour"].shape == (1, GRID[0] * GRID[1])


def test_new_windows_replace_the_oldest() -> None:
    pool = Seconds(np.zeros((4, 96, 64)), np.zeros((4, 60)))
    new = Seconds(np.ones((2, 96, 64)), np.ones((2, 60)))
    assert renew(pool, new, 3) == 1
    assert pool.energy[:, 0].tolist() == [1, 0, 0, 1]


def test_vectors_encode_what_sounds_and_how_loud(model: VGGish) -> None:
    found = figures(model, seed=77, clips=120)
    assert found["shape_auc"] > 0.93
    assert found["colour_auc"] > 0.88
    assert found["size_auc"] > 0.95
    assert found["loudest"] > 0.75
    assert found["sounding"] > 0.85


def test_each_second_has_a_vector_of_its_own() -> None:
    encoder = load_audio_encoder(WEIGHTS, digest(WEIGHTS))
    sound = Sound(onset_seconds=3, seconds=2, level_db=-10)
    wave = synthesize(KINDS[0], sound, np.random.default_rng(0), seconds=10)
    vectors = encoder.encode(wave, SAMPLE_RATE_HZ)
    assert vectors.shape == (10, encoder.dim)
    silence = vectors[0]
    changed = (vectors - silence).norm(dim=1) > 1e-3
    assert changed.tolist() == [second in (3, 4) for second in range(10)]


def test_training_is_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.yaml"
    settings = yaml.safe_load(Path("mini/params.yaml").read_text())["vggish"]
    small = {"steps": 3, "warmup_steps": 1, "batch_size": 8, "pool_clips": 3, "new_clips": 1}
    params.write_text(yaml.safe_dump({"vggish": settings | small}))
    cards: list[dict] = []
    monkeypatch.setattr(pretrain_vggish, "write_card", lambda name, **facts: cards.append(facts))
    monkeypatch.setattr(pretrain_vggish, "figures", lambda model, seed: {})
    for name in ("one", "two"):
        pretrain_vggish.main(tmp_path / f"{name}.safetensors", params)
    assert digest(tmp_path / "one.safetensors") == digest(tmp_path / "two.safetensors")
    assert cards[0]["settings"] == settings | small
