"""What of a data set can be used, and everything that is wrong or odd about its files and rows."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from sam2love.dataset import refavs
from sam2love.dataset.faults import Fault, listing
from sam2love.dataset.index import (
    CLIP_COLUMNS,
    UNUSABLE_SPLIT,
    Index,
    is_null,
    read_families,
    read_kinds,
    read_metadata,
)
from sam2love.dataset.pictures import above_black, read_pictures, stacked
from sam2love.dataset.refavs import CLIP_SECONDS, FRAMES
from sam2love.dataset.rows import kinds_faults, row_notes, usable_rows

FULL_BAND_HZ = 16000
"""What VGGish hears; a lower sample rate leaves the upper part of its spectrum empty."""

SLACK_SECONDS = 0.1
"""How far a sound's length may be off without a note; encoders of sound pad by less."""
NAMES_LISTED = 3

Columns = dict[str, Any]


@dataclass(frozen=True)
class Survey:
    """A data set looked through.

    table: every row of metadata.csv, as `read_metadata` gives it.
    index: the clips and expressions without fatal faults. If media/ or gt_mask/ is missing as a
        whole, no clip, and the expressions by metadata.csv alone.
    faults: all of them.
    """

    table: pd.DataFrame
    index: Index
    faults: list[Fault]


def checked(found: Survey) -> Index:
    """The index of a data set without fatal faults.

    Raises:
        ValueError: there are fatal faults, which are listed, or no rows to use.
    """
    fatal = [fault for fault in found.faults if fault.fatal]
    if fatal:
        listed = "\n".join(listing(fatal))
        told = f"fatal faults in the data set: {len(fatal)}; mend or remove what they name"
        raise ValueError(f"{told}\n{listed}")
    if found.index.expressions.empty:
        raise ValueError(f"no usable row in metadata.csv: all are marked {UNUSABLE_SPLIT}")
    return found.index


def survey(root: str | Path, *, progress: bool = False) -> Survey:
    """Read and judge metadata.csv and every frame, sound and mask that it needs.

    Raises:
        FileNotFoundError, ValueError: metadata.csv, families.csv or kinds.csv can't be read as a
            table.
    """
    root = Path(root)
    table, families, kinds = read_metadata(root), read_families(root), read_kinds(root)
    usable, unusable = usable_rows(table)
    faults = [*unusable.values(), *row_notes(usable), *kinds_faults(usable, kinds)]
    expressions = usable.reset_index(drop=True)
    if missing := refavs.missing_folders(root):
        what = f"no {' and no '.join(missing)} in it; no clip was checked, metadata.csv only"
        faults.append(Fault(str(root), what, "folders"))
        nothing = pd.DataFrame(columns=CLIP_COLUMNS)
        return Survey(table, Index(nothing, expressions, families, kinds), faults)
    faults += _unnamed_folders(root, set(table["key"]))
    clips = []
    for clip, clip_faults in _examine_clips(root, expressions, progress):
        faults += clip_faults
        if not any(fault.fatal for fault in clip_faults):
            clips.append(clip)
    clip_table, kept = _assemble(clips, expressions)
    return Survey(table, Index(clip_table, kept, families, kinds), faults)


def _unnamed_folders(root: Path, keys: set[str]) -> Iterator[Fault]:
    for name in ("media", "gt_mask"):
        folders = {path.name for path in (root / name).glob("[!.]*/")}
        if unnamed := sorted(folders - keys):
            what = f"folders that no row of metadata.csv names, left aside: {_some(unnamed)}"
            yield Fault(str(root / name), what, "folders", fatal=False)


def _some(names: list[str]) -> str:
    """The first few of some names, and their number."""
    more = ", ..." if len(names) > NAMES_LISTED else ""
    return f"{', '.join(names[:NAMES_LISTED])}{more} ({len(names)} in all)"


def _assemble(clips: list[Columns], expressions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of clips, and the expressions whose clip is in it."""
    splits = dict(zip(expressions["key"], expressions["split"], strict=True))
    frames_keys: dict[str, str] = {}
    for clip in clips:  # sorted by key, so the first to show the frames names them
        clip["split"] = splits[clip["key"]]
        clip["frames_key"] = frames_keys.setdefault(clip["frames_digest"], clip["key"])
    table = pd.DataFrame(clips, columns=CLIP_COLUMNS)
    kept = expressions[expressions["key"].isin(table["key"])].reset_index(drop=True)
    return table, kept


# ---- clips --------------------------------------------------------------------------------------


def _examine_clips(
    root: Path, expressions: pd.DataFrame, progress: bool
) -> Iterator[tuple[Columns, list[Fault]]]:
    fids = expressions.groupby("key")["fid"].agg(set)
    keys = sorted(fids.index)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        examined: Iterable = pool.map(lambda key: _examine_clip(root, key, fids[key]), keys)
        yield from tqdm(examined, "checking clips", len(keys), unit="clip", disable=not progress)


def _examine_clip(root: Path, key: str, fids: set[int]) -> tuple[Columns, list[Fault]]:
    """Decode and hash a clip's files: its row of the index, without split, and its faults."""
    clip: Columns = {"key": key}
    faults = []
    examinations: list[tuple[str, Callable]] = [("frames", _frames), ("sounds", _sound)]
    for fid in sorted(fids | set(refavs.objects(root, key))):
        examinations.append(("masks", partial(_masks, fid=fid)))
    for kind, examine in examinations:
        try:
            columns, notes = examine(root, clip)
        except (OSError, ValueError) as error:
            where, _, what = str(error).partition(": ")
            faults.append(Fault(where, what, kind))
            continue
        clip |= columns
        faults += [Fault(where, what, kind, fatal=False) for where, what in notes]
    return clip | {"masks_digest": refavs.masks_digest(root, key)}, faults


def _frames(root: Path, clip: Columns) -> tuple[Columns, list[tuple[str, str]]]:
    paths = refavs.frame_paths(root, clip["key"])
    pictures = read_pictures(paths)
    frames = stacked(pictures)
    whats = _unread(paths)
    if any(picture.orientation > 1 for picture in pictures):
        whats.append("EXIF orientation applied; the benchmark's own code leaves frames as stored")
    if any(picture.alpha is not None for picture in pictures):
        whats.append("partly transparent; alpha is ignored, colours are read as if opaque")
    if _gray(frames):
        whats.append("gray pictures; colours in expressions can't be recognised")
    height, width = frames.shape[1:3]
    digest = refavs.frames_digest(root, clip["key"])
    columns = {"height": height, "width": width, "frames_digest": digest}
    return columns, [(str(paths[0].parent), what) for what in whats]


def _sound(root: Path, clip: Columns) -> tuple[Columns, list[tuple[str, str]]]:
    samples, sample_rate_hz = refavs.read_channels(root, clip["key"])
    seconds, channels = len(samples) / sample_rate_hz, samples.shape[1]
    whats = []
    if abs(seconds - CLIP_SECONDS) > SLACK_SECONDS:
        done = "filled up with silence" if seconds < CLIP_SECONDS else "the rest is cut off"
        whats.append(f"{seconds:.1f} s of sound, expected {CLIP_SECONDS}; {done}")
    if (peak := np.abs(samples).max()) > 1:
        whats.append(
            f"samples up to {peak:g}, full scale is 1; read as they are, so divide integers that "
            "were written as floats"
        )
    if channels > 2:
        whats.append(f"{channels} channels, averaged as one or two are")
    if sample_rate_hz < FULL_BAND_HZ:
        whats.append(f"sampled at {sample_rate_hz} Hz; nothing above {sample_rate_hz // 2} Hz")
    path = str(refavs.audio_path(root, clip["key"]))
    digest = refavs.audio_digest(root, clip["key"])
    return {"audio_digest": digest}, [(path, what) for what in whats]


def _masks(root: Path, clip: Columns, *, fid: int) -> tuple[Columns, list[tuple[str, str]]]:
    pictures = refavs.read_mask_pictures(root, clip["key"], fid)
    if pictures is None:
        return {}, []
    paths = refavs.mask_paths(root, clip["key"], fid)
    pixels = stacked(pictures)
    shown = above_black(pixels)
    whats = _unread(paths)
    height, width = shown.shape[1:]
    if "height" in clip and (height, width) != (clip["height"], clip["width"]):
        size = f"{clip['width']}x{clip['height']}"
        whats.append(f"masks are {width}x{height}, frames {size}; scored at the masks' size")
    null = is_null(clip["key"])
    if null and shown.any():
        whats.append("not black though the clip is null; black them or remove them")
    elif not null and not shown.any():
        whats.append("black on every frame though the clip is not null")
    elif not null and shown.all():
        whats.append("the whole picture is the object on every frame")
    if not _gray(pixels) or ((pixels > 0) & (pixels < 255)).any():
        whats.append("not black and white; the object is where OpenCV's gray is above 0")
    if (lost := pixels.any(axis=-1) & ~shown).any():
        colour = tuple(pixels[lost][0].tolist())
        whats.append(f"colours such as RGB {colour} have a gray of 0 and are not the object")
    if any(
        picture.alpha is not None and ((picture.alpha > 0) != mask).any()
        for picture, mask in zip(pictures, shown, strict=True)
    ):
        whats.append("alpha is not the same as the object; colours are read as if opaque")
    if any(picture.bits == 16 and (picture.pixels == 1).any() for picture in pictures):
        whats.append("16 bits; values under 256 are the object, to the benchmark's own code black")
    return {}, [(str(paths[0].parent), what) for what in whats]


def _unread(paths: list[Path]) -> list[str]:
    unread = refavs.unread_pictures(paths)
    if not unread:
        return []
    expected = f"{FRAMES} pictures are read, {paths[0].name} to {paths[-1].name}"
    return [f"{expected}; left aside: {_some(unread)}"]


def _gray(pictures: np.ndarray) -> bool:
    """Whether pictures (N, H, W, 3) have no colour."""
    return all(np.array_equal(pictures[..., 0], pictures[..., other]) for other in (1, 2))
