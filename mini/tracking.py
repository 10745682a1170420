"""Track with gradients: prompt objects on the first frame, follow them through memory.

Shapes: K clips, N frames, B objects, C channels, h x w cells of the embedding, S pixels a side.
"""

from typing import NamedTuple

import numpy as np
import torch
from sam2.modeling.sam2_base import NO_OBJ_SCORE, SAM2Base
from torch import Tensor
from torch.nn import functional as F

from mini.clips import Batch
from sam2love.sam.decode import click

PROMPTS = ("token", "point", "box", "mask")


class Tracked(NamedTuple):
    """The model's output for each object in one frame."""

    logits: Tensor
    """(B, S, S) mask logits, not gated by the object score: a gate has no gradient."""
    iou: Tensor
    """(B,) the model's estimate of the mask's IoU."""
    object_score: Tensor
    """(B,) logit of the object being visible."""


def track(sam2: SAM2Base, batch: Batch, prompt: str, rng: np.random.Generator) -> list[Tracked]:
    """Prompt every object on the first frame and follow it with the package's own memory.

    Does what the package's tracking step does, except that masks of objects scored absent keep
    their gradient, and a clip's frames are encoded once for all its objects.
    """
    frames = batch.images.shape[1]
    first = batch.masks[:, 0]
    encoded = sam2.forward_image(batch.images.flatten(0, 1))
    _, features, positions, sizes = sam2._prepare_backbone_features(encoded)
    memory: dict[str, dict[int, dict]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    tracked = []
    for frame in range(frames):
        picture = batch.clip_of_object * frames + frame
        levels = [level[:, picture] for level in features]  # (cells, B, channels)
        conditioned = sam2._prepare_memory_conditioned_features(
            frame_idx=frame,
            is_init_cond_frame=frame == 0,
            current_vision_feats=levels[-1:],
            current_vision_pos_embeds=[positions[-1][:, picture]],
            feat_sizes=sizes[-1:],
            output_dict=memory,
            num_frames=max(frames, sam2.max_obj_ptrs_in_encoder),
        )
        sparse, dense = embed_prompt(sam2, first, prompt if frame == 0 else "nothing", rng)
        logits, iou, tokens, score = sam2.sam_mask_decoder(
            image_embeddings=conditioned,
            image_pe=sam2.sam_prompt_encoder.get_dense_pe(),
            sparse_prompt_embeddings=sparse,
            dense_prompt_embeddings=dense,
            multimask_output=False,
            repeat_image=False,
            high_res_features=[level[picture] for level in encoded["backbone_fpn"][:2]],
        )
        masks = F.interpolate(logits, size=first.shape[-2:], mode="bilinear")
        tracked.append(Tracked(masks[:, 0], iou[:, 0], score[:, 0]))
        if frame == 0:  # a prompted object counts as visible
            kept = first[:, None] * 20.0 - 10.0 if prompt == "mask" else masks
            seen = torch.ones_like(score, dtype=torch.bool)
            memory["cond_frame_outputs"][0] = _remember(sam2, levels, sizes, kept, tokens, seen)
        elif frame + 1 < frames:
            memory["non_cond_frame_outputs"][frame] = _remember(
                sam2, levels, sizes, masks, tokens, score > 0
            )
    return tracked


def _remember(
    sam2: SAM2Base,
    levels: list[Tensor],
    sizes: list[tuple[int, int]],
    masks: Tensor,
    tokens: Tensor,
    seen: Tensor,
) -> dict:
    """Encode a frame into memory, in the format that the package's tracking step reads.

    Args:
        masks: (B, 1, S, S) logits.
        seen: (B, 1) bool; an object that is not seen is remembered as absent.
    """
    features, positions = sam2._encode_new_memory(
        current_vision_feats=levels,
        feat_sizes=sizes,
        pred_masks_high_res=torch.where(seen[..., None, None], masks, NO_OBJ_SCORE),
        object_score_logits=torch.where(seen, 10.0, -10.0),
        is_mask_from_pts=False,
    )
    pointer = torch.where(seen, sam2.obj_ptr_proj(tokens[:, 0]), sam2.no_obj_ptr)
    return {"obj_ptr": pointer, "maskmem_features": features, "maskmem_pos_enc": positions}


def embed_prompt(
    sam2: SAM2Base, masks: Tensor, prompt: str, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Embed a prompt for each mask (B, S, S): sparse (B, tokens, C) and dense (B, C, h, w).

    `token` is a click without the package's padding point, the form in which a sentence's token
    enters later; `point` and `box` have it; `mask` is dense; `nothing` is for tracked frames.
    """
    rows = len(masks)
    encoder = sam2.sam_prompt_encoder
    points, labels = torch.zeros(rows, 1, 2), -torch.ones(rows, 1, dtype=torch.int32)
    dense = None
    if prompt in ("token", "point"):
        points, labels = points_inside(masks, rng), torch.ones(rows, 1, dtype=torch.int32)
    elif prompt == "box":
        points, labels = boxes_around(masks, rng), torch.tensor([[2, 3]]).expand(rows, 2)
    elif prompt == "mask":
        dense = sam2.mask_downsample(masks[:, None].float())
    sparse, dense = encoder(points=(points, labels), boxes=None, masks=dense)
    if prompt == "token":
        sparse = click(sam2, points[:, 0])
    return sparse, dense


def points_inside(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """Draw a random pixel (x, y) of each mask (B, S, S): (B, 1, 2) float32."""
    inside = [np.argwhere(mask) for mask in masks.numpy()]
    chosen = np.stack([pixels[rng.integers(len(pixels))] for pixels in inside])
    return torch.from_numpy(chosen[:, None, ::-1].astype(np.float32))


def boxes_around(masks: Tensor, rng: np.random.Generator) -> Tensor:
    """Return both corners of each mask's box, a pixel or so off: (B, 2, 2) float32."""
    inside = [np.argwhere(mask)[:, ::-1] for mask in masks.numpy()]
    corners = np.stack([[pixels.min(axis=0), pixels.max(axis=0)] for pixels in inside])
    return torch.from_numpy((corners + rng.normal(0, 1, corners.shape)).astype(np.float32))
