"""SAM 2 on a video of any length, a frame at a time, remembering no more than it looks back on.

Shapes: B rows (expressions), C channels of a prompt, S pixels of SAM 2's square input.
"""

from typing import Any

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2love.sam.decode import Decoded, decode
from sam2love.sam.encode import encode_frames


class MaskStream:
    """Carries the masks of B prompts through a video, as `propagate` does through a clip.

    Args:
        sam2: segments the prompted frame.
        tracker: segments the frames after it; see `propagate`.
        frames: how many the video has; SAM 2 places its memories in time by it.

    Source: SAM2-LOVE section 3.3, SAM 2 section 4.
    """

    def __init__(self, sam2: SAM2Base, *, tracker: SAM2Base | None = None, frames: int) -> None:
        self._sam2, self._tracker, self._frames = sam2, tracker or sam2, frames
        self._memory: dict[str, dict[int, Any]] = {
            "cond_frame_outputs": {},
            "non_cond_frame_outputs": {},
        }
        self._kept = max(
            self._tracker.num_maskmem * self._tracker.memory_temporal_stride_for_eval,
            self._tracker.max_obj_ptrs_in_encoder,
        )

    @torch.inference_mode()
    def start(self, frame: int, image: Tensor, prompts: Tensor) -> tuple[Tensor, Tensor]:
        """Segment frame number `frame`, a pre-processed image (1, 3, S, S), by prompts (B, 1, C).

        Returns:
            Mask logits (B, 4h, 4w) and object scores (B,).
        """
        sam2, rows = self._sam2, len(prompts)
        decoded = prompted(sam2, image, prompts)
        levels = _levels(sam2, image, rows)
        masks = torch.nn.functional.interpolate(
            decoded.logits.float(), size=(sam2.image_size,) * 2, mode="bilinear"
        )
        features, positions = sam2._encode_new_memory(
            current_vision_feats=levels["current_vision_feats"],
            feat_sizes=levels["feat_sizes"],
            pred_masks_high_res=masks,
            object_score_logits=torch.full_like(decoded.object_score, 10.0),  # it is there
            is_mask_from_pts=False,
        )
        self._memory["cond_frame_outputs"][frame] = {
            "obj_ptr": sam2.obj_ptr_proj(decoded.token),
            "maskmem_features": features,
            "maskmem_pos_enc": positions,
        }
        return decoded.logits[:, 0].float(), decoded.object_score[:, 0]

    @torch.inference_mode()
    def step(self, frame: int, image: Tensor) -> tuple[Tensor, Tensor]:
        """Segment the frame after the last one; returns as `start` does."""
        (first,) = self._memory["cond_frame_outputs"].values()
        output = self._tracker.track_step(
            frame_idx=frame,
            is_init_cond_frame=False,
            point_inputs=None,
            mask_inputs=None,
            output_dict=self._memory,
            num_frames=self._frames,
            **_levels(self._tracker, image, len(first["obj_ptr"])),
        )
        recent = self._memory["non_cond_frame_outputs"]
        kept = ("obj_ptr", "maskmem_features", "maskmem_pos_enc")
        recent[frame] = {name: output[name] for name in kept}
        recent.pop(frame - self._kept, None)
        return output["pred_masks"][:, 0].float(), output["object_score_logits"][:, 0]


@torch.inference_mode()
def prompted(sam2: SAM2Base, image: Tensor, prompts: Tensor) -> Decoded:
    """What prompts (B, 1, C) mean on a pre-processed image (1, 3, S, S), without any memory."""
    embedding, high_res_0, high_res_1 = (
        level.expand(len(prompts), -1, -1, -1) for level in encode_frames(sam2, image)
    )
    return decode(sam2, (embedding, high_res_0, high_res_1), prompts)


def _levels(sam2: SAM2Base, image: Tensor, rows: int) -> dict[str, Any]:
    """The arguments of `track_step` that describe a frame, alike for all rows."""
    _, features, positions, sizes = sam2._prepare_backbone_features(sam2.forward_image(image))
    return {
        "current_vision_feats": [level.expand(-1, rows, -1) for level in features],
        "current_vision_pos_embeds": [level.expand(-1, rows, -1) for level in positions],
        "feat_sizes": sizes,
    }
