"""Arrange diagnostics.csv for the page: families by conditions, and a verdict per modality."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from sam2love.dataset.index import read_table
from sam2love.evaluation.reliance import ALL, COLUMNS, CONDITIONS, verdicts


@dataclass(frozen=True)
class Cell:
    """Right objects in percent, and whether the difference to intact is clear of 0."""

    right: float
    clear: bool


@dataclass(frozen=True)
class Family:
    """A line of the table; `cells` are in the order of CONDITIONS."""

    name: str
    rows: int
    chance: float
    cells: list[Cell]
    total: bool


@dataclass(frozen=True)
class Reliance:
    """The section about modalities."""

    verdicts: list[str]
    conditions: list[str]
    families: list[Family]


def read_reliance(path: Path) -> Reliance | None:
    """Read what the stage 'diagnose' wrote; None if there is no file, or no row was measured.

    Raises:
        ValueError: the file is not such a table.
    """
    if not path.is_file():
        return None
    try:
        table = read_table(path, COLUMNS)
    except ValueError as error:
        raise ValueError(f"{error}; run the stage 'diagnose' again") from None
    numbers = [name for name in COLUMNS if name not in ("family", "condition")]
    table[numbers] = table[numbers].apply(pd.to_numeric)
    if table.empty:
        return None
    families = [_family(str(name), group) for name, group in table.groupby("family", sort=False)]
    return Reliance(verdicts(table), CONDITIONS, families)


def _family(name: str, lines: pd.DataFrame) -> Family:
    by_condition = lines.set_index("condition").loc[CONDITIONS]
    clear = (by_condition["low"] > 0) | (by_condition["high"] < 0)
    cells = [Cell(*pair) for pair in zip(by_condition["right"], clear, strict=True)]
    first = lines.iloc[0]
    return Family(
        name="all" if name == ALL else name,
        rows=int(first["rows"]),
        chance=float(first["chance"]),
        cells=cells,
        total=name == ALL,
    )
