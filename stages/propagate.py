"""Segment every row of val and test: fusion over all frames, then SAM 2 propagation from one.

Reads the index, the feature stores, the trained weights and the frames that are not stored; writes
mask logits before any gate, and object scores, to predictions/masks.zarr.

    dvc repro propagate
"""

from pathlib import Path

import pandas as pd
import torch

from sam2love.dataset.index import Index, read_index
from sam2love.device import precision, start_device
from sam2love.encoders.weights import digest
from sam2love.model import SAM2Love
from sam2love.params import load_params
from sam2love.sam.propagate import build_tracker
from sam2love.segmentation import clip_reader, frame_encoder, prediction_specs, segment_clips
from sam2love.stores import provenance
from sam2love.stores.features import FeatureReader
from sam2love.stores.store import fill_store
from stages import run


def main(root: Path, index_folder: Path, features: Path, weights: Path, out: Path) -> None:
    """Segment the rows of all splits except 'train'."""
    params = load_params()
    device = start_device(params.runtime)
    index = read_index(index_folder)
    rows = rows_by_clip(index)
    reader = FeatureReader(features, index, params=params)
    model = SAM2Love.build(params, **reader.dims).eval()
    model.load(weights / "model.safetensors")
    model.to(device)
    tracker = build_tracker(params, model.sam2)
    encode_frames = frame_encoder(
        model.sam2,
        root,
        before_high_res_convs=params.sam2.train_high_res_convs,
        keep_bits=params.sam2.keep_bits,
    )
    read_clip = clip_reader(reader, encode_frames, device=device)

    @torch.inference_mode()
    def encode(ids: list[str]) -> dict:
        batch = rows.loc[ids]
        prompts = model.prompts(reader.features(batch).to(device))
        clips = batch["frames_key"].tolist()
        return segment_clips(model.sam2, clips, prompts, read_clip, tracker=tracker)

    fill_store(
        out,
        specs=prediction_specs(model.sam2, frames=reader.frames),
        ids=rows.index.tolist(),
        provenance=provenance.of_masks(
            "propagate",
            index_folder,
            model=digest(weights),
            sam2=params.sam2.digest,
            tracker=params.propagate.tracker,
            tracking_masks=params.propagate.tracking_masks,
            gate=params.propagate.gate,
            precision=precision(device),
        ),
        encode=encode,
        batch_size=params.propagate.rows_per_batch,
        description="propagate",
    )
    print(f"{out}: masks of {len(rows)} rows on {reader.frames} frames")


def rows_by_clip(index: Index) -> pd.DataFrame:
    """Return the expressions of all splits except 'train', sorted by the frames they refer to.

    The row number, as text, becomes the index; frames_key is added from the table of clips.
    """
    rows = index.expressions[index.expressions["split"] != "train"]
    rows = rows.merge(index.clips[["key", "frames_key"]], on="key")
    rows = rows.sort_values(["frames_key", "row"])
    return rows.set_index(rows["row"].astype(str))


if __name__ == "__main__":
    run(main, root=True, processes="runtime")
