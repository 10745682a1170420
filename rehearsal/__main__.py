"""Run the paper's profile from data to report at full size, before the data set is downloaded.

    python -m rehearsal [--clips 6] [--steps 2] [--out rehearsal.json]

Of profiles/paper.yaml only the weights' digests, the number of steps and what the devices at hand
demand are changed. The stages run in a scratch folder: by `dvc repro` if DVC is installed, else by
the commands of dvc.yaml. Printed for each: time, memory and bytes, and what these make for the whole
benchmark (`estimate.py`). --out is written after every stage.
"""

import json
import os
import re
import shutil
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
from rehearsal import estimate
from sam2love.params import load_params, read_yaml
from sam2love.weights import digest, place

PROFILE = Path("profiles/paper.yaml")
CODE = ("stages", "sam2love", "dvc.yaml")
BAR = re.compile(rb"\| (\d+)/\d+ \[")
"""Of a tqdm: how much is done."""
LIMITS = {"cpu": {"clips": 6, "steps": 2, "rows": 1}, "cuda": {"clips": 64, "steps": 30, "rows": 8}}
"""By default; `rows` is the most that a clip has. A CPU takes minutes for each row of val and test."""


def main(
    clips: Annotated[int, typer.Option(help="Clips; 6 without a GPU, else 64.")] = 0,
    steps: Annotated[int, typer.Option(help="Steps of training; 2 without a GPU, else 30.")] = 0,
    out: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Run the paper's profile at full size on random weights and a few generated clips."""
    gpus = gpu_memory("total")
    limits = LIMITS["cuda" if gpus else "cpu"]
    with tempfile.TemporaryDirectory(suffix=".partial", dir=".") as name:
        folder = Path(name).resolve()
        changes = write_profile(folder, gpus=len(gpus), steps=steps or limits["steps"])
        result: dict[str, Any] = {
            "machine": {
                "commit": commit(),
                "processor": processor(),
                "cores": os.cpu_count(),
                "memory": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"),
                "disk": shutil.disk_usage(folder).free,
                "gpus": [{"memory": memory} for memory in gpus],
            },
            "clips": clips or limits["clips"],
            "by": "dvc" if has_dvc() else "the commands of dvc.yaml",
        }
        write_inputs(folder, clips=result["clips"], rows=limits["rows"])
        changes |= pin_weights(folder)
        result["changes"] = changes
        print("changed in the profile:", *(f"  {key}: {new}" for key, new in changes.items()), sep="\n")
        result["stages"] = {}
        rows_trained = rows_a_step(PROFILE) * load_params(PROFILE).train.steps
        for stage, command in commands(folder).items():
            measured = run(command, folder, typical=stage == "train")
            result["stages"][stage] = measured | count(stage, measured["units"], folder)
            result["whole"] = estimate.whole(result["stages"], rows_trained=rows_trained)
            result["misfits"] = estimate.misfits(
                result["stages"], result["whole"], result["machine"]
            )
            if out:
                out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
        print("\n".join(table(result)))


def write_profile(folder: Path, *, gpus: int, steps: int) -> dict[str, Any]:
    """Write params.yaml beside a copy of the code; returns what differs from the profile."""
    for name in CODE:
        copy = shutil.copytree if Path(name).is_dir() else shutil.copy
        copy(name, folder / name)
    train = load_params(PROFILE).train
    changes: dict[str, Any] = {"train.steps": steps}
    if not gpus:
        changes |= {"runtime.device": "cpu", "runtime.threads": os.cpu_count()}
    if gpus < train.processes:
        # On a GPU a step sees the profile's rows; on a CPU that would take too long.
        accumulation = train.accumulation * train.processes if gpus else 1
        one = {"launch": "python", "processes": 1, "engine": "ddp", "accumulation": accumulation}
        changes |= {f"train.{key}": value for key, value in one.items()}
    change_params(PROFILE, folder / "params.yaml", changes)
    return changes


def change_params(source: Path, to: Path, changes: dict[str, Any]) -> None:
    yaml = YAML()
    params = yaml.load(source.read_text(encoding="utf-8"))
    for name, value in changes.items():
        section, key = name.split(".")
        params[section][key] = value
    with to.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def write_inputs(folder: Path, *, clips: int, rows: int) -> None:
    """In a process of its own: what it imports would count as memory of each stage."""
    command = [sys.executable, "-m", "rehearsal.inputs", folder, str(clips), str(rows)]
    if subprocess.run(command).returncode:
        sys.exit("error: the weights and clips could not be written")


def pin_weights(folder: Path) -> dict[str, str]:
    """Write the digests of the random weights into params.yaml; returns them."""
    params = load_params(folder / "params.yaml")
    digests = {
        f"{name}.digest": digest(folder / place(getattr(params, name).weights))
        for name in ("audio", "vision", "text", "sam2")
    }
    change_params(folder / "params.yaml", folder / "params.yaml", digests)
    return digests


def rows_a_step(params: Path) -> int:
    train = load_params(params).train
    return train.batch_size * train.accumulation * train.processes


def has_dvc() -> bool:
    return shutil.which("dvc", path=search_path()) is not None


def search_path() -> str:
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"


def commands(folder: Path) -> dict[str, str]:
    """What runs each stage in a folder, in order."""
    stages = read_yaml(folder / "dvc.yaml")["stages"]
    if has_dvc():
        environment = os.environ | {"PATH": search_path()}
        subprocess.run(["dvc", "init", "--quiet", "--no-scm"], cwd=folder, env=environment, check=True)
        shutil.copy(".dvc/config", folder / ".dvc/config.local")
        return {name: f"exec dvc repro --single-item {name}" for name in stages}
    launch = load_params(folder / "params.yaml").train.launch
    return {name: stage["cmd"].replace("${train.launch}", launch) for name, stage in stages.items()}


def run(command: str, folder: Path, *, typical: bool) -> dict[str, Any]:
    """Run a stage and measure it.

    Args:
        typical: see `estimate.pace`.
    """
    print(f"> {command}", flush=True)
    python = folder / ".venv/bin/python"  # where the commands look for it
    if not python.exists():
        python.parent.mkdir(parents=True, exist_ok=True)
        python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        python.chmod(0o755)
    environment = os.environ | {"PATH": search_path(), "PYTHONPATH": python_path(folder)}
    start = time.monotonic()
    marks: list[estimate.Mark] = []
    with gpu_peaks() as peaks:
        process = subprocess.Popen(
            command, shell=True, cwd=folder, env=environment, stderr=subprocess.PIPE
        )
        assert process.stderr is not None
        unread = b""
        while chunk := os.read(process.stderr.fileno(), 65536):
            sys.stderr.buffer.write(chunk)
            sys.stderr.flush()
            unread += chunk
            for bar in BAR.finditer(unread):
                marks.append((time.monotonic() - start, int(bar[1])))
            unread = unread[-40:] if not BAR.search(unread[-40:]) else b""
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: {command!r} ended with status {process.returncode}")
    seconds = time.monotonic() - start
    return {
        "seconds": seconds,
        "pace": estimate.pace(marks, seconds, typical=typical),
        "units": max((mark[1] for mark in marks), default=0),
        "memory": usage.ru_maxrss * 1024,  # of the largest process below
        "gpu_memory": peaks,
    }


def python_path(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def count(stage: str, units: int, folder: Path) -> dict[str, Any]:
    """What a stage worked on and wrote.

    Returns:
        `items`, `encoded` (the clips whose later frames it encoded) and `bytes`.
    """
    params = load_params(folder / "params.yaml")
    index = {name: pd.read_csv(folder / f"index/{name}.csv") for name in ("clips", "expressions")}
    rows = index["expressions"]
    held_out = rows[rows["split"] != "train"]
    frames_key = index["clips"].set_index("key")["frames_key"]
    batch = params.propagate.rows_per_batch
    items, encoded = units, 0
    if stage == "train":
        val = int((rows["split"] == "val").sum())
        validations = min(estimate.VALIDATIONS, units)
        items = units * rows_a_step(folder / "params.yaml") + estimate.validated(validations, val)
    elif stage == "propagate":
        keys = held_out["key"].tolist()
        encoded = sum(len(set(keys[i : i + batch])) for i in range(0, len(keys), batch))
    elif stage == "baselines":
        encoded = held_out["key"].map(frames_key).nunique()
    elif stage == "score":
        items = len(held_out)
    outs = read_yaml(folder / "dvc.yaml")["stages"][stage]["outs"]
    files = [path for out in outs for path in [folder / out, *(folder / out).rglob("*")]]
    return {
        "items": items,
        "encoded": encoded,
        "bytes": sum(path.stat().st_size for path in files if path.is_file()),
    }


def gpu_memory(which: str) -> list[int]:
    """The memory of each GPU in bytes: `total` or `used`; none without a driver."""
    if shutil.which("nvidia-smi") is None:
        return []
    command = ["nvidia-smi", f"--query-gpu=memory.{which}", "--format=csv,noheader,nounits"]
    done = subprocess.run(command, capture_output=True, text=True)
    return [int(line) * 2**20 for line in done.stdout.splitlines() if line.strip().isdigit()]


@contextmanager
def gpu_peaks() -> Iterator[list[int]]:
    """The most memory that each GPU uses meanwhile, asked twice a second."""
    peaks = gpu_memory("used")
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.5):
            peaks[:] = map(max, peaks, gpu_memory("used"))

    watcher = threading.Thread(target=watch, daemon=True)
    if peaks:
        watcher.start()
    yield peaks
    over.set()


def table(result: dict[str, Any]) -> list[str]:
    """Lines of Markdown: what each stage took, what the whole benchmark will, what doesn't fit."""
    stages, whole, gb = result["stages"], result["whole"], estimate.gb
    lines = [
        "| stage | seconds | of it fixed | items | items a second | GB memory | GB of each GPU | GB "
        "kept | whole: items | hours | GB kept |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, part in estimate.split(stages).items():
        stage, expected = stages[name], whole[name]
        cells = [
            name,
            f"{stage['seconds']:.0f}",
            f"{part['fixed']:.0f}",
            f"{stage['items']}",
            f"{1 / part['pace']:.3g}" if part["pace"] else "",
            gb(stage["memory"]),
            ", ".join(map(gb, stage["gpu_memory"])),
            gb(stage["bytes"]),
            f"{expected['items']:,}" if expected["items"] else "",
            f"{expected['hours']:.2f}",
            gb(expected["bytes"]),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    hours = sum(part["hours"] for part in whole.values())
    kept = sum(part["bytes"] for part in whole.values())
    seconds = sum(stage["seconds"] for stage in stages.values())
    lines.append(f"| all | {seconds:.0f} | | | | | | | | {hours:.1f} | {gb(kept)} |")
    machine = result["machine"]
    memory = ", ".join([gb(machine["memory"]), *(gb(gpu["memory"]) for gpu in machine["gpus"])])
    lines.append("")
    lines.append(
        f"On {machine['processor']}, {machine['cores']} cores, GB of memory and of each GPU: "
        f"{memory}; {gb(machine['disk'])} GB of disk free; commit {machine['commit']}; by "
        f"{result['by']}."
    )
    lines += [f"Doesn't fit: {line}" for line in result["misfits"]] or ["Everything fits."]
    return lines


if __name__ == "__main__":
    try:
        typer.run(main)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
