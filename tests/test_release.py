"""What is released: the source package, the wheel made of it, and what works where only that is."""

import json
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import numpy as np
import pytest

from tests import tiny
from tests.videos import make_video

pytestmark = pytest.mark.slow


def run(*command, **options) -> str:
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, made of the source package as an installer would."""
    folder = tmp_path_factory.mktemp("dist")
    code = "import sys; from setuptools.build_meta import build_sdist; build_sdist(sys.argv[1])"
    run(sys.executable, "-c", code, folder, cwd=tiny.REPOSITORY)
    (source,) = folder.glob("*.tar.gz")
    pip = [sys.executable, "-m", "pip", "--quiet"]
    run(*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", folder, source)
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """An environment that has this project from the wheel, and all else from the present one.

    A folder named in a .pth file is searched, but its own .pth files are not read: so the present
    environment's link to the checkout counts for nothing here.
    """
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, with_pip=False)
    present = [sysconfig.get_path("purelib"), sysconfig.get_path("platlib")]
    (site_packages,) = folder.glob("lib/python*/site-packages")
    (site_packages / "present.pth").write_text("\n".join(present) + "\n")
    pip = [sys.executable, "-m", "pip", "--quiet", "--python", folder / "bin/python"]
    run(*pip, "install", "--no-deps", "--no-index", wheel)
    return site_packages / "sam2love"


@pytest.fixture
def sam2love(installed, tmp_path, monkeypatch):
    """Runs `sam2love` as installed, in an empty folder."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    command = installed.parents[3] / "bin/sam2love"
    return lambda *arguments: run(command, *arguments, cwd=tmp_path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    folders = {"sam2love": "sam2love", "weights/mini": "sam2love/shipped/weights/mini"}
    expected = {
        f"{packed}/{path.relative_to(tiny.REPOSITORY / folder).as_posix()}"
        for folder, packed in folders.items()
        for path in (tiny.REPOSITORY / folder).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert names == expected


def test_predict(sam2love, tmp_path):
    """With the wheel's weights; README's command for the example is run by tests/test_docs.py."""
    pictures = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), np.uint8)
    video = make_video(tmp_path / "clip.mkv", pictures)
    told = sam2love("predict", video, "--text", "The blue square", "--out", "masks")
    assert '"The blue square" is shown in ' in told
    (sentence,) = json.loads((tmp_path / "masks/belief.json").read_text())["sentences"]
    masks = list((tmp_path / "masks" / sentence["masks"]).iterdir())
    assert len(masks) == len(sentence["beliefs"])


def test_check_and_score(sam2love, refavs_root, tmp_path):
    assert "test_u: 3 of 3 rows usable" in sam2love("check", refavs_root)
    for uid, fid in (("Ünseen E_30_40_harp_1", 1), ("Ünseen E_30_40_harp_2", 2)):
        truth = refavs_root / "gt_mask/Ünseen E_30_40" / f"fid_{fid}"
        shutil.copytree(truth, tmp_path / "masks" / uid)
    sam2love("score", "masks", refavs_root, "--json", "scores.json")
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["davis"]["test_u"] == {"J": 100, "F": 100, "J&F": 100}


def test_it_is_the_wheel_s_own(installed):
    python = installed.parents[3] / "bin/python"
    where = run(python, "-c", "import sam2love; print(sam2love.__file__)", cwd="/").strip()
    assert Path(where) == installed / "__init__.py"
