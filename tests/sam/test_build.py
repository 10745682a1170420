"""Every published SAM 2 by its configuration and file, on weights made here."""

import pytest
import torch
from safetensors.torch import save_file

from sam2love.sam.build import build_sam2
from sam2love.weights import digest
from tests import tiny

TINY = "configs/sam2.1/sam2.1_hiera_t.yaml"
PUBLISHED = {
    # configuration: (names in the published file, million parameters in the package's table)
    "configs/sam2/sam2_hiera_t.yaml": (468, 38.9),
    "configs/sam2/sam2_hiera_s.yaml": (516, 46.0),
    "configs/sam2/sam2_hiera_b+.yaml": (612, 80.8),
    "configs/sam2/sam2_hiera_l.yaml": (900, 224.4),
    "configs/sam2.1/sam2.1_hiera_t.yaml": (471, 38.9),
    "configs/sam2.1/sam2.1_hiera_s.yaml": (519, 46.0),
    "configs/sam2.1/sam2.1_hiera_b+.yaml": (615, 80.8),
    "configs/sam2.1/sam2.1_hiera_l.yaml": (903, 224.4),
}


@pytest.fixture
def on_meta(monkeypatch):
    """Models without memory; SAM 2's trunk alone counts with real numbers while it is built."""
    linspace = torch.linspace
    monkeypatch.setattr(torch, "linspace", lambda *args: linspace(*args, device="cpu"))
    with torch.device("meta"):
        yield


@pytest.mark.parametrize("config", PUBLISHED)
def test_sizes_are_the_published_ones(on_meta, config):
    state = build_sam2(config, device="meta").state_dict()
    names, millions = PUBLISHED[config]
    assert len(state) == names
    assert sum(tensor.numel() for tensor in state.values()) / 1e6 == pytest.approx(
        millions, abs=0.1
    )


def test_2_1_has_three_more(on_meta):
    """What the large ones differ by, and shapes of theirs that no other size has."""
    one, two = (
        build_sam2(f"configs/{name}_hiera_l.yaml", device="meta").state_dict()
        for name in ("sam2/sam2", "sam2.1/sam2.1")
    )
    assert one.keys() < two.keys()
    assert {name: tuple(two[name].shape) for name in two.keys() - one.keys()} == {
        "no_obj_embed_spatial": (1, 64),
        "obj_ptr_tpos_proj.weight": (64, 256),
        "obj_ptr_tpos_proj.bias": (64,),
    }
    shapes = {
        "image_encoder.trunk.patch_embed.proj.weight": (144, 3, 7, 7),
        "image_encoder.trunk.pos_embed": (1, 144, 7, 7),
        "image_encoder.trunk.blocks.47.mlp.layers.0.weight": (4608, 1152),
        "image_encoder.neck.convs.0.conv.weight": (256, 1152, 1, 1),
        "maskmem_tpos_enc": (7, 1, 1, 64),
        "sam_mask_decoder.conv_s0.weight": (32, 256, 1, 1),
        "memory_encoder.out_proj.weight": (64, 256, 1, 1),
    }
    assert {name: tuple(one[name].shape) for name in shapes} == shapes


@pytest.mark.slow
def test_a_published_file_loads(tmp_path):
    torch.manual_seed(0)
    state = build_sam2(TINY).state_dict()
    path = tmp_path / "sam2.1_hiera_tiny.pt"
    torch.save({"model": state}, path)
    loaded = build_sam2(TINY, str(path), digest=digest(path)).state_dict()
    assert all(torch.equal(loaded[name], state[name]) for name in state)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return build_sam2(str(tiny.SAM2_CONFIG)).state_dict()


def test_both_kinds_of_file_are_the_same(state, tmp_path):
    paths = tmp_path / "published.pt", tmp_path / "model.safetensors"
    torch.save({"model": state}, paths[0])
    save_file(state, paths[1])
    for path in paths:
        model = build_sam2(str(tiny.SAM2_CONFIG), str(path), digest=digest(path))
        assert not model.training
        found = model.state_dict()
        assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"no_mem_embed": None}, r"missing: no_mem_embed"),
        ({"extra": torch.zeros(1)}, r"unknown: extra"),
        ({"no_mem_embed": torch.zeros(3)}, r"of another shape: no_mem_embed \(3,\) for \(1, 1, "),
    ],
)
def test_names_what_does_not_fit(state, tmp_path, change, named):
    path = tmp_path / "published.pt"
    changed = {name: value for name, value in (state | change).items() if value is not None}
    torch.save({"model": changed}, path)
    with pytest.raises(ValueError, match=named) as told:
        build_sam2(str(tiny.SAM2_CONFIG), str(path))
    assert str(told.value).startswith(f"{path} does not fit {tiny.SAM2_CONFIG} (")
    assert str(told.value).endswith("sam2.config must name the model that sam2.weights are of")
    assert "\n" not in str(told.value)


def test_the_weights_of_another_size(on_meta, sam2_folder):
    with pytest.raises(
        ValueError,
        match=r"does not fit .*missing: .* and \d+ more; unknown: .*; of another shape: ",
    ):
        build_sam2(TINY, str(sam2_folder / "model.safetensors"), device="meta")


def test_a_file_without_model(state, tmp_path):
    torch.save(state, tmp_path / "bare.pt")
    with pytest.raises(
        ValueError, match=r'bare\.pt: expected {"model": state_dict}, as SAM 2 comes'
    ):
        build_sam2(str(tiny.SAM2_CONFIG), str(tmp_path / "bare.pt"))


def test_other_weights_and_none(sam2_folder, tmp_path):
    config = str(tiny.SAM2_CONFIG)
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        build_sam2(config, str(sam2_folder / "model.safetensors"), digest="0" * 64)
    with pytest.raises(FileNotFoundError, match=r"gone\.pt: no such file or folder"):
        build_sam2(config, str(tmp_path / "gone.pt"))
    with pytest.raises(ValueError, match=r"sam2\.config: configs/gone\.yaml is neither a file nor"):
        build_sam2("configs/gone.yaml")
