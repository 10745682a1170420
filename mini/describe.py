"""Print statistics of the mini set and the scores of trivial baselines.

    python -m mini.describe

Draws every clip again from mini/params.yaml without writing it (half a minute). The baselines have
perfect masks. J follows the benchmark's convention: a frame without the object scores the fraction
of it that is predicted as background.
"""

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
import typer
import yaml
from tqdm import tqdm

from mini.dataset import Job, Params, clip_rng, plan
from mini.expressions import FAMILIES, GROUPS, NEEDS_SOUND
from mini.rules import Seen
from mini.story import Story, sample_story


def main(
    params: Annotated[Path, typer.Option(help="Parameter file with a section `dataset`.")] = Path(
        "mini/params.yaml"
    ),
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
) -> None:
    """Print the mini set's statistics."""
    section = Params.model_validate(yaml.safe_load(params.read_text())["dataset"])
    clips, rows = measure(section, workers=workers)
    by_split = clips.groupby("split", sort=False).mean(numeric_only=True)
    tables = {"clips": by_split, "rows": summarise(rows, "split")}
    tables["rows, all splits"] = summarise(rows, "family").reindex(FAMILIES)
    for name, table in tables.items():
        print(f"\n{name}\n{table.round(3).to_string()}")


def measure(params: Params, *, workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a table of the clips and one of their expressions, null rows excluded."""
    jobs = plan(params)
    with ProcessPoolExecutor(workers) as pool:
        measured = pool.map(measure_clip, repeat(params), jobs, chunksize=4)
        pairs = list(tqdm(measured, total=len(jobs), desc="measuring clips", unit="clip"))
    clips = pd.DataFrame([clip for clip, _ in pairs])
    return clips, pd.DataFrame([row for _, rows in pairs for row in rows])


def measure_clip(params: Params, job: Job) -> tuple[dict, list[dict]]:
    """Return the statistics of one clip and of each of its expressions."""
    clip = sample_story(clip_rng(params, job), part=job.part, side=params.side, late=job.late)
    area = clip.masks.mean(axis=(2, 3))  # (frames, things)
    figures = {
        "split": job.split,
        "things": area.shape[1],
        "three_or_more": area.shape[1] >= 3,
        "sounding": sum(sound is not None for sound in clip.heard),
        "area": area[area > 0].mean(),
        "absent": (area == 0).mean(),
    }
    return figures, [{"split": job.split, **row} for row in _measure_expressions(clip)]


def _measure_expressions(clip: Story) -> Iterator[dict]:
    seen = Seen.of(clip.scene, clip.masks)
    things = len(clip.heard)
    largest, central = int(np.argmax(seen.areas)), _central(clip.masks[0])
    for meaning, _, target in clip.expressions:
        needs_sound = meaning.family in NEEDS_SOUND
        truth = clip.masks[:, target]
        by_thing = [region_j(clip.masks[:, thing], truth) for thing in range(things)]
        yield {
            "family": meaning.family,
            "needs_sound": needs_sound,
            "temporal": meaning.family in GROUPS["temporal"],
            "chance": 1 / things,
            "largest": target == largest,
            "central": target == central,
            "sounds": clip.heard[target] is not None,
            "deaf_guess": meaning.deaf_guess(seen, clip.heard) if needs_sound else np.nan,
            "J_every_object": region_j(np.any(clip.masks, axis=1), truth),
            "J_random": np.mean(by_thing),
            "J_largest": by_thing[largest],
            "J_central": by_thing[central],
        }


def summarise(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Return each group's means and its number of rows."""
    groups = rows.groupby(by, sort=False)
    return groups.mean(numeric_only=True).assign(rows=groups.size())


def region_j(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Return the mean J over frames of masks, both (frames, side, side) bool."""
    common, union = (predicted & truth).sum(axis=(1, 2)), (predicted | truth).sum(axis=(1, 2))
    background = 1 - predicted.mean(axis=(1, 2))
    iou = common / np.maximum(union, 1)
    return float(np.where(truth.any(axis=(1, 2)), iou, background).mean())


def _central(masks: np.ndarray) -> int:
    """Return the thing whose centre is nearest the picture's, by masks (things, side, side)."""
    middle = (masks.shape[1] - 1) / 2
    distances = [
        float(np.linalg.norm(np.argwhere(mask).mean(axis=0) - middle)) if mask.any() else np.inf
        for mask in masks
    ]
    return int(np.argmin(distances))


if __name__ == "__main__":
    typer.run(main)
