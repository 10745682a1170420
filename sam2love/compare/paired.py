"""A setting against a baseline, row by row: `sam2love report SETTING --compare BASELINE`.

A setting is a folder with a run in it (scores/expressions.csv) or with one run a seed
(seed1/scores/expressions.csv, ...). Runs of the same name are paired, and their rows must be the
same. J&F is that of the protocol `frame`, a row at a time: the benchmark's own scores batches of
rows, so that a row has no score of its own there. Its threshold is the run's best for the split and
stays fixed while clips are drawn.

Rows that mean nothing have neither J nor F nor a right object: they are left out.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

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
PARTS = {"val": "val", "test_s": "test seen", "test_u": "test unseen"}
KEY = (
    "J&F (`frame`, a row at a time) and right objects in percent, means over rows that mean "
    "something and over seeds; setting less baseline, [95 % interval] over clips and, with more "
    "than one seed, over seeds. mix: the mean of seen and unseen."
)


def compare_settings(settings: Sequence[Path], baseline: Path) -> tuple[str, list[str]]:
    """A table in Markdown for each setting, and notes on what isn't in them.

    Raises:
        FileNotFoundError, ValueError: as `differences`.
    """
    parts, notes = [KEY], []
    for setting in settings:
        table, found = differences(setting, baseline)
        parts += [f"## {setting} against {baseline}", _markdown(table)]
        notes += found
    return "\n\n".join(parts), notes


def differences(setting: Path, baseline: Path) -> tuple[pd.DataFrame, list[str]]:
    """Paired differences by split, by val's seen and unseen kinds, and by family.

    Returns:
        A row for each group of rows ("val unseen", "test mix", "test, motion", ...) and measure:
        "group", "measure", what intervals.Difference has, and "verdict"; and notes on seeds that
        only one of the two has.

    Raises:
        FileNotFoundError: a folder has no scores.
        ValueError: scores can't be read, no seed is in both, or the rows differ.
    """
    ours, theirs, notes = _paired(setting, baseline)
    rows = next(iter(theirs.values()))
    lines = []
    for group, chosen, parts in _groups(rows):
        clips = rows["key"].to_numpy()[chosen]
        for measure, columns in MEASURES.items():
            after, before = (
                np.stack([run.loc[chosen, columns].mean(axis=1) for run in runs.values()])
                for runs in (ours, theirs)
            )
            found = paired_difference(after, before, clips, parts=parts)
            named = {"group": group, "measure": measure}
            lines.append(named | vars(found) | {"verdict": found.verdict})
    return pd.DataFrame(lines), notes


# ---- runs ---------------------------------------------------------------------------------------


def _paired(setting: Path, baseline: Path) -> tuple[Runs, Runs, list[str]]:
    """The runs of the seeds that both have, in the same order, and notes on the others."""
    ours, theirs = read_runs(setting), read_runs(baseline)
    seeds = [name for name in ours if name in theirs]
    if not seeds:
        raise ValueError(
            f"{setting} holds {_names(ours)}, {baseline} holds {_names(theirs)}, so none can be "
            "paired; name the runs of a seed alike in both, or give the folder of one run each"
        )
    first = theirs[seeds[0]]
    for folder, runs in ((baseline, theirs), (setting, ours)):
        for name in seeds:
            _check_same_rows(runs[name], first, folder / name, baseline / seeds[0])
    notes = [
        f"{folder / name} is left out: no run of that name to pair it with"
        for folder, runs in ((setting, ours), (baseline, theirs))
        for name in runs
        if name not in seeds
    ]
    ours, theirs = ({name: runs[name] for name in seeds} for runs in (ours, theirs))
    return ours, theirs, notes


def read_runs(folder: Path) -> Runs:
    """The rows that mean something and their scores, by the name of the run; "" if there is one.

    Raises:
        FileNotFoundError, ValueError: there are no scores, or they can't be read.
    """
    if (folder / SCORES).is_file():
        return {"": _read_rows(folder / SCORES)}
    files = sorted(folder.glob(f"*/{SCORES}"))
    if not files:
        raise FileNotFoundError(
            f"{folder}: neither {SCORES} nor <seed>/{SCORES} in it; run the stage 'score'"
        )
    return {file.parent.parent.name: _read_rows(file) for file in files}


def _read_rows(file: Path) -> pd.DataFrame:
    try:
        table = read_table(file, [*IDENTITY, "key", "null", *NUMBERS])
    except ValueError as error:
        raise ValueError(f"{error}; run the stage 'score' again") from None
    meant = (table["null"] == "False") & table["split"].isin(PARTS)
    rows = table[meant].reset_index(drop=True)
    if rows.empty:
        raise ValueError(f"{file}: no row that means something, so nothing to compare")
    percent = rows["picked"].map({"True": "100", "False": "0"})
    scores = rows.assign(picked=percent)[NUMBERS].apply(pd.to_numeric, errors="coerce")
    for place, column in np.argwhere(~np.isfinite(scores.to_numpy())):
        name, row = NUMBERS[column], rows.loc[place]
        raise ValueError(
            f"{file}: row {row['row']} (uid {row['uid']!r}) has {name} {row[name]!r}, which is no "
            "score; run the stage 'score' again"
        )
    return rows.assign(**scores)


def _check_same_rows(
    rows: pd.DataFrame, others: pd.DataFrame, folder: Path, other_folder: Path
) -> None:
    count = min(len(rows), len(others))
    ours, theirs = rows[IDENTITY], others[IDENTITY]
    differ = (ours[:count] != theirs[:count]).to_numpy()
    where = f"{folder} and {other_folder} scored other rows, so they can't be paired; the first: "
    if differ.any():
        place = int(differ.any(axis=1).argmax())
        column = IDENTITY[int(differ[place].argmax())]
        found, expected = (
            f"row {table['row'][place]} (uid {table['uid'][place]!r}, {column} "
            f"{table[column][place]!r})"
            for table in (rows, others)
        )
        raise ValueError(f"{where}{found} against {expected}")
    if len(rows) != len(others):
        longer, names = (rows, folder) if len(rows) > count else (others, other_folder)
        raise ValueError(f"{where}row {longer['row'][count]} is in {names} alone")


def _names(runs: Runs) -> str:
    return "a single run" if "" in runs else f"the runs {', '.join(runs)}"


# ---- groups of rows -----------------------------------------------------------------------------


def _groups(rows: pd.DataFrame) -> Iterator[tuple[str, np.ndarray, np.ndarray | None]]:
    """Name, rows (R,) bool and, of a mix, the parts of these rows that count the same."""
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


# ---- as printed ---------------------------------------------------------------------------------


def _markdown(table: pd.DataFrame) -> str:
    head = ["", "rows", "clips", "seeds"]
    for measure in MEASURES:
        head += [f"{measure}: setting", "baseline", "difference", "verdict"]
    lines = []
    for name, group in table.groupby("group", sort=False):
        records = group.to_dict("records")
        line = [str(name), *(str(records[0][count]) for count in head[1:4])]
        for found in records:
            line += [f"{found['setting']:.1f}", f"{found['baseline']:.1f}"]
            line += [_interval(found["difference"], found["low"], found["high"]), found["verdict"]]
        lines.append(line)
    return markdown(head, lines)


def _interval(difference: float, low: float, high: float) -> str:
    if np.isnan(low):
        return f"{difference:+.1f} [too few clips]"
    return f"{difference:+.1f} [{low:+.1f}, {high:+.1f}]"
