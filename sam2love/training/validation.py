"""Validation on frame 0: J, and the fraction of rows on which the right object is segmented."""

from functools import lru_cache

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object

from sam2love.evaluation.metrics import REGION_SHOWN, overlaps_most, probabilities, region_j
from sam2love.model import SAM2Love
from sam2love.stores.features import FeatureReader
from sam2love.training.batches import read_batch


def validate(
    accelerator: Accelerator,
    model: SAM2Love,
    rows: pd.DataFrame,
    reader: FeatureReader,
    *,
    frames: int,
    batch_size: int = 64,
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
    scores: list[tuple[str | None, float, float]] = []

    @lru_cache(maxsize=batch_size)  # rows of a clip are consecutive
    def truths_of(key: str) -> dict[int, np.ndarray]:
        fids = reader.objects(key)
        masks = reader.labels([key] * len(fids), fids)
        return {fid: mask[None].numpy() for fid, mask in zip(fids, masks, strict=True)}

    starts = range(0, len(rows), batch_size)[accelerator.process_index :: accelerator.num_processes]
    for start in starts:
        part = rows.iloc[start : start + batch_size]
        batch = read_batch(part, reader, frames=frames).to(accelerator.device)
        with torch.inference_mode():
            first = model(batch.features, batch.embeddings).decoded
        logits = first.logits.float().cpu().numpy()
        for index, (key, fid) in enumerate(zip(part["key"], part["fid"], strict=True)):
            truths = truths_of(key)
            mask = truths.get(fid)
            if mask is None or not mask.any():
                continue
            size = (mask.shape[1], mask.shape[2])
            shown = probabilities(logits[index], size=size, logits=True) > REGION_SHOWN
            right = overlaps_most(shown, truths, fid=fid)
            kinds = part["kinds"].iloc[index] if "kinds" in part else None
            scores.append((kinds, 100 * region_j(shown, mask)[0], 100.0 * right))
    table = pd.DataFrame(gather_object(scores), columns=["kinds", "J", "right"]).astype(
        {"J": float}
    )
    measured = {name: float(table[name].mean()) for name in ("J", "right")}
    for kinds in sorted(set(table["kinds"].dropna())):
        of_kind = table[table["kinds"] == kinds]
        measured |= {f"{name}_{kinds}": float(of_kind[name].mean()) for name in ("J", "right")}
    return measured
