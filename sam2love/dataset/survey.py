"""Find the usable part of a data set, and everything wrong or unusual about its files and rows."""

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
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
from sam2love.dataset.refavs import FRAMES
from sam2love.dataset.rows import kinds_faults, row_notes, usable_rows

FULL_BAND_HZ = 16000
"""VGGish's sample rate; lower ones leave the upper part of its spectrum empty."""

SLACK_SECONDS = 0.1
"""Deviation from the clip's length that gets no note; audio codecs pad by less."""
NAMES_LISTED = 3

Columns = dict[str, Any]


@dataclass(frozen=True)
class Tables:
    """The tables of a data set, checked before any clip is read.

    table: every row of metadata.csv, as `read_metadata` returns it.
    index: without clips, and with the expressions that are usable according to metadata.csv.
    faults: of the rows, and folders that are missing or that no row names.
    """

    root: Path
    table: pd.DataFrame
    index: Index
    faults: list[Fault]


@dataclass(frozen=True)
class Survey:
    """The contents and faults of a data set.

    index: the clips and expressions without fatal faults; if media/ or gt_mask/ is missing, that
        of `Tables`.
    faults: all faults, fatal or not, those of the tables first.
    """

    index: Index
    faults: list[Fault]


def checked(found: Survey) -> Index:
    """Return the index of a data set that has no fatal fault.

    Raises:
        ValueError: there are fatal faults, which the message lists, or no usable rows.
    """
    fatal = [fault for fault in found.faults if fault.fatal]
    if fatal:
        summary = f"fatal faults in the data set: {len(fatal)}; fix or remove what is listed"
        raise ValueError("\n".join([summary, *listing(fatal)]))
    if found.index.expressions.empty:
        raise ValueError(f"no usable row in metadata.csv: all are marked {UNUSABLE_SPLIT}")
    return found.index


def survey(root: str | Path, *, frames: int = FRAMES) -> Survey:
    """Read and check metadata.csv and every frame, sound and mask of its clips.

    Raises:
        FileNotFoundError, ValueError: see `survey_tables`.
    """
    return survey_clips(survey_tables(root), frames=frames)


def survey_tables(root: str | Path) -> Tables:
    """Read and check metadata.csv and the tables next to it; takes seconds.

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
        what = f"no {' and no '.join(missing)} in it; only metadata.csv was checked, no clips"
        faults.append(Fault(str(root), what, "folders"))
    else:
        faults += _unnamed_folders(root, set(table["key"]))
    no_clips = pd.DataFrame(columns=CLIP_COLUMNS)
    return Tables(root, table, Index(no_clips, expressions, families, kinds), faults)


def survey_clips(tables: Tables, *, frames: int = FRAMES) -> Survey:
    """Read and check every frame, sound and mask, unless media/ or gt_mask/ is missing."""
    if refavs.missing_folders(tables.root):
        return Survey(tables.index, tables.faults)
    faults, clips = [*tables.faults], []
    for clip, clip_faults in _examine_clips(tables.root, tables.index.expressions, frames):
        faults += clip_faults
        if not any(fault.fatal for fault in clip_faults):
            clips.append(clip)
    clip_table, kept = _assemble(clips, tables.index.expressions)
    return Survey(replace(tables.index, clips=clip_table, expressions=kept), faults)


def _unnamed_folders(root: Path, keys: set[str]) -> Iterator[Fault]:
    for name in ("media", "gt_mask"):
        folders = {path.name for path in (root / name).glob("[!.]*/")}
        if unnamed := sorted(folders - keys):
            what = f"ignored folders, named by no row of metadata.csv: {_some(unnamed)}"
            yield Fault(str(root / name), what, "folders", fatal=False)


def _some(names: list[str]) -> str:
    """Return the first few of some names and their number."""
    more = ", ..." if len(names) > NAMES_LISTED else ""
    return f"{', '.join(names[:NAMES_LISTED])}{more} ({len(names)} in all)"


def _assemble(clips: list[Columns], expressions: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table of clips and the expressions whose clip is in it."""
    splits = dict(zip(expressions["key"], expressions["split"], strict=True))
    frames_keys: dict[str, str] = {}
    for clip in clips:  # sorted by key, so the first clip with the same frames names them
        clip["split"] = splits[clip["key"]]
        clip["frames_key"] = frames_keys.setdefault(clip["frames_digest"], clip["key"])
    table = pd.DataFrame(clips, columns=CLIP_COLUMNS)
    kept = expressions[expressions["key"].isin(table["key"])].reset_index(drop=True)
    return table, kept


# ---- clips --------------------------------------------------------------------------------------


def _examine_clips(
    root: Path, expressions: pd.DataFrame, frames: int
) -> Iterator[tuple[Columns, list[Fault]]]:
    fids = expressions.groupby("key")["fid"].agg(set)
    keys = sorted(fids.index)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        examined: Iterable = pool.map(lambda key: _examine_clip(root, key, fids[key], frames), keys)
        yield from tqdm(examined, "checking clips", len(keys), unit="clip")


def _examine_clip(root: Path, key: str, fids: set[int], frames: int) -> tuple[Columns, list[Fault]]:
    """Decode and hash a clip's files; return its row of the index, without split, and faults."""
    clip: Columns = {"key": key}
    faults = []
    examinations: list[tuple[str, Path, Callable]] = [
        ("frames", refavs.frame_path(root, key, 0).parent, _frames),
        ("sounds", refavs.audio_path(root, key), _sound),
    ]
    for fid in sorted(fids | set(refavs.objects(root, key))):
        masks_folder = refavs.mask_path(root, key, fid, 0).parent
        examinations.append(("masks", masks_folder, partial(_masks, fid=fid)))
    for kind, path, examine in examinations:
        try:
            columns, notes = examine(root, clip, frames)
        except (OSError, ValueError) as error:
            where, _, what = str(error).partition(": ")
            faults.append(Fault(where, what, kind))
            continue
        clip |= columns
        faults += [Fault(str(path), what, kind, fatal=False) for what in notes]
    return clip | {"masks_digest": refavs.masks_digest(root, key)}, faults


def _frames(root: Path, clip: Columns, frames: int) -> tuple[Columns, list[str]]:
    paths = refavs.frame_paths(root, clip["key"], frames=frames)
    pictures = read_pictures(paths)
    pixels = stacked(pictures)  # (frames, H, W, 3)
    notes = _unread(paths)
    if any(picture.orientation > 1 for picture in pictures):
        notes.append("EXIF orientation applied; the benchmark's own code leaves frames as stored")
    if any(picture.alpha is not None for picture in pictures):
        notes.append("partly transparent; alpha is ignored, colours are read as if opaque")
    if _gray(pixels):
        notes.append("gray pictures; colours named in expressions can't be recognised")
    height, width = pixels.shape[1:3]
    digest = refavs.frames_digest(root, clip["key"], frames=frames)
    return {"height": height, "width": width, "frames_digest": digest}, notes


def _sound(root: Path, clip: Columns, frames: int) -> tuple[Columns, list[str]]:
    samples, sample_rate_hz = refavs.read_channels(root, clip["key"])  # (n, channels)
    seconds, channels = len(samples) / sample_rate_hz, samples.shape[1]
    notes = []
    if abs(seconds - frames) > SLACK_SECONDS:
        remedy = "padded with silence" if seconds < frames else "the rest is cut off"
        notes.append(f"{seconds:.1f} s of sound, expected {frames}; {remedy}")
    if (peak := np.abs(samples).max()) > 1:
        notes.append(
            f"samples up to {peak:g}, full scale is 1; read as they are, so rescale integers that "
            "were written as floats"
        )
    if channels > 2:
        notes.append(f"{channels} channels, averaged like stereo")
    if sample_rate_hz < FULL_BAND_HZ:
        notes.append(f"sampled at {sample_rate_hz} Hz; nothing above {sample_rate_hz // 2} Hz")
    return {"audio_digest": refavs.audio_digest(root, clip["key"])}, notes


def _masks(root: Path, clip: Columns, frames: int, *, fid: int) -> tuple[Columns, list[str]]:
    pictures = refavs.read_mask_pictures(root, clip["key"], fid, frames=frames)
    if pictures is None:
        return {}, []
    pixels = stacked(pictures)  # (frames, H, W, 3)
    shown = above_black(pixels)  # (frames, H, W)
    notes = _unread(refavs.mask_paths(root, clip["key"], fid, frames=frames))
    height, width = shown.shape[1:]
    if "height" in clip and (height, width) != (clip["height"], clip["width"]):
        size = f"{clip['width']}x{clip['height']}"
        notes.append(f"masks are {width}x{height}, frames {size}; scored at the masks' size")
    null = is_null(clip["key"])
    if null and shown.any():
        notes.append("not black although the clip is null; make them black or remove them")
    elif not null and not shown.any():
        notes.append("black on every frame although the clip is not null")
    elif not null and shown.all():
        notes.append("the object fills every frame completely")
    if not _gray(pixels) or ((pixels > 0) & (pixels < 255)).any():
        notes.append("not black and white; the object is where OpenCV's gray is above 0")
    if (lost := pixels.any(axis=-1) & ~shown).any():
        colour = tuple(pixels[lost][0].tolist())
        notes.append(f"colours such as RGB {colour} have a gray of 0 and are not the object")
    if any(
        picture.alpha is not None and ((picture.alpha > 0) != mask).any()
        for picture, mask in zip(pictures, shown, strict=True)
    ):
        notes.append("alpha differs from the object; colours are read as if opaque")
    if any(picture.bits == 16 and (picture.pixels == 1).any() for picture in pictures):
        notes.append("16 bits; the benchmark's own code reads values under 256 as black")
    return {}, notes


def _unread(paths: list[Path]) -> list[str]:
    unread = refavs.unread_pictures(paths)
    if not unread:
        return []
    read = f"only the {len(paths)} pictures {paths[0].name} to {paths[-1].name} are read"
    return [f"{read}; ignored: {_some(unread)}"]


def _gray(pictures: np.ndarray) -> bool:
    """Return whether pictures (N, H, W, 3) have no colour."""
    return all(np.array_equal(pictures[..., 0], pictures[..., other]) for other in (1, 2))
