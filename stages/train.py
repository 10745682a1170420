"""Train the fusion transformer, [seg], the projections and SAM 2's heads from the cached features.

Reads the index, the feature stores and the true masks of the first frames; writes the trained
weights (model.safetensors), every step's losses (loss.csv) and J and F on val (validation.csv).

    dvc repro train
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sam2love import refavs
from sam2love.features import FeatureReader
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.training import fit
from stages import run


def main(root: Path, index_folder: Path, features: Path, out: Path) -> None:
    """Train on the rows of the split 'train'."""
    params = load_params()
    torch.set_num_threads(params.runtime.threads)
    torch.manual_seed(params.train.seed)
    index = refavs.read_index(index_folder)
    rows = index.expressions
    train_rows = rows[(rows["split"] == "train") & (params.data.null_rows | ~rows["null"])]
    val_rows = rows[rows["split"] == "val"]
    sizes = index.clips.set_index("key")[["height", "width"]]

    def read_mask(key: str, fid: int) -> torch.Tensor:
        mask = refavs.read_mask(root, key, fid, 0)
        if mask is None:  # a null row's
            mask = np.zeros(tuple(sizes.loc[key]), dtype=bool)
        return torch.from_numpy(mask).float()

    reader = FeatureReader(features, index, params=params)
    model = SAM2Love.build(params, **reader.dims)
    steps, validations = [], []
    progress = fit(model, train_rows, val_rows, read_mask, reader, train=params.train)
    for losses, validation in progress:
        steps.append(losses)
        if validation is not None:
            validations.append(validation)

    out.mkdir(parents=True, exist_ok=True)
    model.save(out / "model.safetensors")
    pd.DataFrame(steps).to_csv(out / "loss.csv", index=False, float_format="%.6g")
    pd.DataFrame(validations).to_csv(out / "validation.csv", index=False, float_format="%.6g")
    print(f"{out}: {len(steps)} steps on {len(train_rows)} rows, {validations[-1:]}")


if __name__ == "__main__":
    run(main)
