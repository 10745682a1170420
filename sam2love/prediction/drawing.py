"""Masks for a person to look at: over their picture, and as a film strip.

Shapes: H x W pixels; masks are probabilities.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, fontManager, get_font
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
"""Comes with matplotlib."""
STRIP_FRAMES = 10
STRIP_HEIGHT = 120
"""Pixels of a picture in a film strip."""
STRIP_GAP = 6
"""White pixels between two pictures."""
LEGEND_LINE, LEGEND_HEIGHT, LEAST_LINE = 1 / 24, 1 / 3, 9
"""Height of a line of the legend, and of all at most, as fractions of the picture's; in pixels."""


def overlay(pixels: np.ndarray, masks: Sequence[np.ndarray], colours: Sequence) -> np.ndarray:
    """Tint and outline what each mask (H, W) shows in a picture (H, W, 3) uint8 RGB.

    The outline is bright inside and black outside, so it can be seen on any picture.
    """
    picture = pixels.copy()
    line = max(1, round(max(pixels.shape) / 400))
    beyond = np.ones((2 * line + 1, 2 * line + 1), np.uint8)
    for mask, colour in zip(masks, colours, strict=True):
        shown = (mask > SHOWN).astype(np.uint8)
        inside, around = shown > 0, cv2.dilate(shown, beyond) > shown
        picture[inside] = (0.5 * picture[inside] + 0.5 * np.array(colour)).astype(np.uint8)
        edges, _ = cv2.findContours(shown, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(picture, edges, -1, colour, line)
        picture[around] = 0
    return picture


def legend(pixels: np.ndarray, texts: Sequence[str], colours: Sequence) -> np.ndarray:
    """Write texts behind squares in their colours into a picture (H, W, 3) uint8 RGB."""
    letters = _legend(tuple(texts), tuple(map(tuple, colours)), *pixels.shape[:2])
    opaque = letters[..., 3:] / 255
    return (pixels * (1 - opaque) + letters[..., :3] * opaque).round().astype(np.uint8)


@lru_cache(maxsize=1)  # the same for every frame of a video
def _legend(texts: tuple[str, ...], colours: tuple, height: int, width: int) -> np.ndarray:
    """The legend alone, (H, W, 4) uint8 RGBA; a text too long for the picture is cut."""
    dpi = 72  # so that points are pixels
    line = min(max(LEGEND_LINE * height, LEAST_LINE), LEGEND_HEIGHT * height / len(texts))
    figure = Figure(figsize=(width / dpi, height / dpi), dpi=dpi, facecolor="none")
    look: dict[str, Any] = {
        "fontsize": 0.75 * line,
        "parse_math": False,
        "path_effects": [withStroke(linewidth=line / 5, foreground="black")],
    }
    for row, (text, colour) in enumerate(zip(reversed(texts), reversed(colours), strict=True)):
        left, bottom = line / 4 / width, (row + 0.3) * line / height
        shown, fonts = caption(text)
        figure.text(left, bottom, "■", color=np.array(colour) / 255, fontfamily=FONT, **look)
        figure.text(4 * left, bottom, shown, color="white", fontfamily=fonts, **look)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())


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
        beliefs: of each sentence, one a frame, in [0, 1].
    """
    rows = len(texts)
    figure = Figure(figsize=(12, 2.6 * rows), layout="constrained")
    axes = figure.subplots(2 * rows, 1, height_ratios=[3, 1] * rows, squeeze=False)[:, 0]
    for row, text in enumerate(texts):
        film, curve = axes[2 * row : 2 * row + 2]
        film.imshow(_abreast(pictures[row]), aspect="equal")
        shown, fonts = caption(text)
        film.set_title(shown, loc="left", fontsize=11, parse_math=False, fontfamily=fonts)
        film.axis("off")
        curve.plot(times, beliefs[row], color=np.array(COLOURS[row % len(COLOURS)]) / 255)
        curve.axhline(SHOWN, color="0.7", linewidth=0.8)
        curve.set(ylim=(-0.05, 1.05), ylabel="belief", xlabel="seconds")
        curve.margins(x=0)
    figure.savefig(path, dpi=100)


def _abreast(pictures: Sequence[np.ndarray]) -> np.ndarray:
    apart = [np.pad(p, [(0, 0), (0, STRIP_GAP), (0, 0)], constant_values=255) for p in pictures]
    return np.concatenate(apart, axis=1)[:, :-STRIP_GAP]


def caption(text: str) -> tuple[str, list[str]]:
    """A text as this machine can draw it, and the fonts that it takes, by name.

    A letter that no font has is written as its number (backslash, u): a box would say nothing.
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
