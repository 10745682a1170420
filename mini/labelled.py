"""Procedural pictures with a label per patch, to pre-train the mini ViT.

Shapes: B pictures, L = 64 patches row by row, T things of a scene.
"""

from dataclasses import dataclass, fields

import cv2
import numpy as np

from mini.pictures import AREAS, COLOURS, SHAPES, Kind, render, sample_scene

SIDE, GRID, CELLS = 128, 8, 4  # per side: pixels, patches, mask cells of a patch
NAMES = {"shape": tuple(SHAPES), "colour": tuple(COLOURS), "size": tuple(AREAS)}
CLASSES = {name: len(names) for name, names in NAMES.items()}


@dataclass
class Pictures:
    """Labelled pictures; all arrays have the same first axis."""

    pixels: np.ndarray
    """(B, 128, 128, 3) uint8 RGB."""
    kinds: np.ndarray
    """(B, L, 3) int64: shape, colour and size of the thing that covers most of the patch."""
    cover: np.ndarray
    """(B, L) float32: the fraction of the patch that it covers."""
    centre: np.ndarray
    """(B, L, 2) float32: x and y from the patch's centre to the thing's, in units of the side."""
    mask: np.ndarray
    """(B, L, 16) float32: the fraction of each of the patch's cells covered by any thing."""
    present: np.ndarray
    """(B, 13) float32: which shapes, colours and sizes are visible."""


def draw(rng: np.random.Generator, scenes: int) -> Pictures:
    """Render three frames of each random scene, far enough apart for things to overlap or leave."""
    rows = []
    for _ in range(scenes):
        kinds = [
            Kind(*(str(rng.choice(names)) for names in NAMES.values()))
            for _ in range(rng.integers(2, 5))
        ]
        scene = sample_scene(rng, kinds, side=SIDE)
        for frame in (0, 3, 6):
            pixels, masks = render(scene, frame)
            if rng.uniform() < 0.5:
                quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(75, 101))]
                data = cv2.imencode(".jpg", pixels, quality)[1]
                pixels = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))
            centres = np.array([thing.path[frame] for thing in scene.things])
            rows.append((pixels, *_labels(kinds, masks, centres)))
    return Pictures(*(np.stack(column) for column in zip(*rows, strict=True)))


def _labels(kinds: list[Kind], masks: np.ndarray, centres: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return kinds, cover, centre, mask and present of a picture, from masks (T, side, side)."""
    ids = np.array([[NAMES[name].index(getattr(k, name)) for name in NAMES] for k in kinds])
    pixels = SIDE // GRID
    cover = masks.reshape(-1, GRID, pixels, GRID, pixels).mean(axis=(2, 4)).reshape(len(kinds), -1)
    best = cover.argmax(axis=0)  # (L,)
    row, column = np.divmod(np.arange(GRID**2), GRID)
    own = (np.stack([column, row], axis=-1) + 0.5) / GRID
    cells = masks.any(axis=0).reshape(GRID, CELLS, pixels // CELLS, GRID, CELLS, pixels // CELLS)
    mask = cells.mean(axis=(2, 5)).transpose(0, 2, 1, 3).reshape(GRID**2, -1)
    present = np.zeros(sum(CLASSES.values()), dtype=np.float32)
    starts = np.cumsum([0, *CLASSES.values()])[:-1]
    present[(ids + starts)[masks.mean(axis=(1, 2)) > 0.01]] = 1
    numbers = (cover.max(axis=0), centres[best] - own, mask)
    return ids[best], *(number.astype(np.float32) for number in numbers), present


def sample(rng: np.random.Generator, pool: Pictures, size: int) -> Pictures:
    """Draw a batch from the pool, about half of it mirrored left to right."""
    rows = rng.integers(len(pool.pixels), size=size)
    batch = {field.name: getattr(pool, field.name)[rows] for field in fields(pool)}
    flip = np.flatnonzero(rng.uniform(size=size) < 0.5)
    batch["pixels"][flip] = batch["pixels"][flip][:, :, ::-1]
    for name in ("kinds", "cover", "centre", "mask"):
        grid = batch[name].reshape(size, GRID, GRID, -1)
        if name == "mask":
            cells = grid[flip].reshape(-1, GRID, GRID, CELLS, CELLS)[:, :, ::-1, :, ::-1]
            grid[flip] = cells.reshape(-1, GRID, GRID, CELLS**2)
        else:
            grid[flip] = grid[flip][:, :, ::-1]
    batch["centre"][flip, :, 0] *= -1
    return Pictures(**batch)


def renew(pool: Pictures, new: Pictures, oldest: int) -> int:
    """Replace the oldest pictures by new ones; return where the oldest are next time."""
    rows = (oldest + np.arange(len(new.pixels))) % len(pool.pixels)
    for field in fields(pool):
        getattr(pool, field.name)[rows] = getattr(new, field.name)
    return int(rows[-1] + 1)
