"""DVC's queue, whose clones have only what git and DVC track, on the paper's profile in small."""

import shutil
import subprocess
from pathlib import Path

import pytest

from rehearsal.__main__ import PROFILE, device_changes, write_profile
from sam2love.encoders.weights import digest, local_path
from sam2love.params import load_params
from tests import tiny
from tests.verify import clone, environment

DATA_AND_WEIGHTS = [
    "dvc add data/ref-avs weights/hub",
    "git add data/.gitignore data/ref-avs.dvc weights/hub.dvc",
]
"""docs/ablations.md has these lines."""
SMALL = {
    "sam2.config": "weights/mini/sam2/config.yaml",
    "fusion.dim": 16,
    "fusion.heads": 2,
    "fusion.layers": 1,
    "train.steps": 2,
    "train.batch_size": 2,
}


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with the paper's profile, data where it looks for them, and the weights it names."""
    monkeypatch.chdir(tiny.REPOSITORY)
    folder = clone(tmp_path / "clone")
    params = load_params(PROFILE)
    tiny.make_refavs(folder / params.data.root)
    audio, vision, text, sam2 = (
        folder / local_path(section.weights)
        for section in (params.audio, params.vision, params.text, params.sam2)
    )
    audio.parent.mkdir()
    tiny.make_vggish(audio)
    tiny.make_vit(vision)
    tiny.make_roberta(text)
    shutil.copy(tiny.make_sam2(tmp_path) / "model.safetensors", sam2)
    weights = {"audio": audio, "vision": vision, "text": text, "sam2": sam2}
    digests = {f"{section}.digest": digest(path) for section, path in weights.items()}
    write_profile(PROFILE, folder / "params.yaml", device_changes(PROFILE, 0) | SMALL | digests)
    monkeypatch.chdir(folder)
    return folder


def run(command: str) -> str:
    done = subprocess.run(
        command.split(),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.mark.slow
def test_queued_runs_have_data_and_weights_and_share_the_features(checkout):
    for command in DATA_AND_WEIGHTS:
        run(command)
    # Numbers that DVC writes as 1e-05.
    run("dvc exp run --queue -S train.learning_rate=1e-5,2e-5")
    try:
        told = run("dvc exp run --run-all")
    finally:
        run("dvc queue stop --kill")
    states = [line.split()[-1] for line in run("dvc queue status").splitlines()[1:3]]
    assert states == ["Success", "Success"], told
    for stage, times in {
        "index": 1,
        "audio": 1,
        "vision": 1,
        "text": 1,
        "embeddings": 1,
        "train": 2,
    }.items():
        assert told.count(f"Running stage '{stage}'") == times, told
