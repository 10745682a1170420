"""A vision transformer from timm: patch features and [cls] of each frame.

Shapes: n frames, S the model's side in pixels, h x w patches row by row, d_V features.
"""

from typing import Any

import numpy as np
import timm
import torch
from torch import Tensor
from torch.nn import functional as F

from sam2love.weights import locate, verify


class VisionEncoder:
    """The frames of a clip as patch features and [cls]."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._device = next(model.parameters()).device
        config = timm.data.resolve_data_config(model=model)
        self._mean, self._deviation = (
            torch.tensor(config[name]).view(1, 3, 1, 1) for name in ("mean", "std")
        )
        self._interpolation = config["interpolation"]
        self.image_size = config["input_size"][-1]
        """S."""
        self.dim = model.num_features
        """d_V."""
        self.patches = model.patch_embed.num_patches
        """h*w."""

    def preprocess(self, frames: np.ndarray) -> Tensor:
        """Resize frames (n, H, W, 3) uint8 RGB to the model's square and normalise: (n, 3, S, S).

        Nothing is cropped away, whatever the model's own evaluation does: what is meant may stand
        at the edge.
        """
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
        size = (self.image_size, self.image_size)
        pixels = F.interpolate(pixels, size=size, mode=self._interpolation, antialias=True)
        return (pixels.clamp(0, 1) - self._mean) / self._deviation  # bicubic overshoots

    @torch.inference_mode()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode pre-processed frames (n, 3, S, S).

        Returns:
            Patch features (n, h*w, d_V) and [cls] (n, d_V), normalised, float32 on the CPU.
        """
        tokens = self._model.forward_features(images.to(self._device)).float().cpu()
        return tokens[:, self._model.num_prefix_tokens :], tokens[:, 0]


def load_vision_encoder(weights: str, digest: str, *, device: str = "cpu") -> VisionEncoder:
    """Load a timm model from a folder with config.json and model.safetensors, or by its hub id.

    Raises:
        FileNotFoundError, ValueError: no such weights, others than the digest says, or not those of
            a vision transformer with a [cls] token.
    """
    folder = locate(weights)
    verify(folder, digest)
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=True, num_classes=0)
    except (OSError, RuntimeError, KeyError, TypeError) as error:
        raise ValueError(f"{folder}: timm can't load it ({' '.join(str(error).split())})") from None
    if not (getattr(model, "has_class_token", False) and hasattr(model, "patch_embed")):
        raise ValueError(f"{folder}: not a vision transformer with a [cls] token")
    return VisionEncoder(model.to(device).eval())
