"""The output of the stage, and faults reported in one line."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sam2love.dataset.index import read_index
from stages import index
from tests import tiny
from tests.verify import environment


def test_writes_the_index(refavs_root, tmp_path, capsys):
    index.main(refavs_root, tmp_path / "index")
    printed = capsys.readouterr().out
    assert "9 clips (5 with distinct frames), expressions: train 8, val 3" in printed
    assert "note: metadata.csv rows 12, 13: they share the uid '--seenD_1_2_car_1'" in printed
    assert len(read_index(tmp_path / "index").clips) == 9
    assert len(read_index(tmp_path / "index").families) == len(
        {tiny._row(*row)[1] for row in tiny.ROWS}
    )


def test_families_are_optional(own_refavs_root, tmp_path):
    index.main(own_refavs_root, tmp_path / "index")
    assert read_index(tmp_path / "index").families.empty
    assert read_index(tmp_path / "index").kinds.empty


def test_kinds_of_val_are_in_the_index(own_refavs_root, tmp_path):
    lines = "uid,kinds\nvidC_1_2_hair-dryer_1,seen\nvidC_1_2_hair-dryer_2,unseen\n"
    (own_refavs_root / "kinds.csv").write_text(lines)
    index.main(own_refavs_root, tmp_path / "index")
    assert read_index(tmp_path / "index").kinds["kinds"].tolist() == ["seen", "unseen"]


def test_a_fault_raises_before_anything_is_written(own_refavs_root, tmp_path):
    (own_refavs_root / "metadata.csv").unlink()
    with pytest.raises(FileNotFoundError):
        index.main(own_refavs_root, tmp_path / "index")
    assert not (tmp_path / "index").exists()


def run_stage(folder: Path, root: object) -> subprocess.CompletedProcess:
    """Run the stage as DVC does, with data.root in params.yaml."""
    (folder / "params.yaml").write_bytes(tiny.DEFAULT_PARAMS.read_bytes())
    tiny.change_params(folder / "params.yaml", {"data.root": str(root)})
    command = [sys.executable, "-m", "stages.index", "index"]
    environment = os.environ | {"PYTHONPATH": str(tiny.REPOSITORY)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


ROOTS = ["my data", "it's", 'a "b"', "-data", "--help", "$HOME", "`id`", "a;b&c|d>(e)", "ü\\é #"]


@pytest.mark.parametrize("root", ROOTS)
def test_root_may_have_any_name(own_refavs_root, tmp_path, root):
    own_refavs_root.rename(tmp_path / root)
    done = run_stage(tmp_path, root)
    assert done.returncode == 0, done.stderr
    assert "9 clips" in done.stdout
    assert not read_index(tmp_path / "index").clips.empty


@pytest.mark.slow
def test_root_may_have_any_name_in_dvc(own_refavs_root, tmp_path):
    root = """it's my "data" $HOME ${HOME} `id` ;&|>( ü\\é #"""
    for name in ("stages", "sam2love"):
        shutil.copytree(tiny.REPOSITORY / name, tmp_path / name)
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(tiny.REPOSITORY / name, tmp_path)
    own_refavs_root.rename(tmp_path / root)
    tiny.change_params(tmp_path / "params.yaml", {"data.root": root})
    for command in ("dvc init --quiet --no-scm", "dvc repro index"):
        done = subprocess.run(
            command.split(), cwd=tmp_path, env=environment(), capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
    assert "9 clips" in done.stdout


def test_the_command_reports_a_fault_in_one_line(tmp_path):
    done = run_stage(tmp_path, tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}/metadata.csv: no such file")
    assert len(done.stderr.splitlines()) == 1
