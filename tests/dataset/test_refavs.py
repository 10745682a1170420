"""Reading a data set as odd as the real one; faults are in test_check.py."""

import numpy as np
import pytest
from PIL import Image

from sam2love.dataset import refavs
from tests import tiny

KEY = "vidA_0_10000"


def test_reads_frames_audio_and_masks(refavs_root):
    frames = refavs.read_frames(refavs_root, KEY)
    assert frames.shape == (10, tiny.HEIGHT, tiny.WIDTH, 3)
    assert frames.dtype == np.uint8
    masks = refavs.read_masks(refavs_root, KEY, 1)
    assert masks.shape == (10, tiny.HEIGHT, tiny.WIDTH)
    assert masks.dtype == bool
    inside = frames[masks].mean(axis=0)
    assert np.abs(inside - tiny.COLOURS[1]).max() < 25  # RGB, not BGR
    np.testing.assert_array_equal(refavs.read_mask(refavs_root, KEY, 1, 4), masks[4])

    samples, sample_rate_hz = refavs.read_audio(refavs_root, "--seenD_1_2")
    assert (samples.shape, sample_rate_hz) == ((441000,), 44100)
    assert samples.dtype == np.float32
    assert 0.3 < np.abs(samples).max() <= 0.41


def test_null_masks_may_be_missing_or_black(refavs_root):
    assert refavs.read_masks(refavs_root, f"null_m-{KEY}", 0) is None
    assert not refavs.read_masks(refavs_root, "null_m-vidC_1_2", 0).any()
    with pytest.raises(FileNotFoundError, match="fid_9"):
        refavs.read_masks(refavs_root, KEY, 9)


def test_objects_are_the_annotated_fids(refavs_root):
    assert refavs.objects(refavs_root, "--seenD_1_2") == [1, 32]
    assert refavs.objects(refavs_root, "null_m-vidC_1_2") == []
    assert refavs.objects(refavs_root, "nowhere") == []


@pytest.mark.parametrize(
    ("mode", "value"), [("L", 1), ("RGB", (9, 0, 0)), ("P", 1), ("1", 1), ("RGBA", (0, 50, 0, 0))]
)
def test_a_pixel_above_black_is_foreground(own_refavs_root, mode, value):
    picture = Image.new(mode, (tiny.WIDTH, tiny.HEIGHT), 0)
    if mode == "P":
        picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.putpixel((5, 7), value)
    picture.save(refavs.mask_path(own_refavs_root, KEY, 1, 0))
    mask = refavs.read_mask(own_refavs_root, KEY, 1, 0)
    assert mask.sum() == 1
    assert mask[7, 5]
