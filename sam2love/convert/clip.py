"""A clip as a converter finds it in another data set, and what the converters share."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

HELD_OUT = 10
"""One in so many of a split's videos is held out."""


@dataclass(frozen=True)
class Clip:
    """N frames, one per second of the converted clip, with their objects and sentences.

    key: names its folders.
    split: of Ref-AVS: train, val or test_s.
    frames: N pictures.
    sound: an audio file; None if the data set has no sound.
    objects: masks (N, H, W) bool by fid.
    sentences: fid and text of each row.
    """

    key: str
    split: str
    frames: list[Path]
    sound: Path | None
    objects: dict[int, np.ndarray]
    sentences: list[tuple[int, str]]


def too_short(frames: int) -> str:
    """Return why a video is left out that has fewer frames than a clip."""
    return f"fewer than {frames} frames"


def evenly(count: int, *, frames: int) -> list[int]:
    """Return the numbers of N frames, evenly spaced from the first to the last of a video."""
    return np.linspace(0, count - 1, frames).round().astype(int).tolist()


def read_videos(path: Path) -> dict[str, dict[str, Any]]:
    """Read meta_expressions.json: by video, its `frames` and its `expressions`, each with `exp`.

    Raises:
        FileNotFoundError, ValueError: the file is missing, not JSON, or lacks one of these keys.
    """
    videos = read_json(path).get("videos")
    if not isinstance(videos, dict):
        raise ValueError(
            f"{path}: no 'videos' in it; expected the data set's meta_expressions.json"
        )
    for name, video in videos.items():
        for key in ("frames", "expressions"):
            if not isinstance(video, dict) or key not in video:
                raise ValueError(f"{path}: video {name!r} has no {key!r}")
        if not all("exp" in expression for expression in video["expressions"].values()):
            raise ValueError(f"{path}: an expression of video {name!r} has no 'exp'")
    return videos


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        FileNotFoundError, ValueError: the file is missing, or not a JSON object.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; see docs/data.md for the expected folders")
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a JSON object, found {type(content).__name__}")
    return content
