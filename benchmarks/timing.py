"""Alternate between ways to do the same work in one process: ratios vary less than times."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Leaf = dict[str, Any]
"""A figure of results.json: `ratio`, `spread` as [least, most], and how it was measured."""


def side_by_side(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    before: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Return the seconds of each way in each round, A B A B ..., after a warm-up round.

    Args:
        before: called before each way, untimed.
    """
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(-1, rounds):
        for name, work in ways.items():
            before()
            start = time.perf_counter()
            work()
            if turn >= 0:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def speedup(seconds: Mapping[str, list[float]], ours: str, other: str, **figures: Any) -> Leaf:
    """Return one way's throughput over another's, from their medians; the spread is over rounds.

    Args:
        seconds: from `side_by_side`.
        figures: sizes and remarks to add.
    """
    a, b = seconds[ours], seconds[other]
    ratios = [theirs / own for own, theirs in zip(a, b, strict=True)]
    return {
        "ratio": short(median(b) / median(a)),
        "spread": [short(min(ratios)), short(max(ratios))],
        "median_seconds": {ours: short(median(a)), other: short(median(b))},
        "rounds": len(ratios),
        **figures,
    }


def summarise(ratios: list[float], **figures: Any) -> Leaf:
    """Return the median of a ratio over rounds, and its spread."""
    return {
        "ratio": short(median(ratios)),
        "spread": [short(min(ratios)), short(max(ratios))],
        "rounds": len(ratios),
        **figures,
    }


def short(value: float) -> float:
    """Round to four digits; more are noise."""
    return float(f"{value:.4g}")
