"""Vision encoders against timm and transformers: patches in row-major order, and [cls]."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPImageProcessor, CLIPModel, CLIPVisionConfig, CLIPVisionModel

from sam2love.encoders.vision import VisionEncoder, load_vision_encoder
from sam2love.encoders.weights import digest
from tests import tiny


@pytest.fixture(scope="module")
def encoder(vit_folder) -> VisionEncoder:
    return load_vision_encoder(str(vit_folder), digest(vit_folder))


def frames(n: int = 3, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (n, height, width, 3), dtype=np.uint8)


def test_sizes(encoder):
    assert (encoder.dim, encoder.image_size, encoder.patches) == (8, 32, 16)
    images = encoder.preprocess(frames())
    assert images.shape == (3, 3, 32, 32)
    patches, cls = encoder.encode(images)
    assert patches.shape == (3, 16, 8)
    assert cls.shape == (3, 8)
    assert patches.dtype == cls.dtype == torch.float32


def test_features_are_timms_own(encoder, vit_folder):
    model = timm.create_model(f"local-dir:{vit_folder}", pretrained=True).eval()
    images = encoder.preprocess(frames())
    with torch.no_grad():
        expected = model.forward_features(images)
    patches, cls = encoder.encode(images)
    torch.testing.assert_close(cls, expected[:, 0], atol=0, rtol=0)
    torch.testing.assert_close(patches, expected[:, 1:], atol=0, rtol=0)


def test_preprocessing_is_pils_resize_to_the_square(encoder):
    """At low contrast, so that neither clips; PIL rounds to 8 bits."""
    smooth = (frames() // 2 + 60).astype(np.uint8)
    found = encoder.preprocess(smooth)
    for i, frame in enumerate(smooth):
        resized = np.asarray(Image.fromarray(frame).resize((32, 32), Image.Resampling.BICUBIC))
        expected = torch.from_numpy(resized.copy()).permute(2, 0, 1) / 255 * 2 - 1
        torch.testing.assert_close(found[i], expected, atol=0.02, rtol=0)


def test_preprocessing_keeps_the_range_and_the_edges(encoder):
    white = np.full((1, 48, 64, 3), 255, np.uint8)
    torch.testing.assert_close(encoder.preprocess(white), torch.ones(1, 3, 32, 32))
    edge = np.zeros((1, 48, 64, 3), np.uint8)
    edge[:, :, :4] = 255
    images = encoder.preprocess(edge)
    assert images.min() >= -1
    assert images.max() <= 1
    assert (images[..., 0] > 0.5).all()  # the outermost columns are not cropped


def test_patches_are_row_by_row(encoder):
    """A change in one corner of the frame changes that corner's patch most."""
    images = torch.zeros(1, 3, 32, 32)
    changed = images.clone()
    changed[..., :8, 24:] = 1  # the last patch of the first row
    before, after = (encoder.encode(batch)[0][0] for batch in (images, changed))
    assert (after - before).norm(dim=1).argmax() == 3


def test_refuses_other_weights(vit_folder, roberta_folder, tmp_path):
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        load_vision_encoder(str(vit_folder), "0" * 64)
    with pytest.raises(ValueError, match="timm can't load it"):
        load_vision_encoder(str(roberta_folder), digest(roberta_folder))
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ValueError, match=r"no readable config\.json"):
        load_vision_encoder(str(tmp_path), digest(tmp_path))
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        load_vision_encoder(str(tmp_path / "gone"), "0" * 64)


def test_refuses_a_model_without_cls(tmp_path):
    model = timm.create_model("resnet18", num_classes=0)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match="not a vision transformer with a"):
        load_vision_encoder(str(tmp_path), digest(tmp_path))


@pytest.mark.parametrize(
    ("architecture", "prefix"),
    [
        ("deit_tiny_distilled_patch16_224", 2),
        ("vit_small_patch14_reg4_dinov2", 5),
        ("vit_small_patch16_dinov3", 5),
        ("eva02_tiny_patch14_224", 1),
        ("beit_base_patch16_224", 1),
    ],
)
def test_other_vits_of_timm_with_cls(tmp_path, architecture, prefix):
    """Distillation and register tokens stand between [cls] and patches, and are left out."""
    side = 28 if "patch14" in architecture else 32
    small = {"img_size": side, "embed_dim": 16, "depth": 1, "num_heads": 2}
    tiny.save_vit(tmp_path, architecture=architecture, num_classes=0, **small)
    encoder = load_vision_encoder(str(tmp_path), digest(tmp_path))
    assert (encoder.dim, encoder.image_size, encoder.patches) == (16, side, 4)
    model = timm.create_model(architecture, num_classes=0, **small).eval()
    model.load_state_dict(load_file(tmp_path / "model.safetensors"))
    images = encoder.preprocess(frames())
    with torch.no_grad():
        tokens = model.forward_features(images)
    patches, cls = encoder.encode(images)
    assert tokens.shape == (3, prefix + 4, 16)
    torch.testing.assert_close(cls, tokens[:, 0], atol=0, rtol=0)
    torch.testing.assert_close(patches, tokens[:, prefix:], atol=0, rtol=0)


@pytest.mark.parametrize(
    "architecture",
    ["vit_base_patch16_siglip_224", "swin_tiny_patch4_window7_224", "pit_ti_224", "volo_d1_224"],
)
def test_refuses_other_transformers(tmp_path, architecture):
    """Without [cls], or with another layout of tokens."""
    model = timm.create_model(architecture, num_classes=0)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    with pytest.raises(ValueError, match="not a vision transformer with a"):
        load_vision_encoder(str(tmp_path), digest(tmp_path))


def test_refuses_weights_that_would_be_left_random(tmp_path):
    """Even if the file has a classifier, as those from the hub do."""
    tiny.save_vit(tmp_path, num_classes=3, embed_dim=6, depth=1)
    load_vision_encoder(str(tmp_path), digest(tmp_path))
    state = load_file(tmp_path / "model.safetensors")
    del state["blocks.0.norm2.bias"]
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(
        ValueError, match=r"model\.safetensors: .* \(missing: blocks\.0\.norm2\.bias\)"
    ):
        load_vision_encoder(str(tmp_path), digest(tmp_path))


def test_nothing_is_resampled(tmp_path):
    """Neither positions, as from 384 x 384 to 224 x 224, nor patches."""
    tiny.save_vit(tmp_path, num_classes=0, embed_dim=6, depth=1)
    state = load_file(tmp_path / "model.safetensors")
    file = tmp_path / "model.safetensors"
    save_file(state | {"pos_embed": torch.zeros(1, 577, 6)}, file)
    with pytest.raises(
        ValueError, match=r"of another shape: pos_embed \(1, 577, 6\) for \(1, 197, 6"
    ):
        load_vision_encoder(str(tmp_path), digest(tmp_path))
    save_file(state | {"patch_embed.proj.weight": torch.zeros(6, 3, 8, 8)}, file)
    with pytest.raises(
        ValueError, match=r"patch_embed\.proj\.weight \(6, 3, 8, 8\) for \(6, 3, 16"
    ):
        load_vision_encoder(str(tmp_path), digest(tmp_path))


def test_names_and_shapes_are_the_published_ones():
    """Those of timm/vit_base_patch16_224.augreg2_in21k_ft_in1k."""
    block = {
        "norm1.weight": (768,),
        "norm1.bias": (768,),
        "attn.qkv.weight": (2304, 768),
        "attn.qkv.bias": (2304,),
        "attn.proj.weight": (768, 768),
        "attn.proj.bias": (768,),
        "norm2.weight": (768,),
        "norm2.bias": (768,),
        "mlp.fc1.weight": (3072, 768),
        "mlp.fc1.bias": (3072,),
        "mlp.fc2.weight": (768, 3072),
        "mlp.fc2.bias": (768,),
    }
    expected = {
        "cls_token": (1, 1, 768),
        "pos_embed": (1, 197, 768),
        "patch_embed.proj.weight": (768, 3, 16, 16),
        "patch_embed.proj.bias": (768,),
        "norm.weight": (768,),
        "norm.bias": (768,),
        "head.weight": (1000, 768),
        "head.bias": (1000,),
    } | {f"blocks.{i}.{name}": shape for i in range(12) for name, shape in block.items()}
    with torch.device("meta"):
        model = timm.create_model("vit_base_patch16_224.augreg2_in21k_ft_in1k", pretrained=False)
    assert {name: tuple(value.shape) for name, value in model.state_dict().items()} == expected


@pytest.mark.slow
def test_full_size(tmp_path):
    model = timm.create_model("vit_base_patch16_224.augreg2_in21k_ft_in1k", pretrained=False)
    timm.models.save_for_hf(model, tmp_path, safe_serialization=True)
    encoder = load_vision_encoder(str(tmp_path), digest(tmp_path))
    assert (encoder.dim, encoder.image_size, encoder.patches) == (768, 224, 196)
    patches, cls = encoder.encode(encoder.preprocess(frames(1, 720, 1280)))
    assert (patches.shape, cls.shape) == ((1, 196, 768), (1, 768))


# ---- CLIP ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(clip_folder) -> VisionEncoder:
    return load_vision_encoder(str(clip_folder), digest(clip_folder))


def test_clip_is_transformers_own(clip, clip_folder):
    assert (clip.dim, clip.image_size, clip.patches) == (12, 32, 16)
    model = CLIPModel.from_pretrained(clip_folder).eval().vision_model
    images = clip.preprocess(frames())
    with torch.no_grad():
        expected = model(pixel_values=images)
        normalised = model.post_layernorm(expected.last_hidden_state)
    patches, cls = clip.encode(images)
    torch.testing.assert_close(cls, expected.pooler_output, atol=0, rtol=0)
    torch.testing.assert_close(patches, normalised[:, 1:], atol=0, rtol=0)


def test_clip_preprocessing_is_transformers_own_on_squares(clip, clip_folder):
    """Otherwise it crops; it rounds to 8 bits."""
    smooth = (frames(height=48, width=48) // 2 + 60).astype(np.uint8)
    processor = CLIPImageProcessor.from_pretrained(clip_folder)
    expected = processor(images=list(smooth), return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(clip.preprocess(smooth), expected, atol=0.02, rtol=0)


def test_clips_own_mean_and_deviation(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [1, 0, 0.5], "image_std": [1, 0.5, 2]}))
    white = np.full((1, 48, 64, 3), 255, np.uint8)
    images = load_vision_encoder(str(folder), digest(folder)).preprocess(white)
    torch.testing.assert_close(images[0, :, 0, 0], torch.tensor([0, 2, 0.25]))
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"preprocessor_config\.json: no image_mean"):
        load_vision_encoder(str(folder), digest(folder))


def test_the_vision_half_of_clip_is_enough(clip, clip_folder, tmp_path):
    shutil.copy(clip_folder / "preprocessor_config.json", tmp_path)
    CLIPVisionModel.from_pretrained(clip_folder).save_pretrained(tmp_path)
    half = load_vision_encoder(str(tmp_path), digest(tmp_path))
    images = clip.preprocess(frames())
    for found, expected in zip(half.encode(images), clip.encode(images), strict=True):
        torch.testing.assert_close(found, expected, atol=0, rtol=0)


def test_clip_without_some_weights(clip_folder, tmp_path):
    folder = shutil.copytree(clip_folder, tmp_path / "clip")
    state = load_file(folder / "model.safetensors")
    del state["vision_model.post_layernorm.bias"]
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no weights for post_layernorm\.bias"):
        load_vision_encoder(str(folder), digest(folder))


def test_clips_names_and_shapes_are_the_published_ones():
    """The vision half of openai/clip-vit-large-patch14, whose names begin with `vision_model.`."""
    layer = {
        "self_attn.k_proj": (1024, 1024),
        "self_attn.v_proj": (1024, 1024),
        "self_attn.q_proj": (1024, 1024),
        "self_attn.out_proj": (1024, 1024),
        "layer_norm1": (1024,),
        "mlp.fc1": (4096, 1024),
        "mlp.fc2": (1024, 4096),
        "layer_norm2": (1024,),
    }
    both = {"pre_layrnorm": (1024,), "post_layernorm": (1024,)}  # transformers' own spelling
    both |= {f"encoder.layers.{i}.{name}": layer[name] for i in range(24) for name in layer}
    expected = {
        "embeddings.class_embedding": (1024,),
        "embeddings.patch_embedding.weight": (1024, 3, 14, 14),
        "embeddings.position_embedding.weight": (257, 1024),
    }
    expected |= {f"{name}.weight": shape for name, shape in both.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in both.items()}
    config = CLIPVisionConfig(
        hidden_size=1024,
        intermediate_size=4096,
        num_hidden_layers=24,
        num_attention_heads=16,
        patch_size=14,
    )
    with torch.device("meta"):
        state = CLIPVisionModel(config).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


# ---- untrusted folders --------------------------------------------------------------------------


def describe(folder: Path, **settings: object) -> None:
    """Change timm's description of the weights."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config["pretrained_cfg"] |= settings
    path.write_text(json.dumps(config))


@pytest.mark.parametrize(
    "settings",
    [
        {"file": "EVIL"},
        {"file": "EVIL", "custom_load": True},
        {"url": "file://EVIL"},
        {"hf_hub_id": "owner/evil", "source": "hf-hub", "custom_load": "hf"},
    ],
)
def test_weights_named_in_a_timm_configuration_are_not_read(vit_folder, tmp_path, settings):
    folder = Path(shutil.copytree(vit_folder, tmp_path / "vit"))
    torch.save(tiny.Pickled(f"touch {tmp_path / 'ran'}"), tmp_path / "evil.bin")
    evil = str(tmp_path / "evil.bin")
    named = {
        name: value.replace("EVIL", evil) if isinstance(value, str) else value
        for name, value in settings.items()
    }
    describe(folder, **named)
    load_vision_encoder(str(folder), digest(folder))
    assert not (tmp_path / "ran").exists()


def test_pickled_weights_run_no_code(vit_folder, clip_folder, tmp_path):
    faults = (vit_folder, r"neither \.safetensors nor"), (clip_folder, "transformers can't load it")
    for source, fault in faults:
        folder = Path(shutil.copytree(source, tmp_path / source.name))
        path = folder / "model.safetensors"
        torch.save({"a": tiny.Pickled(f"touch {tmp_path / 'ran'}")}, path)
        with pytest.raises(ValueError, match=fault):
            load_vision_encoder(str(folder), digest(folder))
        path.rename(folder / "pytorch_model.bin")
        with pytest.raises(FileNotFoundError, match=r"model\.safetensors: no such file"):
            load_vision_encoder(str(folder), "0" * 64)
        assert not (tmp_path / "ran").exists()


def test_layers_must_be_named_in_timm(vit_folder, tmp_path):
    folder = Path(shutil.copytree(vit_folder, tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text())
    for layer in ("norm_layer", "act_layer"):
        arguments = {"model_args": config.get("model_args", {}) | {layer: "os.system"}}
        (folder / "config.json").write_text(json.dumps(config | arguments))
        with pytest.raises(ValueError, match="timm can't load it"):
            load_vision_encoder(str(folder), digest(folder))


@pytest.mark.parametrize(
    "odd", [[], {"architecture": 3}, {"pretrained_cfg": "evil"}, {"model_args": "evil"}]
)
def test_odd_configurations_give_a_one_line_error(vit_folder, tmp_path, odd):
    folder = Path(shutil.copytree(vit_folder, tmp_path / "vit"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | odd if odd else odd))
    with pytest.raises(ValueError, match=r"no readable config\.json|timm can't load it") as error:
        load_vision_encoder(str(folder), digest(folder))
    assert "\n" not in str(error.value)
