"""The fusion transformer against torch's own encoder, and the properties that the paper states."""

import pytest
import torch
from torch import Tensor

from benchmarks.fusion import plain_encoder, plain_loop
from sam2love.fusion import FusionTransformer

B, N, HW, P = 2, 4, 6, 5
DIMS = {"audio_dim": 7, "visual_dim": 9, "text_dim": 8}


@pytest.fixture
def inputs() -> dict[str, Tensor]:
    torch.manual_seed(0)
    mask = torch.ones(B, P, dtype=torch.bool)
    mask[1, 3:] = False
    return {
        "audio_features": torch.randn(B, N, 7),
        "visual_features": torch.randn(B, N, HW, 9),
        "cls_features": torch.randn(B, N, 9),
        "text_features": torch.randn(B, P, 8),
        "text_mask": mask,
    }


class SegOnly(FusionTransformer):
    """The fusion transformer without what it says of agreement."""

    def forward(self, *args, **kwargs) -> Tensor:
        return super().forward(*args, **kwargs).seg_tokens


def build(**changes) -> FusionTransformer:
    torch.manual_seed(1)
    settings = {"dim": 16, "layers": 3, "heads": 4, **DIMS, **changes}
    return SegOnly(**settings).eval()


@pytest.mark.parametrize("history", ["previous", "inclusive", "none"])
@pytest.mark.parametrize("seg_tokens", [1, 4])
def test_equals_torchs_encoder_in_a_plain_loop(inputs, history, seg_tokens):
    fusion = build(history=history, seg_tokens=seg_tokens)
    expected = plain_loop(fusion, plain_encoder(fusion), inputs)
    torch.testing.assert_close(fusion(**inputs), expected, atol=1e-5, rtol=1e-5)


def test_padding_carries_no_meaning(inputs):
    fusion = build(positions="learned")
    before = fusion(**inputs)
    inputs["text_features"][1, 3:] += 5
    torch.testing.assert_close(fusion(**inputs), before)
    inputs["text_features"][1, 2] += 5
    assert not torch.allclose(fusion(**inputs)[1], before[1])


def test_previous_history_ends_before_the_current_frame(inputs):
    before = {history: build(history=history)(**inputs) for history in ("previous", "inclusive")}
    inputs["cls_features"][:, -1] += 5
    torch.testing.assert_close(build(history="previous")(**inputs), before["previous"])
    assert not torch.allclose(build(history="inclusive")(**inputs), before["inclusive"])


def test_backward_is_forward_on_reversed_frames(inputs):
    backward = build(order="backward")(**inputs)
    for name in ("visual_features", "cls_features"):
        inputs[name] = inputs[name].flip(1)
    torch.testing.assert_close(build(order="forward")(**inputs), backward)


def test_without_propagation_frames_do_not_meet(inputs):
    fusion = build(propagation=False, history="none")
    alone = [
        fusion(
            **inputs
            | {
                "visual_features": inputs["visual_features"][:, [i]],
                "cls_features": inputs["cls_features"][:, [i]],
            }
        )
        for i in range(N)
    ]
    torch.testing.assert_close(fusion(**inputs), torch.stack(alone).mean(0))


def test_mean_strategy_is_the_mean_output_of_one_pass(inputs):
    fusion = build(strategy="mean")
    encoder = plain_encoder(fusion)
    markers = [token.expand(B, 1, -1) for token in (fusion.aud, fusion.vis)]
    parts = [
        fusion.audio_projection(inputs["audio_features"]),
        markers[0],
        fusion.text_projection(inputs["text_features"]),
        markers[1],
        fusion.visual_projection(inputs["visual_features"]).flatten(1, 2),
    ]
    padding = [torch.zeros(B, part.shape[1], dtype=torch.bool) for part in parts]
    padding[2] = ~inputs["text_mask"]
    hidden = torch.cat(padding, 1)
    output = encoder(torch.cat(parts, 1), src_key_padding_mask=hidden)
    expected = torch.stack([row[~gone].mean(0) for row, gone in zip(output, hidden, strict=True)])
    torch.testing.assert_close(fusion(**inputs)[:, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("modality", "names"),
    [
        ("audio", ["audio_features"]),
        ("text", ["text_features"]),
        ("vision", ["visual_features", "cls_features"]),
    ],
)
@pytest.mark.parametrize("strategy", ["token", "mean"])
def test_a_modality_left_out_has_no_say(inputs, modality, names, strategy):
    others = [name for name in ("audio", "text", "vision") if name != modality]
    fusion = build(modalities=others, strategy=strategy)
    whole = build(strategy=strategy)
    before = fusion(**inputs), whole(**inputs)
    for name in names:
        inputs[name] = inputs[name] + 3
    torch.testing.assert_close(fusion(**inputs), before[0])
    assert not torch.allclose(whole(**inputs), before[1])


def test_learned_positions_tell_the_order_of_sounds(inputs):
    swapped = inputs | {"audio_features": inputs["audio_features"].flip(1)}
    plain, placed = build(), build(positions="learned")
    torch.testing.assert_close(plain(**swapped), plain(**inputs), atol=1e-5, rtol=1e-5)
    assert not torch.allclose(placed(**swapped), placed(**inputs), atol=1e-3)


def test_markers_are_fixed_but_saved():
    fusion = build()
    assert {"aud", "vis"} <= set(fusion.state_dict())
    assert not {"aud", "vis"} & {name for name, _ in fusion.named_parameters()}
