"""The survey of a data set; test_check.py covers each kind of fault."""

import pytest
from PIL import Image

from sam2love.dataset import refavs
from sam2love.dataset.survey import survey
from tests import tiny
from tests.tiny import build_index

KEY = "vidA_0_10000"


def test_index_of_a_data_set_without_fatal_faults(refavs_root):
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


def test_a_fatal_fault_excludes_only_its_clip(own_refavs_root):
    refavs.mask_path(own_refavs_root, KEY, 1, 2).unlink()
    found = survey(own_refavs_root)
    assert [fault.kind for fault in found.faults if fault.fatal] == ["masks"]
    assert KEY not in set(found.index.clips["key"])
    assert KEY not in set(found.index.expressions["key"])
    assert len(found.index.clips) == len(tiny.CLIPS) + len(tiny.NULL_CLIPS) - 1
    with pytest.raises(
        ValueError, match=r"fatal faults in the data set: 1;[^\n]+\nfatal: .+/00002"
    ):
        build_index(own_refavs_root)


def test_a_clip_in_several_splits(own_refavs_root):
    rows = [tiny._row(*entry) for entry in tiny.ROWS]
    tiny.write_metadata(own_refavs_root, [*rows, (KEY, f"{KEY}_cat_9", "val", 1, "x")])
    fatal = [str(fault) for fault in survey(own_refavs_root).faults if fault.fatal]
    assert len(fatal) == 6
    assert all(line.endswith(f"clip {KEY} is in several splits: train, val") for line in fatal)


def test_an_unfinished_row_is_not_checked(own_refavs_root):
    rows = [tiny._row(*entry) for entry in tiny.ROWS]
    tiny.write_metadata(own_refavs_root, [*rows, ("", "../x", "TODO", "?", "")])
    assert not [fault for fault in survey(own_refavs_root).faults if fault.fatal]
