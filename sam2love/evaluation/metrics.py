"""What masks are measured by: J and F as the benchmark means them, S, and J and F of DAVIS.

Pure arithmetic on arrays; which pixels, rows and splits go in is decided in evaluation.py.

Shapes: N frames of H x W pixels, K = 255 thresholds. Scores are ratios in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

SHOWN = 0.5
"""Probability above which a pixel is foreground: in S, and in DAVIS, as SAM 2 itself has it."""
REGION_SHOWN = 0.4
"""The same for the benchmark's J."""
BETA_SQUARED = 0.3
THRESHOLDS = 255
BOUNDARY_TOLERANCE = 0.008
"""Of the picture's diagonal: how far off a boundary may lie in DAVIS."""


def probabilities(values: np.ndarray, *, size: tuple[int, int], logits: bool) -> np.ndarray:
    """Masks at another size, as probabilities.

    Args:
        values: (N, h, w) float, logits of any size or probabilities in [0, 1].
        size: (H, W) to resize to, bilinearly and before the sigmoid, as the benchmark does.
        logits: whether values are logits.

    Returns:
        (N, H, W) float32 in [0, 1].
    """
    masks = np.empty((len(values), *size), np.float32)
    for mask, frame in zip(masks, np.asarray(values, np.float32), strict=True):
        cv2.resize(frame, size[::-1], dst=mask, interpolation=cv2.INTER_LINEAR)
        if logits:
            _sigmoid_in_place(mask)
    return masks


def _sigmoid_in_place(mask: np.ndarray) -> None:
    np.negative(mask, out=mask)
    with np.errstate(over="ignore"):  # a logit of -1024 is a probability of 0
        np.exp(mask, out=mask)
    mask += 1
    np.reciprocal(mask, out=mask)


def f_thresholds() -> np.ndarray:
    """The benchmark's thresholds: (K,) float32 from 0 to 1, the bits of `torch.linspace`.

    torch counts up from 0 in the lower half and down from 1 in the upper one, rounding once.
    """
    step = np.float32(1) / np.float32(THRESHOLDS - 1)
    rising = np.arange(THRESHOLDS) * np.float64(step)
    falling = (1 - rising)[::-1]
    lower_half = np.arange(THRESHOLDS) < THRESHOLDS // 2
    return np.where(lower_half, rising, falling).astype(np.float32)


_FLOORS = f_thresholds()
_CEILINGS = np.append(_FLOORS[1:], np.float32(2))


@dataclass(frozen=True)
class Thresholded:
    """Masks in the form in which they are compared with any number of true masks.

    codes: (N, H, W) uint8, the highest threshold that the probability reaches.
    region: (N, H, W) bool, the foreground of J.
    shown: (N, H, W) bool, the foreground of S.
    """

    codes: np.ndarray
    region: np.ndarray
    shown: np.ndarray

    @cached_property
    def reaching(self) -> np.ndarray:
        """Pixels of each frame that reach each threshold: (N, K) int64."""
        return np.stack([_reaching(codes) for codes in self.codes])


def threshold(probability: np.ndarray) -> Thresholded:
    """Compare probabilities (N, H, W) float32 in [0, 1] with every threshold in use."""
    codes = np.stack([_codes(frame) for frame in probability])
    return Thresholded(codes, probability > REGION_SHOWN, probability > SHOWN)


def _codes(probability: np.ndarray) -> np.ndarray:
    scaled = probability.reshape(-1) * np.float32(THRESHOLDS - 1)
    codes = scaled.astype(np.uint8)
    # The product is rounded: so near to a threshold, compare again. That is few pixels, as those
    # of probability 0 are right.
    scaled -= codes
    doubtful = np.flatnonzero(((scaled < 1e-3) & (codes > 0)) | (scaled > 1 - 1e-3))
    asked, guessed = probability.reshape(-1)[doubtful], codes[doubtful]
    guessed -= _FLOORS[guessed] > asked
    codes[doubtful] = guessed + (_CEILINGS[guessed] <= asked)
    return codes.reshape(probability.shape)


def region_j(foreground: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of each frame; where nothing is to be found, the background's share.

    Args:
        foreground, truth: (N, H, W) bool.

    Returns:
        (N,) float64.

    Source: Ref-AVS, the benchmark's own code.
    """
    scores = []
    for shown, true in zip(foreground, truth, strict=True):
        if true.any():
            scores.append(np.count_nonzero(shown & true) / np.count_nonzero(shown | true))
        else:
            scores.append(1 - np.count_nonzero(shown) / shown.size)
    return np.array(scores)


def f_curves(masks: Thresholded, truth: np.ndarray) -> np.ndarray:
    """F of each frame at each threshold, (1 + b) P R / (b P + R) with b = 0.3 the square of beta.

    Args:
        masks: N frames.
        truth: (N, H, W) bool.

    Returns:
        (n, K) float64 for the n frames in which there is something to be found, others left out.

    Source: Ref-AVS, the benchmark's own code, there a loop over thresholds.
    """
    visible = [t for t, true in enumerate(truth) if true.any()]
    if not visible:
        return np.zeros((0, THRESHOLDS))
    hits = np.stack([_reaching(masks.codes[t][truth[t]]) for t in visible])  # (n, K)
    actual = np.array([np.count_nonzero(truth[t]) for t in visible])[:, None]
    # With P = hits / reaching and R = hits / actual, hits cancel out of the denominator.
    return (1 + BETA_SQUARED) * hits / (BETA_SQUARED * actual + masks.reaching[visible])


def _reaching(codes: np.ndarray) -> np.ndarray:
    """How many of some pixels' codes reach each threshold: (K,) int64."""
    counts = np.bincount(codes.reshape(-1), minlength=THRESHOLDS)
    return counts[::-1].cumsum()[::-1]


def s_measure(foreground_share: float | np.ndarray) -> float | np.ndarray:
    """S of masks of which this share of all pixels is foreground; 0 is best: nothing is shown.

    Source: Ref-AVS, the benchmark's own code (SAM2-LOVE 4.5 says 'over the background pixels').
    """
    return np.sqrt(foreground_share)


def davis_j(foreground: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Intersection over union of each frame, 1 where both are empty: (N, H, W) bool to (N,).

    Source: Perazzi et al., CVPR 2016, 3.1, with the conventions of the DAVIS 2017 evaluation.
    """
    scores = []
    for shown, true in zip(foreground, truth, strict=True):
        union = np.count_nonzero(shown | true)
        scores.append(np.count_nonzero(shown & true) / union if union else 1.0)
    return np.array(scores)


def boundary_f(foreground: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """How well each frame's contours agree, give or take 0.8 % of the diagonal.

    Precision is the share of the mask's contour within that distance of the true one, recall the
    other way round, F their harmonic mean; 1 where neither has a contour.

    Args:
        foreground, truth: (N, H, W) bool.

    Returns:
        (N,) float64.

    Source: Perazzi et al., CVPR 2016, 3.1, with the conventions of the DAVIS 2017 evaluation.
    """
    pairs = zip(foreground, truth, strict=True)
    return np.array([_frame_boundary_f(shown, true) for shown, true in pairs])


def _frame_boundary_f(foreground: np.ndarray, truth: np.ndarray) -> float:
    radius = int(np.ceil(BOUNDARY_TOLERANCE * np.hypot(*foreground.shape)))
    ours, theirs = contour(foreground), contour(truth)
    if not (ours.any() and theirs.any()):
        return float(ours.any() == theirs.any())
    # Only what lies about the contours is dilated: on large pictures that is most of the work.
    x, y, width, height = cv2.boundingRect((ours | theirs).view(np.uint8))
    about = np.s_[max(y - radius, 0) : y + height + radius, max(x - radius, 0) : x + width + radius]
    ours, theirs = ours[about], theirs[about]
    precision = np.count_nonzero(ours & _dilated(theirs, radius)) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & _dilated(ours, radius)) / np.count_nonzero(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: np.ndarray) -> np.ndarray:
    """Pixels that differ from their neighbour right, below, or right below: (H, W) bool.

    Beyond the picture's edge a pixel is its own neighbour.
    """
    beyond = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    return (mask != beyond[:-1, 1:]) | (mask != beyond[1:, :-1]) | (mask != beyond[1:, 1:])


def _dilated(contours: np.ndarray, radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(contours.view(np.uint8), disk).view(bool)


def overlaps_most(masks: np.ndarray, truths: Mapping[int, np.ndarray], *, fid: int) -> bool:
    """Return whether masks have their greatest intersection over union with the object `fid`.

    Args:
        masks: (N, H, W) bool; if they overlap with nothing, no object is picked.
        truths: the true masks (N, H, W) bool of each annotated object, by fid.
    """
    overlaps = {}
    for other, truth in truths.items():
        union = np.count_nonzero(masks | truth)
        overlaps[other] = np.count_nonzero(masks & truth) / union if union else 0.0
    return bool(0 < overlaps[fid] == max(overlaps.values()))
