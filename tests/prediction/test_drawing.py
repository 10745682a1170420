"""Overlays that can be seen, and captions: what no font has is written by its number."""

import cv2
import numpy as np
import pytest
from matplotlib.font_manager import fontManager
from PIL import Image

from sam2love.prediction.drawing import (
    COLOURS,
    FONT,
    caption,
    film_strip,
    legend,
    overlay,
    thumbnail,
)

WHITE = (255, 255, 255)


@pytest.mark.parametrize("behind", [(0, 0, 0), WHITE, (128, 128, 128), *COLOURS])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(60, 80), (600, 800)])
def test_a_mask_can_be_seen_on_any_picture(behind, colour, size):
    mask = np.zeros(size, np.float32)
    mask[size[0] // 3 : size[0] // 2, size[1] // 3 : size[1] // 2] = 1
    picture = np.full((*size, 3), behind, np.uint8)
    drawn = overlay(picture, [mask], [colour]).astype(int)
    differs = np.abs(drawn - picture).max(axis=2) > 60
    edges = cv2.morphologyEx(mask, cv2.MORPH_GRADIENT, np.ones((3, 3))) > 0
    beside = cv2.dilate(differs.astype(np.uint8), np.ones((3, 3))) > 0
    assert beside[edges].all()
    assert not differs[cv2.dilate(mask, np.ones((11, 11))) == 0].any()


@pytest.mark.parametrize(
    ("size", "behind", "count"),
    [
        ((48, 64), WHITE, 1),
        ((48, 64), COLOURS[0], 6),
        ((128, 128), COLOURS[0], 1),
        ((128, 128), WHITE, 6),
        ((720, 1280), (0, 0, 0), 1),
        ((720, 1280), WHITE, 6),
        ((1280, 720), COLOURS[0], 6),
    ],
)
def test_a_legend_names_each_colour_and_leaves_most_of_the_picture(size, behind, count):
    picture = np.full((*size, 3), behind, np.uint8)
    texts = ["The object that makes the longest sound of all, 错误 $x_1$", "y", "z", "a", "b", "c"]
    named = legend(picture, texts[:count], COLOURS[:count])
    assert named.shape == picture.shape
    assert named.dtype == np.uint8
    changed = (named != picture).any(axis=2)
    assert changed.any()
    assert not changed[: size[0] // 2].any()
    if size[0] >= 128:
        for colour in COLOURS[:count]:
            assert (np.abs(named.astype(int) - colour).max(axis=2) < 3).any()


def test_pictures_of_a_film_strip_stand_apart(tmp_path):
    picture = thumbnail(np.full((120, 160, 3), (200, 0, 0), np.uint8))
    film_strip(tmp_path / "s.png", ["x"], [[picture] * 3], [0.0, 1.0, 2.0], [[0.1, 0.5, 0.9]])
    drawn = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")).astype(int)
    line = drawn[(np.abs(drawn - (200, 0, 0)).max(axis=2) < 3).sum(axis=1).argmax()]
    red = np.abs(line - (200, 0, 0)).max(axis=1) < 3
    assert (np.diff(red.astype(int)) == 1).sum() == 3


def test_letters_that_the_font_has_stay():
    assert caption("Größte Ω, 5 $x_1$") == ("Größte Ω, 5 $x_1$", [FONT])


def test_letters_that_no_font_has_are_written_by_number(monkeypatch):
    own = [font for font in fontManager.ttflist if font.name in (FONT, "Last Resort")]
    monkeypatch.setattr(fontManager, "ttflist", own)
    assert caption("é 错误 \U0001f436") == ("é \\u9519\\u8bef \\U0001f436", [FONT])


def test_another_font_of_the_machine_helps_out(monkeypatch):
    monkeypatch.setattr(
        "sam2love.prediction.drawing.FONT", "cmr10"
    )  # no Greek small alpha of Unicode in it
    text, fonts = caption("\u03b1")
    assert (text, fonts[0]) == ("\u03b1", "cmr10")
    assert len(fonts) > 1
