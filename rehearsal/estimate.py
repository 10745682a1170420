"""From what a rehearsal's stages took to what the whole benchmark takes.

A stage's seconds are taken as a fixed part and a pace: fixed + items x pace + frames x the pace of
the stage `embeddings`, since `baselines` and `propagate` encode the frames that no store holds.
Its bytes grow with its items; its memory is that of a batch, and doesn't grow.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

from sam2love.refavs import FRAMES

WHOLE = {
    "index": 3993,
    "audio": 3993,
    "vision": 3573,
    "text": 5226,
    "embeddings": 3573,
    "baselines": 1395,
    "propagate": 6321,
    "score": 6321,
}
"""Items of each stage on Ref-AVS (20,434 usable rows): clips, clips, different clips' frames,
different texts, first frames, objects, and twice the rows of val and test."""
ENCODED = {"baselines": 837, "propagate": 1933}
"""Times that a clip's later frames are encoded there: once for each batch of 16 that has the clip,
objects by name, rows in the order of the table."""
VAL_ROWS = 1349
VALIDATIONS = 10
A_VALIDATED_ROW = 1 / 3
"""What it takes of a trained one, which goes backward too."""

Mark = tuple[float, int]
"""Seconds since a stage began, and how much of its progress bar was done."""


def pace(marks: Sequence[Mark], seconds: float, *, typical: bool = False) -> float:
    """Seconds a unit of the progress bar takes; 0 without a bar.

    From the first mark to the last, so that neither starting nor the first batch's warming up is
    counted; with too few marks, from the bar's appearance to the stage's end.

    Args:
        typical: take the median between two marks, for steps of which some have more to do.
    """
    first = {count: when for when, count in reversed(marks)}  # when each count came up
    counts = sorted(first)
    if len(counts) < 3:
        return (seconds - first[counts[0]]) / counts[-1] if counts and counts[-1] else 0.0
    if typical:
        steps = [(first[b] - first[a]) / (b - a) for a, b in pairwise(counts)]
        return median(steps[1:])
    a, b = counts[1], counts[-1]
    return (first[b] - first[a]) / (b - a)


def split(stages: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """The fixed seconds and the pace per item of each stage.

    Args:
        stages: of each `seconds`, `pace` (of a unit of its bar), `units` (of its bar), `items`, and
            `encoded`, the clips whose later frames it encodes.
    """
    found: dict[str, dict[str, float]] = {}
    for name, stage in stages.items():
        work = stage["pace"] * stage["units"]
        frames = stage["encoded"] * (FRAMES - 1)
        frame_pace = found["embeddings"]["pace"] if frames else 0.0
        own = max(0.0, work - frames * frame_pace)
        found[name] = {
            "fixed": max(0.0, stage["seconds"] - work),
            "pace": own / stage["items"] if stage["items"] else 0.0,
        }
    return found


def whole(
    stages: Mapping[str, Mapping[str, Any]], *, rows_trained: int
) -> dict[str, dict[str, float]]:
    """Hours and bytes of each stage for the whole benchmark.

    Args:
        stages: as `split` takes them, with `bytes`, what the stage's outputs take.
        rows_trained: the profile's steps times the rows that a step sees.
    """
    items = WHOLE | {"train": rows_trained + validated(VALIDATIONS, VAL_ROWS)}
    expected = {}
    for name, part in split(stages).items():
        count = items.get(name, 0)
        frames = ENCODED.get(name, 0) * (FRAMES - 1)
        seconds = part["fixed"] + count * part["pace"]
        if frames:
            seconds += frames * split(stages)["embeddings"]["pace"]
        stage = stages[name]
        grows = name in WHOLE and stage["items"]
        expected[name] = {
            "items": count,
            "hours": seconds / 3600,
            "bytes": stage["bytes"] * (count / stage["items"] if grows else 1),
        }
    return expected


def validated(validations: int, rows: int) -> int:
    """Validations in terms of trained rows."""
    return round(validations * rows * A_VALIDATED_ROW)


def misfits(
    stages: Mapping[str, Mapping[str, Any]],
    expected: Mapping[str, Mapping[str, float]],
    machine: Mapping[str, Any],
) -> list[str]:
    """What doesn't fit the machine, a line each.

    Args:
        stages: of each `memory` and `gpu_memory`, a number for each GPU, in bytes at their peak.
        machine: `disk` (free), `memory`, and `gpus` with `memory`, in bytes.
    """
    lines = []
    kept = sum(stage["bytes"] for stage in expected.values())
    if kept > machine["disk"]:
        lines.append(f"disk: {gb(kept)} GB to keep, {gb(machine['disk'])} GB free")
    for name, stage in stages.items():
        if stage["memory"] > 0.9 * machine["memory"]:
            lines.append(f"{name}: {gb(stage['memory'])} GB of {gb(machine['memory'])} GB memory")
        for number, (peak, gpu) in enumerate(
            zip(stage["gpu_memory"], machine["gpus"], strict=True)
        ):
            if peak > 0.9 * gpu["memory"]:
                lines.append(f"{name}: {gb(peak)} GB of GPU {number}'s {gb(gpu['memory'])} GB")
    return lines


def gb(count: float) -> str:
    return f"{count / 1e9:.1f}" if count >= 1e8 else f"{count / 1e9:.3f}"
