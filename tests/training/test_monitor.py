"""The pictures of a training, by pixels (tests/stages has what a stage writes and when)."""

import numpy as np
import pytest

from sam2love.training.monitor import CAPTION, draw_row

FRAME = np.full((8, 12, 3), 200, np.uint8)


@pytest.mark.parametrize("scale", [1, 3])
def test_what_a_mask_leaves_out_is_dark(scale):
    truth = np.zeros((8 * scale, 12 * scale), bool)
    truth[:, : 6 * scale] = True  # of the masks' own size
    logits = np.full((1, 4, 6), -9.0)
    logits[:, :2] = 9.0
    picture = np.asarray(draw_row("left", FRAME, truth, logits))
    assert picture.shape == (CAPTION + 8, 36, 3)
    frame, true, predicted = np.split(picture[CAPTION:, :, 0], 3, axis=1)
    assert (frame == 200).all()
    assert (true[:, :6] == 200).all()
    assert (true[:, 6:] == 50).all()
    assert (predicted[:3] == 200).all()
    assert (predicted[5:] == 50).all()


@pytest.mark.parametrize(
    "sentence", ["", "a\nb", "\u9519\u8bef: <b>a man\u2019s arm</b> \U0001f3bb", "long " * 99]
)
def test_any_sentence_can_be_written(sentence):
    nothing = np.zeros((8, 12), bool), np.full((1, 4, 6), -9.0)
    picture = np.asarray(draw_row(sentence, FRAME, *nothing))
    assert picture.shape == (CAPTION + 8, 36, 3)
    assert (picture[:CAPTION] == 255).all() == (not sentence)
