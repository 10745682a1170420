"""Scores anyone's masks against a data set: the command `sam2love score`."""

import json
import os
from pathlib import Path

import cv2
import pandas as pd
import typer

from sam2love.dataset.index import read_families, read_kinds
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
) -> Tree:
    """Score a folder of masks or a store, and print the table and what is odd.

    Args:
        path: <uid>/0000t.png, or a store as predictions/masks.zarr.
        root: the data set; only metadata.csv, gt_mask/ and, if there, families.csv and kinds.csv
            are read.
        json_file: where the scores go, in the shape of metrics.json.
        csv_file: where each row's scores go, in the shape of scores/expressions.csv.
        only: the name of a selection of rows (selections.SELECTIONS), which also makes the batches.

    Raises:
        FileNotFoundError, ValueError: there are no masks, some are missing or misshapen, the data
            set can't be read, or there is no place for the JSON or the CSV.
    """
    for file in (json_file, csv_file):
        if file is None:
            continue
        if file.is_dir():
            raise IsADirectoryError(f"{file}: a folder; expected a file to write")
        if not file.absolute().parent.is_dir():
            raise FileNotFoundError(f"{file}: there is no folder {file.parent}")
    masks = open_masks(path)
    expressions = read_expressions(root, SCORED_SPLITS, only=only)
    expressions, notes = scorable(expressions, masks)
    if isinstance(masks, MaskFolder):
        notes += [*shared_folders(expressions), *masks.left_aside(expressions["uid"].unique())]
    cv2.setNumThreads(1)  # a thread works on a clip
    scores = score_rows(expressions, masks, root=root, threads=os.cpu_count() or 1, progress=True)
    if not any(score.square.foreground for score in scores):
        notes.append("no pixel of any mask is foreground; values are read as value / 255")
    rows = row_table(expressions, scores, read_families(root), read_kinds(root))
    metrics = summarise(rows, scores, resamples=RESAMPLES, seed=SEED)
    if only is not None:
        metrics["only"] = only
        notes.append(f"only {only}: {len(rows)} rows; not comparable with scores of whole splits")
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


def open_masks(path: Path) -> Masks:
    """A store, or a folder of pictures.

    Raises:
        FileNotFoundError, ValueError: it is neither, or the store isn't whole.
    """
    if (path / "zarr.json").is_file():
        return StoredMasks(FeatureStore.open(path))
    if path.is_dir():
        return MaskFolder(path)
    raise FileNotFoundError(f"{path}: no such folder; expected <uid>/00000.png and so on in it")


def shared_folders(expressions: pd.DataFrame) -> list[str]:
    """A note on the folders that serve several rows, since they have the same uid."""
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
