"""SAM 2's video propagation, every row of a batch at once over shared image embeddings.

Shapes: B rows (expressions or objects), K clips, N frames, C channels, h x w cells.
"""

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2love.sam.decode import convolved, decode
from sam2love.sam.memory import Memory, encode_memory


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
    memory = Memory(tracker or sam2, frames=frames)
    logits, scores = [], []
    for frame in range(frames):
        model = sam2 if frame == 0 or tracker is None else tracker
        embedding, *finer = convolved(model, _frame(embeddings, frame))
        high_res_0, high_res_1 = (level[clip_of_row] for level in finer)
        if frame == 0:
            levels = (embedding[clip_of_row], high_res_0, high_res_1)
            mask, score, token = decode(model, levels, prompts)
            pointer, present = model.obj_ptr_proj(token), torch.ones_like(score[:, 0]) > 0
        else:
            _, _, _, mask, _, pointer, score = model._forward_sam_heads(
                memory.condition(embedding, clip_of_row),
                high_res_features=[high_res_0, high_res_1],
                multimask_output=model._use_multimask(False, None),
            )
            present = score[:, 0] > 0
        if frame < frames - 1:
            memory.remember(encode_memory(model, embedding, clip_of_row, mask, present), pointer)
        logits.append(mask[:, 0])
        scores.append(score[:, 0])
    return torch.stack(logits, dim=1), torch.stack(scores, dim=1)


def _frame(embeddings: tuple[Tensor, Tensor, Tensor], frame: int) -> tuple[Tensor, Tensor, Tensor]:
    embedding, high_res_0, high_res_1 = (level[:, frame] for level in embeddings)
    return embedding, high_res_0, high_res_1
