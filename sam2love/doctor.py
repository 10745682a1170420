"""What is wrong with a data set and what of it can be used, in lines for a person."""

from pathlib import Path

import pandas as pd

from sam2love import refavs


def examine(root: str | Path, *, progress: bool = False) -> tuple[list[str], bool]:
    """Check a whole data set: metadata, every frame, sound and mask.

    Returns:
        A line for each fault, then what is usable; and whether it can be used as it is: nothing is
        fatal, and something is there.

    Raises:
        FileNotFoundError, ValueError: metadata.csv can't be read as a table.
    """
    table = refavs.read_metadata(root)
    index, faults = refavs.survey(root, progress=progress)
    fatal = [f"fatal: {fault}" for fault in faults if fault.fatal]
    notes = [f"note: {fault}" for fault in faults if not fault.fatal]
    return [*fatal, *notes, *_summary(table, index)], not fatal and len(index.expressions) > 0


def _summary(table: pd.DataFrame, index: refavs.Index) -> list[str]:
    rows = index.expressions
    train_texts = set(rows.loc[rows["split"] == "train", "exp"])
    lines = []
    for split in refavs.SPLITS:
        part = rows[rows["split"] == split]
        texts = set(part["exp"])
        new = "" if split == "train" else f", {len(texts - train_texts)} of them not in train"
        lines.append(
            f"{split}: {len(part)} of {(table['split'] == split).sum()} rows usable, "
            f"{part['null'].sum()} null, {part['key'].nunique()} clips, {len(texts)} texts{new}"
        )
    unfinished = (table["split"] == refavs.UNUSABLE_SPLIT).sum()
    plain = rows["exp"].str.lower().str.strip(" .")
    fids = rows.groupby([rows["key"], plain])["fid"].nunique()
    own = index.clips["frames_key"].nunique()
    return [
        *lines,
        f"{refavs.UNUSABLE_SPLIT}: {unfinished} rows, left out",
        f"{len(index.clips)} clips in all, {own} with frames of their own",
        f"{(fids > 1).sum()} expressions mean several objects of their clip",
    ]
