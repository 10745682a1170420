"""Fit SAM2-LOVE to the first frame's masks from cached features (section 3.3, Eq. 5).

Shapes: B rows, h x w cells of SAM 2's embedding, 4h x 4w mask logits, H x W label pixels.
"""

import math
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sam2love.dataset.refavs import FRAMES
from sam2love.evaluation.metrics import REGION_SHOWN, overlaps_most, probabilities, region_j
from sam2love.grounding import grounding_loss, pointing
from sam2love.loss import mask_loss, weigh
from sam2love.model import SAM2Love
from sam2love.params import Loss, Train
from sam2love.stores.features import FeatureReader
from sam2love.training.batches import Batch, Batches, load, read_batch
from sam2love.training.checkpoint import History, resume, save

VALIDATIONS = 10
"""How often J on val is measured during a training."""


def losses(model: SAM2Love, batch: Batch) -> dict[str, Tensor]:
    """The unweighted terms of the loss.

    Args:
        batch: on the model's device; without embeddings the terms are left out for which SAM 2
            has to decode a mask.
    """
    out = model(batch.features, batch.embeddings)
    terms = {"pointing": grounding_loss(pointing(model.sam2, out.prompts.float()), batch.masks)}
    if out.fused.attention is not None:
        terms["attention"] = grounding_loss(out.fused.attention.float(), batch.masks)
    if out.first_frame is not None:
        terms["bce"], terms["dice"] = mask_loss(out.first_frame.logits.float(), batch.masks)
        # In the clip, not on frame 0: that is what the gate reads the score for.
        terms["object_score"] = F.binary_cross_entropy_with_logits(
            out.first_frame.object_score[:, 0].float(), batch.present
        )
    return terms


class Objective(nn.Module):
    """The loss of a model as a module, which is what an engine for several processes wraps."""

    def __init__(self, model: SAM2Love, *, weights: Loss) -> None:
        super().__init__()
        self.model, self._weights = model, weights

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The weighted loss, and beside it the terms as mere numbers."""
        terms = losses(self.model, batch)
        return weigh(terms, self._weights), {name: term.detach() for name, term in terms.items()}


def learning_rate_at(step: int, train: Train) -> float:
    """Fraction of the peak learning rate: linear warm-up, then linear decay to 0 (section 4.1).

    Ours: where there is grounding, the decay waits for its end. What all frames teach takes the
    full rate, and there are few such steps.
    """
    steps = train.grounding_steps + train.steps
    decay_from = max(train.grounding_steps, train.warmup_steps)
    if step < train.warmup_steps:
        return (step + 1) / train.warmup_steps
    return min(1.0, (steps - step) / max(1, steps - decay_from))


def fit(
    accelerator: Accelerator,
    model: SAM2Love,
    train_rows: pd.DataFrame,
    val_rows: pd.DataFrame,
    reader: FeatureReader,
    *,
    train: Train,
    checkpoints: Path,
    workers: int = 0,
) -> History:
    """Train in place, going on from the latest checkpoint, and write one at each validation.

    Args:
        accelerator: from `engine.start_engine`.
        train_rows, val_rows: of the expression table; where val_rows have a column "kinds", the
            validation is reported for each of its values too.
        checkpoints: the folder for this very training's, empty at first.
        workers: processes that read batches ahead.

    Returns:
        Each step's losses, the mean over all processes; the main process's history has the
        validations too.

    Raises:
        ValueError: the loss or its gradient is not finite; the last checkpoint stays.
    """
    steps = train.grounding_steps + train.steps
    validate_at = {round(steps * (part + 1) / VALIDATIONS) - 1 for part in range(VALIDATIONS)}
    objective = Objective(model, weights=train.loss)
    objective, optimiser = accelerator.prepare(objective, _optimiser(model, train))
    history = resume(accelerator, checkpoints)
    first, alone = len(history.losses), accelerator.is_main_process
    # The processes take turns, so that a step's rows follow from processes x accumulation alone.
    batches = Batches(train_rows, reader, train=train)
    start = first * train.accumulation * train.processes + accelerator.process_index
    own = range(start, len(batches), train.processes)
    loaded = load(batches, own, workers=workers, device=accelerator.device)
    progress = tqdm(range(first, steps), "train", steps, initial=first, disable=not alone)
    for step in progress:
        history.losses.append(
            _step(accelerator, objective, optimiser, loaded, train=train, step=step)
        )
        if step in validate_at:
            frames = _frames_seen(step, train)
            found = validate(accelerator, model, val_rows, reader, frames=frames)
            if len(val_rows) and alone:
                history.validations.append({"step": step, **found})
            save(accelerator, checkpoints, history)
    return history


def _step(
    accelerator: Accelerator,
    objective: nn.Module,
    optimiser: torch.optim.Optimizer,
    batches: Iterator[Batch],
    *,
    train: Train,
    step: int,
) -> dict[str, float]:
    """Learn from the next batches, this process from its own, and return the mean losses.

    Raises:
        ValueError: the loss or its gradient is not finite; every process raises.
    """
    for group in optimiser.param_groups:
        group["lr"] = train.learning_rate * learning_rate_at(step, train)
    means: dict[str, float] = {}
    for batch in islice(batches, train.accumulation):
        with accelerator.accumulate(objective):
            loss, terms = objective(batch.to(accelerator.device))
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                trained = optimiser.param_groups[0]["params"]
                norm = accelerator.clip_grad_norm_(trained, train.clip_norm)
                means["gradient"] = float(norm or 0.0)  # DeepSpeed may have none, and then no step
            optimiser.step()
            optimiser.zero_grad()
        for name, term in {"loss": loss, **terms}.items():
            means[name] = means.get(name, 0.0) + term.item() / train.accumulation
    own = torch.tensor([*means.values()], dtype=torch.float64, device=accelerator.device)
    everyones = dict(zip(means, accelerator.reduce(own, reduction="mean").tolist(), strict=True))
    _refuse_infinite(everyones, step=step)
    del everyones["gradient"]
    return {"step": step, "frames": _frames_seen(step, train), **everyones}


def _refuse_infinite(means: dict[str, float], *, step: int) -> None:
    """Stop, before anything is saved, if a step's loss or its gradient's norm is not finite."""
    if math.isfinite(means["loss"]) and math.isfinite(means["gradient"]):
        return  # whatever a term of weight 0 is
    broken = [name for name, mean in means.items() if not math.isfinite(mean)]
    causes = [name for name in broken if name not in ("loss", "gradient")] or broken
    named = ", ".join(f"{name} is {means[name]}" for name in causes)
    raise ValueError(
        f"step {step} of the training: {named}, expected finite numbers; the last checkpoint is "
        "kept. Lower train.learning_rate or train.clip_norm, then run the stage 'train' again"
    )


def _frames_seen(step: int, train: Train) -> int:
    return 1 if step < train.grounding_steps else FRAMES


def validate(
    accelerator: Accelerator,
    model: SAM2Love,
    rows: pd.DataFrame,
    reader: FeatureReader,
    *,
    frames: int,
    batch_size: int = 64,
) -> dict[str, float]:
    """Measure J and how often the right object is picked on frame 0, both in percent.

    Each process measures its part of the rows. Rows whose object cannot be seen on frame 0 are left
    out. NaN without rows.

    Args:
        rows: of the expression table, with a column "kinds" or without.

    Returns:
        "J" and "right", and for each value of "kinds" also "J_<kinds>" and "right_<kinds>".
    """
    scores: list[tuple[str | None, float, float]] = []

    @lru_cache(maxsize=batch_size)  # a clip's rows stand together
    def truths_of(key: str) -> dict[int, np.ndarray]:
        fids = reader.objects(key)
        masks = reader.labels([key] * len(fids), fids)
        return {fid: mask[None].numpy() for fid, mask in zip(fids, masks, strict=True)}

    starts = range(0, len(rows), batch_size)[accelerator.process_index :: accelerator.num_processes]
    for start in starts:
        part = rows.iloc[start : start + batch_size]
        batch = read_batch(part, reader, frames=frames).to(accelerator.device)
        with torch.inference_mode():
            first = model(batch.features, batch.embeddings).first_frame
        logits = first.logits.float().cpu().numpy()
        for place, (key, fid) in enumerate(zip(part["key"], part["fid"], strict=True)):
            truths = truths_of(key)
            mask = truths.get(fid)
            if mask is None or not mask.any():
                continue
            size = (mask.shape[1], mask.shape[2])
            shown = probabilities(logits[place], size=size, logits=True) > REGION_SHOWN
            right = overlaps_most(shown, truths, fid=fid)
            kinds = part["kinds"].iloc[place] if "kinds" in part else None
            scores.append((kinds, 100 * region_j(shown, mask)[0], 100.0 * right))
    everyones = gather_object(scores)
    table = pd.DataFrame(everyones, columns=["kinds", "J", "right"]).astype({"J": float})
    found = {name: float(table[name].mean()) for name in ("J", "right")}
    for kinds in sorted(set(table["kinds"].dropna())):
        of_kind = table[table["kinds"] == kinds]
        found |= {f"{name}_{kinds}": float(of_kind[name].mean()) for name in ("J", "right")}
    return found


def _optimiser(model: SAM2Love, train: Train) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=train.learning_rate,
        betas=train.betas,
        weight_decay=train.weight_decay,
    )
