"""A maker of small videos for tests, without loss unless asked, by PyAV itself."""

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
) -> Path:
    """Write pictures (N, H, W, 3) uint8 RGB, one a second if no times are given, to an .mkv.

    Args:
        sound: (channels, n) float32.
        sound_starts: seconds after the first picture.
    """
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=1)
        stream.height, stream.width = pictures.shape[1:3]
        stream.pix_fmt = "bgr0"
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
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24").reformat(format="bgr0")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path
