"""Pre-train the mini SAM 2 on procedural pictures, then on short clips through its memory.

    python -m mini.pretrain_sam2

Reads section `sam2` of mini/params.yaml and weights/mini/sam2/config.yaml; writes
weights/mini/sam2/model.safetensors; takes 30 to 45 minutes on one core. It is trained on pictures
only: no text, no sound. An interrupted run resumes from its last checkpoint and ends with the same
weights, since each step's batch depends only on the seed and the step number.

Shapes: N frames, B objects of a batch, S pixels a side.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
import yaml
from safetensors.torch import save_file
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F
from torch.optim import Optimizer
from tqdm import tqdm

from mini.cards import code_digest
from mini.clips import sample_batch
from mini.tracking import PROMPTS, Tracked, track
from sam2love.sam.build import build_sam2

CODE = ["mini/pictures.py", "mini/clips.py", "mini/tracking.py", "mini/pretrain_sam2.py"]
"""The code that determines the weights, with the settings and the model's configuration."""


def main(
    folder: Path = Path("weights/mini/sam2"),
    params: Path = Path("mini/params.yaml"),
    checkpoint: Path = Path(".staging/mini/sam2.pt"),
) -> None:
    """Pre-train the mini SAM 2 of FOLDER/config.yaml, or resume from its checkpoint."""
    settings = yaml.safe_load(params.read_text())["sam2"]
    torch.set_num_threads(settings["threads"])
    torch.manual_seed(settings["seed"])
    sam2 = build_sam2(str(folder / "config.yaml")).train()
    prepare(sam2)
    optimiser = torch.optim.AdamW(
        sam2.parameters(), lr=settings["learning_rate"], weight_decay=settings["weight_decay"]
    )
    run = {"settings": settings, "code": code_digest(CODE)}
    done = _resume(checkpoint, sam2, optimiser, run)
    steps = sum(phase["steps"] for phase in settings["phases"])
    with tqdm(total=steps, initial=done, desc="pre-training SAM 2", unit="step") as bar:
        for step in range(done, steps):
            rate = _rate(step, settings)
            terms = train_step(sam2, optimiser, rate=rate, step=step, settings=settings)
            bar.update()
            if step % 25 == 0:
                bar.set_postfix(terms)
            if (step + 1) % settings["save_every"] == 0:
                _save(folder / "model.safetensors", sam2)
                _keep(checkpoint, sam2, optimiser, run, step + 1)
    _save(folder / "model.safetensors", sam2)
    checkpoint.unlink(missing_ok=True)


def prepare(sam2: SAM2Base) -> None:
    """Initialise the weights so that a small model learns fast; all remain trainable.

    Every object starts as visible, the memory encoder mixes from the start, and the mask decoder's
    query and key projections start equal, so that a point attends to the cells around it. With the
    default initialisation, points have no effect for a thousand steps: masks show all objects or
    none.
    """
    torch.nn.init.constant_(sam2.sam_mask_decoder.pred_obj_score_head.layers[-1].bias, 2.0)
    for block in sam2.memory_encoder.fuser.layers:
        torch.nn.init.constant_(block.gamma, 0.1)
    transformer = sam2.sam_mask_decoder.transformer
    attentions = [transformer.final_attn_token_to_image]
    for layer in transformer.layers:
        attentions += [layer.cross_attn_token_to_image, layer.cross_attn_image_to_token]
    with torch.no_grad():
        for attention in attentions:
            attention.q_proj.weight.mul_(3)
            attention.k_proj.load_state_dict(attention.q_proj.state_dict())


def train_step(
    sam2: SAM2Base,
    optimiser: Optimizer,
    *,
    rate: float,
    step: int,
    settings: dict[str, Any],
) -> dict[str, float]:
    """Run one step of the phase that `step` falls into; return the terms of the loss."""
    rng = np.random.default_rng((settings["seed"], step))
    phase = _phase(step, settings["phases"])
    batch = sample_batch(
        rng, clips=phase["clips"], frames=phase["frames"], strides=phase["strides"]
    )
    prompt = str(rng.choice(PROMPTS, p=settings["prompts"]))
    tracked = track(sam2, batch, prompt, rng)
    terms = losses(tracked, batch.masks)
    loss = sum(settings["loss"][name] * term for name, term in terms.items())
    for group in optimiser.param_groups:
        group["lr"] = rate
    optimiser.zero_grad()
    torch.as_tensor(loss).backward()
    torch.nn.utils.clip_grad_norm_(sam2.parameters(), settings["clip_norm"])
    optimiser.step()
    return {name: round(term.item(), 3) for name, term in terms.items()}


def losses(tracked: list[Tracked], masks: Tensor) -> dict[str, Tensor]:
    """Return mean BCE (an absent object's target is empty), dice and IoU where visible, score."""
    logits = torch.stack([frame.logits for frame in tracked], dim=1)  # (B, N, S, S)
    iou = torch.stack([frame.iou for frame in tracked], dim=1)
    score = torch.stack([frame.object_score for frame in tracked], dim=1)
    seen = masks.flatten(2).any(dim=2)
    target = masks.float()
    shares = logits.sigmoid()
    common = (shares * target).flatten(2).sum(dim=2)
    dice = 1 - (2 * common + 1) / ((shares + target).flatten(2).sum(dim=2) + 1)
    with torch.no_grad():
        cut = logits > 0
        union = (cut | masks).flatten(2).sum(dim=2).clamp(min=1)
        true_iou = (cut & masks).flatten(2).sum(dim=2) / union
    return {
        "bce": F.binary_cross_entropy_with_logits(logits, target),
        "dice": dice[seen].mean(),
        "iou": (iou - true_iou).abs()[seen].mean(),
        "object_score": F.binary_cross_entropy_with_logits(score, seen.float()),
    }


def _phase(step: int, phases: list[dict[str, Any]]) -> dict[str, Any]:
    for phase in phases:
        if step < phase["steps"]:
            return phase
        step -= phase["steps"]
    raise AssertionError("a step past the last phase")


def _rate(step: int, settings: dict[str, Any]) -> float:
    """Return the learning rate: linear warm-up, then half a cosine to zero at `decay_steps`."""
    peak, warmup, end = (settings[key] for key in ("learning_rate", "warmup_steps", "decay_steps"))
    if step < warmup:
        return peak * ((step + 1) / warmup)
    return peak * (0.5 * (1 + float(np.cos(np.pi * (step - warmup) / (end - warmup)))))


def _save(path: Path, sam2: SAM2Base) -> None:
    partial = path.with_suffix(".partial")
    save_file({name: value.contiguous() for name, value in sam2.state_dict().items()}, partial)
    os.replace(partial, path)


def _keep(path: Path, sam2: SAM2Base, optimiser: Optimizer, run: dict, done: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    state = {"sam2": sam2.state_dict(), "optimiser": optimiser.state_dict()}
    torch.save(state | {"run": run, "done": done}, path.with_suffix(".partial"))
    os.replace(path.with_suffix(".partial"), path)


def _resume(path: Path, sam2: SAM2Base, optimiser: Optimizer, run: dict) -> int:
    """Load the checkpoint if it belongs to this run; return the number of completed steps."""
    if not path.is_file():
        return 0
    kept = torch.load(path, weights_only=True)
    if kept["run"] != run:
        typer.echo(f"{path} is of other settings or code: starting anew")
        return 0
    sam2.load_state_dict(kept["sam2"])
    optimiser.load_state_dict(kept["optimiser"])
    return int(kept["done"])


if __name__ == "__main__":
    typer.run(main)
