"""What one person has pushed, another takes from DVC's storage instead of computing it again."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml

from tests import tiny
from tests.verify import clone, environment, run

PUSHING = [
    "dvc remote add --default storage FOLDER",
    'git commit --all --message "Features and model"',
    "dvc push",
]
PULLING = ["dvc pull", "dvc repro"]
TRAINING = [
    "dvc pull index audio vision text embeddings labels",
    "dvc exp run --allow-missing -S fusion.layers=2 train",
]
TAG = 'git tag --annotate sam2love@v1.0.0 --message "..."'
ARTIFACT = "dvc artifacts get REPOSITORY sam2love"
"""docs/stores.md has these lines."""
MODEL = "model/model.safetensors"
WITHOUT_A_NAME = {
    f"GIT_{who}_{what}": "test@localhost"
    for who in ("AUTHOR", "COMMITTER")
    for what in ("NAME", "EMAIL")
}


def tell(command: str, folder: Path, **stands_for: Path) -> str:
    """Run a line of the docs in a folder; return what it printed."""
    for word, path in stands_for.items():
        command = command.replace(word, str(path))
    env = os.environ | environment() | WITHOUT_A_NAME
    done = subprocess.run(
        command,
        shell=True,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout[-4000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def pushed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout in which the pipeline ran, with its outputs pushed."""
    folder = tmp_path_factory.mktemp("sharing")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tiny.REPOSITORY)
        checkout = clone(folder / "checkout")
    run(checkout)
    for command in PUSHING:
        tell(command, checkout, FOLDER=folder / "storage")
    return checkout


def clone_without_data(pushed: Path, folder: Path) -> Path:
    tell(f"git clone --quiet {pushed} {folder}", pushed)
    assert not any((folder / place).exists() for place in ("mini/data", "index", MODEL))
    return folder


@pytest.mark.slow
def test_after_a_pull_nothing_runs(pushed, tmp_path):
    colleague = clone_without_data(pushed, tmp_path / "colleague")
    told = [tell(command, colleague) for command in PULLING]
    stages = yaml.safe_load((pushed / "dvc.yaml").read_text())["stages"]
    skipped = [f"Stage '{stage}' didn't change, skipping" for stage in stages]
    assert [line for line in skipped if line not in told[-1]] == []
    assert "Running stage" not in told[-1]
    assert tell("git status --short", colleague) == ""


@pytest.mark.slow
def test_features_are_enough_to_train_on(pushed, tmp_path):
    colleague = clone_without_data(pushed, tmp_path / "colleague")
    told = [tell(command, colleague) for command in TRAINING]
    ran = [line for line in told[-1].splitlines() if line.startswith("Running stage")]
    assert ran == ["Running stage 'train':"]
    assert (colleague / MODEL).is_file()
    assert not (colleague / "mini/data").exists()


@pytest.mark.slow
def test_the_model_is_an_artifact(pushed, tmp_path):
    tell(TAG, pushed)
    tell(ARTIFACT, tmp_path, REPOSITORY=pushed)
    assert (tmp_path / "model.safetensors").read_bytes() == (pushed / MODEL).read_bytes()
