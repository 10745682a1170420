"""What is stored of expressions and clips, features and labels, read as batches of tensors."""

import math
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


class Features(NamedTuple):
    """What the frozen encoders extract from B expressions and their clips."""

    audio: Tensor
    """F_A, (B, N, d_A)."""
    patches: Tensor
    """F_V, (B, n, HW, d_V), the first n frames."""
    cls: Tensor
    """[cls], (B, n, d_V)."""
    text: Tensor
    """F_T, (B, P, d_T)."""
    text_mask: Tensor
    """(B, P) bool, False on padding."""

    def to(self, device: str | torch.device) -> "Features":
        """The same on another device, in float32 only there (the stores hold halves)."""
        moved = (part.to(device, non_blocking=True) for part in self)
        return Features(*(part if part.dtype == torch.bool else part.float() for part in moved))


class FeatureReader:
    """Joins the stores with the index.

    Args:
        folder: where audio.zarr, vision.zarr, text.zarr, sam2.zarr and labels.zarr lie.
        index: tells which pictures and which sound an expression's clip has.
        params: of this run: a store made with others, or from another index, is refused when it is
            first needed. Without them the stores are taken as they are.
    """

    def __init__(self, folder: Path, index: Index, *, params: Params | None = None) -> None:
        self._folder = folder
        self._index = index
        self._params = params
        self._frames_key = index.clips.set_index("key")["frames_key"].to_dict()

    @cached_property
    def _audio(self) -> FeatureStore:
        return self._open("audio.zarr", stage="audio")

    @cached_property
    def _vision(self) -> FeatureStore:
        return self._open("vision.zarr", stage="vision")

    @cached_property
    def _text(self) -> FeatureStore:
        return self._open("text.zarr", stage="text")

    @cached_property
    def _sam2(self) -> FeatureStore:
        return self._open("sam2.zarr", stage="embeddings")

    @cached_property
    def _labels(self) -> FeatureStore:
        return self._open("labels.zarr", stage="labels")

    @cached_property
    def _objects(self) -> dict[str, list[int]]:
        objects: dict[str, list[int]] = {}
        for name in self._labels.ids:
            key, fid = split_name(name)
            objects.setdefault(key, []).append(fid)
        return objects

    def _open(self, name: str, *, stage: str) -> FeatureStore:
        path, params = self._folder / name, self._params
        if params is None:
            return FeatureStore.open(path)
        return FeatureStore.open(path, provenance.of_features(stage, params, self._index))

    def check(self) -> None:
        """Open all five stores now, not when each is first needed.

        Raises:
            FileNotFoundError, ValueError: see `FeatureStore.open`.
        """
        for name in ("_audio", "_vision", "_text", "_sam2", "_labels"):
            getattr(self, name)

    @property
    def dims(self) -> dict[str, int]:
        """The widths d_A, d_V, d_T of the three encoders, and the patches of a frame."""
        return {
            "patches": self._vision.read("patches", self._vision.ids[0]).shape[1],
            "audio_dim": self._audio.read("audio", self._audio.ids[0]).shape[-1],
            "visual_dim": self._vision.read("cls", self._vision.ids[0]).shape[-1],
            "text_dim": self._text.read("tokens", self._text.ids[0]).shape[-1],
        }

    @property
    def row_bytes(self) -> int:
        """The most bytes that `features`, `embeddings` of a frame and `labels` read of a row."""
        stores = (self._audio, self._vision, self._text, self._sam2)
        specs = [spec for store in stores for spec in store.specs]
        stored = sum(math.prod(spec.item_shape) * np.dtype(spec.dtype).itemsize for spec in specs)
        text_mask = next(spec.item_shape[0] for spec in self._text.specs if spec.name == "tokens")
        bits = next(spec.item_shape[0] for spec in self._labels.specs if spec.name == "bits")
        return stored + text_mask + 8 * bits

    def features(
        self, expressions: pd.DataFrame, *, frames: int = FRAMES, empty: Empty = np.empty
    ) -> Features:
        """Features of B rows of the expression table, of pictures those of the first frames.

        Args:
            empty: makes the arrays that are read into.
        """
        frames_keys = [self._frames_key[key] for key in expressions["key"]]
        texts = expressions["exp"].tolist()
        lengths = self._text.read_many("length", texts)
        longest = int(lengths.max())
        text_mask = empty((len(texts), longest), np.dtype(bool))
        np.less(np.arange(longest), lengths[:, None], out=text_mask)
        vision = partial(self._vision.read_many, items=frames_keys, first=frames, empty=empty)
        read = torch.from_numpy
        return Features(
            audio=read(self._audio.read_many("audio", expressions["key"].tolist(), empty=empty)),
            patches=read(vision("patches")),
            cls=read(vision("cls")),
            text=read(self._text.read_many("tokens", texts, first=longest, empty=empty)),
            text_mask=read(text_mask),
        )

    def labels(
        self, keys: Sequence[str], fids: Sequence[int], *, empty: Empty = np.empty
    ) -> list[Tensor]:
        """True masks of objects on frame 0: (H, W) bool, each of its own size."""
        names = [item_name(key, fid) for key, fid in zip(keys, fids, strict=True)]
        sizes = self._labels.read_many("size", names).tolist()
        labels = []
        for bits, size in zip(self._labels.read_many("bits", names), sizes, strict=True):
            label = empty(tuple(size), np.dtype(bool))
            label.reshape(-1)[:] = np.unpackbits(bits, count=label.size)
            labels.append(torch.from_numpy(label))
        return labels

    def objects(self, key: str) -> list[int]:
        """Fids of the objects that are annotated in a clip of train or val; none in a null clip."""
        return [] if is_null(key) else self._objects.get(key, [])

    def embeddings(
        self,
        keys: Sequence[str],
        *,
        frames: Sequence[int] = range(FRAMES),
        empty: Empty = np.empty,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """SAM 2's embedding and finer levels of some frames of K clips, (K, n, ...), in halves.

        Args:
            empty: makes the arrays that are read into.

        Raises:
            ValueError: a frame is not in the store.
        """
        clips = [self._frames_key[key] for key in keys]
        names = [item_name(clip, frame) for clip in clips for frame in frames]
        embedding, high_res_0, high_res_1 = (
            torch.from_numpy(self._sam2.read_many(level, names, empty=empty)).unflatten(
                0, (len(clips), len(frames))
            )
            for level in EMBEDDING_LEVELS
        )
        return embedding, high_res_0, high_res_1

    def missing_frames(self, key: str) -> list[int]:
        """The frames of a clip that are not in the store of SAM 2's embeddings."""
        clip = self._frames_key[key]
        return [frame for frame in range(FRAMES) if not self._sam2.has(item_name(clip, frame))]
