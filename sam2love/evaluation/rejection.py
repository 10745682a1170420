"""Measure how well `presence` separates rows whose object is in the clip from null rows.

Presence is a logit, see `masks.Prediction`, and its sigmoid the model's belief that the object is
in the clip. Functions take rows of the table that `summary.row_table` returns. J&F is a percentage,
S a ratio; both are those of the protocol `frame`, a row at a time.
"""

import numpy as np
import pandas as pd
from scipy.special import expit

from sam2love.dataset.index import NULL_SPLIT, POSITIVE_SPLITS, VAL_SPLIT
from sam2love.evaluation.metrics import s_measure

PARTS = {"val": (VAL_SPLIT,), "test": (*POSITIVE_SPLITS, NULL_SPLIT)}
"""The splits whose null rows and other rows are compared, by name."""
BINS = 10
THRESHOLDS = 25
"""Points of `trade_off` at scores of null rows, and as many at scores of the other rows."""
GATE_LOGIT = 0.0
"""The gate blanks rows up to this presence."""


def comparable(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the rows with a presence by name of PARTS, if there are null rows and others."""
    scored = rows[rows["presence"].notna()]
    parts = {name: scored[scored["split"].isin(splits)] for name, splits in PARTS.items()}
    return {name: part for name, part in parts.items() if part["null"].nunique() == 2}


def area_under_curve(rows: pd.DataFrame) -> float:
    """Return the area under the ROC curve of presence, 0.5 for guessing.

    It is the probability that of two rows, one of them null, the null row has the lower score; a
    tie counts half.

    Source: Hanley and McNeil, Radiology 1982: the rank sum of Wilcoxon, Mann and Whitney.
    """
    present = ~rows["null"].astype(bool)
    count, null_count = present.sum(), (~present).sum()
    rank_sum = rows["presence"].rank()[present].sum()  # ties have their mean rank
    return float((rank_sum - count * (count + 1) / 2) / (count * null_count))


def by_null_family(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return each family of null rows with all rows that aren't null; nothing for one family."""
    null = rows["null"].astype(bool)
    families = sorted(set(rows.loc[null, "family"].dropna()) - {""})
    if len(families) < 2:
        return {}
    return {name: rows[~null | (rows["family"] == name)] for name in families}


def belief(rows: pd.DataFrame) -> pd.Series:
    """Return the model's belief that the object is in the clip, 0 to 1, for each row."""
    return pd.Series(expit(rows["presence"].to_numpy(float)), rows.index)


def calibration(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the reliability curve: a row for each of BINS equal bins of belief that isn't empty.

    Returns:
        Columns belief (its mean), present (fraction of rows whose object is in the clip), rows.

    Source: Guo et al., On Calibration of Modern Neural Networks, ICML 2017, section 2.
    """
    table = pd.DataFrame({"belief": belief(rows), "present": ~rows["null"].astype(bool)})
    bins = (table["belief"] * BINS).astype(int).clip(upper=BINS - 1)
    return table.groupby(bins).agg(
        belief=("belief", "mean"), present=("present", "mean"), rows=("present", "size")
    )


def calibration_error(curve: pd.DataFrame) -> float:
    """Return the expected calibration error of a reliability curve, 0 to 1: |belief - present|."""
    gaps = (curve["belief"] - curve["present"]).abs()
    return float((gaps * curve["rows"]).sum() / curve["rows"].sum())


def null_s(rows: pd.DataFrame) -> float:
    """Return S over all null rows at once."""
    return float(s_measure((rows.loc[rows["null"].astype(bool), "S"] ** 2).mean()))


def trade_off(rows: pd.DataFrame) -> pd.DataFrame:
    """Return J&F and S for gates at different presences, from all rows blank to none.

    The thresholds are evenly spaced among the distinct scores of null rows and among those of the
    other rows, at most THRESHOLDS each, and GATE_LOGIT; the last one, -inf, blanks nothing.

    Returns:
        Columns threshold (falling), J&F and S, as from `with_gate`.
    """
    null = rows["null"].astype(bool)
    chosen = [_evenly_chosen(rows.loc[part, "presence"]) for part in (null, ~null)]
    thresholds = [*np.unique(np.concatenate([*chosen, [GATE_LOGIT]]))[::-1], -np.inf]
    points = [(threshold, *with_gate(rows, threshold)) for threshold in thresholds]
    return pd.DataFrame(points, columns=["threshold", "J&F", "S"])


def _evenly_chosen(scores: pd.Series) -> np.ndarray:
    distinct = np.unique(scores)
    places = np.linspace(0, len(distinct) - 1, min(len(distinct), THRESHOLDS)).round().astype(int)
    return distinct[places]


def with_gate(rows: pd.DataFrame, threshold: float) -> tuple[float, float]:
    """Return J&F over rows that aren't null and S over null rows with a gate at this presence.

    Rows up to the threshold have the scores of empty masks, the others those of their masks.
    """
    shown, null = rows["presence"] > threshold, rows["null"].astype(bool)
    parts = [
        rows[f"frame_{measure}_ungated"].where(shown, rows[f"frame_{measure}_empty"])[~null].mean()
        for measure in "JF"
    ]
    fractions = (rows["S_ungated"] ** 2).where(shown, 0.0)
    return float(np.mean(parts)), float(s_measure(fractions[null].mean()))
