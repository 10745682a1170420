"""What a model relies on: the right objects lost when one modality of the input is changed.

A modality is blanked (silence, gray frames, an empty sentence) or swapped for another row's. The
verdict follows the swap, whose inputs are as natural as the row's own: a model may fail on silence
only because it never heard any.
"""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from sam2love.evaluation.intervals import FEWEST_CLIPS, Difference, paired_difference

INTACT = "intact"
"""The condition in which nothing is changed."""
MODALITIES = {
    # as in fusion.modalities: its name in a verdict, blanked, swapped
    "audio": ("sound", "sound muted", "sound swapped"),
    "text": ("sentence", "sentence emptied", "sentence swapped"),
    "vision": ("picture", "picture blanked", "picture swapped"),
}
CONDITIONS = [INTACT, *(name for _, *changed in MODALITIES.values() for name in changed)]
COLUMNS = [
    "family", "condition", "rows", "clips", "chance", "right", "lost", "low", "high"
]  # fmt: skip
LABEL, WIDTH = 18, 18
NAMED = 3
"""Families that a verdict names."""
ALL = ""
"""The family of all rows together; no family of a data set has this name."""


def reliance(scores: pd.DataFrame) -> pd.DataFrame:
    """Compare each condition with the intact input, by family and over all rows.

    Args:
        scores: a line for each row and condition: row, key (of the clip), family ("" if unknown),
            objects (of the clip), condition, right (100 or 0).

    Returns:
        COLUMNS, families by name, then ALL; nothing without scores. chance and right are in
        percent. lost is right when intact minus right, in points, with its 95 % interval over
        clips, low to high: NaN when intact, and the interval also with too few clips.
    """
    lines = []
    for family, rows in _groups(scores):
        right = rows.pivot(index="row", columns="condition", values="right")
        described = rows.drop_duplicates("row").set_index("row").loc[right.index]
        common = {
            "family": family,
            "rows": len(right),
            "clips": described["key"].nunique(),
            "chance": 100 * float((1 / described["objects"]).mean()),
        }
        for condition in CONDITIONS:
            line = {"condition": condition, "right": float(right[condition].mean())}
            if condition != INTACT:
                result = _lost(right, condition, described["key"].to_numpy())
                line |= {"lost": result.difference, "low": result.low, "high": result.high}
            lines.append(common | line)
    return pd.DataFrame(lines, columns=COLUMNS)


def _groups(scores: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    if scores.empty:
        return
    for family, rows in scores.groupby("family", sort=True):
        if family != ALL:
            yield str(family), rows
    yield ALL, scores


def _lost(right: pd.DataFrame, condition: str, clips: np.ndarray) -> Difference:
    intact, changed = (right[name].to_numpy()[None] for name in (INTACT, condition))
    return paired_difference(intact, changed, clips)


def as_text(table: pd.DataFrame) -> str:
    """Format a table from `reliance`: right objects in percent, a line per family; then all."""
    lines = [
        f"{'right, percent':<{LABEL}}{'rows':>6}{'chance':>8}"
        + "".join(f"{name:>{WIDTH}}" for name in CONDITIONS)
    ]
    for family, group in table.groupby("family", sort=False):
        first, right = group.iloc[0], group.set_index("condition")["right"]
        cells = "".join(f"{right[name]:>{WIDTH}.1f}" for name in CONDITIONS)
        label = "all" if family == ALL else str(family)
        lines.append(f"{label:<{LABEL}}{first['rows']:>6}{first['chance']:>8.1f}{cells}")
    return "\n".join(lines)


def verdicts(table: pd.DataFrame) -> list[str]:
    """Say in a sentence for each modality whether the model relies on it, from all rows together.

    Args:
        table: from `reliance`.

    Returns:
        The sentences; none if the table is empty.
    """
    swapped = {name: swap for name, _, swap in MODALITIES.values()}
    return [
        _verdict(name, table[table["condition"] == condition])
        for name, condition in swapped.items()
        if len(table)
    ]


def _verdict(name: str, swapped: pd.DataFrame) -> str:
    """Return the sentence about a modality from the lines of `reliance` where it is swapped."""
    overall = swapped[swapped["family"] == ALL].iloc[0]
    if np.isnan(overall["low"]):
        return (
            f"Too few clips to tell whether the model relies on the {name}: "
            f"{overall['clips']} with rows to measure, at least {FEWEST_CLIPS} are needed."
        )
    found = "No effect of the {} found"
    if overall["low"] > 0:
        found = "The model relies on the {}"
    elif overall["high"] < 0:
        found = "The {} misleads the model"
    interval = f"[{overall['low']:.1f}, {overall['high']:.1f}]"
    cost = f"swapping it costs {overall['lost']:.1f} points of right objects {interval}"
    clear = swapped[(swapped["family"] != ALL) & (swapped["low"] > 0)]
    largest = clear.sort_values("lost", ascending=False, kind="stable")[:NAMED]
    families = ", ".join(f"{row.family} ({row.lost:.0f})" for row in largest.itertuples())
    where = "most in" if overall["low"] > 0 else "though more in"
    return f"{found.format(name)}: {cost}{f', {where} {families}' if families else ''}."
