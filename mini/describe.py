"""Print what the mini set holds, and how far one gets on it without understanding.

    python -m mini.describe

Tells every clip again from mini/params.yaml, without writing it (half a minute). The baselines'
region J is that of perfect masks, by the benchmark's convention: a frame without the object scores
the share of background agreed on.
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

from mini.dataset import Job, Params, clip_rng, plan, tell_clip
from mini.expressions import FAMILIES, GROUPS, NEEDS_SOUND
from mini.rules import Seen
from mini.story import Story


def main(
    params: Annotated[Path, typer.Option(help="File with a section `dataset`.")] = Path(
        "mini/params.yaml"
    ),
    workers: Annotated[int, typer.Option(help="Processes.")] = 2,
) -> None:
    """Print the mini set's figures."""
    section = Params.model_validate(yaml.safe_load(params.read_text())["dataset"])
    clips, rows = measure(section, workers=workers)
    by_split = clips.groupby("split", sort=False).mean(numeric_only=True)
    tables = {"clips": by_split, "rows": summarise(rows, "split")}
    tables["rows, all splits"] = summarise(rows, "family").reindex(FAMILIES)
    for name, table in tables.items():
        print(f"\n{name}\n{table.round(3).to_string()}")


def measure(params: Params, *, workers: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A row for each clip and a row for each expression that is true of something."""
    jobs = plan(params)
    with ProcessPoolExecutor(workers) as pool:
        told = pool.map(measure_clip, repeat(params), jobs, chunksize=4)
        pairs = list(tqdm(told, total=len(jobs), desc="telling clips", unit="clip"))
    clips = pd.DataFrame([clip for clip, _ in pairs])
    return clips, pd.DataFrame([row for _, rows in pairs for row in rows])


def measure_clip(params: Params, job: Job) -> tuple[dict, list[dict]]:
    """The figures of one clip and of what is said of it."""
    told = tell_clip(params, job, clip_rng(params, job))
    area = told.masks.mean(axis=(2, 3))
    clip = {
        "split": job.split,
        "things": area.shape[1],
        "three_or_more": area.shape[1] >= 3,
        "sounding": sum(sound is not None for sound in told.heard),
        "area": area[area > 0].mean(),
        "absent": (area == 0).mean(),
    }
    return clip, [{"split": job.split, **row} for row in _measure_sayings(told)]


def _measure_sayings(told: Story) -> Iterator[dict]:
    seen = Seen.of(told.scene, told.masks)
    things = len(told.heard)
    largest, central = int(np.argmax(seen.areas)), _central(told.masks[0])
    guesses = {"largest": told.masks[:, largest], "central": told.masks[:, central]}
    for meaning, _, target in told.sayings:
        needs_sound = meaning.family in NEEDS_SOUND
        truth = told.masks[:, target]
        yield {
            "family": meaning.family,
            "needs_sound": needs_sound,
            "temporal": meaning.family in GROUPS["temporal"],
            "chance": 1 / things,
            "largest": target == largest,
            "central": target == central,
            "sounds": told.heard[target] is not None,
            "deaf_guess": meaning.deaf_guess(seen, told.heard) if needs_sound else np.nan,
            "J_every_object": region_j(np.any(told.masks, axis=1), truth),
            "J_random": np.mean([region_j(told.masks[:, i], truth) for i in range(things)]),
            **{f"J_{name}": region_j(masks, truth) for name, masks in guesses.items()},
        }


def summarise(rows: pd.DataFrame, by: str) -> pd.DataFrame:
    """Number of rows and means of all else."""
    groups = rows.groupby(by, sort=False)
    return groups.mean(numeric_only=True).assign(rows=groups.size())


def region_j(predicted: np.ndarray, truth: np.ndarray) -> float:
    """Mean over frames, (frames, side, side) bool both."""
    both, either = (predicted & truth).sum(axis=(1, 2)), (predicted | truth).sum(axis=(1, 2))
    agreed = 1 - predicted.mean(axis=(1, 2))
    return float(np.where(truth.any(axis=(1, 2)), both / np.maximum(either, 1), agreed).mean())


def _central(masks: np.ndarray) -> int:
    """The thing whose centre is nearest to the picture's, (things, side, side) bool."""
    centres = np.array([np.argwhere(mask).mean(axis=0) for mask in masks])
    return int(np.argmin(np.linalg.norm(centres - (masks.shape[1] - 1) / 2, axis=1)))


if __name__ == "__main__":
    typer.run(main)
