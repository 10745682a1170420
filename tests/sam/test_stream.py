"""A frame at a time against the whole clip at once, and how much is remembered."""

import pytest
import torch

from sam2love.sam.build import build_sam2
from sam2love.sam.encode import encode_frames
from sam2love.sam.propagate import propagate
from sam2love.sam.stream import MaskStream, prompted
from tests import tiny

FRAMES = 10


@pytest.fixture(scope="module")
def models():
    torch.manual_seed(0)
    return build_sam2(str(tiny.SAM2_CONFIG)), build_sam2(str(tiny.SAM2_CONFIG))


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(FRAMES, 3, 128, 128, generator=generator)


@pytest.mark.parametrize("own_tracker", [False, True])
def test_against_propagation_of_the_clip(models, images, own_tracker):
    sam2, tracker = models[0], models[1] if own_tracker else None
    if own_tracker:  # they share the image encoder, as when only heads were trained
        tracker.image_encoder = sam2.image_encoder
        for conv in ("conv_s0", "conv_s1"):
            setattr(tracker.sam_mask_decoder, conv, getattr(sam2.sam_mask_decoder, conv))
    prompts = torch.randn(3, 1, 64, generator=torch.Generator().manual_seed(2))
    embeddings = tuple(level[None] for level in encode_frames(sam2, images))
    logits, scores = propagate(
        sam2, embeddings, prompts, torch.zeros(3, dtype=torch.int64), tracker=tracker
    )
    stream = MaskStream(sam2, tracker=tracker, frames=FRAMES)
    streamed = [stream.start(0, images[:1], prompts)]
    streamed += [stream.step(t, images[t : t + 1]) for t in range(1, FRAMES)]
    for t, (frame_logits, frame_scores) in enumerate(streamed):
        assert torch.allclose(frame_logits, logits[:, t], atol=1e-4), t
        assert torch.allclose(frame_scores, scores[:, t], atol=1e-4), t
    alone = prompted(sam2, images[:1], prompts)
    assert torch.allclose(alone.object_score[:, 0], scores[:, 0], atol=1e-4)


def test_what_can_no_longer_be_seen_is_forgotten_and_nothing_else(models, images):
    sam2 = models[0]
    long = 40

    def run(*, forget: bool) -> list[torch.Tensor]:
        stream = MaskStream(sam2, frames=long)
        if not forget:
            stream._kept = long
        stream.start(5, images[:1], torch.ones(1, 1, 64))
        masks = [stream.step(t, images[t % 10 : t % 10 + 1])[0] for t in range(6, long)]
        remembered = len(stream._memory["non_cond_frame_outputs"])
        assert remembered == (10 if forget else long - 6)
        return masks

    for t, (short, whole) in enumerate(zip(run(forget=True), run(forget=False), strict=True)):
        assert torch.equal(short, whole), t
