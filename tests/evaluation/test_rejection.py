"""Object scores of null rows against the others: AUC, calibration, and gates at any score."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import mannwhitneyu

from sam2love.evaluation import rejection


def rows_of(present, null, *, split="val", families=None) -> pd.DataFrame:
    """Rows with these presences."""
    table = pd.DataFrame({"presence": [*present, *null]}, dtype=float)
    table["null"] = [False] * len(present) + [True] * len(null)
    table["split"] = split
    table["family"] = ["colour"] * len(present) + list(families or ["null"] * len(null))
    return table


# ---- rows that are compared ---------------------------------------------------------------------


def test_val_and_test_are_compared_if_they_have_null_rows_and_others():
    val, seen, null = (
        rows_of([1, 2], [-1]),
        rows_of([3], [], split="test_s"),
        rows_of([], [-2], split="test_n"),
    )
    parts = rejection.comparable(pd.concat([val, seen, null]))
    assert {name: len(part) for name, part in parts.items()} == {"val": 3, "test": 2}
    assert set(rejection.comparable(pd.concat([val, seen]))) == {"val"}
    assert set(rejection.comparable(pd.concat([val[:2], seen, null]))) == {"test"}
    assert rejection.comparable(pd.concat([val[:2], seen])) == {}
    assert rejection.comparable(pd.concat([val, seen, null]).assign(presence=None)) == {}


def test_families_of_null_rows():
    rows = rows_of([1, 2], [0, 3, -1, -1], families=["null", "absent", "absent", None])
    parts = rejection.by_null_family(rows)
    assert list(parts) == ["absent", "null"]
    assert parts["null"]["presence"].tolist() == [1, 2, 0]
    assert parts["absent"]["presence"].tolist() == [1, 2, 3, -1]
    assert rejection.by_null_family(rows_of([1], [0, 3], families=["null", ""])) == {}


# ---- AUC ----------------------------------------------------------------------------------------

SCORES = st.lists(st.integers(-3, 3), min_size=1, max_size=12)
"""Few values, so that there are ties."""


@given(present=SCORES, null=SCORES)
def test_area_under_curve_against_all_pairs_and_scipy(present, null):
    area = rejection.area_under_curve(rows_of(present, null))
    pairs = [(one > two) + (one == two) / 2 for one, two in product(present, null)]
    assert area == pytest.approx(np.mean(pairs))
    u = mannwhitneyu(present, null, method="exact").statistic
    assert area == pytest.approx(u / (len(present) * len(null)))


@pytest.mark.parametrize(
    ("present", "null", "area"),
    [([1, 2], [-1, 0], 1), ([-1], [1, 2], 0), ([5, 5], [5], 0.5), ([1, 3], [2, 3], 0.375)],
)
def test_area_under_curve_by_hand(present, null, area):
    assert rejection.area_under_curve(rows_of(present, null)) == area


# ---- calibration --------------------------------------------------------------------------------


def test_calibration_by_hand():
    """Beliefs 0.25 and 0.75 (logits ±log 3), and 0 and 1, whose logits don't overflow."""
    low, high = -np.log(3), np.log(3)
    rows = rows_of([high, high, high, low, 2000], [high, low, low, -2000])
    curve = rejection.calibration(rows)
    assert curve.index.tolist() == [0, 2, 7, 9]
    assert curve["belief"].tolist() == pytest.approx([0, 0.25, 0.75, 1])
    assert curve["present"].tolist() == pytest.approx([0, 1 / 3, 3 / 4, 1])
    assert curve["rows"].tolist() == [1, 3, 4, 1]
    assert rejection.calibration_error(curve) == pytest.approx(3 / 9 * (1 / 3 - 1 / 4))


def test_rows_drawn_by_their_belief_are_calibrated():
    rng = np.random.default_rng(0)
    scores = rng.normal(0, 2, 40_000)
    present = rng.random(40_000) < 1 / (1 + np.exp(-scores))
    curve = rejection.calibration(rows_of(scores[present], scores[~present]))
    assert len(curve) == rejection.BINS
    assert rejection.calibration_error(curve) < 0.01
    overconfident = rejection.calibration(rows_of(3 * scores[present], 3 * scores[~present]))
    assert rejection.calibration_error(overconfident) > 0.1


# ---- gates --------------------------------------------------------------------------------------


def with_masks(rows: pd.DataFrame) -> pd.DataFrame:
    """Give each row J, F and S of its own."""
    rng = np.random.default_rng(1)
    rows = rows.copy()
    for column in ("frame_J_ungated", "frame_F_ungated", "frame_J_empty", "frame_F_empty"):
        rows[column] = np.where(rows["null"], np.nan, rng.uniform(0, 100, len(rows)))
    return rows.assign(S_ungated=rng.random(len(rows)))


def test_a_gate_by_hand():
    rows = rows_of([1, -1], [2, -2]).assign(
        frame_J_ungated=[80, 60, None, None],
        frame_F_ungated=[90, 70, None, None],
        frame_J_empty=[0, 20, None, None],
        frame_F_empty=[0, 10, None, None],
        S_ungated=[0.5, 0.5, 0.6, 0.8],
    )
    assert rejection.with_gate(rows, -np.inf) == pytest.approx((75, np.sqrt(0.5)))
    assert rejection.with_gate(rows, 0) == pytest.approx(((85 + 15) / 2, np.sqrt(0.18)))
    assert rejection.with_gate(rows, 1) == pytest.approx((7.5, np.sqrt(0.18)))  # up to and with 1
    assert rejection.with_gate(rows, 2) == pytest.approx((7.5, 0))
    curve = rejection.trade_off(rows)
    assert curve["threshold"].tolist() == [2, 1, 0, -1, -2, -np.inf]
    assert curve["J&F"].tolist() == pytest.approx([7.5, 7.5, 50, 50, 75, 75])
    assert curve["S"].tolist() == pytest.approx([0, *np.sqrt([0.18, 0.18, 0.18, 0.18, 0.5])])


def test_a_trade_off_of_many_scores_has_few_points_between_the_same_ends():
    rng = np.random.default_rng(0)
    rows = with_masks(rows_of(rng.normal(2, 1, 900), rng.normal(-2, 1, 300)))
    curve = rejection.trade_off(rows)
    assert len(curve) == 2 * rejection.THRESHOLDS + 2
    assert curve["threshold"].is_monotonic_decreasing
    assert curve["S"].is_monotonic_increasing
    assert (curve["J&F"].iloc[-1], curve["S"].iloc[-1]) == rejection.with_gate(rows, -np.inf)
    assert (curve["J&F"].iloc[0], curve["S"].iloc[0]) == rejection.with_gate(rows, np.inf)
    # Half of the points lie among null rows, at whose scores alone S changes.
    assert len(set(curve["S"])) >= rejection.THRESHOLDS
