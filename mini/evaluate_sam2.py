"""Evaluate the mini SAM 2 on unseen clips and write its card.

    python -m mini.evaluate_sam2

Clicks once inside each object on frame 0 and tracks it over ten frames, with the library's own
encoding and propagation; takes seconds on one core. Writes figures.json beside the weights.

Shapes: K clips, N frames, B objects, S pixels a side.
"""

import json
from pathlib import Path

import numpy as np
import torch
import typer
import yaml
from sam2.modeling.sam2_base import SAM2Base
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from mini.cards import write_card
from mini.clips import FRAMES, Batch, sample_batch
from mini.pretrain_sam2 import CODE
from mini.tracking import points_inside
from sam2love.sam.build import build_sam2
from sam2love.sam.decode import click
from sam2love.sam.encode import encode_frames
from sam2love.sam.propagate import propagate

SEED = 20_000_003  # used by no other stage
CLIPS_AT_ONCE = 10
CARD_TEXT = """
SAM 2.1 in small, from the sam2 package's own modules: 1.5 million parameters, 128 x 128 pictures.
Prompts are points (with the package's padding point and without), boxes and masks.

It saw procedural pictures and clips of two to four shapes of any mixture of kinds, drawn in process
and passed through JPEG: no sentence, no sound, no clip of the mini data set. The figures are of
clips from another seed: J at logit 0 and 128 x 128 after one click at a random pixel of each object
on frame 0. In `ten_frames` a frame without the object scores the share of background agreed on, as
the benchmark has it; `ten_frames_seen` leaves such frames out, `after_absence` keeps only frames in
which the object is back.
"""


def main(
    folder: Path = Path("weights/mini/sam2"),
    params: Path = Path("mini/params.yaml"),
    clips: int = 100,
) -> None:
    """Evaluate FOLDER/model.safetensors on unseen clips."""
    settings = yaml.safe_load(params.read_text())["sam2"]
    torch.set_num_threads(settings["threads"])
    weights = folder / "model.safetensors"
    sam2 = build_sam2(str(folder / "config.yaml"), str(weights))
    figures = evaluate(sam2, clips=clips)
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n")
    write_card(
        "sam2",
        title="The mini SAM 2",
        text=CARD_TEXT,
        command="python -m mini.pretrain_sam2 && python -m mini.evaluate_sam2",
        weights=weights,
        files=CODE,
        settings=settings,
        figures=figures,
    )
    typer.echo(
        f"{weights}: J {figures['frame_0']:.3f} on frame 0, {figures['ten_frames']:.3f} over ten "
        f"frames, {figures['objects']} objects"
    )


def evaluate(sam2: SAM2Base, *, clips: int, seed: int = SEED) -> dict[str, float | int]:
    """Return J and the object score's accuracy after a click on frame 0 of each unseen object."""
    rng = np.random.default_rng(seed)
    scores, visibility, agreements = [], [], []
    for _ in tqdm(range(0, clips, CLIPS_AT_ONCE), desc="evaluating unseen clips", unit="batch"):
        batch = sample_batch(rng, clips=min(clips, CLIPS_AT_ONCE), frames=FRAMES, strides=[1])
        predicted, object_score = segment(sam2, batch, points_inside(batch.masks[:, 0], rng)[:, 0])
        scores.append(region_j(predicted, batch.masks))
        visibility.append(batch.masks.flatten(2).any(dim=2))
        agreements.append((object_score > 0) == visibility[-1])
    j, visible, right = (torch.cat(parts) for parts in (scores, visibility, agreements))  # (B, N)
    back = visible & ((~visible).cumsum(dim=1) > 0)
    return {
        "clips": clips,
        "objects": len(j),
        "frame_0": round(j[:, 0].mean().item(), 4),
        "ten_frames": round(j.mean().item(), 4),
        "ten_frames_seen": round(j[visible].mean().item(), 4),
        "last_frame_seen": round(j[:, -1][visible[:, -1]].mean().item(), 4),
        "after_absence": round(j[back].mean().item(), 4),
        "frames_without_object": round(1 - visible.float().mean().item(), 4),
        "object_score_right": round(right[:, 1:].float().mean().item(), 4),
    }


@torch.inference_mode()
def segment(sam2: SAM2Base, batch: Batch, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return masks (B, N, S, S) bool and object scores (B, N) for clicks (B, 2) on frame 0."""
    clips, frames, _, side, _ = batch.images.shape
    embedding, high_res_0, high_res_1 = (
        level.unflatten(0, (clips, frames))
        for level in encode_frames(sam2, batch.images.flatten(0, 1))
    )
    levels = embedding, high_res_0, high_res_1
    logits, scores = propagate(sam2, levels, click(sam2, points), batch.clip_of_object)
    return F.interpolate(logits, size=(side, side), mode="bilinear") > 0, scores


def region_j(predicted: Tensor, truth: Tensor) -> Tensor:
    """Return J (B, N); in frames without the object, the fraction predicted as background."""
    common = (predicted & truth).flatten(2).sum(dim=2)
    union = (predicted | truth).flatten(2).sum(dim=2).clamp(min=1)
    background = (~predicted).flatten(2).float().mean(dim=2)
    return torch.where(truth.flatten(2).any(dim=2), common / union, background)


if __name__ == "__main__":
    typer.run(main)
