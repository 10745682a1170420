"""Read AVSBench: frames and sound, without sentences; the objects that sound are one mask.

Three layouts, told apart by their table:

    s4_meta_data.csv   video (first column), category, split
        s4_data/visual_frames/<split>/<category>/<video>/<video>_{1..5}.png
        s4_data/gt_masks/<split>/<category>/<video>/<video>_{1..5}.png, of train {1}.png alone
        s4_data/audio_wav/<split>/<category>/<video>.wav
    ms3_meta_data.csv  video (first column), split
        ms3_data/visual_frames/<video>/<video>.mp4_{1..5}.png
        ms3_data/gt_masks/<split>/<video>/<video>_{1..5}.png
        ms3_data/audio_wav/<split>/<video>.wav
    metadata.csv       uid, split, label: v1s, v1m or v2 (AVSBench-semantic, AVSS)
        <label>/<uid>/frames/{0..}.jpg, labels_rgb/{0..}.png and audio.wav

Source: data loaders and preprocessing scripts of the benchmark's repository, OpenNLPLab/AVSBench.
"""

import csv
from collections.abc import Iterator
from itertools import count, takewhile
from pathlib import Path

import numpy as np

from sam2love.convert.clip import Clip, too_short
from sam2love.dataset.index import read_table
from sam2love.dataset.pictures import read_pictures, stacked

SENTENCE = "The sounding object."
"""Of every row: the layout requires one, and a model without the modality text doesn't see it."""
SPLITS = {"train": "train", "val": "val", "test": "test_s"}
V1_FRAMES = 5


def clips(source: Path, *, frames: int) -> Iterator[Clip | str]:
    """Yield the clips of S4, MS3 or AVSS: the first N frames and seconds of each video.

    Raises:
        FileNotFoundError, ValueError: there is none of the tables, or a file or column is missing.
    """
    for table, read in (
        ("s4_meta_data.csv", _single_source),
        ("ms3_meta_data.csv", _multiple_sources),
        ("metadata.csv", _semantic),
    ):
        if (source / table).is_file():
            yield from read(source, source / table, frames)
            return
    raise FileNotFoundError(
        f"{source}: no s4_meta_data.csv, ms3_meta_data.csv or metadata.csv in it; expected AVSBench"
    )


def _single_source(source: Path, table: Path, frames: int) -> Iterator[Clip | str]:
    rows = read_table(table, [_first_column(table), "category", "split"])
    for name, category, split in rows.itertuples(index=False):
        data, folder = source / "s4_data", Path(split, category)
        yield _clip(
            f"{category}_{name}",
            _split(split, table),
            [
                data / "visual_frames" / folder / name / f"{name}_{number}.png"
                for number in range(1, V1_FRAMES + 1)
            ],
            [
                data / "gt_masks" / folder / name / f"{name}_{number}.png"
                for number in range(1, (1 if split == "train" else V1_FRAMES) + 1)
            ],
            data / "audio_wav" / folder / f"{name}.wav",
            frames,
        )


def _multiple_sources(source: Path, table: Path, frames: int) -> Iterator[Clip | str]:
    rows = read_table(table, [_first_column(table), "split"])
    for name, split in rows.itertuples(index=False):
        data, numbers = source / "ms3_data", range(1, V1_FRAMES + 1)
        yield _clip(
            name,
            _split(split, table),
            [data / "visual_frames" / name / f"{name}.mp4_{number}.png" for number in numbers],
            [data / "gt_masks" / split / name / f"{name}_{number}.png" for number in numbers],
            data / "audio_wav" / split / f"{name}.wav",
            frames,
        )


def _semantic(source: Path, table: Path, frames: int) -> Iterator[Clip | str]:
    for uid, split, label in read_table(table, ["uid", "split", "label"]).itertuples(index=False):
        folder = source / label / uid
        pictures = list(takewhile(Path.is_file, (folder / "frames" / f"{t}.jpg" for t in count())))
        if not pictures:
            raise FileNotFoundError(f"{folder}/frames/0.jpg: no such file, but {table} names it")
        annotated = 1 if (label, split) == ("v1s", "train") else len(pictures)
        masks = [folder / "labels_rgb" / f"{t}.png" for t in range(annotated)]
        yield _clip(uid, _split(split, table), pictures, masks, folder / "audio.wav", frames)


def _first_column(table: Path) -> str:
    """Return the name of the column with the videos, of which only the place is documented."""
    with table.open(encoding="utf-8-sig", newline="") as file:
        return next(csv.reader(file), [""])[0]


def _split(name: str, table: Path) -> str:
    if name not in SPLITS:
        raise ValueError(f"{table}: split {name!r}, expected one of {', '.join(SPLITS)}")
    return SPLITS[name]


def _clip(
    key: str, split: str, pictures: list[Path], masks: list[Path], sound: Path, frames: int
) -> Clip | str:
    """Return a clip whose frames without a mask, in train alone, have a black one."""
    if len(pictures) < frames:
        return too_short(frames)
    annotated = stacked(read_pictures(masks[:frames]))  # (n, H, W, 3)
    shown = np.zeros((frames, *annotated.shape[1:3]), bool)
    shown[: len(annotated)] = annotated.any(axis=-1)
    return Clip(key, split, pictures[:frames], sound, {1: shown}, [(1, SENTENCE)])
