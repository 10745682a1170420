"""Batched propagation against the sam2 package's own video predictor."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2 import sam2_video_predictor

from sam2love.sam.build import build_sam2
from sam2love.sam.decode import click
from sam2love.sam.encode import encode_frames
from sam2love.sam.propagate import MaskStream, propagate

CONFIG = "weights/mini/sam2/config.yaml"
FRAMES, SIDE = 20, 128
"""More frames than there are memories and object pointers kept."""
POINTS = torch.tensor([[40.0, 50.0], [90.0, 80.0], [64.0, 20.0]])


@pytest.fixture(scope="module")
def model():
    """Mini SAM 2 with made-up weights, and scores that call every object present."""
    torch.manual_seed(0)
    sam2 = build_sam2(CONFIG)
    torch.nn.init.normal_(sam2.no_obj_ptr)
    torch.nn.init.constant_(sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 3.0)
    return sam2


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A folder of JPEGs, as the predictor reads them."""
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 255, (8, 8, 3), dtype=np.uint8)
    for frame in range(FRAMES):
        picture = Image.fromarray(np.roll(noise, frame, axis=1)).resize((SIDE, SIDE))
        picture.save(folder / f"{frame}.jpg", quality=95)
    return folder


def official(model, clip: Path, monkeypatch) -> torch.Tensor:
    """The package's predictor from a click without padding point, memories kept in float32."""

    class Torch:
        """torch, but for the predictor's bfloat16 memories."""

        def __getattr__(self, name: str):
            return torch.float32 if name == "bfloat16" else getattr(torch, name)

    monkeypatch.setattr(sam2_video_predictor, "torch", Torch())
    config = OmegaConf.load(CONFIG).model
    config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = instantiate(config).eval()
    predictor.load_state_dict(model.state_dict())
    encoder = predictor.sam_prompt_encoder
    embed = type(encoder)._embed_points

    def embed_without_padding_a_click(points, labels, pad):
        return embed(encoder, points, labels, pad=pad and bool((labels < 0).all()))

    monkeypatch.setattr(encoder, "_embed_points", embed_without_padding_a_click)
    state = predictor.init_state(str(clip))
    for row, point in enumerate(POINTS):
        predictor.add_new_points_or_box(
            state, 0, row, points=point[None], labels=[1], normalize_coords=True
        )
    masks = [logits[:, 0] for _, _, logits in predictor.propagate_in_video(state)]
    return torch.stack(masks, dim=1)


def images(clip: Path) -> torch.Tensor:
    from sam2.utils.misc import load_video_frames

    return load_video_frames(str(clip), SIDE, False, compute_device=torch.device("cpu"))[0]


def test_equals_the_packages_predictor(model, clip, monkeypatch):
    frames = images(clip)
    both = [encode_frames(model, frames.flip(0)), encode_frames(model, frames)]
    embeddings = tuple(torch.stack(level) for level in zip(*both, strict=True))
    prompts = click(model, POINTS)[[0, 0, 1, 2]]
    clip_of_row = torch.tensor([0, 1, 1, 1])
    logits, scores = propagate(model, embeddings, prompts, clip_of_row)
    expected = official(model, clip, monkeypatch)
    ours = torch.nn.functional.interpolate(logits[1:], size=(SIDE, SIDE), mode="bilinear")
    assert (scores > 0).all()
    assert expected.std() > 0.01
    assert max(model.num_maskmem, model.max_obj_ptrs_in_encoder) < FRAMES
    torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)


def test_rows_do_not_see_each_other(model, clip):
    frames = images(clip)
    both = [frames, frames.flip(0)]
    embeddings = tuple(
        torch.stack(level) for level in zip(*(encode_frames(model, f) for f in both), strict=True)
    )
    prompts = click(model, POINTS)
    together, _ = propagate(model, embeddings, prompts, torch.tensor([0, 1, 0]))
    for row, clip_number in enumerate([0, 1, 0]):
        alone, _ = propagate(model, embeddings, prompts[[row]], torch.tensor([clip_number]))
        torch.testing.assert_close(together[[row]], alone, atol=1e-5, rtol=1e-5)


def test_embeddings_kept_before_the_convolutions_give_the_same_masks(model, clip):
    frames = images(clip)
    prompts = click(model, POINTS[:1])
    row = torch.tensor([0])
    after = tuple(level[None] for level in encode_frames(model, frames))
    before = encode_frames(model, frames, before_high_res_convs=True)
    kept = tuple(level[None] for level in before)
    assert kept[1].shape[2] == 8 * after[1].shape[2]
    torch.testing.assert_close(
        propagate(model, kept, prompts, row)[0], propagate(model, after, prompts, row)[0]
    )


def test_a_tracker_segments_all_frames_but_the_prompted_one(model, clip):
    torch.manual_seed(1)
    tracker = build_sam2(CONFIG)
    embeddings = tuple(level[None] for level in encode_frames(model, images(clip)[:3]))
    prompts, row = click(model, POINTS[:1]), torch.tensor([0])
    own, own_scores = propagate(model, embeddings, prompts, row)
    other, other_scores = propagate(model, embeddings, prompts, row, tracker=tracker)
    torch.testing.assert_close(own[:, 0], other[:, 0], atol=0, rtol=0)
    torch.testing.assert_close(own_scores[:, 0], other_scores[:, 0], atol=0, rtol=0)
    assert not torch.isclose(own_scores[:, 1:], other_scores[:, 1:]).any()


def test_a_stream_remembers_no_more_than_it_looks_back_on(model, clip):
    levels = encode_frames(model, images(clip)[:1])
    stream = MaskStream(model, click(model, POINTS[:1]), torch.tensor([0]), frames=40)
    for _ in range(40):
        stream.step(levels)
    memory = stream._memory
    assert 1 + len(memory._latest) == model.num_maskmem
    assert 1 + len(memory._latest_pointers) == model.max_obj_ptrs_in_encoder
