"""The reader against a data set with the real one's oddities, and against damaged ones."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sam2love import refavs
from sam2love.survey import build_index
from tests import tiny

KEY = "vidA_0_10000"


def faults_of(root: Path) -> str:
    """All the fatal faults as one text; each must be a single line."""
    _, faults = refavs.survey(root)
    assert all("\n" not in str(fault) for fault in faults)
    return "\n".join(str(fault) for fault in faults if fault.fatal)


def test_metadata_keeps_rows_and_tells_null(refavs_root):
    table = refavs.read_metadata(refavs_root)
    assert list(table["row"]) == list(range(len(tiny.ROWS)))
    assert not table["exp"].str.contains("\r").any()
    null = table[table["null"]]
    assert (null["key"] != null["vid"]).all()
    assert (table[~table["null"]]["key"] == table[~table["null"]]["vid"]).all()


def test_metadata_accepts_a_byte_order_mark(own_refavs_root):
    path = own_refavs_root / "metadata.csv"
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert len(refavs.read_metadata(own_refavs_root)) == len(tiny.ROWS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a CSV table"),
        (b"vid,uid,split,fid,exp\r\n", "no rows"),
        (b"vid,uid,split,exp\r\na,a_b_1,train,x\r\n", "column 'fid' is missing"),
        ("vid,uid,split,fid,exp\r\nä,ä_b_1,train,1,x\r\n".encode("utf-16"), "not a CSV table"),
        (b'vid,uid,split,fid,exp\r\na,a_b_1,train,1,"x\r\n', "not a CSV table"),
    ],
)
def test_metadata_that_is_no_table(tmp_path, content, message):
    (tmp_path / "metadata.csv").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        refavs.read_metadata(tmp_path)


def test_metadata_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"metadata\.csv: no such file; data\.root"):
        refavs.read_metadata(tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (("a", "a_1_2_cat_1", "trian", 1, "x"), "unknown split 'trian'"),
        (("a", "cat", "train", 1, "x"), "does not end in"),
        (("a", "../../etc/cat_1_1", "train", 1, "x"), "no folder inside"),
        (("a", "/etc_cat_1", "train", 1, "x"), "no folder inside"),
        (("a", ".._cat_1", "train", 1, "x"), "no folder inside"),
        (("a", f"{KEY}_cat_9", "train", "one", "x"), "fid 'one' is no number"),
        (("a", f"{KEY}_cat_9", "train", "9" * 30, "x"), "is no number"),
        (("a", f"{KEY}_cat_9", "train", "-1", "x"), "is no number"),
        (("a", f"{KEY}_cat_9", "train", 1, "  "), "expression is empty"),
        (("a", f"{KEY}_cat_9", "val", 1, "x"), "several splits: train, val"),
        (("a", f"{KEY}_cat_9", "train", 7, "x"), "fid_7"),
        (("a", "gone_1_2_cat_9", "train", 1, "x"), "gone_1_2"),
    ],
)
def test_faulty_row_is_named(own_refavs_root, row, message):
    good = [tiny._row(*entry) for entry in tiny.ROWS]
    tiny.write_metadata(own_refavs_root, [*good, row])
    assert message in faults_of(own_refavs_root)
    with pytest.raises(ValueError, match="faults; mend or remove"):
        build_index(own_refavs_root)


def test_index_of_the_odd_but_sound_data_set(refavs_root):
    index = build_index(refavs_root)
    clips = index.clips.set_index("key")
    assert list(clips.index) == sorted([*tiny.CLIPS, *tiny.NULL_CLIPS])
    assert "vidT_1_2" not in clips.index
    for key, (source, _, _) in tiny.NULL_CLIPS.items():
        assert clips.loc[key, "frames_key"] == min(key, source)
        assert clips.loc[key, "frames_key"] == clips.loc[source, "frames_key"]
        assert clips.loc[key, "audio_digest"] != clips.loc[source, "audio_digest"]
    assert clips["frames_key"].nunique() == len(tiny.CLIPS)
    assert set(clips["width"]) == {tiny.WIDTH}
    assert set(clips["height"]) == {tiny.HEIGHT}

    expected = [row for row, entry in enumerate(tiny.ROWS) if entry[0] != "TODO"]
    assert list(index.expressions["row"]) == expected
    assert index.expressions["null"].sum() == 5
    assert set(index.families.columns) == {"uid", "family"}
    assert len(index.families)


def test_index_notes_duplicate_uids_and_short_sound(own_refavs_root):
    path = refavs.audio_path(own_refavs_root, KEY)
    soundfile.write(path, np.zeros(3 * 16000), 16000)
    _, faults = refavs.survey(own_refavs_root)
    notes = [str(fault) for fault in faults if not fault.fatal]
    assert "metadata.csv rows 12, 13: the same uid '--seenD_1_2_car_1'; scores go by row" in notes
    assert f"{path}: only 3.0 s long" in notes
    build_index(own_refavs_root)  # neither is fatal


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


def test_digests_follow_the_files(own_refavs_root):
    before = build_index(own_refavs_root).clips.set_index("key")
    Image.new("L", (tiny.WIDTH, tiny.HEIGHT), 9).save(refavs.mask_path(own_refavs_root, KEY, 1, 3))
    Image.new("RGB", (tiny.WIDTH, tiny.HEIGHT)).save(refavs.frame_path(own_refavs_root, KEY, 9))
    after = build_index(own_refavs_root).clips.set_index("key")
    changed = before.compare(after)
    assert list(changed.index) == [KEY]
    assert set(changed.columns.get_level_values(0)) == {
        "frames_key",
        "frames_digest",
        "masks_digest",
    }
    assert after.loc[KEY, "frames_key"] == KEY  # its null clip shows other frames now


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


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES = {
    "frame missing": (lambda root: refavs.frame_path(root, KEY, 3).unlink(), "3.jpg: no such file"),
    "frame truncated": (lambda root: truncate(refavs.frame_path(root, KEY, 3)), "3.jpg: not a re"),
    "frame empty": (lambda root: refavs.frame_path(root, KEY, 3).write_bytes(b""), "3.jpg: not a"),
    "frame of another size": (
        lambda root: Image.new("RGB", (9, 9)).save(refavs.frame_path(root, KEY, 3)),
        "picture 3 is 9x9, the first one is 64x48",
    ),
    "sound missing": (lambda root: refavs.audio_path(root, KEY).unlink(), "wav: no such file"),
    "no sound": (lambda root: refavs.audio_path(root, KEY).write_text("hello"), "not readable as"),
    "sound empty": (
        lambda root: soundfile.write(refavs.audio_path(root, KEY), np.zeros(0), 16000),
        "audio.wav: no samples",
    ),
    "sound with NaN": (
        lambda root: soundfile.write(
            refavs.audio_path(root, KEY), np.full(160000, np.nan), 16000, subtype="FLOAT"
        ),
        "audio.wav: samples that are no numbers",
    ),
    "mask missing": (
        lambda root: refavs.mask_path(root, KEY, 1, 2).unlink(),
        "00002.png: no such file",
    ),
    "masks missing": (lambda root: shutil.rmtree(root / "gt_mask" / KEY), "fid_1"),
    "mask truncated": (lambda root: truncate(refavs.mask_path(root, KEY, 1, 2)), "00002.png: not"),
    "mask of another size": (
        lambda root: Image.new("L", (9, 9)).save(refavs.mask_path(root, KEY, 1, 2)),
        "picture 2 is 9x9",
    ),
    "clip missing": (lambda root: shutil.rmtree(root / "media" / KEY), f"{KEY}/frames/0.jpg"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damaged_file_is_named_and_the_rest_is_usable(own_refavs_root, damage):
    spoil, message = DAMAGES[damage]
    spoil(own_refavs_root)
    index, faults = refavs.survey(own_refavs_root)
    fatal = [str(fault) for fault in faults if fault.fatal]
    assert len(fatal) == 1
    assert message in fatal[0]
    assert KEY in fatal[0]
    assert KEY not in set(index.clips["key"])
    assert KEY not in set(index.expressions["key"])
    assert len(index.clips) == len(tiny.CLIPS) + len(tiny.NULL_CLIPS) - 1
