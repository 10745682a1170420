"""Checkpoints: the weights that training changes, the optimiser's state, the losses so far."""

import json
import os
import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path

from accelerate import Accelerator, DistributedType
from torch import Tensor, nn


@dataclass
class History:
    """The records of a training: one per step, and one per validation."""

    losses: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)


def save(accelerator: Accelerator, folder: Path, history: History) -> None:
    """Write a checkpoint named by the number of steps so far, then remove the previous one.

    Every process calls this: with ZeRO, each holds a part of the optimiser's state.
    """
    steps = len(history.losses)
    partial = folder / f"{steps}.partial"
    with accelerator.register_save_state_pre_hook(_drop_frozen):
        accelerator.save_state(str(partial), exclude_frozen_parameters=True)  # for DeepSpeed
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
    """Load the latest checkpoint, if there is one, into what the accelerator prepared."""
    accelerator.wait_for_everyone()  # the main process may have waited for the folder's lock
    finished = _finished(folder)
    if not finished:
        return History()
    latest = folder / str(max(finished))
    deepspeed = accelerator.distributed_type == DistributedType.DEEPSPEED
    strict = "load_module_strict" if deepspeed else "strict"
    accelerator.load_state(str(latest), **{strict: False})  # frozen weights are not in it
    return History(**json.loads((latest / "history.json").read_text(encoding="utf-8")))


def _drop_frozen(models: list[nn.Module], weights: list[dict[str, Tensor]], _: str) -> None:
    """Leave out frozen weights, which for SAM 2 large are 0.9 GB."""
    for model, state in zip(models, weights, strict=True):
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                state.pop(name, None)


def _finished(folder: Path) -> list[int]:
    return [int(path.name) for path in folder.iterdir() if path.name.isdecimal()]


def _sync(path: Path) -> None:
    """Flush to disk, so that a checkpoint with its final name is complete after a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
