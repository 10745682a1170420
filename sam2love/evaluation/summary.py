"""Summarise the scores of rows as expressions.csv and metrics.json.

J and F are percentages here, S is a ratio.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sam2love.dataset.index import NULL_SPLIT, POSITIVE_SPLITS, VAL_SPLIT
from sam2love.evaluation import rejection
from sam2love.evaluation.intervals import bootstrap_means, interval
from sam2love.evaluation.metrics import PROTOCOLS
from sam2love.evaluation.protocols import (
    ROWS_PER_BATCH,
    RowScore,
    Statistics,
    batch_f,
    batch_j,
    batch_s,
    mean_f_curve,
)

NULL_PROTOCOLS = ("refavs", "frame")
DECIMALS = 6

Tree = dict[str, Any]
"""metrics.json or a part of it."""
ScoresBySplit = dict[str, list[RowScore]]


# ---- a row per expression -----------------------------------------------------------------------


def row_table(
    expressions: pd.DataFrame,
    scores: Sequence[RowScore],
    families: pd.DataFrame,
    kinds: pd.DataFrame,
) -> pd.DataFrame:
    """Return the expression table with the scores of each row.

    Adds: family; kinds, "seen" or "unseen", for val's rows (index.Index); objects, the number
    annotated in the clip; picked; late; presence; gated; the row's own J and F by each protocol
    ("refavs_J", ...), where the F of `frame` takes the threshold that is best for the split; those
    of `frame` without the gate and of empty masks ("frame_J_ungated", "frame_J_empty", ...); S and
    S_ungated. Values that don't apply to a row are empty.
    """
    table = expressions.reset_index(drop=True)
    for name, labels in (("family", families), ("kinds", kinds)):
        table[name] = table["uid"].map(dict(zip(labels["uid"], labels[name], strict=True)))
    for column in ("objects", "picked", "late", "presence", "gated"):
        table[column] = [getattr(score, column) for score in scores]
    best = {
        split: int(mean_f_curve([score.square for score in part]).argmax())
        for split, part in _by_split(table, scores).items()
    }
    values = [
        {} if score.picked is None else _row_values(score, best[split])
        for split, score in zip(table["split"], scores, strict=True)
    ]
    columns = [f"{name}_{measure}" for name in PROTOCOLS for measure in "JF"]
    columns += [f"frame_{measure}_{masks}" for masks in ("ungated", "empty") for measure in "JF"]
    table = table.join(pd.DataFrame(values, index=table.index, columns=columns, dtype=float))
    table["S"] = [batch_s([score.square.foreground], rows_per_batch=1) for score in scores]
    table["S_ungated"] = [batch_s([score.ungated.foreground], rows_per_batch=1) for score in scores]
    return table


def _row_values(score: RowScore, threshold: int) -> dict[str, float]:
    """Return J and F of a row that isn't null, in percent; F of `frame` at this threshold."""
    values: dict[str, float] = {}
    for name in PROTOCOLS:
        own = _protocol(name, [score])
        values |= {f"{name}_J": own["J"], f"{name}_F": own["F"]}
    for suffix, part in (("", score.square), ("_ungated", score.ungated), ("_empty", score.empty)):
        values[f"frame_J{suffix}"] = _rounded(100 * part.region_j.mean())
        values[f"frame_F{suffix}"] = 100 * float(mean_f_curve([part])[threshold])
    return values


def _by_split(expressions: pd.DataFrame, scores: Sequence[RowScore]) -> ScoresBySplit:
    """Group scores by split, in the table's order."""
    groups: ScoresBySplit = {}
    for split, score in zip(expressions["split"], scores, strict=True):
        groups.setdefault(split, []).append(score)
    return groups


# ---- metrics.json -------------------------------------------------------------------------------


def summarise(rows: pd.DataFrame, scores: Sequence[RowScore], *, resamples: int, seed: int) -> Tree:
    """Return metrics.json: protocols, baselines, picked, rejection, late, families, val, clips.

    Splits without rows, and figures that need them, are left out.

    Args:
        rows: the table from `row_table`, in metadata order, on which batches depend.
        resamples: bootstrap samples of clips for each 95 % interval.
        seed: seeds the resampling.
    """
    by_split = _by_split(rows, scores)
    metrics: Tree = {
        name: with_mix(_positive(by_split, partial(_protocol, name))) for name in PROTOCOLS
    }
    if null := by_split.get(NULL_SPLIT):
        metrics["refavs"][NULL_SPLIT] = {
            "S": _s([score.square.foreground for score in null]),
            "S_ungated": _s([score.ungated.foreground for score in null]),
            "S_at_0.4": _s([score.square.foreground_at_region for score in null]),
        }
        metrics["frame"][NULL_SPLIT] = {
            "S": _s([score.square.foreground for score in null], rows_per_batch=len(null))
        }
    metrics["baselines"] = {
        name: {"refavs": _baseline(name, by_split)} for name in scores[0].baselines
    }
    metrics["picked"] = _picked(rows)
    if rows["presence"].notna().any():
        rates = rows.groupby("split")["gated"].mean()
        metrics["gated"] = {str(split): _rounded(100 * rate) for split, rate in rates.items()}
    if parts := rejection.comparable(rows):
        metrics["rejection"] = {name: _rejection(part) for name, part in parts.items()}
    metrics |= _late(rows)
    metrics["families"] = _families(rows)
    if (rows["split"] == VAL_SPLIT).any():
        metrics["val"] = _val(rows[rows["split"] == VAL_SPLIT])
    metrics["clips"] = {
        name: clip_means(rows, protocol=name, resamples=resamples, seed=seed) for name in PROTOCOLS
    }
    return metrics


def _positive(by_split: ScoresBySplit, score: Callable[[list[RowScore]], Tree]) -> Tree:
    return {split: score(by_split[split]) for split in POSITIVE_SPLITS if split in by_split}


def _protocol(name: str, rows: Sequence[RowScore]) -> Tree:
    """Return J, F and their mean over rows that aren't null."""
    if name == "davis":
        return _percentages(*np.mean([row.davis for row in rows if row.davis], axis=0))
    if name == "original":
        return _region([row.original for row in rows if row.original], rows_per_batch=1)
    return _region(
        [row.square for row in rows],
        rows_per_batch=ROWS_PER_BATCH if name == "refavs" else len(rows),
    )


def _baseline(name: str, by_split: ScoresBySplit) -> Tree:
    def score(rows: list[RowScore]) -> Tree:
        return _region([row.baselines[name] for row in rows], rows_per_batch=ROWS_PER_BATCH)

    tree = with_mix(_positive(by_split, score))
    if null := by_split.get(NULL_SPLIT):
        tree[NULL_SPLIT] = {"S": _s([row.baselines[name].foreground for row in null])}
    return tree


def _region(rows: Sequence[Statistics], *, rows_per_batch: int) -> Tree:
    return _percentages(
        batch_j(rows, rows_per_batch=rows_per_batch), batch_f(rows, rows_per_batch=rows_per_batch)
    )


def _percentages(j: float, f: float) -> Tree:
    return {"J": _rounded(100 * j), "F": _rounded(100 * f), "J&F": _rounded(50 * (j + f))}


def _s(fractions: Sequence[float], *, rows_per_batch: int = ROWS_PER_BATCH) -> float:
    return _rounded(batch_s(fractions, rows_per_batch=rows_per_batch))


def _rounded(value: float) -> float:
    """Drop the digits that differ between processors."""
    return round(float(value), DECIMALS)


def with_mix(by_split: Tree) -> Tree:
    """Add 'mix', the mean of seen and unseen, if there are both."""
    if not all(split in by_split for split in POSITIVE_SPLITS):
        return by_split
    seen, unseen = (by_split[split] for split in POSITIVE_SPLITS)
    return by_split | {"mix": {name: _rounded((seen[name] + unseen[name]) / 2) for name in seen}}


def _picked(rows: pd.DataFrame) -> Tree:
    """Return how often the target is overlapped most, by split, and how often by guessing."""
    positive = rows[rows["split"].isin(POSITIVE_SPLITS)]
    if positive.empty:
        return {}
    rates = positive["picked"].astype(float).groupby(positive["split"]).mean()
    tree = {str(split): _rounded(100 * rate) for split, rate in rates.items()}
    return tree | {"chance": _rounded(100 * (1 / positive["objects"]).mean())}


def _rejection(rows: pd.DataFrame) -> Tree:
    """Return AUC and calibration error, and AUC and S by family of null rows if several."""
    tree: Tree = {
        "AUC": _rounded(rejection.area_under_curve(rows)),
        "ECE": _rounded(rejection.calibration_error(rejection.calibration(rows))),
        "rows": len(rows),
        "null_rows": int(rows["null"].sum()),
    }
    if families := rejection.by_null_family(rows):
        tree["families"] = {
            name: {
                "AUC": _rounded(rejection.area_under_curve(part)),
                "S": _rounded(rejection.null_s(part)),
                "rows": int(part["null"].sum()),
            }
            for name, part in families.items()
        }
    return tree


def _late(rows: pd.DataFrame) -> Tree:
    """Return J&F by `frame` of the objects that frame 0 does not show, and over that of the others.

    For val and for the test splits, each only if it has both kinds.
    """
    positive = rows[~rows["null"].astype(bool)]
    own = positive[["frame_J", "frame_F"]].mean(axis=1)
    late, of_val = positive["late"].astype(bool), positive["split"] == VAL_SPLIT
    tree = {}
    for name, part in (("val", of_val), ("test", ~of_val)):
        these, others = own[part & late], own[part & ~late]
        if len(these) and len(others):
            ratio = these.mean() / others.mean() if others.mean() else 0.0
            tree[name] = {
                "J&F": _rounded(these.mean()),
                "over_others": _rounded(ratio),
                **_picked_and_chance(positive[part & late]),
            }
    return {"late": tree} if tree else {}


def _families(rows: pd.DataFrame) -> Tree:
    positive = rows[rows["split"].isin(POSITIVE_SPLITS)]
    return {
        str(family): {"J&F": _rounded(part[["refavs_J", "refavs_F"]].to_numpy().mean())}
        | _picked_and_chance(part)
        for family, part in positive.groupby("family")
    }


def _picked_and_chance(rows: pd.DataFrame) -> Tree:
    return {
        "picked": _rounded(100 * rows["picked"].astype(float).mean()),
        "chance": _rounded(100 * (1 / rows["objects"]).mean()),
        "rows": len(rows),
    }


def _val(rows: pd.DataFrame) -> Tree:
    """Return means over val's rows by `frame`: all rows, and seen and unseen kinds if known.

    Null rows have only S, under "null".
    """
    positive = rows[~rows["null"]]
    parts = {"all": positive} | {str(kinds): part for kinds, part in positive.groupby("kinds")}
    tree: Tree = {
        name: _percentages(part["frame_J"].mean() / 100, part["frame_F"].mean() / 100)
        | _picked_and_chance(part)
        for name, part in parts.items()
        if len(part)
    }
    if (null := rows[rows["null"]]).size:
        tree["null"] = {"S": _rounded(rejection.null_s(null)), "rows": len(null)}
    return tree


# ---- means over clips ---------------------------------------------------------------------------


def clip_means(rows: pd.DataFrame, *, protocol: str, resamples: int, seed: int) -> Tree:
    """Average rows within clips, then over clips, so that all clips have equal weight.

    Returns:
        By split and "mix": J, F, J&F, the 95 % interval of J&F over clips as "low" and "high", and
        the number of clips; for null rows the same of S, in the protocols that have it.
    """
    tree: Tree = {}
    resampled = {}
    for number, split in enumerate((*POSITIVE_SPLITS, NULL_SPLIT)):
        part = rows[rows["split"] == split]
        null = split == NULL_SPLIT
        if part.empty or (null and protocol not in NULL_PROTOCOLS):
            continue
        columns = ["S"] if null else [f"{protocol}_J", f"{protocol}_F"]
        clips = part.groupby("key")[columns].mean().to_numpy()  # (clips, columns)
        means = clips.mean(axis=0)
        resampled[split] = bootstrap_means(
            clips.mean(axis=1), np.ones(len(clips)), resamples=resamples, seed=[seed, number]
        )
        figures = {"S": _rounded(means[0])} if null else _percentages(*means / 100)
        tree[split] = figures | _interval(resampled[split]) | {"clips": len(clips)}
    if all(split in tree for split in POSITIVE_SPLITS):
        both = [tree[split] for split in POSITIVE_SPLITS]
        j, f = (np.mean([part[name] for part in both]) / 100 for name in "JF")
        means = np.mean([resampled[split] for split in POSITIVE_SPLITS], axis=0)
        count = sum(part["clips"] for part in both)
        tree["mix"] = _percentages(j, f) | _interval(means) | {"clips": count}
    return tree


def _interval(means: np.ndarray) -> Tree:
    low, high = interval(means)
    return {"low": _rounded(low), "high": _rounded(high)}
