"""Measure what the trained model relies on: each modality blanked and swapped in turn.

Reads the index, the feature stores, the frozen encoders and the trained weights; writes
diagnostics.csv: by family and over all rows, the percentage with the right object on frame 0 under
each condition, and what is lost against the intact input. The rows are val's, since test is scored
by final configurations only. Takes as long as seven validations, some 45 s of one core on the mini
data set.

    dvc repro diagnose
"""

from pathlib import Path

from tqdm import tqdm

from sam2love.dataset.index import VAL_SPLIT, read_index
from sam2love.device import start_device
from sam2love.evaluation.reliance import as_text, reliance, verdicts
from sam2love.model import WEIGHTS, SAM2Love
from sam2love.params import load_params
from sam2love.stores.features import FeatureReader
from sam2love.training.changed_inputs import ChangedInputs, draw_donors, encode_blank
from sam2love.training.validation import in_batches, score_rows
from sam2love.work import replacing
from stages import run


def main(index_folder: Path, features: Path, weights: Path, out: Path) -> None:
    """Score the rows of val whose object is visible on frame 0, under every condition."""
    params = load_params()
    device = start_device(params.runtime)
    index = read_index(index_folder)
    rows = index.expressions[(index.expressions["split"] == VAL_SPLIT) & ~index.expressions["null"]]
    reader = FeatureReader(features, index, params=params)
    model = SAM2Love.build(params, **reader.dims).eval()
    model.load(weights / WEIGHTS)
    model.to(device)
    scores = score_rows(
        model,
        tqdm(in_batches(rows), "diagnose", unit="batch"),
        reader,
        device=device,
        conditions=ChangedInputs(
            reader, donors=draw_donors(rows, index), blank=encode_blank(params, device=device)
        ),
    )
    families = dict(zip(index.families["uid"], index.families["family"], strict=True))
    described = rows[["row", "key"]].assign(family=[families.get(uid, "") for uid in rows["uid"]])
    table = reliance(scores.merge(described, on="row"))
    with replacing(out) as file:
        table.to_csv(file, index=False, float_format="%.6f", lineterminator="\n")
    print("\n".join([as_text(table), *verdicts(table), f"{out}: {len(rows)} rows of val"]))


if __name__ == "__main__":
    run(main)
