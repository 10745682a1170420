"""The same work in several ways, in turns within one process: ratios hold better than times."""

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

Leaf = dict[str, Any]
"""A figure of results.json: `ratio`, `spread` as [least, most], and what stands behind them."""


def side_by_side(
    ways: Mapping[str, Callable[[], object]],
    *,
    rounds: int,
    before: Callable[[], object] = lambda: None,
) -> dict[str, list[float]]:
    """Seconds of each way in each round, A B A B ..., after a round that warms up.

    Args:
        before: called before each of them, untimed.
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
    """Throughput of one way over another's, from their medians; the spread is over rounds.

    Args:
        seconds: what `side_by_side` returned.
        figures: sizes and remarks to keep beside it.
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


def share(parts: list[float], **figures: Any) -> Leaf:
    """The median of a share over rounds, and its spread."""
    return {
        "ratio": short(median(parts)),
        "spread": [short(min(parts)), short(max(parts))],
        "rounds": len(parts),
        **figures,
    }


def short(value: float) -> float:
    """Four digits; more are noise."""
    return float(f"{value:.4g}")
