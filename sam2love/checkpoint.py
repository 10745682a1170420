"""Checkpoints of a training: weights, the optimiser's state and the losses so far."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator


@dataclass
class History:
    """What a training leaves beside its weights: a record a step, and one a validation."""

    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)


def save(accelerator: Accelerator, folder: Path, history: History) -> None:
    """Write a checkpoint under the number of steps it holds, and then drop the one before.

    Every process calls this: with ZeRO each has its own share of the optimiser's state.
    """
    steps = len(history.losses)
    partial = folder / f"{steps}.partial"
    accelerator.save_state(str(partial))
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        (partial / "history.json").write_text(json.dumps(asdict(history)), encoding="utf-8")
        for path in (*partial.rglob("*"), partial):
            _sync(path)
        before = _finished(folder)
        partial.rename(folder / str(steps))
        _sync(folder)
        for steps in before:
            shutil.rmtree(folder / str(steps))


def resume(accelerator: Accelerator, folder: Path) -> History:
    """Load the latest checkpoint into what the accelerator prepared, if there is one."""
    accelerator.wait_for_everyone()  # the first process may have waited for the folder's lock
    finished = _finished(folder)
    if not finished:
        return History()
    latest = folder / str(max(finished))
    accelerator.load_state(str(latest))
    return History(**json.loads((latest / "history.json").read_text(encoding="utf-8")))


def _finished(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _sync(path: Path) -> None:
    """Wait until it is on the disk, so that the name it gets stands for all of it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
