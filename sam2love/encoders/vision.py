"""A vision transformer of timm, or CLIP's: patch features and [cls] of each frame.

Shapes: n frames, S the model's image size, h x w patches in row-major order, d_V features.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import transformers
from torch import Tensor
from torch.nn import functional as F

from sam2love.device import mixed_precision
from sam2love.encoders.pretrained import faults_of, load_pretrained
from sam2love.encoders.tensors import misfit, read_tensors
from sam2love.encoders.weights import fetch, weights_file


class VisionEncoder:
    """Encode frames as patch features and [cls].

    Args:
        model: maps pre-processed frames (n, 3, S, S) to patch features (n, h*w, d_V) and [cls]
            (n, d_V).
        kind: a description, for provenance.
        mean, deviation: per channel, for values in [0, 1].
        interpolation: a mode of torch's `interpolate`.
    """

    def __init__(
        self,
        model: Callable[[Tensor], tuple[Tensor, Tensor]],
        *,
        kind: str,
        device: torch.device | str,
        mean: tuple[float, ...],
        deviation: tuple[float, ...],
        interpolation: str,
        image_size: int,
        patches: int,
        dim: int,
    ) -> None:
        self._model = model
        self._device = torch.device(device)
        self._mean, self._deviation = (
            torch.tensor(values).view(1, 3, 1, 1) for values in (mean, deviation)
        )
        self._interpolation = interpolation
        self.kind = kind
        self.image_size = image_size
        """S."""
        self.dim = dim
        """d_V."""
        self.patches = patches
        """h*w."""

    def preprocess(self, frames: np.ndarray) -> Tensor:
        """Resize frames (n, H, W, 3) uint8 RGB to the model's square and normalise: (n, 3, S, S).

        Nothing is cropped, whatever the model's own evaluation does: the object may be at the edge.
        """
        pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255  # (n, 3, H, W)
        size = (self.image_size, self.image_size)
        pixels = F.interpolate(pixels, size=size, mode=self._interpolation, antialias=True)
        return (pixels.clamp(0, 1) - self._mean) / self._deviation  # bicubic overshoots

    @torch.inference_mode()
    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode pre-processed frames (n, 3, S, S).

        Returns:
            Patch features (n, h*w, d_V) and [cls] (n, d_V), normalised, float32 on the CPU.
        """
        with mixed_precision(self._device):
            patches, cls = self._model(images.to(self._device))
        return patches.float().cpu(), cls.float().cpu()


def load_vision_encoder(
    weights: str, digest: str, *, device: torch.device | str = "cpu"
) -> VisionEncoder:
    """Load a model with timm, or CLIP with transformers, depending on the folder's config.json.

    Args:
        weights: a path or a hub id.
        digest: the expected SHA-256 of the weights.

    Raises:
        FileNotFoundError, ValueError: no such weights, of another digest, or not of a vision
            transformer with a [cls] token.
    """
    folder = fetch(weights, digest)
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:  # AttributeError: not an object
        raise ValueError(f"{folder}: no readable config.json ({error})") from None
    load = _load_clip if kind in ("clip", "clip_vision_model") else _load_timm
    return load(folder, device)


def _load_timm(folder: Path, device: torch.device | str) -> VisionEncoder:
    with faults_of("timm", folder):
        model: Any = timm.create_model(f"local-dir:{folder}", pretrained=False)
    # Not by `has_class_token`, which Eva and Beit lack; DINOv3 is an Eva.
    has_cls = getattr(model, "cls_token", None) is not None and hasattr(model, "num_prefix_tokens")
    if not (has_cls and hasattr(getattr(model, "patch_embed", None), "num_patches")):
        raise ValueError(f"{folder}: not a vision transformer with a [cls] token")
    # Not loaded by timm, which silently resamples positions and patches of another size.
    path = weights_file(folder)
    state = read_tensors(path)
    if reason := misfit(model, state):
        raise ValueError(f"{path}: does not fit the config.json next to it ({reason})")
    model.load_state_dict(state)
    return timm_encoder(model.to(device).eval(), device=device)


def timm_encoder(model: Any, *, device: torch.device | str = "cpu") -> VisionEncoder:
    """Wrap a vision transformer of timm that is in evaluation mode on `device`."""
    config = timm.data.resolve_data_config(model=model)

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        tokens = model.forward_features(images)
        return tokens[:, model.num_prefix_tokens :], tokens[:, 0]

    return VisionEncoder(
        encode,
        kind="timm vision transformer",
        device=device,
        mean=config["mean"],
        deviation=config["std"],
        interpolation=config["interpolation"],
        image_size=config["input_size"][-1],
        patches=model.patch_embed.num_patches,
        dim=model.num_features,
    )


def _load_clip(folder: Path, device: torch.device | str) -> VisionEncoder:
    model = load_pretrained(transformers.CLIPVisionModel, folder).to(device)
    path = folder / "preprocessor_config.json"
    try:
        processor = json.loads(path.read_text(encoding="utf-8"))
        mean, deviation = processor["image_mean"], processor["image_std"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path}: no image_mean and image_std ({error})") from None

    def encode(images: Tensor) -> tuple[Tensor, Tensor]:
        states = model(pixel_values=images).last_hidden_state
        # CLIP normalises only [cls]; patches are normalised too, as timm's are.
        tokens = model.post_layernorm(states)
        return tokens[:, 1:], tokens[:, 0]

    return VisionEncoder(
        encode,
        kind="CLIP vision transformer",
        device=device,
        mean=mean,
        deviation=deviation,
        interpolation="bicubic",  # which every published CLIP was trained with
        image_size=model.config.image_size,
        patches=(model.config.image_size // model.config.patch_size) ** 2,
        dim=model.config.hidden_size,
    )
