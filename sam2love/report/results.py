"""Arrange a run's scores as the page's tables show them. J and F are percentages, S is a ratio.

Splits, families, baselines and null rows may be missing and are then not shown.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sam2love.dataset.index import NULL_SPLIT, SPLIT_NAMES, Index
from sam2love.evaluation.metrics import MEASURES, PROTOCOLS

ALL_SPLIT_NAMES = {**SPLIT_NAMES, NULL_SPLIT: "null"}
BASELINE_TITLES = {
    "every_object": "every object at once",
    "largest": "the largest object",
    "central": "the most central object",
    "random": "a random object",
    "oracle_point": "the target (oracle)",
}
PAPER = {
    "EEMC": ([34.2, 51.3, 42.8, 49.5, 64.8, 57.2, 41.9, 58.1, 50.0], 0.007),
    "SAM2-LOVE": ([43.5, 51.9, 47.7, 66.5, 72.3, 69.4, 55.0, 62.1, 58.5], 0.23),
}
"""On Ref-AVS: J, F, J&F on seen, unseen and mix, and S. Source: SAM2-LOVE, Table 1."""
ROW_COLUMNS = [
    "row", "family", "objects", "picked", "presence", "gated", "S", "S_ungated",
    "refavs_J", "refavs_F",
    "frame_J_ungated", "frame_F_ungated", "frame_J_empty", "frame_F_empty",
]  # fmt: skip

Scores = dict[str, dict[str, float]]
"""J, F and J&F by the name of the split."""


@dataclass(frozen=True)
class System:
    """A row of the table of scores."""

    name: str
    scores: Scores
    s: float | None
    s_ungated: float | None = None
    ours: bool = False
    ceiling: bool = False


@dataclass(frozen=True)
class Family:
    """A row of the table of families: means over rows."""

    name: str
    rows: int
    j: float
    f: float
    jf: float
    picked: float
    chance: float
    by_split: dict[str, float] = field(default_factory=dict)
    """J&F by the name of the split."""
    total: bool = False


def read_metrics(path: Path) -> dict[str, Any]:
    """Read metrics.json.

    Raises:
        FileNotFoundError, ValueError: it is missing, or not a JSON object with "refavs".
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run the stage 'score'")
    try:
        metrics = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not JSON ({error}); run the stage 'score' again") from None
    if not isinstance(metrics, dict) or "refavs" not in metrics:
        raise ValueError(f"{path}: expected an object with 'refavs'; run the stage 'score' again")
    return metrics


def read_rows(path: Path, index: Index) -> pd.DataFrame:
    """Read the scored rows: the index's columns, then ROW_COLUMNS and J&F.

    Raises:
        FileNotFoundError, ValueError: the table is missing, lacks a column, or has other rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run the stage 'score'")
    numbers = [column for column in ROW_COLUMNS if column != "family"]
    scores = pd.read_csv(
        path,
        dtype={"family": str},
        keep_default_na=False,  # a family may be called "null" or "NA"
        na_values={column: [""] for column in numbers},
        encoding="utf-8",
    )
    if missing := [column for column in ROW_COLUMNS if column not in scores]:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; run the stage 'score' again")
    if unknown := set(scores["row"]) - set(index.expressions["row"]):
        raise ValueError(
            f"{path}: row {min(unknown)} is not in the index; run the stage 'score' again"
        )
    rows = index.expressions.merge(scores[ROW_COLUMNS], on="row", validate="one_to_one")
    rows["J&F"] = (rows["refavs_J"] + rows["refavs_F"]) / 2
    return rows


def systems(metrics: Mapping[str, Any]) -> list[System]:
    """Return ours, then the baselines in the order of metrics.json, where the oracle is last."""
    ours = metrics["refavs"]
    null = ours.get(NULL_SPLIT, {})
    listed = [System("SAM2-LOVE", _scores(ours), null.get("S"), null.get("S_ungated"), ours=True)]
    for name, tree in metrics.get("baselines", {}).items():
        scores = tree["refavs"]
        s = scores.get(NULL_SPLIT, {}).get("S")
        title = BASELINE_TITLES.get(name, name)
        listed.append(System(title, _scores(scores), s, ceiling=name == "oracle_point"))
    return listed


def paper() -> list[System]:
    """Return the paper's figures: the best earlier system's, and its own."""
    listed = []
    for name, (figures, s) in PAPER.items():
        by_split = zip(*[iter(figures)] * 3, strict=True)
        scores = {
            split: dict(zip(MEASURES, of_split, strict=True))
            for split, of_split in zip(SPLIT_NAMES.values(), by_split, strict=True)
        }
        listed.append(System(f"{name}, the paper's figures", scores, s))
    return listed


def protocols(metrics: Mapping[str, Any]) -> list[System]:
    """Return our scores by each protocol."""
    return [System(name, _scores(metrics[name]), None) for name in PROTOCOLS if name in metrics]


def _scores(by_split: Mapping[str, Any]) -> Scores:
    return {SPLIT_NAMES[name]: score for name, score in by_split.items() if name in SPLIT_NAMES}


def splits_shown(metrics: Mapping[str, Any]) -> list[str]:
    """Return the names of the splits with J and F, ending with 'mix' if there is one."""
    return [title for name, title in SPLIT_NAMES.items() if name in metrics["refavs"]]


def gap_closed(metrics: Mapping[str, Any]) -> float | None:
    """Return the fraction closed of the gap in mix J&F between every object at once and oracle."""
    try:
        ours, low, high = (
            tree["refavs"]["mix"]["J&F"]
            for tree in (
                metrics,
                metrics["baselines"]["every_object"],
                metrics["baselines"]["oracle_point"],
            )
        )
    except KeyError:
        return None
    return (ours - low) / (high - low) if high > low else None


def families(rows: pd.DataFrame) -> list[Family]:
    """Return families by name, then all rows together; nothing if no row has a family."""
    positive = rows[~rows["null"]]
    if not (positive["family"] != "").any():
        return []
    groups = positive.groupby("family", sort=True)
    listed = [_family(str(name) or "(no family)", part) for name, part in groups]
    return [*listed, _family("all", positive, total=True)]


def _family(name: str, rows: pd.DataFrame, *, total: bool = False) -> Family:
    j, f = float(rows["refavs_J"].mean()), float(rows["refavs_F"].mean())
    by_split = rows.groupby("split")["J&F"].mean()
    return Family(
        name=name,
        rows=len(rows),
        j=j,
        f=f,
        jf=(j + f) / 2,
        picked=100 * float(rows["picked"].astype(float).mean()),
        chance=100 * float((1 / rows["objects"]).mean()),
        by_split={SPLIT_NAMES[str(split)]: float(value) for split, value in by_split.items()},
        total=total,
    )


def tiles(metrics: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the figures that summarise the run: name, figure, note."""
    listed = []
    scores = _scores(metrics["refavs"])
    if summary := splits_shown(metrics)[-1:]:
        name = summary[0]
        key = next(key for key, title in SPLIT_NAMES.items() if title == name)
        listed.append((f"J&F, {name}", f"{scores[name]['J&F']:.1f}", _interval(metrics, key)))
    if "mix" in scores:
        seen, unseen = scores["seen"]["J&F"], scores["unseen"]["J&F"]
        note = f"{abs(seen - unseen):.1f} points {'lower' if unseen < seen else 'higher'} unseen"
        listed.append(("J&F, seen / unseen", f"{seen:.1f} / {unseen:.1f}", note))
    if (fraction := gap_closed(metrics)) is not None:
        note = "of the way from showing every object at once to the oracle"
        listed.append(("Gap closed", f"{fraction:.2f}", note))
    picked = metrics.get("picked", {})
    if rates := {SPLIT_NAMES[name]: picked[name] for name in SPLIT_NAMES if name in picked}:
        note = f"{' / '.join(rates)}; chance is {picked['chance']:.0f}\N{NO-BREAK SPACE}%"
        figure = " / ".join(f"{rate:.0f}" for rate in rates.values()) + "\N{NO-BREAK SPACE}%"
        listed.append(("Right object picked", figure, note))
    if null := metrics["refavs"].get(NULL_SPLIT):
        ungated = null.get("S_ungated")
        note = "0 is best" + (f"; {ungated:.3f} without the gate" if ungated is not None else "")
        listed.append(("S on null rows", f"{null['S']:.3f}", note))
    return listed


def _interval(metrics: Mapping[str, Any], split: str) -> str:
    means = metrics.get("clips", {}).get("refavs", {}).get(split)
    if not means:
        return "mean of J and F, percent"
    return (
        f"mean over clips {means['J&F']:.1f}, 95\N{NO-BREAK SPACE}% interval "
        f"{means['low']:.1f} to {means['high']:.1f}"
    )
