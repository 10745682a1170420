"""SAM 2's heads on one frame: a prompt token in, a mask out.

Shapes: B rows, C prompt and embedding channels, h x w cells of the embedding.
"""

import math
from typing import NamedTuple

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor


class Prompts(NamedTuple):
    """Prompts for SAM 2 for B expressions."""

    tokens: Tensor
    """(B, 1, C)."""
    frame: Tensor
    """(B,) int64, the frame that each is for."""
    presence: Tensor | None
    """(B,) log-odds, by [seg]'s belief, that any frame shows the object. None if only frame 0 is
    read; SAM 2's object score is used then."""


class Decoded(NamedTuple):
    """The output of the mask decoder for B rows."""

    logits: Tensor
    """(B, 1, 4h, 4w) mask logits."""
    object_score: Tensor
    """(B, 1) logit of the object being in this frame."""
    token: Tensor
    """(B, C) mask token, from which the object pointer is projected."""


def decode(sam2: SAM2Base, embeddings: tuple[Tensor, Tensor, Tensor], prompts: Tensor) -> Decoded:
    """Decode one mask per row from a token that represents the object.

    The token is appended to empty sparse embeddings (without SAM 2's padding point), next to the
    no-mask dense embedding and without memory. The object score does not gate the mask, since a
    gate has no gradient.

    Args:
        embeddings: as `encode_frames` returns them, with B rows each.
        prompts: (B, 1, C).

    Source: SAM2-LOVE section 3.3, after EVF-SAM.
    """
    embedding, high_res_0, high_res_1 = apply_high_res_convs(sam2, embeddings)
    rows = len(prompts)
    sparse, dense = sam2.sam_prompt_encoder(points=None, boxes=None, masks=None)
    logits, _, tokens, object_score = sam2.sam_mask_decoder(
        image_embeddings=embedding + sam2.no_mem_embed.view(1, -1, 1, 1),
        image_pe=sam2.sam_prompt_encoder.get_dense_pe(),
        sparse_prompt_embeddings=torch.cat([sparse.expand(rows, -1, -1), prompts], dim=1),
        dense_prompt_embeddings=dense.expand(rows, -1, -1, -1),
        multimask_output=False,
        repeat_image=False,
        high_res_features=[high_res_0, high_res_1],
    )
    return Decoded(logits, object_score, tokens[:, 0])


def apply_high_res_convs(
    sam2: SAM2Base, embeddings: tuple[Tensor, Tensor, Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Apply conv_s0 and conv_s1 to the finer levels, unless they were stored after them."""
    embedding, high_res_0, high_res_1 = embeddings
    decoder = sam2.sam_mask_decoder
    if high_res_0.shape[1] == embedding.shape[1]:
        high_res_0, high_res_1 = decoder.conv_s0(high_res_0), decoder.conv_s1(high_res_1)
    return embedding, high_res_0, high_res_1


def click(sam2: SAM2Base, points: Tensor) -> Tensor:
    """Return the prompt (B, 1, C) of one positive click per row.

    Args:
        points: (B, 2) as x, y in pixels of SAM 2's square input, counted from 0; SAM 2 adds 0.5
            to reach the pixel's centre.
    """
    labels = torch.ones(len(points), 1, dtype=torch.int32, device=points.device)
    return sam2.sam_prompt_encoder._embed_points(points[:, None], labels, pad=False)


def grid_positions(sam2: SAM2Base, *, cells: int) -> Tensor:
    """Return SAM 2's positional encoding of a square grid over the frame: (cells, C).

    Cells are in row-major order. Point prompts use the same encoding.
    """
    side = math.isqrt(cells)
    return sam2.sam_prompt_encoder.pe_layer((side, side)).flatten(1).T.detach()
