"""The masks that are scored: those of our store, or anyone's folder of pictures.

Shapes: N = 10 frames of h x w pixels, any size; rows are those of the index's expression table, as
`DataFrame.itertuples` gives them.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from sam2love.dataset.pictures import read_pictures, stacked
from sam2love.dataset.refavs import FRAMES, unread_pictures
from sam2love.evaluation.metrics import probabilities
from sam2love.stores.store import FeatureStore

FAULTS_LISTED = 5


@dataclass(frozen=True)
class Prediction:
    """The masks of one row.

    values: (N, h, w) float32, logits or probabilities.
    logits: whether they are logits.
    object_score: logit of what is meant being there; None if the system doesn't say.
    gated: whether the gate lets nothing be seen.
    """

    values: np.ndarray
    logits: bool
    object_score: float | None = None
    gated: bool = False

    def probabilities(self, size: tuple[int, int], *, gate: bool = True) -> np.ndarray:
        """The masks as shown, or as they are before the gate: (N, H, W) float32 in [0, 1]."""
        if gate and self.gated:
            return np.zeros((len(self.values), *size), np.float32)
        return probabilities(self.values, size=size, logits=self.logits)


class StoredMasks:
    """Masks of a store as predictions/masks.zarr: an item a metadata row."""

    def __init__(self, store: FeatureStore) -> None:
        self._store = store
        self._gate = store.provenance.get("gate", False)

    def holds(self, entry: Any) -> bool:
        """Whether a row has masks."""
        return self._store.has(str(entry.row))

    def fault(self, entry: Any) -> str | None:
        """What keeps a row from being scored."""
        return None if self.holds(entry) else f"row {entry.row} ({entry.uid}) is not in the store"

    def __call__(self, entry: Any) -> Prediction:
        """The masks of a row.

        Raises:
            ValueError: there are not N of them, or a logit is no number.
        """
        logits = np.asarray(self._store.read("logits", str(entry.row)), np.float32)
        if logits.ndim != 3 or len(logits) != FRAMES or not np.isfinite(logits).all():
            raise ValueError(
                f"masks of row {entry.row} ({entry.uid}): expected {FRAMES} frames of finite "
                f"logits, found shape {logits.shape}; run the stage 'propagate' again"
            )
        score = float(self._store.read("object_score", str(entry.row))[0])
        return Prediction(logits, True, score, self._gate and score <= 0)


class MaskFolder:
    """Masks of any system: <uid>/0000t.png, 8-bit gray, value / 255 the probability."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def holds(self, entry: Any) -> bool:
        """Whether a row has masks, whole or not."""
        return (self._folder / entry.uid).is_dir()

    def fault(self, entry: Any) -> str | None:
        """What keeps a row from being scored; reads no more than the pictures' headers."""
        if not self.holds(entry):
            return f"{entry.uid}/ is missing"
        sizes = set()
        for name in _mask_names(entry.uid):
            try:
                with Image.open(self._folder / name) as picture:
                    if picture.mode != "L":
                        return f"{name} is not 8-bit gray (mode {picture.mode})"
                    sizes.add(picture.size)
            except FileNotFoundError:
                return f"{name} is missing"
            except OSError as error:
                if error.errno is not None:  # the system's fault, not the picture's
                    raise
                return f"{name} is no picture"
        return f"{entry.uid}/ has frames of several sizes" if len(sizes) > 1 else None

    def __call__(self, entry: Any) -> Prediction:
        """The masks of a row that has no fault.

        Raises:
            ValueError: a picture is damaged.
        """
        pixels = stacked(read_pictures(self._paths(entry.uid)))
        return Prediction(pixels[..., 0].astype(np.float32) / 255, False)

    def left_aside(self, uids: Iterable[str]) -> list[str]:
        """A note on the folders that hold more pictures than are scored."""
        folders = [uid for uid in uids if unread_pictures(self._paths(uid))]
        if not folders:
            return []
        names = [path.name for path in self._paths(folders[0])]
        return [
            f"{len(folders)} folders hold more pictures than {names[0]} to {names[-1]}, which are "
            f"left aside; the first is {folders[0]}"
        ]

    def _paths(self, uid: str) -> list[Path]:
        return [self._folder / name for name in _mask_names(uid)]


def _mask_names(uid: str) -> list[str]:
    return [f"{uid}/{t:05d}.png" for t in range(FRAMES)]


Masks = StoredMasks | MaskFolder


def scorable(expressions: pd.DataFrame, masks: Masks) -> tuple[pd.DataFrame, list[str]]:
    """The rows of those splits of which there are masks, and notes on what was left out.

    Raises:
        ValueError: there are masks of none of a table's rows, or of some rows of a split only, or
            masks that can't be taken as such; all are counted and the first few named.
    """
    kept, notes, faults = [], [], []
    for split, rows in expressions.groupby("split", sort=False):
        found = {entry.row: masks.fault(entry) for entry in rows.itertuples()}
        if not any(masks.holds(entry) for entry in rows.itertuples()):
            notes.append(f"{split}: no masks for any of its {len(rows)} rows, left out")
            continue
        faults += [fault for fault in found.values() if fault]
        kept.append(rows)
    if faults:
        more = "; ..." if len(faults) > FAULTS_LISTED else ""
        listed = "; ".join(faults[:FAULTS_LISTED])
        raise ValueError(f"masks of {len(faults)} rows are missing or misshapen: {listed}{more}")
    if not kept:
        splits = ", ".join(expressions["split"].unique())
        raise ValueError(
            f"no masks for any row of {splits}; expected folders by uid, as in metadata.csv"
        )
    return pd.concat(kept).sort_values("row"), notes
