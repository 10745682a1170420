"""Read Ref-YouTube-VOS: sentences, each about one object, and frames without sound.

    meta_expressions/<split>/meta_expressions.json   by video: frames; expressions: exp and obj_id
    <split>/JPEGImages/<video>/<frame>.jpg
    <split>/Annotations/<video>/<frame>.png          palette pictures, whose values are object ids

The masks of `valid` are not published: its videos are left out unless there are any.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sam2love.convert.clip import HELD_OUT, Clip, evenly, read_videos, too_short


def clips(source: Path, *, frames: int) -> Iterator[Clip | str]:
    """Yield the clips: N frames of each video, evenly spaced.

    Of every ten videos of train, by name, the first is in val and the second in test_s; videos of
    valid are in test_s.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or an object is in no mask.
    """
    for split in ("train", "valid"):
        table = source / "meta_expressions" / split / "meta_expressions.json"
        if split == "valid" and not table.is_file():
            continue
        for number, (name, video) in enumerate(sorted(read_videos(table).items())):
            if split == "valid" and not (source / split / "Annotations" / name).is_dir():
                yield "no masks in valid/Annotations"
                continue
            held_out = {0: "val", 1: "test_s"}.get(number % HELD_OUT, "train")
            target = "test_s" if split == "valid" else held_out
            yield _clip(source / split, table, name, video, target, frames)


def _clip(
    folder: Path, table: Path, name: str, video: dict[str, Any], split: str, frames: int
) -> Clip | str:
    names = sorted(video["frames"])
    if len(names) < frames:
        return too_short(frames)
    chosen = [names[t] for t in evenly(len(names), frames=frames)]
    each = [_ids(folder, name, frame) for frame in chosen]
    if len({ids.shape for ids in each}) > 1:
        raise ValueError(f"{folder / 'Annotations' / name}: its masks differ in size")
    ids = np.stack(each)  # (N, H, W)
    sentences = [
        (_object_id(table, name, expression), expression["exp"])
        for expression in video["expressions"].values()
    ]
    objects = {fid: ids == fid for fid, _ in sentences}
    for fid, masks in objects.items():
        if not masks.any() and not any((_ids(folder, name, t) == fid).any() for t in names):
            raise ValueError(
                f"{folder / 'Annotations' / name}: object {fid} is in none of its masks, but an "
                f"expression of {table} refers to it"
            )
    pictures = [folder / "JPEGImages" / name / f"{frame}.jpg" for frame in chosen]
    return Clip(name, split, pictures, None, objects, sentences)


def _object_id(table: Path, name: str, expression: dict[str, Any]) -> int:
    found = str(expression.get("obj_id", ""))
    if not found.isascii() or not found.isdigit() or int(found) == 0:
        raise ValueError(f"{table}: video {name!r} has obj_id {found!r}, expected a number above 0")
    return int(found)


def _ids(folder: Path, name: str, frame: str) -> np.ndarray:
    """Return the object id of each pixel: (H, W) uint8."""
    path = folder / "Annotations" / name / f"{frame}.png"
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected the masks of each frame")
    try:
        with Image.open(path, formats=("PNG",)) as picture:
            mode, ids = picture.mode, np.asarray(picture)
    except (OSError, SyntaxError) as error:
        raise ValueError(f"{path}: not a readable picture ({error})") from None
    if mode not in ("P", "L"):
        raise ValueError(f"{path}: mode {mode}, expected a palette picture of object ids")
    return ids
