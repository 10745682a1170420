"""Baselines that ignore the sentence: they show some of a clip's objects, chosen by a rule.

The masks come from predictions/objects.zarr, where SAM 2 segmented each object from one click, so
only the choice of objects differs from the model's. The oracle, which chooses the target, is the
upper bound.

Shapes: N frames, h x w mask logits.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sam2love.dataset.refavs import FRAMES
from sam2love.stores.names import item_name, split_name
from sam2love.stores.store import FeatureStore

NAMES = ("every_object", "largest", "central", "random", "oracle_point")
NOTHING_LOGIT = -1024.0
"""SAM 2's own logit for an absent object."""


class ObjectBaselines:
    """Choose among the objects of a clip.

    Args:
        store: items "<frames_key>/<fid>", array "logits" (N, h, w).
        frames_keys: for each clip key, the key under which its frames are stored.
        seed: seeds the random choice, which is drawn separately for each row.
        frames: N.
    """

    def __init__(
        self,
        store: FeatureStore,
        *,
        frames_keys: Mapping[str, str],
        seed: int,
        frames: int = FRAMES,
    ) -> None:
        self._store, self._frames = store, frames
        self._frames_keys = frames_keys
        self._seed = seed
        self._fids: dict[str, list[int]] = {}
        for name in store.ids:
            frames_key, fid = split_name(name)
            self._fids.setdefault(frames_key, []).append(fid)

    def fids(self, key: str) -> list[int]:
        """Return the objects segmented in a clip, sorted; a null clip has those of its frames."""
        return sorted(self._fids.get(self._frames_keys[key], []))

    def logits(self, key: str, fids: tuple[int, ...]) -> np.ndarray:
        """Return the union of the objects' masks: (N, h, w) float32, empty without objects."""
        if not fids:
            return np.full((self._frames, 1, 1), NOTHING_LOGIT, np.float32)
        names = [item_name(self._frames_keys[key], fid) for fid in fids]
        logits = np.stack([self._store.read("logits", name) for name in names])
        return logits.max(0).astype(np.float32)  # (objects, N, h, w) to (N, h, w)

    def choices(self, entry: Any) -> dict[str, tuple[int, ...]]:
        """Return the objects that each baseline shows for a row; none if the clip has none.

        The oracle shows nothing if the target is absent, or was not segmented because no frame
        shows it.
        """
        fids = self.fids(entry.key)
        if not fids:
            return dict.fromkeys(NAMES, ())
        masks = {fid: self.logits(entry.key, (fid,)) > 0 for fid in fids}
        drawn = np.random.default_rng([self._seed, entry.row]).integers(len(fids))
        return {
            "every_object": tuple(fids),
            "largest": (max(fids, key=lambda fid: int(masks[fid].sum())),),
            "central": (min(fids, key=lambda fid: centre_distance(masks[fid])),),
            "random": (fids[drawn],),
            "oracle_point": tuple(fid for fid in fids if fid == entry.fid and not entry.null),
        }


def centre_distance(masks: np.ndarray) -> float:
    """Return the mean distance between an object's centre and that of the picture.

    Args:
        masks: (N, H, W) bool; frames without the object are skipped.

    Returns:
        Distance with the picture's sides as units, 0 to 0.71; infinite if no frame has the object.
    """
    distances = []
    for mask in masks:
        if mask.any():
            y, x = np.nonzero(mask)
            height, width = mask.shape
            distances.append(
                np.hypot((y.mean() + 0.5) / height - 0.5, (x.mean() + 0.5) / width - 0.5)
            )
    return float(np.mean(distances)) if distances else float("inf")
