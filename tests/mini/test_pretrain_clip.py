"""The mini CLIP: its captions, its similarities, and that the encoders of Table 2 load it."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from transformers import AutoTokenizer, CLIPModel

from mini import pretrain_clip
from mini.pictures import Kind
from mini.pretrain_clip import TOKENIZER, build, caption, draw, similarities
from sam2love.encoders.text import load_text_encoder
from sam2love.encoders.vision import load_vision_encoder
from sam2love.encoders.weights import digest

SETTINGS = {
    "seed": 1,
    "threads": 1,
    "vision": {
        "patch_size": 16, "hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
        "num_attention_heads": 2,
    },
    "text": {
        "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
    },
    "projection": 8,
    "steps": 30,
    "batch_size": 16,
    "learning_rate": 5.0e-3,
    "pool_pictures": 40,
    "new_pictures": 30,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _threads_as_before() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def model() -> CLIPModel:
    torch.manual_seed(0)
    return build(SETTINGS, AutoTokenizer.from_pretrained(TOKENIZER)).eval()


def test_the_encoders_of_table_2_load_what_was_trained(tmp_path: Path, capsys) -> None:
    params = tmp_path / "params.yaml"
    params.write_text(yaml.safe_dump({"clip": SETTINGS}))
    folder = tmp_path / "mini-clip"
    pretrain_clip.main(folder, params)
    printed = capsys.readouterr().out.split()[-1]
    vision = load_vision_encoder(str(folder), printed)
    text = load_text_encoder(str(folder), printed, max_tokens=25)
    assert (vision.patches, vision.dim, text.dim) == (64, 16, 8)
    _, lengths = text.encode(["the red star", "the large red star"])
    assert lengths.tolist() == [5, 6]
    assert printed == digest(folder)
    again = tmp_path / "again"
    pretrain_clip.main(again, params)
    assert capsys.readouterr().out.split()[-1] == printed


@torch.no_grad()
def test_a_caption_is_encoded_whole_and_apart_from_its_batch(model: CLIPModel) -> None:
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    pixels, _ = draw(np.random.default_rng(0), 2)
    texts = ["a red star", "a red cross", "a red star and a large blue circle on the left"]
    together = similarities(model, tokenizer, pixels, texts)
    alone = torch.cat([similarities(model, tokenizer, pixels, [text]) for text in texts], dim=1)
    assert together.shape == (2, 3)
    torch.testing.assert_close(together, alone)
    assert (together[:, :1] - together[:, 1:]).abs().min() > 1e-4


def test_captions_name_each_thing_once_and_nothing_else() -> None:
    shown = [(Kind("star", "red", "small"), 0.1), (Kind("cross", "blue", "large"), 0.5)]
    said = {caption(np.random.default_rng(seed), shown) for seed in range(200)}
    things = [
        [f"a {size}red star{place}" for size in ("", "small ") for place in ("", " on the left")],
        [
            f"a {size}blue cross{place}"
            for size in ("", "large ")
            for place in ("", " in the middle")
        ],
    ]
    pairs = {(first, second) for first in things[0] for second in things[1]}
    assert said == {f"{a} and {b}" for a, b in pairs} | {f"{b} and {a}" for a, b in pairs}


def test_hidden_things_are_not_shown() -> None:
    pixels, shown = draw(np.random.default_rng(3), 200)
    assert pixels.shape == (200, 128, 128, 3)
    counts = [len(kinds) for kinds in shown]
    assert min(counts) < 2 < max(counts)  # two to four are placed, some leave the view
