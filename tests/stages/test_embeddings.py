"""The stage on the tiny data set: its store against SAM 2's encoder called directly."""

import numpy as np
import pandas as pd
import pytest
import torch

from sam2love.dataset import refavs
from sam2love.params import load_params
from sam2love.sam.build import build_sam2
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.stores.names import EMBEDDING_LEVELS
from sam2love.stores.store import FeatureStore
from stages import embeddings


def run(run_folder, refavs_root, **changes: str) -> FeatureStore:
    path = run_folder / "params.yaml"
    for before, after in changes.values():
        assert before in path.read_text()
        path.write_text(path.read_text().replace(before, after))
    embeddings.main(refavs_root, run_folder / "index", run_folder / "features/sam2.zarr")
    return FeatureStore.open(run_folder / "features/sam2.zarr")


def test_frames_to_store():
    clips = pd.DataFrame(
        [("a", "a", "train"), ("b", "b", "val"), ("null_a", "a", "test_n")],
        columns=["key", "frames_key", "split"],
    )
    assert embeddings.frames_to_store(clips, frames=10, test_frames="first") == ["a/0", "b/0"]
    every = embeddings.frames_to_store(clips, frames=10, test_frames="all")
    assert every == [f"{key}/{t}" for key in "ab" for t in range(10)]
    assert embeddings.frames_to_store(clips[:1], frames=10, test_frames="all") == ["a/0"]


@pytest.mark.parametrize("before_convs", [False, True])
def test_first_frames(run_folder, refavs_root, before_convs, capsys):
    store = run(
        run_folder,
        refavs_root,
        cached=("cache_test_frames: all", "cache_test_frames: first"),
        trained=("train_high_res_convs: false", f"train_high_res_convs: {before_convs}".lower()),
    )
    assert "sam2.zarr: 5 frames" in capsys.readouterr().out
    params = load_params()
    assert store.provenance["weights"] == params.sam2.digest
    assert store.provenance["before_high_res_convs"] == before_convs
    model = build_sam2(params.sam2.config, params.sam2.weights, digest=params.sam2.digest)
    for name in store.ids:
        frame = refavs.read_frame(refavs_root, name.removesuffix("/0"), 0)
        with torch.inference_mode():
            levels = encode_frames(
                model, preprocess(frame[None], model.image_size), before_high_res_convs=before_convs
            )
        for level, expected in zip(EMBEDDING_LEVELS, levels, strict=True):
            found = store.read(level, name)
            assert found.dtype == np.float16
            np.testing.assert_allclose(found, expected[0].numpy(), atol=1e-3, rtol=2e-3)


def test_all_frames_of_val_and_test(run_folder, refavs_root):
    store = run(run_folder, refavs_root)
    # All frames of 3 val and test clips, and the first of 2 train clips.
    assert len(store.ids) == 3 * 10 + 2
    assert store.has("null_m-vidA_0_10000/0")
    assert not store.has("null_m-vidA_0_10000/1")
