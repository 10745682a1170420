"""The command line as a newcomer meets it: its help, and faults in a line."""

import pytest
import torch
import typer
from typer.testing import CliRunner

from sam2love.cli import app

COMMANDS = sorted(typer.main.get_command(app).commands)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)), env={"COLUMNS": "100"})


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(command):
    told = " ".join(run(command, "--help").output.split())
    assert f"sam2love {command}" in told.partition("Example:")[2]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["predict", "gone.mp4", "--text", "x"], "gone.mp4: no such file; expected a video"),
        (["predict", "params.yaml", "--text", "x"], "params.yaml: not a video that can be read"),
        (["predict", "gone.mp4", "--text", "x", "--model", "gone"], "gone/config.json: no such"),
        (
            ["check", "gone"],
            "gone: no such folder; expected a data set, a folder with metadata.csv",
        ),
        (["inspect", "gone"], "gone: no such store"),
        (["score", "gone", "gone"], "gone: no such folder; expected <uid>/00000.png"),
        (["export", ".", "out"], "model/model.safetensors: no such file; run the stage 'train'"),
        (["export", "gone", "out"], "gone/params.yaml: no such file"),
        (["report", "."], "metrics.json: no such file; run the stage 'score'"),
    ],
    ids=lambda value: " ".join(value[:2]) if isinstance(value, list) else "",
)
def test_faults_are_one_line(run_folder, arguments, line):
    done = run(*arguments)
    assert done.exit_code == 1
    assert done.output.startswith(f"error: {line}")
    assert done.output.count("\n") == 1


def test_predict_without_a_sentence(run_folder):
    assert "Missing option '--text'" in run("predict", "params.yaml").output


def test_a_full_gpu_is_one_line(run_folder, monkeypatch):
    def full(*_, **__):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr("sam2love.predict.Predictor.from_pretrained", full)
    done = run("predict", "any.mp4", "--text", "x")
    assert (done.exit_code, done.output.count("\n")) == (1, 1)
    assert done.output.startswith("error: CUDA out of memory; lower")


def test_a_mistake_of_ours_keeps_its_traceback(run_folder, monkeypatch):
    def mistaken(*_, **__):
        raise RuntimeError("shapes differ")

    monkeypatch.setattr("sam2love.predict.Predictor.from_pretrained", mistaken)
    assert str(run("predict", "any.mp4", "--text", "x").exception) == "shapes differ"
