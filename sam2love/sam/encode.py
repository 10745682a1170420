"""SAM 2's image encoder: from frames to the embeddings that its heads and memory read."""

import numpy as np
import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F

from sam2love.device import mixed_precision

MEAN = (0.485, 0.456, 0.406)
DEVIATION = (0.229, 0.224, 0.225)


def preprocess(frames: np.ndarray, image_size: int) -> Tensor:
    """Resize frames (n, H, W, 3) uint8 RGB to a square and normalise: (n, 3, S, S) float32."""
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255  # (n, 3, H, W)
    pixels = F.interpolate(pixels, size=(image_size, image_size), mode="bilinear", antialias=True)
    mean, deviation = (torch.tensor(v).view(1, 3, 1, 1) for v in (MEAN, DEVIATION))
    return (pixels - mean) / deviation


@torch.no_grad()
def encode_frames(
    sam2: SAM2Base, images: Tensor, *, before_high_res_convs: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Encode pre-processed frames (n, 3, S, S).

    Args:
        before_high_res_convs: return the finer levels before the decoder's conv_s0 and conv_s1,
            for a run that trains those.

    Returns:
        The embedding (n, C, h, w) without memory, and the two finer levels, (n, C/8, 4h, 4w) and
        (n, C/4, 2h, 2w); with `before_high_res_convs` these have C channels.
    """
    encode = sam2.image_encoder if before_high_res_convs else sam2.forward_image
    with mixed_precision(images.device):
        high_res_0, high_res_1, embedding = encode(images)["backbone_fpn"]
    return embedding, high_res_0, high_res_1
