"""Write another data set in the layout of Ref-AVS: `sam2love convert`."""

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import soundfile
from PIL import Image
from tqdm import tqdm

from sam2love.convert import avsbench, mevis, ref_youtube_vos
from sam2love.convert.clip import Clip
from sam2love.dataset import refavs
from sam2love.dataset.index import METADATA_COLUMNS
from sam2love.dataset.pictures import read_picture
from sam2love.prediction.outcome import atomic_folder

READERS = {
    "avsbench": avsbench.clips,
    "ref-youtube-vos": ref_youtube_vos.clips,
    "mevis": mevis.clips,
}
JPEG_QUALITY = 95
SILENCE_RATE_HZ = 16_000


def convert(name: str, source: Path, out: Path, *, frames: int) -> list[str]:
    """Convert a data set; `out` appears when everything is written.

    Args:
        name: a key of READERS.
        frames: frames, and seconds of sound, of each clip; shorter videos are left out.

    Returns:
        Lines on what was written and what was left out.

    Raises:
        OSError, ValueError: `out` exists, a file is missing or damaged, or nothing is left.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such folder; expected the data set")
    rows: list[tuple] = []
    left_out: Counter[str] = Counter()
    with atomic_folder(out) as folder:
        for clip in tqdm(READERS[name](source, frames=frames), "converting", unit="video"):
            if isinstance(clip, str):
                left_out[clip] += 1
                continue
            _write(folder, clip)
            rows += [
                (clip.key, f"{clip.key}_{fid}_{number}", clip.split, fid, text)
                for number, (fid, text) in enumerate(clip.sentences)
            ]
        notes = [f"note: {count} videos left out: {why}" for why, count in left_out.items()]
        if not rows:
            raise ValueError("\n".join([f"{source}: no clip of {frames} frames in it", *notes]))
        with (folder / "metadata.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([METADATA_COLUMNS, *rows])
    clips = len({key for key, *_ in rows})
    return [*notes, f"{out}: {clips} clips of {frames} frames, {len(rows)} rows"]


def _write(root: Path, clip: Clip) -> None:
    folder = root / "media" / clip.key
    if Path(clip.key).name != clip.key or folder.exists():
        raise ValueError(f"video {clip.key!r}: not the name of a folder, or of two videos")
    for t, picture in enumerate(clip.frames):
        path = refavs.frame_path(root, clip.key, t)
        path.parent.mkdir(parents=True, exist_ok=True)
        if picture.suffix.lower() in (".jpg", ".jpeg"):
            _copy(picture, path)
        else:
            Image.fromarray(read_picture(picture).pixels).save(
                path, quality=JPEG_QUALITY, subsampling=0
            )
    sound = refavs.audio_path(root, clip.key)
    if clip.sound is None:
        silence = np.zeros(len(clip.frames) * SILENCE_RATE_HZ, np.int16)
        soundfile.write(sound, silence, SILENCE_RATE_HZ)
    else:
        _copy(clip.sound, sound)
    for fid, masks in clip.objects.items():
        for t, mask in enumerate(masks):
            path = refavs.mask_path(root, clip.key, fid, t)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask.astype(np.uint8) * 255).save(path)


def _copy(source: Path, target: Path) -> None:
    if not source.is_file():
        raise FileNotFoundError(
            f"{source}: no such file; see docs/data.md for the expected folders"
        )
    shutil.copyfile(source, target)
