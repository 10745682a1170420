"""Joint fusion, which is ours: [seg] reads one frame, each patch of which tells its trajectory.

The frozen ViT's patches look alike where they show the same thing, so a motion, an absence or a
return needs no learning to be seen: only the sentence's words for it are learned. Off in
profiles/paper.yaml.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sam2love.dataset.refavs import FRAMES
from sam2love.fusion import Fused, FusionTransformer, Projection, draw_weights
from sam2love.stores.features import Features

TEMPERATURE = 0.07
"""Of the softmax over cosine similarities. On every 13th object of the mini set's train and val,
the expected place is then off by 0.04 of the frame's side if it moves, and by 0.02 if it rests."""
SCALE = 3.0
"""Brings shifts, most of which are below 0.3 of the frame's side, to the size of other features."""


class JointFusion(FusionTransformer):
    """Let [seg] read the prompted frame once, with all sound, text and [cls] of the clip (ours).

    What the paper's [seg] is to learn from visiting the frames one after another, each patch of
    that frame tells at once: its trajectory through the other frames.

    Args:
        trajectories: add each patch's trajectory.
        frames: of a clip.
        shared: see `FusionTransformer`, whose `propagation`, `history` and `order` have no say.
    """

    whole_clip = True

    def __init__(self, *, trajectories: bool, frames: int = FRAMES, **shared: Any) -> None:
        super().__init__(**shared)
        self.frames, self.trajectory_projection = frames, None
        if trajectories and "vision" in self.modalities:
            self.trajectory_projection = Projection(3 * frames, self.dim, self.dim)
            draw_weights(self.trajectory_projection)

    def forward(self, features: Features, *, frame: Tensor | None = None) -> Fused:
        """Fuse the modalities of B expressions in one pass."""
        rows = torch.arange(len(features.patches), device=features.patches.device)
        frame = torch.zeros_like(rows) if frame is None else frame
        tokens = self.encode(
            features._replace(patches=features.patches[rows, frame][:, None]), frame=frame
        )
        context, context_mask = self.context(tokens, features.text_mask)
        patches, history = tokens.patches[:, 0], tokens.cls
        if self.trajectory_projection is not None:
            found = trajectories(features.patches, frame, frames=self.frames)
            patches = patches + self.trajectory_projection(found)
        if "vision" not in self.modalities:
            history = history[:, :0]
        seg = self.seg.expand(len(context), -1, -1)
        seg, entering = self.step(seg, context, patches, history, context_mask)
        return Fused(seg, self.attention(entering, context, patches))


@torch.no_grad()
def trajectories(patches: Tensor, start: Tensor, *, frames: int) -> Tensor:
    """Return where each patch of a frame is found again: (B, HW, 3 N), float32.

    Of each of the N frames, times SCALE: the shift x and y of the patch's expected place, in sides
    of the frame, x to the right and y down, where places are weighted by a softmax over cosine
    similarities; and the highest similarity, which is low where the thing can't be seen. Frames
    that a short clip lacks are 0.

    Args:
        patches: of B rows' first n <= N frames, (B, n, HW, d_V), in row-major order of a square
            grid.
        start: (B,) int64, the frame whose patches are looked for.
        frames: N.
    """
    normed = F.normalize(patches.float(), dim=-1)
    own = normed[torch.arange(len(start), device=start.device), start]  # (B, HW, d_V)
    logits = torch.einsum("bpd,bnqd->bpnq", own / TEMPERATURE, normed)
    side = math.isqrt(patches.shape[2])
    centres = (torch.arange(side, device=patches.device) + 0.5) / side
    places = torch.cartesian_prod(centres, centres).flip(1)  # (HW, 2)
    shift = logits.softmax(-1) @ places - places[:, None]
    likeness = TEMPERATURE * logits.amax(-1, keepdim=True)
    found = torch.cat([shift, likeness], dim=-1)  # (B, HW, n, 3)
    return SCALE * F.pad(found, (0, 0, 0, frames - found.shape[2])).flatten(2)
