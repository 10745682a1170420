"""Labels of the tiny data set, compared with the masks themselves."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2love.dataset import refavs
from sam2love.dataset.index import is_null, read_index, write_index
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import FeatureStore
from stages import labels
from tests import tiny

ANY_FRAME = {"fusion.frame": "any", "fusion.strategy": "joint"}
TRAIN_AND_VAL = {row[1] for row in tiny.ROWS if row[0] in ("train", "val")}


@pytest.fixture
def make_labels(run_folder):
    """A function that runs the stage on a data set and returns a reader of its output."""

    def make_labels(root, changes: dict | None = None) -> FeatureReader:
        write_index(tiny.build_index(root), run_folder / "index")
        tiny.change_params(run_folder / "params.yaml", changes or {})
        labels.main(root, run_folder / "index", run_folder / "features/labels.zarr")
        return FeatureReader(run_folder / "features", read_index(run_folder / "index"))

    return make_labels


def test_every_object_of_train_and_val_has_its_first_mask(make_labels, refavs_root, capsys):
    reader = make_labels(refavs_root)
    names = set(FeatureStore.open("features/labels.zarr").ids)
    assert {name.rsplit("/", 1)[0] for name in names} == TRAIN_AND_VAL
    assert f"masks of {len(names)} objects, at most 384 bytes a frame" in capsys.readouterr().out
    for key in TRAIN_AND_VAL:
        fids = refavs.objects(refavs_root, key)
        assert reader.objects(key) == fids
        for fid, label in zip(fids, reader.labels([key] * len(fids), fids), strict=True):
            np.testing.assert_array_equal(label, refavs.read_mask(refavs_root, key, fid, 0))
    for key in filter(is_null, TRAIN_AND_VAL):  # one has black masks, one has none
        (label,) = reader.labels([key], [0])
        assert label.shape == (tiny.HEIGHT, tiny.WIDTH)
        assert not label.any()


def test_any_frame_has_its_label(make_labels, refavs_root):
    reader = make_labels(refavs_root, ANY_FRAME)
    keys = sorted(key for key in TRAIN_AND_VAL if not is_null(key))
    fids = [refavs.objects(refavs_root, key)[-1] for key in keys]
    frames = [(3 * number + 9) % 10 for number in range(len(keys))]
    found = reader.labels(keys, fids, frames=frames)
    for label, key, fid, frame in zip(found, keys, fids, frames, strict=True):
        np.testing.assert_array_equal(label, refavs.read_mask(refavs_root, key, fid, frame))
    first = reader.labels(keys[:1], fids[:1])[0]
    np.testing.assert_array_equal(first, refavs.read_mask(refavs_root, keys[0], fids[0], 0))


def test_labels_of_frame_0_alone_are_refused_where_any_frame_is_grounded(make_labels, refavs_root):
    make_labels(refavs_root)
    tiny.change_params(Path("params.yaml"), ANY_FRAME)
    reader = FeatureReader(Path("features"), read_index(Path("index")), params=load_params())
    with pytest.raises(ValueError, match="has frames 1, expected 10; run the stage 'labels' again"):
        reader.labels(["vidA_0_10000"], [1])


def test_each_label_keeps_its_own_size(make_labels, own_refavs_root):
    """The mask is larger than the frames, and its size is not a multiple of eight pixels."""
    folder = own_refavs_root / "gt_mask/vidA_0_10000/fid_1"
    mask = np.random.default_rng(0).integers(0, 2, (67, 81)).astype(bool)
    for path in folder.iterdir():
        Image.fromarray(mask.astype(np.uint8) * 255).save(path)
    reader = make_labels(own_refavs_root)
    larger, other = reader.labels(["vidA_0_10000"] * 2, [1, 2])
    np.testing.assert_array_equal(larger, mask)
    assert other.shape == (tiny.HEIGHT, tiny.WIDTH)


def test_masks_missing_since_indexing_are_an_error(make_labels, own_refavs_root):
    make_labels(own_refavs_root)
    shutil.rmtree(own_refavs_root / "gt_mask/vidA_0_10000/fid_1")
    with pytest.raises(FileNotFoundError, match=r"fid_1/00000\.png"):
        labels.main(own_refavs_root, "index", "features/labels.zarr")
