"""The terms of the loss and their sum.

Shapes: B rows, 4h x 4w mask logits, H x W label pixels.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sam2love.params import Loss


def mask_loss(logits: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean BCE and dice loss of logits (B, 1, 4h, 4w), upsampled to each label's resolution.

    Source: SAM2-LOVE Eq. 5, unweighted.
    """
    bce, dice = [], []
    for size in sorted({tuple(mask.shape) for mask in masks}):
        rows = [row for row, mask in enumerate(masks) if tuple(mask.shape) == size]
        target = torch.stack([masks[row] for row in rows]).flatten(1)
        sized = F.interpolate(logits[rows], size=size, mode="bilinear").flatten(1)
        bce.append(F.binary_cross_entropy_with_logits(sized, target, reduction="none").mean(1))
        chance = sized.sigmoid()
        overlap = (chance * target).sum(1)
        dice.append(1 - (2 * overlap + 1) / (chance.sum(1) + target.sum(1) + 1))
    return torch.cat(bce).mean(), torch.cat(dice).mean()


def grounding_loss(cells: Tensor, masks: list[Tensor]) -> Tensor:
    """Cross-entropy of where a token looks against where the object lies, or that it is nowhere.

    The true distribution over the cells of a square grid is the mask's area in each. Beside them
    stands 'nowhere', with logit 0, which is where to look for an empty mask.

    Args:
        cells: (B, cells) logits, row by row of the grid.

    Source: ours; it leads out of the plateau on which every object is segmented (docs/log.md).
    """
    side = math.isqrt(cells.shape[1])
    area = torch.cat([F.adaptive_avg_pool2d(mask[None], side) for mask in masks]).flatten(1)
    target = torch.cat([area, (area.sum(1, keepdim=True) == 0).float()], dim=1)
    log_shares = F.pad(cells, (0, 1)).log_softmax(1)
    return -((target * log_shares).sum(1) / target.sum(1)).mean()


def weigh(terms: dict[str, Tensor], weights: Loss) -> Tensor:
    """The loss that is minimised: the terms there are, weighted; those of weight 0 left out."""
    weighted = [weight * terms[name] for name, weight in weights if weight and name in terms]
    return torch.stack(weighted).sum()
