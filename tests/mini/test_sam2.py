"""The mini SAM 2: its training material, parity with the library's propagation, its weights."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from sam2.modeling.sam2_base import SAM2Base

from mini.clips import Batch, sample_batch
from mini.evaluate_sam2 import evaluate, region_j, segment
from mini.pretrain_sam2 import losses, main, prepare, train_step
from mini.tracking import PROMPTS, Tracked, boxes_around, points_inside, track
from sam2love.sam.build import build_sam2

CONFIG = Path("weights/mini/sam2/config.yaml")
WEIGHTS = Path("weights/mini/sam2/model.safetensors")


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def sam2() -> SAM2Base:
    return build_sam2(str(CONFIG), str(WEIGHTS))


@pytest.fixture(scope="module")
def batch() -> Batch:
    return sample_batch(np.random.default_rng(5), clips=2, frames=10, strides=[1])


def test_batches_depend_only_on_the_seed(batch: Batch) -> None:
    again = sample_batch(np.random.default_rng(5), clips=2, frames=10, strides=[1])
    other = sample_batch(np.random.default_rng(6), clips=2, frames=10, strides=[1])
    assert torch.equal(batch.images, again.images)
    assert torch.equal(batch.masks, again.masks)
    assert not torch.equal(batch.images, other.images)


def test_every_object_can_be_prompted_on_the_first_frame(batch: Batch) -> None:
    assert batch.images.shape == (2, 10, 3, 128, 128)
    assert len(batch.masks) == len(batch.clip_of_object)
    assert batch.masks[:, 0].flatten(1).any(dim=1).all()


def test_points_are_inside_masks_and_boxes_around_them(batch: Batch) -> None:
    masks = batch.masks[:, 0]
    rng = np.random.default_rng(0)
    for mask, (x, y), corners in zip(
        masks, points_inside(masks, rng)[:, 0].int(), boxes_around(masks, rng), strict=True
    ):
        assert mask[y, x]
        rows, columns = torch.where(mask)
        edges = torch.tensor([[columns.min(), rows.min()], [columns.max(), rows.max()]])
        assert (corners - edges).abs().max() < 6


def test_the_weights_fit_their_configuration_and_stay_small(sam2: SAM2Base) -> None:
    assert sum(parameter.numel() for parameter in sam2.parameters()) < 1_600_000
    assert WEIGHTS.stat().st_size < 6_500_000


def test_a_click_segments_the_object_and_memory_tracks_it(sam2: SAM2Base) -> None:
    figures = evaluate(sam2, clips=10, seed=424_242)
    assert figures["frame_0"] >= 0.75
    assert figures["ten_frames"] >= 0.68


def test_training_tracks_as_the_library_propagates(sam2: SAM2Base, batch: Batch) -> None:
    with torch.no_grad():
        tracked = track(sam2, batch, "token", np.random.default_rng(3))
    points = points_inside(batch.masks[:, 0], np.random.default_rng(3))[:, 0]
    predicted, scores = segment(sam2, batch, points)
    ours = torch.stack([frame.object_score for frame in tracked], dim=1)
    torch.testing.assert_close(ours, scores, atol=1e-3, rtol=1e-3)
    masks = torch.stack([frame.logits for frame in tracked], dim=1) > 0
    masks[:, 1:] &= (scores > 0)[:, 1:, None, None]
    assert (masks == predicted).float().mean() > 0.9999


@pytest.mark.parametrize("prompt", PROMPTS)
def test_every_prompt_gives_gradients_to_the_whole_model(prompt: str, batch: Batch) -> None:
    torch.manual_seed(0)
    sam2 = build_sam2(str(CONFIG)).train()
    prepare(sam2)
    short = Batch(batch.images[:, :2], batch.masks[:, :2], batch.clip_of_object)
    terms = losses(track(sam2, short, prompt, np.random.default_rng(0)), short.masks)
    torch.stack(list(terms.values())).sum().backward()
    for part in (sam2.image_encoder, sam2.memory_attention, sam2.memory_encoder):
        assert all(parameter.grad is not None for parameter in part.parameters())


def test_losses_of_a_perfect_mask_are_zero(batch: Batch) -> None:
    masks = batch.masks
    seen = masks.flatten(2).any(dim=2)
    tracked = [
        Tracked(masks[:, t] * 80.0 - 40, torch.ones(len(masks)), seen[:, t] * 80.0 - 40)
        for t in range(masks.shape[1])
    ]
    assert all(term < 1e-3 for term in losses(tracked, masks).values())


def test_j_without_the_object_is_the_predicted_background() -> None:
    truth = torch.zeros(1, 2, 4, 4, dtype=torch.bool)
    truth[0, 0, :2] = True
    predicted = torch.zeros_like(truth)
    predicted[0, :, 0] = True
    assert region_j(predicted, truth).tolist() == [[0.5, 0.75]]


def test_an_interrupted_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    settings = yaml.safe_load(Path("mini/params.yaml").read_text())
    settings["sam2"]["phases"] = [
        {"steps": 2, "clips": 1, "frames": 1, "strides": [1]},
        {"steps": 2, "clips": 1, "frames": 3, "strides": [1, 2]},
    ]
    settings["sam2"]["save_every"] = 3
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump(settings))
    folders = [tmp_path / "whole", tmp_path / "resumed"]
    for folder in folders:
        folder.mkdir()
        (folder / "config.yaml").write_text(CONFIG.read_text())
    main(folders[0], params, tmp_path / "whole.pt")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mini.pretrain_sam2.train_step", _stop_at_the_last_step)
        with pytest.raises(KeyboardInterrupt):
            main(folders[1], params, tmp_path / "resumed.pt")
    main(folders[1], params, tmp_path / "resumed.pt")
    whole, resumed = (folder / "model.safetensors" for folder in folders)
    assert whole.read_bytes() == resumed.read_bytes()


def _stop_at_the_last_step(*args: Any, step: int, **settings: Any) -> dict[str, float]:
    if step == 3:
        raise KeyboardInterrupt
    return train_step(*args, step=step, **settings)


def test_an_absent_object_has_an_empty_target() -> None:
    masks = torch.zeros(2, 1, 8, 8, dtype=torch.bool)
    masks[0, 0, :4] = True
    logits = torch.zeros(2, 8, 8, requires_grad=True)
    terms = losses([Tracked(logits, torch.ones(2), torch.zeros(2))], masks)
    (gradient,) = torch.autograd.grad(terms["bce"] + terms["dice"], logits)
    assert (gradient[1] > 0).all()
