"""Fixtures for all tests; most come from tests/tiny.py."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, settings

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index, write_index
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from stages import audio, embeddings, labels, text, vision
from tests import tiny
from tests.made_run import make_run
from tests.tiny import build_index

# A busy machine must not fail a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def refavs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set in the official layout, shared by all tests: never modify it."""
    return tiny.make_refavs(tmp_path_factory.mktemp("refavs"), families=True)


@pytest.fixture(scope="session")
def vggish_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random VGGish, .safetensors."""
    return tiny.make_vggish(tmp_path_factory.mktemp("weights") / "vggish.safetensors")


@pytest.fixture(scope="session")
def vit_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random timm ViT: config.json and model.safetensors."""
    return tiny.make_vit(tmp_path_factory.mktemp("vit"))


@pytest.fixture(scope="session")
def roberta_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random RoBERTa with its tokenizer."""
    return tiny.make_roberta(tmp_path_factory.mktemp("roberta"))


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLIP with its tokenizer and preprocessing."""
    return tiny.make_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random CLAP with its feature extractor."""
    return tiny.make_clap(tmp_path_factory.mktemp("clap"))


@pytest.fixture(scope="session")
def sam2_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mini SAM 2 with random weights: config.yaml and model.safetensors."""
    return tiny.make_sam2(tmp_path_factory.mktemp("sam2"))


@pytest.fixture
def run_folder(
    refavs_root: Path,
    vggish_file: Path,
    vit_folder: Path,
    roberta_folder: Path,
    sam2_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """The working directory of a run: params.yaml with the tiny encoders, and the tiny index."""
    encoders = {"vggish": vggish_file, "vit": vit_folder, "roberta": roberta_folder}
    folder = tmp_path / "run"
    folder.mkdir()
    tiny.write_params(folder / "params.yaml", refavs_root, **encoders, sam2=sam2_folder)
    write_index(build_index(refavs_root), folder / "index")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def feature_folder(
    refavs_root: Path,
    vggish_file: Path,
    vit_folder: Path,
    roberta_folder: Path,
    sam2_folder: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """The five stores of a run folder's encoders, with every frame of val and test cached.

    Shared by all tests: never modify it.
    """
    folder = tmp_path_factory.mktemp("features")
    encoders = {"vggish": vggish_file, "vit": vit_folder, "roberta": roberta_folder}
    cached = {"sam2.cache_test_frames": "all", "sam2.train_high_res_convs": False}
    tiny.write_params(folder / "params.yaml", refavs_root, **encoders, sam2=sam2_folder, **cached)
    write_index(build_index(refavs_root), folder / "index")
    with contextlib.chdir(folder):
        text.main(folder / "index", folder / "text.zarr")
        for stage in (audio, vision, labels):
            name = stage.__name__.rpartition(".")[2]
            stage.main(refavs_root, folder / "index", folder / f"{name}.zarr")
        embeddings.main(refavs_root, folder / "index", folder / "sam2.zarr")
    return folder


@pytest.fixture
def first_frame_features(run_folder: Path, refavs_root: Path, feature_folder: Path) -> Path:
    """The same stores without labels, and SAM 2's embeddings of first frames only."""
    folder = run_folder / "features"
    folder.mkdir()
    for name in ("audio", "vision", "text"):
        (folder / f"{name}.zarr").symlink_to(feature_folder / f"{name}.zarr")
    tiny.change_params(run_folder / "params.yaml", {"sam2.cache_test_frames": "first"})
    embeddings.main(refavs_root, run_folder / "index", folder / "sam2.zarr")
    return folder


@pytest.fixture
def frames_read(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """A list to which the key and number of each individually decoded frame are added."""
    read: list[tuple[str, int]] = []
    read_frame = refavs.read_frame

    def record(root: Path, key: str, t: int) -> np.ndarray:
        read.append((key, t))
        return read_frame(root, key, t)

    monkeypatch.setattr(refavs, "read_frame", record)
    return read


@pytest.fixture(scope="session")
def finished_run(refavs_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with everything that the report reads, shared by all tests: never modify it."""
    return make_run(refavs_root, tmp_path_factory.mktemp("made") / "run")


@pytest.fixture
def model_folder(run_folder: Path, feature_folder: Path) -> Path:
    """A random model for the tiny encoders, saved for from_pretrained."""
    small: dict[str, object] = {"fusion.dim": 16, "fusion.heads": 2, "fusion.layers": 1}
    tiny.change_params(run_folder / "params.yaml", small)
    params = load_params(run_folder / "params.yaml")
    torch.manual_seed(0)
    index = read_index(run_folder / "index")
    model = SAM2Love.build(params, **FeatureReader(feature_folder, index).dims)
    model.save_pretrained(run_folder / "pretrained")
    return run_folder / "pretrained"


@pytest.fixture
def own_refavs_root(refavs_root: Path, tmp_path: Path) -> Path:
    """A copy of the tiny data set, without families, for a test that damages it."""
    root = shutil.copytree(refavs_root, tmp_path / "refavs")
    (root / "families.csv").unlink()
    return root
