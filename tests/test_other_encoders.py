"""A run with other frozen encoders, two lines for each: from data to prediction and a stream."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import MPNetConfig, MPNetModel
from typer.testing import CliRunner

from sam2love.cli import app
from sam2love.encoders.weights import digest
from sam2love.prediction.predictor import Predictor
from sam2love.stores.store import FeatureStore
from tests import tiny
from tests.videos import make_video

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encoders(clap_folder, tmp_path_factory) -> dict[str, Path]:
    """CLAP, DINOv3 and a sentence encoder, by section of params.yaml."""
    dino = tmp_path_factory.mktemp("dino")
    small = {"img_size": 32, "embed_dim": 16, "depth": 1, "num_heads": 2}
    tiny.save_vit(dino, architecture="vit_small_patch16_dinov3", num_classes=0, **small)
    sentences = tiny.make_sentence_encoder(
        tmp_path_factory.mktemp("mpnet"), MPNetModel, MPNetConfig
    )
    return {"audio": clap_folder, "vision": dino, "text": sentences}


@pytest.fixture(scope="module")
def run(
    refavs_root, encoders, vggish_file, vit_folder, roberta_folder, sam2_folder, tmp_path_factory
) -> Path:
    """A finished run of every stage, and its model in `model_folder`: never modify it."""
    folder = tmp_path_factory.mktemp("run")
    defaults = {"vggish": vggish_file, "vit": vit_folder, "roberta": roberta_folder}
    tiny.write_params(folder / "params.yaml", refavs_root, **defaults, sam2=sam2_folder)
    two_lines = {
        f"{section}.{key}": value
        for section, path in encoders.items()
        for key, value in (("weights", str(path)), ("digest", digest(path)))
    }
    tiny.change_params(folder / "params.yaml", two_lines)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for _, stage in tiny.stage_runs(refavs_root):
            stage()
        assert CliRunner().invoke(app, ["export", ".", "model_folder"]).exit_code == 0
    return folder


def test_stores_name_them_and_training_reads_their_widths(run):
    widths = {"audio": ("audio", 12), "vision": ("cls", 16), "text": ("tokens", 8)}
    for name, (array, width) in widths.items():
        store = FeatureStore.open(run / f"features/{name}.zarr")
        shapes = {spec.name: spec.item_shape for spec in store.specs}
        assert shapes[array][-1] == width
    assert FeatureStore.open(run / "features/audio.zarr").provenance["encoder"] == "CLAP"
    _, *steps = (run / "model/loss.csv").read_text().splitlines()
    assert len(steps) == 2
    assert "test_s" in json.loads((run / "metrics.json").read_text())["refavs"]


def test_the_model_predicts_from_a_file_and_a_stream(run, tmp_path):
    pictures = np.random.default_rng(0).integers(0, 256, (12, 20, 30, 3), dtype=np.uint8)
    video = make_video(tmp_path / "v.mkv", pictures)  # a frame per second
    predictor = Predictor.from_pretrained(run / "model_folder", device="cpu")
    assert predictor.audio.kind == "CLAP"
    outcome = predictor.predict(video, ["The red object."], out=tmp_path / "out")
    assert outcome.window_starts == [0.0, 10.0]
    stream = predictor.stream(["The red object."], rate_hz=44100)
    for picture in pictures[:2]:
        masks, beliefs = stream.step(picture, np.zeros(44100, np.float32))
        assert masks.shape == (1, 20, 30)
        assert len(beliefs) == 1


def test_prompts_hear_the_sound(run):
    predictor = Predictor.from_pretrained(run / "model_folder", device="cpu")
    read, picture = predictor.read(["The red object."]), np.zeros((20, 30, 3), np.uint8)
    silence = np.zeros(480000, np.float32)
    loud = np.random.default_rng(0).normal(0, 0.3, 480000).astype(np.float32)
    prompts = [predictor.prompts(read, [picture], sound, 48000) for sound in (silence, loud)]
    assert not torch.equal(*(prompt.tokens for prompt in prompts))


def test_changed_weights_are_refused(run, clap_folder, tmp_path):
    config = json.loads((run / "model_folder/config.json").read_text())
    assert config["audio"]["weights"] == str(clap_folder)
    config["audio"] |= {"weights": str(tiny.make_clap(tmp_path, seed=1))}
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text(json.dumps(config))
    (other / "model.safetensors").symlink_to(run / "model_folder/model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: its SHA-256 .* parameters expect"):
        Predictor.from_pretrained(other, device="cpu")
