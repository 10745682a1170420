"""Run a profile of the paper's size from data to report, before downloading the data set.

    python -m rehearsal [--profile profiles/paper.yaml] [--clips 6] [--steps 1] [--out out.json]

Only the weights' digests, the number of steps and what the available devices demand differ from the
profile. The stages run in a scratch folder, by `dvc repro` or, without DVC, by the commands of
dvc.yaml. Prints the cost of each stage and an estimate for Ref-AVS (`estimate.py`).
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer
from ruamel.yaml import YAML

from benchmarks.machine import commit, processor
from rehearsal.estimate import VALIDATIONS, extrapolate, misfits, pace, validated
from sam2love.encoders.weights import digest, local_path
from sam2love.params import load_params, read_yaml

PROFILE = Path("profiles/paper.yaml")
DONE = re.compile(rb"\| (\d+)/\d+ \[")
"""The completed units in a progress bar."""


def main(
    profile: Annotated[Path, typer.Option(help="A profile of the paper's size.")] = PROFILE,
    clips: Annotated[int, typer.Option(help="Clips; by default 6 on a CPU, 64 on a GPU.")] = 0,
    steps: Annotated[int, typer.Option(help="Training steps; by default 1 or 30.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write after every stage.")] = None,
) -> None:
    """Run a profile of the paper's size on random weights and a few generated clips."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("error: terminated"))
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    gpus = gpu_memory("total")
    clips, steps = clips or (64 if gpus else 6), steps or (30 if gpus else 1)
    train = load_params(profile).train
    rows = train.batch_size * train.accumulation * train.processes
    with tempfile.TemporaryDirectory(suffix=".partial", dir=".") as name:
        folder = Path(name).resolve()
        # One grounding step, so that the pace of training is that of the dearer steps with masks.
        changes = {"train.grounding_steps": min(1, train.grounding_steps), "train.steps": steps}
        changes |= device_changes(profile, len(gpus))
        # A CPU takes minutes per row of val or test.
        prepare(profile, folder, changes, clips=clips, rows=8 if gpus else 1)
        print(f"{clips} clips; changed in {profile}: {changes}", flush=True)
        stages: dict[str, Any] = {}
        result: dict[str, Any] = {
            "commit": commit(),
            "profile": str(profile),
            "processor": processor(),
            "cores": os.cpu_count(),
            "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
            "gpu_memory": gpus,
            "disk": shutil.disk_usage(folder).free,
            "clips": clips,
            "changes": changes,
            "stages": stages,
        }
        for stage, command in commands(folder).items():
            measured = run(command, folder, typical=stage == "train")
            stages[stage] = measured | count(stage, measured["units"], folder)
            whole = extrapolate(stages, rows_trained=rows * (train.grounding_steps + train.steps))
            result |= {"whole": whole, "misfits": misfits(stages, whole, result)}
            if out:
                out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print(table(result))


def device_changes(profile: Path, gpus: int) -> dict[str, Any]:
    """Return the changes that let a profile run on fewer GPUs than it needs, by dotted name."""
    train = load_params(profile).train
    if gpus >= train.processes:
        return {}
    # On a GPU a step keeps the profile's number of rows; on a CPU it would take too long.
    accumulation = train.accumulation * train.processes if gpus else 1
    one = {"processes": 1, "engine": "ddp", "accumulation": accumulation}
    cpu = {} if gpus else {"runtime.device": "cpu", "runtime.threads": os.cpu_count()}
    return {f"train.{key}": value for key, value in one.items()} | {"runtime.processes": 1} | cpu


def prepare(profile: Path, folder: Path, changes: dict[str, Any], *, clips: int, rows: int) -> None:
    """Write code, data, weights and params.yaml; add the weights' digests to the changes."""
    for name in ("stages", "sam2love"):
        shutil.copytree(name, folder / name)
    shutil.copy("dvc.yaml", folder)
    python = folder / ".venv/bin/python"  # the commands look there first
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    write_profile(profile, folder / "params.yaml", changes)
    # In a process of its own, since a stage's peak memory starts at that of its parent.
    command = [sys.executable, "-m", "rehearsal.inputs", str(folder), str(clips), str(rows)]
    if subprocess.run(command).returncode:
        sys.exit("error: writing weights and clips failed; see the message above")
    for section in ("audio", "vision", "text", "sam2"):
        weights = getattr(load_params(profile), section).weights
        changes[f"{section}.digest"] = digest(folder / local_path(weights))
    write_profile(profile, folder / "params.yaml", changes)


def write_profile(profile: Path, path: Path, changes: dict[str, Any]) -> None:
    yaml = YAML()
    params = yaml.load(profile.read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, key = name.split(".")
        params[section][key] = value
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def commands(folder: Path) -> dict[str, str]:
    """Return the shell command of each stage in a folder, in order."""
    stages = read_yaml(folder / "dvc.yaml")["stages"]
    if shutil.which("dvc"):
        subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=folder, check=True)
        shutil.copy(".dvc/config", folder / ".dvc/config.local")
        return {name: f"exec dvc repro --single-item {name}" for name in stages}
    return {name: stage["cmd"] for name, stage in stages.items()}


def run(command: str, folder: Path, *, typical: bool) -> dict[str, Any]:
    """Run a stage and measure it; `memory` is its largest process's peak. `typical`: see `pace`."""
    print(f"> {command}", flush=True)
    marks: list[tuple[float, int]] = []
    start, unread = time.monotonic(), b""
    process = subprocess.Popen(command, shell=True, cwd=folder, stderr=subprocess.PIPE)
    assert process.stderr is not None
    try:
        with gpu_peaks() as peaks:
            while chunk := os.read(process.stderr.fileno(), 65536):
                os.write(sys.stderr.fileno(), chunk)
                unread += chunk
                while done := DONE.search(unread):
                    marks.append((time.monotonic() - start, int(done[1])))
                    unread = unread[done.end() :]
    finally:
        if sys.exception():
            # Popen.kill would reap a stage that is already dead, which leaves nothing to wait for.
            os.kill(process.pid, signal.SIGKILL)  # its children exit with it
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: the command above ended with status {process.returncode}")
    seconds = time.monotonic() - start
    return {
        "seconds": seconds,
        "pace": pace(marks, seconds, typical=typical),
        "units": max((done for _, done in marks), default=0),
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "memory": usage.ru_maxrss * 1024,
        "gpu_memory": peaks,
    }


def count(stage: str, units: int, folder: Path) -> dict[str, int]:
    """Count a stage's items, the clips whose later frames it encoded, and its outputs' bytes."""
    params = load_params(folder / "params.yaml")
    rows = pd.read_csv(folder / "index/expressions.csv")
    items, encoded = units, 0
    if stage == "train":
        items *= params.train.batch_size * params.train.accumulation * params.train.processes
        items += validated(min(VALIDATIONS, units), int((rows["split"] == "val").sum()))
    elif stage in {"baselines", "propagate"}:
        clips = pd.read_csv(folder / "index/clips.csv")
        encoded = clips.loc[clips["split"] != "train", "frames_key"].nunique()
    elif stage == "score":
        items = int((rows["split"] != "train").sum())  # its progress bar counts clips
    elif stage == "diagnose":
        items = int((rows["split"] == "val").sum())  # its progress bar counts batches
    outs = [folder / out for out in read_yaml(folder / "dvc.yaml")["stages"][stage]["outs"]]
    files = [path for out in outs for path in (out, *out.rglob("*")) if path.is_file()]
    return {"items": items, "encoded": encoded, "bytes": sum(f.stat().st_size for f in files)}


def gpu_memory(which: str) -> list[int]:
    """Return each GPU's memory in bytes, `total` or `used`; empty without NVIDIA's driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu=memory.{which}", "--format=csv,noheader,nounits"]
    mebibytes = subprocess.run(command, capture_output=True, text=True).stdout.split()
    return [int(number) * 2**20 for number in mebibytes if number.isdecimal()]


@contextmanager
def gpu_peaks() -> Iterator[list[int]]:
    """Track the peak memory of each GPU meanwhile, sampled twice a second."""
    peaks, over = gpu_memory("used"), threading.Event()

    def watch() -> None:
        while peaks and not over.wait(0.5):
            peaks[:] = map(max, peaks, gpu_memory("used"))

    threading.Thread(target=watch, daemon=True).start()
    yield peaks
    over.set()


def table(result: dict[str, Any]) -> str:
    """Format each stage's cost, the estimate for Ref-AVS, and what doesn't fit."""
    took, whole = (pd.DataFrame(result[part]).T for part in ("stages", "whole"))
    gpus = pd.DataFrame(took.pop("gpu_memory").tolist(), index=took.index).add_prefix("GPU ")
    columns = {
        "seconds": took["seconds"],
        "fixed": whole["fixed"],
        "of CPU": took["cpu_seconds"],
        "items": took["items"],
        "items/s": 1 / whole["pace"].where(whole["pace"] > 0),
        "GB memory": took["memory"] / 1e9,
        **dict((gpus / 1e9).items()),
        "GB kept": took["bytes"] / 1e9,
        "| Ref-AVS: items": whole["items"],
        "hours": whole["hours"],
        "GB kept ": whole["bytes"] / 1e9,
    }
    shown = pd.DataFrame(columns).astype(float)
    shown.loc["all"] = shown[["seconds", "hours", "GB kept "]].sum()
    memory, *gpu, disk = (
        f"{size / 1e9:.1f}" for size in (result["memory"], *result["gpu_memory"], result["disk"])
    )
    faults = [f"doesn't fit: {line}" for line in result["misfits"]] or ["everything fits"]
    where = f"{result['processor']}, {result['cores']} cores, {memory} GB of memory"
    gpu_text = f"GPUs of {', '.join(gpu)} GB" if gpu else "no GPU"
    text = shown.to_string(
        float_format=lambda x: f"{x:,.3g}" if x < 100 else f"{x:,.0f}", na_rep=""
    )
    return "\n".join([text, f"{where}, {gpu_text}, {disk} GB of disk free", *faults])


if __name__ == "__main__":
    try:
        typer.run(main)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
