"""Write small test videos with PyAV."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def make_video(
    path: Path,
    pictures: np.ndarray,
    *,
    times: Sequence[float] | None = None,
    sound: np.ndarray | None = None,
    rate_hz: int = 16_000,
    sound_starts: float = 0.0,
    codec: str = "ffv1",
    pixels: str = "bgr0",
) -> Path:
    """Write pictures (N, H, W, 3) uint8 RGB to an .mkv, one per second if no times are given.

    Args:
        sound: (channels, n) float32.
        sound_starts: seconds after the first picture.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = pixels
        stream.codec_context.time_base = Fraction(1, 1000)
        if sound is not None:
            layout = {1: "mono", 2: "stereo"}[len(sound)]
            voice = container.add_stream("pcm_f32le", rate=rate_hz, layout=layout)
            interleaved = np.ascontiguousarray(sound.T).reshape(1, -1)
            piece = av.AudioFrame.from_ndarray(interleaved, format="flt", layout=layout)
            piece.sample_rate, piece.time_base = rate_hz, Fraction(1, rate_hz)
            piece.pts = round(sound_starts * rate_hz)
            container.mux(voice.encode(piece))
        for time, picture in zip(times or range(len(pictures)), pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format=pixels)
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def make_stamped(
    path: Path, pictures: Sequence[float], *, sound: Sequence[float] = (), seconds: float = 0.2
) -> Path:
    """Write an .flv with pictures and pieces of sound at any times, in any order.

    Picture i is gray, 20 * i % 240 + 10, 32 pixels square; sound is 0.5 throughout, 11,025 Hz.

    Args:
        pictures, sound: timestamps in seconds.
        seconds: length of a piece of sound.
    """
    with av.open(str(path), "w", format="flv") as container:
        stream = container.add_stream("flv1", rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        voice = container.add_stream("pcm_s16le", rate=11_025, layout="mono") if sound else None
        for i in range(len(pictures)):
            gray = np.full((32, 32, 3), 20 * i % 240 + 10, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        for i in range(len(sound)):
            half = np.full((1, round(seconds * 11_025)), 16_384, np.int16)
            piece = av.AudioFrame.from_ndarray(half, format="s16", layout="mono")
            piece.sample_rate, piece.pts = 11_025, i * piece.samples
            container.mux(voice.encode(piece))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    times, at = {8: iter(sound), 9: iter(pictures)}, 13
    while at < len(data):  # a tag: kind, size in 3 bytes, time in 3 bytes, then its high byte
        kind, size = data[at], int.from_bytes(data[at + 1 : at + 4], "big")
        if kind in times:
            stamp = round(1000 * next(times[kind])).to_bytes(4, "big")
            data[at + 4 : at + 8] = stamp[1:] + stamp[:1]
        at += size + 15
    path.write_bytes(data)
    return path
