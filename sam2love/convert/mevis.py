"""Read MeViS: sentences about the motion of one or several objects, and frames without sound.

    <split>/meta_expressions.json                videos: frames, and expressions with exp, anno_id
    <split>/mask_dict.json                       by anno_id, a COCO RLE or null for each frame
    <split>/JPEGImages/<video>/<frame>.jpg

The masks of `valid` are not published; those of `train` and `valid_u` are read.

Source: the data loaders of the benchmark's repository, henghuiding/MeViS.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco

from sam2love.convert.clip import HELD_OUT, Clip, evenly, read_json, read_videos, too_short

Masks = dict[str, list[Any]]


def clips(source: Path, *, frames: int) -> Iterator[Clip | str]:
    """Yield the clips: N frames of each video, evenly spaced.

    The first of every ten videos of train, by name, is in val; those of valid_u are in test_s. Each
    set of objects that a sentence refers to becomes one object, their union.

    Raises:
        FileNotFoundError, ValueError: a file is missing or damaged, or an annotation doesn't exist.
    """
    for split in ("train", "valid_u"):
        folder = source / split
        videos = read_videos(folder / "meta_expressions.json")
        masks = read_json(folder / "mask_dict.json")
        for number, (name, video) in enumerate(sorted(videos.items())):
            held_out = "train" if number % HELD_OUT else "val"
            target = "test_s" if split == "valid_u" else held_out
            yield _clip(folder, name, video, masks, target, frames)


def _clip(
    folder: Path, name: str, video: dict[str, Any], masks: Masks, split: str, frames: int
) -> Clip | str:
    names = sorted(video["frames"])
    if len(names) < frames:
        return too_short(frames)
    chosen = evenly(len(names), frames=frames)
    fids: dict[tuple[str, ...], int] = {}
    sentences = []
    for expression in video["expressions"].values():
        ids = tuple(sorted(map(str, expression.get("anno_id", []))))
        if not ids:
            where = folder / "meta_expressions.json"
            raise ValueError(f"{where}: an expression of video {name!r} has no anno_id")
        sentences.append((fids.setdefault(ids, len(fids) + 1), expression["exp"]))
    objects = {
        fid: _union(folder, name, ids, masks, len(names), chosen) for ids, fid in fids.items()
    }
    pictures = [folder / "JPEGImages" / name / f"{names[t]}.jpg" for t in chosen]
    return Clip(name, split, pictures, None, objects, sentences)


def _union(
    folder: Path, name: str, ids: tuple[str, ...], masks: Masks, count: int, chosen: list[int]
) -> np.ndarray:
    """Return the union of some annotations on the chosen frames of a video: (N, H, W) bool."""
    where = folder / "mask_dict.json"
    for number in ids:
        if number not in masks:
            raise ValueError(f"{where}: no annotation {number}, which video {name!r} refers to")
        if len(masks[number]) != count:
            raise ValueError(
                f"{where}: annotation {number} has {len(masks[number])} frames, video {name!r} has "
                f"{count}"
            )
    size = next((rle["size"] for number in ids for rle in masks[number] if rle), None)
    if size is None:
        raise ValueError(f"{where}: annotations {', '.join(ids)} are empty on every frame")
    union = np.zeros((len(chosen), *size), bool)
    for mask, t in zip(union, chosen, strict=True):
        for rle in (masks[number][t] for number in ids):
            if rle:
                decoded = _decode(rle, f"{where}: an annotation of video {name!r}")
                if decoded.shape != mask.shape:
                    raise ValueError(f"{where}: annotations of video {name!r} differ in size")
                mask |= decoded
    return union


def _decode(rle: dict[str, Any], where: str) -> np.ndarray:
    """Return the mask of a COCO RLE: (H, W) bool."""
    try:
        return coco.decode(rle).astype(bool)  # type: ignore[arg-type]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where} is not a COCO RLE ({error})") from None
