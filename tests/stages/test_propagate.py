"""The stage on the tiny data set with a random model."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from sam2love.dataset.index import index_digest, read_index
from sam2love.encoders.weights import digest
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import FeatureStore
from stages import embeddings, propagate
from tests import tiny

SMALL = {"fusion.dim": 16, "fusion.heads": 2, "fusion.layers": 1}


@pytest.fixture
def run(run_folder, refavs_root, feature_folder):
    """Return a function that runs the stage with changed parameters and a random model."""
    tiny.change_params(run_folder / "params.yaml", SMALL)
    make_model(run_folder, feature_folder)

    def run(changes: dict | None = None, *, features: Path = feature_folder) -> FeatureStore:
        tiny.change_params(run_folder / "params.yaml", changes or {})
        out = run_folder / "predictions/masks.zarr"
        propagate.main(refavs_root, run_folder / "index", features, run_folder / "model", out)
        return FeatureStore.open(out)

    return run


def make_model(run_folder: Path, features: Path) -> None:
    torch.manual_seed(0)
    reader = FeatureReader(features, read_index(run_folder / "index"))
    model = SAM2Love.build(load_params(), **reader.dims)
    # Scores of random weights are near 0, where rounding would decide whether objects are present.
    torch.nn.init.constant_(
        model.sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias.requires_grad_(False), 3.0
    )
    (run_folder / "model").mkdir()
    model.save(run_folder / "model/model.safetensors")


def expressions(run_folder: Path) -> pd.DataFrame:
    return read_index(run_folder / "index").expressions


def test_every_row_except_those_of_train(run, run_folder, capsys):
    store = run()
    rows = expressions(run_folder)
    rows = rows[rows["split"] != "train"]
    assert set(rows["split"]) == {"val", "test_s", "test_u", "test_n"}
    assert sorted(store.ids, key=int) == rows["row"].astype(str).tolist()
    frames_key = read_index(run_folder / "index").clips.set_index("key")["frames_key"]
    shown = rows.set_index(rows["row"].astype(str))["key"].map(frames_key)[store.ids].tolist()
    assert shown == sorted(shown)  # null rows are next to those with the same frames
    assert len(set(shown)) < rows["key"].nunique()
    assert f"masks of {len(rows)} rows on 10 frames" in capsys.readouterr().out
    logits, scores = store.read_all("logits"), store.read_all("object_score")
    assert logits.shape == (len(rows), 10, 32, 32)
    assert logits.dtype == np.float16
    assert scores.shape == (len(rows), 10)
    assert scores.dtype == np.float32
    assert np.isfinite(logits).all()
    assert np.isfinite(scores).all()
    weights = run_folder / "model/model.safetensors"
    assert store.provenance["model"] == digest(weights)
    assert store.provenance["index"] == index_digest(run_folder / "index")
    assert (store.provenance["tracker"], store.provenance["tracking_masks"]) == (
        "pretrained",
        "configured",
    )
    # Repeated sentences give equal masks; different sentences, different ones.
    twins = rows[rows.duplicated(["key", "exp"], keep=False)]["row"].astype(str).tolist()
    assert len(twins) == 2
    assert np.array_equal(store.read("logits", twins[0]), store.read("logits", twins[1]))
    other = rows[(rows["key"] == "Ünseen E_30_40") & ~rows["row"].astype(str).isin(twins)]
    assert not np.array_equal(
        store.read("logits", twins[0]), store.read("logits", str(other["row"].iloc[0]))
    )


def test_masks_do_not_depend_on_the_batch_size(run):
    together = run({"propagate.rows_per_batch": 64})
    logits, scores = together.read_all("logits"), together.read_all("object_score")
    apart = run({"propagate.rows_per_batch": 3})
    np.testing.assert_allclose(apart.read_all("object_score"), scores, atol=1e-4)
    assert_close_masks(apart.read_all("logits"), logits, atol=2e-3)


def assert_close_masks(found: np.ndarray, expected: np.ndarray, *, atol: float) -> None:
    np.testing.assert_allclose(found.astype(np.float32), expected.astype(np.float32), atol=atol)


@pytest.mark.parametrize("gate", [True, False])
def test_provenance_records_the_gate(run, gate):
    assert run({"propagate.gate": gate}).provenance["gate"] is gate


@pytest.mark.parametrize("before_convs", [False, True])
def test_frames_that_are_not_cached_are_encoded(
    run, run_folder, refavs_root, feature_folder, before_convs, frames_read
):
    changes = {"sam2.train_high_res_convs": before_convs}
    stores = {}
    for kept in ("all", "first"):
        features = run_folder / f"features_{kept}"
        features.mkdir()
        for name in ("audio", "vision", "text"):
            (features / f"{name}.zarr").symlink_to(feature_folder / f"{name}.zarr")
        changes["sam2.cache_test_frames"] = kept
        tiny.change_params(run_folder / "params.yaml", changes)
        embeddings.main(refavs_root, run_folder / "index", features / "sam2.zarr")
        stores[kept] = features
    frames_read.clear()  # those read to fill the stores
    cached = run(changes, features=stores["all"])
    assert not frames_read
    logits, scores = cached.read_all("logits"), cached.read_all("object_score")
    encoded = run(changes | {"propagate.rows_per_batch": 2}, features=stores["first"])
    clips = read_index(run_folder / "index").clips
    keys = sorted(set(clips.loc[clips["split"] != "train", "frames_key"]))
    assert frames_read == [(key, t) for key in keys for t in range(1, 10)]  # each once
    # The store holds float16, with 11 bits of precision.
    assert np.abs(logits.astype(np.float32)).max() > 0.1
    assert_close_masks(encoded.read_all("logits")[:, :1], logits[:, :1], atol=1e-3)
    assert_close_masks(encoded.read_all("logits"), logits, atol=2e-2)
    np.testing.assert_allclose(encoded.read_all("object_score"), scores, atol=2e-2)


def test_weights_of_other_parameters_give_a_one_line_error(run, run_folder):
    with pytest.raises(ValueError, match="does not fit the parameters") as error:
        run({"fusion.layers": 2})
    message = str(error.value)
    assert message.startswith(str(run_folder / "model/model.safetensors"))
    assert message.endswith("run the stage 'train' again")
    assert "\n" not in message
    assert not (run_folder / "predictions/masks.zarr").exists()
