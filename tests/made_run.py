"""Write a simulated run on the tiny data set: everything that the report reads."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from sam2love.dataset import refavs
from sam2love.dataset.index import is_null, read_index, write_index
from sam2love.evaluation.baselines import ObjectBaselines
from sam2love.evaluation.masks import StoredMasks
from sam2love.evaluation.protocols import SCORED_SPLITS, score_rows
from sam2love.evaluation.summary import row_table, summarise
from sam2love.stores.store import ArraySpec, FeatureStore, fill_store
from tests.tiny import build_index

SIDE = 16
SPECS = [
    ArraySpec("logits", (refavs.FRAMES, SIDE, SIDE), "float16", 4, "mask logits"),
    ArraySpec("presence", (), "float32", 4, "presence"),
]


def make_run(root: Path, run: Path) -> Path:
    """Write a run whose masks are the true ones, coarsened; odd null rows are gated."""
    run.mkdir(exist_ok=True)
    params = yaml.safe_load(Path("params.yaml").read_text())
    params["data"]["root"] = str(root)
    (run / "params.yaml").write_text(yaml.safe_dump(params))
    index = build_index(root)
    write_index(index, run / "index")
    masks, objects = {}, {}
    for entry in index.expressions.itertuples():
        if entry.split in SCORED_SPLITS:
            score = (-1.5 if entry.row % 2 else 0.5) if entry.null else 2.0
            masks[str(entry.row)] = (_logits(root, entry.key, entry.fid), score)
    for clip in index.clips.itertuples():
        for fid in refavs.objects(root, clip.key):
            objects[f"{clip.frames_key}/{fid}"] = (_logits(root, clip.key, fid), 1.0)
    fill(run / "predictions" / "masks.zarr", masks, gate=True)
    fill(run / "predictions" / "objects.zarr", objects)
    _write_curves(run / "model")
    write_scores(root, run)
    return run


def write_scores(root: Path, run: Path) -> None:
    """Score the run's masks, as the stage does."""
    index = read_index(run / "index")
    expressions = index.expressions[index.expressions["split"].isin(SCORED_SPLITS)]
    baselines = ObjectBaselines(
        FeatureStore.open(run / "predictions" / "objects.zarr"),
        frames_keys=dict(zip(index.clips["key"], index.clips["frames_key"], strict=True)),
        seed=0,
    )
    masks = StoredMasks(FeatureStore.open(run / "predictions" / "masks.zarr"))
    scores = score_rows(expressions, masks, root=root, baselines=baselines)
    rows = row_table(expressions, scores, index.families, index.kinds)
    (run / "scores").mkdir(exist_ok=True)
    rows.to_csv(run / "scores" / "expressions.csv", index=False)
    (run / "metrics.json").write_text(json.dumps(summarise(rows, scores, resamples=20, seed=0)))


def fill(path: Path, items: dict[str, tuple[np.ndarray, float]], **provenance: bool) -> None:
    """Write a store of logits (10, SIDE, SIDE) and presences by id."""

    def encode(ids: list[str]) -> dict[str, np.ndarray]:
        return {
            "logits": np.stack([items[name][0] for name in ids]),
            "presence": np.array([items[name][1] for name in ids], np.float32),
        }

    fill_store(
        path,
        specs=SPECS,
        ids=list(items),
        provenance=provenance,
        encode=encode,
        batch_size=4,
        description="made up",
    )


def _logits(root: Path, key: str, fid: int) -> np.ndarray:
    """Return true masks as coarse logits, or a central block where there are none."""
    masks = None if is_null(key) else refavs.read_masks(root, key, fid)
    if masks is None:
        masks = np.zeros((refavs.FRAMES, 48, 64), bool)
        masks[:, 12:30, 20:40] = True
    blocks = masks.reshape(refavs.FRAMES, SIDE, 3, SIDE, 4).any((2, 4))
    return np.where(blocks, 6.0, -6.0)


def _write_curves(model: Path) -> None:
    model.mkdir(exist_ok=True)
    steps = np.arange(40)
    loss = {"step": steps, "loss": 2 / (1 + steps), "bce": 1 / (1 + steps), "dice": steps * 0.0}
    pd.DataFrame(loss).to_csv(model / "loss.csv", index=False)
    validation = {"step": [19, 39]}
    for part, ends in {"": (40.0, 55.5), "_seen": (45.0, 65.0), "_unseen": (35.0, 46.0)}.items():
        validation |= {f"J{part}": ends, f"right{part}": ends}
    pd.DataFrame(validation).to_csv(model / "validation.csv", index=False)
