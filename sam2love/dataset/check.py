"""Report what is wrong with a data set and how much of it is usable: `sam2love check`."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd

from sam2love.dataset import selections
from sam2love.dataset.faults import Fault, listing, rows_named
from sam2love.dataset.index import SPLITS, Index
from sam2love.dataset.refavs import FRAMES
from sam2love.dataset.survey import survey_clips, survey_tables


def examine(
    root: str | Path,
    *,
    write: Callable[[str], object],
    every: bool = False,
    frames: int = FRAMES,
) -> bool:
    """Check a whole data set: metadata, every frame, audio file and mask.

    Args:
        write: takes a line per fault, then a summary of what is usable. Lines on metadata.csv and
            folders come before any clip is read, which can take minutes.
        every: list every fault, not only the first few of each kind.
        frames: frames, and seconds of sound, of every clip.

    Returns:
        Whether the data set is usable as it is: it has usable rows and no fatal fault.

    Raises:
        FileNotFoundError, ValueError: metadata.csv can't be read as a table.
    """
    tables = survey_tables(root)
    for line in listing(tables.faults, every=every):
        write(line)
    found = survey_clips(tables, frames=frames)
    rows = found.index.expressions
    faults = [*found.faults[len(tables.faults) :], *_text_notes(rows)]
    for line in [*listing(faults, every=every), *_summary(found.index, tables.table)]:
        write(line)
    return not rows.empty and not any(fault.fatal for fault in found.faults)


def _text_notes(rows: pd.DataFrame) -> Iterator[Fault]:
    """Yield notes on texts of usable rows that affect how far scores can be trusted."""
    texts = selections.plain(rows["exp"])
    ambiguous = rows[selections.ambiguous(rows)]
    for (key, text), same in ambiguous.groupby(["key", texts], sort=False):
        fids = ", ".join(map(str, sorted(same["fid"].unique())))
        yield _note(same, f"{text!r} refers to several objects of {key}: {fids}", "ambiguous")
    for (_, _, text), same in rows.groupby(["key", "fid", texts], sort=False):
        if len(same) > 1:
            yield _note(same, f"{text!r} repeats an expression for the same object", "repeated")
    in_train, outside = selections.in_train(rows), rows["split"] != "train"
    for kind, what, subset in (
        ("leaked", "also occurs in train", rows[outside & in_train]),
        ("unseen", "does not occur in train", rows[outside & ~in_train]),
    ):
        for text, same in subset.groupby(texts, sort=False):
            yield _note(same, f"{text!r} of {', '.join(same['split'].unique())} {what}", kind)


def _note(rows: pd.DataFrame, what: str, kind: str) -> Fault:
    return Fault(rows_named(rows["row"]), what, f"{kind} expressions", fatal=False)


def _summary(index: Index, table: pd.DataFrame) -> list[str]:
    rows, clips = index.expressions, index.clips
    texts, total = selections.plain(rows["exp"]), table["split"].value_counts()
    lines = [f"{len(clips)} clips, {clips['frames_key'].nunique()} with distinct frames"]
    for split in SPLITS:
        subset = rows[rows["split"] == split]
        lines.append(
            f"{split}: {len(subset)} of {total.get(split, 0)} rows usable, "
            f"{subset['null'].sum()} null, {subset['key'].nunique()} clips, "
            f"{texts[subset.index].nunique()} texts"
        )
    for name, keeps in selections.SELECTIONS.items():
        kept = rows.loc[keeps(rows), "split"].value_counts()
        counts = ", ".join(f"{split} {kept.get(split, 0)}" for split in SPLITS if split != "train")
        lines.append(f"score --only {name}: {counts} rows")
    return lines
