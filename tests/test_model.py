"""What is trained, what is saved, and where prompts point."""

import math

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from sam2love.fusion import FusionTransformer
from sam2love.grounding import LearnedPositions, belief
from sam2love.joint import JointFusion
from sam2love.model import SAM2Love
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import decode, grid_positions
from sam2love.stores.features import Features
from tests import tiny

DIMS = {"audio_dim": 3, "visual_dim": 4, "text_dim": 5}
NO_MASK = "sam_prompt_encoder.no_mask_embed.weight"
CONVS = ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")


def make(*, seed: int = 0, layers: int = 1, dim: int = 16, **settings: bool) -> SAM2Love:
    torch.manual_seed(seed)
    sam2 = build_sam2(str(tiny.SAM2_CONFIG))
    positions = LearnedPositions(dim, patch_positions=grid_positions(sam2, cells=16))
    sizes = {**tiny.FUSION, "dim": dim, "layers": layers}
    shared = {**DIMS, **sizes, "positions": positions}
    joint = settings.get("any_frame", False)
    fusion = JointFusion(trajectories=True, **shared) if joint else FusionTransformer(**shared)
    return SAM2Love(fusion, sam2, **settings)


@pytest.mark.parametrize("prompt_encoder", [False, True])
@pytest.mark.parametrize("mask_decoder", [False, True])
@pytest.mark.parametrize("high_res_convs", [False, True])
def test_what_is_trained(prompt_encoder, mask_decoder, high_res_convs):
    model = make(
        train_prompt_encoder=prompt_encoder,
        train_mask_decoder=mask_decoder,
        train_high_res_convs=high_res_convs,
    )
    for name, parameter in model.named_parameters():
        part = name.removeprefix("sam2.")
        if part == name:  # ours
            expected = True
        elif part == NO_MASK:
            expected = prompt_encoder
        elif part.startswith(CONVS):
            expected = high_res_convs
        else:
            expected = part.startswith("sam_mask_decoder.") and mask_decoder
        assert parameter.requires_grad == expected, name


def made_up() -> tuple[Features, tuple[torch.Tensor, ...]]:
    """Features of two expressions on two frames of 16 patches, and their embeddings."""
    features = Features(
        audio=torch.randn(2, 10, 3),
        patches=torch.randn(2, 2, 16, 4),
        cls=torch.randn(2, 2, 4),
        text=torch.randn(2, 6, 5),
        text_mask=torch.ones(2, 6, dtype=torch.bool),
    )
    shapes = [(2, 64, 8, 8), (2, 8, 32, 32), (2, 16, 16, 16)]
    return features, tuple(torch.randn(shape) for shape in shapes)


def test_forward_prompts_the_first_frame_with_the_first_seg():
    model = make().eval()
    features, levels = made_up()
    out = model(features, levels)
    assert out.prompts.shape == (2, 1, 64)
    assert torch.equal(out.prompts, model.prompt_projection(out.fused.prompt[:, :1]))
    expected = decode(model.sam2, levels, out.prompts)
    assert torch.equal(out.decoded.logits, expected.logits)
    assert torch.equal(out.decoded.object_score, expected.object_score)
    alone = model(features)
    assert alone.decoded is None
    assert torch.equal(alone.prompts, out.prompts)


def test_gradients_reach_all_that_is_trained_and_nothing_else():
    model = make()
    out = model(*made_up())
    (out.decoded.logits.square().mean() + out.decoded.object_score.mean()).backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert {"prompt_projection.0.weight", "fusion.seg", f"sam2.{NO_MASK}"} <= moved
    allowed = ("fusion.", "prompt_projection.", "sam2.sam_mask_decoder.", f"sam2.{NO_MASK}")
    assert all(name.startswith(allowed) for name in moved)


def test_saved_and_loaded(tmp_path):
    saved, other = make(seed=0), make(seed=1)
    untouched = {
        name: tensor.clone()
        for name, tensor in other.state_dict().items()
        if name not in other.trained_state()
    }
    saved.save(tmp_path / "model.safetensors")
    state = saved.trained_state()
    assert load_file(tmp_path / "model.safetensors").keys() == state.keys()
    other.load(tmp_path / "model.safetensors")
    for name, tensor in other.state_dict().items():
        assert torch.equal(tensor, state.get(name, untouched.get(name))), name
    assert {"fusion.seg", "fusion.aud", "fusion.vis", f"sam2.{NO_MASK}"} <= state.keys()
    assert not any("image_encoder" in name or "memory" in name for name in state)
    # Whatever can be trained is saved, with every setting.
    everything = make(train_high_res_convs=True)
    trained = {name for name, p in everything.named_parameters() if p.requires_grad}
    assert trained <= everything.trained_state().keys()


@pytest.mark.parametrize("different", [{"layers": 2}, {"dim": 32}])
@pytest.mark.parametrize("swapped", [False, True])
def test_weights_of_other_parameters_are_refused(tmp_path, different, swapped):
    path = tmp_path / "model.safetensors"
    saved, built = (make(**different), make()) if swapped else (make(), make(**different))
    saved.save(path)
    before = {name: tensor.clone() for name, tensor in built.state_dict().items()}
    with pytest.raises(ValueError, match="does not fit the parameters") as error:
        built.load(path)
    message = str(error.value)
    assert message.startswith(str(path))
    assert "tensors differ, the first is fusion." in message
    assert message.endswith("run the stage 'train' again")
    assert "\n" not in message
    for name, tensor in built.state_dict().items():
        assert torch.equal(tensor, before[name]), f"{name} was loaded all the same"


def test_a_file_that_lacks_a_tensor_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    state = make().trained_state()
    del state["fusion.seg"]
    save_file(state, path)
    with pytest.raises(ValueError, match=r"\(1 tensors differ, the first is fusion\.seg\)"):
        make().load(path)


@pytest.mark.parametrize("shift", [-9.0, 0.0, 9.0])
def test_the_first_frame_of_which_seg_is_sure_is_prompted_or_else_the_likeliest(shift):
    """`shift` moves all beliefs, so that [seg] is sure of all, some or none of the frames."""
    model = make(any_frame=True).eval()
    features = Features(
        audio=torch.randn(6, 10, 3),
        patches=5 * torch.randn(6, 5, 16, 4),
        cls=torch.randn(6, 5, 4),
        text=torch.randn(6, 6, 5),
        text_mask=torch.ones(6, 6, dtype=torch.bool),
    )
    attention, sure = model.fusion.attention, math.log(0.98 / 0.02)
    middle = belief(model(features).fused.attention).median().item() - sure
    model.fusion.attention = lambda *parts: attention(*parts) - middle + shift
    outs = [model(features, frame=torch.full((6,), number)) for number in range(5)]
    prompts = model.prompts(features)
    for row, chosen in enumerate(prompts.frame.tolist()):
        seen = [belief(out.fused.attention)[row].item() for out in outs]
        certain = [number for number, value in enumerate(seen) if value > sure]
        assert chosen == (certain[0] if certain else seen.index(max(seen)))
        assert_close(prompts.tokens[row], outs[chosen].prompts[row])
        odds = math.exp(seen[chosen]) / 5  # of five looks, the best is taken
        assert_close(prompts.presence[row].exp(), torch.tensor(odds), rtol=1e-4, atol=0)
    assert (len(set(prompts.frame.tolist())) > 1) == (shift <= 0)


def test_without_any_frame_frame_0_is_prompted_and_sam_2_tells_the_presence():
    features, _ = made_up()
    model = make().eval()
    prompts = model.prompts(features)
    assert prompts.frame.tolist() == [0, 0]
    assert prompts.presence is None
    assert torch.equal(prompts.tokens, model(features).prompts)
