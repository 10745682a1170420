"""Overlays, legends and film strips: visible on any frame, for any text."""

import warnings

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2love.prediction.drawing import COLOURS, draw_strip, legend, overlay, thumbnail

WHITE = (255, 255, 255)


@pytest.mark.parametrize("behind", [(0, 0, 0), WHITE, (128, 128, 128), *COLOURS])
@pytest.mark.parametrize("colour", COLOURS)
@pytest.mark.parametrize("size", [(60, 80), (600, 800)])
def test_a_mask_is_visible_on_any_frame(behind, colour, size):
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
def test_a_legend_shows_each_colour_and_covers_little_of_the_frame(size, behind, count):
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


def test_frames_of_a_film_strip_are_separated(tmp_path):
    picture = thumbnail(np.full((120, 160, 3), (200, 0, 0), np.uint8))
    draw_strip(tmp_path / "s.png", ["x"], [[picture] * 3], [0.0, 1.0, 2.0], [[0.1, 0.5, 0.9]])
    drawn = np.asarray(Image.open(tmp_path / "s.png").convert("RGB")).astype(int)
    line = drawn[(np.abs(drawn - (200, 0, 0)).max(axis=2) < 3).sum(axis=1).argmax()]
    red = np.abs(line - (200, 0, 0)).max(axis=1) < 3
    assert (np.diff(red.astype(int)) == 1).sum() == 3


def test_glyphs_missing_from_the_font_are_boxes_without_a_warning(tmp_path):
    picture = np.zeros((128, 128, 3), np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, other, none = (legend(picture, [text], COLOURS[:1]) for text in ("错", "误", ""))
        draw_strip(tmp_path / "s.png", ["错误 🐶"], [[thumbnail(picture)]], [0.0], [[0.5]])
    assert np.array_equal(one, other)
    assert not np.array_equal(one, none)
