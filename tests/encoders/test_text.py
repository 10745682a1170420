"""The sentences' room: fixed length out, true lengths beside, padding without meaning."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoTokenizer

from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.weights import digest

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
    # The tokenizer is of bytes: letters and spaces, and a token before and behind.
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


def test_a_cut_sentence_keeps_its_end_token(roberta_folder):
    short = load_text_encoder(str(roberta_folder), digest(roberta_folder), max_tokens=5)
    tokens, length = short.encode([TEXTS[0]])
    cut, _ = short.encode([TEXTS[0][:3]])
    assert length.tolist() == [5]
    torch.testing.assert_close(tokens, cut)


def test_neighbours_change_nothing(encoder):
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
