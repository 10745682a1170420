"""Every published SAM 2 configuration with random weights; untrusted checkpoints and YAML."""

from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from sam2love.encoders.weights import digest
from sam2love.sam.build import build_sam2
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
    """Build on the meta device, except for linspace: SAM 2's trunk reads its values."""
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
    """The difference between the large models, and some of their shapes."""
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
    with pytest.raises(ValueError, match=named) as error:
        build_sam2(str(tiny.SAM2_CONFIG), str(path))
    assert str(error.value).startswith(f"{path} does not fit {tiny.SAM2_CONFIG} (")
    assert str(error.value).endswith("sam2.config must name the model of sam2.weights")
    assert "\n" not in str(error.value)


def test_the_weights_of_another_size(on_meta, sam2_folder):
    with pytest.raises(
        ValueError,
        match=r"does not fit .*missing: .* and \d+ more; unknown: .*; of another shape: ",
    ):
        build_sam2(TINY, str(sam2_folder / "model.safetensors"), device="meta")


AS_PEOPLE_SAVE = {
    "bare": lambda state: state,
    "DataParallel": lambda state: {f"module.{name}": tensor for name, tensor in state.items()},
    "DataParallel under model": lambda state: {"model": AS_PEOPLE_SAVE["DataParallel"](state)},
    "torch.compile": lambda state: {f"_orig_mod.{name}": each for name, each in state.items()},
    "both": lambda state: {f"module._orig_mod.{name}": each for name, each in state.items()},
    "a part compiled": lambda state: {
        name.replace("image_encoder.", "image_encoder._orig_mod."): tensor
        for name, tensor in state.items()
    },
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "Lightning": lambda state: {
        "state_dict": {f"net.{name}": each for name, each in state.items()}
        | {"loss.weight": torch.ones(3)},
        "pytorch-lightning_version": "2.5",
        "hyper_parameters": {"rate": 1e-4},
    },
    "model_state_dict": lambda state: {
        "model_state_dict": state,
        "optimizer_state_dict": {
            "state": {0: {"step": torch.tensor(5.0), "exp_avg": torch.zeros(3)}},
            "param_groups": [{"lr": 1e-3, "params": [0]}],
        },
        "loss": torch.tensor(0.3),
    },
    "ema": lambda state: {"ema": state, "decay": 0.999},
    "AveragedModel": lambda state: (
        {f"module.{name}": each for name, each in state.items()} | {"n_averaged": torch.tensor(7)}
    ),
    "a list": lambda state: [state],
    "nested by part": lambda state: {
        "checkpoint": {
            part: {
                name.removeprefix(f"{part}."): tensor
                for name, tensor in state.items()
                if name.partition(".")[0] == part
            }
            for part in {name.partition(".")[0] for name in state if "." in name}
        }
        | {name: tensor for name, tensor in state.items() if "." not in name}
    },
    "parameters": lambda state: {
        name: torch.nn.Parameter(tensor, requires_grad=False) for name, tensor in state.items()
    },
}
"""How training code saves weights, by convention."""


@pytest.mark.parametrize("convention", AS_PEOPLE_SAVE)
def test_checkpoints_as_people_save_them(state, tmp_path, convention):
    torch.save(AS_PEOPLE_SAVE[convention](state), tmp_path / "weights.pt")
    found = build_sam2(str(tiny.SAM2_CONFIG), str(tmp_path / "weights.pt")).state_dict()
    assert all(torch.equal(found[name], state[name]) for name in state)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision(state, tmp_path, dtype):
    saved = {name: tensor.to(dtype) for name, tensor in state.items()}
    torch.save({"model": saved}, tmp_path / "weights.pt")
    found = build_sam2(str(tiny.SAM2_CONFIG), str(tmp_path / "weights.pt")).state_dict()
    assert all(torch.equal(found[name], saved[name].float()) for name in state)


@pytest.mark.parametrize(
    ("save", "reason"),
    [
        (
            lambda state: {"model": state, "ema": state},
            "contains several sets of weights, model., ema.; sav",
        ),
        (lambda state: [state, state], "several sets of weights, 0., 1.; save only the one"),
        (lambda state: {"model": state, "best": np.float64(0.7)}, "contains numpy.* next to the"),
        (lambda state: {"model": state, "args": Namespace(lr=1)}, "contains argparse.Namespace n"),
        (
            lambda state: {"model": state, "out": Path("x")},
            "contains pathlib.*Path next to the weights",
        ),
        (lambda state: torch.nn.Linear(2, 2), "contains torch.nn.modules.linear.Linear ne"),
        (lambda state: {"epoch": 3}, "contains no tensor; expected a model's state dict"),
        (
            lambda state: {"ema": {"shadow_params": [*state.values()]}},
            "no tensor has a name of thi",
        ),
        (lambda state: torch.zeros(2), "no tensor has a name of this model, such as maskmem_tpos_"),
        (
            lambda state: {name: (tensor * 99).to(torch.int8) for name, tensor in state.items()},
            "not floating point: maskmem_tpos_enc",
        ),
    ],
)
def test_checkpoints_that_are_refused(state, tmp_path, save, reason):
    path = tmp_path / "weights.pt"
    torch.save(save(state), path)
    with pytest.raises(ValueError, match=reason) as error:
        build_sam2(str(tiny.SAM2_CONFIG), str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert "fetch" not in str(error.value)


# ---- untrusted configurations -------------------------------------------------------------------


@pytest.fixture
def ran(tmp_path) -> Path:
    """A file that exists if code of a configuration ran."""
    return tmp_path / "ran"


WAYS_TO_RUN_CODE = {
    "a function": "{_target_: os.system, command: touch RAN}",
    "a function by position": "{_target_: os.system, _args_: [touch RAN]}",
    "a built-in": '{_target_: builtins.exec, _args_: [\'open("RAN", "w")\']}',
    "a process": "{_target_: subprocess.run, args: [touch, RAN]}",
    "a path's method": "{_target_: pathlib.Path.touch, self: RAN}",
    "a pickle": "{_target_: pandas.read_pickle, filepath_or_buffer: PICKLE}",
    "torch's loader": "{_target_: torch.load, f: PICKLE, weights_only: false}",
    "through a module of SAM 2's": "{_target_: sam2.modeling.sam2_base.torch.load, f: PICKLE, "
    "weights_only: false}",
    "through a module of torch.nn's": "{_target_: torch.nn.modules.module.torch.load, f: PICKLE, "
    "weights_only: false}",
    "through a class": "{_target_: torch.nn.Module.__init__.__globals__.torch.load, f: PICKLE}",
    "from outside modeling": "{_target_: sam2.build_sam.build_sam2, config_file: x}",
    "no network of torch's": "{_target_: torch.utils.data.DataLoader, dataset: []}",
    "no class of torch.nn's": "{_target_: torch.nn.functional.relu, input: 1}",
    "no network of torch.nn's": "{_target_: torch.nn.Parameter}",
    "a package": "{_target_: torch.nn}",
    "with dots": "{_target_: torch.nn..os.system, command: touch RAN}",
    "a relative name": "{_target_: .os.system, command: touch RAN}",
    "hydra's own": "{_target_: hydra.utils.get_method, path: os.system}",
    "a part": "{_target_: os.system, _partial_: true, command: touch RAN}",
    "deep inside": "{_target_: torch.nn.Sequential, _args_: [[{a: {_target_: os.system}}]]}",
    "a name that is none": "{_target_: [os.system], command: touch RAN}",
    "an interpolated name": "{_target_: '${oc.env:HOME}', command: touch RAN}",
    "an interpolated class": "{_target_: '${more}'}",
    "weights of its own": "{_target_: torch.nn.Identity, weights_path: PICKLE}",
    "a tag": "!!python/object/apply:os.system [touch RAN]",
    "a tag of a module": "!!python/module:this x",
    "a tag of a name": "!!python/name:os.system x",
}
REFUSED = "is not allowed|not readable as YAML"


@pytest.mark.parametrize("way", WAYS_TO_RUN_CODE)
@pytest.mark.parametrize("place", ["model", "model.image_encoder.trunk", "model.stages"])
def test_a_configuration_runs_no_code(ran, tmp_path, way, place):
    torch.save(tiny.Pickled(f"touch {ran}"), tmp_path / "pickle")
    code = WAYS_TO_RUN_CODE[way].replace("RAN", str(ran))
    code = code.replace("PICKLE", str(tmp_path / "pickle"))
    text = tiny.SAM2_CONFIG.read_text()
    if place == "model":
        text = f"more: os.system\nmodel: {code}\n"
    elif place == "model.image_encoder.trunk":
        text = text.replace("    trunk:\n", f"    trunk:\n      more: {code}\n")
    else:
        text = text.replace("stages: [1, 2, 3, 1]", f"stages: [1, 2, {code}]")
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=REFUSED) as error:
        build_sam2(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("embed_dim: 16", "embed_dim: '${oc.env:HOME}'", "TypeError"),  # a word, as any other
        ("embed_dim: 16", "embed_dim: 16\n      _partial_: true", "keyword argument '_partial_'"),
        ("embed_dim: 16", "embed_dim: 16\n      1: 2", "keywords must be strings"),
        ("sam2.modeling.sam2_base.SAM2Base", "torch.nn.Identity", "expected _target_: sam2.modeli"),
        ("model:", "models:", "KeyError: 'model'"),
        ("\nmodel:", "\nmodel: &own\n  own: *own", "RecursionError"),
    ],
)
def test_a_configuration_that_describes_no_sam2(tmp_path, old, new, reason):
    path = tmp_path / "config.yaml"
    path.write_text(tiny.SAM2_CONFIG.read_text().replace(old, new))
    with pytest.raises(ValueError, match=reason) as error:
        build_sam2(str(path))
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


def test_other_weights_and_none(sam2_folder, tmp_path):
    config = str(tiny.SAM2_CONFIG)
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        build_sam2(config, str(sam2_folder / "model.safetensors"), digest="0" * 64)
    with pytest.raises(FileNotFoundError, match=r"gone\.pt: no such file or folder"):
        build_sam2(config, str(tmp_path / "gone.pt"))
    with pytest.raises(ValueError, match=r"sam2\.config: configs/gone\.yaml is neither a file nor"):
        build_sam2("configs/gone.yaml")
