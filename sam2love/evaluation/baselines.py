"""What a system scores that understands nothing: masks of a clip's objects, chosen by a rule.

All are made of predictions/objects.zarr, where SAM 2 has segmented each object from one click, so
that they differ from ours in the choice alone. An oracle's point is the ceiling: the one meant.

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
"""SAM 2's own logit for 'not there'."""


class ObjectBaselines:
    """Chooses among a clip's objects.

    Args:
        store: items "<frames_key>/<fid>", array "logits" (N, h, w).
        frames_keys: of each clip key, the key under which its pictures are stored.
        seed: of the random choice, which is drawn anew for each row.
    """

    def __init__(self, store: FeatureStore, *, frames_keys: Mapping[str, str], seed: int) -> None:
        self._store = store
        self._frames_keys = frames_keys
        self._seed = seed
        self._fids: dict[str, list[int]] = {}
        for name in store.ids:
            frames_key, fid = split_name(name)
            self._fids.setdefault(frames_key, []).append(fid)

    def fids(self, key: str) -> list[int]:
        """The objects segmented in a clip, sorted; of a null clip, those of the same pictures."""
        return sorted(self._fids.get(self._frames_keys[key], []))

    def logits(self, key: str, fids: tuple[int, ...]) -> np.ndarray:
        """The union of some objects' masks: (N, h, w) float32; of none, nothing."""
        if not fids:
            return np.full((FRAMES, 1, 1), NOTHING_LOGIT, np.float32)
        names = [item_name(self._frames_keys[key], fid) for fid in fids]
        return (
            np.stack([self._store.read("logits", name) for name in names]).max(0).astype(np.float32)
        )

    def choices(self, entry: Any) -> dict[str, tuple[int, ...]]:
        """By baseline, the objects shown for a row; none if the clip has none.

        The oracle shows nothing where what is meant isn't there, or wasn't segmented because
        frame 0 doesn't show it.
        """
        fids = self.fids(entry.key)
        meant = tuple(fid for fid in fids if fid == entry.fid and not entry.null)
        if not fids:
            return dict.fromkeys(NAMES, ())
        masks = {fid: self.logits(entry.key, (fid,)) > 0 for fid in fids}
        drawn = np.random.default_rng([self._seed, entry.row]).integers(len(fids))
        return {
            "every_object": tuple(fids),
            "largest": (max(fids, key=lambda fid: int(masks[fid].sum())),),
            "central": (min(fids, key=lambda fid: centre_distance(masks[fid])),),
            "random": (fids[drawn],),
            "oracle_point": meant,
        }


def centre_distance(masks: np.ndarray) -> float:
    """How far an object's centre is from the picture's, in shares of it, on average over frames.

    Args:
        masks: (N, H, W) bool; frames that don't show the object don't count.

    Returns:
        Distance, 0 to 0.71; infinite if no frame shows the object.
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
