"""Scores of rows and batches, against a slow reference on the same files and by hand."""

import math

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from sam2love.dataset import refavs
from sam2love.dataset.selections import read_expressions
from sam2love.evaluation import metrics, protocols
from sam2love.evaluation.baselines import NOTHING_LOGIT
from sam2love.evaluation.masks import Prediction
from sam2love.evaluation.protocols import Statistics, batch_f, batch_j, batch_s, score_rows
from tests import tiny
from tests.evaluation.test_metrics import slow_boundary_f

KEY = "--seenD_1_2"


def statistics(j: list[float], curve: dict[int, float] | None = None, visible: int = 1):
    f_curve = np.zeros(255)
    for place, value in (curve or {}).items():
        f_curve[place] = value
    return Statistics(np.array(j), f_curve, visible, foreground=0.0, foreground_at_region=0.0)


# ---- batches, by hand ---------------------------------------------------------------------------


def test_the_last_batch_has_the_same_weight():
    rows = [statistics([j]) for j in (0, 0, 0, 0, 1)]
    assert batch_j(rows, rows_per_batch=4) == 0.5
    assert batch_j(rows, rows_per_batch=5) == pytest.approx(0.2)
    assert batch_j(rows, rows_per_batch=1) == pytest.approx(0.2)


def test_f_takes_the_maximum_of_the_batchs_mean_curve():
    rows = [statistics([0], {10: 1.0}), statistics([0], {20: 0.8}), statistics([0], {10: 0.2})]
    assert batch_f(rows, rows_per_batch=1) == pytest.approx((1 + 0.8 + 0.2) / 3)
    assert batch_f(rows, rows_per_batch=2) == pytest.approx((0.5 + 0.2) / 2)
    assert batch_f(rows, rows_per_batch=3) == pytest.approx(1.2 / 3)


def test_f_averages_over_frames_with_a_true_object():
    rows = [statistics([0], {10: 2.4}, visible=3), statistics([0], visible=0)]
    assert batch_f(rows, rows_per_batch=2) == pytest.approx(0.8)
    assert batch_f(rows[1:], rows_per_batch=2) == 0


def test_s_is_the_root_of_the_batchs_mean_fraction():
    assert batch_s([0.04, 0.0, 0.0, 0.0, 0.25], rows_per_batch=4) == pytest.approx((0.1 + 0.5) / 2)


# ---- against a slow reference -------------------------------------------------------------------


@pytest.fixture
def five_rows(own_refavs_root):
    """Five rows of test_s on one clip; object 1 is hidden in three frames, object 32 in all."""
    rows = [(KEY, f"{KEY}_car_{i}", "test_s", fid, "it") for i, fid in enumerate([1, 32, 1, 32, 1])]
    rows.insert(2, ("vidA_0_10000", "vidA_0_10000_cat_1", "train", 1, "it"))
    tiny.write_metadata(own_refavs_root, rows)
    black = Image.fromarray(np.zeros((tiny.HEIGHT, tiny.WIDTH), np.uint8))
    for fid, frames in {1: (0, 4, 9), 32: range(10)}.items():
        for t in frames:
            black.save(refavs.mask_path(own_refavs_root, KEY, fid, t))
    # Dim, coloured pixels exceed 0 or not depending on the order of resizing and graying.
    coloured = np.zeros((tiny.HEIGHT, tiny.WIDTH, 3), np.uint8)
    coloured[10:20, 10:20] = (0, 0, 14)
    coloured[15:30, 15:30] = (1, 1, 1)
    Image.fromarray(coloured).save(refavs.mask_path(own_refavs_root, KEY, 1, 5))
    return own_refavs_root


def slow_frames(root, entry, logits: np.ndarray, size: tuple[int, int]) -> list[tuple]:
    """Return J, F at each threshold (None without an object) and foreground pixels of each frame.

    In float32, threshold by threshold, with files read by cv2; size (H, W).
    """
    small = torch.from_numpy(logits).float()[None]
    large = torch.nn.functional.interpolate(small, size, mode="bilinear")[0]
    frames = []
    for t, probability in enumerate(torch.sigmoid(large)):
        picture = cv2.imread(str(refavs.mask_path(root, entry.key, entry.fid, t)))
        gray = cv2.cvtColor(cv2.resize(picture, size[::-1]), cv2.COLOR_BGR2GRAY)
        truth = torch.from_numpy(gray > 0)
        mask = probability > 0.4
        shown = (probability > 0.5).sum().item()
        if not truth.any():
            frames.append(((~mask).sum().item() / mask.numel(), None, shown))
            continue
        curve = []
        for floor in torch.linspace(0, 1, 255):
            reached = probability >= floor
            hits = (reached & truth).sum()
            precision = hits / reached.sum() if reached.any() else torch.tensor(0.0)
            recall = hits / truth.sum()
            f = 1.3 * precision * recall / (0.3 * precision + recall)
            curve.append(f.nan_to_num().item())
        frames.append((((mask & truth).sum() / (mask | truth).sum()).item(), curve, shown))
    return frames


def slow_scores(rows: list[list[tuple]], rows_per_batch: int, pixels: int) -> list[float]:
    """Return J, F and S of each batch of rows, averaged over batches."""
    scores = []
    for first in range(0, len(rows), rows_per_batch):
        frames = [frame for row in rows[first : first + rows_per_batch] for frame in row]
        curves = [curve for _, curve, _ in frames if curve is not None]
        means = [sum(each) / len(curves) for each in zip(*curves, strict=True)]
        j = sum(j for j, _, _ in frames) / len(frames)
        s = math.sqrt(sum(shown for _, _, shown in frames) / (len(frames) * pixels))
        scores.append((j, max(means, default=0), s))
    return [sum(each) / len(scores) for each in zip(*scores, strict=True)]


@pytest.fixture
def five_logits(five_rows):
    """Noisy logits by row, 16 x 16."""
    expressions = read_expressions(five_rows, ["test_s"])
    rng = np.random.default_rng(0)
    logits = {}
    for entry in expressions.itertuples():
        truth = refavs.read_masks(five_rows, KEY, entry.fid)[:, 1::3, 2::4].astype(np.float32)
        logits[entry.row] = rng.normal(6 * truth - 3, 2).astype(np.float16)
    return expressions, logits


def test_protocols_against_a_slow_reference_on_the_same_files(five_rows, five_logits):
    expressions, logits = five_logits
    scores = score_rows(
        expressions, lambda entry: Prediction(logits[entry.row], True), root=five_rows
    )
    slow = {
        size: [
            slow_frames(five_rows, entry, logits[entry.row], size)
            for entry in expressions.itertuples()
        ]
        for size in ((256, 256), (tiny.HEIGHT, tiny.WIDTH))
    }
    square, original = [score.square for score in scores], [score.original for score in scores]
    for rows, size, rows_per_batch in (
        (square, (256, 256), 4),  # refavs
        (square, (256, 256), 5),  # frame
        (original, (tiny.HEIGHT, tiny.WIDTH), 1),
    ):
        j, f, s = slow_scores(slow[size], rows_per_batch, size[0] * size[1])
        assert batch_j(rows, rows_per_batch=rows_per_batch) == pytest.approx(j, abs=1e-5)
        assert batch_f(rows, rows_per_batch=rows_per_batch) == pytest.approx(f, abs=1e-5)
        fractions = [row.foreground for row in rows]
        assert batch_s(fractions, rows_per_batch=rows_per_batch) == pytest.approx(s, abs=1e-5)
        assert 0.2 < j < 0.9  # neither trivial nor perfect
    assert [row.visible for row in square] == [7, 0, 7, 0, 7]


def test_davis_against_a_slow_reference_on_the_same_files(five_rows, five_logits):
    """With sets of pixels and all pairs of contour pixels; row 0's object is hidden in 3 frames."""
    expressions, logits = five_logits
    entry = next(expressions.itertuples())
    (score,) = score_rows(
        expressions.iloc[:1], lambda _: Prediction(logits[entry.row], True), root=five_rows
    )
    small = torch.from_numpy(logits[entry.row]).float()[None]
    size = (tiny.HEIGHT, tiny.WIDTH)
    large = torch.nn.functional.interpolate(small, size, mode="bilinear")[0].numpy()
    js, fs = [], []
    for t in range(10):
        truth = cv2.imread(str(refavs.mask_path(five_rows, KEY, entry.fid, t))).any(axis=2)
        ours, theirs = ({*zip(*mask.nonzero(), strict=True)} for mask in (large[t] > 0, truth))
        js.append(len(ours & theirs) / len(ours | theirs) if ours | theirs else 1)
        fs.append(slow_boundary_f(large[t] > 0, truth))
    assert score.davis == pytest.approx((np.mean(js), np.mean(fs)), abs=1e-9)


def test_truth_is_resized_in_colour_before_graying(five_rows):
    square, original = protocols.true_masks(five_rows, KEY, 1)
    assert original[5].sum() == 10 * 10 + 15 * 15 - 5 * 5  # a blue of 14 is a gray of 2
    grayed = cv2.imread(str(refavs.mask_path(five_rows, KEY, 1, 5)), cv2.IMREAD_GRAYSCALE)
    assert (square[5] != (cv2.resize(grayed, (256, 256)) > 0)).any()


# ---- rows ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored(refavs_root):
    """The test rows of the tiny data set, and the scores of perfect predictions."""
    expressions = read_expressions(refavs_root, protocols.TEST_SPLITS)
    return expressions, score_rows(expressions, perfect(refavs_root), root=refavs_root, threads=3)


def perfect(root):
    def predict(entry):
        masks = None if entry.null else refavs.read_masks(root, entry.key, entry.fid)
        masks = np.zeros((10, tiny.HEIGHT, tiny.WIDTH)) if masks is None else masks
        return Prediction(masks.astype(np.float32), False, presence=2.0)

    return predict


def test_a_perfect_prediction(scored):
    for entry, score in zip(scored[0].itertuples(), scored[1], strict=True):
        if entry.null:
            assert score.original is None
            assert score.davis is None
            assert score.picked is None
            assert (score.objects, score.square.foreground) == (0, 0)
        else:
            assert score.davis == (1, 1)
            assert (score.original.region_j == 1).all()
            assert score.original.f_curve[1:] == pytest.approx(10)
            assert score.picked is True
            assert score.objects == 2
            # The boxes are 9 to 13 pixels wide, and resizing widens the truth by a seam above 0.
            assert score.square.region_j.mean() > 0.8
        assert score.ungated is score.square


def test_scores_are_in_the_order_of_the_table(scored, refavs_root):
    expressions, scores = scored
    backwards = expressions.iloc[::-1]
    other = score_rows(backwards, perfect(refavs_root), root=refavs_root)
    for one, two in zip(scores, other[::-1], strict=True):
        np.testing.assert_array_equal(one.square.f_curve, two.square.f_curve)


def test_a_gated_row_shows_nothing_but_keeps_its_ungated_score(refavs_root):
    expressions = read_expressions(refavs_root, ["test_s", "test_n"])
    everything = np.full((10, 4, 4), 5.0, np.float32)
    scores = score_rows(
        expressions, lambda entry: Prediction(everything, True, -1.0, gated=True), root=refavs_root
    )
    for entry, score in zip(expressions.itertuples(), scores, strict=True):
        assert score.gated
        assert score.square.foreground == 0
        assert score.ungated.foreground == 1
        if not entry.null:
            assert (score.square.region_j == 0).all()
            assert score.davis == (0, 0)
            assert score.picked is False


def test_every_row_has_the_statistics_of_its_masks_and_of_empty_ones(refavs_root):
    """The same as of rows without a gate, and of masks whose logits are those of nothing."""
    expressions = read_expressions(refavs_root, ["test_s", "test_n"])
    something = np.random.default_rng(0).normal(0, 3, (10, 12, 16)).astype(np.float32)

    def scored(values, *, gated=False):
        return score_rows(
            expressions, lambda entry: Prediction(values, True, -1.0, gated), root=refavs_root
        )

    closed, shown = scored(something, gated=True), scored(something)
    nothing = scored(np.full_like(something, NOTHING_LOGIT))
    for score, ungated, empty in zip(closed, shown, nothing, strict=True):
        for found, expected in (
            (score.square, empty.square),
            (score.ungated, ungated.square),
            (score.empty, empty.square),
            (ungated.empty, empty.square),
        ):
            np.testing.assert_equal(vars(found), vars(expected))
        assert score.ungated.foreground > 0.2


def test_the_object_picked_overlaps_most_over_the_whole_clip():
    one, two, shown = (np.zeros((2, 8, 8), bool) for _ in range(3))
    one[:, :4, :4] = two[:, 4:, 4:] = True
    truths = {1: one, 2: two}
    shown[0, :4, :4] = shown[1, 4:, 4:6] = True
    assert metrics.overlaps_most(shown, truths, fid=1)
    assert not metrics.overlaps_most(shown, truths, fid=2)
    assert not metrics.overlaps_most(np.zeros_like(shown), truths, fid=1)


def test_overlap_is_divided_by_union():
    """The large object contains the whole mask, the small one most of it but little else."""
    small, large = np.zeros((1, 8, 8), bool), np.ones((1, 8, 8), bool)
    small[0, :2, :2] = True
    shown = small.copy()
    shown[0, 3, 3] = True
    truths = {1: large, 2: small}
    assert metrics.overlaps_most(shown, truths, fid=2)
    assert not metrics.overlaps_most(shown, truths, fid=1)


def test_measure_counts_foreground_at_both_thresholds():
    masks = metrics.threshold(np.array([[[0.45, 0.6, 0.1, 0.1]]], np.float32))
    result = protocols.measure(masks, np.zeros((1, 1, 4), bool))
    assert (result.foreground, result.foreground_at_region) == (0.25, 0.5)
