"""Compare a setting with a baseline row by row: `sam2love report SETTING --compare BASELINE`.

A setting is a folder with one run (scores/expressions.csv) or with a run per seed
(seed1/scores/expressions.csv, ...). Runs of the same name are paired and must have scored the same
rows. J&F is that of the protocol `frame` for each row, since the benchmark's own protocol scores
batches, not rows. Its threshold is the run's best for the split and stays fixed while clips are
drawn.

Null rows have neither J nor F nor a right object and are left out.
"""

from collections.abc import Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sam2love.compare.tables import markdown
from sam2love.dataset.index import read_table
from sam2love.evaluation.intervals import paired_difference

SCORES = Path("scores") / "expressions.csv"
IDENTITY = ["row", "uid", "split", "fid", "exp", "family", "kinds"]
NUMBERS = ["frame_J", "frame_F", "picked"]
MEASURES = {"J&F": ["frame_J", "frame_F"], "right object": ["picked"]}
"""By name, the columns whose mean is compared."""
Runs = dict[str, pd.DataFrame]
"""Rows that aren't null with their scores, by the name of the run; "" for a single run."""
PARTS = {"val": "val", "test_s": "test seen", "test_u": "test unseen"}
LEGEND = (
    "J&F (by `frame`, row by row) and right objects in percent, means over seeds and over rows "
    "that aren't null; difference: setting minus baseline, [95 % interval] over clips and, with "
    "several seeds, over seeds. mix: the mean of seen and unseen."
)


def compare_settings(settings: Sequence[Path], baseline: Path) -> tuple[str, list[str]]:
    """Return a Markdown table for each setting, and notes on runs left out.

    Raises:
        FileNotFoundError, ValueError: as `differences`.
    """
    parts, notes = [LEGEND], []
    for setting in settings:
        table, found = differences(setting, baseline)
        parts += [f"## {setting} against {baseline}", _markdown(table)]
        notes += found
    return "\n\n".join(parts), notes


def differences(setting: Path, baseline: Path) -> tuple[pd.DataFrame, list[str]]:
    """Return paired differences by split, by val's seen and unseen kinds, and by family.

    Returns:
        A row for each group of rows ("val unseen", "test mix", "test, motion", ...) and measure:
        "group", "measure", the fields of intervals.Difference, and "verdict"; and notes on seeds
        that only one of the two has.

    Raises:
        FileNotFoundError: a folder has no scores.
        ValueError: scores can't be read, the two have no seed in common, or their rows differ.
    """
    ours, theirs, notes = _paired(setting, baseline)
    rows = next(iter(theirs.values()))
    lines = []
    for group, selected, parts in _groups(rows):
        clips = rows["key"].to_numpy()[selected]
        for measure, columns in MEASURES.items():
            scores, baseline_scores = (
                np.stack([run.loc[selected, columns].mean(axis=1) for run in runs.values()])
                for runs in (ours, theirs)
            )  # (S, R) each
            result = paired_difference(scores, baseline_scores, clips, parts=parts)
            name = {"group": group, "measure": measure}
            lines.append(name | vars(result) | {"verdict": result.verdict})
    return pd.DataFrame(lines), notes


# ---- runs ---------------------------------------------------------------------------------------


def _paired(setting: Path, baseline: Path) -> tuple[Runs, Runs, list[str]]:
    """Return the runs that both have, in the same order, and notes on the others."""
    ours, theirs = read_runs(setting), read_runs(baseline)
    seeds = [name for name in ours if name in theirs]
    if not seeds:
        raise ValueError(
            f"{setting} has {_names(ours)} and {baseline} has {_names(theirs)}, so none can be "
            "paired; use the same folder name per seed in both, or name one run's folder each"
        )
    first = theirs[seeds[0]]
    for folder, runs in ((baseline, theirs), (setting, ours)):
        for name in seeds:
            _check_same_rows(runs[name], first, folder / name, baseline / seeds[0])
    notes = [
        f"{folder / name} is left out: the other setting has no run of that name"
        for folder, runs in ((setting, ours), (baseline, theirs))
        for name in runs
        if name not in seeds
    ]
    ours, theirs = ({name: runs[name] for name in seeds} for runs in (ours, theirs))
    return ours, theirs, notes


def read_runs(folder: Path) -> Runs:
    """Read the scores of a setting's run or runs.

    Raises:
        FileNotFoundError, ValueError: there are no scores, or they can't be read.
    """
    if (folder / SCORES).is_file():
        return {"": _read_rows(folder / SCORES)}
    files = sorted(folder.glob(f"*/{SCORES}"))
    if not files:
        raise FileNotFoundError(
            f"{folder}: found neither {SCORES} nor <seed>/{SCORES}; run the stage 'score'"
        )
    return {file.parent.parent.name: _read_rows(file) for file in files}


def _read_rows(file: Path) -> pd.DataFrame:
    try:
        table = read_table(file, [*IDENTITY, "key", "null", *NUMBERS])
    except ValueError as error:
        raise ValueError(f"{error}; run the stage 'score' again") from None
    positive = (table["null"] == "False") & table["split"].isin(PARTS)
    rows = table[positive].reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"{file}: nothing to compare: every row of {', '.join(PARTS)} is null")
    percent = rows["picked"].map({"True": "100", "False": "0"})
    scores = rows.assign(picked=percent)[NUMBERS].apply(pd.to_numeric, errors="coerce")
    for place, column in np.argwhere(~np.isfinite(scores.to_numpy())):
        name, row = NUMBERS[column], rows.loc[place]
        raise ValueError(
            f"{file}: row {row['row']} (uid {row['uid']!r}) has {name} {row[name]!r}, expected a "
            "score; run the stage 'score' again"
        )
    return rows.assign(**scores)


def _check_same_rows(
    rows: pd.DataFrame, others: pd.DataFrame, folder: Path, other_folder: Path
) -> None:
    count = min(len(rows), len(others))
    ours, theirs = rows[IDENTITY], others[IDENTITY]
    differ = (ours[:count] != theirs[:count]).to_numpy()  # (rows, columns)
    fault = f"{folder} and {other_folder} scored different rows, so can't be paired; the first: "
    if differ.any():
        place = int(differ.any(axis=1).argmax())
        column = IDENTITY[int(differ[place].argmax())]
        found, expected = (
            f"row {table['row'][place]} (uid {table['uid'][place]!r}, {column} "
            f"{table[column][place]!r})"
            for table in (rows, others)
        )
        raise ValueError(f"{fault}{found} against {expected}")
    if len(rows) != len(others):
        longer, only = (rows, folder) if len(rows) > count else (others, other_folder)
        raise ValueError(f"{fault}row {longer['row'][count]} is only in {only}")


def _names(runs: Runs) -> str:
    return "a single run" if "" in runs else f"the runs {', '.join(runs)}"


# ---- groups of rows -----------------------------------------------------------------------------


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Yield each group's name, its rows (R,) bool and, for a mix, the part of each of its rows."""
    kinds = rows["kinds"].where(rows["split"] == "val", "")
    part = (rows["split"].map(PARTS) + " " + kinds).str.strip()
    for split in ("val", "test"):
        inside = part.str.startswith(split).to_numpy()
        names = sorted(set(part[inside]))
        for name in names:
            yield name, (part == name).to_numpy(), None
        if names == [f"{split} seen", f"{split} unseen"]:
            yield f"{split} mix", inside, part[inside].to_numpy()
        families = rows["family"].to_numpy()
        for family in sorted(set(families[inside]) - {""}):
            yield f"{split}, {family}", inside & (families == family), None


# ---- Markdown ---------------------------------------------------------------------------------


def _markdown(table: pd.DataFrame) -> str:
    head = ["", "rows", "clips", "seeds"]
    for measure in MEASURES:
        head += [f"{measure}: setting", "baseline", "difference", "verdict"]
    lines = []
    for name, group in table.groupby("group", sort=False):
        records = group.to_dict("records")
        line = [str(name), *(str(records[0][count]) for count in head[1:4])]
        for record in records:
            line += [f"{record['setting']:.1f}", f"{record['baseline']:.1f}", _difference(record)]
            line.append(record["verdict"])
        lines.append(line)
    return markdown(head, lines)


def _difference(record: dict[Hashable, Any]) -> str:
    low, high = record["low"], record["high"]
    interval = "too few clips" if np.isnan(low) else f"{low:+.1f}, {high:+.1f}"
    return f"{record['difference']:+.1f} [{interval}]"
