"""Ours, what the paper's recipe lacks: where things stand, and losses that say where to look.

On small data the paper's loss alone stays on a plateau on which every object is segmented
(docs/ablations.md); these lead out of it. All are off in profiles/paper.yaml.

Shapes: B rows, D the fusion's dimension, C the width of SAM 2's prompts, HW patches of a frame,
H x W label pixels.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2love.fusion import Tokens, random_tokens
from sam2love.params import POSITIONED_TOKENS
from sam2love.sam.build import SAM2Base
from sam2love.sam.decode import grid_positions

SECONDS = 10
"""Seconds of sound, and frames, for which there are learned positions."""


class LearnedPositions(nn.Module):
    """Add learned embeddings of second, word and frame, and of where in the picture a patch lies.

    Args:
        patch_positions: (HW, C), SAM 2's own positional encoding of the patches; each carries a
            projection of its row, so that [seg] can name a place in the terms in which SAM 2 is
            prompted.
    """

    patch_positions: Tensor

    def __init__(self, dim: int, *, patch_positions: Tensor) -> None:
        super().__init__()
        self.second = nn.Parameter(random_tokens(SECONDS, dim))
        self.word = nn.Parameter(random_tokens(POSITIONED_TOKENS, dim))
        self.frame = nn.Parameter(random_tokens(SECONDS, dim))
        self.register_buffer("patch_positions", patch_positions)
        self.patch = nn.Linear(patch_positions.shape[1], dim)
        nn.init.trunc_normal_(self.patch.weight, std=patch_positions.shape[1] ** -0.5)
        nn.init.zeros_(self.patch.bias)

    def forward(self, tokens: Tokens) -> Tokens:
        """The tokens with their positions added."""
        frame = self.frame[: tokens.cls.shape[1]]
        cells = self.patch(self.patch_positions)[: tokens.patches.shape[2]]
        return Tokens(
            audio=tokens.audio + self.second[: tokens.audio.shape[1]],
            patches=tokens.patches + frame[:, None] + cells,
            cls=tokens.cls + frame,
            text=tokens.text + self.word[: tokens.text.shape[1]],
        )


def pointing(sam2: SAM2Base, prompts: Tensor) -> Tensor:
    """Where prompts (B, 1, C) point: logits (B, h * w) of the cells of SAM 2's embedding.

    SAM 2 reads a prompt by its likeness to the cells' positional encoding, so this asks the same,
    without any weights of its own.
    """
    positions = grid_positions(sam2, cells=sam2.sam_image_embedding_size**2)
    return prompts[:, 0] @ positions.T / math.sqrt(positions.shape[1])


def grounding_loss(cells: Tensor, masks: list[Tensor]) -> Tensor:
    """Cross-entropy of where a token looks against where the object lies, or that it is nowhere.

    The true distribution over the cells of a square grid is the mask's area in each. Beside them
    stands 'nowhere', with logit 0, which is where to look for an empty mask.

    Args:
        cells: (B, cells) logits, row by row of the grid.
        masks: B labels (H, W), each of its own size.
    """
    side = math.isqrt(cells.shape[1])
    area = torch.cat([F.adaptive_avg_pool2d(mask[None], side) for mask in masks]).flatten(1)
    target = torch.cat([area, (area.sum(1, keepdim=True) == 0).float()], dim=1)
    log_shares = F.pad(cells, (0, 1)).log_softmax(1)
    return -((target * log_shares).sum(1) / target.sum(1)).mean()
