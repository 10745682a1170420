"""SAM 2's video propagation for a batch of rows at once, over shared image embeddings.

Shapes: B rows (expressions or objects), K clips, N frames, C channels, h x w cells.
"""

import torch
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor

from sam2love.device import mixed_precision
from sam2love.params import Config
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import apply_high_res_convs, decode
from sam2love.sam.memory import Memory, encode_memory


class MaskStream:
    """Propagate masks from a prompted first frame through SAM 2's memory, one frame at a time.

    Frames may come in either direction of time: SAM 2 encodes how far away a memory is, not on
    which side. The prompted frame counts as showing the object whatever its object score, since
    the sentence refers to it; the gate is applied later. Other frames follow the package: with an
    object score of 0 or less, a frame shows nothing.

    Args:
        prompts: (B, 1, C) for the first frame.
        clip_of_row: (B,) int64, the clip of each row.
        frames: frames per clip, which SAM 2 uses to encode the age of memories.
        tracker: segments the other frames, see `build_tracker`; by default the same model.

    Source: SAM2-LOVE section 3.3, SAM 2 section 4.
    """

    def __init__(
        self,
        sam2: SAM2Base,
        prompts: Tensor,
        clip_of_row: Tensor,
        *,
        frames: int,
        tracker: SAM2Base | None = None,
    ) -> None:
        self._sam2, self._tracker = sam2, tracker or sam2
        self._prompts, self._clip_of_row = prompts, clip_of_row
        with mixed_precision(sam2.device):
            self._memory = Memory(self._tracker, frames=frames)
        self._last: tuple[SAM2Base, Tensor, Tensor, Tensor, Tensor] | None = None

    @torch.inference_mode()
    def step(self, levels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Segment the next frame of every clip.

        Args:
            levels: as `encode_frames` returns them, with K rows each.

        Returns:
            Mask logits (B, 4h, 4w) and object scores (B,), float32.
        """
        with mixed_precision(self._sam2.device):
            mask, score = self._step(levels)
        return mask[:, 0].float(), score[:, 0].float()

    def _step(self, levels: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        model = self._sam2 if self._last is None else self._tracker
        embedding, *finer = apply_high_res_convs(model, levels)
        high_res_0, high_res_1 = (level[self._clip_of_row] for level in finer)
        if self._last is None:
            rows = (embedding[self._clip_of_row], high_res_0, high_res_1)
            mask, score, token = decode(model, rows, self._prompts)
            pointer, present = model.obj_ptr_proj(token), torch.ones_like(score[:, 0]) > 0
        else:
            self._remember(*self._last)
            _, _, _, mask, _, pointer, score = model._forward_sam_heads(
                self._memory.condition(embedding, self._clip_of_row),
                high_res_features=[high_res_0, high_res_1],
                multimask_output=model._use_multimask(False, None),
            )
            present = score[:, 0] > 0
        self._last = model, embedding, mask, present, pointer
        return mask, score

    def _remember(
        self, model: SAM2Base, embedding: Tensor, mask: Tensor, present: Tensor, pointer: Tensor
    ) -> None:
        """Remember a frame; called only before the next one, so that the last costs nothing."""
        features = encode_memory(model, embedding, self._clip_of_row, mask, present)
        self._memory.remember(features, pointer)


def build_tracker(config: Config, sam2: SAM2Base) -> SAM2Base:
    """Return the model that segments the frames after the prompted one, by `params.Propagate`.

    Args:
        sam2: the trained model; if it is also the tracker, `tracking_masks` is set in place.
    """
    tracker, own = sam2, config.sam2
    if config.propagate.tracker == "pretrained":
        tracker = build_sam2(own.config, own.weights, digest=own.digest, device=sam2.device)
    if config.propagate.tracking_masks == "single":
        tracker.multimask_output_for_tracking = False
    return tracker


def propagate(
    sam2: SAM2Base,
    embeddings: tuple[Tensor, Tensor, Tensor],
    prompts: Tensor,
    clip_of_row: Tensor,
    *,
    prompted: Tensor | None = None,
    tracker: SAM2Base | None = None,
) -> tuple[Tensor, Tensor]:
    """Segment whole clips from one prompted frame per row, forwards and backwards in time.

    Each direction has a `MaskStream` of its own, so it remembers the prompted frame and the frames
    between, but nothing of the other direction.

    Args:
        embeddings: (K, N, C, h, w), (K, N, C/8, 4h, 4w) and (K, N, C/4, 2h, 2w).
        prompts: see `MaskStream`.
        prompted: (B,) int64, the frame that each prompt is for, 0 to N - 1; by default all 0.

    Returns:
        Mask logits (B, N, 4h, 4w) and object scores (B, N), float32.

    Raises:
        ValueError: a prompted frame is not in the clip.
    """
    frames, rows = embeddings[0].shape[1], len(prompts)
    starts = [0] * rows if prompted is None else prompted.tolist()
    if outside := sorted({start for start in starts if not 0 <= start < frames}):
        raise ValueError(f"prompted: found frames {outside}; expected 0 to {frames - 1}")
    device = prompts.device
    logits = torch.empty(rows, frames, *embeddings[1].shape[-2:], device=device)
    scores = torch.empty(rows, frames, device=device)
    for start in sorted(set(starts)):
        own = torch.tensor([row for row in range(rows) if starts[row] == start], device=device)
        # Backwards from frame 0 there is nothing to segment.
        for order in (range(start, frames), range(start, -1, -1))[: 2 if start else 1]:
            stream = MaskStream(
                sam2, prompts[own], clip_of_row[own], frames=frames, tracker=tracker
            )
            for frame in order:
                embedding, high_res_0, high_res_1 = (level[:, frame] for level in embeddings)
                mask, score = stream.step((embedding, high_res_0, high_res_1))
                logits[own, frame], scores[own, frame] = mask, score
    return logits, scores
