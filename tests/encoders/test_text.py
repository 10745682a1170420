"""Text encoders against transformers: fixed length, true token counts, padding without effect."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModel,
    AutoTokenizer,
    BertConfig,
    BertModel,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    MPNetConfig,
    MPNetModel,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaModel,
    T5Config,
)

from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.encoders.weights import digest
from tests import tiny

TEXTS = [
    "The red cat.",
    "A",
    "The object that keeps making sound at all times of the video",
    "猫 🎻",
]


@pytest.fixture(scope="module")
def encoder(roberta_folder) -> TextEncoder:
    return load_text_encoder(str(roberta_folder), digest(roberta_folder), max_tokens=25)


def test_sizes_and_true_lengths(encoder):
    tokens, length = encoder.encode(TEXTS)
    assert encoder.dim == 8
    assert tokens.shape == (4, 25, 8)
    assert tokens.dtype == torch.float32
    # One token per byte, plus one at each end.
    assert length.tolist() == [len(TEXTS[0]) + 2, 3, 25, 3 + 1 + 4 + 2]
    for sentence, count in zip(tokens, length, strict=True):
        assert (sentence[:count].abs().sum(dim=1) > 0).all()
        assert (sentence[count:] == 0).all()


def test_features_are_the_models_own_without_padding(encoder, roberta_folder):
    tokenizer = AutoTokenizer.from_pretrained(roberta_folder)
    model = AutoModel.from_pretrained(roberta_folder).eval()
    tokens, length = encoder.encode(TEXTS[:2])
    for i, text in enumerate(TEXTS[:2]):
        with torch.no_grad():
            expected = model(**tokenizer(text, return_tensors="pt")).last_hidden_state[0]
        torch.testing.assert_close(tokens[i, : length[i]], expected, atol=1e-5, rtol=1e-4)


def test_a_truncated_sentence_keeps_its_end_token(roberta_folder):
    short = load_text_encoder(str(roberta_folder), digest(roberta_folder), max_tokens=5)
    tokens, length = short.encode([TEXTS[0]])
    cut, _ = short.encode([TEXTS[0][:3]])
    assert length.tolist() == [5]
    torch.testing.assert_close(tokens, cut)


def test_features_do_not_depend_on_the_batch(encoder):
    alone, _ = encoder.encode(TEXTS[:1])
    beside, _ = encoder.encode(TEXTS)
    torch.testing.assert_close(alone[0], beside[0], atol=1e-6, rtol=1e-5)


def test_refuses_other_weights(roberta_folder, vit_folder):
    with pytest.raises(ValueError, match="the parameters expect 0000"):
        load_text_encoder(str(roberta_folder), "0" * 64, max_tokens=25)
    with pytest.raises(ValueError, match="transformers can't load it"):
        load_text_encoder(str(vit_folder), digest(vit_folder), max_tokens=25)


def test_refuses_weights_that_would_be_left_random(roberta_folder, tmp_path):
    folder = shutil.copytree(roberta_folder, tmp_path / "roberta")
    state = load_file(folder / "model.safetensors")
    renamed = {name.replace("encoder.layer.0", "encoder.layer.7"): state[name] for name in state}
    save_file(renamed, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"no weights for encoder\.layer\.0"):
        load_text_encoder(str(folder), digest(folder), max_tokens=25)


def test_weights_of_another_shape_are_named(roberta_folder, tmp_path):
    folder = shutil.copytree(roberta_folder, tmp_path / "roberta")
    state = load_file(folder / "model.safetensors")
    state["embeddings.position_embeddings.weight"] = torch.zeros(32, 8)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    shapes = r"embeddings\.position_embeddings\.weight \(32, 8\) for \(64, 8\)"
    with pytest.raises(
        ValueError, match=rf"model\.safetensors: .*of another shape: {shapes}"
    ) as error:
        load_text_encoder(str(folder), digest(folder), max_tokens=25)
    assert "\n" not in str(error.value)


def test_loads_what_was_saved_with_its_language_head(encoder, roberta_folder, tmp_path):
    """As DistilRoBERTa is published: names begin with `roberta.`, with a head and no pooler."""
    folder = shutil.copytree(roberta_folder, tmp_path / "roberta")
    model = RobertaForMaskedLM(AutoModel.from_pretrained(roberta_folder).config)
    model.roberta.load_state_dict(load_file(roberta_folder / "model.safetensors"))
    model.save_pretrained(folder)
    names = set(load_file(folder / "model.safetensors"))
    assert "roberta.encoder.layer.0.output.dense.weight" in names
    assert not any("pooler" in name for name in names)
    found = load_text_encoder(str(folder), digest(folder), max_tokens=25).encode(TEXTS)
    torch.testing.assert_close(found, encoder.encode(TEXTS), atol=0, rtol=0)


def distilroberta() -> RobertaConfig:
    """distilbert/distilroberta-base."""
    return RobertaConfig(
        vocab_size=50265,
        num_hidden_layers=6,
        max_position_embeddings=514,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
    )


def test_names_and_shapes_are_the_published_ones():
    """Those of distilbert/distilroberta-base without the prefix `roberta.`."""
    linear = {
        "attention.self.query": (768, 768),
        "attention.self.key": (768, 768),
        "attention.self.value": (768, 768),
        "attention.output.dense": (768, 768),
        "intermediate.dense": (3072, 768),
        "output.dense": (768, 3072),
    }
    norms = ("attention.output.LayerNorm", "output.LayerNorm")
    both = {"embeddings.LayerNorm": (768,)}
    for i in range(6):
        both |= {f"encoder.layer.{i}.{name}": shape for name, shape in linear.items()}
        both |= {f"encoder.layer.{i}.{name}": (768,) for name in norms}
    expected = {
        "embeddings.word_embeddings.weight": (50265, 768),
        "embeddings.position_embeddings.weight": (514, 768),
        "embeddings.token_type_embeddings.weight": (1, 768),
    }
    expected |= {f"{name}.weight": shape for name, shape in both.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in both.items()}
    with torch.device("meta"):
        state = RobertaModel(distilroberta(), add_pooling_layer=False).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


@pytest.mark.slow
def test_full_size(roberta_folder, tmp_path):
    folder = shutil.copytree(roberta_folder, tmp_path / "roberta")
    RobertaForMaskedLM(distilroberta()).save_pretrained(folder)
    tokens, _ = load_text_encoder(str(folder), digest(folder), max_tokens=25).encode(TEXTS)
    assert tokens.shape == (4, 25, 768)


# ---- sentence encoders --------------------------------------------------------------------------


@pytest.mark.parametrize(("model", "config"), [(BertModel, BertConfig), (MPNetModel, MPNetConfig)])
def test_the_encoder_of_a_sentence_transformer(tmp_path, model, config):
    """Token by token: its pooling is not used."""
    folder = tiny.make_sentence_encoder(tmp_path, model, config)
    built = model.from_pretrained(folder).eval()
    tokens, length = load_text_encoder(str(folder), digest(folder), max_tokens=25).encode(TEXTS)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert tokens.shape == (4, 25, 8)
    for i, text in enumerate(TEXTS):
        alone = tokenizer(text, return_tensors="pt", truncation=True, max_length=25)
        alone.pop("token_type_ids", None)
        with torch.no_grad():
            expected = built(**alone).last_hidden_state[0]
        torch.testing.assert_close(tokens[i, : length[i]], expected, atol=1e-5, rtol=1e-4)


def test_an_encoder_decoder_is_refused(roberta_folder, tmp_path):
    folder = Path(shutil.copytree(roberta_folder, tmp_path / "t5"))
    T5Config().save_pretrained(folder)
    with pytest.raises(
        ValueError, match=r"config\.json: t5 is an encoder-decoder; expected a text"
    ):
        load_text_encoder(str(folder), digest(folder), max_tokens=25)


# ---- CLIP ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def clip(clip_folder) -> TextEncoder:
    return load_text_encoder(str(clip_folder), digest(clip_folder), max_tokens=25)


def test_clip_is_transformers_own_with_true_lengths(clip, clip_folder):
    tokenizer = AutoTokenizer.from_pretrained(clip_folder)
    model = CLIPModel.from_pretrained(clip_folder).eval().text_model
    tokens, length = clip.encode(TEXTS)
    assert (clip.dim, tokens.shape) == (8, (4, 25, 8))
    # Letters without spaces, plus a token at each end; 🎻 and 猫 have 4 and 3 bytes.
    assert length.tolist() == [len("Theredcat.") + 2, 3, 25, 3 + 4 + 2]
    for i, text in enumerate(TEXTS):
        alone = tokenizer(text, return_tensors="pt", truncation=True, max_length=25)
        with torch.no_grad():
            expected = model(**alone).last_hidden_state[0]
        torch.testing.assert_close(tokens[i, : length[i]], expected, atol=1e-5, rtol=1e-4)
        assert (tokens[i, length[i] :] == 0).all()


def test_the_text_half_of_clip_is_enough(clip, clip_folder, tmp_path):
    AutoTokenizer.from_pretrained(clip_folder).save_pretrained(tmp_path)
    CLIPTextModel.from_pretrained(clip_folder).save_pretrained(tmp_path)
    half = load_text_encoder(str(tmp_path), digest(tmp_path), max_tokens=25)
    torch.testing.assert_close(half.encode(TEXTS), clip.encode(TEXTS), atol=0, rtol=0)


def test_more_tokens_than_the_model_takes(clip_folder):
    with pytest.raises(ValueError, match=r"text\.max_tokens is 78, but .* takes at most 77"):
        load_text_encoder(str(clip_folder), digest(clip_folder), max_tokens=78)


def test_clips_names_and_shapes_are_the_published_ones():
    """The text half of openai/clip-vit-large-patch14, whose names begin with `text_model.`."""
    layer = {
        "self_attn.k_proj": (768, 768),
        "self_attn.v_proj": (768, 768),
        "self_attn.q_proj": (768, 768),
        "self_attn.out_proj": (768, 768),
        "layer_norm1": (768,),
        "mlp.fc1": (3072, 768),
        "mlp.fc2": (768, 3072),
        "layer_norm2": (768,),
    }
    both = {"final_layer_norm": (768,)}
    both |= {f"encoder.layers.{i}.{name}": layer[name] for i in range(12) for name in layer}
    expected = {
        "embeddings.token_embedding.weight": (49408, 768),
        "embeddings.position_embedding.weight": (77, 768),
    }
    expected |= {f"{name}.weight": shape for name, shape in both.items()}
    expected |= {f"{name}.bias": shape[:1] for name, shape in both.items()}
    config = CLIPTextConfig(hidden_size=768, intermediate_size=3072, num_attention_heads=12)
    with torch.device("meta"):
        state = CLIPTextModel(config).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


# ---- untrusted folders --------------------------------------------------------------------------


def add(path: Path, **settings: object) -> None:
    """Add settings to a JSON file."""
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | settings))


def code(folder: Path) -> None:
    (folder / "evil.py").write_text(f"open({str(folder / 'ran')!r}, 'w')\nclass Evil: pass\n")


def remote_model(folder: Path) -> None:
    remote = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    add(folder / "config.json", auto_map=remote, model_type="unheard-of")


def remote_beside_a_known_model(folder: Path) -> None:
    remote = {"AutoConfig": "evil.Evil", "AutoModel": "evil.Evil"}
    add(folder / "config.json", auto_map=remote)


def remote_repository(folder: Path) -> None:
    remote = {"AutoConfig": "owner/evil--evil.Evil"}
    add(folder / "config.json", auto_map=remote, model_type="unheard-of")


def remote_tokenizer(folder: Path) -> None:
    remote = {"AutoTokenizer": ["evil.Evil", "evil.Evil"]}
    add(folder / "tokenizer_config.json", auto_map=remote, tokenizer_class="EvilTokenizer")


def tokenizer_class(folder: Path) -> None:
    add(folder / "tokenizer_config.json", tokenizer_class="evil.Evil")


def kernel(folder: Path) -> None:
    add(folder / "config.json", attn_implementation="owner/evil")


def kernels_by_part(folder: Path) -> None:
    add(folder / "config.json", text_config={"_attn_implementation": {"": "owner/evil"}})


def quantized(folder: Path) -> None:
    add(folder / "config.json", quantization_config={"quant_method": "bitsandbytes"})


def pickled(folder: Path) -> None:
    path = folder / "model.safetensors"
    torch.save({"weights": tiny.Pickled(f"touch {folder / 'ran'}")}, path)


def other_weights(folder: Path) -> None:
    shutil.copy(folder / "model.safetensors", folder / "other.safetensors")
    add(folder / "config.json", transformers_weights="other.safetensors")


@pytest.mark.parametrize(
    ("way", "refused"),
    [
        (remote_model, "transformers can't load it .* custom code"),
        (remote_beside_a_known_model, None),
        (remote_repository, "transformers can't load it"),
        (remote_tokenizer, None),
        (tokenizer_class, None),
        (kernel, "attn_implementation is 'owner/evil', which may run code"),
        (kernels_by_part, "_attn_implementation is .*, which may run code"),
        (quantized, "quantization_config is .*, which may run code"),
        (pickled, "transformers can't load it"),
        (other_weights, "transformers_weights is 'other.safetensors'; remove it"),
    ],
)
def test_a_folder_runs_no_code(roberta_folder, tmp_path, monkeypatch, way, refused):
    """Named code is refused, or ignored where transformers has the class itself."""
    folder = Path(shutil.copytree(roberta_folder, tmp_path / "roberta"))
    code(folder)
    way(folder)
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("a question was asked"))
    with pytest.raises(ValueError, match=refused) if refused else nullcontext() as error:
        load_text_encoder(str(folder), digest(folder), max_tokens=5)
    assert not (folder / "ran").exists()
    assert not refused or str(error.value).startswith(str(folder))


@pytest.mark.parametrize(
    "odd",
    [
        {"quantization_config": "evil"},
        {"dtype": "evil"},
        {"sub_configs": "evil"},
        {"hidden_size": 0},
        {"num_hidden_layers": "x"},
        {"model_type": 3},
    ],
)
def test_odd_configurations_give_a_one_line_error(roberta_folder, tmp_path, odd):
    folder = Path(shutil.copytree(roberta_folder, tmp_path / "roberta"))
    add(folder / "config.json", **odd)
    with pytest.raises(ValueError, match="transformers can't load it") as error:
        load_text_encoder(str(folder), digest(folder), max_tokens=5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("folder", ["roberta_folder", "clip_folder"])
@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("", None),
        ("the cat", None),
        ("a" * 23, None),  # and a special token at each end
        ("a" * 24, "a" * 23),
        ("The" + "e" * 40, "The" + "e" * 20),
        ("e" * 22 + "ü and more", "e" * 22 + "ü"),
    ],
)
def test_the_part_of_a_long_sentence_that_is_read(folder, text, read, request):
    folder = request.getfixturevalue(folder)
    encoder = load_text_encoder(str(folder), digest(folder), max_tokens=25)
    cut = encoder.truncation(text)
    if read is None:
        assert cut is None
        return
    assert cut is not None
    assert cut[0] > 25
    assert cut[1] == read
    assert torch.equal(encoder.encode([text])[0], encoder.encode([text + " and even more"])[0])
