"""Encode the frames of every clip by a ViT (timm's or CLIP's): what each patch shows, and [cls].

Reads the index and the clips' frames; writes features/vision.zarr by frames_key, so that clips with
the same frames share theirs: `patches` (10, h*w, d_V) and `cls` (10, d_V), float16.

    dvc repro vision
"""

from pathlib import Path

import numpy as np
import torch

from sam2love import refavs
from sam2love.encoders.vision import load_vision_encoder
from sam2love.params import load_params
from sam2love.store import ArraySpec, fill_store
from stages import run


def main(root: Path, index_folder: Path, out: Path) -> None:
    """Encode each sequence of frames of the index once."""
    params = load_params()
    torch.set_num_threads(params.runtime.threads)
    clips = refavs.read_index(index_folder).clips
    pictures = clips[clips["key"] == clips["frames_key"]]
    encoder = load_vision_encoder(
        params.vision.weights, params.vision.digest, device=params.runtime.device
    )

    def encode(keys: list[str]) -> dict:
        images = torch.cat([encoder.preprocess(refavs.read_frames(root, key)) for key in keys])
        encoded = [encoder.encode(batch) for batch in images.split(params.vision.batch_size)]
        patches, cls = (torch.cat(parts).numpy() for parts in zip(*encoded, strict=True))
        by_clip = (len(keys), refavs.FRAMES, -1, encoder.dim)
        return {"patches": patches.reshape(by_clip), "cls": np.squeeze(cls.reshape(by_clip), 2)}

    frame = (refavs.FRAMES, encoder.patches, encoder.dim)
    fill_store(
        out,
        specs=[
            ArraySpec("patches", frame, "float16", 32, "patches row by row, (frames, h*w, d_V)"),
            ArraySpec("cls", (refavs.FRAMES, encoder.dim), "float16", 32, "[cls], (frames, d_V)"),
        ],
        ids=pictures["key"].tolist(),
        provenance={
            "stage": "vision",
            "encoder": encoder.kind,
            "weights": params.vision.digest,
            "preprocessing": f"resized to {encoder.image_size} x {encoder.image_size}, normalised",
            "inputs": refavs.digest_of(pictures[["key", "frames_digest"]]),
        },
        encode=encode,
        batch_size=max(1, params.vision.batch_size // refavs.FRAMES),
        description="vision",
    )
    print(f"{out}: frames of {len(pictures)} clips, {encoder.patches} patches of {encoder.dim}")


if __name__ == "__main__":
    run(main)
