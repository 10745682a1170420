"""Encode the frames of every clip with a ViT, timm's or CLIP's: patch features and [cls].

Reads the index and the clips' frames; writes features/vision.zarr by frames_key, which clips with
the same frames share: `patches` (frames, h*w, d_V) and `cls` (frames, d_V), float16.

    dvc repro vision
"""

from pathlib import Path

import torch

from sam2love.dataset import refavs
from sam2love.dataset.index import read_index
from sam2love.device import precision, start_device
from sam2love.encoders.vision import load_vision_encoder
from sam2love.params import load_params
from sam2love.stores import provenance
from sam2love.stores.store import ArraySpec, fill_store
from stages import run


def main(root: Path, index_folder: Path, out: Path) -> None:
    """Encode each distinct sequence of frames in the index once."""
    params = load_params()
    device = start_device(params.runtime)
    index, frames = read_index(index_folder), params.data.frames
    keys = index.clips["frames_key"].drop_duplicates().tolist()
    encoder = load_vision_encoder(params.vision.weights, params.vision.digest, device=device)

    def load(keys: list[str]) -> torch.Tensor:
        return torch.cat(
            [encoder.preprocess(refavs.read_frames(root, key, frames=frames)) for key in keys]
        )

    def encode(images: torch.Tensor) -> dict:
        encoded = [encoder.encode(batch) for batch in images.split(params.vision.batch_size)]
        patches, cls = (torch.cat(parts).numpy() for parts in zip(*encoded, strict=True))
        return {
            "patches": patches.reshape(-1, frames, *patches.shape[1:]),
            "cls": cls.reshape(-1, frames, encoder.dim),
        }

    fill_store(
        out,
        specs=[
            ArraySpec(name, shape, "float16", 32, description, params.vision.keep_bits)
            for name, shape, description in (
                (
                    "patches",
                    (frames, encoder.patches, encoder.dim),
                    "patches row by row, (frames, h*w, d_V)",
                ),
                ("cls", (frames, encoder.dim), "[cls], (frames, d_V)"),
            )
        ],
        ids=keys,
        provenance=provenance.of_features(
            "vision",
            params,
            index,
            precision=precision(device),
            encoder=encoder.kind,
            preprocessing=f"resized to {encoder.image_size} x {encoder.image_size}, normalised",
        ),
        load=load,
        encode=encode,
        batch_size=max(1, params.vision.batch_size // frames),
        description="vision",
    )
    print(f"{out}: frames of {len(keys)} clips, {encoder.patches} patches of {encoder.dim}")


if __name__ == "__main__":
    run(main, root=True, processes="runtime")
