"""Pre-train the mini VGGish to predict which kinds sound in a second, and how loud each is.

    python -m mini.pretrain_vggish

Reads section `vggish` of mini/params.yaml; writes weights/mini/vggish.safetensors and its card;
takes about ten minutes on one core. It is trained on procedural mixtures only: no picture, no text.

Shapes: W windows of one second, d features.
"""

import math
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
import yaml
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import trange

from mini.cards import write_card
from mini.mixtures import GRID, KINDS, Seconds, draw, grouped_levels, levels, renew
from mini.probes import area_under_curve, probe
from sam2love.encoders.audio import VGGish

FILES = [
    "mini/pretrain_vggish.py",
    "mini/mixtures.py",
    "mini/sounds.py",
    "mini/probes.py",
]
GROUPS = {
    "shape": GRID[0],
    "colour": GRID[1],
    "size": GRID[2],
    "shape and colour": GRID[0] * GRID[1],
    "kind": len(KINDS),
}
CLEAR_DB = 6.0  # least margin of a loudest sound in the mini data set


def main(
    weights: Path = Path("weights/mini/vggish.safetensors"),
    params: Path = Path("mini/params.yaml"),
) -> None:
    """Pre-train, save and probe the mini VGGish."""
    settings = yaml.safe_load(params.read_text())["vggish"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    model = build(settings)
    train(model, settings)
    save(model.eval(), weights)
    write_card(
        "vggish",
        title="Mini VGGish",
        text="VGGish's layers and front end (log mel, 96 x 64) with few channels. It heard "
        "procedural mixtures (mini/mixtures.py): seconds of clips in which up to four kinds sound "
        "at -30 to -8 dB over a low noise, and was taught which shapes' spectra, colours' "
        "modulations and sizes' pitches sound, and how loud. It saw no picture and no sentence, "
        "and heard no clip of the data set: its seeds are its own. Figures, by linear maps of the "
        "frozen vectors, on held-out clips: `..._auc`: presence; `loudest`: the louder of the two "
        "loudest kinds, 6 dB or more apart; `sounding`: the one kind of three that sounds.",
        command="python -m mini.pretrain_vggish",
        weights=weights,
        files=FILES,
        settings=settings,
        figures=figures(model, settings["seed"]),
    )


def build(settings: dict[str, Any]) -> VGGish:
    model = VGGish(tuple(settings["channels"]), tuple(settings["embeddings"]))
    for layer in model.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)) and layer.bias is not None:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return model.to(memory_format=torch.channels_last)


def train(model: VGGish, settings: dict[str, Any]) -> None:
    """Train the vectors, through linear heads that are then discarded, on who sounds how loud."""
    rng = np.random.default_rng(settings["seed"])
    width = settings["embeddings"][-1]
    heads = nn.ModuleDict({name: nn.Linear(width, 2 * size) for name, size in GROUPS.items()})
    heads["loudest"] = nn.Linear(width, sum(GRID))
    parameters = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=settings["learning_rate"], weight_decay=0.01)
    pool = draw(rng, settings["pool_clips"])
    steps, oldest = settings["steps"], 0
    bar = trange(steps, desc="pre-training VGGish", unit="step")
    for step in bar:
        if step % 20 == 0:
            oldest = renew(pool, draw(rng, settings["new_clips"]), oldest)
        rate = settings["learning_rate"] * _schedule(step, steps, settings["warmup_steps"])
        for group in optimiser.param_groups:
            group["lr"] = rate
        rows = rng.integers(len(pool.mel), size=settings["batch_size"])
        terms = losses(model, heads, Seconds(pool.mel[rows], pool.energy[rows]))
        optimiser.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimiser.step()
        if step % 50 == 0:
            bar.set_postfix({name: f"{term.item():.3f}" for name, term in terms.items()})


def losses(model: VGGish, heads: nn.ModuleDict, batch: Seconds) -> dict[str, Tensor]:
    """Return the loss of each group, for presence and level, and that of the loudest kind."""
    vectors = model(torch.from_numpy(batch.mel))  # (W, d)
    terms = {}
    for name, truth in grouped_levels(batch.energy).items():
        level = torch.from_numpy(truth)
        present, loudness = heads[name](vectors).chunk(2, dim=1)
        wrong = F.binary_cross_entropy_with_logits(present, (level > 0).float())
        terms[name] = wrong + 10 * F.mse_loss(loudness, level)
    heard = torch.from_numpy(batch.energy.max(axis=1) > 0)
    members = np.unravel_index(batch.energy.argmax(axis=1), GRID)
    scores = heads["loudest"](vectors).split(GRID, dim=1)
    terms["loudest"] = 0.2 * torch.stack([
        F.cross_entropy(score[heard], torch.from_numpy(member)[heard])
        for score, member in zip(scores, members, strict=True)
    ]).sum()  # fmt: skip
    return terms


def save(model: VGGish, weights: Path) -> None:
    partial = weights.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in model.state_dict().items()}, partial)
    os.replace(partial, weights)


def figures(model: VGGish, seed: int, clips: int = 400) -> dict[str, float]:
    """Fit linear probes to the frozen vectors and test them, on clips of other seeds."""
    heard, held_out = (draw(np.random.default_rng((seed, part)), clips) for part in (1, 2))
    vectors = [encode(model, part.mel) for part in (heard, held_out)]
    taught, truth = grouped_levels(heard.energy), grouped_levels(held_out.energy)
    guesses = {
        name: probe(vectors[0], torch.from_numpy(taught[name]), vectors[1]) for name in GROUPS
    }
    found = {}
    for name in ("shape", "colour", "size"):
        present = torch.from_numpy(truth[name] > 0)
        curves = [area_under_curve(guesses[name][:, c], present[:, c]) for c in range(GROUPS[name])]
        found[f"{name}_auc"] = round(float(np.mean(curves)), 4)
    level = guesses["kind"].numpy()
    found["loudest"] = _loudest_right(level, held_out.energy)
    found["sounding"] = _sounding_right(level, held_out.energy, np.random.default_rng(seed))
    return found


def _loudest_right(guess: np.ndarray, energy: np.ndarray) -> float:
    """Return how often the louder of two kinds is found, where their levels differ clearly."""
    order = energy.argsort(axis=1)[:, ::-1][:, :2]
    first, second = (np.take_along_axis(energy, order[:, i : i + 1], axis=1)[:, 0] for i in (0, 1))
    fair = (levels(second) > 0) & (first > second * 10 ** (CLEAR_DB / 10))
    pair = np.take_along_axis(guess, order, axis=1)
    return round(float((pair[:, 0] > pair[:, 1])[fair].mean()), 4)


def _sounding_right(guess: np.ndarray, energy: np.ndarray, rng: np.random.Generator) -> float:
    """Return how often the only kind that sounds scores above two random silent ones."""
    fair = np.flatnonzero((levels(energy) > 0).sum(axis=1) == 1)
    right = []
    for row in fair:
        sounding = int(energy[row].argmax())
        others = rng.permutation(np.delete(np.arange(len(KINDS)), sounding))[:2]
        right.append(guess[row, sounding] > guess[row, others].max())
    return round(float(np.mean(right)), 4)


@torch.no_grad()
def encode(model: VGGish, mel: np.ndarray) -> Tensor:
    """Return the vectors of windows, (W, d)."""
    return torch.cat([model(batch) for batch in torch.from_numpy(mel).split(256)])


def _schedule(step: int, steps: int, warmup: int) -> float:
    """Return the learning rate's factor: linear warm-up, then half a cosine down to zero."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup)))


if __name__ == "__main__":
    typer.run(main)
