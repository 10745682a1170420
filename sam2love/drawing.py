"""Masks for a person to look at: over their picture, and as a film strip.

Shapes: H x W pixels; masks are probabilities.
"""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font

from sam2love.metrics import SHOWN

COLOURS = (
    (255, 80, 60),
    (60, 140, 255),
    (70, 210, 90),
    (255, 200, 40),
    (200, 90, 240),
    (50, 215, 215),
)
FONT = "DejaVu Sans"
"""Comes with matplotlib."""
STRIP_FRAMES = 10
STRIP_HEIGHT = 120
"""Pixels of a picture in a film strip."""


def overlay(pixels: np.ndarray, masks: Sequence[np.ndarray], colours: Sequence) -> np.ndarray:
    """Tint and outline what each mask (H, W) shows in a picture (H, W, 3) uint8 RGB."""
    picture = pixels.copy()
    for mask, colour in zip(masks, colours, strict=True):
        shown = mask > SHOWN
        picture[shown] = (0.5 * picture[shown] + 0.5 * np.array(colour)).astype(np.uint8)
        edges, _ = cv2.findContours(shown.astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, edges, -1, colour, max(1, round(max(shown.shape) / 400)))
    return picture


def thumbnail(picture: np.ndarray) -> np.ndarray:
    """A picture as small as a film strip shows it."""
    height, width = picture.shape[:2]
    size = max(1, round(STRIP_HEIGHT * width / height)), STRIP_HEIGHT
    return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)


def film_strip(
    path: Path,
    texts: Sequence[str],
    pictures: Sequence[Sequence[np.ndarray]],
    times: Sequence[float],
    beliefs: Sequence[Sequence[float]],
) -> None:
    """Draw, of each sentence, some pictures abreast and the belief over the whole video.

    Args:
        pictures: of each sentence, thumbnails in the order of time.
        times: of all frames, in seconds.
        beliefs: of each sentence, a probability a frame.
    """
    rows = len(texts)
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, 1, height_ratios=[3, 1] * rows, squeeze=False)[:, 0]
    for row, text in enumerate(texts):
        film, curve = axes[2 * row : 2 * row + 2]
        film.imshow(np.concatenate(pictures[row], axis=1), aspect="equal")
        shown, fonts = caption(text or "(no sentence)")
        film.set_title(shown, loc="left", fontsize=11, parse_math=False, fontfamily=fonts)
        film.axis("off")
        curve.plot(times, beliefs[row], color=np.array(COLOURS[row % len(COLOURS)]) / 255)
        curve.axhline(SHOWN, color="0.7", linewidth=0.8)
        curve.set(ylim=(-0.05, 1.05), ylabel="belief", xlabel="seconds")
        curve.margins(x=0)
    figure.savefig(path, dpi=100)


def caption(text: str) -> tuple[str, list[str]]:
    """A text as this machine can draw it, and the fonts that it takes, by name.

    A letter that no font has is told by its number (backslash, u): a box would say nothing.
    """
    fonts, missing = [FONT], set(text) - _letters(findfont(FONT))
    for font in sorted(fontManager.ttflist, key=lambda font: font.fname) if missing else ():
        found = missing & _letters(font.fname)
        if found and not font.name.startswith("Last Resort"):  # that one has boxes for everything
            fonts.append(font.name)
            missing -= found
    return "".join(ascii(c)[1:-1] if c in missing else c for c in text), fonts


def _letters(font: str) -> set[str]:
    return set(map(chr, get_font(font).get_charmap()))
