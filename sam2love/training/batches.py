"""Read the batches of a training: features, SAM 2 embeddings and labels, as tensors.

Shapes: B rows, N frames, C channels, h x w cells of SAM 2's embedding, H x W label pixels.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from accelerate.utils import recursively_apply
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sam2love.params import Train
from sam2love.stores.features import FeatureReader, Features
from sam2love.stores.store import Empty

OTHER_FRAMES = 0.25
"""Fraction of a grounding step's rows that `fusion.frame: any` draws another frame for."""
PREFETCH = 2
"""Batches that each worker reads ahead."""
ALIGNMENT = 64
"""Bytes, a cache line: arrays of a batch start at multiples of it in shared memory."""


class Batch(NamedTuple):
    """B rows, in the stores' dtypes until `to` is called."""

    features: Features
    embeddings: tuple[Tensor, Tensor, Tensor] | None
    """SAM 2's of the first frames: (B, C, h, w), (B, C/8, 4h, 4w), (B, C/4, 2h, 2w)."""
    masks: list[Tensor]
    """B labels, (H, W), each of its own size."""
    present: Tensor
    """(B,) bool: the object is in the clip or, if frames are drawn, on the row's frame."""
    frame: Tensor | None
    """(B,) int64, the frames of the embeddings and labels; None if all are of frame 0."""

    def to(self, device: torch.device) -> "Batch":
        """Move to a device and convert to float32 there, so that halves cross the bus."""
        levels = self.embeddings
        if levels is not None:
            embedding, high_res_0, high_res_1 = (_move(level, device) for level in levels)
            levels = embedding, high_res_0, high_res_1
        return Batch(
            self.features.to(device),
            levels,
            [_move(mask, device) for mask in self.masks],
            _move(self.present, device),
            None if self.frame is None else self.frame.to(device, non_blocking=True),
        )


def _move(part: Tensor, device: torch.device) -> Tensor:
    return part.to(device, non_blocking=True).float()


def read_batch(
    rows: pd.DataFrame,
    reader: FeatureReader,
    *,
    frame: np.ndarray | None = None,
    frames: int | None = None,
    embeddings: bool = True,
    empty: Empty = np.empty,
) -> Batch:
    """Read rows of the expression table.

    Args:
        frame: (B,) int64, the frame to ground of each row, see `Batch`; by default frame 0.
        frames: number of frames that the fusion sees, starting with frame 0; by default all.
        embeddings: whether to read SAM 2's embeddings too.
        empty: allocates the arrays to read into.
    """
    keys = rows["key"].tolist()
    levels = None
    if embeddings:
        embedding, high_res_0, high_res_1 = (
            level[:, 0] for level in reader.embeddings(keys, frames=[0], empty=empty)
        )
        levels = embedding, high_res_0, high_res_1
    chosen = None if frame is None else frame.tolist()
    masks = reader.labels(keys, rows["fid"].tolist(), frames=chosen, empty=empty)
    present, drawn = empty((len(rows),), np.dtype(bool)), None
    present[:] = ~rows["null"].to_numpy()
    if frame is not None:
        present &= [bool(mask.any()) for mask in masks]
        drawn = empty(frame.shape, frame.dtype)
        drawn[:] = frame
    return Batch(
        reader.features(rows, frames=frames, empty=empty),
        levels,
        masks,
        torch.from_numpy(present),
        None if drawn is None else torch.from_numpy(drawn),
    )


class Slot:
    """Shared memory that workers reuse for one batch after another.

    A batch in a worker's own memory would have to be copied to the training process, and mapping
    the pages of fresh shared memory takes longer than reading into them.

    Args:
        size: upper bound on the bytes of a batch.
    """

    def __init__(self, size: int) -> None:
        self._memory = torch.empty(size, dtype=torch.uint8).share_memory_()

    def read(self, read: Callable[..., Batch]) -> Batch:
        """Call `read` with an `empty` that allocates in this slot, and return its batch."""
        memory, used = self._memory.numpy(), 0

        def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
            nonlocal used
            start, stop = used, used + math.prod(shape) * dtype.itemsize
            used = -(-stop // ALIGNMENT) * ALIGNMENT
            return memory[start:stop].view(dtype).reshape(shape)

        return recursively_apply(self._as_shared, read(empty=empty))

    def _as_shared(self, part: Tensor) -> Tensor:
        """Return the same array as a view of the tensor that torch knows to be shared."""
        start = part.data_ptr() - self._memory.data_ptr()
        return self._memory[start : start + part.nbytes].view(part.dtype).view(part.shape)


class Batches:
    """The batches of a training by number, each determined by the seed and its number.

    A step takes processes x accumulation of them.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        reader: FeatureReader,
        *,
        train: Train,
        grounding_frames: int = 1,
        any_frame: bool = False,
    ) -> None:
        self._rows, self._reader, self._train = rows, reader, train
        self._grounding_frames, self._any_frame = grounding_frames, any_frame

    def __len__(self) -> int:
        train = self._train
        return (train.grounding_steps + train.steps) * train.accumulation * train.processes

    @property
    def most_bytes(self) -> int:
        """Upper bound on the bytes of any batch."""
        return self._train.batch_size * (self._reader.row_bytes + 16 * ALIGNMENT)

    def read(self, number: int, *, empty: Empty = np.empty) -> Batch:
        """Read a batch.

        Args:
            empty: allocates the arrays to read into.
        """
        train = self._train
        grounding = number // (train.accumulation * train.processes) < train.grounding_steps
        drawn = draw_rows(
            len(self._rows), batch_size=train.batch_size, step=number, seed=train.seed
        )
        return read_batch(
            self._rows.iloc[drawn],
            self._reader,
            frame=self._draw_frames(number, other=OTHER_FRAMES if grounding else 0.0),
            frames=self._grounding_frames if grounding else None,
            embeddings=not grounding,
            empty=empty,
        )

    def _draw_frames(self, number: int, *, other: float) -> np.ndarray | None:
        """Draw which frame each row of a batch is to ground: frame 0, or sometimes any."""
        if not self._any_frame:
            return None
        rng, rows = np.random.default_rng((self._train.seed, number, 1)), self._train.batch_size
        return rng.integers(self._reader.frames, size=rows) * (rng.random(rows) < other)


class _InSlots(Dataset):
    """The dataset that workers read from: batches, written to the slots in turn."""

    def __init__(self, batches: Batches, numbers: Sequence[int], *, slots: int) -> None:
        self._batches, self._numbers = batches, numbers
        self._slots = [Slot(batches.most_bytes) for _ in range(slots)]

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: int) -> Batch | ValueError | OSError:
        """Return a batch, or the error: DataLoader would wrap one that a worker raises."""
        slot = self._slots[index % len(self._slots)]
        try:
            return slot.read(partial(self._batches.read, self._numbers[index]))
        except (ValueError, OSError) as error:
            return error


def load(
    batches: Batches, numbers: Sequence[int], *, workers: int, device: torch.device
) -> Iterator[Batch]:
    """Yield batches in order, read ahead by worker processes if there are any.

    With workers, a batch is overwritten once the next one is requested.

    Raises:
        ValueError, OSError: a batch can't be read.
    """
    if not workers:
        yield from map(batches.read, numbers)
        return
    # As many as the workers read ahead, and the one that the caller holds.
    in_slots = _InSlots(batches, numbers, slots=workers * PREFETCH + 1)
    loader = DataLoader(
        in_slots,
        batch_size=None,
        num_workers=workers,
        prefetch_factor=PREFETCH,
        multiprocessing_context="fork",
        pin_memory=device.type == "cuda",
        generator=torch.Generator(),  # leaves the state of the global one alone
    )
    for batch in loader:
        if isinstance(batch, Exception):
            raise batch
        yield batch


def draw_rows(count: int, *, batch_size: int, step: int, seed: int) -> np.ndarray:
    """Return the rows of a step, cut from consecutive seeded permutations.

    They depend only on the seed and the step's number, so a run can resume anywhere.
    """
    wanted = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {
        int(epoch): np.random.default_rng((seed, int(epoch))).permutation(count)
        for epoch in np.unique(wanted // count)
    }
    return np.array([epochs[int(index // count)][index % count] for index in wanted])
