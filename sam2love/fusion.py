"""Multimodal fusion: three modalities become one [seg] token (SAM2-LOVE section 3.2).

Shapes: B expressions, N frames (and seconds), P text tokens, HW patches of a frame,
S [seg] tokens, D the shared dimension, L the tokens of a sequence.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sam2love.params import POSITIONED_TOKENS

SECONDS = 10
"""Seconds of sound, and frames, for which there are learned positions."""


class Projection(nn.Sequential):
    """Linear, ReLU, Linear. Source: SAM2-LOVE Eq. 1."""

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

    def _split(self, tokens: Tensor) -> Tensor:
        return tokens.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, heads, L, D / heads)


class Fused(NamedTuple):
    """What the fusion makes of B expressions."""

    seg_tokens: Tensor
    """[seg], (B, S, D), after the last frame; with strategy 'mean', the mean output (B, 1, D)."""
    agreement: Tensor | None
    """How much [seg] agrees with each patch of frame 0 as it enters the last block, when it visits
    that frame: (B, HW) logits. None where [seg] sees no patches."""


class FusionTransformer(nn.Module):
    """Compress sound, text and every frame into [seg] tokens.

    Frame by frame, [seg] reads the sequence of Eq. 3 and is carried on to the next frame (token
    propagation); the [cls] of the frames visited before stand beside it (token accumulation).

    Args:
        audio_dim, visual_dim, text_dim: d_A, d_V, d_T of the frozen encoders.
        modalities: those that are heard, read and seen; the others' tokens are left out.
        propagation, history, order, positions, strategy: see `sam2love.params.Fusion`.
        patch_positions: (HW, C), SAM 2's own positional encoding of where the patches lie; with
            positions 'learned' they carry a projection of it, so that [seg] can say where in the
            terms in which SAM 2 is prompted.

    Source: SAM2-LOVE section 3.2, Eq. 1 to 4; Tables 2 to 5 for the variants.
    """

    aud: Tensor
    vis: Tensor
    patch_positions: Tensor

    def __init__(
        self,
        *,
        audio_dim: int,
        visual_dim: int,
        text_dim: int,
        dim: int = 1024,
        layers: int = 6,
        heads: int = 16,
        mlp_ratio: float = 4.0,
        seg_tokens: int = 1,
        strategy: Literal["token", "mean"] = "token",
        modalities: Sequence[str] = ("audio", "text", "vision"),
        propagation: bool = True,
        history: Literal["previous", "inclusive", "none"] = "previous",
        order: Literal["forward", "backward"] = "forward",
        positions: Literal["none", "learned"] = "none",
        patch_positions: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.strategy, self.modalities = strategy, tuple(modalities)
        self.propagation, self.history, self.order = propagation, history, order
        self.audio_projection = Projection(audio_dim, dim, dim)
        self.visual_projection = Projection(visual_dim, dim, dim)
        self.text_projection = Projection(text_dim, dim, dim)
        self.blocks = nn.ModuleList(
            Block(dim, heads=heads, mlp_ratio=mlp_ratio) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(dim)
        self.seg = nn.Parameter(torch.empty(seg_tokens, dim))
        self.register_buffer("aud", torch.empty(1, dim))
        self.register_buffer("vis", torch.empty(1, dim))
        self.position_names = ("second", "word", "frame") if positions == "learned" else ()
        for name in self.position_names:
            count = POSITIONED_TOKENS if name == "word" else SECONDS
            setattr(self, f"{name}_positions", nn.Parameter(torch.empty(count, dim)))
        if self.position_names and patch_positions is not None:
            self.register_buffer("patch_positions", patch_positions)
            self.patch_position_projection = nn.Linear(patch_positions.shape[1], dim)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)
                nn.init.zeros_(module.bias)
        tokens = [self.seg, self.aud, self.vis]
        tokens += [getattr(self, f"{name}_positions") for name in self.position_names]
        for token in tokens:
            nn.init.trunc_normal_(token, std=0.5)

    def forward(
        self,
        audio_features: Tensor,
        visual_features: Tensor,
        cls_features: Tensor,
        text_features: Tensor,
        text_mask: Tensor,
    ) -> Fused:
        """Fuse the modalities of B expressions.

        Args:
            audio_features: F_A, (B, N, d_A); all seconds, however many frames are given.
            visual_features: F_V, (B, n, HW, d_V), the first n of the N frames.
            cls_features: [cls], (B, n, d_V).
            text_features: F_T, (B, P, d_T).
            text_mask: (B, P) bool, False on padding.
        """
        visual_tokens = self._place(self.visual_projection(visual_features), "frame", axis=1)
        if hasattr(self, "patch_positions"):
            visual_tokens = visual_tokens + self.patch_position_projection(self.patch_positions)
        cls_tokens = self._place(self.visual_projection(cls_features), "frame", axis=1)
        context, context_mask = self._context(audio_features, text_features, text_mask)
        if self.strategy == "mean":
            return Fused(self._mean_of_all(context, context_mask, visual_tokens), None)

        seg_tokens = start = self.seg.expand(len(text_mask), -1, -1)
        outputs, agreement = [], None
        # Cut once: the gradient of a slice a frame would each time be as large as all frames.
        patch_tokens = visual_tokens.unbind(1)
        frames = list(range(visual_features.shape[1]))
        if self.order == "backward":
            frames.reverse()
            cls_tokens = cls_tokens.flip(1)  # in the order of the visits
        for visit, frame in enumerate(frames):
            parts = [seg_tokens, context]
            if "vision" in self.modalities:
                parts += [patch_tokens[frame], cls_tokens[:, : self._remembered(visit)]]
            sequence = torch.cat(parts, dim=1)  # Eq. 3
            mask = self._mask(seg_tokens.shape[1], context_mask, sequence.shape[1])
            for block in self.blocks[:-1]:
                sequence = block(sequence, mask)
            if frame == 0 and "vision" in self.modalities:
                first = seg_tokens.shape[1] + context.shape[1]
                patches = sequence[:, first : first + visual_tokens.shape[2]]
                agreement = self._agreement(sequence[:, 0], patches)
            # Only [seg] is read of the last block's outputs, so only that is computed.
            seg_tokens = self.norm(self.blocks[-1](sequence, mask, queries=seg_tokens.shape[1]))
            outputs.append(seg_tokens)
            if not self.propagation:
                seg_tokens = start
        return Fused(seg_tokens if self.propagation else torch.stack(outputs).mean(0), agreement)

    def _agreement(self, seg: Tensor, patches: Tensor) -> Tensor:
        """Scaled likeness of [seg] (B, D) and each patch (B, HW, D): (B, HW)."""
        return (self.norm(patches) @ self.norm(seg)[..., None])[..., 0] / seg.shape[-1] ** 0.5

    def _remembered(self, visit: int) -> int:
        """Count the visited frames whose [cls] stand in [his]. Source: SAM2-LOVE Eq. 4."""
        return {"none": 0, "previous": visit, "inclusive": visit + 1}[self.history]

    def _context(
        self, audio_features: Tensor, text_features: Tensor, text_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What every frame's sequence shares: sound, [aud], text, [vis]; and which of it counts."""
        rows = len(text_mask)
        audio = self._place(self.audio_projection(audio_features), "second", axis=1)
        text = self._place(self.text_projection(text_features), "word", axis=1)
        parts = {
            "audio": [audio, self.aud.expand(rows, 1, -1)],
            "text": [text],
            "vision": [self.vis.expand(rows, 1, -1)],
        }
        shown = [part for name, part in parts.items() if name in self.modalities]
        tokens = torch.cat([token for part in shown for token in part], dim=1)
        mask = text_mask.new_ones(rows, tokens.shape[1])
        if "text" in self.modalities:
            first = audio.shape[1] + 1 if "audio" in self.modalities else 0
            mask[:, first : first + text.shape[1]] = text_mask
        return tokens, mask

    def _place(self, tokens: Tensor, name: str, *, axis: int) -> Tensor:
        """Add the learned positions along an axis, where there are any."""
        if name not in self.position_names:
            return tokens
        positions = getattr(self, f"{name}_positions")[: tokens.shape[axis]]
        return tokens + positions.view(-1, *[1] * (tokens.dim() - axis - 2), positions.shape[1])

    def _mask(self, before: int, context_mask: Tensor, length: int) -> Tensor:
        return F.pad(context_mask, (before, length - before - context_mask.shape[1]), value=True)

    def _mean_of_all(self, context: Tensor, context_mask: Tensor, visual_tokens: Tensor) -> Tensor:
        """Table 5: one pass over sound, text and the patches of all frames, then their mean."""
        visual = [visual_tokens.flatten(1, 2)] if "vision" in self.modalities else []
        sequence = torch.cat([context, *visual], dim=1)
        mask = self._mask(0, context_mask, sequence.shape[1])
        for block in self.blocks:
            sequence = block(sequence, mask)
        outputs = self.norm(sequence) * mask[..., None]
        return outputs.sum(1, keepdim=True) / mask.sum(1)[:, None, None]
