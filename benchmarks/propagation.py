"""Several prompts on one clip: one batch of ours against the sam2 package's video predictor.

The mini SAM 2, and SAM 2.1 tiny at 1024; each prompt is a click on the first frame. Every way reads
and encodes the JPEGs as often as its user would: once in ours and in one state with many objects,
once per prompt with one state per prompt. The predictor is unchanged, with a padding point beside
each click and bfloat16 memories, so a few pixels may differ: `mask_iou` compares the masks.
"""

import contextlib
import io
from importlib.resources import files
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image
from sam2.sam2_video_predictor import SAM2VideoPredictor
from sam2.utils.misc import load_video_frames
from torch import Tensor
from torch.nn import functional as F

from benchmarks.timing import Leaf, short, side_by_side, speedup
from sam2love.sam.build import SAM2Base, build_sam2
from sam2love.sam.decode import click
from sam2love.sam.encode import encode_frames
from sam2love.sam.propagate import propagate

CONFIG = "weights/mini/sam2/config.yaml"
WEIGHTS = "weights/mini/sam2/model.safetensors"
TINY = str(files("sam2") / "configs/sam2.1/sam2.1_hiera_t.yaml")


def measure_at_1024(*, prompts: int = 3, frames: int = 3, rounds: int = 2) -> Leaf:
    """Measure SAM 2.1 tiny with random weights, whose masks are not compared."""
    torch.manual_seed(0)
    sam2 = build_sam2(TINY)
    predictor = _predictor(sam2, TINY)
    with TemporaryDirectory() as clip, contextlib.redirect_stderr(io.StringIO()):
        points = _make_clip(Path(clip), frames, prompts, side=sam2.image_size)
        ways = {
            "batch": lambda: one_batch(sam2, clip, points),
            "state_per_prompt": lambda: [
                one_state(predictor, clip, point[None]) for point in points
            ],
        }
        seconds = side_by_side(ways, rounds=rounds)
    return speedup(seconds, "batch", "state_per_prompt", prompts=prompts, frames=frames)


def measure(*, prompts: int = 6, frames: int = 10, rounds: int = 7) -> dict[str, Leaf]:
    """Measure the mini SAM 2, with masks of every prompt and frame at the pictures' size."""
    sam2 = build_sam2(CONFIG, WEIGHTS)
    predictor = _predictor(sam2, CONFIG)
    with TemporaryDirectory() as clip, contextlib.redirect_stderr(io.StringIO()):  # progress bars
        points = _make_clip(Path(clip), frames, prompts, side=sam2.image_size)
        ways = {
            "batch": lambda: one_batch(sam2, clip, points),
            "state_per_prompt": lambda: torch.cat(
                [one_state(predictor, clip, point[None]) for point in points]
            ),
            "state_of_all": lambda: one_state(predictor, clip, points),
        }
        shown = {name: way() > 0 for name, way in ways.items()}
        seconds = side_by_side(ways, rounds=rounds)

    def against(other: str) -> Leaf:
        ours, theirs = shown["batch"], shown[other]
        iou = short(((ours & theirs).sum() / (ours | theirs).sum()).item())
        figures = {"prompts": prompts, "frames": frames, "mask_iou": iou}
        includes = "reading and encoding the frames"
        return speedup(seconds, "batch", other, **figures, includes=includes)

    return {
        "speedup_over_official_predictor": against("state_per_prompt"),
        "speedup_over_official_multi_object": against("state_of_all"),
    }


def one_batch(sam2: SAM2Base, clip: str, points: Tensor) -> Tensor:
    """Return our mask logits, (prompts, frames, H, W)."""
    side = sam2.image_size
    images, *size = load_video_frames(clip, side, False, compute_device=torch.device("cpu"))
    embedding, high_res_0, high_res_1 = encode_frames(sam2, images)
    clips = (embedding[None], high_res_0[None], high_res_1[None])
    logits, _ = propagate(
        sam2, clips, click(sam2, points), torch.zeros(len(points), dtype=torch.int64)
    )
    return F.interpolate(logits, size=size, mode="bilinear")


def one_state(predictor: SAM2VideoPredictor, clip: str, points: Tensor) -> Tensor:
    """Return the package's mask logits, same shape, by one inference state with all objects."""
    state = predictor.init_state(clip)
    for number, point in enumerate(points):
        predictor.add_new_points_or_box(state, 0, number, points=point[None], labels=[1])
    return torch.stack([masks[:, 0] for *_, masks in predictor.propagate_in_video(state)], dim=1)


def _predictor(sam2: SAM2Base, config_file: str) -> SAM2VideoPredictor:
    config = OmegaConf.load(config_file).model
    config._target_ = "sam2.sam2_video_predictor.SAM2VideoPredictor"
    predictor = instantiate(config).eval()
    predictor.load_state_dict(sam2.state_dict())
    return predictor


def _make_clip(folder: Path, frames: int, objects: int, *, side: int) -> Tensor:
    """Write JPEGs of moving coloured boxes; return x and y of their centres, (objects, 2)."""
    rng = np.random.default_rng(0)
    colours = rng.integers(0, 255, (objects, 3))
    scale = side // 128
    starts = scale * np.array([(x, y) for y in (20, 70) for x in (15, 55, 95)])[:objects]
    for frame in range(frames):
        picture = np.full((side, side, 3), 128, np.uint8)
        for colour, (x, y) in zip(colours, starts, strict=True):
            top = y + scale * frame
            picture[top : top + 22 * scale, x : x + 18 * scale] = colour
        Image.fromarray(picture).save(folder / f"{frame}.jpg", quality=95)
    return torch.from_numpy(starts).float() + scale * torch.tensor([9.0, 11.0])
