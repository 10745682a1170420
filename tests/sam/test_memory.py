"""The memory against the sam2 package, which keeps remembered frames in dictionaries."""

import pytest
import torch

from sam2love.sam.build import build_sam2
from sam2love.sam.memory import Memory, encode_memory

CONFIG = "weights/mini/sam2/config.yaml"
FRAMES, C, SIDE = 7, 64, 8
CLIP_OF_ROW = torch.tensor([1, 0, 1])
ROWS = len(CLIP_OF_ROW)


@pytest.fixture
def model():
    """Mini SAM 2 with random weights, none of them zero."""
    torch.manual_seed(0)
    sam2 = build_sam2(CONFIG).requires_grad_(False)
    for name in ("maskmem_tpos_enc", "no_obj_embed_spatial"):
        torch.nn.init.normal_(getattr(sam2, name))
    return sam2


def as_sequence(level: torch.Tensor) -> torch.Tensor:
    return level.flatten(2).permute(2, 0, 1)


@pytest.mark.parametrize("version", ["2.1", "2.0"])
def test_conditioning_equals_the_packages(model, version):
    if version == "2.0":  # pointers without their age
        model.add_tpos_enc_to_obj_ptrs = model.proj_tpos_enc_in_obj_ptrs = False
        model.obj_ptr_tpos_proj = torch.nn.Identity()
    model.max_obj_ptrs_in_encoder = 4
    frame = torch.randn(2, C, SIDE, SIDE)
    rows = frame[CLIP_OF_ROW]
    position = model.image_encoder.neck.position_encoding(rows)
    outputs: dict = {"cond_frame_outputs": {}, "non_cond_frame_outputs": {}}
    memory = Memory(model, frames=FRAMES)
    for number in range(FRAMES):
        if number:
            expected = model._prepare_memory_conditioned_features(
                frame_idx=number,
                is_init_cond_frame=False,
                current_vision_feats=[as_sequence(rows)],
                current_vision_pos_embeds=[as_sequence(position)],
                feat_sizes=[(SIDE, SIDE)],
                output_dict=outputs,
                num_frames=FRAMES,
            )
            read = memory.condition(frame, CLIP_OF_ROW)
            torch.testing.assert_close(read, expected, atol=1e-4, rtol=1e-4)
        features, pointers = torch.randn(ROWS, 32, SIDE, SIDE), torch.randn(ROWS, C)
        memory.remember(features, pointers)
        outputs["non_cond_frame_outputs" if number else "cond_frame_outputs"][number] = {
            "maskmem_features": features,
            "maskmem_pos_enc": [model.memory_encoder.position_encoding(features)],
            "obj_ptr": pointers,
        }


def test_encoding_equals_the_packages(model):
    frame = torch.randn(2, C, SIDE, SIDE)
    logits, scores = torch.randn(ROWS, 1, 32, 32), torch.tensor([[1.0], [-1.0], [2.0]])
    expected, _ = model._encode_new_memory(
        current_vision_feats=[as_sequence(frame[CLIP_OF_ROW])],
        feat_sizes=[(SIDE, SIDE)],
        pred_masks_high_res=torch.nn.functional.interpolate(logits, (128, 128), mode="bilinear"),
        object_score_logits=scores,
        is_mask_from_pts=False,
    )
    encoded = encode_memory(model, frame, CLIP_OF_ROW, logits, scores[:, 0] > 0)
    torch.testing.assert_close(encoded, expected, atol=1e-5, rtol=1e-5)
