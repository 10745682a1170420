"""What a training step reads: its rows, their features, and the labels of frame 0, as tensors.

Shapes: B rows, N frames, C channels, h x w cells of SAM 2's embedding, H x W label pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sam2love.features import FeatureReader, Features
from sam2love.params import Train
from sam2love.refavs import FRAMES

ReadMask = Callable[[str, int], Tensor]
"""Reads the true mask on frame 0 of a clip's key and fid: (H, W) bool."""


class Batch(NamedTuple):
    """B rows, as the stores and the labels hold them until `to` moves them."""

    features: Features
    embeddings: tuple[Tensor, Tensor, Tensor] | None
    """SAM 2's of the first frames: (B, C, h, w), (B, C/8, 4h, 4w), (B, C/4, 2h, 2w)."""
    masks: list[Tensor]
    """B labels of frame 0, (H, W), each of its own size."""
    present: Tensor
    """(B,) bool, False for null rows."""

    def to(self, device: torch.device) -> "Batch":
        """The same on another device; half precision and booleans become float32 only there."""
        levels = self.embeddings
        if levels is not None:
            embedding, high_res_0, high_res_1 = (_move(level, device) for level in levels)
            levels = embedding, high_res_0, high_res_1
        return Batch(
            self.features.to(device),
            levels,
            [_move(mask, device) for mask in self.masks],
            _move(self.present, device),
        )


def _move(part: Tensor, device: torch.device) -> Tensor:
    return part.to(device, non_blocking=True).float()


def read_batch(
    rows: pd.DataFrame,
    reader: FeatureReader,
    read_mask: ReadMask,
    *,
    frames: int = FRAMES,
    embeddings: bool = True,
) -> Batch:
    """Read rows of the expression table.

    Args:
        frames: how many frames the fusion sees, from the first on.
        embeddings: whether SAM 2 has to decode masks.
    """
    keys = rows["key"].tolist()
    levels = None
    if embeddings:
        embedding, high_res_0, high_res_1 = (
            level[:, 0] for level in reader.embeddings(keys, frames=[0])
        )
        levels = embedding, high_res_0, high_res_1
    return Batch(
        reader.features(rows, frames=frames),
        levels,
        [read_mask(*row) for row in zip(keys, rows["fid"], strict=True)],
        torch.from_numpy(~rows["null"].to_numpy()),
    )


class Batches(Dataset):
    """The batches of a training by number: each follows from the seed and its number alone.

    With several processes and accumulation, a step takes processes x accumulation of them.
    """

    def __init__(
        self, rows: pd.DataFrame, reader: FeatureReader, read_mask: ReadMask, *, train: Train
    ) -> None:
        self._rows, self._reader, self._read_mask = rows, reader, read_mask
        self._train = train

    def __len__(self) -> int:
        train = self._train
        return (train.grounding_steps + train.steps) * train.accumulation * train.processes

    def __getitem__(self, number: int) -> Batch | ValueError | OSError:
        """A batch, or what kept it from being read: raised in a worker it would lose its words."""
        train = self._train
        step = number // (train.accumulation * train.processes)
        drawn = draw_rows(
            len(self._rows), batch_size=train.batch_size, step=number, seed=train.seed
        )
        grounding = step < train.grounding_steps
        try:
            return read_batch(
                self._rows.iloc[drawn],
                self._reader,
                self._read_mask,
                frames=1 if grounding else FRAMES,
                embeddings=not grounding,
            )
        except (ValueError, OSError) as error:
            return error


def load(
    batches: Batches, numbers: Sequence[int], *, workers: int, device: torch.device
) -> Iterator[Batch]:
    """Yield batches in order, read ahead by worker processes if there are any.

    Raises:
        ValueError, OSError: a batch can't be read.
    """
    loader = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=device.type == "cuda",
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def draw_rows(count: int, *, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The rows of a step: seeded permutations one after another, cut into batches.

    Each step's rows follow from the seed and its number alone, so a run resumes anywhere.
    """
    wanted = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {
        int(epoch): np.random.default_rng((seed, int(epoch))).permutation(count)
        for epoch in np.unique(wanted // count)
    }
    return np.array([epochs[int(place // count)][place % count] for place in wanted])
