"""The loss (SAM2-LOVE Eq. 5). The terms that are ours are in `grounding`.

Shapes: B rows, 4h x 4w mask logits, H x W label pixels.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from sam2love.params import Loss


def mask_loss(logits: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Return the mean BCE and dice loss of logits, upsampled to each label's resolution.

    Args:
        logits: (B, 1, 4h, 4w).
        masks: B labels (H, W), each of its own size.

    Source: SAM2-LOVE Eq. 5, unweighted.
    """
    bce, dice = [], []
    for size in sorted({tuple(mask.shape) for mask in masks}):
        rows = [row for row, mask in enumerate(masks) if tuple(mask.shape) == size]
        target = torch.stack([masks[row] for row in rows]).flatten(1)
        sized = F.interpolate(logits[rows], size=size, mode="bilinear").flatten(1)
        bce.append(F.binary_cross_entropy_with_logits(sized, target, reduction="none").mean(1))
        probability = sized.sigmoid()
        overlap = (probability * target).sum(1)
        dice.append(1 - (2 * overlap + 1) / (probability.sum(1) + target.sum(1) + 1))
    return torch.cat(bce).mean(), torch.cat(dice).mean()


def weigh(terms: dict[str, Tensor], weights: Loss) -> Tensor:
    """Return the weighted sum of the terms; a term of weight 0 is left out, even if not finite."""
    weighted = [weight * terms[name] for name, weight in weights if weight and name in terms]
    return torch.stack(weighted).sum()
