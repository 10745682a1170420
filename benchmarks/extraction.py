"""Filling a store like features/vision.zarr against the encoder's forward pass.

A ViT-B/16 with random weights runs on one thread, as on a device: another core is free to decode,
resize and write. The bare forward pass gets preprocessed pictures.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import timm
import torch
from PIL import Image

from benchmarks.timing import Leaf, side_by_side, speedup
from sam2love.dataset import refavs
from sam2love.encoders.vision import VisionEncoder, timm_encoder
from sam2love.stores.store import ArraySpec, fill_store


def measure(
    *,
    clips: int = 10,
    size: tuple[int, int] = (1280, 720),
    model: str = "vit_base_patch16_224",
    rounds: int = 3,
) -> dict[str, Leaf]:
    """Measure the throughput of extraction from JPEGs of a size (W, H), over the forward pass's."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    encoder = timm_encoder(timm.create_model(model, num_classes=0).eval())
    try:
        with TemporaryDirectory() as name:
            root = Path(name)
            keys = [_make_clip(root, clip, size) for clip in range(clips)]
            images = [encoder.preprocess(refavs.read_frames(root, key)) for key in keys]
            seconds = side_by_side(
                {
                    "extraction": lambda: _extract(encoder, root, keys),
                    "forward": lambda: [encoder.encode(clip) for clip in images],
                },
                rounds=rounds,
            )
    finally:
        torch.set_num_threads(threads)
    figures = {"clips": clips, "frame_size": list(size), "model": model, "threads": 1}
    return {"over_bare_forward": speedup(seconds, "extraction", "forward", **figures)}


def _extract(encoder: VisionEncoder, root: Path, keys: list[str]) -> None:
    def load(batch: list[str]) -> torch.Tensor:
        return torch.cat([encoder.preprocess(refavs.read_frames(root, key)) for key in batch])

    def encode(images: torch.Tensor) -> dict:
        patches, cls = encoder.encode(images)
        return {"patches": patches[None].numpy(), "cls": cls[None].numpy()}

    frames = refavs.FRAMES
    with TemporaryDirectory() as out:
        fill_store(
            Path(out) / "vision.zarr",
            specs=[
                ArraySpec("patches", (frames, encoder.patches, encoder.dim), "float16", 4, "any"),
                ArraySpec("cls", (frames, encoder.dim), "float16", 4, "any"),
            ],
            ids=keys,
            provenance={},
            load=load,
            encode=encode,
            batch_size=1,
            description="extraction",
        )


def _make_clip(root: Path, clip: int, size: tuple[int, int]) -> str:
    """Write a clip's frames, a moving picture of smooth noise, and return its key."""
    width, height = size
    noise = np.random.default_rng(clip).integers(0, 255, (height // 16, width // 16, 3), np.uint8)
    picture = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    for t in range(refavs.FRAMES):
        path = refavs.frame_path(root, str(clip), t)
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(np.asarray(picture), t, axis=1)).save(path, quality=90)
    return str(clip)
