"""The reader against a data set with the real one's oddities; faults are in test_doctor.py."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sam2love import refavs
from sam2love.survey import build_index
from tests import tiny

KEY = "vidA_0_10000"


def test_metadata_keeps_rows_and_tells_null(refavs_root):
    table = refavs.read_metadata(refavs_root)
    assert list(table["row"]) == list(range(len(tiny.ROWS)))
    assert not table["exp"].str.contains("\r").any()
    null = table[table["null"]]
    assert (null["key"] != null["vid"]).all()
    assert (table[~table["null"]]["key"] == table[~table["null"]]["vid"]).all()


def test_index_round_trip_keeps_types_and_bytes(refavs_root, tmp_path):
    index = build_index(refavs_root)
    refavs.write_index(index, tmp_path / "a")
    again = refavs.read_index(tmp_path / "a")
    for name, table in vars(index).items():
        pd.testing.assert_frame_equal(getattr(again, name), table, check_dtype=False)
    assert again.expressions["null"].dtype == bool
    assert again.expressions["row"].dtype.kind == "i"
    assert again.clips["width"].dtype.kind == "i"
    refavs.write_index(build_index(refavs_root), tmp_path / "b")
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1))
def test_any_expression_survives_the_index(tmp_path_factory, exp):
    folder = tmp_path_factory.mktemp("index")
    expressions = pd.DataFrame(
        [(0, "NA_1_1", "NA", "train", 1, exp, False)], columns=refavs.EXPRESSION_COLUMNS
    )
    index = refavs.Index(
        clips=pd.DataFrame(columns=refavs.CLIP_COLUMNS),
        expressions=expressions,
        families=pd.DataFrame(columns=refavs.FAMILY_COLUMNS),
    )
    refavs.write_index(index, folder)
    again = refavs.read_index(folder).expressions
    assert list(again["exp"]) == [exp]
    assert list(again["key"]) == ["NA"]


def test_index_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="run the stage 'index'"):
        refavs.read_index(tmp_path)


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
def test_any_non_zero_pixel_is_foreground(own_refavs_root, mode, value):
    picture = Image.new(mode, (tiny.WIDTH, tiny.HEIGHT), 0)
    if mode == "P":
        picture.putpalette([0, 0, 0, 128, 0, 0])
    picture.putpixel((5, 7), value)
    picture.save(refavs.mask_path(own_refavs_root, KEY, 1, 0))
    mask = refavs.read_mask(own_refavs_root, KEY, 1, 0)
    assert mask.sum() == 1
    assert mask[7, 5]
