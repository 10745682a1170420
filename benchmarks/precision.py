"""What bfloat16 does to the scores: extract, segment and score again with a finished run's model.

    python -m benchmarks.precision OUT

Run from the root of a checkout with the outputs of `dvc repro`; what it makes lies in OUT. All
networks run in bfloat16, on the CPU, as they do on a GPU; the model is the run's.
"""

from pathlib import Path

import typer

from sam2love import device
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from stages import audio, baselines, embeddings, propagate, score, text, vision

INDEX, MODEL, MASKS = Path("index"), Path("model"), Path("predictions/masks.zarr")


def main(out: Path) -> None:
    """Print the table of scores, and how far the masks agree with the run's."""
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
    """Mean IoU of the masks, before any gate, over the rows and frames that show one."""
    one, two = (store.read_all("logits") > 0 for store in (run, other))
    both, either = (masks.sum((2, 3)) for masks in (one & two, one | two))
    return float((both[either > 0] / either[either > 0]).mean())


if __name__ == "__main__":
    typer.run(main)
