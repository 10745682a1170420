"""Batches of procedural pictures and clips for SAM 2, made in process from a seed.

Shapes: K clips, N frames, B objects of all clips together, S pixels a side.
"""

from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from mini.pictures import AREAS, COLOURS, SHAPES, Kind, render, sample_scene
from sam2love.sam.encode import preprocess

FRAMES = 10
SMALLEST_PIXELS = 30  # less of an object than this is no fair prompt


@dataclass(frozen=True)
class Batch:
    """Clips, and the objects in them that a prompt on the first frame can name."""

    images: Tensor
    """(K, N, 3, S, S) pre-processed."""
    masks: Tensor
    """(B, N, S, S) bool, what can be seen of each object."""
    clip_of_object: Tensor
    """(B,) int64."""


def sample_batch(
    rng: np.random.Generator, *, clips: int, frames: int, strides: list[int], side: int = 128
) -> Batch:
    """Draw clips of two to four things, each seen every `stride` frames from a random start."""
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
    """Two to four kinds, any mixture; two may be alike, so that memory has to tell by place."""
    return [
        Kind(str(rng.choice(SHAPES)), str(rng.choice(list(COLOURS))), str(rng.choice(list(AREAS))))
        for _ in range(rng.integers(2, 5))
    ]


def _through_jpeg(picture: np.ndarray, quality: int) -> np.ndarray:
    """The picture as a JPEG shows it."""
    _, data = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
    assert decoded is not None
    return decoded[..., ::-1]
