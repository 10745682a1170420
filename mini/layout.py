"""Write the files of a clip in the official layout of Ref-AVS.

A clip's folder is named by its key: its vid, or null_m-<vid> (muted) or null_c-<vid> (changed).
"""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np
import soundfile

from mini.sounds import SAMPLE_RATE_HZ


def encode_jpeg(picture: np.ndarray, quality: int) -> bytes:
    """Return a picture, (H, W, 3) uint8 RGB, encoded as JPEG."""
    bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def write_media(root: Path, key: str, jpegs: Sequence[bytes], wave: np.ndarray) -> None:
    """Write a clip's frames and its sound, (samples,) int16."""
    frames = root / "media" / key / "frames"
    frames.mkdir(parents=True)
    for number, jpeg in enumerate(jpegs):
        (frames / f"{number}.jpg").write_bytes(jpeg)
    soundfile.write(frames.parent / "audio.wav", wave, SAMPLE_RATE_HZ, subtype="PCM_16")


def write_masks(root: Path, key: str, fid: int, masks: np.ndarray) -> None:
    """Write the masks of a thing, (frames, H, W) bool, as 8-bit gray PNGs of 0 and 255."""
    folder = root / "gt_mask" / key / f"fid_{fid}"
    folder.mkdir(parents=True)
    for number, mask in enumerate(masks):
        png = cv2.imencode(".png", mask.astype(np.uint8) * 255)[1]
        (folder / f"{number:05d}.png").write_bytes(png.tobytes())


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Write a CSV file with CRLF line endings, as the benchmark does."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\r\n")
        writer.writerow(header)
        writer.writerows(rows)
