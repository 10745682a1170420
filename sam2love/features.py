"""The frozen features of expressions and clips, read from the stores as batches of tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from sam2love import provenance
from sam2love.index import Index
from sam2love.params import Params
from sam2love.refavs import FRAMES
from sam2love.sam.encode import LEVELS
from sam2love.store import FeatureStore

Encode = Callable[[str, list[int]], tuple[Tensor, Tensor, Tensor]]


@dataclass
class Features:
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
        """The same on another device, in float32 (the stores hold halves)."""
        moved = (getattr(self, field.name).to(device) for field in fields(self))
        return Features(*(part if part.dtype == torch.bool else part.float() for part in moved))


class FeatureReader:
    """Joins the stores with the index.

    Args:
        folder: where audio.zarr, vision.zarr, text.zarr and sam2.zarr lie.
        index: tells which pictures and which sound an expression's clip has.
        params: of this run: a store made with others, or from another index, is refused when it is
            first needed. Without them the stores are taken as they are.
        encode: makes the SAM 2 embeddings of frames that are not in the store, given a clip's
            frames_key and frame numbers; without it they are an error.
    """

    def __init__(
        self,
        folder: Path,
        index: Index,
        *,
        params: Params | None = None,
        encode: Encode | None = None,
    ) -> None:
        self._folder = folder
        self._index = index
        self._params = params
        self._frames_key = index.clips.set_index("key")["frames_key"].to_dict()
        self._encode = encode

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

    def _open(self, name: str, *, stage: str) -> FeatureStore:
        path, params = self._folder / name, self._params
        if params is None:
            return FeatureStore.open(path)
        return FeatureStore.open(path, provenance.of_features(stage, params, self._index))

    def check(self) -> None:
        """Open all four stores now, not when each is first needed.

        Raises:
            FileNotFoundError, ValueError: see `FeatureStore.open`.
        """
        for name in ("_audio", "_vision", "_text", "_sam2"):
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

    def features(self, expressions: pd.DataFrame, *, frames: int = FRAMES) -> Features:
        """Features of B rows of the expression table, of pictures those of the first frames."""
        frames_keys = [self._frames_key[key] for key in expressions["key"]]
        lengths = [int(self._text.read("length", text)) for text in expressions["exp"]]
        longest = max(lengths)
        text = [self._text.read("tokens", text)[:longest] for text in expressions["exp"]]
        return Features(
            audio=_stack([self._audio.read("audio", key) for key in expressions["key"]]),
            patches=self._pictures("patches", frames_keys, frames),
            cls=self._pictures("cls", frames_keys, frames),
            text=_stack(text),
            text_mask=torch.arange(longest)[None] < torch.tensor(lengths)[:, None],
        )

    def _pictures(self, name: str, frames_keys: list[str], frames: int) -> Tensor:
        return _stack([self._vision.read(name, key, first=frames) for key in frames_keys])

    def embeddings(
        self, keys: Sequence[str], *, frames: Sequence[int] = range(FRAMES)
    ) -> tuple[Tensor, Tensor, Tensor]:
        """SAM 2's embedding and finer levels of some frames of K clips, (K, n, ...) float32."""
        clips = [self._clip_embeddings(self._frames_key[key], list(frames)) for key in keys]
        embedding, high_res_0, high_res_1 = (
            torch.stack([clip[level] for clip in clips]) for level in range(len(LEVELS))
        )
        return embedding, high_res_0, high_res_1

    def _clip_embeddings(self, frames_key: str, frames: list[int]) -> list[Tensor]:
        missing = [frame for frame in frames if not self._sam2.has(f"{frames_key}/{frame}")]
        if missing and self._encode is None:
            raise ValueError(
                f"features/sam2.zarr holds no frame {missing[0]} of {frames_key}; "
                "run the stage 'embeddings' again"
            )
        made = self._encode(frames_key, missing) if missing and self._encode else ()
        levels = []
        for level, name in enumerate(LEVELS):
            levels.append(
                torch.stack(
                    [
                        made[level][missing.index(frame)]
                        if frame in missing
                        else _tensor(self._sam2.read(name, f"{frames_key}/{frame}"))
                        for frame in frames
                    ]
                )
            )
        return levels


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array)).float()


def _stack(arrays: list[np.ndarray]) -> Tensor:
    return torch.from_numpy(np.stack(arrays)).float()
