"""Stage report and the command of that name: the same page of the same run."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from sam2love.cli import app
from stages import report
from tests.made_run import make_run


@pytest.fixture(scope="module")
def made_run(refavs_root, tmp_path_factory):
    return make_run(refavs_root, tmp_path_factory.mktemp("made") / "run")


def run(root: Path, folder: Path) -> bytes:
    inputs = (folder / name for name in ("index", "predictions", "scores", "model", "metrics.json"))
    report.main(root, *inputs, folder / "report")
    return (folder / "report" / "index.html").read_bytes()


def test_writes_a_page(refavs_root, made_run, capsys):
    html = run(refavs_root, made_run)
    assert html.startswith(b"<!doctype html>")
    assert html.rstrip().endswith(b"</html>")
    assert "index.html, 8 film strips" in capsys.readouterr().out


def test_the_command_writes_the_same_page(refavs_root, made_run, tmp_path):
    told = CliRunner().invoke(app, ["report", str(made_run), "--out", str(tmp_path / "page")])
    assert told.exit_code == 0, told.output
    assert (tmp_path / "page" / "index.html").read_bytes() == run(refavs_root, made_run)


def test_the_command_tells_a_fault_in_one_line(tmp_path):
    told = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert told.exit_code == 1
    assert (
        told.stderr
        == f"error: {tmp_path}/params.yaml: no such file; run from the repository's root\n"
    )
