"""What is trained, what is saved, and where prompts point."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from sam2love.fusion import FusionTransformer
from sam2love.model import SAM2Love
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import click, grid_positions
from tests import tiny

NO_MASK = "sam_prompt_encoder.no_mask_embed.weight"
CONVS = ("sam_mask_decoder.conv_s0.", "sam_mask_decoder.conv_s1.")


def make(*, seed: int = 0, layers: int = 1, dim: int = 16, **settings: bool) -> SAM2Love:
    torch.manual_seed(seed)
    sam2 = build_sam2(str(tiny.SAM2_CONFIG))
    fusion = FusionTransformer(
        audio_dim=3,
        visual_dim=4,
        text_dim=5,
        dim=dim,
        layers=layers,
        heads=2,
        mlp_ratio=2.0,
        seg_tokens=1,
        strategy="token",
        modalities=("audio", "text", "vision"),
        propagation=True,
        history="previous",
        order="forward",
        positions="learned",
        patch_positions=grid_positions(sam2, cells=16),
    )
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


def test_gradients_reach_our_parts_through_the_decoder_alone():
    model = make()
    prompts = model.prompt_projection(torch.randn(2, 1, 16))
    levels = (torch.randn(2, 64, 8, 8), torch.randn(2, 8, 32, 32), torch.randn(2, 16, 16, 16))
    model.segment(levels, prompts).logits.square().mean().backward()
    moved = {name for name, p in model.named_parameters() if p.grad is not None and p.grad.any()}
    assert "prompt_projection.0.weight" in moved
    assert f"sam2.{NO_MASK}" in moved
    allowed = ("prompt_projection.", "sam2.sam_mask_decoder.", f"sam2.{NO_MASK}")
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


def test_a_click_on_a_cell_points_to_that_cell():
    model = make()
    sam2 = model.sam2
    side = sam2.sam_image_embedding_size
    stride = sam2.image_size // side
    # What says that a point is a click, not where it is, is set aside.
    torch.nn.init.zeros_(sam2.sam_prompt_encoder.point_embeddings[1].weight)
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centres = torch.stack([x, y], dim=-1).view(-1, 2) * stride + stride / 2
    prompts = click(sam2, centres - 0.5)  # SAM 2 adds half a pixel
    cells = model.locate(prompts)
    assert cells.shape == (side * side, side * side)
    assert cells.argmax(1).tolist() == list(range(side * side))


def test_the_likelihood_of_a_cell_falls_with_the_distance():
    model = make()
    positions = grid_positions(model.sam2, cells=64)
    own = model.locate(positions[:, None]).view(8, 8, 8, 8)
    near = own[3, 3, 3, 4] + own[3, 3, 4, 3]
    assert 2 * own[3, 3, 3, 3] > near
    assert near > own[3, 3, 0, 7] + own[3, 3, 7, 0]
