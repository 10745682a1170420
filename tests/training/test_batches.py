"""The rows of a step, what is read of them, and that workers change nothing."""

import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2love.dataset import refavs
from sam2love.dataset.index import Index, read_index
from sam2love.params import Train, load_params
from sam2love.stores.features import FeatureReader
from sam2love.training.batches import Batch, Batches, draw_rows, load, read_batch
from stages import labels
from tests import tiny

CPU = torch.device("cpu")


@pytest.fixture
def index(run_folder) -> Index:
    return read_index(run_folder / "index")


@pytest.fixture
def batches(index, feature_folder):
    """Batches of the tiny data set's train rows."""

    def batches(*, any_frame: bool = False, folder: Path = feature_folder, **changes) -> Batches:
        rows = index.expressions[index.expressions["split"] == "train"]
        defaults = {"batch_size": 3, "grounding_steps": 2, "steps": 3}
        train: Train = load_params(tiny.DEFAULT_PARAMS).train
        train = train.model_copy(update=defaults | changes)
        return Batches(rows, FeatureReader(folder, index), train=train, any_frame=any_frame)

    return batches


def tensors(batch: Batch) -> Iterator[torch.Tensor]:
    yield from batch.features
    yield from batch.embeddings or ()
    yield from batch.masks
    yield batch.present


def test_rows_are_drawn_once_an_epoch_and_from_any_step():
    steps = [draw_rows(10, batch_size=4, step=step, seed=3) for step in range(5)]
    drawn = np.concatenate(steps)
    assert sorted(drawn[:10]) == sorted(drawn[10:]) == list(range(10))
    assert list(drawn[:10]) != list(drawn[10:])
    assert list(draw_rows(10, batch_size=4, step=3, seed=3)) == list(steps[3])
    assert list(draw_rows(10, batch_size=4, step=3, seed=4)) != list(steps[3])


def test_a_batch_is_half_until_it_is_moved(index, refavs_root, feature_folder):
    rows = index.expressions[index.expressions["key"] == "vidA_0_10000"]
    reader = FeatureReader(feature_folder, index)
    batch = read_batch(rows, reader)
    assert {part.dtype for part in tensors(batch)} == {torch.float16, torch.float32, torch.bool}
    assert batch.features.patches.dtype == torch.float16
    moved = batch.to(CPU)
    for part, before in zip(tensors(moved), tensors(batch), strict=True):
        expected = torch.bool if part is moved.features.text_mask else torch.float32
        assert part.dtype == expected
        assert torch.equal(part, before.to(expected))
    assert batch.present.all()
    for mask, key, fid in zip(batch.masks, rows["key"], rows["fid"], strict=True):
        np.testing.assert_array_equal(mask, refavs.read_mask(refavs_root, key, fid, 0))


def test_grounding_reads_one_frame_and_no_embeddings(batches):
    grounding, whole = batches().read(1), batches().read(2)
    assert grounding.features.patches.shape[1] == 1
    assert grounding.embeddings is None
    assert whole.features.patches.shape[1] == refavs.FRAMES
    assert [len(level) for level in whole.embeddings] == [3, 3, 3]


@pytest.fixture
def all_labels(run_folder, refavs_root, feature_folder) -> Path:
    """The same stores, with labels of every frame."""
    folder = run_folder / "features"
    folder.mkdir()
    for name in ("audio", "vision", "text", "sam2"):
        (folder / f"{name}.zarr").symlink_to(feature_folder / f"{name}.zarr")
    changes = {"fusion.strategy": "joint", "fusion.frame": "any"}
    tiny.change_params(run_folder / "params.yaml", changes)
    labels.main(refavs_root, run_folder / "index", folder / "labels.zarr")
    return folder


def test_some_rows_of_a_grounding_step_are_of_any_frame_with_its_label(
    batches, all_labels, index, refavs_root
):
    made = batches(any_frame=True, folder=all_labels, batch_size=4, grounding_steps=40)
    rows = index.expressions[index.expressions["split"] == "train"]
    drawn = []
    for number in range(40):
        batch = made.read(number)
        own = rows.iloc[draw_rows(len(rows), batch_size=4, step=number, seed=1)]
        for row, key in enumerate(own["key"]):
            frame, fid = int(batch.frame[row]), int(own["fid"].iloc[row])
            mask = refavs.read_mask(refavs_root, key, fid, frame)
            assert bool(batch.present[row]) == bool(mask is not None and mask.any())
            if mask is not None:
                np.testing.assert_array_equal(batch.masks[row], mask)
            drawn.append(frame)
    assert set(drawn) == set(range(10))
    assert 0.1 < np.mean(np.array(drawn) > 0) < 0.4
    assert batches(any_frame=True, folder=all_labels).read(3).frame.tolist() == [0, 0, 0]
    assert batches().read(0).frame is None


@pytest.mark.parametrize("workers", [0, 2])
def test_what_a_step_sees_follows_from_its_number_alone(batches, workers):
    made = batches(accumulation=2)
    assert len(made) == 10
    numbers = [*range(3, 10, 2), *range(10)]  # more than there are slots
    loaded = load(made, numbers, workers=workers, device=CPU)
    for batch, number in zip(loaded, numbers, strict=True):
        for part, expected in zip(tensors(batch), tensors(made.read(number)), strict=True):
            assert torch.equal(part, expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_loading_draws_from_no_generator(batches, workers):
    states = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()
    next(load(batches(), [0], workers=workers, device=CPU))
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1].tolist(), random.getstate()) == states[1:]


def test_processes_and_accumulation_share_a_steps_rows(batches):
    """Two processes' batches are those of one process that accumulates two."""
    one, two = batches(accumulation=2), batches(processes=2)
    for number in range(len(one)):
        both = tensors(one.read(number)), tensors(two.read(number))
        assert all(torch.equal(*parts) for parts in zip(*both, strict=True))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_batch_that_cannot_be_read_keeps_its_words(batches, workers):
    made = batches()
    made._rows = made._rows.assign(exp="never encoded")
    with pytest.raises(ValueError, match=r"^\S*text\.zarr: no item 'never encoded'") as error:
        list(load(made, [0], workers=workers, device=CPU))
    assert "\n" not in str(error.value)
