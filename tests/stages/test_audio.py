"""The stage on the tiny data set: its store against the encoder called directly."""

import numpy as np
import pytest

from sam2love.dataset import refavs
from sam2love.encoders.audio import load_audio_encoder
from sam2love.encoders.weights import digest
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from stages import audio
from tests import tiny
from tests.dataset.test_check import last_hours


def test_every_clip_is_encoded(run_folder, refavs_root, vggish_file, capsys):
    audio.main(refavs_root, run_folder / "index", run_folder / "features/audio.zarr")
    assert "audio of 9 clips, 12 features per second" in capsys.readouterr().out
    params = load_params()
    store = FeatureStore.open(
        run_folder / "features/audio.zarr", {"weights": params.audio.digest, "post_relu": False}
    )
    assert store.ids == sorted([*tiny.CLIPS, *tiny.NULL_CLIPS])
    encoder = load_audio_encoder(vggish_file, params.audio.digest)
    for key in store.ids:
        expected = encoder.encode(*refavs.read_audio(refavs_root, key))
        np.testing.assert_array_equal(store.read("audio", key), expected.numpy())
    assert store.read("audio", "vidC_1_2").dtype == np.float32


def test_a_store_of_vggish_has_the_bytes_it_always_had(run_folder, refavs_root):
    """Else DVC would train again: names, values and order of what describes it."""
    audio.main(refavs_root, run_folder / "index", run_folder / "features/audio.zarr")
    store = FeatureStore.open(run_folder / "features/audio.zarr")
    assert list(store.provenance.items())[:5] == [
        ("stage", "audio"),
        ("encoder", "VGGish"),
        ("weights", load_params().audio.digest),
        ("preprocessing", "channels averaged, 16 kHz, 10 s, log mel of each second"),
        ("post_relu", False),
    ]
    assert list(store.provenance)[5:] == ["inputs", "precision"]
    assert [spec.description for spec in store.specs] == ["VGGish, (seconds, d_A)"]


def test_clap_is_chosen_by_two_lines(run_folder, refavs_root, clap_folder, capsys):
    chosen = {"audio.weights": str(clap_folder), "audio.digest": digest(clap_folder)}
    tiny.change_params(run_folder / "params.yaml", chosen)
    audio.main(refavs_root, run_folder / "index", run_folder / "features/audio.zarr")
    assert "audio of 9 clips, 12 features per second" in capsys.readouterr().out
    store = FeatureStore.open(run_folder / "features/audio.zarr")
    assert store.provenance["encoder"] == "CLAP"
    assert store.provenance["preprocessing"].startswith("channels averaged, 48 kHz, 10 s,")
    encoder = load_audio_encoder(clap_folder, digest(clap_folder))
    for key in store.ids:
        expected = encoder.encode(*refavs.read_audio(refavs_root, key))
        np.testing.assert_array_equal(store.read("audio", key), expected.numpy())


def test_audio_of_hours_is_refused_before_it_is_decoded(run_folder, own_refavs_root):
    path = refavs.audio_path(own_refavs_root, "vidC_1_2")
    last_hours(path)
    with pytest.raises(ValueError, match=f"^{path}: 10800 s at 16000 Hz, channels: 1; at most"):
        audio.main(own_refavs_root, run_folder / "index", run_folder / "features/audio.zarr")
    assert not (run_folder / "features/audio.zarr").exists()


def test_refuses_other_weights(run_folder, refavs_root, vggish_file):
    tiny.make_vggish(run_folder / "other.safetensors", seed=1)
    text = (run_folder / "params.yaml").read_text()
    (run_folder / "params.yaml").write_text(text.replace(str(vggish_file), "other.safetensors"))
    with pytest.raises(ValueError, match=r"other\.safetensors: its SHA-256"):
        audio.main(refavs_root, run_folder / "index", run_folder / "features/audio.zarr")
    assert not (run_folder / "features/audio.zarr").exists()
