"""Stage report and the command of the same name, which write the same page."""

from pathlib import Path

from typer.testing import CliRunner

from sam2love.cli import app
from stages import report


def run(root: Path, folder: Path, out: Path) -> bytes:
    names = ("index", "predictions", "scores", "model", "metrics.json", "diagnostics.csv")
    report.main(root, *(folder / name for name in names), out)
    return (out / "index.html").read_bytes()


def test_writes_a_page(refavs_root, finished_run, tmp_path, capsys):
    html = run(refavs_root, finished_run, tmp_path / "report")
    assert html.startswith(b"<!doctype html>")
    assert html.rstrip().endswith(b"</html>")
    assert "index.html, 8 film strips" in capsys.readouterr().out


def test_the_command_writes_the_same_page(refavs_root, finished_run, tmp_path):
    done = CliRunner().invoke(app, ["report", str(finished_run), "--out", str(tmp_path / "page")])
    assert done.exit_code == 0, done.output
    written = (tmp_path / "page" / "index.html").read_bytes()
    assert written == run(refavs_root, finished_run, tmp_path / "report")


def test_the_command_reports_a_fault_in_one_line(tmp_path):
    done = CliRunner().invoke(app, ["report", str(tmp_path)])
    assert done.exit_code == 1
    assert (
        done.stderr
        == f"error: {tmp_path}/params.yaml: no such file; run from the repository's root\n"
    )
