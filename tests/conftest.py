"""Fixtures that every test may ask for; tests/tiny.py makes what they hand out."""

import shutil
from pathlib import Path

import pytest

from tests import tiny


@pytest.fixture(scope="session")
def refavs_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny data set in the official layout, shared by all tests: read it, never change it."""
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


@pytest.fixture
def own_refavs_root(refavs_root: Path, tmp_path: Path) -> Path:
    """A copy of the same data set, without families, for a test that damages it."""
    root = shutil.copytree(refavs_root, tmp_path / "refavs")
    (root / "families.csv").unlink()
    return root
