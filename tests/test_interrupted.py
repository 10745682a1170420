"""Real extractions, killed, orphaned, out of disk or shared: the bytes of an undisturbed run."""

import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml

from sam2love.stores.store import FeatureStore
from tests import tiny
from tests.stores.test_store import contents

REPOSITORY = Path(__file__).parent.parent
OUT = Path("features/sam2.zarr")
STAGING = OUT.parent / ".staging" / OUT.name


@pytest.fixture
def command(run_folder) -> list[str]:
    """The stage with the most shards on the tiny data, to be started in the run's folder."""
    return [sys.executable, "-m", "stages.embeddings", "index", str(OUT)]


def start(command: list[str], *, rank: int = 0, world: int = 1, **options) -> subprocess.Popen:
    environment = os.environ | {
        "PYTHONPATH": os.fspath(REPOSITORY),
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "PYTHONDONTWRITEBYTECODE": "1",  # on a full disk half a module would stay, for later runs
    }
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command, env=environment, stdout=pipe, stderr=pipe, text=True, **options
    )


def wait_until(condition, *, seconds: float = 600) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def kill_and_go_on(command: list[str], *, kills: int, seed: int, ranks: int) -> None:
    """Kill the stage alone and with its whole process group in turns, then let ranks finish it."""
    rng = np.random.default_rng(seed)
    for kill in range(kills):
        whole_group = bool(kill % 2)
        process = start(command, start_new_session=whole_group)
        wait_until(lambda p=process: STAGING.exists() or p.poll() is not None)
        time.sleep(rng.uniform(0, 0.6))
        with suppress(ProcessLookupError):  # it had ended
            (os.killpg if whole_group else os.kill)(process.pid, signal.SIGKILL)
        process.communicate()
        assert not OUT.exists() or FeatureStore.open(OUT).verify() == []
    processes = [start(command, rank=rank, world=ranks) for rank in range(ranks)]
    told = [process.communicate() for process in processes]
    assert [process.returncode for process in processes] == [0] * ranks, told


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [1, 2])
def test_killed_many_times_it_ends_the_same(command, feature_folder, ranks):
    kill_and_go_on(command, kills=6, seed=ranks, ranks=ranks)
    assert contents(OUT) == contents(feature_folder / "sam2.zarr")
    assert not STAGING.exists()


@contextmanager
def frame_withheld(root: Path) -> Iterator[None]:
    """Within, the frame read last is a pipe nobody writes to: a stage waits there."""
    # The null clip's name sorts before that of the clip it repeats, whose frames are thus not read.
    frame = root / "media/null_m-Ünseen E_30_40/frames/9.jpg"
    hidden = frame.rename(frame.with_suffix(".hidden"))
    os.mkfifo(frame)
    try:
        yield
    finally:
        hidden.replace(frame)


@pytest.mark.slow
@pytest.mark.parametrize(("shell", "processes"), [("/bin/sh", 1), ("/bin/bash", 2)])
def test_dvc_killed_takes_its_stage_along_and_the_next_ends_the_same(
    command, refavs_root, feature_folder, shell, processes, monkeypatch
):
    tiny.change_params(Path("params.yaml"), {"runtime.processes": processes})
    monkeypatch.setenv("SHELL", shell)  # what DVC starts stages with
    stage = {"cmd": "exec " + shlex.join(command), "deps": ["index"], "outs": [str(OUT)]}
    Path("dvc.yaml").write_text(yaml.safe_dump({"stages": {"embeddings": stage}}))
    dvc = [sys.executable, "-m", "dvc"]
    subprocess.run([*dvc, "init", "--no-scm", "--quiet"], check=True)
    with frame_withheld(refavs_root):
        killed = start([*dvc, "repro"])
        wait_until(STAGING.exists)
        stages = [child.pid for child in psutil.Process(killed.pid).children(recursive=True)]
        assert len(stages) == (1 if processes == 1 else 1 + processes)
        killed.kill()
        killed.wait()
        wait_until(lambda: not any(map(is_running, stages)), seconds=10)
    assert not OUT.exists()
    again = start([*dvc, "repro"])
    told = again.communicate()
    assert again.returncode == 0, told
    assert contents(OUT) == contents(feature_folder / "sam2.zarr")


@pytest.mark.slow
def test_several_processes_fill_one_store_and_make_good_a_killed_one(
    command, refavs_root, feature_folder
):
    tiny.change_params(Path("params.yaml"), {"runtime.processes": 2})
    with frame_withheld(refavs_root):
        process = start(command)
        wait_until(STAGING.exists)
        ranks = {p.environ().get("RANK"): p for p in psutil.Process(process.pid).children()}
        ranks["1"].kill()
        told = process.communicate()
    assert process.returncode != 0, told
    assert not OUT.exists()
    again = start(command)
    told = again.communicate()
    assert again.returncode == 0, told
    assert contents(OUT) == contents(feature_folder / "sam2.zarr")


def test_a_stage_dies_with_what_started_it(run_folder):
    script = "import stages, time\ndef main(): print('started', flush=True); time.sleep(60)\n"
    line = f'"{sys.executable}" -c "{script}stages.run(main)" & echo $!; wait'
    shell = start(["sh", "-c", line])
    stage = int(shell.stdout.readline())
    assert shell.stdout.readline() == "started\n"
    shell.kill()
    shell.wait()
    wait_until(lambda: not is_running(stage), seconds=2)


def is_running(pid: int) -> bool:
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"  # whoever adopted it has yet to look


LARGE = """
import numpy as np, stages
from tests.stores import test_store

def main() -> None:
    specs = [test_store.ArraySpec("values", (64, 64), "float16", 4, "made up")]
    encode = lambda ids: {"values": np.ones((len(ids), 64, 64))}
    test_store.fill("large.zarr", encode, specs=specs)

stages.run(main)
"""


def test_a_full_disk_is_a_line_and_loses_nothing(tmp_path):
    script = tmp_path / "large.py"
    script.write_text(LARGE)
    for limit in (100, 8000):  # bytes a file may have: before, and in, the first shard
        full = partial(resource.setrlimit, resource.RLIMIT_FSIZE, (limit, limit))
        process = start([sys.executable, "large.py"], cwd=tmp_path, preexec_fn=full)
        _, errors = process.communicate()
        assert process.returncode == 1
        assert errors.splitlines()[-1].startswith("error: large.zarr: can't be written (")
        assert errors.splitlines()[-1].endswith("put that right, then run the stage again")
        assert "Traceback" not in errors
        assert not (tmp_path / "large.zarr").exists()
    process = start([sys.executable, "large.py"], cwd=tmp_path)
    process.communicate()
    assert process.returncode == 0
    store = FeatureStore.open(tmp_path / "large.zarr")
    assert store.verify() == []
    assert store.read_all("values").all()
