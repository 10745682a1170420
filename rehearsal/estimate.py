"""From what a rehearsal's stages took to what the whole benchmark takes.

A stage's seconds are a fixed part + items x pace + clips it encodes x the pace of `embeddings` for
their nine later frames, which no store holds. Bytes grow with the items. Memory is that of a batch
and doesn't grow.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from sam2love.dataset.refavs import FRAMES

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
}
"""Items of each stage on Ref-AVS (20,434 usable rows). The report is made once."""
ENCODED = {"baselines": 806, "propagate": 806}
"""Clips of val and test with frames of their own: each is encoded once."""
VAL_ROWS, VALIDATIONS = 1349, 10
A_VALIDATED_ROW = 1 / 3
"""Of the time for a trained one, which goes backward too."""


def pace(marks: Sequence[tuple[float, int]], seconds: float, *, typical: bool = False) -> float:
    """Seconds for a unit of a stage's progress bar; 0 without a bar.

    From the first mark above 0 to the last, without the warming up; where there are not two, from
    the bar's appearance to the stage's end.

    Args:
        marks: seconds since the stage began, and how much the bar said was done.
        seconds: that the whole stage took.
        typical: take the median between two marks, for training, where some steps validate.
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
    """Split the time of each stage, and say what it and its outputs are for the whole benchmark.

    Args:
        stages: of each, in order, `seconds`, `pace` and `units` of its bar, `items`, `encoded`
            clips and `bytes` of outputs.
        rows_trained: the profile's steps times the rows of a step.

    Returns:
        Of each `fixed` seconds and `pace` (seconds an item), measured; `items`, `hours` and
        `bytes`, expected.
    """
    whole = WHOLE | {"train": rows_trained + validated(VALIDATIONS, VAL_ROWS)}
    found: dict[str, dict[str, float]] = {}
    for name, stage in stages.items():
        a_clip = (FRAMES - 1) * found["embeddings"]["pace"] if stage["encoded"] else 0.0
        work = stage["pace"] * stage["units"]
        items = whole.get(name, stage["items"])
        fixed = max(0.0, stage["seconds"] - work)
        own = max(0.0, work - stage["encoded"] * a_clip) / max(1, stage["items"])
        seconds = fixed + items * own + ENCODED.get(name, 0) * a_clip
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
    """Validations as a number of trained rows."""
    return round(validations * rows * A_VALIDATED_ROW)


def misfits(
    stages: Mapping[str, Mapping[str, Any]],
    whole: Mapping[str, Mapping[str, float]],
    machine: Mapping[str, Any],
) -> list[str]:
    """What doesn't fit the machine, a line each: over the free disk, or 9 tenths of a memory.

    Args:
        stages: of each `memory` and, for each GPU, `gpu_memory`: bytes at the peak.
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
