"""Prepare a film strip: a clip's frames and sound with the true and the predicted masks.

Pictures and sound are embedded; masks are SVG paths over the pictures. Paths are in units of half a
CSS pixel, so that coordinates are integers. Shapes: N frames of H x W pixels, h x w in the strip.
"""

import base64
import io
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import soundfile
from PIL import Image
from scipy.signal import resample_poly

from sam2love.dataset import refavs
from sam2love.evaluation.masks import Prediction
from sam2love.evaluation.metrics import SHOWN

MOST_WIDTH, MOST_HEIGHT = 108, 128
"""CSS pixels of one picture."""
STORED_PIXELS = 160
"""The longer side of an embedded picture: more than shown, for high-density screens."""
JPEG_QUALITY = 82
UNITS = 2
SOUND_RATE_HZ = 16_000
SOUND_COMPRESSION = 0.9
"""From 0 to 1; 0.9 gives some 30 kB for ten seconds."""
WAVEFORM_HEIGHT = 44
BARS = 360
QUIETEST_PEAK = 0.05
"""Quieter sound isn't scaled to full height, so that silence stays a flat line."""


@dataclass(frozen=True)
class Strip:
    """A film strip as the template needs it; sizes in CSS pixels."""

    width: int
    height: int
    frames: str
    """The N pictures side by side, a JPEG as a data URI."""
    truth: str
    prediction: str
    """SVG paths around the foreground of all frames; empty if there is none."""
    truth_frames: int
    prediction_frames: int
    """Number of frames with any foreground."""
    sound: str
    """An MP3 as a data URI."""
    waveform: str
    peak_db: float | None
    """The sound's highest peak relative to full scale; None for digital silence."""


def film_strip(root: Path, entry: Any, prediction: Prediction) -> Strip:
    """Return the strip of a row of the expression table (from `itertuples`).

    The prediction is drawn as before the gate; the template decides how to show a gated one.

    Raises:
        FileNotFoundError, ValueError: a file of the clip is missing or damaged.
    """
    seconds = len(prediction.values)
    frames = refavs.read_frames(root, entry.key, frames=seconds)
    size = frames.shape[1:3]
    masks = refavs.read_masks(root, entry.key, entry.fid, frames=seconds)
    truth = np.zeros(frames.shape[:3], bool) if masks is None else masks
    shown = prediction.probabilities(size, gate=False) > SHOWN
    height, width = strip_size(*size)
    samples, sample_rate_hz = refavs.read_audio(root, entry.key)
    peak = float(np.abs(samples).max())
    return Strip(
        width=width,
        height=height,
        frames=_jpeg(frames),
        truth=outline(truth, height=height, width=width),
        prediction=outline(shown, height=height, width=width),
        truth_frames=int(truth.any((1, 2)).sum()),
        prediction_frames=int(shown.any((1, 2)).sum()),
        sound=_mp3(samples, sample_rate_hz, seconds=seconds),
        waveform=waveform(samples, sample_rate_hz, seconds=seconds, width=len(frames) * width),
        peak_db=20 * float(np.log10(peak)) if peak else None,
    )


def strip_size(height: int, width: int) -> tuple[int, int]:
    """Return the height and width at which a picture of this size is shown, in CSS pixels."""
    scale = min(MOST_WIDTH / width, MOST_HEIGHT / height)
    return max(1, round(scale * height)), max(1, round(scale * width))


def _jpeg(frames: np.ndarray) -> str:
    """Return frames (N, H, W, 3) uint8, side by side, as the data URI of one JPEG."""
    height, width = frames.shape[1:3]
    scale = min(1, STORED_PIXELS / max(height, width))
    size = max(1, round(scale * width)), max(1, round(scale * height))
    small = [cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in frames]
    written = io.BytesIO()
    Image.fromarray(np.concatenate(small, axis=1)).save(written, "JPEG", quality=JPEG_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(written.getvalue()).decode()


def outline(masks: np.ndarray, *, height: int, width: int) -> str:
    """Return the contours of masks (N, H, W) bool, frames h x w side by side, as one SVG path."""
    parts = []
    for t, mask in enumerate(masks):
        small = cv2.resize(
            mask.astype(np.float32), (UNITS * width, UNITS * height), interpolation=cv2.INTER_AREA
        )
        contours, _ = cv2.findContours(
            (small > 0.5).astype(np.uint8), cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE
        )
        for contour in contours:
            points = cv2.approxPolyDP(contour, 0.75, True)[:, 0] + (t * UNITS * width, 0)
            parts.append("M" + "L".join(f"{x} {y}" for x, y in points.tolist()) + "z")
    return "".join(parts)


def _mp3(samples: np.ndarray, sample_rate_hz: int, *, seconds: int) -> str:
    """Return the first seconds of sound (n,) as the data URI of an MP3.

    MP3 plays in every browser, and its bytes are reproducible, unlike Ogg's random stream number.
    """
    clip = samples[: seconds * sample_rate_hz]
    written = io.BytesIO()
    soundfile.write(
        written,
        resample_poly(clip, SOUND_RATE_HZ, sample_rate_hz),
        SOUND_RATE_HZ,
        format="MP3",
        bitrate_mode="VARIABLE",
        compression_level=SOUND_COMPRESSION,
    )
    return "data:audio/mpeg;base64," + base64.b64encode(written.getvalue()).decode()


def waveform(samples: np.ndarray, sample_rate_hz: int, *, seconds: int, width: int) -> str:
    """Return some seconds of sound as one SVG path: BARS bars, each as high as its peak."""
    edges = np.linspace(0, seconds * sample_rate_hz, BARS + 1).astype(int)
    peaks = [np.abs(samples[a:b]).max(initial=0) for a, b in pairwise(edges)]
    full = max(max(peaks), QUIETEST_PEAK)
    middle = UNITS * WAVEFORM_HEIGHT // 2
    parts = []
    for bar, peak in enumerate(peaks):
        half = max(1, round(float(peak) / full * (middle - 2)))
        x = (bar + 0.5) * UNITS * width / BARS
        parts.append(f"M{x:g} {middle - half}v{2 * half}")
    return "".join(parts)
