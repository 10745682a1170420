"""How a stage's command reports faults, and that a stage's bytes are reproducible."""

import importlib
import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

import stages
from sam2love.stores import store
from tests import tiny
from tests.stores.test_store import contents


def run(main, monkeypatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["stage", *arguments])
    stages.run(main)


def test_errors_of_our_code_are_one_line(monkeypatch):
    def main() -> None:
        raise ValueError("file: what; remedy")

    main.__code__ = main.__code__.replace(co_filename="/x/stages/any.py")
    with pytest.raises(SystemExit, match=r"^error: file: what; remedy$"):
        run(main, monkeypatch)


def test_errors_of_the_system_are_one_line(monkeypatch):
    def main() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(SystemExit, match="No space left on device"):
        run(main, monkeypatch)


def test_a_bug_keeps_its_traceback(monkeypatch):
    def main() -> None:
        int("no number")

    main.__code__ = main.__code__.replace(co_filename="/x/other/any.py")
    with pytest.raises(ValueError, match="invalid literal"):
        run(main, monkeypatch)


@pytest.mark.parametrize("stage", ["audio", "vision", "text", "embeddings"])
def test_features_are_reproducible(stage, run_folder, refavs_root):
    root = [] if stage == "text" else [refavs_root]
    main = importlib.import_module(f"stages.{stage}").main
    contents = []
    for run_number in (1, 2):
        out = run_folder / f"features_{run_number}" / "any.zarr"
        main(*root, run_folder / "index", out)
        assert store.FeatureStore.open(out).verify() == []
        files = sorted(path for path in out.rglob("*") if path.is_file())
        contents.append({str(path.relative_to(out)): path.read_bytes() for path in files})
    assert contents[0] == contents[1]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("stage", "arguments"),
    [("propagate", ["index", "features", "pretrained"]), ("baselines", ["index", "features"])],
)
def test_two_processes_give_the_masks_of_one_bit_for_bit(
    stage, arguments, first_frame_features, model_folder
):
    script = Path("small_shards.py")  # so that each process has several, and clips span two
    script.write_text(
        "from sam2love import segmentation\n"
        "segmentation.ROWS_PER_SHARD = 3\n"
        f"from stages import {stage}, run\n"
        f"run({stage}.main, root=True)\n"
    )
    torchrun = ["torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for out, launched in (("one.zarr", []), ("two.zarr", ["-m", *torchrun])):
        command = [sys.executable, *launched, str(script), *arguments, out]
        environment = os.environ | {"PYTHONPATH": str(tiny.REPOSITORY)}
        subprocess.run(command, env=environment, check=True)
    assert len(store.FeatureStore.open("one.zarr")) > 3
    assert contents(Path("one.zarr")) == contents(Path("two.zarr"))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="only x86-64's instructions are capped")
def test_instructions_that_only_some_processors_have_are_off():
    script = (
        "import stages, torch; from numpy._core._multiarray_umath import __cpu_features__ as has; "
        "print(torch.backends.cpu.get_cpu_capability(), has['X86_V4'])"
    )
    bare = {name: value for name, value in os.environ.items() if name not in stages._INSTRUCTIONS}
    output = subprocess.run(
        [sys.executable, "-c", script], env=bare, capture_output=True, text=True, check=True
    ).stdout
    assert output.split()[:2] == ["AVX2", "False"]
