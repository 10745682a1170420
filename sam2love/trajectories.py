"""Trajectories, which are ours: where each patch of frame 0 is found again in the other frames.

The frozen ViT's patches look alike where they show the same thing, so a motion, an absence or a
return needs no learning to be seen: only the sentence's words for it are learned. Off in
profiles/paper.yaml.

Shapes: B rows, N frames, HW patches per frame, d_V their width, D the fusion's dimension.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2love.dataset.refavs import FRAMES

TEMPERATURE = 0.07
"""Of the softmax over cosine similarities. On val's clips of the mini set the expected place of an
object that moves is then off by 0.04 of the frame's side, and by 0.02 if it rests."""
SCALE = 3.0
"""Brings shifts, most of which are below 0.3 of the frame's side, to the size of other features."""


class Trajectories(nn.Module):
    """Embed the shift and likeness of each patch of frame 0 in every frame of the clip.

    Args:
        dim: D.
        frames: N.
    """

    def __init__(self, dim: int, *, frames: int = FRAMES) -> None:
        super().__init__()
        self.frames = frames
        self.embedding = nn.Sequential(nn.Linear(3 * frames, dim), nn.ReLU(), nn.Linear(dim, dim))
        for module in self.embedding:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)

    def forward(self, patches: Tensor) -> Tensor:
        """Return embeddings (B, HW, D).

        Args:
            patches: of the first n <= N frames, (B, n, HW, d_V).
        """
        found = trajectories(patches)
        found = F.pad(found, (0, 0, 0, self.frames - found.shape[2]))  # as if not seen
        return self.embedding(SCALE * found.flatten(2))


@torch.no_grad()
def trajectories(patches: Tensor) -> Tensor:
    """Return where each patch of frame 0 is found again: (B, HW, N, 3), float32.

    Of each frame: the shift x and y of the patch's expected place, in sides of the frame, x to the
    right and y down, where places are weighted by a softmax over cosine similarities; and the
    highest similarity, which is low where the thing can't be seen.

    Args:
        patches: (B, N, HW, d_V), in row-major order of a square grid.
    """
    normed = F.normalize(patches.float(), dim=-1)
    likeness = torch.einsum("bpd,bnqd->bpnq", normed[:, 0], normed)
    side = math.isqrt(patches.shape[2])
    centres = (torch.arange(side, device=patches.device) + 0.5) / side
    places = torch.cartesian_prod(centres, centres).flip(1)  # (HW, 2)
    expected = (likeness / TEMPERATURE).softmax(-1) @ places
    shift = expected - places[:, None]
    return torch.cat([shift, likeness.amax(-1, keepdim=True)], dim=-1)
