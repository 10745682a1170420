"""Read stored features and labels of expressions and clips as batches of tensors."""

from collections.abc import Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sam2love.dataset.index import Index, is_null
from sam2love.dataset.refavs import FRAMES
from sam2love.params import Params
from sam2love.stores import provenance
from sam2love.stores.names import EMBEDDING_LEVELS, item_name, split_name
from sam2love.stores.store import Empty, FeatureStore

STAGES = {
    "audio": "audio",
    "vision": "vision",
    "text": "text",
    "sam2": "embeddings",
    "labels": "labels",
}
"""The stores of features and labels, and the stage that writes each."""


class Features(NamedTuple):
    """Features that the frozen encoders extract from B expressions and their clips."""

    audio: Tensor
    """F_A, (B, N, d_A)."""
    patches: Tensor
    """F_V, (B, n, HW, d_V), of the first n frames."""
    cls: Tensor
    """[cls], (B, n, d_V)."""
    text: Tensor
    """F_T, (B, P, d_T)."""
    text_mask: Tensor
    """(B, P) bool, False on padding."""

    def to(self, device: str | torch.device) -> "Features":
        """Move to a device, then convert to float32; the stores hold float16."""
        moved = (part.to(device, non_blocking=True) for part in self)
        return Features(*(part if part.dtype == torch.bool else part.float() for part in moved))


class FeatureReader:
    """Look up the features and labels of expressions and clips in the stores.

    Args:
        folder: contains audio.zarr, vision.zarr, text.zarr, sam2.zarr and labels.zarr.
        index: maps an expression to its clip, and the clip to its frames.
        params: of this run. A store with other provenance, or from another index, is refused when
            it is first used. By default provenance is not checked, and clips are as long as in
            Ref-AVS.
    """

    def __init__(self, folder: Path, index: Index, *, params: Params | None = None) -> None:
        self._folder = folder
        self._index = index
        self._params = params
        self._frames_key = index.clips.set_index("key")["frames_key"].to_dict()
        self._stores: dict[str, FeatureStore] = {}
        self.frames = params.data.frames if params else FRAMES
        """N, of every clip."""

    def _store(self, name: str) -> FeatureStore:
        if name not in self._stores:
            expected = None
            if self._params:
                expected = provenance.of_features(STAGES[name], self._params, self._index)
            store = FeatureStore.open(self._folder / f"{name}.zarr", expected)
            if name == "audio" and self._params:
                self._check_seconds(store)
            self._stores[name] = store
        return self._stores[name]

    def _check_seconds(self, audio: FeatureStore) -> None:
        """Compare the length of stored audio, which its inputs don't show; those of frames do."""
        seconds = next(spec.item_shape[0] for spec in audio.specs if spec.name == "audio")
        if seconds != self.frames:
            raise ValueError(
                f"{self._folder / 'audio.zarr'}: has {seconds} s of each clip, but data.frames is "
                f"{self.frames}; run the stage 'audio' again"
            )

    @cached_property
    def _objects(self) -> dict[str, list[int]]:
        objects: dict[str, list[int]] = {}
        for name in self._store("labels").ids:
            key, fid = split_name(name)
            objects.setdefault(key, []).append(fid)
        return objects

    def _item_shape(self, store: str, array: str) -> tuple[int, ...]:
        return next(spec.item_shape for spec in self._store(store).specs if spec.name == array)

    def check(self) -> None:
        """Open all five stores now instead of when each is first used.

        Raises:
            FileNotFoundError, ValueError: see `FeatureStore.open`.
        """
        for name in STAGES:
            self._store(name)

    @property
    def dims(self) -> dict[str, int]:
        """The patches per frame, and the encoders' widths d_A, d_V and d_T."""
        return {
            "patches": self._item_shape("vision", "patches")[1],
            "audio_dim": self._item_shape("audio", "audio")[-1],
            "visual_dim": self._item_shape("vision", "cls")[-1],
            "text_dim": self._item_shape("text", "tokens")[-1],
        }

    @property
    def row_bytes(self) -> int:
        """The most bytes that `features`, `embeddings` of one frame and `labels` read per row."""
        stores = ("audio", "vision", "text", "sam2")
        stored = sum(spec.item_bytes for name in stores for spec in self._store(name).specs)
        text_mask = self._item_shape("text", "tokens")[0]
        return stored + text_mask + 8 * self._item_shape("labels", "bits")[1]

    def features(
        self, expressions: pd.DataFrame, *, frames: int | None = None, empty: Empty = np.empty
    ) -> Features:
        """Read the features of B rows of the expression table.

        Args:
            frames: how many frames to read, from the first; by default all.
            empty: allocates the arrays that are read into.
        """
        text_store = self._store("text")
        frames_keys = [self._frames_key[key] for key in expressions["key"]]
        texts = expressions["exp"].tolist()
        lengths = text_store.read_many("length", texts)
        longest = int(lengths.max())
        text_mask = empty((len(texts), longest), np.dtype(bool))
        np.less(np.arange(longest), lengths[:, None], out=text_mask)
        keys = expressions["key"].tolist()
        vision = partial(
            self._store("vision").read_many, items=frames_keys, first=frames, empty=empty
        )
        arrays = (
            self._store("audio").read_many("audio", keys, empty=empty),
            vision("patches"),
            vision("cls"),
            text_store.read_many("tokens", texts, first=longest, empty=empty),
            text_mask,
        )
        return Features(*map(torch.from_numpy, arrays))

    def labels(
        self,
        keys: Sequence[str],
        fids: Sequence[int],
        *,
        frames: Sequence[int] | None = None,
        empty: Empty = np.empty,
    ) -> list[Tensor]:
        """Read the true masks of objects: (H, W) bool, each of its own size.

        Args:
            frames: the frame of each; by default all are of frame 0.
            empty: allocates the arrays to read into.
        """
        store = self._store("labels")
        names = [item_name(key, fid) for key, fid in zip(keys, fids, strict=True)]
        sizes = store.read_many("size", names).tolist()
        stored = store.read_many("bits", names, first=1 if frames is None else None)
        labels = []
        for of_frames, frame, size in zip(stored, frames or [0] * len(names), sizes, strict=True):
            bits = of_frames[frame]
            label = empty(tuple(size), np.dtype(bool))
            label.reshape(-1)[:] = np.unpackbits(bits, count=label.size)
            labels.append(torch.from_numpy(label))
        return labels

    def objects(self, key: str) -> list[int]:
        """Return the fids annotated in a train or val clip; none for a null clip."""
        return [] if is_null(key) else self._objects.get(key, [])

    def embeddings(
        self,
        keys: Sequence[str],
        *,
        frames: Sequence[int] | None = None,
        empty: Empty = np.empty,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Read SAM 2's embedding and finer levels of n frames of K clips: (K, n, ...), float16.

        Args:
            frames: their numbers; by default all.
            empty: allocates the arrays that are read into.

        Raises:
            ValueError: a frame is not in the store.
        """
        store = self._store("sam2")
        frames = range(self.frames) if frames is None else frames
        clips = [self._frames_key[key] for key in keys]
        names = [item_name(clip, frame) for clip in clips for frame in frames]
        embedding, high_res_0, high_res_1 = (
            torch.from_numpy(store.read_many(level, names, empty=empty)).unflatten(
                0, (len(clips), len(frames))
            )
            for level in EMBEDDING_LEVELS
        )
        return embedding, high_res_0, high_res_1

    def missing_frames(self, key: str) -> list[int]:
        """Return the frames of a clip whose SAM 2 embeddings are not stored."""
        store, clip = self._store("sam2"), self._frames_key[key]
        return [frame for frame in range(self.frames) if not store.has(item_name(clip, frame))]
