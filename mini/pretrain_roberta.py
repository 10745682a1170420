"""Train the mini RoBERTa's tokenizer, and pre-train the model by predicting masked tokens.

    python -m mini.pretrain_roberta

Reads section `roberta` of mini/params.yaml; writes weights/mini/roberta (model and tokenizer in
transformers' format) and its card; takes about two minutes on one core. It is trained on text only:
sentences of the mini language and looser ones with the same words, never with a scene.

Shapes: B sentences, P tokens, d features.
"""

import hashlib
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
import typer
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange
from transformers import PreTrainedTokenizerFast, RobertaConfig, RobertaForMaskedLM, RobertaModel

from mini.cards import write_card
from mini.expressions import sample_sentence, sentences
from mini.loose import FUNCTION_WORDS, loose_sentence
from mini.pictures import COLOURS, SHAPES
from mini.probes import area_under_curve, probe

FILES = ["mini/pretrain_roberta.py", "mini/loose.py", "mini/pictures.py", "mini/probes.py"]
SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")  # in the order of RoBERTa's ids
MAX_TOKENS = 25


def main(
    folder: Path = Path("weights/mini/roberta"), params: Path = Path("mini/params.yaml")
) -> None:
    """Train, save and probe the tokenizer and the model."""
    settings = yaml.safe_load(params.read_text())["roberta"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    rng = np.random.default_rng(settings["seed"])
    tokenizer = build_tokenizer(rng, settings["vocabulary"])
    model = build(settings, len(tokenizer))
    train(model, tokenizer, rng, settings)
    save(model.eval(), tokenizer, folder)
    write_card(
        "roberta",
        title="Mini RoBERTa",
        text="transformers' RobertaModel of two layers, with a byte-level tokenizer of its own, so "
        "that no text is unknown to it. Pre-trained by masked words on the sentences of the mini "
        "language and on loose ones made of its words. It saw no picture and no sound, and not "
        "which scene a sentence is true of. Figures, on sentences of another seed: `masked`: "
        "masked tokens guessed right (many can't be known); `kept`: words that are read off "
        "their own last state; `named_auc`: whether a loose sentence names a shape or colour, "
        "told by a linear map of its mean state; `longest`: tokens of the longest sentence of the "
        "mini language.",
        command="python -m mini.pretrain_roberta",
        weights=folder,
        files=FILES,
        material=language_digest(),
        settings=settings,
        figures=figures(model, tokenizer, settings["seed"]),
    )


def language_digest() -> str:
    """Return the SHA-256 of all sentences of the mini language."""
    return hashlib.sha256("\n".join(sentences()).encode()).hexdigest()


def build_tokenizer(rng: np.random.Generator, vocabulary: int) -> PreTrainedTokenizerFast:
    """Train a byte-level BPE that keeps the language's words whole and splits any other text."""
    texts = [*sentences(), *(loose_sentence(rng) for _ in range(5000))]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *[FUNCTION_WORDS] * 3], trainer)
    start, pad, end, unknown, mask = SPECIAL
    tokenizer.post_processor = processors.RobertaProcessing(
        (end, SPECIAL.index(end)), (start, SPECIAL.index(start))
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=start, cls_token=start, pad_token=pad, eos_token=end,
        sep_token=end, unk_token=unknown, mask_token=mask, model_max_length=MAX_TOKENS,
    )  # fmt: skip


def build(settings: dict[str, Any], vocabulary: int) -> RobertaForMaskedLM:
    config = RobertaConfig(
        vocab_size=vocabulary,
        max_position_embeddings=64,
        type_vocab_size=1,
        **settings["model_args"],
    )
    model = RobertaForMaskedLM(config)
    # The encoder is later loaded with a pooler, so the file must hold the pooler's weights too.
    model.roberta = RobertaModel(config, add_pooling_layer=True)
    model.tie_weights()
    return model


def train(
    model: RobertaForMaskedLM,
    tokenizer: PreTrainedTokenizerFast,
    rng: np.random.Generator,
    settings: dict[str, Any],
) -> None:
    """Predict masked tokens, and some visible ones, so that words of similar use stay distinct."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=settings["learning_rate"], weight_decay=0.01
    )
    steps = settings["steps"]
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings["learning_rate"], total_steps=steps
    )
    bar = trange(steps, desc="pre-training RoBERTa", unit="step")
    for step in bar:
        ids, mask = _tokens(tokenizer, [_sentence(rng) for _ in range(settings["batch_size"])])
        hidden, asked = _hide(ids, mask, tokenizer)
        logits = model(input_ids=hidden, attention_mask=mask).logits
        loss = F.cross_entropy(logits[asked], ids[asked])
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.2f}")


def save(model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, folder: Path) -> None:
    """Write the encoder and the tokenizer, each file atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, suffix=".partial") as partial:
        model.roberta.save_pretrained(partial)
        tokenizer.save_pretrained(partial)
        for file in Path(partial).iterdir():
            os.replace(file, folder / file.name)


@torch.no_grad()
def figures(
    model: RobertaForMaskedLM, tokenizer: PreTrainedTokenizerFast, seed: int
) -> dict[str, float]:
    """Measure how well tokens, masked or not, and a sentence's names are predicted."""
    rng = np.random.default_rng((seed, 1))
    torch.manual_seed(seed)
    ids, mask = _tokens(tokenizer, [_sentence(rng) for _ in range(1000)])
    hidden, asked = _hide(ids, mask, tokenizer, kept=0.0)
    guess = model(input_ids=hidden, attention_mask=mask).logits.argmax(dim=-1)
    read = model(input_ids=ids, attention_mask=mask).logits.argmax(dim=-1)
    texts = [loose_sentence(rng) for _ in range(2000)]
    states, _ = encode_means(model.roberta, tokenizer, texts)
    named = torch.tensor([[word in text for word in (*SHAPES, *COLOURS)] for text in texts])
    told = probe(states[::2], named[::2].float(), states[1::2])
    curves = [area_under_curve(told[:, c], named[1::2, c]) for c in range(named.shape[1])]
    _, longest = encode_means(model.roberta, tokenizer, sentences())
    return {
        "masked": _share(guess[asked] == ids[asked]),
        "kept": _share((read == ids)[ids >= len(SPECIAL)]),
        "named_auc": round(float(np.mean(curves)), 4),
        "longest": longest,
    }


@torch.no_grad()
def encode_means(
    model: RobertaModel, tokenizer: PreTrainedTokenizerFast, texts: list[str]
) -> tuple[Tensor, int]:
    """Return mean last states (B, d), and the length of the longest text in tokens."""
    ids, mask = _tokens(tokenizer, texts)
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, P, d)
    weight = mask[..., None].float()
    return (states * weight).sum(dim=1) / weight.sum(dim=1), int(mask.sum(dim=1).max())


def _sentence(rng: np.random.Generator) -> str:
    """Draw a sentence of the language or a loose one, with or without capital and full stop."""
    text = sample_sentence(rng) if rng.uniform() < 0.5 else loose_sentence(rng)
    text = text.rstrip(".")
    plain = rng.uniform() < 0.5
    return text[0].lower() + text[1:] if plain else f"{text[0].upper()}{text[1:]}."


def _tokens(tokenizer: PreTrainedTokenizerFast, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Return token ids and attention mask, both (B, P) int64."""
    coded = tokenizer(texts, padding=True, truncation=True, return_tensors="pt")
    return coded["input_ids"], coded["attention_mask"]


def _hide(
    ids: Tensor, mask: Tensor, tokenizer: PreTrainedTokenizerFast, *, kept: float = 0.1
) -> tuple[Tensor, Tensor]:
    """Mask 15 % of the tokens; select those, and a fraction `kept` unmasked, for the loss."""
    word = mask.bool() & (ids >= len(SPECIAL))
    chance = torch.rand(ids.shape)
    hidden = word & (chance < 0.15)
    return ids.masked_fill(hidden, tokenizer.mask_token_id), word & (chance < 0.15 + kept)


def _share(right: Tensor) -> float:
    return round(right.float().mean().item(), 4)


if __name__ == "__main__":
    typer.run(main)
