"""Folders of from_pretrained: written and read back, and the one shipped with the package."""

import hashlib
import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import ModelCard

from sam2love.encoders.weights import DEFAULT, SHIPPED, resolve
from sam2love.model import SAM2Love
from sam2love.params import load_config, load_params
from sam2love.sam.encode import encode_frames
from sam2love.stores.features import Features
from tests import tiny

FOLDER = tiny.REPOSITORY / DEFAULT


def test_the_committed_model_is_from_the_default_run():
    """Updated after a run by the command in docs/predict.md."""
    lock = yaml.safe_load((tiny.REPOSITORY / "dvc.lock").read_text())
    outs = {out["path"]: out["md5"] for out in lock["stages"]["train"]["outs"]}
    weights = (FOLDER / "model.safetensors").read_bytes()
    assert hashlib.md5(weights).hexdigest() == outs["model/model.safetensors"]
    params, config = load_params(tiny.DEFAULT_PARAMS), load_config(FOLDER / "config.json")
    named = config.model_dump()
    assert named == params.model_dump(include={k: set(v) for k, v in named.items()})
    assert named.keys() == set(type(config).model_fields)


def test_saving_again_gives_the_same_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # outside the checkout, names resolve to the package
    model = SAM2Love.from_pretrained()
    assert not model.training
    model.save_pretrained(tmp_path / "again")
    for path in FOLDER.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes(), path.name
    assert torch.equal(masks(SAM2Love.from_pretrained("again")), masks(model))


@torch.inference_mode()
def masks(model: SAM2Love) -> torch.Tensor:
    """Logits for random features and a random frame."""
    torch.manual_seed(0)
    fusion = model.fusion
    projections = fusion.audio_projection, fusion.visual_projection, fusion.text_projection
    audio, visual, text = (projection[0].in_features for projection in projections)
    features = Features(
        audio=torch.randn(1, 10, audio),
        patches=torch.randn(1, 10, len(fusion.positions.patch_positions), visual),
        cls=torch.randn(1, 10, visual),
        text=torch.randn(1, 4, text),
        text_mask=torch.ones(1, 4, dtype=torch.bool),
    )
    picture = torch.randn(1, 3, model.sam2.image_size, model.sam2.image_size)
    return model(features, encode_frames(model.sam2, picture)).decoded.logits


def test_the_card_has_the_hub_metadata():
    card = ModelCard.load(FOLDER / "README.md")
    assert (
        card.data.to_dict().items()
        >= {
            "license": "mit",
            "library_name": "sam2love",
            "pipeline_tag": "mask-generation",
        }.items()
    )
    assert "sam2" in card.data.tags
    licences = card.text.partition("## Licence")[2]
    assert "The code" in licences
    assert "MIT" in licences
    assert "CC BY-NC-SA 4.0" in licences


def test_a_path_in_the_working_folder_takes_precedence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert resolve(DEFAULT) == str(SHIPPED / DEFAULT)
    assert resolve("owner/name") == "owner/name"
    (tmp_path / DEFAULT).mkdir(parents=True)
    assert resolve(DEFAULT) == DEFAULT


@pytest.mark.parametrize(
    ("source", "revision"), [("owner/name", None), ("owner/name@v1.0", "v1.0")]
)
def test_a_hub_id(tmp_path, monkeypatch, source, revision):
    def snapshot_download(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(FOLDER)

    asked: list = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    SAM2Love.from_pretrained(source)
    assert asked == [("owner/name", revision, ["config.json", "model.safetensors"])]


def test_sources_that_are_not_pretrained_folders(tmp_path, monkeypatch):
    def snapshot_download(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(FileNotFoundError, match="it can't be fetched from the hub"):
        SAM2Love.from_pretrained("owner/name")
    with pytest.raises(FileNotFoundError, match=r"config\.json: no such file; expected a folder"):
        SAM2Love.from_pretrained(tmp_path)
    shutil.copytree(FOLDER, tmp_path / "wrong")
    config = json.loads((FOLDER / "config.json").read_text())
    (tmp_path / "wrong/config.json").write_text(json.dumps(config | {"more": 1}))
    with pytest.raises(ValueError, match=r"config\.json: more: there is no such parameter"):
        SAM2Love.from_pretrained(tmp_path / "wrong")


def test_a_folder_that_names_code_is_refused(tmp_path):
    folder = Path(shutil.copytree(FOLDER, tmp_path / "evil"))
    (folder / "sam2.yaml").write_text(
        f"model: {{_target_: os.system, command: touch {tmp_path / 'ran'}}}\n"
    )
    config = json.loads((folder / "config.json").read_text())
    config["sam2"]["config"] = str(folder / "sam2.yaml")
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"sam2\.yaml: .*_target_ os\.system is not allowed"):
        SAM2Love.from_pretrained(folder)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("content", [b"", b"<html>", b"PK"])
def test_unreadable_weights_of_a_folder(tmp_path, content):
    folder = Path(shutil.copytree(FOLDER, tmp_path / "torn"))
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=r"model\.safetensors: neither"):
        SAM2Love.from_pretrained(folder)
