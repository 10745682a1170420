"""The mini ViT: its labels against the pictures, a step of training, its committed weights."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file

from mini import pretrain_vit
from mini.labelled import CELLS, CLASSES, GRID, NAMES, SIDE, Pictures, draw, renew, sample
from mini.pictures import COLOURS
from mini.pretrain_vit import CLEAR, build
from mini.probes import classify
from sam2love.encoders.vision import VisionEncoder, load_vision_encoder
from sam2love.encoders.weights import digest

WEIGHTS = "weights/mini/vit"
RNG = np.random.default_rng


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return draw(RNG(101), 60)


@pytest.fixture(scope="module")
def encoder() -> VisionEncoder:
    return load_vision_encoder(WEIGHTS, digest(WEIGHTS))


def test_colour_label_is_the_colour_of_the_patch(pictures: Pictures) -> None:
    patches = pictures.pixels.reshape(-1, GRID, SIDE // GRID, GRID, SIDE // GRID, 3)
    means = patches.mean(axis=(2, 4)).reshape(-1, GRID**2, 3)
    full = pictures.cover > 0.99
    palette = np.array(list(COLOURS.values()))
    nearest = np.linalg.norm(means[full][:, None] - palette, axis=2).argmin(axis=1)
    colour = pictures.kinds[..., list(NAMES).index("colour")][full]
    assert (nearest == colour).mean() > 0.9


def test_mirrored_pictures_carry_their_labels_along() -> None:
    one = Pictures(**{name: value[:1] for name, value in vars(draw(RNG(7), 1)).items()})
    batch = sample(RNG(3), one, 20)
    flipped = (batch.pixels != one.pixels).any(axis=(1, 2, 3))
    assert 0 < flipped.sum() < 20
    np.testing.assert_array_equal(batch.pixels[flipped][0], one.pixels[0][:, ::-1])
    for name in ("kinds", "cover", "mask"):
        before, after = (_as_picture(part, name) for part in (one, batch))
        np.testing.assert_array_equal(after[flipped][0], before[0][:, ::-1])
        np.testing.assert_array_equal(after[~flipped][0], before[0])
    before, after = (part.centre.reshape(-1, GRID, GRID, 2) for part in (one, batch))
    np.testing.assert_array_equal(after[flipped][0], before[0][:, ::-1] * np.float32([-1, 1]))


def _as_picture(pictures: Pictures, name: str) -> np.ndarray:
    """Return a label of every patch as a picture, (B, rows, columns, ...)."""
    values = getattr(pictures, name)
    values = values.reshape(len(values), GRID, GRID, -1)
    if name != "mask":
        return values
    cells = values.reshape(-1, GRID, GRID, CELLS, CELLS).transpose(0, 1, 3, 2, 4)
    return cells.reshape(-1, GRID * CELLS, GRID * CELLS)


def test_mask_cells_cover_at_least_the_labelled_thing(pictures: Pictures) -> None:
    assert pictures.mask.shape[-1] == CELLS**2
    assert (pictures.mask.mean(axis=-1) >= pictures.cover - 1e-6).all()


def test_new_pictures_replace_the_oldest(pictures: Pictures) -> None:
    pool = draw(RNG(1), 3)
    new = draw(RNG(2), 1)
    assert renew(pool, new, 6) == 9
    np.testing.assert_array_equal(pool.pixels[6:], new.pixels)


def test_weights_fit_the_settings() -> None:
    settings = yaml.safe_load(Path("mini/params.yaml").read_text())["vit"]
    build(settings).load_state_dict(load_file(f"{WEIGHTS}/model.safetensors"), strict=True)


def test_patches_encode_what_and_where(pictures: Pictures, encoder: VisionEncoder) -> None:
    patches, cls = encoder.encode(encoder.preprocess(pictures.pixels))
    assert patches.shape == (180, GRID**2, encoder.dim)
    assert cls.shape == (180, encoder.dim)
    features = patches.flatten(0, 1)
    clear = torch.from_numpy(pictures.cover.reshape(-1) >= CLEAR)
    taught = torch.arange(len(features)) < len(features) * 2 // 3
    for index, (name, least) in enumerate({"shape": 0.85, "colour": 0.95, "size": 0.8}.items()):
        labels = torch.from_numpy(pictures.kinds[..., index].reshape(-1))
        train, test = clear & taught, clear & ~taught
        guess = classify(features[train], labels[train], features[test], CLASSES[name])
        assert (guess == labels[test]).float().mean() >= least, name
    place = torch.arange(GRID**2).repeat(len(pictures.pixels)) // GRID
    few = torch.arange(GRID**2 * 40)
    guess = classify(features[few], place[few], features[~taught], GRID)
    assert (guess == place[~taught]).float().mean() >= 0.98


def test_training_is_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.yaml"
    settings = yaml.safe_load(Path("mini/params.yaml").read_text())["vit"]
    small = {"steps": 3, "warmup_steps": 1, "batch_size": 4, "pool_scenes": 4, "new_scenes": 2}
    params.write_text(yaml.safe_dump({"vit": settings | small}))
    cards: list[dict] = []
    monkeypatch.setattr(pretrain_vit, "write_card", lambda name, **facts: cards.append(facts))
    monkeypatch.setattr(pretrain_vit, "figures", lambda model, seed: {})
    for folder in ("one", "two"):
        pretrain_vit.main(tmp_path / folder, params)
    assert digest(tmp_path / "one") == digest(tmp_path / "two")
    assert cards[0]["settings"] == settings | small
    assert load_vision_encoder(str(tmp_path / "one"), digest(tmp_path / "one")).patches == GRID**2
