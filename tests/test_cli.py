"""The command line: its help and its one-line errors."""

import os
import subprocess
import sys
from importlib.metadata import version

import pytest
import torch
import typer
from typer.testing import CliRunner

from sam2love.cli import app
from tests import tiny

EXAMPLE = tiny.REPOSITORY / "sam2love/shipped/example.mp4"
COMMANDS = sorted(typer.main.get_command(app).commands)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "100"})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    printed = " ".join(run(command, "--help").output.split())
    assert f"sam2love {command}" in printed.partition("Example:")[2]


@pytest.mark.parametrize("name", COMMANDS)
def test_help_is_printed_completely(name):
    printed = " ".join(run(name, "--help").output.split())
    command = typer.main.get_command(app).commands[name]
    for text in (command.help, *(getattr(option, "help", None) for option in command.params)):
        assert " ".join((text or "").split()) in printed


@pytest.mark.parametrize("module", ["sam2love", "sam2love.cli"])
def test_python_m_runs_the_same_command(module, tmp_path):
    def python(*arguments):
        command = [sys.executable, "-m", module, *arguments]
        env = os.environ | {"PYTHONPATH": str(tiny.REPOSITORY)}
        return subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)

    assert python("--version").stdout == f"sam2love {version('sam2love')}\n"
    failed = python("check", "gone")
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: gone: no such folder")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["predict", "gone.mp4", "--text", "x"], "gone.mp4: no such file; expected a video"),
        (
            ["predict", "params.yaml", "--text", "x"],
            "params.yaml: not a video that FFmpeg can read",
        ),
        (["predict", ".", "--text", "x"], ".: a folder; expected a video file"),
        (["predict", EXAMPLE, "--text", "x", "--model", "gone"], "gone/config.json: no such"),
        (["predict", EXAMPLE, "--text", "x", "--device", "gpu"], "device 'gpu': not on this"),
        (["predict", EXAMPLE, "--text", "x", "--out", "index"], "index: already exists"),
        (["predict", EXAMPLE, "--text", "x", "--out", "params.yaml/a/b"], "params.yaml/a/b: can't"),
        (["predict", EXAMPLE, "--text", "x", "--text", " \t"], r"' \t': empty sentence"),
        (["check", "gone"], "gone: no such folder; expected a data set"),
        (["check", "params.yaml"], "params.yaml: no such folder; expected a data set"),
        (["check", "index"], "index/metadata.csv: no such file; expected a data set"),
        (["inspect", "gone"], "gone: no such store"),
        (["score", "gone", "gone"], "gone: no such folder; expected "),
        (["export", ".", "out"], "model/model.safetensors: no such file; run the stage 'train'"),
        (["export", "gone", "out"], "gone/params.yaml: no such file"),
        (["report", "."], "metrics.json: no such file; run the stage 'score'"),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else "",
)
def test_errors_are_one_line(run_folder, arguments, line):
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith(f"error: {line}")
    assert done.output.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        [b"gone.mp4", b"--text", b"x"],
        [b"caf\xe9.mp4", b"--text", b"x"],
        [os.fsencode(EXAMPLE), b"--text", b"the caf\xe9 sign"],
        [os.fsencode(EXAMPLE), b"--text", b""],
        [os.fsencode(EXAMPLE), b"--text", b"x", b"--out", b"."],
    ],
    ids=str,
)
def test_bad_requests_are_refused_before_torch_is_loaded(arguments):
    code = (
        "import sys; from sam2love.cli import app\n"
        "try: app()\nfinally: print('torch' in sys.modules)"
    )
    command = [sys.executable, "-c", code, b"predict", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tiny.REPOSITORY)
    assert done.stdout == "False\n"
    assert done.returncode == 1
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1


def test_export_overwrites_nothing(model_folder, run_folder):
    (run_folder / "model").mkdir()
    (model_folder / "model.safetensors").rename(run_folder / "model/model.safetensors")
    (run_folder / "out").mkdir()
    assert run("export", ".", "out").exit_code == 0  # into an empty folder
    (run_folder / "out/README.md").write_text("an afternoon's work")
    before = sorted(path.name for path in run_folder.iterdir())
    for out in ("out", "params.yaml"):
        done = run("export", ".", out)
        assert (done.exit_code, done.output.count("\n")) == (1, 1)
        assert f"error: {out}: already exists; remove it or write elsewhere" in done.output
    assert (run_folder / "out/README.md").read_text() == "an afternoon's work"
    assert sorted(path.name for path in run_folder.iterdir()) == before


def test_predict_requires_a_sentence(run_folder):
    assert "Missing option '--text'" in run("predict", "params.yaml").output


def test_out_of_gpu_memory_is_one_line(run_folder, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("sam2love.prediction.predictor.Predictor.from_pretrained", full)
    done = run("predict", EXAMPLE, "--text", "x")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith("error: CUDA out of memory; lower")


def test_internal_errors_keep_their_traceback(run_folder, monkeypatch):
    def mistaken(*_, **__):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("sam2love.prediction.predictor.Predictor.from_pretrained", mistaken)
    assert str(run("predict", EXAMPLE, "--text", "x").exception) == "shapes differ"
