"""From the scores of rows to what is written: expressions.csv and metrics.json.

J and F are percentages from here on, S is a ratio.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from sam2love.dataset.index import NULL_SPLIT, POSITIVE_SPLITS, VAL_SPLIT
from sam2love.evaluation.intervals import bootstrap_means, bounds
from sam2love.evaluation.protocols import (
    PROTOCOLS,
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
Parts = dict[str, list[RowScore]]


# ---- a row per expression -----------------------------------------------------------------------


def row_table(
    expressions: pd.DataFrame,
    scores: Sequence[RowScore],
    families: pd.DataFrame,
    kinds: pd.DataFrame,
) -> pd.DataFrame:
    """The expression table with what each row scored.

    Adds: family; kinds, "seen" or "unseen", of val's rows (index.Index); objects, how many are
    annotated in the clip; picked; object_score; gated; J and F by each protocol ("refavs_J", ...),
    for the row alone, but F of `frame` at the threshold that is best for its split; S and
    S_ungated. What doesn't apply to a row is empty.
    """
    table = expressions.reset_index(drop=True)
    for name, notes in (("family", families), ("kinds", kinds)):
        table[name] = table["uid"].map(dict(zip(notes["uid"], notes[name], strict=True)))
    for column in ("objects", "picked", "object_score", "gated"):
        table[column] = [getattr(score, column) for score in scores]
    best = {
        split: int(mean_f_curve([score.square for score in part]).argmax())
        for split, part in _parts(table, scores).items()
    }
    values = [
        {} if score.picked is None else _row_values(score, best[split])
        for split, score in zip(table["split"], scores, strict=True)
    ]
    columns = [f"{name}_{measure}" for name in PROTOCOLS for measure in "JF"]
    table = table.join(pd.DataFrame(values, index=table.index, columns=columns, dtype=float))
    table["S"] = [batch_s([score.square.foreground], rows_per_batch=1) for score in scores]
    table["S_ungated"] = [batch_s([score.ungated], rows_per_batch=1) for score in scores]
    return table


def _row_values(score: RowScore, threshold: int) -> dict[str, float]:
    """Percentages of a row that isn't null."""
    values = {"frame_F": 100 * float(mean_f_curve([score.square])[threshold])}
    for name in PROTOCOLS:
        alone = _protocol(name, [score])
        values = {f"{name}_J": alone["J"], f"{name}_F": alone["F"]} | values
    return values


def _parts(expressions: pd.DataFrame, scores: Sequence[RowScore]) -> Parts:
    """Each split's scores, in the table's order."""
    parts: Parts = {}
    for split, score in zip(expressions["split"], scores, strict=True):
        parts.setdefault(split, []).append(score)
    return parts


# ---- metrics.json -------------------------------------------------------------------------------


def summarise(rows: pd.DataFrame, scores: Sequence[RowScore], *, resamples: int, seed: int) -> Tree:
    """metrics.json: every protocol, baselines, what was picked, means over clips, families, val.

    Splits without rows, and what would need them, are left out.

    Args:
        rows: what `row_table` returns for these scores, in metadata order: batches depend on it.
        resamples: of clips, behind each 95 % interval.
        seed: of the resampling.
    """
    parts = _parts(rows, scores)
    metrics: Tree = {
        name: with_mix(_positive(parts, partial(_protocol, name))) for name in PROTOCOLS
    }
    if null := parts.get(NULL_SPLIT):
        metrics["refavs"][NULL_SPLIT] = {
            "S": _s([score.square.foreground for score in null]),
            "S_ungated": _s([score.ungated for score in null]),
            "S_at_0.4": _s([score.square.foreground_at_region for score in null]),
        }
        metrics["frame"][NULL_SPLIT] = {
            "S": _s([score.square.foreground for score in null], rows_per_batch=len(null))
        }
    metrics["baselines"] = {
        name: {"refavs": _baseline(name, parts)} for name in scores[0].baselines
    }
    metrics["picked"] = _picked(rows)
    if rows["object_score"].notna().any():
        shares = rows.groupby("split")["gated"].mean()
        metrics["gated"] = {str(split): _rounded(100 * share) for split, share in shares.items()}
    metrics["families"] = _families(rows)
    if (rows["split"] == VAL_SPLIT).any():
        metrics["val"] = _val(rows[rows["split"] == VAL_SPLIT])
    metrics["clips"] = {
        name: clip_means(rows, protocol=name, resamples=resamples, seed=seed) for name in PROTOCOLS
    }
    return metrics


def _positive(parts: Parts, score: Callable[[list[RowScore]], Tree]) -> Tree:
    return {split: score(parts[split]) for split in POSITIVE_SPLITS if split in parts}


def _protocol(name: str, rows: Sequence[RowScore]) -> Tree:
    """J, F and their mean over rows that aren't null."""
    if name == "davis":
        return _percentages(*np.mean([row.davis for row in rows if row.davis], axis=0))
    if name == "original":
        return _region([row.original for row in rows if row.original], rows_per_batch=1)
    return _region(
        [row.square for row in rows],
        rows_per_batch=ROWS_PER_BATCH if name == "refavs" else len(rows),
    )


def _baseline(name: str, parts: Parts) -> Tree:
    tree = with_mix(
        _positive(
            parts,
            lambda part: _region(
                [row.baselines[name] for row in part], rows_per_batch=ROWS_PER_BATCH
            ),
        )
    )
    if null := parts.get(NULL_SPLIT):
        tree[NULL_SPLIT] = {"S": _s([row.baselines[name].foreground for row in null])}
    return tree


def _region(rows: Sequence[Statistics], *, rows_per_batch: int) -> Tree:
    return _percentages(
        batch_j(rows, rows_per_batch=rows_per_batch), batch_f(rows, rows_per_batch=rows_per_batch)
    )


def _percentages(j: float, f: float) -> Tree:
    return {"J": _rounded(100 * j), "F": _rounded(100 * f), "J&F": _rounded(50 * (j + f))}


def _s(shares: Sequence[float], *, rows_per_batch: int = ROWS_PER_BATCH) -> float:
    return _rounded(batch_s(shares, rows_per_batch=rows_per_batch))


def _rounded(value: float) -> float:
    """Without the digits that differ between processors."""
    return round(float(value), DECIMALS)


def with_mix(by_split: Tree) -> Tree:
    """Add the mean of seen and unseen, as 'mix', if both are there."""
    if not all(split in by_split for split in POSITIVE_SPLITS):
        return by_split
    seen, unseen = (by_split[split] for split in POSITIVE_SPLITS)
    return by_split | {"mix": {name: _rounded((seen[name] + unseen[name]) / 2) for name in seen}}


def _picked(rows: pd.DataFrame) -> Tree:
    """How often the object meant is the one overlapped most, and how often a guess would be."""
    positive = rows[rows["split"].isin(POSITIVE_SPLITS)]
    if positive.empty:
        return {}
    shares = positive["picked"].astype(float).groupby(positive["split"]).mean()
    tree = {str(split): _rounded(100 * share) for split, share in shares.items()}
    return tree | {"chance": _rounded(100 * (1 / positive["objects"]).mean())}


def _families(rows: pd.DataFrame) -> Tree:
    positive = rows[rows["split"].isin(POSITIVE_SPLITS)]
    return {
        str(family): {"J&F": _rounded(part[["refavs_J", "refavs_F"]].to_numpy().mean())}
        | _picks(part)
        for family, part in positive.groupby("family")
    }


def _picks(rows: pd.DataFrame) -> Tree:
    return {
        "picked": _rounded(100 * rows["picked"].astype(float).mean()),
        "chance": _rounded(100 * (1 / rows["objects"]).mean()),
        "rows": len(rows),
    }


def _val(rows: pd.DataFrame) -> Tree:
    """Means over val's rows by the protocol `frame`: of all, and of either kinds if they are known.

    Null rows have S alone, as "null".
    """
    meant = rows[~rows["null"]]
    parts = {"all": meant} | {str(kinds): part for kinds, part in meant.groupby("kinds")}
    tree: Tree = {
        name: _percentages(part["frame_J"].mean() / 100, part["frame_F"].mean() / 100)
        | _picks(part)
        for name, part in parts.items()
        if len(part)
    }
    if (null := rows[rows["null"]]).size:
        tree["null"] = {"S": _rounded(np.sqrt((null["S"] ** 2).mean())), "rows": len(null)}
    return tree


# ---- means over clips ---------------------------------------------------------------------------


def clip_means(rows: pd.DataFrame, *, protocol: str, resamples: int, seed: int) -> Tree:
    """Means over clips, each the mean of its rows: clips weigh the same, whatever is said of them.

    Returns:
        By split and "mix": J, F, J&F, the 95 % interval of J&F by resampling clips as "low" and
        "high", and the number of clips; for null rows, by the protocols that have it, S likewise.
    """
    tree: Tree = {}
    resampled = {}
    for place, split in enumerate((*POSITIVE_SPLITS, NULL_SPLIT)):
        part = rows[rows["split"] == split]
        null = split == NULL_SPLIT
        if part.empty or (null and protocol not in NULL_PROTOCOLS):
            continue
        columns = ["S"] if null else [f"{protocol}_J", f"{protocol}_F"]
        clips = part.groupby("key")[columns].mean().to_numpy()
        means = clips.mean(axis=0)
        resampled[split] = bootstrap_means(
            clips.mean(axis=1), np.ones(len(clips)), resamples=resamples, seed=[seed, place]
        )
        told = {"S": _rounded(means[0])} if null else _percentages(*means / 100)
        tree[split] = told | interval(resampled[split]) | {"clips": len(clips)}
    if all(split in tree for split in POSITIVE_SPLITS):
        both = [tree[split] for split in POSITIVE_SPLITS]
        j, f = (np.mean([part[name] for part in both]) / 100 for name in "JF")
        means = np.mean([resampled[split] for split in POSITIVE_SPLITS], axis=0)
        count = sum(part["clips"] for part in both)
        tree["mix"] = _percentages(j, f) | interval(means) | {"clips": count}
    return tree


def interval(means: np.ndarray) -> Tree:
    """Between which values 95 % of resampled means (resamples,) lie."""
    low, high = bounds(means)
    return {"low": _rounded(low), "high": _rounded(high)}
