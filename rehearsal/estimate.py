"""Estimate the cost of the whole benchmark from the cost of a rehearsal's stages.

A stage's seconds are a fixed part + items x pace + clips it encodes x the pace of `embeddings` for
their nine later frames, which no store holds. Bytes grow with the items; memory, which depends on
the batch, does not.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from sam2love.dataset.refavs import FRAMES

VAL_ROWS, VALIDATIONS = 1349, 10
WHOLE = {
    "index": 3993,  # clips
    "audio": 3993,
    "vision": 3573,  # clips with pictures of their own
    "text": 5226,  # different texts
    "embeddings": 3573,  # first frames
    "labels": 5500,  # about: the benchmark's paper counts 6,888 objects, 1,395 of them in test
    "baselines": 1395,  # objects
    "propagate": 6321,  # rows of val and test
    "score": 6321,
    "diagnose": VAL_ROWS,
}
"""Items of each stage on Ref-AVS (20,434 usable rows); the report does not scale with them."""
ENCODED = {"baselines": 806, "propagate": 806}
"""Clips of val and test with frames of their own, each encoded once."""
VALIDATED_ROW = 1 / 3
"""Time for a row of validation over that for one of training, which has a backward pass."""


def pace(marks: Sequence[tuple[float, int]], seconds: float, *, typical: bool = False) -> float:
    """Return the seconds per unit of a stage's progress bar; 0 without a bar.

    Measured from the first mark above 0, after the warm-up, to the last; with fewer than two such
    marks, from the bar's appearance to the stage's end.

    Args:
        marks: seconds since the stage began, and the bar's completed units.
        seconds: of the whole stage.
        typical: take the median between marks, for training, where some steps validate.
    """
    first = {done: when for when, done in reversed(marks)}
    done = sorted(first)
    if len(done) < 3:
        return (seconds - first[done[0]]) / done[-1] if done and done[-1] else 0.0
    if typical:
        return median((first[b] - first[a]) / (b - a) for a, b in pairwise(done[1:]))
    return (first[done[-1]] - first[done[1]]) / (done[-1] - done[1])


def extrapolate(
    stages: Mapping[str, Mapping[str, Any]], *, rows_trained: int
) -> dict[str, dict[str, float]]:
    """Split the time of each stage, and estimate time and bytes for the whole benchmark.

    Args:
        stages: in order, with `seconds`, `pace` and `units` of the progress bar, `items`, `encoded`
            clips and `bytes` of outputs.
        rows_trained: the profile's steps times the rows of a step.

    Returns:
        Per stage, measured: `fixed` seconds and `pace` (seconds per item); estimated: `items`,
        `hours` and `bytes`.
    """
    whole = WHOLE | {"train": rows_trained + validated(VALIDATIONS, VAL_ROWS)}
    found: dict[str, dict[str, float]] = {}
    for name, stage in stages.items():
        per_clip = (FRAMES - 1) * found["embeddings"]["pace"] if stage["encoded"] else 0.0
        work = stage["pace"] * stage["units"]
        items = whole.get(name, stage["items"])
        fixed = max(0.0, stage["seconds"] - work)
        own = max(0.0, work - stage["encoded"] * per_clip) / max(1, stage["items"])
        seconds = fixed + items * own + ENCODED.get(name, 0) * per_clip
        growth = 1 if name == "train" else items / max(1, stage["items"])
        found[name] = {
            "fixed": fixed,
            "pace": own,
            "items": items,
            "hours": seconds / 3600,
            "bytes": stage["bytes"] * growth,
        }
    return found


def validated(validations: int, rows: int) -> int:
    """Return the number of training rows that take as long as these validations."""
    return round(validations * rows * VALIDATED_ROW)


def misfits(
    stages: Mapping[str, Mapping[str, Any]],
    whole: Mapping[str, Mapping[str, float]],
    machine: Mapping[str, Any],
) -> list[str]:
    """List what exceeds the machine's free disk or nine tenths of a memory.

    Args:
        stages: with peak bytes of `memory` and, for each GPU, of `gpu_memory`.
        whole: from `extrapolate`.
        machine: bytes of `disk` (free) and `memory`, and `gpu_memory` of each GPU.
    """
    kept = sum(stage["bytes"] for stage in whole.values())
    needs = [("disk", kept, machine["disk"])]
    for name, stage in stages.items():
        needs.append((f"{name}, memory", stage["memory"], 0.9 * machine["memory"]))
        gpus = zip(stage["gpu_memory"], machine["gpu_memory"], strict=True)
        needs += [(f"{name}, GPU {i}", used, 0.9 * has) for i, (used, has) in enumerate(gpus)]
    return [
        f"{what}: {need / 1e9:.1f} GB, {has / 1e9:.1f} GB available"
        for what, need, has in needs
        if need > has
    ]
