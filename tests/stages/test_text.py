"""The stage on the tiny data set: its store against the encoder called directly."""

import numpy as np
import pytest

from sam2love.encoders.text import load_text_encoder
from sam2love.encoders.weights import digest
from sam2love.params import load_params
from sam2love.stores.store import FeatureStore
from stages import text
from tests import tiny


def test_each_text_is_encoded_once(run_folder, capsys):
    text.main(run_folder / "index", run_folder / "features/text.zarr")
    used = dict.fromkeys(row[4] for row in tiny.ROWS if row[0] != "TODO")
    assert f"{len(used)} texts, 8 features" in capsys.readouterr().out
    params = load_params()
    store = FeatureStore.open(run_folder / "features/text.zarr", {"weights": params.text.digest})
    assert store.ids == list(used)

    encoder = load_text_encoder(params.text.weights, params.text.digest, max_tokens=25)
    for sentence in store.ids:
        tokens, length = encoder.encode([sentence])
        assert store.read("length", sentence) == length[0]
        found = store.read("tokens", sentence)
        np.testing.assert_allclose(found, tokens[0].numpy(), atol=2e-3)
        assert not found[int(length[0]) :].any()


def test_clip_instead_of_roberta(run_folder, clip_folder):
    clip = {"text.weights": str(clip_folder), "text.digest": digest(clip_folder)}
    tiny.change_params(run_folder / "params.yaml", clip)
    text.main(run_folder / "index", run_folder / "features/text.zarr")
    store = FeatureStore.open(run_folder / "features/text.zarr")
    encoder = load_text_encoder(str(clip_folder), digest(clip_folder), max_tokens=25)
    tokens, length = encoder.encode(["The red object."])
    assert store.read("length", "The red object.") == length[0] == len("Theredobject.") + 2
    np.testing.assert_allclose(store.read("tokens", "The red object."), tokens[0], atol=2e-3)


@pytest.mark.parametrize("max_tokens", [6, 60])
def test_truncated_sentences_are_counted(run_folder, capsys, max_tokens):
    """The tiny tokenizer has a token for each letter."""
    tiny.change_params(run_folder / "params.yaml", {"text.max_tokens": max_tokens})
    text.main(run_folder / "index", run_folder / "features/text.zarr")
    params = load_params()
    encoder = load_text_encoder(params.text.weights, params.text.digest, max_tokens=max_tokens)
    used = dict.fromkeys(row[4] for row in tiny.ROWS if row[0] != "TODO")
    cut = sum(encoder.truncation(text) is not None for text in used)
    printed = capsys.readouterr().out
    assert (cut > 0) == (max_tokens == 6)
    assert (f"note: {cut} texts exceed text.max_tokens (6) and are" in printed) == (cut > 0)
