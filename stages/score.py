"""Score the masks and the baselines against the truth by every protocol.

Reads the index, the true masks, predictions/masks.zarr and predictions/objects.zarr; writes
scores/expressions.csv (a row per expression) and metrics.json. Takes some 10 ms per row on the mini
data set, 0.2 s with pictures of 1280 x 720.

    dvc repro score
"""

import json
from pathlib import Path

import cv2

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
    root: Path,
    index_folder: Path,
    predictions: Path,
    out: Path,
    metrics_file: Path = Path("metrics.json"),
) -> None:
    """Score the rows of val and the test splits."""
    params = load_params()
    frames = params.data.frames
    cv2.setNumThreads(1)  # clips are already scored in parallel
    index = read_index(index_folder)
    expressions = index.expressions[index.expressions["split"].isin(SCORED_SPLITS)]
    if expressions.empty:
        raise ValueError(
            f"{index_folder}: no row of {', '.join(SCORED_SPLITS)} to score; add some to "
            "metadata.csv, then run dvc repro"
        )
    expected = provenance.of_masks("propagate", index_folder)
    masks = StoredMasks(FeatureStore.open(predictions / "masks.zarr", expected), frames=frames)
    expressions, notes = scorable(expressions, masks)
    baselines = ObjectBaselines(
        FeatureStore.open(predictions / "objects.zarr", expected | {"stage": "baselines"}),
        frames_keys=dict(zip(index.clips["key"], index.clips["frames_key"], strict=True)),
        seed=params.score.seed,
        frames=frames,
    )
    scores = score_rows(
        expressions,
        masks,
        root=root,
        baselines=baselines,
        threads=params.runtime.threads,
        frames=frames,
    )
    rows = row_table(expressions, scores, index.families, index.kinds)
    metrics = summarise(rows, scores, resamples=params.score.bootstrap, seed=params.score.seed)
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / "expressions.csv") as file:
        rows.to_csv(file, index=False, float_format="%.6f")
    with replacing(metrics_file) as file:
        file.write_text(json.dumps(metrics, indent=2, allow_nan=False) + "\n")
    print("\n".join([*notes, scoreboard(metrics, name="sam2love")]))


if __name__ == "__main__":
    run(main, root=True)
