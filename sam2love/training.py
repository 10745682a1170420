"""Fit SAM2-LOVE to the first frame's masks from cached features (section 3.3, Eq. 5).

Shapes: B rows, h x w cells of SAM 2's embedding, 4h x 4w mask logits, H x W label pixels.
"""

import math
from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from sam2love.features import FeatureReader
from sam2love.metrics import REGION_SHOWN, probabilities, region_j
from sam2love.model import SAM2Love
from sam2love.params import Loss, Train
from sam2love.refavs import FRAMES
from sam2love.sam.decode import Decoded

VALIDATIONS = 10
"""How often J on val is measured during a training."""

ReadMask = Callable[[str, int], Tensor]
"""Reads the true mask on frame 0 of a clip's key and fid: (H, W) float32 of 0 and 1."""


def mask_loss(logits: Tensor, masks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean BCE and dice loss of logits (B, 1, 4h, 4w), upsampled to each label's resolution.

    Source: SAM2-LOVE Eq. 5, unweighted.
    """
    bce, dice = [], []
    for size in sorted({tuple(mask.shape) for mask in masks}):
        rows = [row for row, mask in enumerate(masks) if tuple(mask.shape) == size]
        target = torch.stack([masks[row] for row in rows]).flatten(1)
        sized = F.interpolate(logits[rows], size=size, mode="bilinear").flatten(1)
        bce.append(F.binary_cross_entropy_with_logits(sized, target, reduction="none").mean(1))
        chance = sized.sigmoid()
        overlap = (chance * target).sum(1)
        dice.append(1 - (2 * overlap + 1) / (chance.sum(1) + target.sum(1) + 1))
    return torch.cat(bce).mean(), torch.cat(dice).mean()


def grounding_loss(cells: Tensor, masks: list[Tensor]) -> Tensor:
    """Cross-entropy of where a token looks against where the object lies.

    The true distribution over the cells of a square grid is the mask's area in each. Rows with an
    empty mask have nowhere to look and are left out.

    Args:
        cells: (B, cells) logits, row by row of the grid.

    Source: ours; it leads out of the plateau on which every object is segmented (docs/log.md).
    """
    side = math.isqrt(cells.shape[1])
    area = torch.cat([F.adaptive_avg_pool2d(mask[None], side) for mask in masks]).flatten(1)
    total = area.sum(1)
    losses = -(area * cells.log_softmax(1)).sum(1) / total.clamp(min=1e-6)
    return losses[total > 0].sum() / max(1, int((total > 0).sum()))


def losses(
    model: SAM2Love,
    rows: pd.DataFrame,
    read_mask: ReadMask,
    reader: FeatureReader,
    *,
    frames: int,
    grounding_only: bool = False,
) -> dict[str, Tensor]:
    """The unweighted terms of the loss.

    Args:
        frames: how many frames the fusion sees, from the first on.
        grounding_only: leave out the terms for which SAM 2 has to decode a mask.
    """
    device = model.sam2.device
    masks = _read_masks(rows, read_mask, device)
    prompts, agreement = _prompt(model, rows, reader, frames=frames)
    terms = {"pointing": grounding_loss(model.locate(prompts.float()), masks)}
    if agreement is not None:
        terms["agreement"] = grounding_loss(agreement.float(), masks)
    if not grounding_only:
        decoded = _segment_first(model, rows, prompts, reader)
        terms["bce"], terms["dice"] = mask_loss(decoded.logits.float(), masks)
        present = torch.stack([mask.any() for mask in masks]).float()
        terms["object_score"] = F.binary_cross_entropy_with_logits(
            decoded.object_score[:, 0].float(), present
        )
    return terms


def _read_masks(rows: pd.DataFrame, read_mask: ReadMask, device: torch.device) -> list[Tensor]:
    return [read_mask(*row).to(device) for row in zip(rows["key"], rows["fid"], strict=True)]


def _prompt(
    model: SAM2Love, rows: pd.DataFrame, reader: FeatureReader, *, frames: int
) -> tuple[Tensor, Tensor | None]:
    device = model.sam2.device
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return model.prompt(reader.features(rows, frames=frames).to(device))


def _segment_first(
    model: SAM2Love, rows: pd.DataFrame, prompts: Tensor, reader: FeatureReader
) -> Decoded:
    """What SAM 2 makes of the prompts on frame 0."""
    device = model.sam2.device
    first = reader.embeddings(rows["key"].tolist(), frames=[0])
    embedding, high_res_0, high_res_1 = (level[:, 0].to(device) for level in first)
    with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
        return model.segment((embedding, high_res_0, high_res_1), prompts)


def weigh(terms: dict[str, Tensor], weights: Loss) -> Tensor:
    """The loss that is minimised: the terms there are, weighted; those of weight 0 left out."""
    weighted = [weight * terms[name] for name, weight in weights if weight and name in terms]
    return torch.stack(weighted).sum()


def draw_rows(count: int, *, batch_size: int, step: int, seed: int) -> np.ndarray:
    """The rows of a step: seeded permutations one after another, cut into batches.

    Each step's rows follow from the seed and its number alone, so a run resumes anywhere.
    """
    wanted = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs = {
        int(epoch): np.random.default_rng((seed, int(epoch))).permutation(count)
        for epoch in np.unique(wanted // count)
    }
    return np.array([epochs[int(place // count)][place % count] for place in wanted])


def learning_rate_at(step: int, *, steps: int, warmup_steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then linear decay to 0 (section 4.1)."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    return (steps - step) / max(1, steps - warmup_steps)


def fit(
    model: SAM2Love,
    train_rows: pd.DataFrame,
    val_rows: pd.DataFrame,
    read_mask: ReadMask,
    reader: FeatureReader,
    *,
    train: Train,
) -> Iterator[tuple[dict[str, float], dict[str, float] | None]]:
    """Train in place and yield each step's losses, and now and then J on val.

    Args:
        train_rows, val_rows: of the expression table.
        read_mask: reads the labels, at their own size.
    """
    steps = train.grounding_steps + train.steps
    validate_at = {round(steps * (part + 1) / VALIDATIONS) - 1 for part in range(VALIDATIONS)}
    optimiser, schedule = _optimiser(model, train)
    for step in tqdm(range(steps), desc="train", unit="step"):
        grounding = step < train.grounding_steps
        frames = 1 if grounding else FRAMES
        record: dict[str, float] = {"step": step, "frames": frames}
        for part in range(train.accumulation):
            drawn = draw_rows(
                len(train_rows),
                batch_size=train.batch_size,
                step=step * train.accumulation + part,
                seed=train.seed,
            )
            rows = train_rows.iloc[drawn]
            terms = losses(model, rows, read_mask, reader, frames=frames, grounding_only=grounding)
            loss = weigh(terms, train.loss)
            (loss / train.accumulation).backward()
            for name, term in {"loss": loss, **terms}.items():
                record[name] = record.get(name, 0.0) + term.item() / train.accumulation
        torch.nn.utils.clip_grad_norm_(optimiser.param_groups[0]["params"], train.clip_norm)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        schedule.step()
        j = None
        if step in validate_at and len(val_rows):
            j = {"step": step, "J": validate(model, val_rows, read_mask, reader, frames=frames)}
        yield record, j


def validate(
    model: SAM2Love,
    rows: pd.DataFrame,
    read_mask: ReadMask,
    reader: FeatureReader,
    *,
    frames: int,
    batch_size: int = 64,
) -> float:
    """Mean J on the first frame, in percent, over the rows whose object is in sight there.

    NaN if there are no such rows.
    """
    scores = [np.empty(0)]
    for start in range(0, len(rows), batch_size):
        batch = rows.iloc[start : start + batch_size]
        masks = _read_masks(batch, read_mask, model.sam2.device)
        with torch.inference_mode():
            prompts, _ = _prompt(model, batch, reader, frames=frames)
            decoded = _segment_first(model, batch, prompts, reader)
        for logits, mask in zip(decoded.logits.float().cpu(), masks, strict=True):
            if mask.any():
                size = (mask.shape[0], mask.shape[1])
                chance = probabilities(logits.numpy(), size=size, logits=True)
                scores.append(region_j(chance > REGION_SHOWN, mask[None].cpu().numpy() > 0))
    found = np.concatenate(scores)
    return 100 * float(found.mean()) if found.size else math.nan


def _optimiser(
    model: SAM2Love, train: Train
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """AdamW, and a schedule that warms up and decays in each of the two parts of a training."""
    optimiser = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=train.learning_rate,
        betas=train.betas,
        weight_decay=train.weight_decay,
    )

    def share(step: int) -> float:
        before = train.grounding_steps
        step, steps = (step, before) if step < before else (step - before, train.steps)
        return learning_rate_at(step, steps=steps, warmup_steps=train.warmup_steps)

    return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, share)
