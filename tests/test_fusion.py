"""The fusion transformer against torch's own encoder, and the properties that the paper states."""

from functools import partial

import pytest
import torch
from torch.testing import assert_close

from benchmarks.fusion import plain_encoder, plain_loop
from sam2love.fusion import Fusion, FusionTransformer, MeanFusion
from sam2love.grounding import LearnedPositions
from sam2love.joint import JointFusion
from sam2love.params import load_params
from sam2love.stores.features import Features
from sam2love.strategies import build_fusion
from tests.tiny import DEFAULT_PARAMS, FUSION

B, N, HW, P = 2, 4, 4, 5
DIMS = {"audio_dim": 7, "visual_dim": 9, "text_dim": 8}


@pytest.fixture
def inputs() -> Features:
    torch.manual_seed(0)
    mask = torch.ones(B, P, dtype=torch.bool)
    mask[1, 3:] = False
    return Features(
        audio=torch.randn(B, N, 7),
        patches=torch.randn(B, N, HW, 9),
        cls=torch.randn(B, N, 9),
        text=torch.randn(B, P, 8),
        text_mask=mask,
    )


def build(kind: type[Fusion] = FusionTransformer, **changes) -> Fusion:
    torch.manual_seed(1)
    return kind(**{**FUSION, "dim": 16, "layers": 3, **DIMS, **changes}).eval()


def joint(**changes) -> Fusion:
    """A fusion with trajectories."""
    return build(JointFusion, trajectories=True, frames=N, **changes)


def placed(kind: type[Fusion] = FusionTransformer, **changes) -> Fusion:
    """A fusion with learned positions."""
    positions = LearnedPositions(16, patch_positions=torch.randn(HW, 6))
    return build(kind, positions=positions, **changes)


@pytest.mark.parametrize("history", ["previous", "inclusive", "none"])
@pytest.mark.parametrize("seg_tokens", [1, 4])
def test_equals_torchs_encoder_in_a_plain_loop(inputs, history, seg_tokens):
    fusion = build(history=history, seg_tokens=seg_tokens)
    expected = plain_loop(fusion, plain_encoder(fusion), inputs)
    assert_close(fusion(inputs).prompt, expected, atol=1e-5, rtol=1e-5)


def test_padding_carries_no_meaning(inputs):
    fusion = placed()
    before = fusion(inputs).prompt
    inputs.text[1, 3:] += 5
    assert_close(fusion(inputs).prompt, before)
    inputs.text[1, 2] += 5
    assert not torch.allclose(fusion(inputs).prompt[1], before[1])


def test_previous_history_ends_before_the_current_frame(inputs):
    fusions = [build(history=history) for history in ("previous", "inclusive")]
    before = [fusion(inputs).prompt for fusion in fusions]
    inputs.cls[:, -1] += 5
    after = [fusion(inputs).prompt for fusion in fusions]
    assert_close(after[0], before[0])
    assert not torch.allclose(after[1], before[1])


def test_backward_is_forward_on_reversed_frames(inputs):
    reversed_ = inputs._replace(patches=inputs.patches.flip(1), cls=inputs.cls.flip(1))
    backward = build(order="backward")(inputs).prompt
    assert_close(build(order="forward")(reversed_).prompt, backward)


def test_without_propagation_frames_do_not_meet(inputs):
    fusion = build(propagation=False, history="none")
    alone = [
        fusion(inputs._replace(patches=inputs.patches[:, [i]], cls=inputs.cls[:, [i]])).prompt
        for i in range(N)
    ]
    assert_close(fusion(inputs).prompt, torch.stack(alone).mean(0))


@pytest.mark.parametrize("order", ["forward", "backward"])
def test_attention_is_that_of_the_last_block(inputs, order):
    """Against torch's attention, fed alike; alone, since no frame was visited before frame 0."""
    fusion = build(order=order, propagation=False, history="none")
    first = inputs._replace(patches=inputs.patches[:, :1], cls=inputs.cls[:, :1])
    tokens = fusion.encode(first)
    context, mask = fusion.context(tokens, first.text_mask)
    seg = fusion.seg.expand(B, -1, -1)
    _, entering = fusion.step(seg, context, tokens.patches[:, 0], tokens.cls[:, :0], mask)
    layer = plain_encoder(fusion).layers[-1]
    normed = layer.norm1(entering)
    _, shares = layer.self_attn(normed[:, :1], normed, normed, average_attn_weights=False)
    logits = shares.log().mean(1)[:, 0, -HW:]
    attention = fusion(inputs).attention
    # A softmax forgets what all logits have in common.
    assert_close(attention - attention[:, :1], logits - logits[:, :1], atol=1e-5, rtol=1e-5)
    assert build(modalities=("audio", "text"))(inputs).attention is None
    assert build(MeanFusion)(inputs).attention is None


def test_mean_fusion_is_the_mean_output_of_one_pass(inputs):
    fusion = build(MeanFusion)
    encoder = plain_encoder(fusion)
    markers = [token.expand(B, 1, -1) for token in (fusion.aud, fusion.vis)]
    parts = [
        fusion.audio_projection(inputs.audio),
        markers[0],
        fusion.text_projection(inputs.text),
        markers[1],
        fusion.visual_projection(inputs.patches).flatten(1, 2),
    ]
    padding = [torch.zeros(B, part.shape[1], dtype=torch.bool) for part in parts]
    padding[2] = ~inputs.text_mask
    hidden = torch.cat(padding, 1)
    output = encoder(torch.cat(parts, 1), src_key_padding_mask=hidden)
    expected = torch.stack([row[~gone].mean(0) for row, gone in zip(output, hidden, strict=True)])
    assert_close(fusion(inputs).prompt[:, 0], expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("modality", "names"),
    [("audio", ["audio"]), ("text", ["text"]), ("vision", ["patches", "cls"])],
)
@pytest.mark.parametrize("kind", [FusionTransformer, joint, MeanFusion])
def test_a_modality_left_out_has_no_say(inputs, modality, names, kind):
    others = [name for name in ("audio", "text", "vision") if name != modality]
    make = kind if kind is joint else partial(build, kind)
    without, whole = make(modalities=others), make()
    changed = inputs._replace(**{name: getattr(inputs, name) + 3 for name in names})
    assert_close(without(changed).prompt, without(inputs).prompt)
    assert not torch.allclose(whole(changed).prompt, whole(inputs).prompt)


def test_learned_positions_tell_the_order_of_sounds(inputs):
    swapped = inputs._replace(audio=inputs.audio.flip(1))
    plain = build()
    assert_close(plain(swapped).prompt, plain(inputs).prompt, atol=1e-5, rtol=1e-5)
    fusion = placed()
    assert not torch.allclose(fusion(swapped).prompt, fusion(inputs).prompt, atol=1e-3)


def test_markers_are_fixed_but_saved():
    fusion = build()
    assert {"aud", "vis"} <= set(fusion.state_dict())
    assert not {"aud", "vis"} & {name for name, _ in fusion.named_parameters()}


def test_the_parameters_choose_the_fusion():
    settings = load_params(DEFAULT_PARAMS).fusion
    token = build_fusion(settings, positions=None, **DIMS)
    assert isinstance(token, FusionTransformer)
    assert (token.history, token.order, len(token.blocks)) == (
        settings.history,
        settings.order,
        settings.layers,
    )
    mean = settings.model_copy(update={"strategy": "mean"})
    assert isinstance(build_fusion(mean, positions=None, **DIMS), MeanFusion)


def test_joint_is_token_on_a_clip_of_one_frame(inputs):
    alone = inputs._replace(patches=inputs.patches[:, :1], cls=inputs.cls[:, :1])
    joint = build(JointFusion, trajectories=False)(alone)
    token = build(history="inclusive")(alone)
    assert_close(joint.prompt, token.prompt)
    assert_close(joint.attention, token.attention)


def test_joint_sees_other_frames_by_trajectories_and_cls_alone(inputs):
    later = inputs._replace(patches=inputs.patches.clone(), cls=inputs.cls.clone())
    later.patches[:, 1:] = torch.randn(B, N - 1, HW, 9)
    without, having = build(JointFusion, trajectories=False), joint()
    assert_close(without(later).prompt, without(inputs).prompt)
    assert not torch.allclose(having(later).prompt, having(inputs).prompt)
    later.cls[:, -1] += 5
    assert not torch.allclose(without(later).prompt, without(inputs).prompt)


@pytest.mark.parametrize("trajectories", [False, True])
def test_joint_reads_the_patches_of_each_row_s_own_frame(inputs, trajectories):
    fusion = build(JointFusion, trajectories=trajectories, frames=N)
    frame = torch.arange(B) % N
    together = fusion(inputs, frame=frame)
    for row in range(B):
        alone = fusion(Features(*(part[[row]] for part in inputs)), frame=frame[[row]])
        assert_close(alone.prompt[0], together.prompt[row])
        assert_close(alone.attention[0], together.attention[row])
    if not trajectories:
        first = inputs.patches[torch.arange(B), frame][:, None]
        assert_close(fusion(inputs._replace(patches=first)).prompt, together.prompt)
    assert_close(fusion(inputs, frame=torch.zeros_like(frame)).prompt, fusion(inputs).prompt)


def test_learned_positions_tell_which_frame_is_read(inputs):
    """The same picture on every frame."""
    still = inputs._replace(patches=inputs.patches[:, :1].expand(-1, N, -1, -1))
    fusion = placed(JointFusion, trajectories=False)
    frame = torch.full((B,), N - 1)
    assert not torch.allclose(fusion(still, frame=frame).prompt, fusion(still).prompt, atol=1e-3)


def test_linear_projections_are_linear_maps(inputs):
    fusion = build(projections="linear")
    doubled = fusion.encode(inputs._replace(audio=2 * inputs.audio)).audio
    assert_close(doubled, 2 * fusion.encode(inputs).audio)  # biases start at 0
    assert not torch.allclose(
        build().encode(inputs._replace(audio=-inputs.audio)).audio, -build().encode(inputs).audio
    )
