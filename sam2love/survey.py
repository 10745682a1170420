"""What of a data set can be used, and everything that is wrong or odd about it.

A fault is fatal if it keeps its row or clip from being used: the stage `index` stops at it. Others
are notes: the row or clip is used as it is. Nothing is mended.
"""

import os
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from sam2love import refavs
from sam2love.refavs import CLIP_COLUMNS, CLIP_SECONDS, EXPRESSION_COLUMNS, SPLITS, UNUSABLE_SPLIT

LISTED = 5
MAX_WORDS = 25
"""As many tokens as the benchmark's own loader keeps; a word is one or more."""
FULL_BAND_HZ = 16000
"""What VGGish hears; a lower sample rate leaves the upper part of its spectrum empty."""
PLACEHOLDER = re.compile(r"no\.?|\[error\].*", re.IGNORECASE | re.DOTALL)
"""What the benchmark's annotation tool left where there should be an expression."""
MAX_NAME_BYTES = 255
LAST_LATIN = 0x24F
NEEDED_FOR = {
    "train": "training",
    "val": "validation and gate",
    "test_s": "scores on seen objects",
    "test_u": "scores on unseen objects",
    "test_n": "scores on null",
}

Columns = dict[str, Any]


@dataclass(frozen=True)
class Fault:
    """What is wrong or odd about a file or row.

    where: the file, or row of metadata.csv (0-based, the header not counted).
    what: what was found, what was expected, what to do.
    kind: in plural; faults of a kind are listed together.
    fatal: whether it keeps what it names from being used.
    """

    where: str
    what: str
    kind: str
    fatal: bool = True

    def __str__(self) -> str:
        text = f"{self.where}: {self.what}"
        return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


@dataclass(frozen=True)
class Survey:
    """A data set looked through.

    table: every row of metadata.csv, as `refavs.read_metadata` gives it.
    index: the clips and expressions without fatal faults. If media/ or gt_mask/ is missing as a
        whole, no clip, and the expressions by metadata.csv alone.
    faults: all of them.
    """

    table: pd.DataFrame
    index: refavs.Index
    faults: list[Fault]


def listing(faults: Iterable[Fault], *, every: bool = False) -> list[str]:
    """A line for each fault, fatal ones first; of many of a kind the first few and a count."""
    kinds: dict[tuple[str, str], list[str]] = {}
    for fault in sorted(faults, key=lambda fault: not fault.fatal):
        label = "fatal" if fault.fatal else "note"
        kinds.setdefault((label, fault.kind), []).append(f"{label}: {fault}")
    lines = []
    for (label, kind), alike in kinds.items():
        shown = alike if every else alike[:LISTED]
        lines += shown
        if len(shown) < len(alike):
            lines.append(f"{label}: {len(alike)} {kind} in all; sam2love check --all lists them")
    return lines


def build_index(root: str | Path) -> refavs.Index:
    """Read, check and hash the whole data set.

    Raises:
        FileNotFoundError, ValueError: metadata.csv can't be read, or what `checked` raises.
    """
    return checked(survey(root))


def checked(found: Survey) -> refavs.Index:
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
        FileNotFoundError, ValueError: metadata.csv or families.csv can't be read as a table.
    """
    root = Path(root)
    table = refavs.read_metadata(root)
    families = refavs.read_families(root)
    unusable = unusable_rows(table)
    usable = table[~table["row"].isin(unusable)]
    faults = [*unusable.values(), *_row_notes(usable)]
    expressions = usable[EXPRESSION_COLUMNS].astype({"fid": int}).reset_index(drop=True)
    missing = refavs.missing_folders(root)
    if missing:
        what = f"no {' and no '.join(missing)} in it; no clip was checked, metadata.csv only"
        faults.append(Fault(str(root), what, "folders"))
    clips: list[Columns] = []
    for clip, clip_faults in [] if missing else _examine_clips(root, expressions, progress):
        faults += clip_faults
        if not any(fault.fatal for fault in clip_faults):
            clips.append(clip)
    index = _assemble(clips, expressions, families)
    if missing:
        index = refavs.Index(clips=index.clips, expressions=expressions, families=families)
    return Survey(table=table, index=index, faults=faults)


def _assemble(
    clips: list[Columns], expressions: pd.DataFrame, families: pd.DataFrame
) -> refavs.Index:
    splits = dict(zip(expressions["key"], expressions["split"], strict=True))
    frames_keys: dict[str, str] = {}
    for clip in clips:  # sorted by key, so the first to show the frames names them
        clip["split"] = splits[clip["key"]]
        clip["frames_key"] = frames_keys.setdefault(clip["frames_digest"], clip["key"])
    table = pd.DataFrame(clips, columns=CLIP_COLUMNS)
    kept = expressions[expressions["key"].isin(table["key"])].reset_index(drop=True)
    return refavs.Index(clips=table, expressions=kept, families=families)


# ---- rows ---------------------------------------------------------------------------------------


def unusable_rows(table: pd.DataFrame) -> dict[int, Fault]:
    """Why rows of what `refavs.read_metadata` returns can't be used, by row."""
    splits = table[table["split"].isin(SPLITS)].groupby("key")["split"].agg(set)
    return {
        entry.row: Fault(_row(entry), *reason)
        for entry in table.itertuples()
        if (reason := _unusable(entry, splits.get(entry.key, set())))
    }


def _row_notes(rows: pd.DataFrame) -> Iterator[Fault]:
    """What is odd about usable rows."""
    for entry in rows.itertuples():
        if PLACEHOLDER.fullmatch(entry.exp.strip()):
            what = f"{entry.exp!r} is no expression but what the annotation tool left"
            yield Fault(_row(entry), what, "placeholders", fatal=False)
        elif what := _oddity(entry.exp):
            yield Fault(_row(entry), what, "odd expressions", fatal=False)
    for uid, same in rows.groupby("uid", sort=False)["row"]:
        if len(same) > 1:
            what = f"the same uid {uid!r}; scores go by row"
            yield Fault(rows_named(same), what, "uids of several rows", fatal=False)
    for split in SPLITS:
        if not (rows["split"] == split).any():
            what = f"no usable rows of split {split!r}; without them no {NEEDED_FOR[split]}"
            yield Fault("metadata.csv", what, "splits", fatal=False)


def rows_named(rows: Iterable[int]) -> str:
    """Rows of metadata.csv, the first few of many."""
    numbers = list(map(str, rows))
    more = f" and {len(numbers) - LISTED} more" if len(numbers) > LISTED else ""
    return f"metadata.csv row{'s' * (len(numbers) > 1)} {', '.join(numbers[:LISTED])}{more}"


def _row(entry: Any) -> str:
    return f"metadata.csv row {entry.row} (uid {entry.uid!r})"


def _unusable(entry: Any, splits: set[str]) -> tuple[str, str, bool] | None:
    """What keeps a row from being used, its kind, and whether that is fatal.

    Args:
        splits: in which the row's clip stands.
    """
    uid, split, fid = entry.uid, entry.split, entry.fid
    if split == UNUSABLE_SPLIT:
        return (
            f"marked {UNUSABLE_SPLIT} by the benchmark, left out",
            f"{UNUSABLE_SPLIT} rows",
            False,
        )
    if split not in SPLITS:
        what = f"unknown split {split!r}, expected one of {', '.join(SPLITS)}"
    elif uid.count("_") < 2:
        what = "the uid does not end in _<object>_<number>"
    elif entry.key in ("", ".", "..") or any(letter in uid for letter in "/\\\0"):
        what = "the uid names no folder inside the data set"
    elif len(os.fsencode(uid)) > MAX_NAME_BYTES:
        what = f"the uid is too long for a folder, at most {MAX_NAME_BYTES} bytes"
    elif not (fid.isascii() and fid.isdigit() and len(fid) <= 6):
        what = f"fid {fid!r} is no number of an object"
    elif not entry.exp.strip():
        what = "the expression is empty"
    elif len(splits) > 1:
        what = f"clip {entry.key} stands in several splits: {', '.join(sorted(splits))}"
    else:
        return None
    return what, "faulty rows", True


def _oddity(text: str) -> str | None:
    if (words := len(text.split())) > MAX_WORDS:
        return f"the expression has {words} words; text.max_tokens cuts it off"
    if not text.strip().isprintable():
        return "the expression has line breaks or other control characters"
    if re.search(r"<[^<>]+>|&\w+;", text):
        return "the expression has markup, which is read as text"
    if any(unicodedata.category(c)[0] in "LS" and ord(c) > LAST_LATIN for c in text):
        return "the expression has letters or signs that are not Latin"
    return None


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
    frames = refavs.read_frames(root, clip["key"])
    folder = refavs.frame_path(root, clip["key"], 0).parent
    height, width = frames.shape[1:3]
    digest = refavs.frames_digest(root, clip["key"])
    notes = [(str(folder), "gray pictures; no colour can be told")] if _gray(frames) else []
    return {"height": height, "width": width, "frames_digest": digest}, notes


def _sound(root: Path, clip: Columns) -> tuple[Columns, list[tuple[str, str]]]:
    samples, sample_rate_hz = refavs.read_channels(root, clip["key"])
    seconds, channels = len(samples) / sample_rate_hz, samples.shape[1]
    whats = []
    if abs(seconds - CLIP_SECONDS) > 0.1 * CLIP_SECONDS:
        done = "filled up with silence" if seconds < CLIP_SECONDS else "the rest is cut off"
        whats.append(f"{seconds:.1f} s of sound, expected {CLIP_SECONDS}; {done}")
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
    null = refavs.is_null(clip["key"])
    height, width = pictures.shape[1:3]
    whats = []
    if "height" in clip and (height, width) != (clip["height"], clip["width"]):
        size = f"{clip['width']}x{clip['height']}"
        whats.append(f"masks are {width}x{height}, frames {size}; scored at the masks' size")
    if null and pictures.any():
        whats.append("not black though the clip is null; black them or remove them")
    elif not null and not pictures.any():
        whats.append("black on every frame though the clip is not null")
    if not _gray(pictures) or ((pictures > 0) & (pictures < 255)).any():
        whats.append("not black and white; whatever is not black counts as the object")
    folder = str(refavs.mask_path(root, clip["key"], fid, 0).parent)
    return {}, [(folder, what) for what in whats]


def _gray(pictures: np.ndarray) -> bool:
    """Whether pictures (N, H, W, 3) have no colour."""
    return all(np.array_equal(pictures[..., 0], pictures[..., other]) for other in (1, 2))
