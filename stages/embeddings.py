"""Encode frames that are used repeatedly with SAM 2's image encoder.

Reads the index and the clips' frames; writes features/sam2.zarr by "<frames_key>/<frame>":
`embedding` (C, h, w) without memory, and the finer levels `high_res_0` (C/8, 4h, 4w) and
`high_res_1` (C/4, 2h, 2w), float16. Training needs only first frames; `sam2.cache_test_frames`
selects the frames of val and test clips. Propagation encodes the rest.

    dvc repro embeddings
"""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.params import load_params
from sam2love.sam.build import build_sam2
from sam2love.sam.encode import encode_frames, preprocess
from sam2love.stores import provenance
from sam2love.stores.names import EMBEDDING_LEVELS, item_name, split_name
from sam2love.stores.store import ArraySpec, fill_store
from stages import run


def main(root: Path, index_folder: Path, out: Path) -> None:
    """Encode the frames to store, each once."""
    params = load_params()
    device = start_device(params.runtime)
    index = read_index(index_folder)
    model = build_sam2(
        params.sam2.config,
        params.sam2.weights,
        digest=params.sam2.digest,
        device=device,
    )

    def load(ids: list[str]) -> torch.Tensor:
        # One at a time: clips may differ in size.
        images = [
            preprocess(refavs.read_frame(root, key, frame)[None], model.image_size)
            for key, frame in map(split_name, ids)
        ]
        return torch.cat(images)

    @torch.inference_mode()
    def encode(images: torch.Tensor) -> dict[str, np.ndarray]:
        levels = encode_frames(
            model,
            images.to(device),
            before_high_res_convs=params.sam2.train_high_res_convs,
        )
        arrays = (level.float().cpu().numpy() for level in levels)
        return dict(zip(EMBEDDING_LEVELS, arrays, strict=True))

    ids = frames_to_store(
        index.clips, frames=params.data.frames, test_frames=params.sam2.cache_test_frames
    )
    shapes = {name: array.shape[1:] for name, array in encode(load(ids[:1])).items()}
    fill_store(
        out,
        specs=[
            ArraySpec(name, shapes[name], "float16", 16, "channels, h, w", params.sam2.keep_bits)
            for name in EMBEDDING_LEVELS
        ],
        ids=ids,
        provenance=provenance.of_features(
            "embeddings",
            params,
            index,
            precision=precision(device),
            preprocessing=f"resized to {model.image_size} x {model.image_size}, normalised",
        ),
        load=load,
        encode=encode,
        batch_size=8,
        description="embeddings",
    )
    print(f"{out}: {len(ids)} frames, {' + '.join(str(shapes[name]) for name in EMBEDDING_LEVELS)}")


def frames_to_store(clips: pd.DataFrame, *, frames: int, test_frames: str) -> list[str]:
    """Name the frames to store "<frames_key>/<frame>": "first" or "all" of val and test clips."""
    pairs = {(key, 0) for key in clips["frames_key"]}
    if test_frames == "all":
        evaluated = clips.loc[clips["split"] != "train", "frames_key"]
        pairs |= {(key, t) for key in evaluated for t in range(frames)}
    return [item_name(key, frame) for key, frame in sorted(pairs)]


if __name__ == "__main__":
    run(main, root=True, processes="runtime")
