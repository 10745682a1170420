"""Segment every object of the val and test clips from one click inside its true mask.

The click is on the first frame that shows the object. Reads the index, the SAM 2 embeddings and the
true masks; writes mask logits to predictions/objects.zarr, from which `score` computes its
baselines. SAM 2 is the pre-trained one.

    dvc repro baselines
"""

from pathlib import Path

import pandas as pd
import torch

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.params import load_params
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import Prompts
from sam2love.segmentation import (
    click_inside,
    clip_reader,
    frame_encoder,
    prediction_specs,
    segment_clips,
)
from sam2love.stores import provenance
from sam2love.stores.features import FeatureReader
from sam2love.stores.names import item_name, split_name
from sam2love.stores.store import fill_store
from stages import run


def main(root: Path, index_folder: Path, features: Path, out: Path) -> None:
    """Segment all annotated objects, each from the first frame that shows it."""
    params = load_params()
    device = start_device(params.runtime)
    index = read_index(index_folder)
    shown = index.clips.loc[index.clips["split"] != "train", "frames_key"]
    # A null clip's objects may be annotated only in a train clip with the same frames.
    clips = index.clips[index.clips["frames_key"].isin(shown)]
    objects = visible_objects(root, clips, frames=params.data.frames)
    sam2 = build_sam2(
        params.sam2.config,
        params.sam2.weights,
        digest=params.sam2.digest,
        device=device,
    )
    encode_frames = frame_encoder(
        sam2,
        root,
        before_high_res_convs=params.sam2.train_high_res_convs,
        keep_bits=params.sam2.keep_bits,
    )
    reader = FeatureReader(features, index, params=params)
    read_clip = clip_reader(reader, encode_frames, device=sam2.device)

    def encode(ids: list[str]) -> dict:
        masks = [refavs.read_mask(root, *objects[name]) for name in ids]
        frames = torch.tensor([objects[name][2] for name in ids], device=sam2.device)
        tokens = click_inside(sam2, masks)  # type: ignore[arg-type]  # no mask of a visible object is None
        clips = [split_name(name)[0] for name in ids]
        return segment_clips(sam2, clips, Prompts(tokens, frames, None), read_clip)

    fill_store(
        out,
        specs=prediction_specs(sam2, frames=reader.frames),
        ids=sorted(objects),
        provenance=provenance.of_masks(
            "baselines", index_folder, sam2=params.sam2.digest, precision=precision(device)
        ),
        encode=encode,
        batch_size=params.propagate.rows_per_batch,
        description="baselines",
    )
    print(f"{out}: masks of {len(objects)} objects from one click each")


def visible_objects(
    root: Path, clips: pd.DataFrame, *, frames: int
) -> dict[str, tuple[str, int, int]]:
    """Return key, fid and the first frame that shows it of each object, by "<frames_key>/<fid>"."""
    objects = {}
    for key, frames_key in zip(clips["key"], clips["frames_key"], strict=True):
        for fid in refavs.objects(root, key):
            for frame in range(frames):
                mask = refavs.read_mask(root, key, fid, frame)
                if mask is not None and mask.any():
                    objects[item_name(frames_key, fid)] = (key, fid, frame)
                    break
    return objects


if __name__ == "__main__":
    run(main, root=True, processes="runtime")
