"""What a run scored, arranged as the page's tables show it. J and F are percentages, S is a ratio.

Splits, families, baselines and null rows may be missing: what is not there is not shown.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from sam2love.dataset.index import NULL_SPLIT, SPLIT_NAMES, Index

ALL_SPLIT_NAMES = {**SPLIT_NAMES, NULL_SPLIT: "null"}
OURS = "SAM2-LOVE"
BASELINES = {
    "every_object": "every object at once",
    "largest": "the largest object",
    "central": "the most central object",
    "random": "a random object",
    "oracle_point": "the object meant (oracle)",
}
PAPER = {
    "EEMC": ([34.2, 51.3, 42.8, 49.5, 64.8, 57.2, 41.9, 58.1, 50.0], 0.007),
    "SAM2-LOVE": ([43.5, 51.9, 47.7, 66.5, 72.3, 69.4, 55.0, 62.1, 58.5], 0.23),
}
"""As printed, on Ref-AVS: J, F, J&F on seen, unseen and mix, and S. Source: SAM2-LOVE, Table 1."""
PROTOCOLS = ("refavs", "frame", "original", "davis")
ROW_COLUMNS = [
    "row", "family", "objects", "picked", "object_score", "gated", "S", "refavs_J", "refavs_F"
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
    """metrics.json.

    Raises:
        FileNotFoundError, ValueError: there is none, or it is no JSON object with "refavs".
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
    """The scored rows of the test splits: the index's columns, then ROW_COLUMNS and J&F.

    Raises:
        FileNotFoundError, ValueError: there is no table, it lacks a column, or scores other rows.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; run the stage 'score'")
    numbers = [column for column in ROW_COLUMNS if column != "family"]
    scores = pd.read_csv(
        path,
        dtype={"family": str},
        keep_default_na=False,  # a family may be called "null"
        na_values={column: [""] for column in numbers},
        encoding="utf-8",
    )
    missing = [column for column in ROW_COLUMNS if column not in scores]
    if missing:
        raise ValueError(f"{path}: column {missing[0]!r} is missing; run the stage 'score' again")
    foreign = set(scores["row"]) - set(index.expressions["row"])
    if foreign:
        raise ValueError(
            f"{path}: row {min(foreign)} is not in the index; run the stage 'score' again"
        )
    rows = index.expressions.merge(scores[ROW_COLUMNS], on="row", validate="one_to_one")
    rows["J&F"] = (rows["refavs_J"] + rows["refavs_F"]) / 2
    return rows[rows["split"].isin(ALL_SPLIT_NAMES)].reset_index(drop=True)


def systems(metrics: Mapping[str, Any]) -> list[System]:
    """Ours, then the baselines, the oracle last."""
    ours = metrics["refavs"]
    null = ours.get(NULL_SPLIT, {})
    listed = [System(OURS, _scores(ours), null.get("S"), null.get("S_ungated"), ours=True)]
    for name, title in BASELINES.items():
        if name in metrics.get("baselines", {}):
            scores = metrics["baselines"][name]["refavs"]
            s = scores.get(NULL_SPLIT, {}).get("S")
            listed.append(System(title, _scores(scores), s, ceiling=name == "oracle_point"))
    return listed


def paper() -> list[System]:
    """The best before the paper, and the paper, as it prints them."""
    listed = []
    for name, (figures, s) in PAPER.items():
        by_split = zip(*[iter(figures)] * 3, strict=True)
        scores = {
            split: dict(zip(("J", "F", "J&F"), of_split, strict=True))
            for split, of_split in zip(SPLIT_NAMES.values(), by_split, strict=True)
        }
        listed.append(System(f"{name}, the paper's figures", scores, s))
    return listed


def protocols(metrics: Mapping[str, Any]) -> list[System]:
    """Our masks by each protocol."""
    return [System(name, _scores(metrics[name]), None) for name in PROTOCOLS if name in metrics]


def _scores(by_split: Mapping[str, Any]) -> Scores:
    return {SPLIT_NAMES[name]: score for name, score in by_split.items() if name in SPLIT_NAMES}


def splits_shown(metrics: Mapping[str, Any]) -> list[str]:
    """Names of the splits with J and F, the one that sums them up last."""
    return [title for name, title in SPLIT_NAMES.items() if name in metrics["refavs"]]


def share_of_gap(metrics: Mapping[str, Any]) -> float | None:
    """How far ours is on the way from showing every object to the oracle, in mix J&F."""
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
    """Families by name, then all rows together; none if the data set tells no families."""
    meant = rows[~rows["null"]]
    if not (meant["family"] != "").any():
        return []
    told = [
        _family(str(name) or "(untold)", part) for name, part in meant.groupby("family", sort=True)
    ]
    return [*told, _family("all", meant, total=True)]


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
    """The figures that sum the run up: name, figure, note."""
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
    if (share := share_of_gap(metrics)) is not None:
        note = "of the way from showing every object at once to an oracle's point"
        listed.append(("Share of the gap closed", f"{share:.2f}", note))
    picked = metrics.get("picked", {})
    if told := {SPLIT_NAMES[name]: picked[name] for name in SPLIT_NAMES if name in picked}:
        note = f"{' / '.join(told)}; chance is {picked['chance']:.0f}\N{NO-BREAK SPACE}%"
        figure = " / ".join(f"{value:.0f}" for value in told.values()) + "\N{NO-BREAK SPACE}%"
        listed.append(("Right object picked", figure, note))
    if null := metrics["refavs"].get(NULL_SPLIT):
        ungated = null.get("S_ungated")
        note = "0 is best" + (f"; {ungated:.3f} without the gate" if ungated is not None else "")
        listed.append(("S, nothing to be found", f"{null['S']:.3f}", note))
    return listed


def _interval(metrics: Mapping[str, Any], split: str) -> str:
    means = metrics.get("clips", {}).get("refavs", {}).get(split)
    if not means:
        return "mean of J and F, percent"
    return (
        f"mean over clips {means['J&F']:.1f}, 95\N{NO-BREAK SPACE}% interval "
        f"{means['low']:.1f} to {means['high']:.1f}"
    )
