"""Read a data set in the layout of Ref-AVS; no other module knows its folders.

    metadata.csv                              vid,uid,split,fid,exp: one row per expression
    families.csv                              uid,family: optional, to break scores down
    kinds.csv                                 uid,kinds: optional, seen or unseen, for val
    media/<key>/frames/{0..9}.jpg             one frame per second
    media/<key>/audio.wav                     10 s, any sample rate, any number of channels
    gt_mask/<key>/fid_<fid>/0000{0..9}.png    the object is where OpenCV's gray is above 0

A null clip's masks may be black or missing. index.py reads the tables. In other data
sets clips may have another number of `frames`, and as many seconds of sound.
"""

from pathlib import Path

import numpy as np
import soundfile

from sam2love.dataset.index import files_digest, is_null
from sam2love.dataset.pictures import (
    Picture,
    above_black,
    count_pixels,
    read_picture,
    read_pictures,
    stacked,
)

FRAMES = 10
"""Frames, and seconds of sound, of a clip in Ref-AVS; `data.frames` of a run."""
MAX_SAMPLES = 2**24
"""Over all channels, according to the header; 10 s of 8 channels at 192 kHz have fewer."""
MAX_SAMPLE_RATE_HZ = 192000


def frame_path(root: str | Path, key: str, t: int) -> Path:
    return Path(root) / "media" / key / "frames" / f"{t}.jpg"


def frame_paths(root: str | Path, key: str, *, frames: int = FRAMES) -> list[Path]:
    return [frame_path(root, key, t) for t in range(frames)]


def audio_path(root: str | Path, key: str) -> Path:
    return Path(root) / "media" / key / "audio.wav"


def mask_path(root: str | Path, key: str, fid: int, t: int) -> Path:
    return Path(root) / "gt_mask" / key / f"fid_{fid}" / f"{t:05d}.png"


def mask_paths(root: str | Path, key: str, fid: int, *, frames: int = FRAMES) -> list[Path]:
    return [mask_path(root, key, fid, t) for t in range(frames)]


def unread_pictures(paths: list[Path]) -> list[str]:
    """Return the names of other pictures in the folder that contains all the given paths."""
    others = set(paths[0].parent.glob("[!.]*")) - set(paths)
    suffixes = (".jpg", ".jpeg", ".png")
    return sorted(path.name for path in others if path.suffix.lower() in suffixes)


def missing_folders(root: str | Path) -> list[str]:
    """Return which of media/ and gt_mask/ are missing."""
    return [f"{name}/" for name in ("media", "gt_mask") if not (Path(root) / name).is_dir()]


def objects(root: str | Path, key: str) -> list[int]:
    """Return the sorted fids annotated in a clip; none for a null clip, whatever its folder has."""
    if is_null(key):
        return []
    names = [folder.name for folder in (Path(root) / "gt_mask" / key).glob("fid_*")]
    return sorted(int(name[4:]) for name in names if name[4:].isascii() and name[4:].isdigit())


def read_frame(root: str | Path, key: str, t: int) -> np.ndarray:
    """Read frame t of a clip: (H, W, 3) uint8 RGB, upright.

    Raises:
        FileNotFoundError, ValueError: the file is missing or not a complete picture.
    """
    return read_picture(frame_path(root, key, t)).pixels


def read_frames(root: str | Path, key: str, *, frames: int = FRAMES) -> np.ndarray:
    """Read all frames of a clip: (frames, H, W, 3) uint8 RGB, upright.

    Raises:
        FileNotFoundError, ValueError: a frame is missing, damaged, or of another size.
    """
    return stacked(read_pictures(frame_paths(root, key, frames=frames)))


def read_audio(root: str | Path, key: str) -> tuple[np.ndarray, int]:
    """Read the clip's sound, averaged over channels: (n,) float32, and its sample rate in Hz.

    Raises:
        FileNotFoundError, ValueError: as `read_channels`.
    """
    samples, sample_rate_hz = read_channels(root, key)
    return samples.mean(axis=1), sample_rate_hz


def read_channels(root: str | Path, key: str) -> tuple[np.ndarray, int]:
    """Read the clip's sound: (n, channels) float32, and its sample rate in Hz.

    Integers are scaled so that full scale is 1; floats are as in the file and may exceed it.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not audio, empty or too long, or has
            samples that are not finite.
    """
    path = audio_path(root, key)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; every clip needs a sound file")
    try:
        with soundfile.SoundFile(path) as file:
            sample_rate_hz = file.samplerate
            excess = _excess(file)
            samples = file.read(0 if excess else -1, dtype="float32", always_2d=True)
    except (soundfile.LibsndfileError, RuntimeError, ValueError) as error:
        raise ValueError(f"{path}: not readable as audio ({error})") from None
    if excess:
        raise ValueError(f"{path}: {excess}")
    if not len(samples):
        raise ValueError(f"{path}: no samples; expected the sound of the clip")
    if not np.isfinite(samples).all():
        raise ValueError(f"{path}: has samples that are not finite (NaN or infinity)")
    return samples, sample_rate_hz


def _excess(sound: soundfile.SoundFile) -> str:
    """Return why a sound is refused, according to its header; empty if it isn't."""
    frames, channels, sample_rate_hz = sound.frames, sound.channels, sound.samplerate
    if sample_rate_hz > MAX_SAMPLE_RATE_HZ:
        return f"sampled at {sample_rate_hz} Hz, at most {MAX_SAMPLE_RATE_HZ} are accepted"
    if frames * channels > MAX_SAMPLES:
        return (
            f"{frames / sample_rate_hz:.0f} s at {sample_rate_hz} Hz, channels: {channels}; at "
            f"most {MAX_SAMPLES} samples are accepted; cut it to the length of the clip"
        )
    return ""


def read_mask(root: str | Path, key: str, fid: int, t: int) -> np.ndarray | None:
    """Read the object's mask on frame t: (H, W) bool; None for a null clip without masks.

    Raises:
        FileNotFoundError, ValueError: the file is missing or not a complete picture.
    """
    path = mask_path(root, key, fid, t)
    if is_null(key) and not path.is_file():
        return None
    return above_black([read_picture(path).pixels])[0]


def mask_pixels(root: str | Path, key: str, fid: int, t: int) -> int:
    """Return the size in pixels of the object's mask on frame t; 0 for a null clip without masks.

    Raises:
        FileNotFoundError, ValueError: the file is missing or not a picture.
    """
    path = mask_path(root, key, fid, t)
    return 0 if is_null(key) and not path.is_file() else count_pixels(path)


def read_masks(root: str | Path, key: str, fid: int, *, frames: int = FRAMES) -> np.ndarray | None:
    """Read the object's masks on all frames, (frames, H, W) bool; None for a null clip without any.

    Raises:
        FileNotFoundError, ValueError: a mask is missing, damaged, or of another size.
    """
    pictures = read_mask_pictures(root, key, fid, frames=frames)
    return None if pictures is None else above_black(stacked(pictures))


def read_mask_pictures(
    root: str | Path, key: str, fid: int, *, frames: int = FRAMES
) -> list[Picture] | None:
    """Read the pictures behind `read_masks`; the benchmark resizes them before thresholding.

    Raises:
        FileNotFoundError, ValueError: a mask is missing, damaged, or of another size.
    """
    paths = mask_paths(root, key, fid, frames=frames)
    if is_null(key) and not all(path.is_file() for path in paths):
        return None
    return read_pictures(paths)


def frames_digest(root: str | Path, key: str, *, frames: int = FRAMES) -> str:
    """Return the SHA-256 of the names and contents of a clip's frames."""
    paths = frame_paths(root, key, frames=frames)
    return files_digest(paths, paths[0].parent.parent)


def audio_digest(root: str | Path, key: str) -> str:
    """Return the SHA-256 of the name and content of a clip's sound file."""
    path = audio_path(root, key)
    return files_digest([path], path.parent)


def masks_digest(root: str | Path, key: str) -> str:
    """Return the SHA-256 of the names and contents of all masks of a clip."""
    folder = Path(root) / "gt_mask" / key
    return files_digest(sorted(folder.glob("fid_*/*.png")), folder)
