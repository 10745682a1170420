"""The stage on the tiny data set: its store against the encoder called directly."""

import numpy as np
import pytest

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index
from sam2love.encoders.vision import load_vision_encoder
from sam2love.encoders.weights import digest
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from stages import vision
from tests import tiny


@pytest.mark.parametrize("batch_size", [64, 7])
def test_each_sequence_of_frames_is_encoded_once(run_folder, refavs_root, batch_size, capsys):
    path = run_folder / "params.yaml"
    path.write_text(path.read_text().replace("batch_size: 64", f"batch_size: {batch_size}"))
    assert load_params().vision.batch_size == batch_size
    vision.main(refavs_root, run_folder / "index", run_folder / "features/vision.zarr")
    assert "frames of 5 clips, 16 patches of 8" in capsys.readouterr().out
    params = load_params()
    store = FeatureStore.open(
        run_folder / "features/vision.zarr", {"weights": params.vision.digest}
    )
    clips = read_index(run_folder / "index").clips
    assert store.ids == sorted(set(clips["frames_key"]))
    assert len(store.ids) == len(tiny.CLIPS)

    encoder = load_vision_encoder(params.vision.weights, params.vision.digest)
    for key, frames_key in zip(clips["key"], clips["frames_key"], strict=True):
        frames = refavs.read_frames(refavs_root, key)
        patches, cls = encoder.encode(encoder.preprocess(frames))
        found = store.read("patches", frames_key)
        assert found.dtype == np.float16
        np.testing.assert_allclose(found, patches.numpy(), atol=2e-3)
        np.testing.assert_allclose(store.read("cls", frames_key), cls.numpy(), atol=2e-3)


def test_clip_instead_of_the_vit(run_folder, refavs_root, clip_folder):
    clip = {"vision.weights": str(clip_folder), "vision.digest": digest(clip_folder)}
    tiny.change_params(run_folder / "params.yaml", clip)
    vision.main(refavs_root, run_folder / "index", run_folder / "features/vision.zarr")
    store = FeatureStore.open(run_folder / "features/vision.zarr")
    assert store.provenance["encoder"] == "CLIP vision transformer"
    encoder = load_vision_encoder(str(clip_folder), digest(clip_folder))
    key = store.ids[0]
    patches, cls = encoder.encode(encoder.preprocess(refavs.read_frames(refavs_root, key)))
    np.testing.assert_allclose(store.read("patches", key), patches.numpy(), atol=2e-3)
    np.testing.assert_allclose(store.read("cls", key), cls.numpy(), atol=2e-3)
