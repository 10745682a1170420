"""`make verify`: are the figures the committed ones, do two runs give the same bytes, and does the
paper's recipe run?

1. metrics.json, as `make repro` just made it, against the committed one, within a tolerance: other
   processors round otherwise, and 0.3 % of half-precision features already differ. Without a run
   the file is the committed one itself, so DVC is asked first whether a run stands behind it.
2. A small configuration, run twice from nothing in clones of this checkout: the same dvc.lock.
3. The paper's recipe (profiles/paper-mini.yaml) with a few steps, to the report, in the first of
   those clones: DVC runs every stage whose parameters the recipe changes, and all that follow.
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
PAPERS_RECIPE = "profiles/paper-mini.yaml"
SMALL_DATASET = {"train": 12, "val": 4, "val_unseen": 4, "test_s": 4, "test_u": 4, "test_n": 4}
FEW_STEPS = {
    "params.yaml": {"grounding_steps": 3, "steps": 2, "batch_size": 4},
    PAPERS_RECIPE: {"steps": 3, "batch_size": 2},
}


def differences(committed: dict, made: dict, *, path: str = "") -> list[str]:
    """Figures of the pipeline's own protocols that are missing or further off than allowed."""
    faults = []
    for name, value in committed.items():
        place = f"{path}.{name}".lstrip(".")
        if name not in made:
            faults.append(f"{place} is missing")
        elif isinstance(value, dict):
            faults += differences(value, made[name], path=place)
        elif isinstance(value, float) and name in {"J", "F", "J&F", "S"}:
            off = abs(value - made[name]) * (100 if name == "S" else 1)
            if not off <= TOLERANCE:  # NaN too
                faults.append(f"{place} is {made[name]}, committed {value}")
    return faults


def stages_not_run(folder: Path) -> list[str]:
    """The stages up to `score` whose inputs or outputs are not those of the latest run."""
    status = subprocess.run(
        ["dvc", "status", "--json", "--with-deps", "score"],
        cwd=folder,
        env=environment(),
        check=True,
        stdout=subprocess.PIPE,
    )
    return sorted(json.loads(status.stdout))


def clone(folder: Path) -> Path:
    """Clone what is committed, for a run from nothing with few clips and steps."""
    # Without its history, which `dvc exp show -A` would read commit by commit.
    command = ["git", "clone", "--quiet", "--no-local", "--depth", "1", ".", str(folder)]
    subprocess.run(command, check=True)
    (folder / "dvc.lock").unlink(missing_ok=True)
    _change(folder / "mini/params.yaml", {"dataset": {"clips": SMALL_DATASET}})
    take_few_steps(folder, "params.yaml")
    return folder


def take_few_steps(folder: Path, params: str) -> None:
    """Make a file of parameters, a key of FEW_STEPS, the clone's own, with few steps."""
    (folder / "params.yaml").write_bytes((folder / params).read_bytes())
    _change(folder / "params.yaml", {"train": FEW_STEPS[params]})


def _change(file: Path, changes: dict) -> None:
    file.write_text(yaml.safe_dump(merge(yaml.safe_load(file.read_text()), changes)))


def run(folder: Path) -> str:
    """Run in a clone what has yet to run; return its dvc.lock."""
    subprocess.run(
        ["dvc", "repro", "--quiet"],
        cwd=folder,
        env=environment(),
        check=True,
        stdout=subprocess.DEVNULL,
    )
    return (folder / "dvc.lock").read_text()


def environment() -> dict[str, str]:
    """This environment's `dvc` and `python`, with the code of the folder where they start."""
    return os.environ | {
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "OMP_WAIT_POLICY": "PASSIVE",  # a waiting thread leaves its core to the run beside it
    }


def merge(values: dict, changes: dict) -> dict:
    """Values with some of them changed, at any depth; what they lack is an error."""
    if unknown := sorted(changes.keys() - values.keys()):
        raise ValueError(f"{unknown} to change, but there are {sorted(values)}")
    merged = dict(values)
    for name, change in changes.items():
        merged[name] = merge(merged[name], change) if isinstance(change, dict) else change
    return merged


def main() -> None:
    if stages := stages_not_run(Path()):
        sys.exit(
            "metrics.json: no run of this checkout stands behind it (by `dvc status`, to be run: "
            f"{', '.join(stages)}); run `make repro` first"
        )
    committed = subprocess.run(
        ["git", "show", "HEAD:metrics.json"], check=True, capture_output=True, text=True
    ).stdout
    faults = differences(
        {"refavs": json.loads(committed)["refavs"]}, json.loads(Path("metrics.json").read_text())
    )
    if faults:
        sys.exit("metrics.json is not the committed one:\n" + "\n".join(faults))
    print(f"metrics.json agrees with the committed figures within {TOLERANCE} points")
    with tempfile.TemporaryDirectory() as scratch, ThreadPoolExecutor() as pool:
        clones = [clone(Path(scratch) / name) for name in ("first", "second")]
        first, second = pool.map(run, clones)
        if first != second:
            sys.exit("two runs of the small configuration gave other bytes: their dvc.lock differ")
        print("two runs of the small configuration gave the same bytes")
        take_few_steps(clones[0], PAPERS_RECIPE)
        run(clones[0])
        print("the paper's recipe ran to its report")


if __name__ == "__main__":
    main()
