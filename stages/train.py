"""Train the fusion transformer, [seg], the projections and SAM 2's heads on the cached features.

Reads the index and the stores of features and labels; writes the trained weights
(model.safetensors), the losses of every step (loss.csv), and J and the percentage of rows with the
right object on frame 0 of val (validation.csv).

    dvc repro train
"""

from pathlib import Path

import pandas as pd
import torch

from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from sam2love.training.engine import start_engine
from sam2love.training.loop import fit
from sam2love.work import staged, stamps
from stages import run


def main(index_folder: Path, features: Path, out: Path) -> None:
    """Train on the rows of the split 'train'."""
    params = load_params()
    device = start_device(params.runtime)
    accelerator = start_engine(params.train, device=device)
    torch.manual_seed(params.train.seed)
    index = read_index(index_folder)
    rows = index.expressions
    train_rows = rows[(rows["split"] == "train") & (params.data.null_rows | ~rows["null"])]
    if train_rows.empty:
        raise ValueError(
            f"{index_folder}: no rows of split 'train' to learn from (data.null_rows is "
            f"{str(params.data.null_rows).lower()}); add some to metadata.csv, then run dvc repro"
        )
    kinds = dict(zip(index.kinds["uid"], index.kinds["kinds"], strict=True))
    val_rows = rows[rows["split"] == "val"].assign(kinds=lambda val: val["uid"].map(kinds))
    reader = FeatureReader(features, index, params=params)
    reader.check()  # otherwise sam2.zarr is first opened after grounding, hours later
    model = SAM2Love.build(params, **reader.dims).to(device)
    used = params.model_dump(mode="json", include={"data", "sam2", "fusion", "train"})
    work = [used, precision(device), stamps([index_folder, *sorted(features.glob("*.zarr"))])]
    with staged(out, work, owner=accelerator.is_main_process) as staging:
        history = fit(
            accelerator,
            model,
            train_rows,
            val_rows,
            reader,
            train=params.train,
            checkpoints=staging,
            workers=params.runtime.workers,
        )
        if accelerator.is_main_process:
            model.save(staging / "model.safetensors")
            _write_csv(staging / "loss.csv", history.losses)
            _write_csv(staging / "validation.csv", history.validations)
            out.mkdir(parents=True, exist_ok=True)
            for name in ("model.safetensors", "loss.csv", "validation.csv"):
                (staging / name).replace(out / name)
            last = history.validations[-1:]
            print(f"{out}: {len(history.losses)} steps on {len(train_rows)} rows, {last}")


def _write_csv(path: Path, records: list[dict[str, float]]) -> None:
    pd.DataFrame(records).to_csv(path, index=False, float_format="%.6g")


if __name__ == "__main__":
    run(main, processes="train")
