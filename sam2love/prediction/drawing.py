"""Draw masks over their frames, and frames as a film strip.

Shapes: H x W pixels; masks are probabilities.
"""

import warnings
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from sam2love.evaluation.metrics import SHOWN

COLOURS = (
    (255, 80, 60),
    (60, 140, 255),
    (70, 210, 90),
    (255, 200, 40),
    (200, 90, 240),
    (50, 215, 215),
)
FONT = "DejaVu Sans"
"""Ships with matplotlib, so drawings are the same everywhere; it draws missing glyphs as boxes."""
STRIP_FRAMES = 10
STRIP_HEIGHT = 120
"""Pixels of a frame in a film strip."""
STRIP_GAP = 6
"""White pixels between two frames."""
LINE_FRACTION, LEGEND_FRACTION = 1 / 24, 1 / 3
"""Height of a line of the legend, and at most of all lines, as fractions of the frame's height."""
MIN_LINE_HEIGHT = 9
"""Pixels."""


def overlay(pixels: np.ndarray, masks: Sequence[np.ndarray], colours: Sequence) -> np.ndarray:
    """Tint and outline the foreground of each mask (H, W) in a frame (H, W, 3) uint8 RGB.

    The outline is bright inside and black outside, so it is visible on any frame.
    """
    picture = pixels.copy()
    line = max(1, round(max(pixels.shape) / 400))
    kernel = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    for mask, colour in zip(masks, colours, strict=True):
        shown = (mask > SHOWN).astype(np.uint8)
        inside, around = shown > 0, cv2.dilate(shown, kernel) > shown
        picture[inside] = (0.5 * picture[inside] + 0.5 * np.array(colour)).astype(np.uint8)
        contours, _ = cv2.findContours(shown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, contours, -1, colour, line)
        picture[around] = 0
    return picture


def legend(pixels: np.ndarray, texts: Sequence[str], colours: Sequence) -> np.ndarray:
    """Write each text after a square of its colour, into a frame (H, W, 3) uint8 RGB."""
    drawn = _legend(tuple(texts), tuple(map(tuple, colours)), *pixels.shape[:2])
    alpha = drawn[..., 3:] / 255  # (H, W, 1)
    return (pixels * (1 - alpha) + drawn[..., :3] * alpha).round().astype(np.uint8)


@lru_cache(maxsize=1)  # the same for every frame of a video
def _legend(texts: tuple[str, ...], colours: tuple, height: int, width: int) -> np.ndarray:
    """Draw the legend on a transparent background, (H, W, 4) uint8 RGBA; long texts are cut off."""
    dpi = 72  # so that points are pixels
    line = min(max(LINE_FRACTION * height, MIN_LINE_HEIGHT), LEGEND_FRACTION * height / len(texts))
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="none")
    style: dict[str, Any] = {
        "fontfamily": FONT,
        "fontsize": 0.75 * line,
        "parse_math": False,
        "path_effects": [withStroke(linewidth=line / 5, foreground="black")],
    }
    for row, (text, colour) in enumerate(zip(reversed(texts), reversed(colours), strict=True)):
        left, bottom = line / 4 / width, (row + 0.3) * line / height
        figure.text(left, bottom, "■", color=np.array(colour) / 255, **style)
        figure.text(4 * left, bottom, text, color="white", **style)
    canvas = FigureCanvasAgg(figure)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # missing glyphs
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """Scale a frame down to the height of the film strip."""
    height, width = picture.shape[:2]
    size = max(1, round(STRIP_HEIGHT * width / height)), STRIP_HEIGHT
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def draw_strip(
    path: Path,
    texts: Sequence[str],
    thumbnails: Sequence[Sequence[np.ndarray]],
    times: Sequence[float],
    beliefs: Sequence[Sequence[float]],
) -> None:
    """Draw, for each sentence, thumbnails side by side above the belief over the whole video.

    Args:
        thumbnails: for each sentence, in temporal order.
        times: of all frames, in seconds.
        beliefs: for each sentence, one per frame, in [0, 1].
    """
    rows = len(texts)
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, 1, height_ratios=[3, 1] * rows, squeeze=False)[:, 0]
    for row, text in enumerate(texts):
        film, curve = axes[2 * row : 2 * row + 2]
        film.imshow(_side_by_side(thumbnails[row]), aspect="equal")
        film.set_title(text, loc="left", fontsize=11, parse_math=False, fontfamily=FONT)
        film.axis("off")
        curve.plot(times, beliefs[row], color=np.array(COLOURS[row % len(COLOURS)]) / 255)
        curve.axhline(SHOWN, color="0.7", linewidth=0.8)
        curve.set(ylim=(-0.05, 1.05), ylabel="belief", xlabel="seconds")
        curve.margins(x=0)
    with warnings.catch_warnings(action="ignore", category=UserWarning):  # missing glyphs
        figure.savefig(path, dpi=100)


def _side_by_side(pictures: Sequence[np.ndarray]) -> np.ndarray:
    padded = [np.pad(p, [(0, 0), (0, STRIP_GAP), (0, 0)], constant_values=255) for p in pictures]
    return np.concatenate(padded, axis=1)[:, :-STRIP_GAP]
