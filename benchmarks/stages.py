"""Time every stage: `python -m benchmarks.stages` runs the whole pipeline again.

The outputs stay the same to the byte. It prints the table of docs/performance.md.
"""

import os
import re
import subprocess
import time
from collections.abc import Callable, Iterable

RUNNING = re.compile(r"Running stage '(.+)':")
"""The line that DVC prints when it starts a stage."""


def main() -> None:
    command = ["dvc", "repro", "--force"]
    environment = os.environ | {"PYTHONUNBUFFERED": "1"}  # else its lines arrive late
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as dvc:
        assert dvc.stdout is not None
        seconds = seconds_by_stage(dvc.stdout)
    if dvc.returncode:
        raise SystemExit(f"error: {' '.join(command)} ended with status {dvc.returncode}")
    print("\n".join(table(seconds)))


def seconds_by_stage(
    lines: Iterable[str], *, now: Callable[[], float] = time.monotonic
) -> dict[str, float]:
    """Return the seconds from the start of each stage to that of the next, by DVC's output.

    They include hashing and storing a stage's outputs; 'dvc' is the time before the first stage.
    """
    marks = [("dvc", now())]
    for line in lines:
        if found := RUNNING.match(line):
            marks.append((found[1], now()))
    ends = [start for _, start in marks[1:]] + [now()]
    return {name: end - start for (name, start), end in zip(marks, ends, strict=True)}


def table(seconds: dict[str, float]) -> list[str]:
    """Return lines of Markdown: seconds and share of each stage, and of all."""
    whole = sum(seconds.values())
    rows = [*seconds.items(), ("all", whole)]
    lines = [f"| {name} | {took:.0f} | {took / whole:.0%} |" for name, took in rows]
    return ["| stage | seconds | share |", "|---|---|---|", *lines]


if __name__ == "__main__":
    main()
