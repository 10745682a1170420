"""The measures against hand-made cases and slow loops, and their properties."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from sam2love.evaluation import metrics

masks = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12))
pairs = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=12).flatmap(
    lambda shape: st.tuples(hnp.arrays(bool, shape), hnp.arrays(bool, shape))
)


def grid(*rows: str) -> np.ndarray:
    """A mask of one frame drawn as text, where '#' is foreground: (1, H, W)."""
    return np.array([[letter == "#" for letter in row] for row in rows])[None]


# ---- probabilities ------------------------------------------------------------------------------


def test_logits_are_resized_before_the_sigmoid():
    result = metrics.probabilities(np.array([[[-8.0, 8.0]]]), size=(1, 4), logits=True)
    sigmoid = [1 / (1 + math.exp(-x)) for x in (-8, -4, 4, 8)]
    np.testing.assert_allclose(result, [[sigmoid]], rtol=1e-6)
    assert result.dtype == np.float32


def test_outside_probabilities_are_resized_as_they_are():
    result = metrics.probabilities(np.array([[[0.0, 1.0]]]), size=(1, 4), logits=False)
    np.testing.assert_allclose(result, [[[0, 0.25, 0.75, 1]]])


@pytest.mark.parametrize("size", [(16, 16), (5, 7), (256, 256), (9, 40), (8, 8)])
def test_resizing_agrees_with_torch(size):
    logits = np.random.default_rng(0).normal(0, 4, (3, 16, 16)).astype(np.float16)
    result = metrics.probabilities(logits, size=size, logits=True)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(logits).float()[None], size=size, mode="bilinear", align_corners=False
    )
    np.testing.assert_allclose(result, torch.sigmoid(resized)[0].numpy(), atol=1e-5)


def test_the_gates_logit_is_empty_without_a_warning(recwarn):
    assert not metrics.probabilities(np.full((1, 2, 2), -1024.0), size=(4, 4), logits=True).any()
    assert not recwarn.list


# ---- the benchmark's measures -------------------------------------------------------------------


def test_thresholds_are_the_benchmarks_bit_for_bit():
    np.testing.assert_array_equal(metrics.f_thresholds(), torch.linspace(0, 1, 255).numpy())


def test_codes_count_the_thresholds_reached():
    """Including probabilities just below, at and just above each threshold."""
    floors = metrics.f_thresholds()
    rng = np.random.default_rng(0)
    tried = np.concatenate(
        [
            floors,
            np.nextafter(floors, np.float32(0)),
            np.minimum(np.nextafter(floors, np.float32(2)), 1).astype(np.float32),
            rng.random(10_000, np.float32),
            np.arange(256, dtype=np.float32) / 255,
        ]
    )
    codes = metrics.threshold(tried[None, None]).codes[0, 0]
    np.testing.assert_array_equal(codes, (tried[:, None] >= floors).sum(1) - 1)


def test_foreground_is_above_its_threshold():
    probability = np.array([[[0.4, 0.41, 0.5, 0.51]]], np.float32)
    result = metrics.threshold(probability)
    assert result.region.tolist() == [[[False, True, True, True]]]
    assert result.shown.tolist() == [[[False, False, False, True]]]


def test_region_j_by_hand():
    shown = grid("##..", "##..")
    assert metrics.region_j(shown, grid(".##.", ".##."))[0] == pytest.approx(2 / 6)
    assert metrics.region_j(shown, grid("..##", "..##"))[0] == 0
    assert metrics.region_j(grid("....", "...."), shown)[0] == 0


def test_region_j_of_an_empty_truth_is_the_background_fraction():
    assert metrics.region_j(grid("#...", "...."), grid("....", "...."))[0] == pytest.approx(7 / 8)
    assert metrics.region_j(grid("####", "####"), grid("....", "...."))[0] == 0


def test_f_curve_by_hand():
    """The truth is the first two of four pixels. All reach 0, the first and third reach 0.6, and
    only the first reaches more."""
    probability = np.array([[[1.0, 0.0, 0.6, 0.0]]], np.float32)
    curve = metrics.f_curves(metrics.threshold(probability), grid("##.."))[0]
    f_all = 1.3 * 0.5 * 1 / (0.3 * 0.5 + 1)
    f_two = 1.3 * 0.5 * 0.5 / (0.3 * 0.5 + 0.5)
    f_one = 1.3 * 1 * 0.5 / (0.3 * 1 + 0.5)
    np.testing.assert_allclose(curve, [f_all] + [f_two] * 152 + [f_one] * 102)  # 0.6 * 254 = 152.4


def test_f_curve_where_nothing_hits_is_zero():
    probability = np.array([[[0.0, 0.0, 1.0, 1.0]]], np.float32)
    curve = metrics.f_curves(metrics.threshold(probability), grid("##.."))[0]
    assert curve[0] > 0  # every pixel reaches 0
    assert not curve[1:].any()


def test_f_leaves_out_frames_without_a_true_object():
    truth = np.concatenate([grid("#."), grid(".."), grid(".#")])
    result = metrics.threshold(np.zeros((3, 1, 2), np.float32))
    assert metrics.f_curves(result, truth).shape == (2, 255)
    assert metrics.f_curves(result, np.zeros_like(truth)).shape == (0, 255)


def test_f_curves_against_a_loop_over_thresholds():
    rng = np.random.default_rng(0)
    truth = rng.random((4, 20, 30)) > 0.8
    logits = rng.normal(0, 3, truth.shape).astype(np.float32) + 2 * truth
    logits[0, 0, :3] = [0, -1024, 60]
    probability = torch.sigmoid(torch.from_numpy(logits)).numpy()
    curves = metrics.f_curves(metrics.threshold(probability), truth)
    for frame in range(4):
        for place, floor in enumerate(np.float32(torch.linspace(0, 1, 255))):
            reached = probability[frame] >= floor
            hits = (reached & truth[frame]).sum()
            precision = hits / reached.sum() if reached.any() else 0
            recall = hits / truth[frame].sum()
            expected = 1.3 * precision * recall / (0.3 * precision + recall) if hits else 0
            assert curves[frame, place] == pytest.approx(expected, abs=1e-12)


def test_s_by_hand():
    assert metrics.s_measure(0.09) == pytest.approx(0.3)
    assert metrics.s_measure(0.0) == 0


# ---- DAVIS --------------------------------------------------------------------------------------


def test_davis_j_by_hand():
    shown = np.concatenate([grid("##.."), grid("...."), grid("#...")])
    truth = np.concatenate([grid(".##."), grid("...."), grid("....")])
    assert metrics.davis_j(shown, truth).tolist() == [pytest.approx(1 / 3), 1, 0]


def test_contour_by_hand():
    drawn = metrics.contour(grid(".....", ".##..", ".##..", ".....")[0])
    assert drawn.tolist() == grid("###..", "#.#..", "###..", ".....")[0].tolist()


def test_contour_at_the_edge_compares_only_along_the_edge():
    drawn = metrics.contour(grid("..#", "..#", ".##")[0])
    assert drawn.tolist() == grid(".#.", "##.", "#..")[0].tolist()


def test_boundary_f_by_hand():
    """The diagonal of 30 x 40 is 50, so contours may be ceil(0.4) = 1 pixel off."""
    truth, near, far = (np.zeros((1, 30, 40), bool) for _ in range(3))
    truth[0, 10:20, 10:20] = near[0, 10:20, 11:21] = far[0, 10:20, 13:23] = True
    assert metrics.boundary_f(truth, truth)[0] == 1
    assert metrics.boundary_f(near, truth)[0] == 1
    # Each contour is a ring of 11 x 11 pixels, 40 in all. Of the ring moved by 3, the pixels within
    # 1 of the true ring are nine of its upper side (eight on it and one beyond), nine of the lower,
    # and the two of its left side that touch the true upper and lower sides; and vice versa.
    assert metrics.boundary_f(far, truth)[0] == pytest.approx(20 / 40)


def test_boundary_f_without_a_contour():
    empty, some = np.zeros((1, 8, 8), bool), np.zeros((1, 8, 8), bool)
    some[0, 2:5, 2:5] = True
    assert metrics.boundary_f(empty, empty)[0] == 1
    assert metrics.boundary_f(some, empty)[0] == 0
    assert metrics.boundary_f(empty, some)[0] == 0
    assert metrics.boundary_f(~empty, empty)[0] == 1  # a full mask has no contour either


def slow_boundary_f(shown: np.ndarray, truth: np.ndarray) -> float:
    """Boundary F from all pairs of contour pixels, with contours found pixel by pixel."""
    height, width = shown.shape

    def contour(mask):
        found = []
        for y in range(height):
            for x in range(width):
                below, right = min(y + 1, height - 1), min(x + 1, width - 1)
                around = {mask[y, right], mask[below, x], mask[below, right]}
                if around != {mask[y, x]}:
                    found.append((y, x))
        return found

    def fraction_near(some, others):
        reach = math.ceil(0.008 * math.sqrt(height**2 + width**2))
        near = [any((y - b) ** 2 + (x - a) ** 2 <= reach**2 for b, a in others) for y, x in some]
        return sum(near) / len(near)

    ours, theirs = contour(shown), contour(truth)
    if not ours or not theirs:
        return 1.0 if ours == theirs else 0.0
    precision, recall = fraction_near(ours, theirs), fraction_near(theirs, ours)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


@pytest.mark.parametrize("size", [(12, 17), (40, 30), (3, 360)])
def test_boundary_f_against_all_pairs_of_pixels(size):
    """Tolerances of 1, 1 and 3 pixels; blobs that touch the picture's edges."""
    rng = np.random.default_rng(sum(size))
    for _ in range(5):
        coarse = rng.random((2, -(-size[0] // 4), -(-size[1] // 6))) > 0.6
        shown, truth = coarse.repeat(4, axis=1).repeat(6, axis=2)[:, : size[0], : size[1]]
        result = metrics.boundary_f(shown[None], truth[None])[0]
        assert result == pytest.approx(slow_boundary_f(shown, truth), abs=1e-12)


@settings(max_examples=60)
@given(pairs)
def test_boundary_f_of_small_masks_against_all_pairs(pair):
    expected = [slow_boundary_f(*frames) for frames in zip(*pair, strict=True)]
    np.testing.assert_allclose(metrics.boundary_f(*pair), expected, atol=1e-12)


# ---- properties ---------------------------------------------------------------------------------


@given(masks)
def test_a_perfect_mask_scores_one(mask):
    assert (metrics.region_j(mask, mask) == 1).all()
    assert (metrics.davis_j(mask, mask) == 1).all()
    assert (metrics.boundary_f(mask, mask) == 1).all()
    curves = metrics.f_curves(metrics.threshold(mask.astype(np.float32)), mask)
    np.testing.assert_allclose(curves[:, 1:], 1)


@given(pairs)
def test_scores_are_in_range_and_davis_is_symmetric(pair):
    shown, truth = pair
    for measure in (metrics.region_j, metrics.davis_j, metrics.boundary_f):
        scores = measure(shown, truth)
        assert scores.shape == (len(shown),)
        assert ((scores >= 0) & (scores <= 1)).all()
    for measure in (metrics.davis_j, metrics.boundary_f):
        np.testing.assert_allclose(measure(shown, truth), measure(truth, shown))


@given(pairs)
def test_the_f_curve_of_a_binary_mask_is_flat_above_zero(pair):
    shown, truth = pair
    curves = metrics.f_curves(metrics.threshold(shown.astype(np.float32)), truth)
    assert ((curves >= 0) & (curves <= 1 + 1e-12)).all()
    assert (curves[:, 1:] == curves[:, 1:2]).all()
