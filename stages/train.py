"""Train the fusion transformer, [seg], the projections and SAM 2's heads on the cached features.

Reads the index and the stores of features and labels; writes the trained weights
(model.safetensors), the losses of every step (loss.csv), J and the percentage of rows with the
right object on frame 0 of val (validation.csv), and frame, truth and prediction of a few of them
(pictures/). All but the weights are there while it runs.

    dvc repro train
"""

from pathlib import Path

import torch

from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.encoders.weights import local_path, weights_file
from sam2love.model import WEIGHTS, SAM2Love
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from sam2love.training.engine import start_engine
from sam2love.training.loop import fit
from sam2love.training.monitor import Monitor
from sam2love.work import staged, stamps
from stages import run


def main(root: Path, index_folder: Path, features: Path, out: Path) -> None:
    """Train on the rows of the split 'train'."""
    params = load_params()
    init = params.train.init
    if init and weights_file(local_path(init.weights)).resolve().is_relative_to(out.resolve()):
        raise ValueError(
            f"{init.weights}: train.init is what this training will replace, and DVC removes it "
            "beforehand; get it back by dvc checkout, copy it by sam2love export, and name the copy"
        )
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
    model = SAM2Love.build(params, **reader.dims)
    if init:
        model.start_from(init)
    model.to(device)
    used = params.model_dump(mode="json", include={"data", "sam2", "fusion", "train"})
    work = [used, precision(device), stamps([index_folder, *sorted(features.glob("*.zarr"))])]
    with staged(out, work, owner=accelerator.is_main_process) as staging:
        monitor = None
        if accelerator.is_main_process:
            accelerator.init_trackers(staging.name)
            monitor = Monitor(
                out,
                accelerator=accelerator,
                model=model,
                rows=val_rows,
                reader=reader,
                root=root,
                train=params.train,
            )
        history = fit(
            accelerator,
            model,
            train_rows,
            val_rows,
            reader,
            train=params.train,
            checkpoints=staging,
            workers=params.runtime.workers,
            watch=monitor,
        )
        accelerator.end_training()
        if accelerator.is_main_process:
            model.save(staging / WEIGHTS)
            (staging / WEIGHTS).replace(out / WEIGHTS)  # the last of the outputs
            last = history.validations[-1:]
            print(f"{out}: {len(history.losses)} steps on {len(train_rows)} rows, {last}")


if __name__ == "__main__":
    run(main, root=True, processes="train")
