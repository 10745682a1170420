"""Grounding, which is ours: positional embeddings, and losses on where [seg] and the prompt point.

On small data the paper's loss alone stays on a plateau where every object is segmented
(docs/ablations.md); these additions lead out of it. All are off in profiles/paper.yaml.

Shapes: B rows, D the fusion's dimension, C the width of SAM 2's prompts, HW patches per frame,
H x W label pixels.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2love.dataset.refavs import FRAMES
from sam2love.fusion import Tokens, draw_weights, random_tokens
from sam2love.params import POSITIONED_TOKENS


class LearnedPositions(nn.Module):
    """Add learned embeddings of the second, the word, the frame and the place of a patch.

    Args:
        patch_positions: (HW, C), SAM 2's own positional encoding of the patches. Each patch gets a
            projection of its row, so that [seg] can describe a place in the terms in which SAM 2
            is prompted.
        frames: frames, and seconds of sound, of a clip.
    """

    patch_positions: Tensor

    def __init__(self, dim: int, *, patch_positions: Tensor, frames: int = FRAMES) -> None:
        super().__init__()
        self.second = nn.Parameter(random_tokens(frames, dim))
        self.word = nn.Parameter(random_tokens(POSITIONED_TOKENS, dim))
        self.frame = nn.Parameter(random_tokens(frames, dim))
        self.register_buffer("patch_positions", patch_positions)
        self.patch = nn.Linear(patch_positions.shape[1], dim)
        draw_weights(self.patch)

    def forward(self, tokens: Tokens, *, frame: Tensor | None = None) -> Tokens:
        """Return the tokens with their positions added.

        Args:
            frame: (B,) int64, see `Fusion.encode`.
        """
        shown = self.frame[: tokens.patches.shape[1], None]  # (n, 1, D)
        if frame is not None:
            shown = self.frame[frame][:, None, None]  # (B, 1, 1, D)
        cells = self.patch(self.patch_positions)[: tokens.patches.shape[2]]
        return Tokens(
            audio=tokens.audio + self.second[: tokens.audio.shape[1]],
            patches=tokens.patches + shown + cells,
            cls=tokens.cls + self.frame[: tokens.cls.shape[1]],
            text=tokens.text + self.word[: tokens.text.shape[1]],
        )


def pointing(prompts: Tensor, cell_positions: Tensor) -> Tensor:
    """Return where prompts point: logits (B, cells).

    SAM 2 reads a prompt by its similarity to the positional encoding of its embedding's cells, so
    this measures the same similarity, without weights of its own.

    Args:
        prompts: (B, 1, C).
        cell_positions: (cells, C).
    """
    return prompts[:, 0] @ cell_positions.T / math.sqrt(cell_positions.shape[1])


def cell_areas(masks: list[Tensor], *, cells: int) -> Tensor:
    """Return the fraction of each cell of a square grid that a mask covers: (B, cells).

    Args:
        masks: B labels (H, W), each of its own size.
        cells: a square number; they are in row-major order of the grid.
    """
    side = math.isqrt(cells)
    return torch.cat([F.adaptive_avg_pool2d(mask[None], side) for mask in masks]).flatten(1)


def belief(cells: Tensor) -> Tensor:
    """Return the log-odds, (B,), that a token points somewhere: `grounding_loss` has a 'nowhere'.

    Args:
        cells: (B, cells) logits.
    """
    return cells.logsumexp(1)


def grounding_loss(cells: Tensor, areas: Tensor) -> Tensor:
    """Return the cross-entropy between where a token points and where the object is.

    The target distribution over the cells is the object's area in each. An extra class 'nowhere',
    of logit 0, is the target where there is none.

    Args:
        cells: (B, cells) logits.
        areas: (B, cells), from `cell_areas`.
    """
    nowhere = (areas.sum(1, keepdim=True) == 0).float()
    target = torch.cat([areas, nowhere], dim=1)  # (B, cells + 1)
    log_probabilities = F.pad(cells, (0, 1)).log_softmax(1)
    return -((target * log_probabilities).sum(1) / target.sum(1)).mean()
