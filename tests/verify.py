"""`make verify`: check that results are reproducible and that the paper's recipe runs.

1. metrics.json from the latest `make repro` agrees with the committed one within a tolerance, since
   processors round differently: 0.3 % of half-precision features already differ. Without a run the
   file would be the committed one itself, so DVC is asked first whether it is up to date.
2. A small configuration, run twice from scratch in clones of this checkout, gives one dvc.lock.
3. The other mini profiles with a few steps run up to the report in the first clone: DVC runs every
   stage whose parameters the profile changes, and all that follow.
"""

import json
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import yaml

TOLERANCE = 4.0
"""Points of J, F or J&F (or hundredths of S) by which processors may differ."""
SMALL_DATASET = {
    **{"train": 12, "val": 4, "val_unseen": 4, "test_s": 6, "test_u": 4, "test_n": 4},
    "test_n_absent": 2,
    "late": dict.fromkeys(("train", "val", "val_unseen", "test_s", "test_u"), 1),
}
FEW_STEPS = {
    "params.yaml": {"grounding_steps": 3, "steps": 2, "batch_size": 4},
    "profiles/paper-mini.yaml": {"steps": 3, "batch_size": 2},
    "profiles/best.yaml": {"grounding_steps": 3, "steps": 2, "batch_size": 4},
}


def differences(committed: dict, made: dict, *, path: str = "") -> list[str]:
    """List figures that are missing or differ by more than the tolerance."""
    faults = []
    for name, value in committed.items():
        place = f"{path}.{name}".lstrip(".")
        if name not in made:
            faults.append(f"{place} is missing")
        elif isinstance(value, dict):
            faults += differences(value, made[name], path=place)
        elif isinstance(value, float) and name in {"J", "F", "J&F", "S"}:
            off = abs(value - made[name]) * (100 if name == "S" else 1)
            if not off <= TOLERANCE:  # true for NaN too
                faults.append(f"{place} is {made[name]}, committed {value}")
    return faults


def stages_not_run(folder: Path) -> list[str]:
    """List the stages up to `score` whose inputs or outputs have changed since the latest run."""
    status = subprocess.run(
        ["dvc", "status", "--json", "--with-deps", "score"],
        cwd=folder,
        env=environment(),
        check=True,
        stdout=subprocess.PIPE,
    )
    return sorted(json.loads(status.stdout))


def clone(folder: Path) -> Path:
    """Clone the latest commit, for a run from scratch with few clips and steps."""
    # Without history, which `dvc exp show -A` would read commit by commit.
    command = ["git", "clone", "--quiet", "--no-local", "--depth", "1", ".", str(folder)]
    subprocess.run(command, check=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    _change(folder / "mini/params.yaml", {"dataset": {"clips": SMALL_DATASET}})
    take_few_steps(folder, "params.yaml")
    return folder


def take_few_steps(folder: Path, params: str) -> None:
    """Write a key of FEW_STEPS, a parameter file, to the clone's params.yaml with few steps."""
    (folder / "params.yaml").write_bytes((folder / params).read_bytes())
    _change(folder / "params.yaml", {"train": FEW_STEPS[params]})


def _change(file: Path, changes: dict) -> None:
    file.write_text(yaml.safe_dump(merge(yaml.safe_load(file.read_text()), changes)))


def run(folder: Path) -> str:
    """Run the outdated stages of a clone; return its dvc.lock."""
    subprocess.run(
        ["dvc", "repro", "--quiet"],
        cwd=folder,
        env=environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return (folder / "dvc.lock").read_text()


def environment() -> dict[str, str]:
    """Return an environment with this Python's `dvc`, whose stages use the clone's code."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_WAIT_POLICY": "PASSIVE",  # waiting threads leave their cores to the parallel run
    }


def merge(values: dict, changes: dict) -> dict:
    """Return values with changes at any depth; a change to an unknown key is an error."""
    if unknown := sorted(changes.keys() - values.keys()):
        raise ValueError(f"changes to unknown keys {unknown}, expected some of {sorted(values)}")
    merged = dict(values)
    for name, change in changes.items():
        merged[name] = merge(merged[name], change) if isinstance(change, dict) else change
    return merged


def main() -> None:
    if stages := stages_not_run(Path()):
        sys.exit(
            "metrics.json: not from a run of this checkout (by `dvc status`, to be run: "
            f"{', '.join(stages)}); run `make repro` first"
        )
    committed = subprocess.run(
        ["git", "show", "HEAD:metrics.json"], check=True, capture_output=True, text=True
    ).stdout
    faults = differences(
        {"refavs": json.loads(committed)["refavs"]}, json.loads(Path("metrics.json").read_text())
    )
    if faults:
        sys.exit("metrics.json differs from the committed one:\n" + "\n".join(faults))
    print(f"metrics.json agrees with the committed figures within {TOLERANCE} points")
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor() as pool:
        clones = [clone(Path(scratch) / name) for name in ("first", "second")]
        first, second = pool.map(run, clones)
        if first != second:
            sys.exit("two runs of the small configuration gave different bytes, by their dvc.lock")
        print("two runs of the small configuration gave the same bytes")
        for profile in list(FEW_STEPS)[1:]:
            take_few_steps(clones[0], profile)
            run(clones[0])
            print(f"{profile} ran to its report")


if __name__ == "__main__":
    main()
