"""From prompts on first frames to masks on every frame of clips.

Shapes: B rows, N frames, C the width of SAM 2's prompts, 4h x 4w mask logits.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2love import refavs
from sam2love.features import Encode, FeatureReader
from sam2love.refavs import FRAMES
from sam2love.sam.build import SAM2Base
from sam2love.sam.decode import click
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.sam.propagate import propagate
from sam2love.store import ArraySpec, rounded


def prediction_specs(sam2: SAM2Base) -> list[ArraySpec]:
    """The arrays of predictions/*.zarr, an item a row or an object."""
    side = 4 * sam2.sam_image_embedding_size
    return [
        ArraySpec("logits", (FRAMES, side, side), "float16", 64, "mask logits before any gate"),
        ArraySpec("object_score", (FRAMES,), "float32", 64, "logit of the object being there"),
    ]


@torch.inference_mode()
def segment_clips(
    sam2: SAM2Base,
    keys: Sequence[str],
    prompts: Tensor,
    reader: FeatureReader,
    *,
    tracker: SAM2Base | None = None,
) -> dict[str, np.ndarray]:
    """Propagate B prompts (B, 1, C), each through the clip that stands beside it in `keys`.

    Rows of one clip share its embeddings.

    Args:
        tracker: see `propagate`.

    Returns:
        Arrays as `prediction_specs` declares them: "logits" (B, N, 4h, 4w), "object_score" (B, N).
    """
    clips = list(dict.fromkeys(keys))
    clip_of_row = torch.tensor([clips.index(key) for key in keys], device=prompts.device)
    embedding, high_res_0, high_res_1 = (
        level.to(prompts.device).float() for level in reader.embeddings(clips)
    )
    levels = (embedding, high_res_0, high_res_1)
    logits, scores = propagate(sam2, levels, prompts, clip_of_row, tracker=tracker)
    return {"logits": logits.half().cpu().numpy(), "object_score": scores.float().cpu().numpy()}


def frame_encoder(
    sam2: SAM2Base, root: Path, *, before_high_res_convs: bool, keep_bits: int | None
) -> Encode:
    """What encodes the frames that the store does not hold, rounded as those in the store are."""

    def stored(level: Tensor) -> Tensor:
        return torch.from_numpy(rounded(level.half().cpu().numpy(), keep_bits)).float()

    def encode(key: str, frames: list[int]) -> tuple[Tensor, Tensor, Tensor]:
        pictures = np.stack([refavs.read_frame(root, key, frame) for frame in frames])
        images = preprocess(pictures, sam2.image_size).to(sam2.device)
        embedding, high_res_0, high_res_1 = (
            stored(level)
            for level in encode_frames(sam2, images, before_high_res_convs=before_high_res_convs)
        )
        return embedding, high_res_0, high_res_1

    return encode


def click_inside(sam2: SAM2Base, masks: Sequence[np.ndarray]) -> Tensor:
    """The prompts (B, 1, C) of one click deep inside each of B masks (H, W) bool."""
    shares = [np.divide(deepest_point(mask), mask.shape[::-1]) for mask in masks]
    points = torch.from_numpy(np.stack(shares)).float() * sam2.image_size
    with torch.inference_mode():
        return click(sam2, points.to(sam2.device))


def deepest_point(mask: np.ndarray) -> tuple[int, int]:
    """Find the pixel of a mask (H, W) furthest from its edge: x and y, counted from 0.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("no point lies in an empty mask")
    padded = np.pad(mask.astype(np.uint8), 1)  # the picture's border is an edge too
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(depth), depth.shape)
    return int(x), int(y)
