"""Pre-train a mini CLIP for its row of Table 2, by matching pictures with their captions.

    python -m mini.pretrain_clip

Reads section `clip` of mini/params.yaml and the mini RoBERTa's tokenizer. Writes
weights/hub/mini-clip in transformers' format and prints its accuracy and digest; takes about half
an hour on one core. It is trained on procedural pictures and their captions, without sound. The
default run does not use it, so its weights are not committed.

Shapes: B pictures and as many captions, P tokens, d features.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
import yaml
from torch import Tensor
from torch.nn import functional as F
from tqdm import trange
from transformers import (
    AutoTokenizer,
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    PreTrainedTokenizerBase,
)

from mini.pictures import AREAS, COLOURS, SHAPES, Kind, render, sample_scene
from sam2love.encoders.weights import digest

TOKENIZER = Path("weights/mini/roberta")
SIDE = 128  # pixels
MAX_TOKENS = 64
NORM = [0.5, 0.5, 0.5]

Shown = list[tuple[Kind, float]]
"""The kinds visible in a picture, each with the x of its centre in fractions of the side."""


def main(
    folder: Path = Path("weights/hub/mini-clip"), params: Path = Path("mini/params.yaml")
) -> None:
    """Pre-train and save the mini CLIP, and print how often it picks the right caption."""
    settings = yaml.safe_load(params.read_text())["clip"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    rng = np.random.default_rng(settings["seed"])
    tokenizer = AutoTokenizer.from_pretrained(TOKENIZER)
    tokenizer.model_max_length = MAX_TOKENS
    model = build(settings, tokenizer)
    train(model, tokenizer, rng, settings)
    model.eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(image_mean=NORM, image_std=NORM).save_pretrained(folder)
    held_out = draw(np.random.default_rng((settings["seed"], 1)), 100)
    right = accuracy(model, tokenizer, *held_out)
    print(f"{folder}: {right:.0%} of 100 captions matched, digest {digest(folder)}")


def build(settings: dict[str, Any], tokenizer: PreTrainedTokenizerBase) -> CLIPModel:
    """Return the untrained model."""
    text = settings["text"] | {
        "vocab_size": len(tokenizer),
        "max_position_embeddings": MAX_TOKENS,
        "bos_token_id": tokenizer.bos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    vision = settings["vision"] | {"image_size": SIDE}
    return CLIPModel(
        CLIPConfig(text_config=text, vision_config=vision, projection_dim=settings["projection"])
    )


def train(
    model: CLIPModel,
    tokenizer: PreTrainedTokenizerBase,
    rng: np.random.Generator,
    settings: dict[str, Any],
) -> None:
    """Train to match each picture with its caption within the batch, and the reverse."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, max_lr=settings["learning_rate"], total_steps=settings["steps"]
    )
    pixels, shown = draw(rng, settings["pool_pictures"])
    oldest = 0
    bar = trange(settings["steps"], desc="pre-training CLIP", unit="step")
    for step in bar:
        if step % 20 == 0:
            fresh, seen = draw(rng, settings["new_pictures"])
            for picture, kinds in zip(fresh, seen, strict=True):
                pixels[oldest], shown[oldest] = picture, kinds
                oldest = (oldest + 1) % len(shown)
        rows = rng.choice(len(shown), settings["batch_size"], replace=False)
        texts = [caption(rng, shown[row]) for row in rows]
        logits = similarities(model, tokenizer, pixels[rows], texts)
        truth = torch.arange(len(rows))
        loss = (F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)) / 2
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.2f}")


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, list[Shown]]:
    """Return pictures (count, side, side, 3) uint8 of two to four things, and what each shows."""
    pixels, shown = [], []
    for _ in range(count):
        kinds = [
            Kind(*(str(rng.choice(tuple(names))) for names in (SHAPES, COLOURS, AREAS)))
            for _ in range(rng.integers(2, 5))
        ]
        scene = sample_scene(rng, kinds, side=SIDE)
        frame = int(rng.integers(10))
        picture, masks = render(scene, frame)
        pixels.append(picture)
        seen = masks.mean(axis=(1, 2)) > 0.01
        shown.append(
            [(t.kind, t.path[frame][0]) for t, s in zip(scene.things, seen, strict=True) if s]
        )
    return np.stack(pixels), shown


def caption(rng: np.random.Generator, shown: Shown) -> str:
    """Name what a picture shows in random order, each thing with or without size and place."""
    said = []
    for index in rng.permutation(len(shown)):
        kind, x = shown[index]
        size = f"{kind.size} " if rng.uniform() < 0.5 else ""
        side = "left" if x < 1 / 3 else "right" if x > 2 / 3 else "middle"
        place = f" {'in' if side == 'middle' else 'on'} the {side}" if rng.uniform() < 0.5 else ""
        said.append(f"a {size}{kind.colour} {kind.shape}{place}")
    return " and ".join(said)


def similarities(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, pixels: np.ndarray, texts: list[str]
) -> Tensor:
    """Return the scaled cosine similarities of pictures with captions, (B, B)."""
    images = (torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 255 - NORM[0]) / NORM[0]
    seen = model.visual_projection(model.vision_model(pixel_values=images).pooler_output)
    coded = tokenizer(texts, padding=True, return_tensors="pt")
    ids, mask = coded["input_ids"], coded["attention_mask"]
    states = model.text_model(input_ids=ids, attention_mask=mask).last_hidden_state  # (B, P, d)
    # Not `pooler_output`: with </s> as token 2, transformers pools at the largest token id.
    said = model.text_projection(states[torch.arange(len(texts)), mask.sum(dim=1) - 1])
    return model.logit_scale.exp() * F.normalize(seen, dim=-1) @ F.normalize(said, dim=-1).T


@torch.no_grad()
def accuracy(
    model: CLIPModel, tokenizer: PreTrainedTokenizerBase, pixels: np.ndarray, shown: list[Shown]
) -> float:
    """Return the fraction of pictures whose own caption is the most similar one."""
    rng = np.random.default_rng(0)
    logits = similarities(model, tokenizer, pixels, [caption(rng, kinds) for kinds in shown])
    return (logits.argmax(dim=1) == torch.arange(len(shown))).float().mean().item()


if __name__ == "__main__":
    typer.run(main)
