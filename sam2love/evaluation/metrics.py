"""Compute the measures: the benchmark's J, F and S, and the J and F of DAVIS.

Pure arithmetic on arrays; protocols.py decides on the sizes, rows and batches that go in.

Shapes: N frames of H x W pixels, K = 255 thresholds. Scores are ratios in [0, 1].
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import cv2
import numpy as np

PROTOCOLS = ("refavs", "frame", "original", "davis")
MEASURES = ("J", "F", "J&F")
"""Keys of metrics.json; protocols.py describes the protocols."""
SHOWN = 0.5
"""Probability above which a pixel is foreground in S, in DAVIS, and in SAM 2 itself."""
REGION_SHOWN = 0.4
"""The same for the benchmark's J."""
BETA_SQUARED = 0.3
THRESHOLDS = 255
BOUNDARY_TOLERANCE = 0.008
"""DAVIS: how far apart matching contours may be, as a fraction of the picture's diagonal."""


def probabilities(values: np.ndarray, *, size: tuple[int, int], logits: bool) -> np.ndarray:
    """Resize masks and convert them to probabilities.

    Args:
        values: (N, h, w) float, mask logits or probabilities in [0, 1].
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
    """Return the benchmark's thresholds: (K,) float32 from 0 to 1, bit-identical to torch.linspace.

    torch counts up from 0 in the lower half and down from 1 in the upper half, rounding once.
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
    """Masks in a form that can be compared quickly with many true masks.

    codes: (N, H, W) uint8, the highest threshold that the probability reaches.
    region: (N, H, W) bool, the foreground of J.
    shown: (N, H, W) bool, the foreground of S.
    """

    codes: np.ndarray
    region: np.ndarray
    shown: np.ndarray

    @cached_property
    def reaching(self) -> np.ndarray:
        """The number of pixels that reach each threshold in each frame: (N, K) int64."""
        return np.stack([_reaching(codes) for codes in self.codes])


def threshold(probability: np.ndarray) -> Thresholded:
    """Apply every threshold in use to probabilities (N, H, W) float32 in [0, 1]."""
    codes = np.stack([_codes(frame) for frame in probability])
    return Thresholded(codes, probability > REGION_SHOWN, probability > SHOWN)


def _codes(probability: np.ndarray) -> np.ndarray:
    scaled = probability.reshape(-1) * np.float32(THRESHOLDS - 1)
    codes = scaled.astype(np.uint8)
    # The product is rounded, so near a threshold the code may be off by one: compare exactly there.
    # These are few pixels, since a probability of 0 always has the right code.
    scaled -= codes
    doubtful = np.flatnonzero(((scaled < 1e-3) & (codes > 0)) | (scaled > 1 - 1e-3))
    exact, corrected = probability.reshape(-1)[doubtful], codes[doubtful]
    corrected -= _FLOORS[corrected] > exact
    codes[doubtful] = corrected + (_CEILINGS[corrected] <= exact)
    return codes.reshape(probability.shape)


def region_j(foreground: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each frame's intersection over union; without a true object, the background fraction.

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
    """Return each frame's F at each threshold: (1 + b) P R / (b P + R), b = 0.3 being beta squared.

    Args:
        masks: N frames.
        truth: (N, H, W) bool.

    Returns:
        (n, K) float64 for the n frames with a true object; the others are left out.

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
    """Count the codes that reach each threshold: (K,) int64."""
    counts = np.bincount(codes.reshape(-1), minlength=THRESHOLDS)
    return counts[::-1].cumsum()[::-1]


def s_measure(foreground_fraction: float | np.ndarray) -> float | np.ndarray:
    """Return S of masks with this fraction of all pixels as foreground; 0, no foreground, is best.

    Source: Ref-AVS, the benchmark's own code (SAM2-LOVE 4.5 says 'over the background pixels').
    """
    return np.sqrt(foreground_fraction)


def davis_j(foreground: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return each frame's intersection over union, 1 if both are empty: (N, H, W) bool to (N,).

    Source: Perazzi et al., CVPR 2016, 3.1, with the conventions of the DAVIS 2017 evaluation.
    """
    scores = []
    for shown, true in zip(foreground, truth, strict=True):
        union = np.count_nonzero(shown | true)
        scores.append(np.count_nonzero(shown & true) / union if union else 1.0)
    return np.array(scores)


def boundary_f(foreground: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the F of each frame's contours, matched within 0.8 % of the picture's diagonal.

    Precision is the fraction of the mask's contour within that distance of the true contour, recall
    the reverse, and F their harmonic mean; 1 if neither has a contour.

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
    # Dilation is most of the work on large pictures, so crop to the contours first.
    x, y, width, height = cv2.boundingRect((ours | theirs).view(np.uint8))
    crop = np.s_[max(y - radius, 0) : y + height + radius, max(x - radius, 0) : x + width + radius]
    ours, theirs = ours[crop], theirs[crop]
    precision = np.count_nonzero(ours & _dilated(theirs, radius)) / np.count_nonzero(ours)
    recall = np.count_nonzero(theirs & _dilated(ours, radius)) / np.count_nonzero(theirs)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def contour(mask: np.ndarray) -> np.ndarray:
    """Return the pixels that differ from their right, lower or lower-right neighbour: (H, W) bool.

    The picture is extended by repeating its last row and column.
    """
    padded = np.pad(mask, ((0, 1), (0, 1)), mode="edge")  # (H + 1, W + 1)
    return (mask != padded[:-1, 1:]) | (mask != padded[1:, :-1]) | (mask != padded[1:, 1:])


def _dilated(contours: np.ndarray, radius: int) -> np.ndarray:
    offsets = np.arange(-radius, radius + 1)
    disk = (offsets[:, None] ** 2 + offsets**2 <= radius**2).astype(np.uint8)
    return cv2.dilate(contours.view(np.uint8), disk).view(bool)


def overlaps_most(masks: np.ndarray, truths: Mapping[int, np.ndarray], *, fid: int) -> bool:
    """Return whether masks have their greatest intersection over union with the object `fid`.

    Args:
        masks: (N, H, W) bool; masks that overlap no object pick none.
        truths: the true masks (N, H, W) bool of each annotated object, by fid.
    """
    overlaps = {}
    for other, truth in truths.items():
        union = np.count_nonzero(masks | truth)
        overlaps[other] = np.count_nonzero(masks & truth) / union if union else 0.0
    return bool(0 < overlaps[fid] == max(overlaps.values()))
