"""SAM 2's video propagation, every row of a batch at once over shared image embeddings.

Shapes: B rows (expressions or objects), K clips, N frames, C channels, h x w cells.
"""

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2love.sam.decode import convolved, decode


@torch.inference_mode()
def propagate(
    sam2: SAM2Base,
    embeddings: tuple[Tensor, Tensor, Tensor],
    prompts: Tensor,
    clip_of_row: Tensor,
    *,
    tracker: SAM2Base | None = None,
) -> tuple[Tensor, Tensor]:
    """Segment frame 0 from a prompt and carry the mask forward through SAM 2's memory.

    The prompted frame counts as one that shows the object, whatever its object score says: the
    sentence asks for it, and the gate decides later. On the other frames the package's own rule
    holds (a frame whose object score is not positive shows nothing).

    Args:
        embeddings: of whole clips, (K, N, C, h, w), (K, N, C/8, 4h, 4w), (K, N, C/4, 2h, 2w).
        prompts: (B, 1, C) for frame 0.
        clip_of_row: (B,) int64, the clip that each row looks at.
        tracker: what segments the other frames; the same model by default. One that was not
            trained on prompts remembers better how to track.

    Returns:
        Mask logits (B, N, 4h, 4w) and object scores (B, N).

    Source: SAM2-LOVE section 3.3, SAM 2 section 4.
    """
    frames = embeddings[0].shape[1]
    outputs: dict[str, dict[int, dict]] = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    logits, scores = [], []
    for frame in range(frames):
        embedding, high_res_0, high_res_1 = (level[clip_of_row, frame] for level in embeddings)
        model = sam2 if frame == 0 or tracker is None else tracker
        levels = _levels(model, convolved(model, (embedding, high_res_0, high_res_1)))
        if frame == 0:
            output = _prompted(model, levels, prompts)
            outputs["cond_frame_outputs"][0] = output
        else:
            output = model.track_step(
                frame_idx=frame,
                is_init_cond_frame=False,
                point_inputs=None,
                mask_inputs=None,
                output_dict=outputs,
                num_frames=frames,
                **levels,
            )
            outputs["non_cond_frame_outputs"][frame] = output
        logits.append(output["pred_masks"][:, 0])
        scores.append(output["object_score_logits"][:, 0])
        output.pop("pred_masks_high_res", None)  # image_size squared a row, not read again
    return torch.stack(logits, dim=1), torch.stack(scores, dim=1)


def _levels(sam2: SAM2Base, embeddings: tuple[Tensor, Tensor, Tensor]) -> dict[str, list]:
    """The arguments of `track_step` that describe a frame, finest level first."""
    embedding, high_res_0, high_res_1 = embeddings
    maps = [high_res_0, high_res_1, embedding]
    position = sam2.image_encoder.neck.position_encoding
    return {
        "current_vision_feats": [level.flatten(2).permute(2, 0, 1) for level in maps],
        "current_vision_pos_embeds": [
            position(level).flatten(2).permute(2, 0, 1) for level in maps
        ],
        "feat_sizes": [tuple(level.shape[-2:]) for level in maps],
    }


def _prompted(sam2: SAM2Base, levels: dict[str, list], prompts: Tensor) -> dict:
    """Frame 0 in the form in which `track_step` remembers frames."""
    rows = len(prompts)
    high_res_0, high_res_1, embedding = (
        features.permute(1, 2, 0).reshape(rows, -1, *size)
        for features, size in zip(levels["current_vision_feats"], levels["feat_sizes"], strict=True)
    )
    decoded = decode(sam2, (embedding, high_res_0, high_res_1), prompts)
    present = torch.full_like(decoded.object_score, 10.0)
    masks = torch.nn.functional.interpolate(
        decoded.logits.float(), size=(sam2.image_size,) * 2, mode="bilinear"
    )
    features, positions = sam2._encode_new_memory(
        current_vision_feats=levels["current_vision_feats"],
        feat_sizes=levels["feat_sizes"],
        pred_masks_high_res=masks,
        object_score_logits=present,
        is_mask_from_pts=False,
    )
    return {
        "pred_masks": decoded.logits.float(),
        "object_score_logits": decoded.object_score,
        "obj_ptr": sam2.obj_ptr_proj(decoded.token),
        "maskmem_features": features,
        "maskmem_pos_enc": positions,
    }
