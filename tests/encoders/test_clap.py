"""CLAP against transformers, second by second, and what a folder for audio.weights may not be."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    ClapAudioConfig,
    ClapAudioModelWithProjection,
    ClapConfig,
    ClapFeatureExtractor,
    ClapModel,
    ClapTextConfig,
)

from sam2love import device
from sam2love.encoders.audio import AudioEncoder, load_audio_encoder
from sam2love.encoders.weights import digest
from tests import tiny

RATE_HZ = 48000


@pytest.fixture(scope="module")
def encoder(clap_folder) -> AudioEncoder:
    return load_audio_encoder(clap_folder, digest(clap_folder))


@pytest.fixture
def folder(clap_folder, tmp_path) -> Path:
    """A copy to change."""
    return Path(shutil.copytree(clap_folder, tmp_path / "clap"))


def noise(seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    samples = np.random.default_rng(1).normal(0, 0.1, round(seconds * rate_hz))
    return samples.astype(np.float32)


def test_a_second_is_transformers_own(encoder, clap_folder):
    extractor = ClapFeatureExtractor.from_pretrained(clap_folder)
    sound = noise(1)
    inputs = extractor(sound, sampling_rate=RATE_HZ, return_tensors="pt")
    with torch.no_grad():
        half = ClapAudioModelWithProjection.from_pretrained(clap_folder).eval()(**inputs)
        whole = ClapModel.from_pretrained(clap_folder).eval().get_audio_features(**inputs)
    found = encoder.encode(sound, RATE_HZ, seconds=1)
    assert found.shape == (1, encoder.dim) == (1, 12)
    torch.testing.assert_close(found, half.audio_embeds, atol=0, rtol=0)
    torch.testing.assert_close(found / found.norm(), whole.pooler_output)


def test_encodes_a_clip_second_by_second(encoder):
    sound = noise(10)
    features = encoder.encode(sound, RATE_HZ)
    assert features.shape == (10, 12)
    assert features.dtype == torch.float32
    sound[3 * RATE_HZ : 4 * RATE_HZ] = 0
    changed = (encoder.encode(sound, RATE_HZ) != features).any(dim=1)
    assert changed.tolist() == [second == 3 for second in range(10)]


def test_a_second_does_not_depend_on_the_clip(encoder):
    sound = noise(10)
    alone = encoder.encode(sound[2 * RATE_HZ : 3 * RATE_HZ], RATE_HZ, seconds=1)
    torch.testing.assert_close(encoder.encode(sound, RATE_HZ)[2], alone[0], atol=1e-6, rtol=1e-5)


def test_a_model_that_fuses_longer_audio_leaves_nothing_to_chance(tmp_path):
    """Its extractor marks a random second as longer, and that one's vector would be another."""
    tiny.make_clap(tmp_path, fused=True)
    encoder = load_audio_encoder(tmp_path, digest(tmp_path))
    sound = np.tile(noise(1), 10)
    features = encoder.encode(sound, RATE_HZ)
    torch.testing.assert_close(features, features[:1].expand(10, -1), atol=1e-6, rtol=1e-5)
    for seed in range(3):
        np.random.seed(seed)
        assert torch.equal(encoder.encode(sound, RATE_HZ), features)


@pytest.mark.parametrize("samples", [1, 47123, 479999, 480001, 500000])
def test_any_length_gives_ten_seconds(encoder, samples):
    sound = noise(11)[:samples]
    whole = np.pad(sound, (0, 528000 - samples))
    torch.testing.assert_close(encoder.encode(sound, RATE_HZ), encoder.encode(whole, RATE_HZ))


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100, 96000])
def test_other_sample_rates_give_the_same_vectors(encoder, rate_hz):
    """Of tones that all of them hold."""
    seconds = np.arange(3 * RATE_HZ) / RATE_HZ
    tones = sum(np.sin(2 * np.pi * hz * seconds + hz) for hz in range(60, 3800, 7)) / 500
    kept = np.arange(3 * rate_hz) / rate_hz
    others = sum(np.sin(2 * np.pi * hz * kept + hz) for hz in range(60, 3800, 7)) / 500
    expected = encoder.encode(tones.astype(np.float32), RATE_HZ, seconds=3)[1]
    found = encoder.encode(others.astype(np.float32), rate_hz, seconds=3)[1]
    another = encoder.encode(noise(3), RATE_HZ, seconds=3)[1]
    assert (found - expected).norm() < 0.1 * (another - expected).norm()


def test_silence_is_finite(encoder):
    assert encoder.encode(np.zeros(RATE_HZ, np.float32), RATE_HZ).isfinite().all()


def test_settings_saved_with_a_processor(encoder, folder):
    """As a ClapProcessor of transformers 5 saves them, next to its tokenizer."""
    settings = folder / "preprocessor_config.json"
    nested = {"feature_extractor": json.loads(settings.read_text())}
    settings.unlink()
    (folder / "processor_config.json").write_text(json.dumps(nested))
    found = load_audio_encoder(folder, digest(folder)).encode(noise(2), RATE_HZ)
    assert torch.equal(found, encoder.encode(noise(2), RATE_HZ))


def test_the_audio_half_is_enough(encoder, clap_folder, tmp_path):
    shutil.copy(clap_folder / "preprocessor_config.json", tmp_path)
    ClapAudioModelWithProjection.from_pretrained(clap_folder).save_pretrained(tmp_path)
    half = load_audio_encoder(tmp_path, digest(tmp_path))
    assert torch.equal(half.encode(noise(2), RATE_HZ), encoder.encode(noise(2), RATE_HZ))


def test_computes_in_the_precision_of_the_device(encoder, monkeypatch):
    exact = encoder.encode(noise(2), RATE_HZ, seconds=2)
    monkeypatch.setattr(device, "HALF_PRECISION", ("cpu",))
    half = encoder.encode(noise(2), RATE_HZ, seconds=2)
    assert half.dtype == torch.float32
    assert not torch.allclose(half, exact, rtol=1e-4, atol=0)
    assert torch.cosine_similarity(half.flatten(), exact.flatten(), dim=0) > 0.99


# ---- folders that are refused -------------------------------------------------------------------


def refused(folder: Path, message: str, **options: bool) -> None:
    with pytest.raises(ValueError, match=message) as error:
        load_audio_encoder(folder, digest(folder), **options)
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def change(path: Path, **settings: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def test_another_digest(clap_folder):
    with pytest.raises(ValueError, match=r"model\.safetensors: its SHA-256 .* expect 0000"):
        load_audio_encoder(clap_folder, "0" * 64)


def test_a_relu_that_clap_does_not_have(folder):
    refused(folder, r"^audio\.post_relu is true, but .* set it to false", post_relu=True)


def test_another_kind_of_model(roberta_folder, vit_folder):
    expected = (
        r"config\.json: model_type is '{}', expected clap or clap_audio_model; .* a single file"
    )
    refused(roberta_folder, expected.format("roberta"))
    refused(vit_folder, r"config\.json: .*, expected clap or|transformers can't load it")


def test_missing_files(folder):
    (folder / "preprocessor_config.json").rename(folder / "kept")
    with pytest.raises(
        FileNotFoundError, match=r"preprocessor_config\.json: no such file; expected"
    ):
        load_audio_encoder(folder, digest(folder))
    (folder / "kept").rename(folder / "preprocessor_config.json")
    (folder / "config.json").rename(folder / "kept")
    refused(folder, r"can't load it \(.*config\.json")
    (folder / "kept").rename(folder / "config.json")
    (folder / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file"):
        load_audio_encoder(folder, "0" * 64)


def test_weights_that_would_be_left_random(folder):
    state = load_file(folder / "model.safetensors")
    del state["audio_projection.linear2.bias"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    refused(folder, r"no weights for audio_projection\.linear2\.bias")


@pytest.mark.parametrize(
    "settings", [{"feature_size": 64}, {"max_length_s": 10}, {"truncation": "fusion"}]
)
def test_the_feature_extractor_of_another_model(folder, settings):
    change(folder / "preprocessor_config.json", **settings)
    refused(folder, "its feature extractor does not fit its model")


@pytest.mark.parametrize("settings", [{"sampling_rate": "x"}, {"hop_length": 0}])
def test_odd_settings_of_the_feature_extractor(folder, settings):
    change(folder / "preprocessor_config.json", **settings)
    refused(folder, "can't load it|does not fit its model")


def test_a_folder_runs_no_code(folder, monkeypatch):
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n")
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    change(folder / "preprocessor_config.json", auto_map={"AutoFeatureExtractor": "evil.Evil"})
    change(folder / "config.json", auto_map={"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"})
    load_audio_encoder(folder, digest(folder))
    change(folder / "config.json", model_type="unheard-of")
    refused(folder, "transformers can't load it .* custom code")
    path = folder / "model.safetensors"
    torch.save({"weights": tiny.Pickled(f"touch {folder / 'ran'}")}, path)
    change(folder / "config.json", model_type="clap")
    refused(folder, "transformers can't load it")
    assert not (folder / "ran").exists()


@pytest.mark.slow
def test_full_size(tmp_path):
    """The size of laion/clap-htsat-unfused; of its text half only what a folder must have."""
    text = ClapTextConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=2, vocab_size=20)
    config = ClapConfig(text_config=text, audio_config=ClapAudioConfig())
    ClapModel(config).save_pretrained(tmp_path)
    ClapFeatureExtractor(truncation="rand_trunc").save_pretrained(tmp_path)
    encoder = load_audio_encoder(tmp_path, digest(tmp_path))
    assert (encoder.dim, encoder.sample_rate_hz) == (512, RATE_HZ)
    assert encoder.encode(noise(2, 44100), 44100, seconds=2).shape == (2, 512)
