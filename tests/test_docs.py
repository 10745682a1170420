"""README.md and docs/: their links lead somewhere, and what they tell people to type works.

Commands are what stands in code, fenced or not, and begins with a program; and the blocks of
Python. Those of a page are run in its order, at the small size of `make verify`.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.test_queue import DATA_AND_WEIGHTS
from tests.test_sharing import ARTIFACT, PULLING, PUSHING, TAG, TRAINING
from tests.tiny import REPOSITORY
from tests.verify import clone
from tests.videos import make_video

LOG = "docs/log.md"
"""Tells what was typed then."""
DOCS = sorted(f"docs/{path.name}" for path in (REPOSITORY / "docs").glob("*.md"))
PAGES = ["README.md", *(page for page in DOCS if page != LOG)]
CODE = re.compile(r"^```(\w*)\n(.*?)^```|`([^`]+)`", re.M | re.S)
LINK = re.compile(r"\]\(([^)#\s]+)")
PATH = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
STANDS_FOR = {
    "ROOT": "mini/data",
    "MASKS": "predictions/masks.zarr",
    "OUT": "scores.json",
    "NAME": "cleaned",
    "RUN": ".",
    "FOLDER": "exported",
}

NOT_RUN = {
    "minutes; CI runs it": ["make repro", "make test"],
    "half an hour, at full size": [
        "make rehearsal",
        "python -m rehearsal --profile profiles/best-full.yaml",
        "python -m rehearsal --clips 12 --steps 4 --out rehearsal.json",
    ],
    "minutes; run when what it makes is to change": [
        "make bench",
        "python -m mini.pretrain_clip",
    ],
    "tests too slow for every day": ["pytest -m slow"],
    "runs what is here": ["make docs"],
    "runs all; the fixture `checkout` does": ["python -m benchmarks.stages"],
    "minutes; tests/test_benchmarks.py does": [
        "ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=ALL "
        "python -m benchmarks.precision /tmp/half",
        "python -m benchmarks.precision /tmp/bits7 --keep-bits 7",
    ],
    "minutes; trains again": ["dvc repro --force --single-item train"],
    "tests/test_release.py does": ["pip wheel --no-deps ."],
    "tests/prediction/test_demo.py does": ["sam2love demo"],
    "tests/convert does, on data of its own": [
        "sam2love convert avsbench Single-source data/s4 --frames 5",
        "sam2love convert avsbench AVSS data/avss",
        "sam2love convert ref-youtube-vos Ref-YouTube-VOS data/rvos",
        "sam2love convert mevis MeViS data/mevis",
    ],
    "tests/compare/test_paired.py does": [
        "sam2love report runs/none runs/mean --compare runs/default",
    ],
    "tests/test_queue.py does": DATA_AND_WEIGHTS,
    "needs experiments": [
        "dvc get . scores --rev NAME --out runs/none/seed1/scores",
        "cp -r scores runs/none/seed1",
    ],
    "needs the repository's address": ["git clone <this repository>"],
    "needs Ref-AVS": ["cp profiles/paper.yaml params.yaml"],
    "downloads": [
        'pip install "torch<2.15" torchvision setuptools wheel',
        "SAM2_BUILD_CUDA=0 pip install --no-build-isolation sam2",
        "pip install 'sam2love[demo]'",
        "pip install 'sam2love[deepspeed]'",
        "pip install 'sam2love[tensorboard]'",
        "sam2love weights --params profiles/paper.yaml",
    ],
    "tests/test_sharing.py does": [*PUSHING, *PULLING, *TRAINING, TAG, ARTIFACT],
    "needs two machines": [
        "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-endpoint HOST:29500 "
        "-m stages.vision index features/vision.zarr"
    ],
    "begins with a command, and is none": [
        "cp -r",
        "kill -9",
        "sam2love check",
        "sam2love convert",
        "sam2love export",
        "sam2love score",
    ],
    "serves until it is stopped": ["tensorboard --logdir tensorboard"],
    "its value is what the page adds": ["dvc exp run -S fusion.strategy=all"],
    "trainings by the dozen; tests/test_ablations.py reads the lines": [
        "dvc exp run --run-all",
        "dvc exp run --queue -S train.seed=1,2,3",
        "dvc exp run --queue -S train.seed=1,2,3,4,5 -S fusion.order=backward,forward",
        "dvc exp run --queue -S propagate.tracker=trained,pretrained",
        "dvc exp run --queue -S fusion.history=previous,none",
        "dvc exp run --queue -S vision.weights=$CLIP -S vision.digest=$DIGEST "
        "-S text.weights=$CLIP -S text.digest=$DIGEST",
        "dvc exp run --queue -S fusion.history=none -S fusion.layers=1,6,12",
        "dvc exp run --queue -S fusion.history=none -S fusion.seg_tokens=1,4,8",
        "dvc exp run --queue -S fusion.history=none -S fusion.strategy=token,mean",
        "dvc exp run --queue -S fusion.history=none -S sam2.train_mask_decoder=false,true "
        "-S sam2.train_prompt_encoder=false,true",
        "dvc exp run --queue -S 'fusion.modalities=[audio,text,vision],[text,vision],"
        "[audio,vision],[audio,text]'",
        "dvc exp run --queue -S fusion.propagation=true,false",
        "dvc exp run --queue -S train.seed=1,2,3 -S fusion.strategy=joint "
        "-S fusion.trajectories=true,false",
        "dvc exp run --queue -S train.seed=1,2,3 -S fusion.frame=first",
        "dvc exp run --queue -S train.seed=1,2,3 -S propagate.tracker=trained",
    ],
}
REASONS = {command: reason for reason, commands in NOT_RUN.items() for command in commands}


def read(page: str) -> str:
    return (REPOSITORY / page).read_text(encoding="utf-8")


def commands(page: str) -> list[list[str]]:
    """What to run for each command or block of Python of a page, each once."""
    found: dict[str, list[str]] = {}
    for language, block, inline in CODE.findall(read(page)):
        if language == "python":
            found[block] = [sys.executable, "-c", block]
        lines = [" ".join(inline.split())] if inline else block.splitlines() * (not language)
        for line in lines:
            command = line.split("  #")[0].strip()
            program, _, arguments = command.partition(" ")
            if arguments and shutil.which(program, path=PATH):
                found[command] = ["bash", "-euo", "pipefail", "-c", _filled_in(command)]
    return [run for command, run in found.items() if command not in REASONS]


def _filled_in(command: str) -> str:
    return re.sub(r"\b[A-Z]+\b", lambda word: STANDS_FOR.get(word[0], word[0]), command)


def run(command: list[str], checkout: Path) -> str:
    env = os.environ | {"PATH": PATH, "PYTHONPATH": str(checkout)}
    done = subprocess.run(command, cwd=checkout, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command[-1]}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone in which the pipeline ran, timed as docs/performance.md says, and a clip.mp4."""
    folder = clone(tmp_path_factory.mktemp("docs") / "checkout")
    table = run([sys.executable, "-m", "benchmarks.stages"], folder)
    assert {"index", "train", "report", "all"} <= set(re.findall(r"^\| (\w+) \|", table, re.M))
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 256, (3, 48, 64, 3), np.uint8)
    sound = rng.normal(0, 0.1, (1, 48_000)).astype(np.float32)
    make_video(folder / "clip.mkv", pictures, sound=sound).rename(folder / "clip.mp4")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_tells_people_to_type_works(page, checkout):
    # What another page had written there: `sam2love predict` never writes over anything.
    shutil.rmtree(checkout / "clip-masks", ignore_errors=True)
    for command in commands(page):
        run(command, checkout)


def test_every_reason_is_for_a_command_that_stands_there():
    code = " ".join(" ".join(read(page).split()) for page in PAGES)
    assert [command for command in REASONS if command not in code] == []


@pytest.mark.parametrize("page", [*PAGES, LOG, "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_lead_somewhere(page):
    folder = (REPOSITORY / page).parent
    targets = [target for target in LINK.findall(read(page)) if "://" not in target]
    assert [target for target in targets if not (folder / target).exists()] == []
