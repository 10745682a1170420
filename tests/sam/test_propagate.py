"""Batched propagation against the sam2 package's own video predictor."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from PIL import Image
from safetensors.torch import load_file
from sam2 import sam2_video_predictor

from sam2love.params import load_params
from sam2love.sam.build import SAM2Base, build_sam2
from sam2love.sam.decode import click
from sam2love.sam.encode import encode_frames
from sam2love.sam.propagate import MaskStream, build_tracker, propagate
from tests.tiny import DEFAULT_PARAMS, change_params

CONFIG, WEIGHTS = "weights/mini/sam2/config.yaml", "weights/mini/sam2/model.safetensors"
FRAMES, SIDE = 20, 128
"""More frames than memories and object pointers are kept."""
POINTS = torch.tensor([[40.0, 50.0], [90.0, 80.0], [64.0, 20.0]])
SEVERAL = {
    # As in every published configuration, except that a click gives one mask, like our token.
    "multimask_output_in_sam": True,
    "multimask_output_for_tracking": True,
    "use_multimask_token_for_obj_ptr": True,
    "multimask_min_pt_num": 0,
    "multimask_max_pt_num": 0,
}
LARGE_2_0 = SEVERAL | {
    "no_obj_embed_spatial": False,
    "add_tpos_enc_to_obj_ptrs": False,
    "proj_tpos_enc_in_obj_ptrs": False,
    "use_signed_tpos_enc_to_obj_ptrs": False,
}


def configured(**changes: object) -> DictConfig:
    config = OmegaConf.load(CONFIG)
    return OmegaConf.merge(config, {"model": changes})


@pytest.fixture(scope="module")
def model():
    """Mini SAM 2, pre-trained, so that its object scores are meaningful."""
    return build_sam2(CONFIG, WEIGHTS)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A folder of JPEGs, as the predictor reads them, with an object at each of the points.

    The first is hidden from frame 4 to 8, the second moves, the third disappears at frame 12.
    """
    folder = tmp_path_factory.mktemp("clip")
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(60, 120, (8, 8, 3), dtype=np.uint8))
    for frame in range(FRAMES):
        picture = np.array(noise.resize((SIDE, SIDE)))
        if not 4 <= frame <= 8:
            picture[38:62, 28 + frame : 52 + frame] = 220, 40, 40
        picture[68 + frame : 92 + frame, 78:102] = 40, 200, 60
        if frame < 12:
            picture[8:32, 52:76] = 60, 80, 230
        Image.fromarray(picture).save(folder / f"{frame}.jpg", quality=95)
    return folder


def official(
    config: DictConfig, model, clip: Path, monkeypatch, *, prompted: int = 0, reverse: bool = False
) -> torch.Tensor:
    """Run the package's predictor from clicks without padding point, with float32 memories.

    Returns the masks from the prompted frame on, or with `reverse` from it back to frame 0.
    """

    class Torch:
        """torch, except that the predictor's bfloat16 memories stay float32."""

        def __getattr__(self, name: str):
            return torch.float32 if name == "bfloat16" else getattr(torch, name)

    monkeypatch.setattr(sam2_video_predictor, "torch", Torch())
    target = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = instantiate(config.model, _target_=target).eval()
    predictor.load_state_dict(model.state_dict())
    encoder = predictor.sam_prompt_encoder
    embed = type(encoder)._embed_points

    def embed_without_padding_a_click(points, labels, pad):
        return embed(encoder, points, labels, pad=pad and bool((labels < 0).all()))

    monkeypatch.setattr(encoder, "_embed_points", embed_without_padding_a_click)
    state = predictor.init_state(str(clip))
    for row, point in enumerate(POINTS):
        predictor.add_new_points_or_box(
            state, prompted, row, points=point[None], labels=[1], normalize_coords=True
        )
    tracked = predictor.propagate_in_video(state, reverse=reverse)
    masks = [logits[:, 0] for _, _, logits in tracked]
    return torch.stack(masks, dim=1)


def count_masks(model) -> list[int]:
    """Record how many masks per row the decoder predicts, call by call from now on."""
    counted: list[int] = []
    model.sam_mask_decoder.register_forward_hook(
        lambda decoder, inputs, outputs: counted.append(outputs[0].shape[1])
    )
    return counted


def images(clip: Path) -> torch.Tensor:
    from sam2.utils.misc import load_video_frames

    return load_video_frames(str(clip), SIDE, False, compute_device=torch.device("cpu"))[0]


def pretrained(config: DictConfig, path: Path) -> SAM2Base:
    """Build a SAM 2 of a configuration, written to `path`, with what fits of the mini weights."""
    OmegaConf.save(config, path)
    model = build_sam2(str(path))
    weights, names = load_file(WEIGHTS), model.state_dict().keys()
    model.load_state_dict({name: weights[name] for name in names})
    return model


@pytest.mark.parametrize(
    ("changes", "masks"),
    [
        ({}, 1),
        (SEVERAL, 3),
        (LARGE_2_0, 3),
        (SEVERAL | {"multimask_output_for_tracking": False}, 1),
    ],
    ids=["one mask", "several masks", "SAM 2.0 large", "one mask of several"],
)
def test_equals_the_packages_predictor(clip, tmp_path, monkeypatch, changes, masks):
    config = configured(**changes)
    model = pretrained(config, tmp_path / "config.yaml")
    counted = count_masks(model)
    frames = images(clip)
    both = [encode_frames(model, frames.flip(0)), encode_frames(model, frames)]
    embeddings = tuple(torch.stack(level) for level in zip(*both, strict=True))
    prompts = click(model, POINTS)[[0, 0, 1, 2]]
    clip_of_row = torch.tensor([0, 1, 1, 1])
    logits, scores = propagate(model, embeddings, prompts, clip_of_row)
    expected = official(config, model, clip, monkeypatch)
    ours = torch.nn.functional.interpolate(logits[1:], size=(SIDE, SIDE), mode="bilinear")
    assert counted == [1, *[masks] * (FRAMES - 1)]
    present = scores[1:] > 0
    assert present[:, 0].all()  # the prompted frame counts as showing the object
    assert not present[0, 5:9].any()
    assert present[0, 9:11].all()
    assert max(model.num_maskmem, model.max_obj_ptrs_in_encoder) < FRAMES
    torch.testing.assert_close(ours, expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize(
    ("changes", "prompted"),
    [({}, 1), ({}, 9), ({}, FRAMES - 1), (SEVERAL, 9), (LARGE_2_0, 9)],
    ids=["second", "middle", "last", "several masks", "SAM 2.0 large"],
)
def test_equals_the_packages_predictor_both_ways(clip, tmp_path, monkeypatch, changes, prompted):
    config = configured(**changes)
    model = pretrained(config, tmp_path / "config.yaml")
    embeddings = tuple(level[None] for level in encode_frames(model, images(clip)))
    rows = torch.zeros(len(POINTS), dtype=torch.int64)
    logits, _ = propagate(
        model, embeddings, click(model, POINTS), rows, prompted=torch.full_like(rows, prompted)
    )
    ours = torch.nn.functional.interpolate(logits, size=(SIDE, SIDE), mode="bilinear")
    # A state of its own per direction: the package's second one also remembers the first.
    with monkeypatch.context() as patch:
        forward = official(config, model, clip, patch, prompted=prompted)
    torch.testing.assert_close(ours[:, prompted:], forward, atol=1e-3, rtol=1e-3)
    with monkeypatch.context() as patch:
        back = official(config, model, clip, patch, prompted=prompted, reverse=True)
    torch.testing.assert_close(ours[:, : prompted + 1], back.flip(1), atol=1e-3, rtol=1e-3)


def test_rows_from_frame_0_are_one_stream_to_the_byte(model, clip):
    frames = encode_frames(model, images(clip)[:6])
    prompts, rows = click(model, POINTS), torch.zeros(3, dtype=torch.int64)
    stream = MaskStream(model, prompts, rows, frames=6)
    steps = [stream.step(tuple(level[[t]] for level in frames)) for t in range(6)]
    whole = tuple(level[None] for level in frames)
    for prompted in (None, torch.zeros_like(rows)):
        found = propagate(model, whole, prompts, rows, prompted=prompted)
        for ours, expected in zip(found, zip(*steps, strict=True), strict=True):
            assert torch.equal(ours, torch.stack(expected, dim=1))


def test_rows_with_prompted_frames_of_their_own_are_independent(model, clip):
    frames = images(clip)[:8]
    both = [encode_frames(model, frames), encode_frames(model, frames.flip(0))]
    embeddings = tuple(torch.stack(level) for level in zip(*both, strict=True))
    prompts, clips = click(model, POINTS)[[0, 1, 2, 0, 1]], torch.tensor([0, 1, 0, 1, 1])
    prompted = torch.tensor([3, 0, 7, 3, 5])
    together = propagate(model, embeddings, prompts, clips, prompted=prompted)
    for row in range(5):
        own = [row]
        alone = propagate(model, embeddings, prompts[own], clips[own], prompted=prompted[own])
        for whole, part in zip(together, alone, strict=True):
            torch.testing.assert_close(whole[own], part, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("frame", [-1, 3])
def test_a_prompted_frame_outside_the_clip_is_refused(model, clip, frame):
    embeddings = tuple(level[None] for level in encode_frames(model, images(clip)[:3]))
    rows = torch.zeros(1, dtype=torch.int64)
    with pytest.raises(ValueError, match=rf"found frames \[{frame}\]; expected 0 to 2"):
        propagate(model, embeddings, click(model, POINTS[:1]), rows, prompted=rows + frame)


def test_rows_are_independent(model, clip):
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


def test_embeddings_stored_before_the_convolutions_give_the_same_masks(model, clip):
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


def test_a_tracker_segments_all_frames_except_the_prompted_one(model, clip):
    torch.manual_seed(1)
    tracker = build_sam2(CONFIG)
    embeddings = tuple(level[None] for level in encode_frames(model, images(clip)[:3]))
    prompts, row = click(model, POINTS[:1]), torch.tensor([0])
    own, own_scores = propagate(model, embeddings, prompts, row)
    other, other_scores = propagate(model, embeddings, prompts, row, tracker=tracker)
    torch.testing.assert_close(own[:, 0], other[:, 0], atol=0, rtol=0)
    torch.testing.assert_close(own_scores[:, 0], other_scores[:, 0], atol=0, rtol=0)
    assert not torch.isclose(own_scores[:, 1:], other_scores[:, 1:]).any()


@pytest.mark.parametrize("tracker", ["trained", "pretrained"])
@pytest.mark.parametrize(("tracking_masks", "masks"), [("configured", 3), ("single", 1)])
def test_the_tracker_follows_the_parameters(clip, tmp_path, tracker, tracking_masks, masks):
    OmegaConf.save(configured(**SEVERAL), tmp_path / "config.yaml")
    path = tmp_path / "params.yaml"
    path.write_bytes(DEFAULT_PARAMS.read_bytes())
    change_params(
        path,
        {
            "sam2.config": str(tmp_path / "config.yaml"),
            "propagate.tracker": tracker,
            "propagate.tracking_masks": tracking_masks,
        },
    )
    sam2 = build_sam2(str(tmp_path / "config.yaml"))
    built = build_tracker(load_params(path), sam2)
    assert (built is sam2) == (tracker == "trained")
    if tracker == "pretrained":
        weights = load_file(WEIGHTS)
        assert all(torch.equal(weights[name], own) for name, own in built.state_dict().items())
    counted = count_masks(built)
    stream = MaskStream(sam2, click(sam2, POINTS[:1]), torch.tensor([0]), frames=3, tracker=built)
    levels = encode_frames(sam2, images(clip)[:1])
    for _ in range(3):
        stream.step(levels)
    assert counted[-2:] == [masks, masks]


def test_a_stream_keeps_no_more_memories_than_it_reads(model, clip):
    levels = encode_frames(model, images(clip)[:1])
    stream = MaskStream(model, click(model, POINTS[:1]), torch.tensor([0]), frames=40)
    for _ in range(40):
        stream.step(levels)
    memory = stream._memory
    assert 1 + len(memory._latest) == model.num_maskmem
    assert 1 + len(memory._latest_pointers) == model.max_obj_ptrs_in_encoder
