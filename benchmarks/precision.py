"""The effect of bfloat16 on the scores: extract, segment and score again with a trained model.

    python -m benchmarks.precision OUT

Run it from the root of a checkout with the outputs of `dvc repro`, whose model it uses; it writes
to OUT. All networks run in bfloat16 on the CPU, as they do on a GPU.
"""

from pathlib import Path

import typer

from sam2love import device
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from stages import audio, baselines, embeddings, propagate, score, text, vision

INDEX, MODEL, MASKS = Path("index"), Path("model"), Path("predictions/masks.zarr")


def main(out: Path) -> None:
    """Print the table of scores, and the masks' mean IoU with the run's."""
    device.HALF_PRECISION = ("cpu",)
    root = Path(load_params().data.root)
    features, predictions = out / "features", (out / MASKS).parent
    text.main(INDEX, features / "text.zarr")
    audio.main(root, INDEX, features / "audio.zarr")
    vision.main(root, INDEX, features / "vision.zarr")
    embeddings.main(root, INDEX, features / "sam2.zarr")
    baselines.main(root, INDEX, features, predictions / "objects.zarr")
    propagate.main(root, INDEX, features, MODEL, out / MASKS)
    score.main(root, INDEX, predictions, out / "scores", out / "metrics.json")
    agreement = mask_iou(FeatureStore.open(MASKS), FeatureStore.open(out / MASKS))
    print(f"IoU with the masks of {MASKS}: {agreement:.4f}")


def mask_iou(run: FeatureStore, other: FeatureStore) -> float:
    """Return the mean IoU of ungated masks over the rows and frames where either has one."""
    one, two = (store.read_all("logits") > 0 for store in (run, other))
    common, union = (masks.sum((2, 3)) for masks in (one & two, one | two))
    return float((common[union > 0] / union[union > 0]).mean())


if __name__ == "__main__":
    typer.run(main)
