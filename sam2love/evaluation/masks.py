"""Read the masks to score, from a store of the pipeline or from any system's folder of pictures.

Shapes: N frames of h x w pixels, any size. An `entry` is a row of the index's expression
table, from `DataFrame.itertuples`.
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
    """The predicted masks of one row.

    values: (N, h, w) float32, mask logits or probabilities.
    logits: whether values are logits.
    presence: logit of the object being in the clip; None if the system has none.
    gated: whether the gate blanks the row.
    """

    values: np.ndarray
    logits: bool
    presence: float | None = None
    gated: bool = False

    def probabilities(self, size: tuple[int, int], *, gate: bool = True) -> np.ndarray:
        """Return the masks, after the gate or before: (N, H, W) float32 in [0, 1]."""
        if gate and self.gated:
            return np.zeros((len(self.values), *size), np.float32)
        return probabilities(self.values, size=size, logits=self.logits)


class StoredMasks:
    """The masks in a store such as predictions/masks.zarr, one item per metadata row."""

    def __init__(self, store: FeatureStore, *, frames: int = FRAMES) -> None:
        self._store, self._frames = store, frames
        self._gate = store.provenance.get("gate", False)

    def holds(self, entry: Any) -> bool:
        """Return whether a row has masks."""
        return self._store.has(str(entry.row))

    def fault(self, entry: Any) -> str | None:
        """Return why a row can't be scored, or None if it can."""
        return None if self.holds(entry) else f"row {entry.row} ({entry.uid}) is not in the store"

    def __call__(self, entry: Any) -> Prediction:
        """Read the masks of a row.

        Raises:
            ValueError: there are not N masks, or a logit is not finite.
        """
        logits = np.asarray(self._store.read("logits", str(entry.row)), np.float32)
        if logits.ndim != 3 or len(logits) != self._frames or not np.isfinite(logits).all():
            raise ValueError(
                f"masks of row {entry.row} ({entry.uid}): expected {self._frames} frames of "
                f"finite logits, found shape {logits.shape}; run the stage 'propagate' again"
            )
        presence = float(self._store.read("presence", str(entry.row)))
        return Prediction(logits, True, presence, self._gate and presence <= 0)


class MaskFolder:
    """The masks of any system: <uid>/0000t.png, 8-bit gray, the probability being value / 255."""

    def __init__(self, folder: Path, *, frames: int = FRAMES) -> None:
        self._folder, self._frames = folder, frames

    def holds(self, entry: Any) -> bool:
        """Return whether a row has a folder, complete or not."""
        return (self._folder / entry.uid).is_dir()

    def fault(self, entry: Any) -> str | None:
        """Return why a row can't be scored, or None; only the pictures' headers are read."""
        if not self.holds(entry):
            return f"{entry.uid}/ is missing"
        sizes = set()
        for path in self._paths(entry.uid):
            name = f"{entry.uid}/{path.name}"
            try:
                with Image.open(path) as picture:
                    if picture.mode != "L":
                        return f"{name} is not 8-bit gray (mode {picture.mode})"
                    sizes.add(picture.size)
            except FileNotFoundError:
                return f"{name} is missing"
            except OSError as error:
                if error.errno is not None:  # from the system, not from Pillow
                    raise
                return f"{name} is not a picture"
        return f"{entry.uid}/ has frames of several sizes" if len(sizes) > 1 else None

    def __call__(self, entry: Any) -> Prediction:
        """Read the masks of a row without a fault.

        Raises:
            ValueError: a picture is damaged.
        """
        pixels = stacked(read_pictures(self._paths(entry.uid)))
        return Prediction(pixels[..., 0].astype(np.float32) / 255, False)

    def ignored(self, uids: Iterable[str]) -> list[str]:
        """Return a note on the folders with more pictures than are scored, if there are any."""
        folders = [uid for uid in uids if unread_pictures(self._paths(uid))]
        if not folders:
            return []
        names = [path.name for path in self._paths(folders[0])]
        return [
            f"{len(folders)} folders have pictures other than {names[0]} to {names[-1]}, which are "
            f"ignored; the first folder is {folders[0]}"
        ]

    def _paths(self, uid: str) -> list[Path]:
        return [self._folder / uid / f"{t:05d}.png" for t in range(self._frames)]


Masks = StoredMasks | MaskFolder


def scorable(expressions: pd.DataFrame, masks: Masks) -> tuple[pd.DataFrame, list[str]]:
    """Return the rows of the splits that have masks, and notes on the splits left out.

    Raises:
        ValueError: no row has masks, or a split has masks for some of its rows only, or some are
            malformed; all faults are counted and the first few listed.
    """
    kept, notes, faults = [], [], []
    for split, rows in expressions.groupby("split", sort=False):
        entries = list(rows.itertuples())
        if not any(masks.holds(entry) for entry in entries):
            notes.append(f"{split} is left out: no masks for any of its {len(rows)} rows")
            continue
        faults += [fault for entry in entries if (fault := masks.fault(entry))]
        kept.append(rows)
    if faults:
        more = "; ..." if len(faults) > FAULTS_LISTED else ""
        listed = "; ".join(faults[:FAULTS_LISTED])
        raise ValueError(f"masks of {len(faults)} rows are missing or malformed: {listed}{more}")
    if not kept:
        splits = ", ".join(expressions["split"].unique())
        raise ValueError(
            f"no masks for any row of {splits}; expected a folder for each uid of metadata.csv"
        )
    return pd.concat(kept).sort_values("row"), notes
