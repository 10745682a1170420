"""Segment every frame of stored clips from one prompted frame each.

Shapes: B rows, N frames, C the width of SAM 2's prompts, 4h x 4w mask logits.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from sam2love.dataset import refavs
from sam2love.sam.build import SAM2Base
from sam2love.sam.decode import Prompts, click
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.sam.propagate import propagate
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import ArraySpec, round_mantissa

Levels = tuple[Tensor, Tensor, Tensor]
"""The embeddings of one clip, as `encode_frames` returns them."""

ROWS_PER_SHARD = 64


def prediction_specs(sam2: SAM2Base, *, frames: int) -> list[ArraySpec]:
    """Return the arrays of predictions/*.zarr, whose items are rows or objects, on N frames."""
    rows, side = ROWS_PER_SHARD, 4 * sam2.sam_image_embedding_size
    return [
        ArraySpec("logits", (frames, side, side), "float16", rows, "mask logits before any gate"),
        ArraySpec("object_score", (frames,), "float32", rows, "logit of the object being there"),
        ArraySpec("prompted", (), "int64", rows, "the frame that was prompted"),
        ArraySpec("presence", (), "float32", rows, "logit of the object being in the clip"),
    ]


@torch.inference_mode()
def segment_clips(
    sam2: SAM2Base,
    clips: Sequence[str],
    prompts: Prompts,
    read_clip: Callable[[str], Levels],
    *,
    tracker: SAM2Base | None = None,
) -> dict[str, np.ndarray]:
    """Propagate B prompts, each through its clip; rows of one clip share its embeddings.

    Args:
        clips: the clip of each prompt.
        read_clip: see `clip_reader`.
        tracker: see `propagate`.

    Returns:
        "logits" (B, N, 4h, 4w), "object_score" (B, N), "prompted" (B,) and "presence" (B,), as
        `prediction_specs` declares them. Where the prompts don't tell the presence, it is the
        object score of the prompted frame.
    """
    distinct = list(dict.fromkeys(clips))
    tokens, frame, presence = prompts
    clip_of_row = torch.tensor([distinct.index(clip) for clip in clips], device=tokens.device)
    embedding, high_res_0, high_res_1 = (
        torch.stack(level).float() for level in zip(*map(read_clip, distinct), strict=True)
    )
    levels = (embedding, high_res_0, high_res_1)
    logits, scores = propagate(sam2, levels, tokens, clip_of_row, prompted=frame, tracker=tracker)
    if presence is None:
        presence = scores.gather(1, frame[:, None])[:, 0]
    return {
        "logits": logits.half().cpu().numpy(),
        "object_score": scores.float().cpu().numpy(),
        "prompted": frame.cpu().numpy(),
        "presence": presence.float().cpu().numpy(),
    }


def clip_reader(
    reader: FeatureReader, encode: Callable[[str, list[int]], Levels], *, device: torch.device
) -> Callable[[str], Levels]:
    """Return a function that reads the embeddings of all N frames of a clip, by frames_key.

    They are on `device`, and the last clip is cached. In rows sorted by clip, each frame is thus
    read or encoded once, even if a clip's rows fall into several batches.

    Args:
        encode: encodes the frames that are not stored, see `frame_encoder`.
    """

    @lru_cache(maxsize=1)
    def read(clip: str) -> Levels:
        missing = reader.missing_frames(clip)
        stored = [frame for frame in range(reader.frames) if frame not in missing]
        levels = [level[0].to(device) for level in reader.embeddings([clip], frames=stored)]
        if missing:
            in_order = torch.tensor(stored + missing, device=device).argsort()
            both = zip(levels, encode(clip, missing), strict=True)
            levels = [torch.cat(parts)[in_order] for parts in both]
        embedding, high_res_0, high_res_1 = levels
        return embedding, high_res_0, high_res_1

    return read


def frame_encoder(
    sam2: SAM2Base, root: Path, *, before_high_res_convs: bool, keep_bits: int | None
) -> Callable[[str, list[int]], Levels]:
    """Return a function that encodes frames of a clip as the store would: float16 and rounded.

    The results stay on SAM 2's device.
    """

    def as_stored(level: Tensor) -> Tensor:
        level = level.half()
        if keep_bits is None:
            return level
        return torch.from_numpy(round_mantissa(level.cpu().numpy(), keep_bits)).to(level.device)

    def encode(clip: str, frames: list[int]) -> Levels:
        pictures = np.stack([refavs.read_frame(root, clip, frame) for frame in frames])
        images = preprocess(pictures, sam2.image_size).to(sam2.device)
        embedding, high_res_0, high_res_1 = encode_frames(
            sam2, images, before_high_res_convs=before_high_res_convs
        )
        return as_stored(embedding), as_stored(high_res_0), as_stored(high_res_1)

    return encode


def click_inside(sam2: SAM2Base, masks: Sequence[np.ndarray]) -> Tensor:
    """Return the prompts (B, 1, C) of one click deep inside each of B masks (H, W) bool."""
    relative = [np.divide(deepest_point(mask), mask.shape[::-1]) for mask in masks]
    points = torch.from_numpy(np.stack(relative)).float() * sam2.image_size  # (B, 2)
    with torch.inference_mode():
        return click(sam2, points.to(sam2.device))


def deepest_point(mask: np.ndarray) -> tuple[int, int]:
    """Find the pixel of a mask (H, W) that is furthest from its edge: x and y, counted from 0.

    Raises:
        ValueError: the mask is empty.
    """
    if not mask.any():
        raise ValueError("an empty mask has no point inside; expected at least one pixel")
    padded = np.pad(mask.astype(np.uint8), 1)  # the frame's border is an edge too
    depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
    y, x = np.unravel_index(np.argmax(depth), depth.shape)
    return int(x), int(y)
