"""The mini RoBERTa: its tokenizer, a few steps of training, its states."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoModel, AutoTokenizer

from mini import pretrain_roberta
from mini.cards import CARDS, read_card
from mini.expressions import sentences
from mini.loose import loose_sentence
from mini.pretrain_roberta import MAX_TOKENS, SPECIAL, language_digest
from sam2love.encoders.text import TextEncoder, load_text_encoder
from sam2love.encoders.weights import digest

WEIGHTS = "weights/mini/roberta"


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return load_text_encoder(WEIGHTS, digest(WEIGHTS), max_tokens=MAX_TOKENS)


def test_it_was_trained_on_the_current_language() -> None:
    card = read_card(CARDS / "roberta.md")
    assert card["material_digest"] == language_digest(), f"run `{card['command']}` again"


def test_weights_match_the_model_exactly() -> None:
    _, report = AutoModel.from_pretrained(WEIGHTS, output_loading_info=True)
    assert not any(report[part] for part in ("missing_keys", "unexpected_keys", "mismatched_keys"))


def test_every_sentence_fits_and_every_word_is_one_token() -> None:
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    for sentence in sentences():
        tokens = tokenizer.tokenize(sentence)
        assert len(tokens) + 2 <= MAX_TOKENS, sentence
        assert sum(token.startswith("Ġ") for token in tokens) == len(sentence.split()), sentence
        assert all(token.startswith("Ġ") or token in ".,'" for token in tokens), sentence


@pytest.mark.parametrize("text", ["an ocelot", "🎻 plays", "汉字", "", "<b>&amp;</b>"])
def test_any_text_can_be_encoded(text: str, encoder: TextEncoder) -> None:
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    ids = tokenizer(text)["input_ids"]
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True).strip() == text
    states, length = encoder.encode([text])
    assert states.shape == (1, MAX_TOKENS, encoder.dim)
    assert 2 <= int(length[0]) <= MAX_TOKENS
    assert torch.isfinite(states).all()


def test_words_of_similar_use_stay_distinct(encoder: TextEncoder) -> None:
    pairs = [("left", "right"), ("loudest", "longest"), ("first", "last"), ("sounding", "silent")]
    for one, other in pairs:
        states, length = encoder.encode([f"the {one} object", f"the {other} object"])
        assert length.tolist() == [5, 5]
        cosine = torch.cosine_similarity(states[0, 2], states[1, 2], dim=0)
        assert cosine < 0.9, f"{one} and {other}"


def test_loose_sentences_fit_too() -> None:
    tokenizer = AutoTokenizer.from_pretrained(WEIGHTS)
    rng = np.random.default_rng(3)
    lengths = [len(tokenizer(loose_sentence(rng))["input_ids"]) for _ in range(200)]
    assert max(lengths) <= MAX_TOKENS


def test_training_is_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = tmp_path / "params.yaml"
    settings = yaml.safe_load(Path("mini/params.yaml").read_text())["roberta"]
    small = {"steps": 4, "batch_size": 4}
    params.write_text(yaml.safe_dump({"roberta": settings | small}))
    cards: list[dict] = []
    monkeypatch.setattr(pretrain_roberta, "write_card", lambda name, **facts: cards.append(facts))
    monkeypatch.setattr(pretrain_roberta, "figures", lambda model, tokenizer, seed: {})
    for name in ("one", "two"):
        pretrain_roberta.main(tmp_path / name, params)
    one, two = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
        for name in ("one", "two")
    )
    assert one == two
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "one")
    assert tokenizer.convert_ids_to_tokens(range(len(SPECIAL))) == list(SPECIAL)
