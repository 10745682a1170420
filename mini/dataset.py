"""Write the mini Ref-AVS, a data set in the official layout.

    python -m mini.dataset mini/data

Reads section `dataset` of mini/params.yaml. Writes metadata.csv, media/, gt_mask/ and, beyond the
layout, families.csv (uid, family) and kinds.csv (uid, kinds: seen or unseen in train), by which
scores are broken down. The benchmark's val has seen kinds only; here its second part shows kinds
that neither train nor test_u has, so that settings can be chosen for unseen kinds without looking
at test rows. Every clip has its own generator, seeded by (seed, split, number), so the output does
not depend on the number of workers. Takes about a minute on two cores.
"""

import shutil
import string
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, NamedTuple

import numpy as np
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from mini import story
from mini.layout import encode_jpeg, write_csv, write_masks, write_media
from mini.story import Part, Story

SPLITS = ("train", "val", "test_s", "test_u", "test_n")
NULL_FAMILY = "null"
BLACK_EVERY = 4  # one null clip in four has black masks, the others none: the benchmark has both

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of parameters; unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Clips(Section):
    """Number of clips per split; those of test_n are null twins of clips of test_s."""

    train: Count
    val: Count
    val_unseen: Count
    """Additional clips of val, whose kinds are in no other split."""
    test_s: Count
    test_u: Count
    test_n: Count


class Params(Section):
    """Section `dataset` of mini/params.yaml."""

    seed: int
    side: Annotated[int, Field(ge=32)]
    """Pixels per side."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    noise_db: Annotated[float, Field(le=0)]
    """Background noise, root mean square relative to full scale."""
    null_share: Annotated[float, Field(ge=0, lt=1)]
    """Approximate fraction of null rows in train and in val."""
    clips: Clips


class Job(NamedTuple):
    """A clip to write, with its null twin if it has one."""

    split: str
    number: int
    part: Part
    """The part of the kinds that it shows."""
    null: str | None
    """Prefix of the twin's key: null_m (muted) or null_c (changed)."""
    black: bool
    """Whether the twin has black masks."""


class Row(NamedTuple):
    """A row of metadata.csv, and its family and part for the other files."""

    vid: str
    uid: str
    split: str
    fid: int
    exp: str
    family: str
    part: Part


def main(
    out: Annotated[Path, typer.Argument(help="Folder to write; replaced if it exists.")],
    params: Annotated[Path, typer.Option(help="Parameter file with a section `dataset`.")] = Path(
        "mini/params.yaml"
    ),
    workers: Annotated[int, typer.Option(help="Worker processes.")] = 2,
) -> None:
    """Write the mini Ref-AVS."""
    section = yaml.safe_load(params.read_text())["dataset"]
    rows = write_dataset(out, Params.model_validate(section), workers=workers)
    print(f"{len(rows)} rows in {out}: {dict(Counter(row.split for row in rows))}")


def write_dataset(out: Path, params: Params, *, workers: int = 2) -> list[Row]:
    """Write the data set and return its rows in the order of metadata.csv."""
    partial_out = out.with_name(out.name + ".partial")
    shutil.rmtree(partial_out, ignore_errors=True)
    partial_out.mkdir(parents=True)
    jobs = plan(params)
    with ProcessPoolExecutor(workers) as pool:
        written = pool.map(write_clip, repeat(partial_out), repeat(params), jobs, chunksize=4)
        lists = list(tqdm(written, total=len(jobs), desc=f"writing {out}", unit="clip"))
    # In the benchmark's order: by clip, splits mixed, all null rows last.
    rows = sorted(chain.from_iterable(lists), key=_sort_key)
    write_csv(partial_out / "metadata.csv", Row._fields[:5], [row[:5] for row in rows])
    write_csv(partial_out / "families.csv", ("uid", "family"), [(r.uid, r.family) for r in rows])
    kinds = [(row.uid, "seen" if row.part == "seen" else "unseen") for row in rows]
    write_csv(partial_out / "kinds.csv", ("uid", "kinds"), kinds)
    _replace(out, partial_out)
    return rows


def _replace(out: Path, new: Path) -> None:
    """Rename `new` to `out`, which is never incomplete."""
    old = out.with_name(out.name + ".old.partial")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def plan(params: Params) -> list[Job]:
    """List every clip with pictures of its own, and decide which of them have a null twin.

    Raises:
        ValueError: a split would need more than one null clip per clip.
    """
    jobs = []
    rows_per_clip = float(np.mean(story.EXPRESSIONS))
    usual = params.null_share / (1 - params.null_share) * rows_per_clip / story.NULL_EXPRESSIONS
    twins = {"train": usual, "val": usual, "test_s": params.clips.test_n / params.clips.test_s}
    for split in ("train", "val", "test_s", "test_u"):
        rate, count = twins.get(split, 0.0), getattr(params.clips, split)
        parts: list[Part] = ["test_u" if split == "test_u" else "seen"] * count
        if split == "val":
            parts += ["val"] * params.clips.val_unseen
        if rate > 1:
            raise ValueError(
                f"dataset: {rate:.2f} null clips per clip of {split}, expected at most 1; "
                "lower null_share or clips.test_n, or raise clips.test_s"
            )
        for number, part in enumerate(parts):
            before, after = int(number * rate + 1e-9), int((number + 1) * rate + 1e-9)
            null = ("null_m", "null_c")[before % 2] if after > before else None
            jobs.append(Job(split, number, part, null, black=before // 2 % BLACK_EVERY == 0))
    return jobs


def write_clip(root: Path, params: Params, job: Job) -> list[Row]:
    """Write the files of a clip and of its null twin; return their rows."""
    rng = clip_rng(params, job)
    clip = story.sample_story(rng, part=job.part, side=params.side)
    vid = _sample_vid(rng)
    fids = rng.permutation(len(clip.scene.things)).tolist()
    kinds = [thing.kind for thing in clip.scene.things]
    jpegs = [encode_jpeg(picture, params.jpeg_quality) for picture in clip.pictures]
    write_media(root, vid, jpegs, story.mix(rng, kinds, clip.heard, noise_db=params.noise_db))
    for thing, fid in enumerate(fids):
        write_masks(root, vid, fid, clip.masks[:, thing])
    rows = _rows(vid, job, clip, fids)
    if job.null is not None:
        rows += _write_null(root, params, job, vid, clip, jpegs)
    return rows


def clip_rng(params: Params, job: Job, *extra: int) -> np.random.Generator:
    """Return the clip's generator, or a further one if there are `extra` seeds."""
    return np.random.default_rng((params.seed, SPLITS.index(job.split), job.number, *extra))


def _rows(vid: str, job: Job, clip: Story, fids: list[int]) -> list[Row]:
    rows = []
    counts: Counter[str] = Counter()
    for meaning, sentence, thing in clip.expressions:
        shape = clip.scene.things[thing].kind.shape
        counts[shape] += 1
        uid = f"{vid}_{shape}_{counts[shape]}"
        rows.append(Row(vid, uid, job.split, fids[thing], sentence, meaning.family, job.part))
    return rows


def _write_null(
    root: Path, params: Params, job: Job, vid: str, clip: Story, jpegs: list[bytes]
) -> list[Row]:
    """Write a clip's frames again, with no sound or with that of kinds not in the clip."""
    rng = clip_rng(params, job, 1)
    kinds = []
    if job.null == "null_c":
        seen = [thing.kind for thing in clip.scene.things]
        kinds = story.foreign_kinds(rng, seen, count=int(rng.integers(1, 3)))
    # If no kind is foreign to all of the clip's, the twin is muted instead.
    key = f"{job.null if kinds else 'null_m'}-{vid}"
    heard = story.sample_sounds(rng, len(kinds), len(kinds))
    write_media(root, key, jpegs, story.mix(rng, kinds, heard, noise_db=params.noise_db))
    if job.black:
        write_masks(root, key, 0, np.zeros_like(clip.masks[:, 0]))
    split = "test_n" if job.split == "test_s" else job.split
    return [
        Row(vid, f"{key}_null_{number}", split, 0, sentence, NULL_FAMILY, job.part)
        for number, sentence in enumerate(story.sample_null_sentences(rng), start=1)
    ]


def _sort_key(row: Row) -> tuple[bool, str, str]:
    return row.family == NULL_FAMILY, row.vid, row.uid


def _sample_vid(rng: np.random.Generator) -> str:
    """Draw a vid in the benchmark's format: video id, start and end in milliseconds."""
    letters = rng.choice(list(string.ascii_letters + string.digits), 11)
    start = int(rng.integers(60)) * 1000
    return f"{''.join(letters)}_{start}_{start + 1000 * story.CLIP_SECONDS}"


if __name__ == "__main__":
    typer.run(main)
