"""Choose the rows shown as film strips: deterministic for given scores, and no row twice."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

BEST = WORST = 5
TYPICAL = 12
"""Typical rows if the data set has no families; otherwise there is one per family."""
MOST_FAMILIES = 16
"""The largest ones."""
NULL = 5


@dataclass(frozen=True)
class Group:
    """Rows under one heading, in the order shown."""

    name: str
    title: str
    about: str
    rows: list[int]


def choose_examples(rows: pd.DataFrame) -> list[Group]:
    """Return the best, worst, typical and null rows; groups without a row are left out.

    Args:
        rows: of the test splits, with columns row, key, family ("" if unknown), null, J&F (NaN for
            null rows) and S (NaN for the others).
    """
    positive = rows[~rows["null"].astype(bool) & rows["J&F"].notna()]
    positive = positive.sort_values(["J&F", "row"], ascending=[False, True])
    null = rows[rows["null"].astype(bool) & rows["S"].notna()].sort_values(["S", "row"])
    best = _one_per_clip(positive, BEST)
    left = positive[~positive["row"].isin(best)]
    worst = _one_per_clip(left.sort_values(["J&F", "row"]), WORST)
    left = left[~left["row"].isin(worst)]
    if (positive["family"] != "").any():
        about = "For each family, the row nearest to the family's median J&F."
        typical = _near_medians(positive, left)
    else:
        about = "Rows evenly spaced in the ranking by J&F, from best to worst."
        typical = _evenly_spaced(left, TYPICAL)
    about_null = (
        "The object named is not in the clip, so the right answer is an empty mask. Rows evenly "
        "spaced in the ranking by S, from best (nothing shown) to worst."
    )
    groups = [
        Group("best", "Best", "The highest J&F, one row per clip.", best),
        Group("worst", "Worst", "The lowest J&F, one row per clip.", worst),
        Group("typical", "Typical", about, typical),
        Group("null", "Null", about_null, _evenly_spaced(null, NULL)),
    ]
    return [group for group in groups if group.rows]


def _one_per_clip(ranked: pd.DataFrame, count: int) -> list[int]:
    return ranked.drop_duplicates("key")["row"].head(count).tolist()


def _near_medians(positive: pd.DataFrame, left: pd.DataFrame) -> list[int]:
    """Return the row in `left` nearest to the median of each of the largest families."""
    medians = positive[positive["family"] != ""].groupby("family")["J&F"].agg(["median", "size"])
    largest = medians.sort_values("size", ascending=False, kind="stable").head(MOST_FAMILIES)
    chosen = []
    for family in sorted(largest.index):
        members = left[left["family"] == family].sort_values("row")
        if len(members):
            distance = (members["J&F"] - medians.loc[family, "median"]).abs()
            chosen.append(int(members["row"].loc[distance.idxmin()]))
    return chosen


def _evenly_spaced(ranked: pd.DataFrame, count: int) -> list[int]:
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return ranked["row"].iloc[places].tolist()
