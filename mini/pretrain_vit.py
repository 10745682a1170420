"""Pre-train the mini ViT to predict what covers each patch of a picture, and where it is.

    python -m mini.pretrain_vit

Reads section `vit` of mini/params.yaml; writes weights/mini/vit (config.json, model.safetensors)
and its card; takes about 15 minutes on one core. It is trained on procedural pictures only: no
text, no sound. Every patch predicts the thing that covers most of it (shape, colour, size, centre),
its own place and a coarse mask; [cls] predicts what is in the picture.

Shapes: B pictures, L = 64 patches row by row, d features.
"""

import math
import os
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import timm
import torch
import typer
import yaml
from timm.models import VisionTransformer, save_for_hf
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from mini.cards import write_card
from mini.labelled import CELLS, CLASSES, GRID, Pictures, draw, renew, sample
from mini.probes import classify

HEADS = CLASSES | {"covered": 1, "centre": 2, "row": GRID, "column": GRID, "mask": CELLS**2}
FAINT, CLEAR = 0.1, 0.25  # least coverage of a patch by its thing: to train, to probe
FILES = ["mini/pretrain_vit.py", "mini/labelled.py", "mini/pictures.py", "mini/probes.py"]


def main(folder: Path = Path("weights/mini/vit"), params: Path = Path("mini/params.yaml")) -> None:
    """Pre-train, save and probe the mini ViT."""
    settings = yaml.safe_load(params.read_text())["vit"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    model = build(settings)
    train(model, settings)
    model.eval()
    save(model, folder)
    write_card(
        "vit",
        title="Mini ViT",
        text="timm's VisionTransformer on pictures of 128 x 128 pixels, 8 x 8 patches and [cls]. "
        "It saw procedural pictures (mini/pictures.py) of two to four things of any kind, half of "
        "them through JPEG, mirrored at random, and was taught by the labels they were drawn "
        "from. It saw no sound and no sentence, and no picture of the data set: its seeds are its "
        "own. Figures: shares of held-out patches (a quarter or more covered by one thing) that a "
        "linear map of the frozen features gets right; `present`: the same of [cls] for each "
        "shape and colour.",
        command="python -m mini.pretrain_vit",
        weights=folder,
        files=FILES,
        settings=settings,
        figures=figures(model, settings["seed"]),
    )


def build(settings: dict[str, Any]) -> VisionTransformer:
    """Return the untrained encoder, with every field that its config.json needs."""
    model = timm.create_model(
        settings["architecture"],
        pretrained_cfg_overlay={"tag": "mini", "license": "mit", "crop_pct": 1.0},
        num_classes=0,
        **settings["model_args"],
    )
    assert isinstance(model, VisionTransformer)
    return model


def save(model: VisionTransformer, folder: Path) -> None:
    """Write config.json and model.safetensors, each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, suffix=".partial") as partial:
        save_for_hf(model, partial, safe_serialization=True)
        for file in Path(partial).iterdir():
            os.replace(file, folder / file.name)


def train(model: VisionTransformer, settings: dict[str, Any]) -> None:
    """Train every patch and [cls] through linear heads that are then discarded."""
    rng = np.random.default_rng(settings["seed"])
    width = settings["model_args"]["embed_dim"]
    heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in HEADS.items()})
    heads["present"] = nn.Linear(width, sum(CLASSES.values()))
    parameters = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(
        parameters, lr=settings["learning_rate"], betas=(0.9, 0.98), weight_decay=0.02
    )
    pool = draw(rng, settings["pool_scenes"])
    steps, oldest = settings["steps"], 0
    bar = trange(steps, desc="pre-training the ViT", unit="step")
    for step in bar:
        if step % 20 == 0:
            oldest = renew(pool, draw(rng, settings["new_scenes"]), oldest)
        rate = settings["learning_rate"] * _schedule(step, steps, settings["warmup_steps"])
        for group in optimiser.param_groups:
            group["lr"] = rate
        terms = losses(model, heads, sample(rng, pool, settings["batch_size"]))
        loss = torch.stack(list(terms.values())).sum()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % 50 == 0:
            bar.set_postfix({name: f"{term.item():.2f}" for name, term in terms.items()})


def losses(model: VisionTransformer, heads: nn.ModuleDict, batch: Pictures) -> dict[str, Tensor]:
    """Return the loss of each head; a patch's thing has weight by how much it covers."""
    features = model.forward_features(normalise(batch.pixels))  # (B, 1 + L, d)
    patches = features[:, 1:]
    cover = torch.from_numpy(batch.cover)
    weight = torch.where(cover >= FAINT, (cover / 0.4).clamp(max=1), 0.0)
    weight = weight / weight.sum()
    kinds, centre = torch.from_numpy(batch.kinds), torch.from_numpy(batch.centre)
    place = torch.arange(GRID**2).expand(len(patches), -1)
    terms = {}
    for index, name in enumerate(CLASSES):
        wrong = F.cross_entropy(heads[name](patches).mT, kinds[..., index], reduction="none")
        terms[name] = (wrong * weight).sum()
    off = (heads["centre"](patches) - 4 * centre).square().sum(dim=-1)
    terms["centre"] = (off * weight).sum()
    terms["row"] = 0.3 * F.cross_entropy(heads["row"](patches).mT, place // GRID)
    terms["column"] = 0.3 * F.cross_entropy(heads["column"](patches).mT, place % GRID)
    for name, scores, truth in (
        ("covered", heads["covered"](patches)[..., 0], cover),
        ("mask", heads["mask"](patches), torch.from_numpy(batch.mask)),
        ("present", heads["present"](features[:, 0]), torch.from_numpy(batch.present)),
    ):
        terms[name] = F.binary_cross_entropy_with_logits(scores, truth)
    return terms


def normalise(pixels: np.ndarray) -> Tensor:
    """Convert (B, side, side, 3) uint8 to (B, 3, side, side) float32, with mean and std 0.5."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def figures(model: VisionTransformer, seed: int, scenes: int = 300) -> dict[str, float]:
    """Fit linear probes to the frozen features and test them, on pictures of other seeds."""
    seen, held_out = (draw(np.random.default_rng((seed, part)), scenes) for part in (1, 2))
    features = [encode(model, pictures.pixels) for pictures in (seen, held_out)]
    patches = [feature[:, 1:].flatten(0, 1) for feature in features]
    clear = [torch.from_numpy(part.cover.reshape(-1) >= CLEAR) for part in (seen, held_out)]
    found = {}
    for index, (name, classes) in enumerate(CLASSES.items()):
        labels = [
            torch.from_numpy(part.kinds[..., index].reshape(-1))[rows]
            for part, rows in zip((seen, held_out), clear, strict=True)
        ]
        guess = classify(patches[0][clear[0]], labels[0], patches[1][clear[1]], classes)
        found[name] = _share(guess == labels[1])
    guess = classify(patches[0], clear[0].long(), patches[1], 2)
    found["covered"] = _share(guess == clear[1].long())
    place = torch.arange(GRID**2).repeat(60)
    for name, line in (("row", place // GRID), ("column", place % GRID)):
        guess = classify(patches[0][: len(place)], line, patches[1][: len(place)], GRID)
        found[name] = _share(guess == line)
    present = [torch.from_numpy(part.present) for part in (seen, held_out)]
    right = [
        classify(features[0][:, 0], present[0][:, c].long(), features[1][:, 0], 2)
        == present[1][:, c].long()
        for c in range(CLASSES["shape"] + CLASSES["colour"])
    ]
    found["present"] = _share(torch.stack(right))
    return found


@torch.no_grad()
def encode(model: VisionTransformer, pixels: np.ndarray) -> Tensor:
    """Return the features of [cls] and the patches, (B, 1 + L, d)."""
    batches = [normalise(pixels[start : start + 64]) for start in range(0, len(pixels), 64)]
    return torch.cat([model.forward_features(batch) for batch in batches])


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate's factor: linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


def _share(right: Tensor) -> float:
    return round(right.float().mean().item(), 4)


if __name__ == "__main__":
    typer.run(main)
