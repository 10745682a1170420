"""Validation on frame 0: J, and whether the right object is segmented, for each row."""

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sam2love.evaluation.metrics import REGION_SHOWN, overlaps_most, probabilities, region_j
from sam2love.model import SAM2Love
from sam2love.stores.features import FeatureReader, Features
from sam2love.training.batches import read_batch

BATCH_SIZE = 64
COLUMNS = ["row", "kinds", "objects", "condition", "J", "right"]

Conditions = Callable[[pd.DataFrame, Features], Iterable[tuple[str, Features]]]
"""From rows and their features to the features under each condition, by its name."""


def validate(
    accelerator: Accelerator,
    model: SAM2Love,
    rows: pd.DataFrame,
    reader: FeatureReader,
    *,
    frames: int,
    batch_size: int = BATCH_SIZE,
) -> dict[str, float]:
    """Measure J and the fraction of rows with the right object on frame 0, both in percent.

    Each process measures its part of the rows. Rows whose object is not visible on frame 0 are
    skipped.

    Args:
        rows: of the expression table, with or without a column "kinds".
        frames: how many frames the fusion sees.

    Returns:
        "J" and "right", NaN without rows, and "J_<kinds>" and "right_<kinds>" for each value of
        the column "kinds".
    """
    own = in_batches(rows, batch_size)[accelerator.process_index :: accelerator.num_processes]
    scores = score_rows(model, own, reader, frames=frames, device=accelerator.device)
    records = gather_object([*scores.itertuples(index=False, name=None)])
    table = pd.DataFrame(records, columns=COLUMNS).astype({"J": float, "right": float})
    measured = {name: float(table[name].mean()) for name in ("J", "right")}
    for kinds in sorted(set(table["kinds"].dropna())):
        of_kind = table[table["kinds"] == kinds]
        measured |= {f"{name}_{kinds}": float(of_kind[name].mean()) for name in ("J", "right")}
    return measured


def in_batches(rows: pd.DataFrame, size: int = BATCH_SIZE) -> list[pd.DataFrame]:
    """Cut rows of the expression table into batches; the last may be smaller."""
    return [rows.iloc[start : start + size] for start in range(0, len(rows), size)]


def _as_stored(_: pd.DataFrame, features: Features) -> Iterable[tuple[str, Features]]:
    yield "", features


def score_rows(
    model: SAM2Love,
    batches: Iterable[pd.DataFrame],
    reader: FeatureReader,
    *,
    device: torch.device,
    frames: int | None = None,
    conditions: Conditions = _as_stored,
) -> pd.DataFrame:
    """Score each row on frame 0, under each condition of its features.

    A batch's SAM 2 embeddings are read once, and are the same under all conditions.

    Args:
        batches: rows of the expression table, with or without a column "kinds".
        device: the model's.
        frames: how many frames the fusion sees; by default all.
        conditions: by default one without a name, of features as stored.

    Returns:
        COLUMNS: row, kinds (or None), the number of objects annotated in its clip, condition, J in
        percent, and right: 100 if the mask overlaps the object meant most, else 0. Rows whose
        object is not visible on frame 0 are left out.
    """
    scores: list[tuple[int, str | None, int, str, float, float]] = []

    @lru_cache(maxsize=BATCH_SIZE)  # rows of a clip are consecutive
    def truths_of(key: str) -> dict[int, np.ndarray]:
        fids = reader.objects(key)
        masks = reader.labels([key] * len(fids), fids)
        return {fid: mask[None].numpy() for fid, mask in zip(fids, masks, strict=True)}

    for rows in batches:
        batch = read_batch(rows, reader, frames=frames).to(device)
        for condition, features in conditions(rows, batch.features):
            with torch.inference_mode():
                first = model(features, batch.embeddings).decoded
            logits = first.logits.float().cpu().numpy()
            named = zip(rows["row"], rows["key"], rows["fid"], strict=True)
            for index, (row, key, fid) in enumerate(named):
                truths = truths_of(key)
                mask = truths.get(fid)
                if mask is None or not mask.any():
                    continue
                size = (mask.shape[1], mask.shape[2])
                shown = probabilities(logits[index], size=size, logits=True) > REGION_SHOWN
                right = overlaps_most(shown, truths, fid=fid)
                kinds = rows["kinds"].iloc[index] if "kinds" in rows else None
                j = 100 * region_j(shown, mask)[0]
                scores.append((row, kinds, len(truths), condition, j, 100.0 * right))
    numbers = {"row": int, "objects": int, "J": float, "right": float}
    return pd.DataFrame(scores, columns=COLUMNS).astype(numbers)
