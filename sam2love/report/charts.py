"""Compute the coordinates of line charts; the template draws them as SVG.

Units: pixels of the chart's own coordinate system, y downwards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

WIDTH, HEIGHT = 400, 230
LEFT, RIGHT, TOP, BOTTOM = 40, 14, 12, 40
BINS = 160
"""Longer curves are averaged into this many points."""

Curve = tuple[Sequence[float] | pd.Series, Sequence[float] | pd.Series]


@dataclass(frozen=True)
class Line:
    """A curve: its name, SVG path, points (only if there are few), and last value."""

    name: str
    path: str
    points: list[tuple[float, float]]
    last: float


@dataclass(frozen=True)
class Chart:
    """Curves over a common pair of axes; ticks and markers are (pixel, label)."""

    title: str
    lines: list[Line]
    x_ticks: list[tuple[float, str]]
    y_ticks: list[tuple[float, str]]
    markers: list[tuple[float, str]]
    x_label: str = "step"
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT
    right: int = WIDTH - RIGHT
    top: int = TOP
    bottom: int = HEIGHT - BOTTOM

    @property
    def summary(self) -> str:
        """The text alternative for readers who can't see the chart."""
        ends = ", ".join(f"{line.name} ends at {line.last:.3g}" for line in self.lines)
        return f"{self.title}: {ends}"


def line_chart(
    title: str,
    curves: Mapping[str, Curve],
    *,
    markers: Mapping[str, float] | None = None,
    x_label: str = "step",
) -> Chart | None:
    """Return a chart of values over steps, with axes that include 0; None without finite values.

    Args:
        curves: steps, from 0 up and rising, and values by name; values that aren't finite are
            left out.
        markers: steps at which something changed, by label.
        x_label: what the steps are.
    """
    binned = {name: _binned(*curve) for name, curve in curves.items()}
    binned = {name: curve for name, curve in binned.items() if len(curve[0])}
    if not binned:
        return None
    last_step = max(float(steps[-1]) for steps, _ in binned.values()) or 1.0
    x_ticks = _ticks(0, last_step)
    all_values = np.concatenate([values for _, values in binned.values()])
    lowest, highest = min(0.0, float(all_values.min())), max(1e-9, float(all_values.max()))
    y_ticks = _ticks(lowest, highest)
    bottom, top = y_ticks[0], y_ticks[-1]

    def place_x(step: float) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * step / last_step, 1)

    def place_y(value: float) -> float:
        return round(
            HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * (value - bottom) / (top - bottom), 1
        )

    lines = []
    for name, (steps, values) in binned.items():
        points = [(place_x(x), place_y(y)) for x, y in zip(steps, values, strict=True)]
        path = "M" + "L".join(f"{x:g} {y:g}" for x, y in points)
        lines.append(Line(name, path, points if len(points) <= 24 else [], float(values[-1])))
    return Chart(
        title,
        lines,
        x_ticks=[(place_x(step), f"{step:,.10g}") for step in x_ticks if step <= last_step],
        y_ticks=[(place_y(value), f"{value:.6g}") for value in y_ticks],
        markers=[(place_x(step), name) for name, step in (markers or {}).items()],
        x_label=x_label,
    )


def _binned(steps: Any, values: Any) -> tuple[np.ndarray, np.ndarray]:
    """Drop values that aren't finite, and average a long curve within BINS bins."""
    steps, values = np.asarray(steps, np.float64), np.asarray(values, np.float64)
    finite = np.isfinite(values)
    steps, values = steps[finite], values[finite]
    if len(steps) <= BINS:
        return steps, values
    steps, values = (
        np.array([part.mean() for part in np.array_split(column, BINS)])
        for column in (steps, values)
    )
    return steps, values


def _ticks(low: float, high: float) -> list[float]:
    """Return about five round numbers whose range contains `low` and `high`."""
    rough = (high - low) / 5
    unit = 10 ** np.floor(np.log10(rough))
    step = unit * next(factor for factor in (1, 2, 5, 10) if factor * unit >= rough * 0.999)
    first, last = np.floor(low / step), np.ceil(high / step * 0.9999)
    return [float(np.round(step * number, 12)) for number in np.arange(first, last + 1)]
