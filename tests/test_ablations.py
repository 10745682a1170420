"""docs/ablations.md: DVC accepts every line, with valid values that fill the paper's tables."""

import os
import re
import shlex
import shutil

import pytest
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from sam2love.compare.paper import TABLES
from sam2love.params import load_params
from tests import tiny
from tests.test_queue import DATA_AND_WEIGHTS

DOC = (tiny.REPOSITORY / "docs/ablations.md").read_text(encoding="utf-8")
LINES = re.findall(r"^dvc exp run --queue (.*)$", DOC, re.M)


def runs(line: str, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Return the values that each run of a line sets, as DVC parses them."""
    monkeypatch.setenv("CLIP", "openai/clip-vit-base-patch16@refs/pr/10")
    monkeypatch.setenv("DIGEST", "0123456789abcdef" * 4)
    words = shlex.split(os.path.expandvars(line))
    assert words[::2] == ["-S"] * (len(words) // 2)
    return [sweep["params.yaml"] for sweep in get_hydra_sweeps({"params.yaml": words[1::2]})]


def written(run: list[str]) -> dict[str, str]:
    """Return the values as `dvc exp show` prints them: Hydra writes True, JSON true."""
    return dict(assignment.lower().split("=", 1) for assignment in run)


@pytest.mark.parametrize("line", LINES)
def test_every_run_of_a_line_is_valid(line, tmp_path, monkeypatch):
    for run in runs(line, monkeypatch):
        shutil.copy(tiny.DEFAULT_PARAMS, tmp_path / "params.yaml")
        apply_overrides(tmp_path / "params.yaml", run)
        load_params(tmp_path / "params.yaml")


def test_the_lines_cover_every_row_of_the_paper(monkeypatch):
    defaults = {"vision.weights": "weights/mini/vit", "text.weights": "weights/mini/roberta"}
    defaults |= {"fusion.history": "previous"}
    params_of_runs = [defaults | written(run) for line in LINES for run in runs(line, monkeypatch)]
    for table in TABLES:
        rows = [table.row_of(params) for params in params_of_runs]
        assert all(row in rows for row in table.rows), table.title


def test_one_modality_is_left_out_at_a_time(monkeypatch):
    (line,) = (line for line in LINES if "modalities" in line)
    sizes = [len(run[0].split(",")) for run in runs(line, monkeypatch)]
    assert sizes == [3, 2, 2, 2]


def test_every_command_of_the_page_is_tested():
    """Queueing is tested above and in tests/test_queue.py, comparing in tests/compare."""
    blocks = re.findall(r"^```\n(.*?)^```", DOC, re.M | re.S)
    commands = {command for block in blocks for command in block.splitlines()}
    assert commands - {f"dvc exp run --queue {line}" for line in LINES} == {
        *DATA_AND_WEIGHTS,
        "dvc exp run --run-all",
        "dvc exp show --json | sam2love report --compare -",
        "dvc get . scores --rev NAME --out runs/none/seed1/scores",
        "sam2love report runs/none runs/mean --compare runs/default",
    }
