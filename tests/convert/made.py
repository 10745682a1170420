"""Write small data sets of sentences about videos without sound, and run the pipeline on any."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests import tiny

HEIGHT, WIDTH = 24, 32


def write_frames(folder: Path, names: list[str]) -> None:
    """Write a video's pictures, each of its own gray."""
    folder.mkdir(parents=True)
    for t, name in enumerate(names):
        pixels = np.full((HEIGHT, WIDTH, 3), 10 * t + 20, np.uint8)
        Image.fromarray(pixels).save(folder / f"{name}.jpg")


def write_json(path: Path, content: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def box(t: int, *, left: int) -> np.ndarray:
    """Return a box that grows with the frames: (HEIGHT, WIDTH) bool."""
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[2 : 6 + t, left : left + 8] = True
    return mask


def scores(root: Path, *, frames: int, modalities: list[str]) -> dict:
    """Run every stage in the working folder, which has params.yaml; return the scores by split."""
    changes = {"data.root": str(root), "data.frames": frames, "fusion.modalities": modalities}
    tiny.change_params(Path("params.yaml"), changes)
    for _, stage in tiny.stage_runs(root):
        stage()
    return json.loads(Path("metrics.json").read_text())["refavs"]
