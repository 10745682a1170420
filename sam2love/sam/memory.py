"""SAM 2's memory, and the attention over it, for a batch of rows.

The package runs self-attention over a frame's features once per row. Here everything that depends
only on the frame is computed once per clip. The results equal the package's up to rounding.

Shapes: B rows, K clips, h x w cells, L = h * w, C channels, M memory channels, D key channels.
"""

from collections import deque

import torch
from sam2.modeling.sam.transformer import RoPEAttention, apply_rotary_enc
from sam2.modeling.sam2_base import SAM2Base
from sam2.modeling.sam2_utils import get_1d_sine_pe
from torch import Tensor
from torch.nn import functional as F


class Memory:
    """Hold what rows remember of earlier frames: the prompted one and the latest ones.

    Supports models with rotary position embeddings and object pointers, as all of the package's
    configurations have.

    Args:
        frames: frames per clip; the ages of pointers are encoded relative to it.

    Source: SAM 2 section 4; `SAM2Base._prepare_memory_conditioned_features`.
    """

    def __init__(self, sam2: SAM2Base, *, frames: int) -> None:
        self._sam2, self._attention = sam2, sam2.memory_attention
        self._pointers_kept = min(frames, sam2.max_obj_ptrs_in_encoder)
        self._prompted: tuple[Tensor, Tensor] | None = None
        self._latest: deque[Tensor] = deque(maxlen=sam2.num_maskmem - 1)
        self._latest_pointers: deque[Tensor] = deque(maxlen=self._pointers_kept - 1)
        self._frames = 0
        side = sam2.sam_image_embedding_size
        example = sam2.no_mem_embed.new_empty(1, 1, side, side)
        neck = sam2.image_encoder.neck
        self._positions = neck.position_encoding(example).flatten(2).mT  # (1, L, C)
        self._memory_positions = sam2.memory_encoder.position_encoding(example).flatten(2).mT
        first = self._attention.layers[0].cross_attn_image
        self._rotation = first.compute_cis(end_x=side, end_y=side).to(example.device)
        # Added to the keys of frames that are one, two, ... frames old, and last the prompted one.
        ages = sam2.maskmem_tpos_enc.squeeze(2).expand(-1, side**2, -1)  # (ages, L, M)
        self._ages = [
            self._rotated(_split(attention, F.linear(ages, attention.k_proj.weight)))[:, None]
            for attention in (layer.cross_attn_image for layer in self._attention.layers)
        ]

    def remember(self, features: Tensor, pointers: Tensor) -> None:
        """Add a frame: features (B, M, h, w) of `encode_memory`, and object pointers (B, C)."""
        # At 1024 pixels this is 1 MB per row; projected keys and values would take 33.5 MB.
        tokens = features.flatten(2).mT  # (B, L, M)
        if self._prompted is None:
            self._prompted = tokens, pointers
        else:
            self._latest.appendleft(tokens)
            self._latest_pointers.appendleft(pointers)
        self._frames += 1

    def condition(self, embedding: Tensor, clip_of_row: Tensor) -> Tensor:
        """Condition a frame (K, C, h, w) on each row's memory: (B, C, h, w)."""
        tokens = embedding.flatten(2).mT  # (K, L, C)
        if self._attention.pos_enc_at_input:
            tokens = tokens + 0.1 * self._positions
        pointers, pointer_times = self._pointer_tokens()
        for number, layer in enumerate(self._attention.layers):
            tokens = tokens + layer.self_attn(*[layer.norm1(tokens)] * 3)
            if number == 0:  # up to here all rows of a clip are equal
                tokens = tokens[clip_of_row]  # (B, L, C)
            attention = layer.cross_attn_image
            keys, values = self._keys_and_values(number, attention, pointers, pointer_times)
            query = self._rotated(_split(attention, attention.q_proj(layer.norm2(tokens))))
            attended = F.scaled_dot_product_attention(query, keys, values)
            tokens = tokens + attention.out_proj(attended.transpose(1, 2).flatten(2))
            hidden = layer.activation(layer.linear1(layer.norm3(tokens)))
            tokens = tokens + layer.linear2(hidden)
        return self._attention.norm(tokens).mT.unflatten(2, embedding.shape[-2:])

    def _keys_and_values(
        self, number: int, attention: RoPEAttention, pointers: Tensor, times: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return keys and values of layer `number`: (B, heads, memory tokens, D / heads) each."""
        assert self._prompted is not None
        remembered, ages = [self._prompted[0], *self._latest], self._ages[number]
        order = [-1, *range(len(self._latest))]
        keys = [
            self._rotated(_split(attention, attention.k_proj(tokens + self._memory_positions)))
            + ages[age]
            for tokens, age in zip(remembered, order, strict=True)
        ]
        keys.append(_split(attention, attention.k_proj(pointers + times)))
        values = [_split(attention, attention.v_proj(tokens)) for tokens in (*remembered, pointers)]
        return torch.cat(keys, dim=2), torch.cat(values, dim=2)

    def _pointer_tokens(self) -> tuple[Tensor, Tensor]:
        """Return object pointers, split into tokens of width M, and the encoding of their ages."""
        assert self._prompted is not None
        sam2 = self._sam2
        pointers = torch.stack([self._prompted[1], *self._latest_pointers], dim=1)
        width, parts = sam2.mem_dim, sam2.hidden_dim // sam2.mem_dim
        tokens = pointers.unflatten(2, (parts, width)).flatten(1, 2)  # (B, pointers * C / M, M)
        if not sam2.add_tpos_enc_to_obj_ptrs:
            return tokens, torch.zeros_like(tokens)
        ages = [self._frames, *range(1, len(self._latest_pointers) + 1)]
        relative_ages = torch.tensor(ages, device=tokens.device) / (self._pointers_kept - 1)
        dim = sam2.hidden_dim if sam2.proj_tpos_enc_in_obj_ptrs else width
        times = sam2.obj_ptr_tpos_proj(get_1d_sine_pe(relative_ages, dim=dim))
        return tokens, times.repeat_interleave(parts, dim=0)

    def _rotated(self, tokens: Tensor) -> Tensor:
        """Apply rotary position embeddings to queries or keys (B, heads, L, D / heads)."""
        return apply_rotary_enc(tokens, tokens[:, :, :0], self._rotation)[0]


def encode_memory(
    sam2: SAM2Base, embedding: Tensor, clip_of_row: Tensor, logits: Tensor, present: Tensor
) -> Tensor:
    """Encode a frame and its masks as memory features: (B, M, h, w).

    Args:
        embedding: (K, C, h, w).
        logits: (B, 1, 4h, 4w) mask logits.
        present: (B,) bool, whether the frame shows the object.

    Source: `SAM2Base._encode_new_memory`.
    """
    size = (sam2.image_size, sam2.image_size)
    masks = F.interpolate(logits, size=size, mode="bilinear").sigmoid()
    masks = masks * sam2.sigmoid_scale_for_mem_enc + sam2.sigmoid_bias_for_mem_enc
    encoder = sam2.memory_encoder
    pixels = encoder.pix_feat_proj(embedding)[clip_of_row]
    features = encoder.out_proj(encoder.fuser(pixels + encoder.mask_downsampler(masks)))
    if sam2.no_obj_embed_spatial is not None:
        absent = sam2.no_obj_embed_spatial[:, :, None, None]
        features = torch.where(present[:, None, None, None], features, features + absent)
    return features


def _split(attention: RoPEAttention, tokens: Tensor) -> Tensor:
    """Split tokens (.., L, D) into heads: (.., heads, L, D / heads)."""
    return tokens.unflatten(-1, (attention.num_heads, -1)).transpose(-3, -2)
