"""Labels of the tiny data set, compared with the masks themselves."""

import shutil

import numpy as np
import pytest
from PIL import Image

from sam2love.dataset import refavs
from sam2love.dataset.index import is_null, read_index, write_index
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import FeatureStore
from stages import labels
from tests import tiny

TRAIN_AND_VAL = {row[1] for row in tiny.ROWS if row[0] in ("train", "val")}


@pytest.fixture
def make_labels(run_folder):
    """A function that runs the stage on a data set and returns a reader of its output."""

    def make_labels(root) -> FeatureReader:
        write_index(tiny.build_index(root), run_folder / "index")
        labels.main(root, run_folder / "index", run_folder / "features/labels.zarr")
        return FeatureReader(run_folder / "features", read_index(run_folder / "index"))

    return make_labels


def test_every_object_of_train_and_val_has_its_first_mask(make_labels, refavs_root, capsys):
    reader = make_labels(refavs_root)
    names = set(FeatureStore.open("features/labels.zarr").ids)
    assert {name.rsplit("/", 1)[0] for name in names} == TRAIN_AND_VAL
    assert f"{len(names)} masks, at most 384 bytes each" in capsys.readouterr().out
    for key in TRAIN_AND_VAL:
        fids = refavs.objects(refavs_root, key)
        assert reader.objects(key) == fids
        for fid, label in zip(fids, reader.labels([key] * len(fids), fids), strict=True):
            np.testing.assert_array_equal(label, refavs.read_mask(refavs_root, key, fid, 0))
    for key in filter(is_null, TRAIN_AND_VAL):  # one has black masks, one has none
        (label,) = reader.labels([key], [0])
        assert label.shape == (tiny.HEIGHT, tiny.WIDTH)
        assert not label.any()


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
