"""The doctor's lines, and the command's exit status."""

import subprocess
import sys

import pytest
from typer.testing import CliRunner

from sam2love import doctor, refavs
from sam2love.cli import app
from tests import tiny


def test_a_sound_data_set(refavs_root):
    lines, usable = doctor.examine(refavs_root)
    assert usable
    assert not [line for line in lines if line.startswith("fatal")]
    assert "train: 8 of 8 rows usable, 1 null, 3 clips, 5 texts" in lines
    assert "test_n: 3 of 3 rows usable, 3 null, 2 clips, 3 texts, 2 of them not in train" in lines
    assert "TODO: 1 rows, left out" in lines
    assert "9 clips in all, 5 with frames of their own" in lines
    assert "1 expressions mean several objects of their clip" in lines


def test_every_fault_has_its_line_and_the_rest_is_counted(own_refavs_root):
    refavs.frame_path(own_refavs_root, "vidA_0_10000", 3).unlink()
    refavs.audio_path(own_refavs_root, "vidC_1_2").write_bytes(b"")
    lines, usable = doctor.examine(own_refavs_root)
    assert not usable
    fatal = [line for line in lines if line.startswith("fatal")]
    assert len(fatal) == 2
    assert any("vidA_0_10000/frames/3.jpg: no such file" in line for line in fatal)
    assert any("vidC_1_2/audio.wav" in line for line in fatal)
    assert any(line.startswith("train: 3 of 8 rows usable") for line in lines)


def test_nothing_usable(tmp_path):
    tiny.write_metadata(tmp_path, [("a", "a_1_2_cat_1", "TODO", 0, "x")])
    lines, usable = doctor.examine(tmp_path)
    assert not usable
    assert not [line for line in lines if line.startswith("fatal")]


def test_the_command(refavs_root, own_refavs_root, tmp_path):
    runner = CliRunner()
    told = runner.invoke(app, ["check", str(refavs_root)])
    assert told.exit_code == 0
    assert "TODO: 1 rows, left out" in told.output
    refavs.frame_path(own_refavs_root, "vidA_0_10000", 3).unlink()
    assert runner.invoke(app, ["check", str(own_refavs_root)]).exit_code == 1
    told = runner.invoke(app, ["check", str(tmp_path / "gone")])
    assert told.exit_code == 1
    assert "metadata.csv: no such file" in told.output


@pytest.mark.parametrize("argument", ["--help", "check --help"])
def test_help_loads_nothing_heavy(argument):
    code = (
        "import sys; sys.argv = ['sam2love', *sys.argv[1:]]\n"
        "from sam2love.cli import app\n"
        "try: app()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pandas', 'cv2', 'zarr', 'sam2'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", code, *argument.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "Usage" in done.stdout
