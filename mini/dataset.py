"""Write the mini Ref-AVS, a data set in the official layout.

    python -m mini.dataset mini/data

Reads section `dataset` of mini/params.yaml. Writes metadata.csv, media/, gt_mask/ and, beyond the
layout, families.csv (uid, family) and kinds.csv (uid, kinds: seen or unseen in train), by which
scores are broken down. The benchmark's val has seen kinds only; here its second part shows kinds
that neither train nor test_u has, so that settings can be chosen for unseen kinds without looking
at test rows. In late clips, which are ours too, one thing comes into view only later. Every clip
has its own generator, seeded by its split and number, so the output does not depend on the number
of workers. Takes about a minute on two cores.
"""

import shutil
import string
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import chain, repeat
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

import numpy as np
import typer
import yaml
from pydantic import BaseModel, ConfigDict, Field
from tqdm import tqdm

from mini import story
from mini.layout import encode_jpeg, write_csv, write_masks, write_media
from mini.story import Part, Story

SPLITS = ("train", "val", "test_s", "test_u", "test_n")
NULL_FAMILY, ABSENT_FAMILY = "null", "absent"
Twin = Literal["muted", "changed", "absent"]
"""A null clip's sound: none, that of kinds not in the clip, or the clip's own, and then it is the
sentences that name kinds not in the clip."""
KEY_PREFIXES: dict[Twin, str] = {"muted": "null_m", "changed": "null_c", "absent": "null_c"}
LATE_SEED, TWIN_SEED = 2, 1  # of further generators
BLACK_EVERY = 4  # one null clip in four has black masks, the others none: the benchmark has both

Count = Annotated[int, Field(ge=1)]


class Section(BaseModel):
    """A section of parameters; unknown keys and wrong types are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class LateClips(Section):
    """Number of additional clips, in each of which one thing comes into view later."""

    train: Count
    val: Count
    val_unseen: Count
    test_s: Count
    test_u: Count


class Clips(Section):
    """Number of clips per split; those of test_n are null twins of clips of test_s."""

    train: Count
    val: Count
    val_unseen: Count
    """Additional clips of val, whose kinds are in no other split."""
    test_s: Count
    test_u: Count
    test_n: Count
    test_n_absent: Count
    """Additional clips of test_n, whose sentences name what is not in the clip."""
    late: LateClips


class Params(Section):
    """Section `dataset` of mini/params.yaml."""

    seed: int
    side: Annotated[int, Field(ge=32)]
    """Pixels per side."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)]
    noise_db: Annotated[float, Field(le=0)]
    """Background noise, root mean square relative to full scale."""
    null_share: Annotated[float, Field(ge=0, lt=1)]
    """Approximate fraction of null rows in train and in val, late clips and absent aside."""
    absent_share: Annotated[float, Field(ge=0, lt=1)]
    """The same of the rows whose sentences name what is not in the clip."""
    clips: Clips


class Job(NamedTuple):
    """A clip to write, with its null twin if it has one."""

    split: str
    number: int
    part: Part
    """The part of the kinds that it shows."""
    twin: Twin | None = None
    """Its null twin, if it has one."""
    black: bool = False
    """Whether the twin has black masks."""
    late: bool = False
    """Whether one thing comes into view later."""


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
    jobs, clips = [], params.clips
    for split in ("train", "val", "test_s", "test_u"):
        parts = _parts(split, clips)
        usual, absent = _twin_rates(split, params)
        if usual + absent > 1:
            raise ValueError(
                f"dataset: {usual + absent:.2f} null clips per clip of {split}, expected at most "
                "1; lower null_share, absent_share, clips.test_n or clips.test_n_absent, or raise "
                "clips.test_s"
            )
        single = 0
        for number, part in enumerate(parts):
            twin: Twin | None = None
            before, after = _counts(number, usual)
            black = before // 2 % BLACK_EVERY == 0
            if after > before:
                twin = ("muted", "changed")[before % 2]  # type: ignore[assignment]
            elif absent:
                before, after = _counts(single, absent / (1 - usual))
                twin, black = "absent" if after > before else None, before % BLACK_EVERY == 0
                single += 1
            jobs.append(Job(split, number, part, twin, black=black))
        late = enumerate(_parts(split, clips.late))
        jobs += [Job(split, number, part, late=True) for number, part in late]
    return jobs


def _parts(split: str, clips: Clips | LateClips) -> list[Part]:
    parts: list[Part] = ["test_u" if split == "test_u" else "seen"] * getattr(clips, split)
    return parts + (["val"] * clips.val_unseen if split == "val" else [])


def _twin_rates(split: str, params: Params) -> tuple[float, float]:
    """Return how many null clips there are per clip: by sound, and by absent things."""
    clips = params.clips
    if split == "test_s":
        return clips.test_n / clips.test_s, clips.test_n_absent / clips.test_s
    if split == "test_u":
        return 0.0, 0.0
    per_share = float(np.mean(story.EXPRESSIONS)) / story.NULL_EXPRESSIONS
    shares = params.null_share, params.absent_share
    usual, absent = (share / (1 - share) * per_share for share in shares)
    return usual, absent


def _counts(number: int, rate: float) -> tuple[int, int]:
    """Return how many of the first `number` clips have a twin, and of one more."""
    return int(number * rate + 1e-9), int((number + 1) * rate + 1e-9)


def write_clip(root: Path, params: Params, job: Job) -> list[Row]:
    """Write the files of a clip and of its null twin; return their rows."""
    rng = clip_rng(params, job)
    clip = story.sample_story(rng, part=job.part, side=params.side, late=job.late)
    vid = _sample_vid(rng)
    fids = rng.permutation(len(clip.scene.things)).tolist()
    kinds = [thing.kind for thing in clip.scene.things]
    jpegs = [encode_jpeg(picture, params.jpeg_quality) for picture in clip.pictures]
    sound = story.mix(rng, kinds, clip.heard, noise_db=params.noise_db)
    write_media(root, vid, jpegs, sound)
    for thing, fid in enumerate(fids):
        write_masks(root, vid, fid, clip.masks[:, thing])
    rows = _rows(vid, job, clip, fids)
    if job.twin is not None:
        rows += _write_null(root, params, job, vid, clip, jpegs, sound)
    return rows


def clip_rng(params: Params, job: Job, *extra: int) -> np.random.Generator:
    """Return the clip's generator, or a further one if there are `extra` seeds."""
    extra = (LATE_SEED, *extra) if job.late else extra
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
    root: Path,
    params: Params,
    job: Job,
    vid: str,
    clip: Story,
    jpegs: list[bytes],
    sound: np.ndarray,
) -> list[Row]:
    """Write a clip's frames again, with the sound of its twin; return the twin's rows."""
    rng, twin = clip_rng(params, job, TWIN_SEED), job.twin
    assert twin is not None
    if twin == "absent":
        sentences = story.sample_absent_sentences(rng, clip)
    else:
        kinds = []
        if twin == "changed":
            seen = [thing.kind for thing in clip.scene.things]
            kinds = story.foreign_kinds(rng, seen, count=int(rng.integers(1, 3)))
        # If no kind is foreign to all of the clip's, the twin is muted instead.
        twin = twin if kinds else "muted"
        heard = story.sample_sounds(rng, len(kinds), len(kinds))
        sound = story.mix(rng, kinds, heard, noise_db=params.noise_db)
        sentences = story.sample_null_sentences(rng)
    key = f"{KEY_PREFIXES[twin]}-{vid}"
    write_media(root, key, jpegs, sound)
    if job.black:
        write_masks(root, key, 0, np.zeros_like(clip.masks[:, 0]))
    split = "test_n" if job.split == "test_s" else job.split
    family = ABSENT_FAMILY if twin == "absent" else NULL_FAMILY
    return [
        Row(vid, f"{key}_null_{number}", split, 0, sentence, family, job.part)
        for number, sentence in enumerate(sentences, start=1)
    ]


def _sort_key(row: Row) -> tuple[bool, str, str]:
    return row.family in (NULL_FAMILY, ABSENT_FAMILY), row.vid, row.uid


def _sample_vid(rng: np.random.Generator) -> str:
    """Draw a vid in the benchmark's format: video id, start and end in milliseconds."""
    letters = rng.choice(list(string.ascii_letters + string.digits), 11)
    start = int(rng.integers(60)) * 1000
    return f"{''.join(letters)}_{start}_{start + 1000 * story.CLIP_SECONDS}"


if __name__ == "__main__":
    typer.run(main)
