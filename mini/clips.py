"""Batches of procedural pictures and clips for SAM 2, generated in process from a seed.

Shapes: K clips, N frames, B objects over all clips, S pixels a side.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mini.pictures import AREAS, COLOURS, SHAPES, Kind, render, sample_scene
from sam2love.sam.encode import preprocess

FRAMES = 10
SMALLEST_PIXELS = 30  # objects that show fewer on the first frame are not prompted


@dataclass(frozen=True)
class Batch:
    """Clips, and their objects that can be prompted on the first frame."""

    images: Tensor
    """(K, N, 3, S, S) preprocessed."""
    masks: Tensor
    """(B, N, S, S) bool, the visible part of each object."""
    clip_of_object: Tensor
    """(B,) int64, the index of each object's clip."""


def sample_batch(
    rng: np.random.Generator, *, clips: int, frames: int, strides: list[int], side: int = 128
) -> Batch:
    """Sample clips of two to four things, each with a random stride and a random first frame."""
    pictures, masks, owners = [], [], []
    for clip in range(clips):
        scene = sample_scene(rng, _sample_kinds(rng), frames=FRAMES, side=side)
        stride = int(rng.choice(strides))
        start = int(rng.integers(FRAMES - stride * (frames - 1)))
        drawn = [render(scene, start + stride * frame) for frame in range(frames)]
        visible = np.stack([mask for _, mask in drawn], axis=1)  # (things, N, S, S)
        fair = visible[visible[:, 0].sum(axis=(1, 2)) >= SMALLEST_PIXELS]
        quality = int(rng.integers(75, 101))
        pictures.append([_through_jpeg(picture, quality) for picture, _ in drawn])
        masks.append(fair)
        owners += [clip] * len(fair)
    images = preprocess(np.array(pictures).reshape(-1, side, side, 3), side)
    return Batch(
        images=images.view(clips, frames, 3, side, side),
        masks=torch.from_numpy(np.concatenate(masks)),
        clip_of_object=torch.tensor(owners),
    )


def _sample_kinds(rng: np.random.Generator) -> list[Kind]:
    """Draw two to four kinds; equal ones can be told apart only by place, which trains memory."""
    return [
        Kind(str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS))), str(rng.choice(list(AREAS))))
        for _ in range(rng.integers(2, 5))
    ]


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """Return the picture after JPEG compression."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]
