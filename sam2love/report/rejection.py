"""Arrange what presence says about null rows: a table, and two charts."""

from dataclasses import dataclass

import pandas as pd

from sam2love.evaluation import rejection
from sam2love.report.charts import Chart, Curve, line_chart

UNDECIDED = (0.1, 0.9)


@dataclass(frozen=True)
class Separation:
    """A row of the table: rows of a split that aren't null against its null rows, or a family.

    split: "val" or "test".
    family: of the null rows; "" for all of them.
    undecided: number of rows whose belief lies within UNDECIDED.
    calibration_error: None for a family, since it depends on the proportion of null rows.
    """

    split: str
    family: str
    present_rows: int
    null_rows: int
    undecided: int
    auc: float
    calibration_error: float | None
    s: float


@dataclass(frozen=True)
class Section:
    """The content of the section on null rows."""

    table: list[Separation]
    charts: list[Chart]


def section(rows: pd.DataFrame) -> Section | None:
    """Return the section about rows as from `results.read_rows`.

    Returns:
        None if neither val nor the test splits have a presence for null rows and for others.
    """
    parts = rejection.comparable(rows)
    if not parts:
        return None
    table = []
    for split, part in parts.items():
        families = {"": part} | rejection.by_null_family(part)
        table += [_separation(split, family, of) for family, of in families.items()]
    charts = [_calibration_chart(parts), _trade_off_chart(parts)]
    return Section(table, [chart for chart in charts if chart is not None])


def _separation(split: str, family: str, rows: pd.DataFrame) -> Separation:
    null = int(rows["null"].sum())
    error = None if family else rejection.calibration_error(rejection.calibration(rows))
    return Separation(
        split=split,
        family=family,
        present_rows=len(rows) - null,
        null_rows=null,
        undecided=int(rejection.belief(rows).between(*UNDECIDED).sum()),
        auc=rejection.area_under_curve(rows),
        calibration_error=error,
        s=rejection.null_s(rows),
    )


def _calibration_chart(parts: dict[str, pd.DataFrame]) -> Chart | None:
    curves = {name: rejection.calibration(part) for name, part in parts.items()}
    return line_chart(
        "Fraction of rows whose object is in the clip, by belief",
        {name: (curve["belief"], curve["present"]) for name, curve in curves.items()}
        | {"calibrated": ([0.0, 1.0], [0.0, 1.0])},
        x_label="belief",
    )


def _trade_off_chart(parts: dict[str, pd.DataFrame]) -> Chart | None:
    curves = {name: rejection.trade_off(part) for name, part in parts.items()}
    lines: dict[str, Curve] = {name: (curve["S"], curve["J&F"]) for name, curve in curves.items()}
    for name, part in parts.items():
        score, s = rejection.with_gate(part, rejection.GATE_LOGIT)
        lines[f"{name}, threshold 0"] = ([s], [score])
    return line_chart("J&F, percent, against S of null rows", lines, x_label="S")
