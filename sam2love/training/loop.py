"""Fit SAM2-LOVE to the first frame's masks from cached features (section 3.3, Eq. 5).

Shapes: B rows, h x w cells of SAM 2's embedding, 4h x 4w mask logits, H x W label pixels.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

import pandas as pd
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sam2love.grounding import cell_areas, grounding_loss, pointing
from sam2love.loss import mask_loss, weigh
from sam2love.model import SAM2Love
from sam2love.params import Loss, Train
from sam2love.stores.features import FeatureReader
from sam2love.training.batches import Batch, Batches, load
from sam2love.training.checkpoint import History, resume, save
from sam2love.training.validation import validate

VALIDATIONS = 10
"""Number of validations during a training."""


def losses(model: SAM2Love, batch: Batch) -> dict[str, Tensor]:
    """Return the unweighted terms of the loss.

    Args:
        batch: on the model's device; without embeddings, terms that need SAM 2's mask are left out.
    """
    out = model(batch.features, batch.embeddings, frame=batch.frame)
    where = {"pointing": pointing(out.prompts.float(), model.cell_positions)}
    if out.fused.attention is not None:
        where["attention"] = out.fused.attention.float()
    # SAM 2's grid and the patches' may differ; labels are pooled once for each.
    grids = {logits.shape[1] for logits in where.values()}
    areas = {cells: cell_areas(batch.masks, cells=cells) for cells in grids}
    terms = {name: grounding_loss(cells, areas[cells.shape[1]]) for name, cells in where.items()}
    if out.decoded is not None:
        terms["bce"], terms["dice"] = mask_loss(out.decoded.logits.float(), batch.masks)
        # If only frame 0 is ever prompted, it is whether the object is in the clip rather than on
        # frame 0: the gate hides whole rows.
        terms["object_score"] = F.binary_cross_entropy_with_logits(
            out.decoded.object_score[:, 0].float(), batch.present
        )
    return terms


class Objective(nn.Module):
    """The loss of a model, as the module that DDP or DeepSpeed wraps."""

    def __init__(self, model: SAM2Love, *, weights: Loss) -> None:
        super().__init__()
        self.model, self._weights = model, weights

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the weighted loss, and its detached terms."""
        terms = losses(self.model, batch)
        return weigh(terms, self._weights), {name: term.detach() for name, term in terms.items()}


def learning_rate_factor(step: int, train: Train) -> float:
    """Return the fraction of the peak rate: linear warm-up, then linear decay to 0 (section 4.1).

    Ours: the decay starts after grounding, so that the few steps on all frames get the full rate.
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
    watch: Callable[[History], None] | None = None,
) -> History:
    """Train the model in place, resuming from the latest checkpoint; write one at each validation.

    Args:
        accelerator: from `engine.start_engine`.
        train_rows, val_rows: of the expression table; see `validate` for val_rows.
        checkpoints: the folder for the checkpoints of this training only.
        workers: processes that read batches ahead.
        watch: called with the records when the training starts or resumes, and after each step.

    Returns:
        The losses of each step, averaged over processes; on the main process the validations too.

    Raises:
        ValueError: the loss or its gradient is not finite; the last checkpoint is kept.
    """
    steps = train.grounding_steps + train.steps
    validate_at = {round(steps * (part + 1) / VALIDATIONS) - 1 for part in range(VALIDATIONS)}
    objective = Objective(model, weights=train.loss)
    objective, optimiser = accelerator.prepare(objective, _optimiser(model, train))
    history = resume(accelerator, checkpoints)
    first, is_main = len(history.losses), accelerator.is_main_process
    # Batches are interleaved across processes: a step's rows depend only on the product of
    # processes and accumulation.
    grounding_frames = reader.frames if model.fusion.whole_clip else 1
    batches = Batches(
        train_rows,
        reader,
        train=train,
        grounding_frames=grounding_frames,
        any_frame=model.any_frame,
    )
    start = first * train.accumulation * train.processes + accelerator.process_index
    own = range(start, len(batches), train.processes)
    loaded = load(batches, own, workers=workers, device=accelerator.device)
    todo: Iterable[int] = range(first, steps)
    if is_main:
        todo = tqdm(todo, "train", steps, initial=first)
    if watch is not None:
        watch(history)
    for step in todo:
        frames = grounding_frames if step < train.grounding_steps else reader.frames
        losses_of_step = _step(accelerator, objective, optimiser, loaded, train=train, step=step)
        history.losses.append({"step": step, "frames": frames, **losses_of_step})
        if step in validate_at:
            measured = validate(accelerator, model, val_rows, reader, frames=frames)
            if len(val_rows) and is_main:
                history.validations.append({"step": step, **measured})
            save(accelerator, checkpoints, history)
        if watch is not None:
            watch(history)
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
    """Take one step on this process's next batches, and return the losses averaged over processes.

    Raises:
        ValueError: the loss or its gradient is not finite; every process raises.
    """
    for group in optimiser.param_groups:
        group["lr"] = train.learning_rate * learning_rate_factor(step, train)
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
    return everyones


def _refuse_infinite(means: dict[str, float], *, step: int) -> None:
    """Stop the training before anything is saved if the loss or the gradient is not finite."""
    if math.isfinite(means["loss"]) and math.isfinite(means["gradient"]):
        return  # even if a term of weight 0 is not
    broken = [name for name, mean in means.items() if not math.isfinite(mean)]
    causes = [name for name in broken if name not in ("loss", "gradient")] or broken
    named = ", ".join(f"{name} is {means[name]}" for name in causes)
    raise ValueError(
        f"step {step} of the training: {named}, expected finite numbers; the last checkpoint is "
        "kept. Lower train.learning_rate or train.clip_norm, then run the stage 'train' again"
    )


def _optimiser(model: SAM2Love, train: Train) -> torch.optim.Optimizer:
    return torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=train.learning_rate,
        betas=train.betas,
        weight_decay=train.weight_decay,
    )
