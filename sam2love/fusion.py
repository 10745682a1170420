"""Multimodal fusion: compress three modalities into one [seg] token (SAM2-LOVE section 3.2).

Shapes: B expressions, N seconds, n <= N frames that are seen, P text tokens, HW patches per frame,
C context tokens, K remembered frames, S [seg] tokens, L tokens in a sequence, D the fusion's width.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2love import params
from sam2love.stores.features import Features


class Tokens(NamedTuple):
    """The features of B expressions in the shared dimension D (Eq. 1)."""

    audio: Tensor
    """(B, N, D)."""
    patches: Tensor
    """(B, n, HW, D)."""
    cls: Tensor
    """(B, n, D)."""
    text: Tensor
    """(B, P, D)."""


class Fused(NamedTuple):
    """The fusion's output for B expressions."""

    prompt: Tensor
    """(B, S, D): [seg] after the last frame visited, or the mean of all outputs, (B, 1, D)."""
    attention: Tensor | None
    """(B, HW) logits by which the first [seg] attends to the patches of the frame that it grounds,
    in the last block; None without [seg] or without patches."""


class Projection(nn.Sequential):
    """Linear, ReLU, Linear. Source: SAM2-LOVE Eq. 1 and section 3.3."""

    def __init__(self, dim_in: int, dim: int, dim_out: int) -> None:
        super().__init__(nn.Linear(dim_in, dim), nn.ReLU(), nn.Linear(dim, dim_out))


class Block(nn.Module):
    """A pre-norm transformer block without dropout. Source: SAM2-LOVE Eq. 2."""

    def __init__(self, dim: int, *, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(dim)
        self.query = nn.Linear(dim, dim)
        self.key_value = nn.Linear(dim, 2 * dim)
        self.out = nn.Linear(dim, dim)
        self.norm_mlp = nn.LayerNorm(dim)
        hidden = round(dim * mlp_ratio)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))

    def forward(self, tokens: Tensor, key_mask: Tensor, *, queries: int | None = None) -> Tensor:
        """Update the first `queries` of the tokens (B, L, D), all of them by default.

        Args:
            key_mask: (B, L) bool, False where a token is padding.
        """
        normed = self.norm_attention(tokens)
        tokens = tokens[:, :queries]
        query = self._split(self.query(normed[:, :queries]))
        key, value = map(self._split, self.key_value(normed).chunk(2, dim=-1))
        attended = F.scaled_dot_product_attention(
            query, key, value, attn_mask=key_mask[:, None, None]
        )
        tokens = tokens + self.out(attended.transpose(1, 2).flatten(2))
        return tokens + self.mlp(self.norm_mlp(tokens))

    def attention(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Return the attention logits of some tokens that enter the block over others that do.

        Args:
            queries: (B, Q, D).
            keys: (B, K, D).

        Returns:
            (B, Q, K), averaged over the heads.
        """
        query = self._split(self.query(self.norm_attention(queries)))
        key, _ = map(self._split, self.key_value(self.norm_attention(keys)).chunk(2, dim=-1))
        return (query @ key.transpose(-1, -2)).mean(1) / math.sqrt(query.shape[-1])

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)


class Fusion(nn.Module):
    """The parts that every strategy shares: projections, context tokens, transformer blocks.

    Args:
        audio_dim, visual_dim, text_dim: d_A, d_V, d_T of the frozen encoders.
        dim, layers, heads, mlp_ratio: D, and the sizes of the transformer blocks.
        modalities: the ones used; tokens of the others are left out.
        projections: how features get to the shared dimension, see `sam2love.params.Fusion`.
        positions: adds positional embeddings, see `grounding.LearnedPositions`; the paper has
            none.

    Source: SAM2-LOVE section 3.2, Eq. 1 and 2.
    """

    whole_clip = False
    """Whether grounding needs all frames too, instead of frame 0 alone."""
    aud: Tensor
    vis: Tensor

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        text_dim: int,
        dim: int,
        layers: int,
        heads: int,
        mlp_ratio: float,
        modalities: Sequence[str],
        projections: params.Projections = "mlp",
        positions: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.dim, self.modalities = dim, tuple(modalities)
        self.audio_projection, self.visual_projection, self.text_projection = (
            Projection(width, dim, dim)
            if projections == "mlp"
            else nn.Sequential(nn.Linear(width, dim))
            for width in (audio_dim, visual_dim, text_dim)
        )
        self.blocks = nn.ModuleList(
            Block(dim, heads=heads, mlp_ratio=mlp_ratio) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.register_buffer("aud", random_tokens(1, dim))
        self.register_buffer("vis", random_tokens(1, dim))
        draw_weights(self)
        self.positions = positions

    def encode(self, features: Features, *, frame: Tensor | None = None) -> Tokens:
        """Project all features to the shared dimension (Eq. 1) and add positions, if any.

        Args:
            frame: (B,) int64, the only frame of each row whose patches are given; by default those
                of the first n frames are.
        """
        patches, cls = features.patches, features.cls
        if "vision" not in self.modalities:
            patches = patches[:, :, :0]
        tokens = Tokens(
            audio=self.audio_projection(features.audio),
            patches=self.visual_projection(patches),
            cls=self.visual_projection(cls),
            text=self.text_projection(features.text),
        )
        return tokens if self.positions is None else self.positions(tokens, frame=frame)

    def context(self, tokens: Tokens, text_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens that every frame's sequence shares: audio, [aud], text, [vis].

        Returns:
            Tokens (B, C, D), and a mask (B, C) that is False on padding.
        """
        aud, vis = (marker.expand(len(text_mask), 1, -1) for marker in (self.aud, self.vis))
        parts = {"audio": [tokens.audio, aud], "text": [tokens.text], "vision": [vis]}
        shown = [part for name in parts if name in self.modalities for part in parts[name]]
        masks = [
            text_mask if part is tokens.text else text_mask.new_ones(part.shape[:2])
            for part in shown
        ]
        return torch.cat(shown, dim=1), torch.cat(masks, dim=1)

    def forward(self, features: Features, *, frame: Tensor | None = None) -> Fused:
        """Fuse the modalities of B expressions; each strategy is a subclass.

        Args:
            frame: (B,) int64, the frame that [seg] is to ground; by default, and except for
                `joint.JointFusion` always, frame 0.
        """
        raise NotImplementedError


class FusionTransformer(Fusion):
    """Compress audio, text and every frame into [seg] tokens.

    At each frame [seg] reads the sequence of Eq. 3 and is then carried to the next frame (token
    propagation), accompanied by the [cls] of the frames visited before (token accumulation).

    Args:
        seg_tokens, propagation, history, order: see `sam2love.params.Fusion`.
        shared: see `Fusion`.

    Source: SAM2-LOVE section 3.2, Eq. 3 and 4; Table 4 for more than one [seg].
    """

    def __init__(
        self,
        *,
        seg_tokens: int = 1,
        propagation: bool = True,
        history: params.History = "previous",
        order: params.Order = "forward",
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.propagation, self.history, self.order = propagation, history, order
        self.seg = nn.Parameter(random_tokens(seg_tokens, self.dim))

    def forward(self, features: Features, *, frame: Tensor | None = None) -> Fused:
        """Fuse the modalities of B expressions, one frame at a time."""
        tokens = self.encode(features)
        context, context_mask = self.context(tokens, features.text_mask)
        frames, cls = list(range(features.patches.shape[1])), tokens.cls
        if self.order == "backward":
            frames.reverse()
            cls = cls.flip(1)  # in the order of the visits
        # Unbound once: a slice per frame would have a gradient as large as all frames, each time.
        patches = tokens.patches.unbind(1)
        seg = start = self.seg.expand(len(context), -1, -1)
        visits, attention = [], None
        for visit, visited in enumerate(frames):
            history = cls[:, : self._remembered(visit)]
            seg, entering = self.step(seg, context, patches[visited], history, context_mask)
            visits.append(seg)
            if visited == 0:
                attention = self.attention(entering, context, patches[visited])
            if not self.propagation:
                seg = start
        return Fused(visits[-1] if self.propagation else torch.stack(visits).mean(0), attention)

    def step(
        self, seg: Tensor, context: Tensor, patches: Tensor, history: Tensor, context_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Let [seg] read one frame.

        Args:
            seg: (B, S, D).
            context, context_mask: see `context`.
            patches: (B, HW, D).
            history: [his], the [cls] of K frames, (B, K, D).

        Returns:
            The new [seg] (B, S, D), and the sequence (B, L, D) as it enters the last block.
        """
        sequence = torch.cat([seg, context, patches, history], dim=1)  # Eq. 3, (B, L, D)
        before, after = seg.shape[1], patches.shape[1] + history.shape[1]
        mask = F.pad(context_mask, (before, after), value=True)  # (B, L)
        for block in self.blocks[:-1]:
            sequence = block(sequence, mask)
        # Of the last block's outputs only [seg] is used, so nothing else is computed.
        return self.norm(self.blocks[-1](sequence, mask, queries=before)), sequence

    def attention(self, entering: Tensor, context: Tensor, patches: Tensor) -> Tensor | None:
        """Return the logits (B, HW) by which the first [seg] attends to a frame's patches.

        Args:
            entering: the sequence as it enters the last block, from `step`.
            context, patches: as they were given to `step`.
        """
        if "vision" not in self.modalities:
            return None
        first = self.seg.shape[0] + context.shape[1]
        shown = entering[:, first : first + patches.shape[1]]
        return cast(Block, self.blocks[-1]).attention(entering[:, :1], shown)[:, 0]

    def _remembered(self, visit: int) -> int:
        """Count the visited frames whose [cls] [his] holds. Source: SAM2-LOVE Eq. 4."""
        if "vision" not in self.modalities:
            return 0
        return {"none": 0, "previous": visit, "inclusive": visit + 1}[self.history]


class MeanFusion(Fusion):
    """Fuse audio, text and the patches of all frames in one pass, and average all outputs.

    Source: SAM2-LOVE Table 5.
    """

    def forward(self, features: Features, *, frame: Tensor | None = None) -> Fused:
        """Fuse the modalities of B expressions."""
        tokens = self.encode(features)
        context, context_mask = self.context(tokens, features.text_mask)
        patches = tokens.patches.flatten(1, 2)
        sequence = torch.cat([context, patches], dim=1)  # (B, L, D)
        mask = F.pad(context_mask, (0, patches.shape[1]), value=True)  # (B, L)
        for block in self.blocks:
            sequence = block(sequence, mask)
        outputs = self.norm(sequence) * mask[..., None]
        return Fused(outputs.sum(1, keepdim=True) / mask.sum(1)[:, None, None], None)


def draw_weights(module: nn.Module) -> None:
    """Draw the initial weights of all linear maps in a module; biases are 0."""
    for part in module.modules():
        if isinstance(part, nn.Linear):
            nn.init.trunc_normal_(part.weight, std=part.in_features**-0.5)
            nn.init.zeros_(part.bias)


def random_tokens(count: int, dim: int) -> Tensor:
    """Draw the initial values of tokens such as [seg], [aud] and [vis]: (count, dim)."""
    return nn.init.trunc_normal_(torch.empty(count, dim), std=0.5)
