"""Score masks against the truth, row by row, and combine rows as the published protocols do.

refavs    the benchmark's own code: 256 x 256, batches of 4 consecutive rows, F's maximum per batch.
frame     the same without batches: one threshold for the whole split.
original  at the pictures' own size, F's maximum per expression.
davis     region J and boundary F of video object segmentation, at the pictures' own size.

The first three differ only in size and in the rows per batch. Scores are ratios in this module.
Shapes: N frames of H x W pixels, K = 255 thresholds.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from sam2love.dataset import refavs
from sam2love.dataset.index import NULL_SPLIT, POSITIVE_SPLITS, VAL_SPLIT
from sam2love.dataset.pictures import above_black, stacked
from sam2love.evaluation import metrics
from sam2love.evaluation.baselines import ObjectBaselines
from sam2love.evaluation.masks import Prediction
from sam2love.evaluation.metrics import Thresholded

TEST_SPLITS = (*POSITIVE_SPLITS, NULL_SPLIT)
SCORED_SPLITS = (VAL_SPLIT, *TEST_SPLITS)
SIZE = (256, 256)
ROWS_PER_BATCH = 4


@dataclass(frozen=True)
class Statistics:
    """The part of J, F and S that a row contributes to any batch.

    region_j: (N,).
    f_curve: (K,), the sum over the frames with a true object.
    visible: the number of these frames.
    foreground: fraction of all pixels that are foreground.
    foreground_at_region: the same at the threshold of J.
    """

    region_j: np.ndarray
    f_curve: np.ndarray
    visible: int
    foreground: float
    foreground_at_region: float


def measure(masks: Thresholded, truth: np.ndarray) -> Statistics:
    """Compare N masks with the true ones (N, H, W) bool."""
    curves = metrics.f_curves(masks, truth)
    return Statistics(
        region_j=metrics.region_j(masks.region, truth),
        f_curve=curves.sum(axis=0),
        visible=len(curves),
        foreground=_foreground_fraction(masks.shown),
        foreground_at_region=_foreground_fraction(masks.region),
    )


def _foreground_fraction(masks: np.ndarray) -> float:
    """Return the fraction of all pixels (N, H, W) bool that are foreground."""
    return np.count_nonzero(masks) / masks.size


# ---- batches of rows ----------------------------------------------------------------------------


def batch_j(rows: Sequence[Statistics], *, rows_per_batch: int) -> float:
    """Average J over each batch of consecutive rows, then over batches; the last may be partial."""
    return _over_batches(
        rows, rows_per_batch, lambda batch: np.concatenate([row.region_j for row in batch]).mean()
    )


def batch_f(rows: Sequence[Statistics], *, rows_per_batch: int) -> float:
    """Average over batches the maximum of each batch's mean F curve."""
    return _over_batches(rows, rows_per_batch, lambda batch: mean_f_curve(batch).max())


def batch_s(fractions: Sequence[float], *, rows_per_batch: int) -> float:
    """Average over batches the S of each batch's mean foreground fraction."""
    return _over_batches(
        fractions, rows_per_batch, lambda batch: metrics.s_measure(float(np.mean(batch)))
    )


def mean_f_curve(rows: Sequence[Statistics]) -> np.ndarray:
    """Return the mean F at each threshold over the frames with a true object: (K,); 0 if none."""
    visible = sum(row.visible for row in rows)
    return np.sum([row.f_curve for row in rows], axis=0) / max(visible, 1)


def _over_batches(rows: Sequence, rows_per_batch: int, score: Callable[[Any], Any]) -> float:
    starts = range(0, len(rows), rows_per_batch)
    return float(np.mean([score(rows[start : start + rows_per_batch]) for start in starts]))


# ---- rows ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RowScore:
    """The scores of one row's masks against the truth.

    square: at 256 x 256.
    ungated: the same without the gate.
    empty: the same of empty masks, which a closed gate shows.
    original, davis: at the pictures' size, (mean J, mean F) for davis; None for null rows.
    objects: number of objects annotated in the clip, 0 for null rows.
    picked: whether the masks overlap the target more than any other object; None for null rows.
    late: whether frame 0 does not show the target; None for null rows.
    presence, gated: from the prediction.
    baselines: at 256 x 256, by name.
    """

    square: Statistics
    ungated: Statistics
    empty: Statistics
    original: Statistics | None
    davis: tuple[float, float] | None
    objects: int
    picked: bool | None
    late: bool | None
    presence: float | None
    gated: bool
    baselines: dict[str, Statistics] = field(default_factory=dict)


def score_rows(
    expressions: pd.DataFrame,
    predict: Callable[[Any], Prediction],
    *,
    root: Path,
    baselines: ObjectBaselines | None = None,
    threads: int = 1,
    frames: int = refavs.FRAMES,
) -> list[RowScore]:
    """Score rows of the index's expression table, in its order.

    Args:
        predict: returns the masks of a row, such as masks.StoredMasks.
        root: the data set with the true masks.
        baselines: scored on the same rows, if given.
        threads: clips scored in parallel; the scores don't depend on it.
        frames: N.

    Raises:
        FileNotFoundError, ValueError: a true mask or a prediction is missing or damaged.
    """
    clips = [list(rows.itertuples()) for _, rows in expressions.groupby("key", sort=False)]
    with ThreadPoolExecutor(threads) as pool:
        scored = pool.map(lambda rows: _score_clip(rows, predict, root, baselines, frames), clips)
        bar: Iterable = tqdm(scored, "scoring", len(clips), unit="clip")
        by_row = {row: score for clip in bar for row, score in clip.items()}
    return [by_row[row] for row in expressions["row"]]


def _score_clip(
    entries: list, predict: Callable, root: Path, baselines: ObjectBaselines | None, frames: int
) -> dict[int, RowScore]:
    key = entries[0].key
    fids = {*refavs.objects(root, key), *(entry.fid for entry in entries if not entry.null)}
    truths = {fid: true_masks(root, key, fid, frames=frames) for fid in sorted(fids)}
    empty = metrics.threshold(np.zeros((frames, *SIZE), np.float32))
    shown: dict[tuple[int, ...], Thresholded] = {}
    scores = {}
    for entry in entries:
        truth = empty.shown if entry.null else truths[entry.fid][0]
        scores[entry.row] = score = _score_row(entry, predict(entry), truth, truths, empty)
        if baselines is None:
            continue
        choices = baselines.choices(entry)
        for chosen in set(choices.values()) - set(shown):
            logits = baselines.logits(key, chosen)
            probability = metrics.probabilities(logits, size=SIZE, logits=True)
            shown[chosen] = metrics.threshold(probability)
        measured = {chosen: measure(shown[chosen], truth) for chosen in set(choices.values())}
        score.baselines.update({name: measured[chosen] for name, chosen in choices.items()})
    return scores


def true_masks(
    root: Path, key: str, fid: int, *, frames: int = refavs.FRAMES
) -> tuple[np.ndarray, np.ndarray]:
    """Read an object's true masks, resized as in the benchmark's code and at their own size.

    Returns:
        (N, 256, 256) bool and (N, H, W) bool.
    """
    pictures = refavs.read_mask_pictures(root, key, fid, frames=frames)
    if pictures is None:
        return np.zeros((frames, *SIZE), bool), np.zeros((frames, *SIZE), bool)
    # Resize in colour and convert to gray afterwards: in the other order other pixels exceed 0.
    own = stacked(pictures)  # (N, H, W, 3)
    square = [cv2.resize(pixels, SIZE, interpolation=cv2.INTER_LINEAR) for pixels in own]
    return above_black(square), above_black(own)


def _score_row(
    entry: Any, prediction: Prediction, target: np.ndarray, truths: dict, empty: Thresholded
) -> RowScore:
    """Score a row against the target's true masks (N, 256, 256) and those of all objects."""
    ungated = metrics.threshold(prediction.probabilities(SIZE, gate=False))
    statistics, nothing = measure(ungated, target), measure(empty, target)
    original, davis, picked = None, None, None
    if not entry.null:
        truth = truths[entry.fid][1]
        masks = metrics.threshold(prediction.probabilities(truth.shape[1:]))
        original = measure(masks, truth)
        davis = (
            float(metrics.davis_j(masks.shown, truth).mean()),
            float(metrics.boundary_f(masks.shown, truth).mean()),
        )
        squares = {fid: mask for fid, (mask, _) in truths.items()}
        shown = empty if prediction.gated else ungated
        picked = metrics.overlaps_most(shown.region, squares, fid=entry.fid)
    return RowScore(
        square=nothing if prediction.gated else statistics,
        ungated=statistics,
        empty=nothing,
        original=original,
        davis=davis,
        objects=0 if entry.null else len(truths),
        picked=picked,
        late=None if entry.null else not target[0].any(),
        presence=prediction.presence,
        gated=prediction.gated,
    )
