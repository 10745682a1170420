"""Intervals against brute force, closed forms and simulations, and their properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sam2love.evaluation.intervals import FEWEST_CLIPS, bootstrap_means, interval, paired_difference

T_2 = 4.3027
"""The 97.5 % quantile of Student's t with 2 degrees of freedom."""


def sample(rng, *, seeds=3, clips=20, rows=4, of_seed=1.0, of_clip=1.0, of_row=1.0, mean=0.0):
    """Differences (S, R) of clips with up to `rows` rows, and the clip of each row."""
    clip = np.repeat(np.arange(clips), rng.integers(1, rows + 1, size=clips))
    values = mean + of_seed * rng.normal(size=(seeds, 1)) + of_clip * rng.normal(size=clips)[clip]
    return values + of_row * rng.normal(size=(seeds, len(clip))), clip


def compare(differences, clips, **options):
    return paired_difference(differences, np.zeros_like(differences), clips, **options)


# ---- against brute force and closed forms -------------------------------------------------------


def test_clips_are_drawn_with_all_their_rows():
    """With one seed only clips vary; the rows of each draw are collected one by one."""
    differences, clips = sample(np.random.default_rng(0), seeds=1, clips=12)
    generator = np.random.default_rng([5, 0])
    means = []
    for _ in range(100):
        drawn = generator.integers(12, size=12)
        rows = [row for clip in drawn for row in np.flatnonzero(clips == clip)]
        means.append(differences[0, rows].mean())
    found = compare(differences, clips, resamples=100, seed=5)
    assert (found.low, found.high) == pytest.approx(np.percentile(means, (2.5, 97.5)))
    assert found.difference == pytest.approx(differences.mean())
    assert (found.rows, found.clips, found.seeds) == (len(clips), 12, 1)


def test_the_parts_of_a_mix_have_equal_weight():
    """By hand: one part has 30 rows of 1, the other 10 of -2: the mean is -0.5, not 0.25."""
    differences = np.array([[1.0] * 30 + [-2.0] * 10])
    parts, clips = np.array(["seen"] * 30 + ["unseen"] * 10), np.arange(40)
    found = compare(differences, clips, parts=parts)
    assert (found.low, found.difference, found.high) == (-0.5, -0.5, -0.5)
    one = compare(differences, clips)
    assert one.difference == 0.25
    assert one.low < 0.25 < one.high


def test_many_clips_give_the_interval_of_a_normal_mean():
    rng = np.random.default_rng(1)
    differences, clips = sample(rng, seeds=1, clips=500, of_seed=0, mean=0.3)
    counts = np.bincount(clips)
    off = np.bincount(clips, weights=differences[0]) - differences.mean() * counts
    error = np.sqrt((off**2).sum()) / counts.sum()  # of a ratio: means over clips of unequal size
    found = compare(differences, clips, resamples=20_000)
    assert found.low == pytest.approx(differences.mean() - 1.96 * error, abs=0.05 * error)
    assert found.high == pytest.approx(differences.mean() + 1.96 * error, abs=0.05 * error)


def test_varying_only_seeds_gives_students_interval():
    by_seed = np.array([1.0, 2.0, 6.0])
    found = compare(np.tile(by_seed[:, None], 30), np.arange(30), resamples=50_000)
    half = T_2 * by_seed.std(ddof=1) / np.sqrt(3)
    assert found.difference == 3
    assert found.low == pytest.approx(3 - half, rel=0.04)
    assert found.high == pytest.approx(3 + half, rel=0.04)


def test_the_interval_of_plain_means():
    """The mean of 100 values with standard deviation 10 has 1; 95 % are within 1.96."""
    values = np.random.default_rng(0).normal(50, 10, 100)
    values = 50 + 10 * (values - values.mean()) / values.std()
    low, high = interval(bootstrap_means(values, np.ones(100), resamples=4000, seed=1))
    assert low == pytest.approx(50 - 1.96, abs=0.15)
    assert high == pytest.approx(50 + 1.96, abs=0.15)


@pytest.mark.parametrize(
    ("seeds", "deviations"),
    [
        (3, {"of_seed": 1.0, "of_clip": 1.0, "of_row": 1.0}),
        (3, {"of_seed": 0.0, "of_clip": 1.0, "of_row": 0.5}),
        (5, {"of_seed": 1.0, "of_clip": 1.0, "of_row": 1.0}),
        (1, {"of_seed": 0.0, "of_clip": 1.0, "of_row": 1.0}),
    ],
)
def test_the_interval_contains_the_truth_in_95_of_100_cases(seeds, deviations):
    """Resampling three seeds instead of Student's t would give 79 in the first case."""
    rng = np.random.default_rng(2)
    cases = [sample(rng, seeds=seeds, clips=50, **deviations) for _ in range(300)]
    found = [
        compare(values, clips, resamples=400, seed=i) for i, (values, clips) in enumerate(cases)
    ]
    covered = np.mean([difference.low <= 0 <= difference.high for difference in found])
    assert 0.92 <= covered <= 0.985


# ---- properties ---------------------------------------------------------------------------------


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.booleans())
def test_swapping_the_settings_flips_signs(seed, seeds, mixed):
    rng = np.random.default_rng(seed)
    ours, clips = sample(rng, seeds=seeds, clips=24)
    theirs = rng.normal(size=ours.shape)
    parts = np.where(clips < 12, "seen", "unseen") if mixed else None
    one = paired_difference(ours, theirs, clips, parts=parts, resamples=200)
    other = paired_difference(theirs, ours, clips, parts=parts, resamples=200)
    assert other.difference == -one.difference
    assert (other.low, other.high) == pytest.approx((-one.high, -one.low), abs=1e-12)
    assert (other.setting, other.baseline) == (one.baseline, one.setting)
    swapped = {"helps": "hurts", "hurts": "helps"}
    assert other.verdict == swapped.get(one.verdict, one.verdict)
    assert one == paired_difference(ours, theirs, clips, parts=parts, resamples=200)


def test_a_run_against_itself_is_zero():
    ours, clips = sample(np.random.default_rng(3))
    found = paired_difference(ours, ours, clips)
    assert (found.low, found.difference, found.high) == (0, 0, 0)
    assert found.verdict == "can't be told"


def test_rows_of_a_clip_are_not_independent():
    """Ten copies of each row carry no more information than one."""
    differences, clips = sample(np.random.default_rng(4), seeds=1, rows=1)
    once = compare(differences, clips)
    often = compare(np.repeat(differences, 10, axis=1), np.repeat(clips, 10))
    assert (often.low, often.high) == pytest.approx((once.low, once.high))


@pytest.mark.parametrize(
    ("mean", "verdict"), [(5.0, "helps"), (-5.0, "hurts"), (0.1, "can't be told")]
)
def test_verdicts(mean, verdict):
    differences, clips = sample(np.random.default_rng(5), of_seed=0.2, mean=mean)
    assert compare(differences, clips).verdict == verdict


def test_too_few_clips_have_no_interval():
    differences = np.full((3, FEWEST_CLIPS - 1), 9.0)
    few = compare(differences, np.arange(FEWEST_CLIPS - 1))
    assert few.difference == 9
    assert np.isnan([few.low, few.high]).all()
    assert few.verdict == "can't be told"
    enough = compare(np.full((3, FEWEST_CLIPS), 9.0), np.arange(FEWEST_CLIPS))
    assert enough.verdict == "helps"


@pytest.mark.parametrize(
    ("ours", "theirs", "clips", "fault"),
    [
        (np.zeros((2, 3)), np.zeros((3, 3)), np.zeros(3), r"shapes \(2, 3\), \(3, 3\) and \(3,\)"),
        (np.zeros((2, 3)), np.zeros((2, 3)), np.zeros(4), r"a clip for each row"),
        (np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(3), r"shapes \(0, 3\)"),
        (np.zeros((1, 0)), np.zeros((1, 0)), np.zeros(0), r"shapes \(1, 0\)"),
        (np.full((1, 2), np.nan), np.zeros((1, 2)), np.zeros(2), "some scores are not finite"),
    ],
)
def test_scores_that_cannot_be_paired_are_refused(ours, theirs, clips, fault):
    with pytest.raises(ValueError, match=fault):
        paired_difference(ours, theirs, clips)
