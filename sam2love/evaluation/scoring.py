"""Score any system's masks against a data set: the command `sam2love score`."""

import json
import os
from pathlib import Path

import cv2
import pandas as pd
import typer

from sam2love.dataset.index import read_families, read_kinds
from sam2love.dataset.refavs import FRAMES
from sam2love.dataset.selections import read_expressions
from sam2love.evaluation.masks import MaskFolder, Masks, StoredMasks, scorable
from sam2love.evaluation.protocols import SCORED_SPLITS, score_rows
from sam2love.evaluation.scoreboard import scoreboard
from sam2love.evaluation.summary import Tree, row_table, summarise
from sam2love.stores.store import FeatureStore
from sam2love.work import replacing

RESAMPLES, SEED = 1000, 0
UIDS_LISTED = 5


def score_masks(
    path: Path,
    root: Path,
    *,
    json_file: Path | None = None,
    csv_file: Path | None = None,
    only: str | None = None,
    frames: int = FRAMES,
) -> Tree:
    """Score a folder of masks or a store; print the scores, and warnings to stderr.

    Args:
        path: a folder with <uid>/0000t.png, or a store such as predictions/masks.zarr.
        root: the data set; only metadata.csv, gt_mask/ and, if present, families.csv and kinds.csv
            are read.
        json_file: receives the scores, in the format of metrics.json.
        csv_file: receives the scores of each row, in the format of scores/expressions.csv.
        only: a name of selections.SELECTIONS; batches then consist of the selected rows.
        frames: of every clip.

    Raises:
        FileNotFoundError, IsADirectoryError, ValueError: there are no masks, some are missing or
            malformed, the data set can't be read, or the JSON or CSV file can't be written there.
    """
    for file in (json_file, csv_file):
        if file is None:
            continue
        if file.is_dir():
            raise IsADirectoryError(f"{file}: is a folder; name a file to write")
        if not file.absolute().parent.is_dir():
            raise FileNotFoundError(f"{file}: no such folder {file.parent}; create it first")
    masks = open_masks(path, frames=frames)
    expressions = read_expressions(root, SCORED_SPLITS, only=only)
    expressions, notes = scorable(expressions, masks)
    if isinstance(masks, MaskFolder):
        notes += [*shared_folders(expressions), *masks.ignored(expressions["uid"].unique())]
    cv2.setNumThreads(1)  # clips are already scored in parallel
    scores = score_rows(expressions, masks, root=root, threads=os.cpu_count() or 1, frames=frames)
    if not any(score.square.foreground for score in scores):
        notes.append("no mask has a foreground pixel; are they 0 or 1 instead of 0 to 255?")
    rows = row_table(expressions, scores, read_families(root), read_kinds(root))
    metrics = summarise(rows, scores, resamples=RESAMPLES, seed=SEED)
    if only is not None:
        metrics["only"] = only
        notes.append(f"only {only}: {len(rows)} rows, not comparable with scores on whole splits")
    for note in notes:
        typer.echo(f"warning: {note}", err=True)
    typer.echo(scoreboard(metrics, name=path.name))
    if csv_file is not None:
        with replacing(csv_file) as file:
            rows.to_csv(file, index=False, float_format="%.6f")
    if json_file is not None:
        with replacing(json_file) as file:
            file.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    return metrics


def open_masks(path: Path, *, frames: int = FRAMES) -> Masks:
    """Open a store or a folder of pictures.

    Raises:
        FileNotFoundError, ValueError: it is neither, or the store is incomplete.
    """
    if (path / "zarr.json").is_file():
        return StoredMasks(FeatureStore.open(path), frames=frames)
    if path.is_dir():
        return MaskFolder(path, frames=frames)
    raise FileNotFoundError(f"{path}: no such folder; expected one with <uid>/00000.png and so on")


def shared_folders(expressions: pd.DataFrame) -> list[str]:
    """Return a note on the uids that several rows, and so their masks, have in common."""
    counts = expressions["uid"].value_counts(sort=False)
    shared = counts[counts > 1].index.tolist()
    if not shared:
        return []
    more = ", ..." if len(shared) > UIDS_LISTED else ""
    return [
        f"{len(shared)} uids name several rows, which share a folder of masks: "
        + ", ".join(shared[:UIDS_LISTED])
        + more
    ]
