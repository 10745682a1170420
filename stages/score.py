"""Stage score: compare the masks with the truth, by every protocol, and the baselines beside them.

    python -m stages.score INDEX PREDICTIONS SCORES

Reads the index, the true masks, PREDICTIONS/masks.zarr and PREDICTIONS/objects.zarr; writes
SCORES/expressions.csv (a row per expression) and metrics.json. Some 10 ms a row on the mini data
set, 0.2 s where pictures are 1280 x 720.
"""

import json
from pathlib import Path
from typing import Annotated

import cv2
import typer

from sam2love.dataset.index import read_index
from sam2love.evaluation.baselines import ObjectBaselines
from sam2love.evaluation.masks import StoredMasks, scorable
from sam2love.evaluation.protocols import SCORED_SPLITS, score_rows
from sam2love.evaluation.scoreboard import scoreboard
from sam2love.evaluation.summary import row_table, summarise
from sam2love.params import load_params
from sam2love.stores import provenance
from sam2love.stores.store import FeatureStore
from sam2love.work import replacing
from stages import run


def main(
    data_root: Annotated[Path, typer.Argument(help="Folder with gt_mask/.")],
    index_folder: Annotated[Path, typer.Argument(help="What the stage 'index' wrote.")],
    predictions: Annotated[Path, typer.Argument(help="Folder with masks.zarr, objects.zarr.")],
    scores_folder: Annotated[Path, typer.Argument(help="Folder to write.")],
    metrics_file: Annotated[Path, typer.Option("--metrics", help="File to write.")] = Path(
        "metrics.json"
    ),
) -> None:
    params = load_params()
    cv2.setNumThreads(1)  # a thread works on a clip
    index = read_index(index_folder)
    expressions = index.expressions[index.expressions["split"].isin(SCORED_SPLITS)]
    if expressions.empty:
        told = f"no rows of {', '.join(SCORED_SPLITS)} to score"
        raise ValueError(f"{index_folder}: {told}; add some to metadata.csv, then dvc repro")
    made = provenance.of_masks("propagate", index_folder)
    masks = StoredMasks(FeatureStore.open(predictions / "masks.zarr", made))
    expressions, notes = scorable(expressions, masks)
    baselines = ObjectBaselines(
        FeatureStore.open(predictions / "objects.zarr", made | {"stage": "baselines"}),
        frames_keys=dict(zip(index.clips["key"], index.clips["frames_key"], strict=True)),
        seed=params.score.seed,
    )
    scores = score_rows(
        expressions,
        masks,
        root=data_root,
        baselines=baselines,
        threads=params.runtime.threads,
        progress=True,
    )
    rows = row_table(expressions, scores, index.families, index.kinds)
    metrics = summarise(rows, scores, resamples=params.score.bootstrap, seed=params.score.seed)
    scores_folder.mkdir(parents=True, exist_ok=True)
    with replacing(scores_folder / "expressions.csv") as file:
        rows.to_csv(file, index=False, float_format="%.6f")
    with replacing(metrics_file) as file:
        file.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    print("\n".join([*notes, scoreboard(metrics, name="sam2love")]))


if __name__ == "__main__":
    run(main, root=True)
