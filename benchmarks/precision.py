"""The effect of bfloat16, or of rounded features, on the scores of a trained model.

    ATEN_CPU_CAPABILITY=avx512 ONEDNN_MAX_CPU_ISA=ALL python -m benchmarks.precision OUT
    python -m benchmarks.precision OUT --keep-bits N

Run it from the root of a checkout with the outputs of `dvc repro`, whose model it uses. Extracts
all features again, segments and scores in the new folder OUT: in bfloat16 on the CPU, as on a GPU,
or, with --keep-bits, in float32 from stores of N bits of mantissa. The variables lift the stages'
cap on the processor's instructions; without those for bfloat16, it takes hours. Run again after an
interruption, it continues.
"""

import os
from pathlib import Path
from typing import Annotated

import typer
from ruamel.yaml import YAML

from sam2love import device
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from stages import audio, embeddings, propagate, score, text, vision

INDEX, FEATURES, MODEL, PREDICTIONS = map(Path, ("index", "features", "model", "predictions"))


def main(
    out: Path,
    keep_bits: Annotated[int | None, typer.Option(help="Bits of mantissa in the stores.")] = None,
) -> None:
    """Print the table of scores, and the masks' mean IoU with the run's."""
    masks = PREDICTIONS / "masks.zarr"
    run = FeatureStore.open(masks.resolve())
    link_inputs(out)
    os.chdir(out)
    if keep_bits is None:
        device.HALF_PRECISION = ("cpu",)
    else:
        round_features(Path("params.yaml"), keep_bits)
    root = Path(load_params().data.root)
    text.main(INDEX, FEATURES / "text.zarr")
    audio.main(root, INDEX, FEATURES / "audio.zarr")
    vision.main(root, INDEX, FEATURES / "vision.zarr")
    embeddings.main(root, INDEX, FEATURES / "sam2.zarr")
    propagate.main(root, INDEX, FEATURES, MODEL, masks)
    score.main(root, INDEX, PREDICTIONS, Path("scores"), Path("metrics.json"))
    print(f"IoU with the run's masks: {mask_iou(run, FeatureStore.open(masks)):.4f}")


def link_inputs(out: Path) -> None:
    """Make a folder with a copy of params.yaml, and links to the inputs of the stages run here."""
    (out / PREDICTIONS).mkdir(parents=True, exist_ok=True)
    (out / "params.yaml").write_bytes(Path("params.yaml").read_bytes())
    root = Path(load_params().data.root)
    names = {INDEX, MODEL, Path("weights"), PREDICTIONS / "objects.zarr"}
    for path in names if root.is_absolute() else names | {Path(root.parts[0])}:
        if path.exists() and not (out / path).exists():
            (out / path).symlink_to(path.resolve())


def round_features(path: Path, keep_bits: int) -> None:
    yaml = YAML()
    params = yaml.load(path.read_text(encoding="utf-8"))
    params["vision"]["keep_bits"] = params["sam2"]["keep_bits"] = keep_bits
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(params, file)


def mask_iou(run: FeatureStore, other: FeatureStore) -> float:
    """Return the mean IoU of ungated masks over the rows and frames where either has one."""
    one, two = (store.read_all("logits") > 0 for store in (run, other))
    common, union = (masks.sum((2, 3)) for masks in (one & two, one | two))
    return float((common[union > 0] / union[union > 0]).mean())


if __name__ == "__main__":
    typer.run(main)
