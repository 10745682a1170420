"""Which rows are shown as film strips: the same ones for the same scores, and no row twice."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

BEST = WORST = 5
TYPICAL = 12
"""Typical rows where the data set tells no families; otherwise one a family, the largest first."""
MOST_FAMILIES = 16
NULL = 5


@dataclass(frozen=True)
class Group:
    """Rows under one heading, in the order in which they are shown."""

    name: str
    title: str
    about: str
    rows: list[int]


def choose(rows: pd.DataFrame) -> list[Group]:
    """Best, worst, typical and null rows; groups without a row are left out.

    Args:
        rows: of the test splits, with columns row, key, family ("" where the data set tells none),
            null, J&F (NaN for null rows) and S (NaN for the others).
    """
    meant = rows[~rows["null"].astype(bool) & rows["J&F"].notna()]
    meant = meant.sort_values(["J&F", "row"], ascending=[False, True])
    none = rows[rows["null"].astype(bool) & rows["S"].notna()].sort_values(["S", "row"])
    best = _one_a_clip(meant, BEST)
    left = meant[~meant["row"].isin(best)]
    worst = _one_a_clip(left.sort_values(["J&F", "row"]), WORST)
    left = left[~left["row"].isin(worst)]
    told = bool((meant["family"] != "").any())
    typical = _near_medians(meant, left) if told else _spread(left, TYPICAL)
    groups = [
        Group("best", "Best", "The highest J&F, one a clip.", best),
        Group("worst", "Worst", "The lowest J&F, one a clip.", worst),
        Group(
            "typical",
            "Typical",
            "Of each family the row nearest to the family's median J&F."
            if told
            else "Rows at equal steps through the ranking by J&F, from the best to the worst.",
            typical,
        ),
        Group(
            "null",
            "Nothing to be found",
            "What these sentences name is not there: the right answer is no mask at all. Rows at "
            "equal steps through the ranking by S, from the best (nothing shown) to the worst.",
            _spread(none, NULL),
        ),
    ]
    return [group for group in groups if group.rows]


def _one_a_clip(ranked: pd.DataFrame, count: int) -> list[int]:
    return ranked.drop_duplicates("key")["row"].head(count).tolist()


def _near_medians(meant: pd.DataFrame, left: pd.DataFrame) -> list[int]:
    """Of each of the largest families, by name, the row left nearest to the median of all."""
    medians = meant[meant["family"] != ""].groupby("family")["J&F"].agg(["median", "size"])
    largest = medians.sort_values("size", ascending=False, kind="stable").head(MOST_FAMILIES)
    chosen = []
    for family in sorted(largest.index):
        members = left[left["family"] == family].sort_values("row")
        if len(members):
            off = (members["J&F"] - medians.loc[family, "median"]).abs()
            chosen.append(int(members["row"].loc[off.idxmin()]))
    return chosen


def _spread(ranked: pd.DataFrame, count: int) -> list[int]:
    places = np.unique(np.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().astype(int))
    return ranked["row"].iloc[places].tolist()
