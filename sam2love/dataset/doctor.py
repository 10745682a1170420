"""What is wrong with a data set and what of it can be used, in lines for a person."""

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from sam2love.dataset import selections
from sam2love.dataset.faults import Fault, listing, rows_named
from sam2love.dataset.index import SPLITS
from sam2love.dataset.survey import Survey, survey


def examine(
    root: str | Path, *, every: bool = False, progress: bool = False
) -> tuple[list[str], bool]:
    """Check a whole data set: metadata, every frame, sound and mask.

    Args:
        every: list every fault, not the first few of a kind.

    Returns:
        A line for each fault, then what is usable; and whether it can be used as it is: nothing is
        fatal, and something is there.

    Raises:
        FileNotFoundError, ValueError: metadata.csv can't be read as a table.
    """
    found = survey(root, progress=progress)
    faults = [*found.faults, *_text_notes(found.index.expressions)]
    usable = not found.index.expressions.empty and not any(fault.fatal for fault in faults)
    return [*listing(faults, every=every), *_summary(found)], usable


def _text_notes(rows: pd.DataFrame) -> Iterator[Fault]:
    """What is to be known of the texts of usable rows before scores are believed."""
    texts = selections.plain(rows["exp"])
    ambiguous = rows[selections.ambiguous(rows)]
    for (key, text), same in ambiguous.groupby(["key", texts], sort=False):
        fids = ", ".join(map(str, sorted(same["fid"].unique())))
        yield _note(same, f"{text!r} means several objects of {key}: {fids}", "ambiguous")
    for (_, _, text), same in rows.groupby(["key", "fid", texts], sort=False):
        if len(same) > 1:
            yield _note(same, f"{text!r} is said of the same object again", "repeated")
    known, outside = selections.in_train(rows), rows["split"] != "train"
    for kind, what, part in (
        ("leaked", "stands in train too", rows[outside & known]),
        ("unseen", "does not stand in train", rows[outside & ~known]),
    ):
        for text, same in part.groupby(texts, sort=False):
            yield _note(same, f"{text!r} of {', '.join(same['split'].unique())} {what}", kind)


def _note(rows: pd.DataFrame, what: str, kind: str) -> Fault:
    return Fault(rows_named(rows["row"]), what, f"{kind} expressions", fatal=False)


def _summary(found: Survey) -> list[str]:
    rows, clips = found.index.expressions, found.index.clips
    texts, total = selections.plain(rows["exp"]), found.table["split"].value_counts()
    lines = [f"{len(clips)} clips, {clips['frames_key'].nunique()} with frames of their own"]
    for split in SPLITS:
        part = rows[rows["split"] == split]
        lines.append(
            f"{split}: {len(part)} of {total.get(split, 0)} rows usable, "
            f"{part['null'].sum()} null, {part['key'].nunique()} clips, "
            f"{texts[part.index].nunique()} texts"
        )
    for name, keeps in selections.SELECTIONS.items():
        counts = rows.loc[keeps(rows), "split"].value_counts()
        told = ", ".join(f"{split} {counts.get(split, 0)}" for split in SPLITS if split != "train")
        lines.append(f"score --only {name}: {told} rows")
    return lines
