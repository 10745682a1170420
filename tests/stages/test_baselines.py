"""The stage on the tiny data set: its store against clicks decoded directly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sam2love import segmentation
from sam2love.dataset import refavs
from sam2love.dataset.index import read_index, write_index
from sam2love.params import load_params
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import click, decode
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import FeatureStore
from stages import baselines
from tests import tiny
from tests.tiny import build_index

OBJECTS = {
    # "<frames_key>/<fid>": the clip in which it is annotated
    "--seenD_1_2/1": "--seenD_1_2",
    "--seenD_1_2/32": "--seenD_1_2",
    "null_m-vidC_1_2/2": "vidC_1_2",
    "null_m-vidC_1_2/3": "vidC_1_2",
    "null_m-Ünseen E_30_40/1": "Ünseen E_30_40",
    "null_m-Ünseen E_30_40/2": "Ünseen E_30_40",
}


@pytest.fixture
def run(run_folder, refavs_root, feature_folder):
    def run(root: Path = refavs_root) -> FeatureStore:
        out = run_folder / "predictions/objects.zarr"
        baselines.main(root, run_folder / "index", feature_folder, out)
        return FeatureStore.open(out)

    return run


def blacken(root: Path, key: str, fid: int, frame: int) -> None:
    path = refavs.mask_path(root, key, fid, frame)
    Image.fromarray(np.zeros(Image.open(path).size[::-1], np.uint8)).save(path)


def test_every_object_of_val_and_test(run, run_folder, capsys):
    store = run()
    assert store.ids == sorted(OBJECTS)
    assert "masks of 6 objects" in capsys.readouterr().out
    logits, scores = store.read_all("logits"), store.read_all("object_score")
    assert logits.shape == (6, 10, 32, 32)
    assert logits.dtype == np.float16
    assert np.isfinite(logits).all()
    assert scores.shape == (6, 10)
    assert np.isfinite(scores).all()
    assert store.provenance["sam2"] == load_params().sam2.digest


def test_an_object_is_clicked_on_the_first_frame_that_shows_it(run, own_refavs_root):
    for frame in range(4):
        blacken(own_refavs_root, "vidC_1_2", 3, frame)
    blacken(own_refavs_root, "--seenD_1_2", 1, 5)  # absent only on a later frame
    store = run(own_refavs_root)
    assert store.ids == sorted(OBJECTS)
    late = {"null_m-vidC_1_2/3": 4}
    assert {name: int(store.read("prompted", name)) for name in OBJECTS} == dict.fromkeys(
        OBJECTS, 0
    ) | late


def test_an_object_that_no_frame_shows_is_skipped(run, own_refavs_root):
    for frame in range(10):
        blacken(own_refavs_root, "vidC_1_2", 3, frame)
    assert run(own_refavs_root).ids == sorted(OBJECTS.keys() - {"null_m-vidC_1_2/3"})


def test_a_null_clip_has_the_objects_of_its_train_clip(run, run_folder, own_refavs_root):
    moved = [row if row[1] != "null_m-vidA_0_10000" else ("test_n", *row[1:]) for row in tiny.ROWS]
    tiny.write_metadata(own_refavs_root, [tiny._row(*row) for row in moved])
    write_index(build_index(own_refavs_root), run_folder / "index")
    theirs = {"null_m-vidA_0_10000/1", "null_m-vidA_0_10000/2"}
    assert run(own_refavs_root).ids == sorted(OBJECTS.keys() | theirs)


def test_frames_that_are_not_cached_are_encoded_once(
    run_folder, refavs_root, first_frame_features, frames_read
):
    tiny.change_params(run_folder / "params.yaml", {"propagate.rows_per_batch": 1})
    out = run_folder / "predictions/objects.zarr"
    baselines.main(refavs_root, run_folder / "index", first_frame_features, out)
    clips = sorted({name.rpartition("/")[0] for name in OBJECTS})
    assert frames_read == [(clip, t) for clip in clips for t in range(1, 10)]


def test_clicks_are_inside_the_masks(run, refavs_root, feature_folder, run_folder, monkeypatch):
    clicks = []

    def watched(sam2, points):
        clicks.append(points.clone())
        return click(sam2, points)

    monkeypatch.setattr(segmentation, "click", watched)
    store = run()
    points = torch.cat(clicks)
    assert len(points) == len(OBJECTS)

    params = load_params()
    sam2 = build_sam2(params.sam2.config, params.sam2.weights)
    reader = FeatureReader(feature_folder, read_index(run_folder / "index"))
    for point, name in zip(points, store.ids, strict=True):
        key, fid = OBJECTS[name], int(name.rsplit("/", 1)[1])
        mask = refavs.read_mask(refavs_root, key, fid, 0)
        size = torch.tensor(mask.shape[::-1])
        x, y = (point / sam2.image_size * size).int().tolist()
        assert mask[y, x], name
        # The stored frame 0 equals decoding this click on this clip's frame.
        levels = tuple(level[:, 0] for level in reader.embeddings([key], frames=[0]))
        with torch.inference_mode():
            decoded = decode(sam2, levels, click(sam2, point[None]))
        np.testing.assert_allclose(store.read("logits", name)[0], decoded.logits[0, 0], atol=2e-3)
        found = store.read("object_score", name)[0]
        assert found == pytest.approx(decoded.object_score.item(), abs=1e-4)
